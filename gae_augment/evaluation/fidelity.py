r"""How faithful synthetic images are: FID, KID, precision, recall, density and coverage of their features."""

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
"""The name under which torch-fidelity knows the extractor that gives features back as they are."""

NEIGHBOURS = 5
"""The usual number of neighbours that the ball of an image reaches to; there are more images than that."""

AT_ONCE = 1000
"""The rows of a matrix of distances that are held at once."""


class _Rows(Dataset[Tensor]):
    r"""Feature vectors as a data set, which is what torch-fidelity takes."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __getitem__(self, index: int) -> Tensor:
        return self.features[index]

    def __len__(self) -> int:
        return len(self.features)


@cache
def _register_identity() -> None:
    r"""Registers the identity as a feature extractor, once, since torch-fidelity refuses a second time."""
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
    r"""Returns density and coverage, as in Naeem et al. (2002.09797), equations 4 and 5.

    The ball of a real image reaches to its :math:`k`-th nearest other real image. Density is the mean number of balls
    around a synthetic image, over :math:`k`; it is 1 in expectation for two samples of one distribution, and can be
    more. Coverage is the part of the balls that hold a synthetic image.

    Args:
        real: The features of real images, with shape :math:`(N, D)`, :math:`N > k`.
        synthetic: The features of synthetic images, with shape :math:`(M, D)`.
        neighbours: The number :math:`k`.
    """
    inside, covered = 0, 0
    for rows in real.split(AT_ONCE):
        # The nearest real image is the image itself, at a distance of 0.
        radius = torch.cdist(rows, real).kthvalue(neighbours + 1, dim=1, keepdim=True).values
        held = torch.cdist(rows, synthetic) < radius
        inside += int(held.sum())
        covered += int(held.any(dim=1).sum())
    return inside / (neighbours * len(synthetic)), covered / len(real)


def _features(extractor: FeatureExtractor, images: Tensor) -> Tensor:
    features = extractor(images)
    if not isinstance(features, Tensor):
        raise TypeError(
            f"A feature extractor returns a tensor, and {extractor.name!r} returned a {type(features).__name__}. "
            f"Make it one: torch.as_tensor(features)."
        )
    if features.ndim != 2 or len(features) != len(images) or not features.isfinite().all():
        raise ValueError(
            f"A feature extractor returns finite features of shape (N, D), and {extractor.name!r} returned the shape "
            f"{tuple(features.shape)} for {len(images)} images, or a value that is not finite. Correct the extractor."
        )
    # In double precision FID(A, A) is 0 to eight digits; in single, with the distances' cancellation, it is not.
    return features.detach().cpu().double()


def as_many_of_each(real: Mapping[Any, Tensor], synthetic: Mapping[Any, Tensor]) -> tuple[Tensor, Tensor]:
    r"""Returns real and synthetic images of the same classes, as many of each, so that frequencies do not differ.

    Args:
        real: Images of some classes, at least one, each with shape :math:`(N, *)`.
        synthetic: Images of these classes.
    """
    pairs = [(own[: len(synthetic[label])], synthetic[label][: len(own)]) for label, own in real.items()]
    return torch.cat([own for own, _ in pairs]), torch.cat([made for _, made in pairs])


def fidelity(
    real: Tensor, synthetic: Tensor, *, extractor: FeatureExtractor, seed: int = 0, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    r"""Returns how close the distribution of synthetic images is to that of real ones.

    ========================= ====================================================================== ===============
    key                       meaning                                                                source
    ========================= ====================================================================== ===============
    FID                       Fréchet distance of two Gaussians fitted to the features, 0 at best    1706.08500
    KID                       squared maximum mean discrepancy of a cubic kernel, about 0 at best    1801.01401
    KID standard deviation    that of 100 random subsets of min(1000, N, M) images; where these are
                              all images of both sides there is only one subset, and it is 0
    precision                 the part of synthetic images within a real image's ball, 1 at best     1904.06991
    recall                    the part of real images within a synthetic image's ball, 1 at best     1904.06991
    density                   the number of real images' balls around a synthetic image, over k      2002.09797
    coverage                  the part of real images' balls that hold a synthetic one, 1 at best    2002.09797
    ========================= ====================================================================== ===============

    The ball of an image reaches to its :math:`k`-th nearest neighbour of its own side. Each key ends with the name of
    the extractor, as in ``"FID (classifier features, mnist)"``: figures of different extractors do not compare. FID and
    recall also depend on the number of images, so compare figures of equal numbers. The first four figures are
    torch-fidelity's, from features in double precision.

    Args:
        real: Real images that no generator was trained on, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.
        synthetic: Synthetic images of the same shape, :math:`(M, C, H, W)`; their type may differ.
        extractor: What turns images into features.
        seed: What KID's subsets are drawn with.
        neighbours: The number :math:`k`. There are more images on each side.

    Raises:
        TypeError: If the extractor has no name, or does not return a tensor.
        ValueError: If images are not as above, or there are no more than ``neighbours`` or fewer than two.
    """
    check_extractor(extractor)
    if neighbours < 1:
        raise ValueError(f"'neighbours' is at least 1, and it is {neighbours}. 5 is the usual choice.")
    real = checked_images(real, "real", at_least=neighbours + 1)
    synthetic = checked_images(synthetic, "synthetic", like=real, at_least=neighbours + 1)
    real_features, synthetic_features = _features(extractor, real), _features(extractor, synthetic)

    from torch_fidelity import calculate_metrics

    _register_identity()
    subset = min(1000, len(real), len(synthetic))
    # Its data loader takes a seed from the global generator.
    with torch.random.fork_rng(devices=[]):
        figures = calculate_metrics(
            input1=_Rows(synthetic_features),
            input2=_Rows(real_features),
            feature_extractor=IDENTITY,
            fid=True,
            kid=True,
            prc=True,
            kid_subsets=1 if subset == len(real) == len(synthetic) else 100,
            kid_subset_size=subset,
            prc_neighborhood=neighbours,
            prc_batch_size=AT_ONCE,
            rng_seed=seed,
            batch_size=AT_ONCE,
            # With this it starts no worker processes, which it otherwise does for every data set.
            save_cpu_ram=True,
            cuda=False,
            cache=False,
            verbose=False,
        )
    density, coverage = density_and_coverage(real_features, synthetic_features, neighbours)
    named = {
        # The eigenvalues' rounding errors can make a distance of 0 slightly negative.
        "FID": max(0.0, figures["frechet_inception_distance"]),
        "KID": figures["kernel_inception_distance_mean"],
        "KID standard deviation": figures["kernel_inception_distance_std"],
        "precision": figures["precision"],
        "recall": figures["recall"],
        "density": density,
        "coverage": coverage,
    }
    return {f"{figure} ({extractor.name})": float(value) for figure, value in named.items()}
