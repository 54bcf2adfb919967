r"""Writes a report about a fitted augmenter as an HTML page."""

__all__ = ["write_report"]

import os
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_write, check_file_place
from ..augmenter import GAEAugmenter
from ..evaluation import ClassifierGain, FeatureExtractor
from .contents import gather


def write_report(
    augmenter: GAEAugmenter,
    data: Any,
    path: str | os.PathLike[str],
    *,
    held_out: Any = None,
    extractor: FeatureExtractor | None = None,
    gain: ClassifierGain | None = None,
    images: int = 12,
    pairs: int = 4,
    seed: int = 0,
) -> Path:
    r"""Writes a report about a fitted augmenter as one HTML file. The page loads no other files and needs no network.

    For each class, the report shows the numbers of real and synthetic images, and examples of both. For each fit, it
    shows the reconstruction error by epoch, the codes, and the synthetic images that are closest to a training image.
    It ends with the augmenter's settings. The file contains some training images.

    Args:
        augmenter: A fitted augmenter.
        data: The training set of the augmenter: a dataset, or a pair of images and labels.
        path: The file to write.
        held_out: Real images outside the training set: a dataset, or a pair of images and labels. With held-out images,
            the report compares how close synthetic images and held-out images are to the training images.
        extractor: Turns images into features for FID and related metrics. These metrics also need held-out images.
        gain: The result of :func:`gae_augment.evaluation.classifier_gain` with the augmenter's synthetic images. By
            default the report has no table of the classifier's scores.
        images: The maximum number of real, and of synthetic, images shown of each class.
        pairs: The number of synthetic images of each class shown next to their closest training images.
        seed: The seed for choosing real images and sampling synthetic images.

    Returns:
        The path of the file.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        ValueError: If the augmenter was fitted to other data, or fidelity is not defined for the pixel values.
        ModuleNotFoundError: If matplotlib or Jinja is missing.
        OSError: If the folder of the file does not exist, or the file cannot be written.
    """
    # Imported here, because the rest of this package needs neither Jinja nor matplotlib.
    from .page import render_page

    check_is_fitted(augmenter)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist. Create it, or choose another path.")
    check_file_place(path)
    contents = gather(
        augmenter, data, held_out=held_out, extractor=extractor, gain=gain, images=images, pairs=pairs, seed=seed
    )
    text = render_page(contents)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
