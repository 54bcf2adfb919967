r"""Latent densities: fitted to codes z, sampled to make new ones."""

__all__ = ["DENSITIES", "GaussianMixture", "LatentDensity"]

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal


class LatentDensity(Protocol):
    r"""A distribution of codes z."""

    @property
    def components(self) -> int:
        r"""The number of components of a mixture; 1 for a density that is none."""

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Fits the density to codes of shape :math:`(N, d)`."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns new codes, with shape :math:`(n, d)`."""

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of codes of shape :math:`(N, d)`, in nats, with shape :math:`(N,)`."""

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns the tensors that the fitted density consists of."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Takes over what :meth:`state_dict` gave."""


class GaussianMixture:
    r"""A mixture of Gaussians with full covariances, fitted by expectation maximisation in float64.

    The number of components is the one with the least Bayesian information criterion, from 1 up to a cap. It is
    counted upwards and the search ends after two numbers in a row that are no better.

    Args:
        max_components: The cap :math:`K`.
        codes_per_component: How many codes a component needs at least, which lowers the cap for small classes.
        regularisation: What is added to the variances, as a part of the codes' own variance in each dimension.
    """

    def __init__(
        self, max_components: int = 10, *, codes_per_component: int = 20, regularisation: float = 1e-3
    ) -> None:
        self.max_components = max_components
        self.codes_per_component = codes_per_component
        self.regularisation = regularisation
        self.weights = torch.empty(0, dtype=torch.float64)
        self.means = torch.empty(0, 0, dtype=torch.float64)
        self.cholesky = torch.empty(0, 0, 0, dtype=torch.float64)

    @property
    def components(self) -> int:
        r"""The number of components that the fit has chosen; 0 before it."""
        return len(self.weights)

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Fits the mixture to codes.

        Args:
            z: The codes, with shape :math:`(N, d)`, :math:`N \geq 2`.
            seed: The seed of the initialisation.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Mixture

        z = z.detach().cpu().double()
        mean, deviation = z.mean(dim=0), z.std(dim=0, correction=0)
        # In units of the codes' deviation, one regularisation fits every latent space. A dead dimension stays as it is.
        deviation = torch.where(deviation > 1e-12 * mean.abs().clamp(min=1.0), deviation, 0.0)
        standardised = ((z - mean) / torch.where(deviation == 0, 1.0, deviation)).numpy()

        best, best_criterion, worse = None, float("inf"), 0
        for components in range(1, max(1, min(self.max_components, len(z) // self.codes_per_component)) + 1):
            mixture = Mixture(components, reg_covar=self.regularisation, max_iter=200, random_state=seed % 2**32)
            with warnings.catch_warnings():
                # A mixture that is still creeping after 200 steps is as good as its criterion says.
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(standardised)
            criterion = mixture.bic(standardised)
            if criterion < best_criterion:
                best, best_criterion, worse = mixture, criterion, 0
            else:
                worse += 1
            if worse == 2:
                break
        if best is None:
            raise FloatingPointError("No mixture could be fitted to the codes: their likelihood is not a number.")

        self.weights = torch.from_numpy(best.weights_) / best.weights_.sum()
        self.means = torch.from_numpy(best.means_) * deviation + mean
        self.cholesky = torch.linalg.cholesky(torch.from_numpy(best.covariances_)) * deviation[:, None]
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns :math:`n` new codes in random order of components, with shape :math:`(n, d)`, as float64."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=generator)
        z = torch.empty_like(noise)
        # Component by component, so that memory grows with n*d and not with n*d*d.
        for k in component.unique().tolist():
            chosen = component == k
            z[chosen] = self.means[k] + noise[chosen] @ self.cholesky[k].T
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of codes of shape :math:`(N, d)`, in nats, with shape :math:`(N,)`.

        A dimension in which all codes were equal has no density, and is left out.
        """
        live = self.cholesky[0].diagonal() > 0
        if not live.any():
            return torch.zeros(len(z), dtype=torch.float64)
        gaussians = MultivariateNormal(
            self.means[:, live], scale_tril=self.cholesky[:, live][:, :, live], validate_args=False
        )
        mixture = MixtureSameFamily(Categorical(self.weights), gaussians, validate_args=False)
        return mixture.log_prob(z.double()[:, live])

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns weights :math:`(K,)`, means :math:`(K, d)` and Cholesky factors :math:`(K, d, d)`."""
        return {"weights": self.weights, "means": self.means, "cholesky": self.cholesky}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Takes over what :meth:`state_dict` gave."""
        self.weights, self.means, self.cholesky = state["weights"], state["means"], state["cholesky"]
        return self


DENSITIES: Mapping[str, Callable[..., LatentDensity]] = MappingProxyType(
    {"mixture": GaussianMixture, "normal": partial(GaussianMixture, 1)}
)
"""The latent densities by name."""
