r"""Latent densities, the distributions of latent codes."""

__all__ = ["DENSITIES", "AncestralMixture", "GaussianMixture", "LatentDensity", "StandardNormal"]

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from .._utils.seeding import make_generator
from .._utils.threads import check_interruption, single_threaded_libraries
from .mixture_fit import CODES_PER_COMPONENT, component_numbers, fit_mixture, supported_components
from .networks import LOG_VARIANCE_LIMIT, build_perceptron

SEARCHED_ON = 20_000
"""The maximum number of codes in the search for the number of mixture components."""


class LatentDensity(Protocol):
    r"""The interface of a latent density, which is a distribution of latent codes."""

    @property
    def n_components(self) -> int:
        r"""The number of mixture components; 1 for a density that is not a mixture."""

    @property
    def latent_dim(self) -> int:
        r"""The dimension of a latent code."""

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Fits the density to latent codes of shape :math:`(N, d)`, and returns the density."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns ``n`` random latent codes, with shape :math:`(n, d)`.

        ``generator=None`` uses PyTorch's global generator.
        """

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of each latent code in ``z``, in nats.

        The codes have the shape :math:`(N, d)`, and the result has the shape :math:`(N,)`.
        """

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns the tensors that describe the fitted density, by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Restores a fitted density from the tensors of :meth:`state_dict`, and returns the density."""


class StandardNormal:
    r"""The density :math:`N(0, I)`, the usual prior of variational autoencoders."""

    n_components = 1

    def __init__(self) -> None:
        self.latent_dim = 0

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Stores the dimension :math:`d` of latent codes of shape :math:`(N, d)`, and returns the density."""
        self.latent_dim = z.shape[1]
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns ``n`` random latent codes, with shape :math:`(n, d)`, as float64."""
        return torch.randn(n, self.latent_dim, dtype=torch.float64, generator=generator)

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of each latent code in ``z``, in nats.

        The codes have the shape :math:`(N, d)`, and the result has the shape :math:`(N,)`.
        """
        return -0.5 * (z.double().square() + math.log(2 * math.pi)).sum(dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns the dimension of a latent code, an integer tensor with the key ``"latent_dim"``."""
        return {"latent_dim": torch.tensor(self.latent_dim)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Restores the dimension of a latent code from the tensor of :meth:`state_dict`, and returns the density."""
        self.latent_dim = int(state["latent_dim"])
        return self


class GaussianMixture:
    r"""A mixture of Gaussians with full covariances, fitted by expectation maximisation in float64.

    The fit tries increasing numbers of components, and keeps the number with the lowest Bayesian information criterion.
    The fit stops early when larger numbers no longer lower the criterion.

    Args:
        max_components: The largest number of components.
        min_components: The smallest number of components.
        codes_per_component: The minimum number of codes per component, which takes precedence over ``min_components``.
        regularisation: The fraction of the codes' variance that the fit adds to the variance of each component.
    """

    def __init__(
        self,
        max_components: int = 10,
        *,
        min_components: int = 1,
        codes_per_component: int = CODES_PER_COMPONENT,
        regularisation: float = 1e-3,
    ) -> None:
        self.max_components = max_components
        self.min_components = min_components
        self.codes_per_component = codes_per_component
        self.regularisation = regularisation
        self.weights = torch.empty(0, dtype=torch.float64)
        self.means = torch.empty(0, 0, dtype=torch.float64)
        self.cholesky = torch.empty(0, 0, 0, dtype=torch.float64)

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, variances: Tensor) -> Self:
        r"""Returns a mixture of :math:`K` Gaussians with diagonal covariances.

        Args:
            weights: The components' weights, with shape :math:`(K,)` and sum 1.
            means: The components' means in :math:`d` dimensions, with shape :math:`(K, d)`.
            variances: The components' variances in each dimension, with shape :math:`(K, d)`.
        """
        self = cls(len(weights))
        self.weights = weights.detach().cpu().double()
        self.means = means.detach().cpu().double()
        self.cholesky = torch.diag_embed(variances.detach().cpu().double().sqrt())
        return self

    @property
    def n_components(self) -> int:
        r"""The number of components of the fitted mixture; 0 before the fit."""
        return len(self.weights)

    @property
    def latent_dim(self) -> int:
        r"""The dimension of a latent code; 0 before the fit."""
        return self.means.shape[1]

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Fits the mixture to latent codes, and returns the mixture.

        Args:
            z: The codes, with shape :math:`(N, d)`, :math:`N \geq 2`.
            seed: The random seed of the initialisation.

        Raises:
            FloatingPointError: If no mixture can be fitted, for example if codes are not finite.
        """
        with single_threaded_libraries():
            return self._fit(z.detach().cpu().double(), seed)

    def _fit(self, z: Tensor, seed: int) -> Self:
        mean, deviation = z.mean(dim=0), z.std(dim=0, correction=0)
        # On standardised codes one regularisation suits every latent space. Constant dimensions are not scaled.
        deviation = torch.where(deviation > 1e-12 * mean.abs().clamp(min=1.0), deviation, 0.0)
        standardised = ((z - mean) / torch.where(deviation == 0, 1.0, deviation)).numpy()

        searched = standardised
        if len(z) > SEARCHED_ON:
            searched = standardised[np.random.default_rng(seed).choice(len(z), SEARCHED_ON, replace=False)]
        best, best_bic, without_improvement = None, math.inf, 0
        most = supported_components(len(z), self.max_components, self.codes_per_component)
        for n_components in component_numbers(min(self.min_components, most), most):
            check_interruption()
            try:
                mixture = fit_mixture(searched, n_components, "full", self.regularisation, seed)
                # The BIC is computed on all codes, since more codes support more components.
                bic = mixture.bic(standardised)
            except FloatingPointError:
                bic = math.inf
            if bic < best_bic:
                best, best_bic, without_improvement = mixture, bic, 0
            else:
                without_improvement += 1
            # Beyond 10 the next number costs more than all numbers before it.
            if without_improvement == 2 or (without_improvement and n_components > 10):
                break
        if best is None:
            raise FloatingPointError(
                "No mixture could be fitted to the codes: their likelihood is not a number. Lower 'learning_rate'."
            )
        if len(searched) < len(standardised):
            best = fit_mixture(standardised, best.n_components, "full", self.regularisation, seed, start=best)

        self.weights = torch.from_numpy(best.weights_) / best.weights_.sum()
        self.means = torch.from_numpy(best.means_) * deviation + mean
        self.cholesky = torch.linalg.cholesky(torch.from_numpy(best.covariances_)) * deviation[:, None]
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns ``n`` random latent codes, with shape :math:`(n, d)`, as float64."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=generator)
        z = torch.empty_like(noise)
        # One component at a time, so that memory grows with n*d and not with n*d*d.
        for k in component.unique().tolist():
            rows = component == k
            z[rows] = self.means[k] + noise[rows] @ self.cholesky[k].T
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of each latent code in ``z``, in nats.

        The codes have the shape :math:`(N, d)`, and the result has the shape :math:`(N,)`. The result
        ignores each dimension that was constant in the fitted codes.
        """
        varying = self.cholesky[0].diagonal() > 0
        if not varying.any():
            return torch.zeros(len(z), dtype=torch.float64)
        gaussians = MultivariateNormal(
            self.means[:, varying], scale_tril=self.cholesky[:, varying][:, :, varying], validate_args=False
        )
        mixture = MixtureSameFamily(Categorical(self.weights), gaussians, validate_args=False)
        return mixture.log_prob(z.double()[:, varying])

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns the components' weights, means and Cholesky factors of covariances.

        The keys are ``"weights"``, ``"means"`` and ``"cholesky"``. The shapes are :math:`(K,)`, :math:`(K, d)` and
        :math:`(K, d, d)`, for :math:`K` components in :math:`d` dimensions.
        """
        return {"weights": self.weights, "means": self.means, "cholesky": self.cholesky}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Restores the mixture from the tensors of :meth:`state_dict`, and returns the mixture.

        Raises:
            KeyError, ValueError: If the tensors do not describe a mixture.
        """
        weights, means, cholesky = state["weights"], state["means"], state["cholesky"]
        n_components, dimension = means.shape if means.ndim == 2 else (0, 0)
        consistent = weights.shape == (n_components,) and cholesky.shape == (n_components, dimension, dimension)
        numbers = all(
            tensor.dtype == torch.float64 and bool(tensor.isfinite().all()) for tensor in (weights, means, cholesky)
        )
        if not consistent or not numbers or not n_components or weights.min() < 0 or not weights.sum() > 0:
            raise ValueError("the tensors of the density are not those of a mixture")
        self.weights, self.means, self.cholesky = weights, means, cholesky
        return self


