r"""Metrics that compare the features of real and synthetic images."""

__all__ = ["NEIGHBOURS", "as_many_of_each", "fidelity"]

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .features import FeatureExtractor, check_extractor
from .images import checked_images

IDENTITY = "gae-augment-features"
"""The name under which the identity function is registered in torch-fidelity as a feature extractor."""

NEIGHBOURS = 5
"""The default ``neighbours`` of :func:`fidelity`, which needs more real and more synthetic images than this number."""

CHUNK_SIZE = 1000
"""The maximum number of rows of a distance matrix in memory at a time."""


class _FeatureDataset(Dataset[Tensor]):
    r"""A dataset of precomputed feature vectors."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __getitem__(self, index: int) -> Tensor:
        return self.features[index]

    def __len__(self) -> int:
        return len(self.features)


@cache
def _register_identity() -> None:
    r"""Makes torch-fidelity accept precomputed features. Later calls do nothing."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Identity(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 1)

        def forward(self, input: Tensor) -> tuple[Tensor]:
            return (input,)

    register_feature_extractor(IDENTITY, Identity)


def density_and_coverage(real: Tensor, synthetic: Tensor, neighbours: int) -> tuple[float, float]:
    r"""Returns density and coverage, two fidelity metrics.

    The features of each real image are the centre of a ball. The radius is the distance to the :math:`k`-th nearest
    other real image.

    Args:
        real: The features of real images, with shape :math:`(N, D)`, :math:`N > k`.
        synthetic: The features of synthetic images, with shape :math:`(M, D)`.
        neighbours: The number :math:`k`, at least 1.

    Returns:
        The density and the coverage. For each synthetic image, count the balls that contain it. The density is the mean
        count divided by :math:`k`. It is about 1 for equal distributions, and can exceed 1. The coverage, in [0, 1], is
        the fraction of balls that contain at least one synthetic image.

    References:
        | Equations 4 and 5 of Naeem et al. (2020), https://arxiv.org/abs/2002.09797
    """
    memberships, covered_balls = 0, 0
    for chunk in real.split(CHUNK_SIZE):
        # The nearest real image of each image is itself, at distance 0.
        radius = torch.cdist(chunk, real).kthvalue(neighbours + 1, dim=1, keepdim=True).values
        is_inside = torch.cdist(chunk, synthetic) < radius
        memberships += int(is_inside.sum())
        covered_balls += int(is_inside.any(dim=1).sum())
    return memberships / (neighbours * len(synthetic)), covered_balls / len(real)


def _features(extractor: FeatureExtractor, images: Tensor) -> Tensor:
    features = extractor(images)
    if not isinstance(features, Tensor):
        raise TypeError(
            f"The feature extractor {extractor.name!r} returned a {type(features).__name__}, but must return a tensor. "
            f"Use torch.as_tensor(features)."
        )
    if features.ndim != 2 or len(features) != len(images) or not features.isfinite().all():
        raise ValueError(
            f"The feature extractor {extractor.name!r} returned the shape {tuple(features.shape)} for {len(images)} "
            f"images, or NaN or infinite values. Return finite features with shape (N, D), one row per image."
        )
    if features.shape[1] < 2:
        raise ValueError(
            f"The feature extractor {extractor.name!r} returned one feature per image, but the distances need at least "
            f"2. Take features from an earlier layer."
        )
    # In double precision FID(A, A) is 0 to eight digits; in single precision, cancellation makes it larger.
    return features.detach().cpu().double()


def as_many_of_each(real: Mapping[Any, Tensor], synthetic: Mapping[Any, Tensor]) -> tuple[Tensor, Tensor]:
    r"""Selects equally many real and synthetic images of each class.

    A class with :math:`N` real and :math:`M` synthetic images contributes the first :math:`\min(N, M)` of both.

    Args:
        real: A mapping from each label to real images, with shape :math:`(N, *)`. It holds at least one class.
        synthetic: A mapping from each label to synthetic images, with shape :math:`(M, *)`. It holds all labels of
            ``real``.

    Returns:
        The real images and the synthetic images, both in the class order of ``real``.
    """
    counts = {label: min(len(images), len(synthetic[label])) for label, images in real.items()}
    return (
        torch.cat([images[: counts[label]] for label, images in real.items()]),
        torch.cat([synthetic[label][:count] for label, count in counts.items()]),
    )


