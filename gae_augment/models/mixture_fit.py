r"""Fits Gaussian mixtures to latent codes with scikit-learn."""

__all__ = ["CODES_PER_COMPONENT", "component_numbers", "fit_mixture", "supported_components"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._utils.threads import SharedContext, single_threaded_libraries

CODES_PER_COMPONENT = 20
"""The default minimum number of codes per mixture component."""


def supported_components(n_codes: int, max_components: int, codes_per_component: int = CODES_PER_COMPONENT) -> int:
    r"""Returns the largest number of mixture components for ``n_codes`` codes.

    The result is ``n_codes // codes_per_component``, limited to the range from 1 to ``max_components``.
    """
    return max(1, min(max_components, n_codes // codes_per_component))


def component_numbers(least: int, most: int) -> list[int]:
    r"""Returns the numbers of components to try, from ``least`` to ``most``.

    They increase by 1 up to 10, and double after that.
    """
    numbers = [least]
    while numbers[-1] < most:
        numbers.append(min(most, numbers[-1] + 1 if numbers[-1] < 10 else 2 * numbers[-1]))
    return numbers


def fit_mixture(
    z: np.ndarray, n_components: int, covariance: str, regularisation: float, seed: int, start: Any = None
) -> Any:
    r"""Fits a Gaussian mixture to latent codes with scikit-learn.

    Args:
        z: The codes, with shape :math:`(N, d)`.
        n_components: The number of components.
        covariance: The type of the covariances, ``"full"`` or ``"diag"``.
        regularisation: The value added to the variances of the components.
        seed: The random seed of the initialisation.
        start: A fitted mixture with the same number of components and type of covariances, which initialises the fit.
            ``None`` initialises the fit by k-means.

    Returns:
        The fitted :class:`sklearn.mixture.GaussianMixture`.

    Raises:
        FloatingPointError: If codes are not finite, or a covariance is not positive definite.
    """
    from sklearn.mixture import GaussianMixture as Mixture

    if not np.isfinite(z).all():
        raise FloatingPointError("Codes are not finite numbers: training diverged. Lower 'learning_rate'.")
    mixture = Mixture(
        n_components,
        covariance_type=covariance,
        reg_covar=regularisation,
        max_iter=200,
        random_state=seed % 2**32,
        weights_init=None if start is None else start.weights_,
        means_init=None if start is None else start.means_,
        precisions_init=None if start is None else start.precisions_,
    )
    # With several threads, k-means would sum in an order that varies from run to run.
    with single_threaded_libraries(), _NO_CONVERGENCE_WARNINGS:
        try:
            return mixture.fit(z)
        except ValueError as error:
            raise FloatingPointError(
                f"A mixture of {n_components} could not be fitted to the codes: {error}"
            ) from error


@contextmanager
def _no_convergence_warnings() -> Iterator[None]:
    r"""A context manager that ignores scikit-learn's convergence warnings."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


_NO_CONVERGENCE_WARNINGS = SharedContext(_no_convergence_warnings)
