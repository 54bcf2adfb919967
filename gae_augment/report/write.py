r"""Writes the HTML page of a fitted augmenter."""

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
    r"""Writes one HTML file about a fitted augmenter, which needs no other file and no network.

    It shows the number of real and synthetic images of each class, real next to synthetic images, the error of each fit
    by epoch, and the codes. It also shows the synthetic images closest to a training image, and the settings. The file
    contains some training images.

    Args:
        augmenter: A fitted augmenter.
        data: Its training set: a dataset, or a pair of images and labels.
        path: The file to write.
        held_out: Real images outside the training set, in the same form. With them the report compares how close
            synthetic and unseen real images are to the training images.
        extractor: Turns images into features for FID and related figures, which also need held-out images.
        gain: The result of :func:`gae_augment.evaluation.classifier_gain` with images of the augmenter, for a table.
        images: How many images of each class are shown.
        pairs: How many synthetic images are shown next to the closest training image.
        seed: The seed of the images that are shown.

    Returns:
        The path.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        ValueError: If the augmenter was fitted to other data, or fidelity is not defined for their values.
        ModuleNotFoundError: If matplotlib or Jinja is missing.
        OSError: If the file cannot be written.
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