class AncestralMixture(nn.Module):
    r"""The prior of the Gaussian mixture VAE, a mixture whose components depend on a second latent variable.

    To draw a latent code :math:`z`, first draw the second latent variable :math:`w \sim N(0, I)` and a component
    :math:`k`. All components are equally probable. Then draw :math:`z \sim N(\mu_k(w), \sigma_k^2(w))`. A network
    computes the means :math:`\mu_k` and the variances :math:`\sigma_k^2` from :math:`w`.

    Args:
        n_components: The number of components.
        latent_dim: The dimension of :math:`z` and of :math:`w`.
        generator: The random generator of the initial weights. ``None`` leaves the weights uninitialised, for use with
            :meth:`load_state_dict`.

    References:
        | Deep unsupervised clustering with Gaussian mixture variational autoencoders (Dilokthanakul et al., 2016)
        | https://arxiv.org/abs/1611.02648
    """

    HIDDEN = 128

    DRAWS = 1000
    """The number of samples of :math:`w` in an estimate of a log-density."""

    def __init__(self, n_components: int = 1, latent_dim: int = 1, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._build(n_components, latent_dim, generator)

    def _build(self, n_components: int, latent_dim: int, generator: torch.Generator | None) -> None:
        self.n_components = n_components
        self.latent_dim = latent_dim
        self.network = build_perceptron([latent_dim, self.HIDDEN, n_components * 2 * latent_dim], generator)

    def conditional(self, w: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the components' means and log-variances for given values of the second latent variable.

        The values ``w`` have the shape :math:`(B, d)`. Both results have the shape :math:`(B, K, d)`, for :math:`K`
        components in :math:`d` dimensions.
        """
        mean, log_var = self.network(w).view(len(w), self.n_components, 2, self.latent_dim).unbind(dim=2)
        return mean, log_var.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Returns the density unchanged; it was trained together with the autoencoder."""
        return self

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns ``n`` random latent codes, with shape :math:`(n, d)`, as float64."""
        w = torch.randn(n, self.latent_dim, dtype=torch.float32, generator=generator)
        component = torch.randint(self.n_components, (n,), generator=generator)
        mean, log_var = (parameters[torch.arange(n), component] for parameters in self.conditional(w))
        noise = torch.randn(n, self.latent_dim, dtype=torch.float32, generator=generator)
        return (mean + (0.5 * log_var).exp() * noise).double()

    @torch.no_grad()
    def log_prob(self, z: Tensor) -> Tensor:
        r"""Estimates the log-density of each latent code in ``z``, in nats.

        The codes have the shape :math:`(N, d)`, and the result has the shape :math:`(N,)`. Each estimate averages the
        density over 1000 samples of the second latent variable. All calls use the same samples.
        """
        mean, log_var = self.conditional(
            torch.randn(self.DRAWS, self.latent_dim, dtype=torch.float32, generator=make_generator("w"))
        )
        gaussians = Independent(Normal(mean.flatten(0, 1).double(), (0.5 * log_var).flatten(0, 1).double().exp()), 1)
        mixture = MixtureSameFamily(
            Categorical(torch.ones(self.DRAWS * self.n_components, dtype=torch.float64)), gaussians
        )
        return torch.cat([mixture.log_prob(codes) for codes in z.double().split(100)])

    def load_state_dict(self, state: Mapping[str, Tensor], *arguments: Any, **options: Any) -> Self:  # type: ignore[override]
        r"""Restores the density from the tensors of :meth:`state_dict`, and returns the density.

        Further arguments go to :meth:`torch.nn.Module.load_state_dict`.
        """
        latent_dim = math.prod(state["network.0.weight"].shape[1:])
        n_components, remainder = divmod(len(state["network.2.bias"]), max(1, 2 * latent_dim))
        if not latent_dim or not n_components or remainder:
            raise ValueError("the tensors of the prior are not those of a mixture")
        self._build(n_components, latent_dim, None)
        super().load_state_dict(state, *arguments, **options)
        return self.requires_grad_(False)


DENSITIES: Mapping[str, Callable[..., LatentDensity]] = MappingProxyType(
    {
        "mixture": GaussianMixture,
        "normal": partial(GaussianMixture, 1),
        "standard_normal": StandardNormal,
        "ancestral": AncestralMixture,
    }
)
"""The functions that create latent densities, by name."""
