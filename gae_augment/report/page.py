r"""The page of a report."""

__all__ = ["write_report"]

import os
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_write, check_file_place
from ..augmenter import GAEAugmenter
from ..evaluation import ClassifierGain, FeatureExtractor
from .contents import gather
from .figures import chart_of_codes, chart_of_counts, chart_of_curve, picture

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("A report needs matplotlib and Jinja: pip install 'gae-augment[report]'") from error


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

    It shows how many images each class has and gets, real images beside synthetic ones, the error of each fit on its
    way down, the codes, the synthetic images that are nearest to a training image, and the settings. It holds some of
    the training images.

    Args:
        augmenter: A fitted augmenter.
        data: What it was fitted to: a dataset, or a pair of images and labels.
        path: The file to write.
        held_out: Real images that it was not fitted to, in the same form. With them the report tells how near
            synthetic images are to the training images, beside unseen ones.
        extractor: With held-out images, what turns images into features for FID and its like.
        gain: What :func:`gae_augment.evaluation.classifier_gain` measured with images of the augmenter, for a table.
        images: How many images of each class are shown.
        pairs: How many synthetic images are shown beside the nearest training image.
        seed: What the images that are shown depend on.

    Returns:
        The path.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        ValueError: If the data are not those that it was fitted to, or their values have no fidelity.
        ModuleNotFoundError: If matplotlib or Jinja is missing.
        OSError: If the file cannot be written.
    """
    check_is_fitted(augmenter)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"A report is written into a folder that is there, and {str(path.parent)!r} is not.")
    check_file_place(path)
    contents = gather(
        augmenter, data, held_out=held_out, extractor=extractor, gain=gain, images=images, pairs=pairs, seed=seed
    )
    environment = Environment(
        loader=PackageLoader("gae_augment.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals.update(
        picture=picture,
        chart_of_counts=chart_of_counts,
        chart_of_curve=chart_of_curve,
        chart_of_codes=chart_of_codes,
    )
    text = environment.get_template("page.html").render(contents=contents)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