def fidelity(
    real: Tensor, synthetic: Tensor, *, extractor: FeatureExtractor, seed: int = 0, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    r"""Returns metrics that compare the distributions of real and synthetic images.

    All metrics are computed from features of the images. For the last four metrics, the features of each image are the
    centre of a ball. The radius is the distance to the :math:`k`-th nearest other image of the same kind, real or
    synthetic.

    ========================= ====================================================================== ===============
    metric                    meaning                                                                arXiv source
    ========================= ====================================================================== ===============
    FID                       Fréchet distance of Gaussians fitted to the features; best 0           1706.08500
    KID                       squared maximum mean discrepancy with a cubic kernel; best about 0     1801.01401
    KID standard deviation    standard deviation of KID over random subsets of the images
    precision                 fraction of synthetic images in at least one real image's ball; best 1 1904.06991
    recall                    fraction of real images in at least one synthetic image's ball; best 1 1904.06991
    density                   number of real images' balls that contain a given synthetic image,     2002.09797
                              averaged and divided by k; about 1 for equal distributions
    coverage                  fraction of real images' balls that contain at least one synthetic     2002.09797
                              image; best 1
    ========================= ====================================================================== ===============

    With :math:`N` real and :math:`M` synthetic images, KID is the mean over 100 random subsets of
    :math:`\min(1000, N, M)` images of each kind.

    Two values of a metric are comparable if they have the same extractor, :math:`N` and :math:`M`.

    Args:
        real: Real images outside the generative model's training set, uint8 or in [0, 1], with shape
            :math:`(N, C, H, W)`.
        synthetic: Synthetic images, uint8 or in [0, 1], with shape :math:`(M, C, H, W)`.
        extractor: A callable that maps :math:`N` images to features, with shape :math:`(N, D)`, and has a ``name``.
        seed: The seed of KID's random subsets.
        neighbours: The number :math:`k`, at least 1 and below :math:`N` and :math:`M`.

    Returns:
        The metrics, by names that include the extractor's name, as in ``"FID (classifier features, mnist)"``.

    Raises:
        TypeError: If the extractor is not callable, has no name, or does not return a tensor.
        ValueError: If images, features or ``neighbours`` are invalid, or there are too few images.
    """
    check_extractor(extractor)
    if neighbours < 1:
        raise ValueError(f"'neighbours' is {neighbours}, but must be at least 1. 5 is the usual choice.")
    real = checked_images(real, "real", at_least=neighbours + 1)
    synthetic = checked_images(synthetic, "synthetic", like=real, at_least=neighbours + 1)
    real_features, synthetic_features = _features(extractor, real), _features(extractor, synthetic)

    from torch_fidelity import calculate_metrics

    _register_identity()
    subset_size = min(1000, len(real), len(synthetic))
    # torch-fidelity's data loader draws a seed from the global generator.
    with torch.random.fork_rng(devices=[]):
        figures = calculate_metrics(
            input1=_FeatureDataset(synthetic_features),
            input2=_FeatureDataset(real_features),
            feature_extractor=IDENTITY,
            fid=True,
            kid=True,
            prc=True,
            kid_subsets=1 if subset_size == len(real) == len(synthetic) else 100,
            kid_subset_size=subset_size,
            prc_neighborhood=neighbours,
            prc_batch_size=CHUNK_SIZE,
            rng_seed=seed,
            batch_size=CHUNK_SIZE,
            # Otherwise torch-fidelity starts worker processes for every dataset.
            save_cpu_ram=True,
            cuda=False,
            cache=False,
            verbose=False,
        )
    density, coverage = density_and_coverage(real_features, synthetic_features, neighbours)
    values = {
        # Rounding of the eigenvalues can make a distance of 0 slightly negative.
        "FID": max(0.0, figures["frechet_inception_distance"]),
        "KID": figures["kernel_inception_distance_mean"],
        "KID standard deviation": figures["kernel_inception_distance_std"],
        "precision": figures["precision"],
        "recall": figures["recall"],
        "density": density,
        "coverage": coverage,
    }
    return {f"{figure} ({extractor.name})": float(value) for figure, value in values.items()}
