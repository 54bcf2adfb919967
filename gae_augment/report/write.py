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
    r"""Writes a report about a fitted augmenter as one HTML file, which needs no other files and no network.

    The report shows the class sizes and the settings of the augmenter. For each class with a generative model, it shows
    training images, synthetic images, the closest pairs of both, the reconstruction error over the epochs, and the
    latent codes.

    Args:
        augmenter: A fitted augmenter.
        data: The augmenter's training set, as a dataset or a pair of images and labels.
        path: The file to write. An existing file is replaced.
        held_out: Real images outside the training set, as a dataset or a pair of images and labels. With them, the
            report shows memorisation.
        extractor: A callable that maps images to features, and has a ``name``. With it and at least six held-out
            images, the report shows fidelity metrics.
        gain: The result of :func:`gae_augment.evaluation.classifier_gain` with the augmenter's synthetic images. By
            default the report shows no classifier scores.
        images: The maximum number of real images, and of synthetic images, shown for each class.
        pairs: The maximum number of pairs of a synthetic and a training image shown for each class.
        seed: The seed for choosing real images and sampling synthetic images.

    Returns:
        The path of the file.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        TypeError: If the extractor is not callable or has no name.
        ValueError: If the augmenter was fitted to other data, or compared images are neither uint8 nor in [0, 1].
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
