r"""The paper's Tables 3 and 4 (doi 10.4218/etrij.2023-0375)."""

__all__ = ["FID", "SECONDS"]

_MODELS = ("vae", "beta_vae", "info_vae", "wae", "vae_gan", "vade", "gmvae", "vamp_vae", "rae_l2", "gae (paper)")


def _rows(**figures: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {dataset: dict(zip(_MODELS, row, strict=True)) for dataset, row in figures.items()}


FID = _rows(
    mnist=(123.44, 51.53, 116.67, 89.79, 366.39, 47.58, 106.92, 82.59, 55.81, 44.30),
    fashion_mnist=(490.57, 283.41, 448.18, 435.81, 723.49, 200.95, 449.20, 325.93, 231.76, 196.34),
    svhn=(123.32, 106.33, 176.99, 117.09, 268.01, 100.89, 474.25, 1603.11, 100.8, 77.53),
    cifar10=(493.47, 441.65, 601.74, 443.27, 1003.24, 470.33, 891.39, 655.38, 516.38, 478.08),
)
"""FID by data set and model; the paper does not name the features."""

SECONDS = _rows(
    mnist=(135.04, 132.99, 147.85, 138.65, 1122.81, 270.07, 661.64, 1154.87, 133.22, 125.22),
    fashion_mnist=(142.29, 130.33, 156.04, 129.15, 1343.71, 284.89, 690.54, 1443.72, 142.12, 125.75),
    svhn=(224.71, 205.87, 476.00, 411.16, 1294.30, 544.17, 1649.37, 1655.77, 326.02, 291.79),
    cifar10=(143.58, 118.20, 281.78, 204.76, 1073.37, 247.43, 640.93, 1025.30, 163.43, 116.38),
)
"""Seconds of training on an NVIDIA A100."""
