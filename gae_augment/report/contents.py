r"""Collects the images, latent codes and metrics that a report shows."""

__all__ = ["ClassContents", "Contents", "Pair", "gather"]

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from .._utils.seeding import make_generator
from .._utils.text import printable
from ..augmenter import GAEAugmenter
from ..data import Label, ValueScale
from ..evaluation import ClassifierGain, FeatureExtractor, Memorisation, nearest
from ..fitting import FitReport
from ..synthesis import draw_codes
from .assessment import assess
from .sheet import contact_sheet

VERSIONS = ("gae-augment", "torch", "torchvision", "scikit-learn", "torch-fidelity")


@dataclass(frozen=True)
class Pair:
    r"""A synthetic image and its closest training image.

    Attributes:
        synthetic: The synthetic image, in [0, 1], with shape :math:`(C, H, W)`.
        training: The training image, in [0, 1], with shape :math:`(C, H, W)`.
        distance: The root mean squared difference of the two images, from 0 to 1.
    """

    synthetic: Tensor
    training: Tensor
    distance: float


@dataclass(frozen=True)
class ClassContents:
    r"""What a report shows about one class that has a generative model.

    Attributes:
        name: The name of the class.
        fit: The report of the class's fit.
        real: Training images to display, in [0, 1], with shape :math:`(n, C, H, W)`; empty for feature vectors.
        synthetic: Synthetic images to display, in [0, 1], with shape :math:`(m, C, H, W)`; empty for feature vectors.
        nearest: The closest pairs of a synthetic image and its nearest training image, by ascending distance.
        real_codes: The latent codes of training images, projected onto their first two principal axes, with shape
            :math:`(N, 2)`, or :math:`(N, 1)` for one-dimensional codes.
        synthetic_codes: Codes from the model's latent density, projected onto the same axes, with shape :math:`(M, 2)`
            or :math:`(M, 1)`.
    """

    name: str
    fit: FitReport
    real: Tensor
    synthetic: Tensor
    nearest: tuple[Pair, ...]
    real_codes: Tensor
    synthetic_codes: Tensor


@dataclass(frozen=True)
class Contents:
    r"""Everything that a report about a fitted augmenter shows.

    Attributes:
        counts: One tuple (name, number of real images, number of synthetic images to add) per class.
        classes: The contents for each class with a generative model.
        fidelity: The metrics of :func:`gae_augment.evaluation.fidelity`, by name; empty if not measured.
        memorisation: How close synthetic images are to training images; ``None`` if not measured.
        gain: A classifier's test scores with and without synthetic images; ``None`` if not measured.
        sheet: Deformed images at full size, below the real images that they were made from, with their motions, in
            [0, 1] and with shape :math:`(3, H, W)`. ``None`` if no class has deformed images.
        settings: The parameters of the augmenter, by name, as text.
        versions: The versions of Python and of the main libraries, by name.
    """

    counts: tuple[tuple[str, int, int], ...]
    classes: tuple[ClassContents, ...]
    fidelity: dict[str, float] = field(default_factory=dict)
    memorisation: Memorisation | None = None
    gain: ClassifierGain | None = None
    sheet: Tensor | None = None
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def gather(
    augmenter: GAEAugmenter,
    data: Any,
    *,
    held_out: Any = None,
    extractor: FeatureExtractor | None = None,
    gain: ClassifierGain | None = None,
    images: int = 12,
    pairs: int = 4,
    seed: int = 0,
) -> Contents:
    r"""Collects everything that a report about a fitted augmenter shows.

    Args:
        augmenter: A fitted augmenter.
        data: The augmenter's training set, as a dataset or a pair of images and labels.
        held_out: Real images outside the training set, as a dataset or a pair of images and labels. Without them,
            fidelity and memorisation are not measured.
        extractor: A callable that maps images to features, and has a ``name``. Without it, fidelity is not measured.
        gain: A classifier's test scores with and without synthetic images; ``None`` if not measured.
        images: The maximum number of real images, and of synthetic images, to display for each class.
        pairs: The maximum number of pairs of a synthetic and a training image to display for each class.
        seed: The seed for choosing real images and sampling synthetic images.
    """
    assessment = assess(augmenter, data, held_out=held_out, extractor=extractor, seed=seed)
    generator = make_generator(seed, "report")
    classes = [
        _class_contents(augmenter, label, assessment.training[label], synthetic, images, pairs, generator)
        for label, synthetic in assessment.synthetic.items()
    ]
    return Contents(
        counts=tuple(
            (printable(augmenter.class_names_[label]), number, augmenter.sampling_strategy_.get(label, 0))
            for label, number in augmenter.counts_.items()
        ),
        classes=tuple(classes),
        fidelity=assessment.fidelity,
        memorisation=assessment.memorisation,
        gain=gain,
        sheet=_sheet(augmenter, data, seed),
        settings={name: str(value) for name, value in augmenter.get_params().items()},
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    )


def _sheet(augmenter: GAEAugmenter, data: Any, seed: int) -> Tensor | None:
    is_deformed = any(fitted.plan.synthesis == "deformed" for fitted in augmenter.models_.values())
    if not is_deformed or isinstance(data, tuple | list):
        return None
    return to_dtype(pil_to_tensor(contact_sheet(augmenter, data, seed=seed)), torch.float32, scale=True)


def _class_contents(
    augmenter: GAEAugmenter,
    label: Label,
    training: Tensor,
    synthetic: Tensor,
    images: int,
    pairs: int,
    generator: torch.Generator,
) -> ClassContents:
    fitted = augmenter.models_[label]
    real_codes = fitted.encode(training).float().cpu()
    synthetic_codes = draw_codes(fitted, len(synthetic), generator).float().cpu()
    centre = real_codes.mean(dim=0)
    axes = torch.linalg.svd(real_codes - centre, full_matrices=False).Vh[:2].T
    shown_training, shown_synthetic = (_displayable(batch, fitted.values) for batch in (training, synthetic))
    closest: tuple[Pair, ...] = ()
    if shown_training.ndim == 4:
        distances, indices = nearest(shown_synthetic.flatten(1), shown_training.flatten(1))
        order = distances.argsort(stable=True)[:pairs].tolist()
        closest = tuple(Pair(shown_synthetic[i], shown_training[indices[i]], distances[i].item()) for i in order)
    return ClassContents(
        name=printable(augmenter.class_names_[label]),
        fit=fitted.report,
        real=shown_training[:images],
        synthetic=shown_synthetic[:images],
        nearest=closest,
        real_codes=(real_codes - centre) @ axes,
        synthetic_codes=(synthetic_codes - centre) @ axes,
    )


def _displayable(images: Tensor, values: ValueScale) -> Tensor:
    r"""Converts images to values in [0, 1], with one or three channels. Feature vectors give an empty tensor."""
    if images.ndim == 2:
        return torch.zeros(0)
    x = images.double()
    if values.kind == "levels":
        x = x if images.dtype == torch.bool else x / 255
    elif values.kind == "standardised":
        assert values.bounds is not None
        low, high = values.bounds.amin(), values.bounds.amax()
        x = (x - low) / (high - low).clamp(min=1e-12)
    x = x[:, None] if x.ndim == 3 else x
    return (x if x.shape[1] in (1, 3) else x[:, :3] if x.shape[1] == 4 else x[:, :1]).float()
