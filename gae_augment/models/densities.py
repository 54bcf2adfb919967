r"""Latent densities: fitted to codes z, sampled to make new ones."""

__all__ = [
    "DENSITIES",
    "AncestralMixture",
    "GaussianMixture",
    "LatentDensity",
    "StandardNormal",
    "supported_components",
]

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from .._utils.seeding import make_generator
from .._utils.threads import SharedContext, single_threaded_libraries
from .networks import LOG_VARIANCE_LIMIT, build_perceptron

CODES_PER_COMPONENT = 20
"""A component of a mixture is supported by so many codes at least."""

SEARCHED_ON = 20_000
"""Mixtures of each number of components are fitted to at most so many codes; the best is then refined on all."""


def supported_components(codes: int, most: int, codes_per_component: int = CODES_PER_COMPONENT) -> int:
    r"""Returns how many components of at most so many a number of codes supports, 1 at least."""
    return max(1, min(most, codes // codes_per_component))


class LatentDensity(Protocol):
    r"""A distribution of codes z."""

    @property
    def n_components(self) -> int:
        r"""The number of components of a mixture; 1 for a density that is none."""

    @property
    def latent_dim(self) -> int:
        r"""The dimension of a code; 0 before the fit."""

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


class StandardNormal:
    r"""The density :math:`N(0, I)`, which a regularised encoder's codes are meant to have.

    It has nothing to fit but the dimension.
    """

    n_components = 1

    def __init__(self) -> None:
        self.latent_dim = 0

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Takes the dimension of codes of shape :math:`(N, d)`."""
        self.latent_dim = z.shape[1]
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns :math:`n` new codes, with shape :math:`(n, d)`, as float64."""
        return torch.randn(n, self.latent_dim, dtype=torch.float64, generator=generator)

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns the log-density of codes of shape :math:`(N, d)`, in nats, with shape :math:`(N,)`."""
        return -0.5 * (z.double().square() + math.log(2 * math.pi)).sum(dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        r"""Returns the dimension."""
        return {"latent_dim": torch.tensor(self.latent_dim)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Self:
        r"""Takes over what :meth:`state_dict` gave."""
        self.latent_dim = int(state["latent_dim"])
        return self


class GaussianMixture:
    r"""A mixture of Gaussians with full covariances, fitted by expectation maximisation in float64.

    The number of components is the one with the least Bayesian information criterion, from 1 up to a cap. It is
    counted upwards, one by one to 10 and then by doubling, and the search ends after two numbers in a row that are no
    better, or one above 10.

    Args:
        max_components: The cap :math:`K`.
        min_components: The number at which the search begins; that of the cap for just so many.
        codes_per_component: How many codes a component needs at least, which lowers the cap for small classes.
        regularisation: What is added to the variances, as a part of the codes' own variance in each dimension.
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
        r"""Returns the mixture with given components.

        Args:
            weights: The components' weights, with shape :math:`(K,)` and sum 1.
            means: Their means, with shape :math:`(K, d)`.
            variances: Their variances in each dimension, with shape :math:`(K, d)`.
        """
        self = cls(len(weights))
        self.weights = weights.detach().cpu().double()
        self.means = means.detach().cpu().double()
        self.cholesky = torch.diag_embed(variances.detach().cpu().double().sqrt())
        return self

    @property
    def n_components(self) -> int:
        r"""The number of components that the fit has chosen; 0 before it."""
        return len(self.weights)

    @property
    def latent_dim(self) -> int:
        r"""The dimension of a code; 0 before the fit."""
        return self.means.shape[1]

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Fits the mixture to codes.

        Args:
            z: The codes, with shape :math:`(N, d)`, :math:`N \geq 2`.
            seed: The seed of the initialisation.
        """
        with single_threaded_libraries():
            return self._fit(z.detach().cpu().double(), seed)

    def _fit(self, z: Tensor, seed: int) -> Self:
        mean, deviation = z.mean(dim=0), z.std(dim=0, correction=0)
        # In units of the codes' deviation, one regularisation fits every latent space. A dead dimension stays as it is.
        deviation = torch.where(deviation > 1e-12 * mean.abs().clamp(min=1.0), deviation, 0.0)
        standardised = ((z - mean) / torch.where(deviation == 0, 1.0, deviation)).numpy()

        searched = standardised
        if len(z) > SEARCHED_ON:
            searched = standardised[np.random.default_rng(seed).choice(len(z), SEARCHED_ON, replace=False)]
        best, best_criterion, worse = None, float("inf"), 0
        cap = supported_components(len(z), self.max_components, self.codes_per_component)
        for n_components in _numbers(min(self.min_components, cap), cap):
            try:
                mixture = fit_mixture(searched, n_components, "full", self.regularisation, seed)
                # The criterion of all codes: more of them support more components.
                criterion = mixture.bic(standardised)
            except FloatingPointError:
                criterion = math.inf
            if criterion < best_criterion:
                best, best_criterion, worse = mixture, criterion, 0
            else:
                worse += 1
            # A step beyond 10 doubles the number, and the cost of all before it.
            if worse == 2 or (worse and n_components > 10):
                break
        if best is None:
            raise FloatingPointError("No mixture could be fitted to the codes: their likelihood is not a number.")
        if len(searched) < len(standardised):
            best = fit_mixture(standardised, best.n_components, "full", self.regularisation, seed, start=best)

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
        r"""Takes over what :meth:`state_dict` gave.

        Raises:
            KeyError, ValueError: If that is not a mixture.
        """
        weights, means, cholesky = state["weights"], state["means"], state["cholesky"]
        n_components, dimension = means.shape if means.ndim == 2 else (0, 0)
        whole = weights.shape == (n_components,) and cholesky.shape == (n_components, dimension, dimension)
        numbers = all(own.dtype == torch.float64 and bool(own.isfinite().all()) for own in (weights, means, cholesky))
        if not whole or not numbers or not n_components or weights.min() < 0 or not weights.sum() > 0:
            raise ValueError("the tensors of the density are not those of a mixture")
        self.weights, self.means, self.cholesky = weights, means, cholesky
        return self


class AncestralMixture(nn.Module):
    r"""The prior of the Gaussian mixture VAE, a mixture whose components are functions of a further latent variable.

    A code is drawn in three steps: :math:`w \sim N(0, I)`, :math:`k` uniform, and :math:`z \sim N(\mu_k(w),
    \sigma_k^2(w))`. The density is learned together with the network, and has nothing to fit afterwards.

    Args:
        n_components: The number :math:`K`.
        latent_dim: The dimension :math:`d` of both :math:`z` and :math:`w`.
        generator: What first weights are drawn from.

    References:
        | Deep unsupervised clustering with Gaussian mixture variational autoencoders (Dilokthanakul et al., 2016)
        | https://arxiv.org/abs/1611.02648
    """

    HIDDEN = 128

    DRAWS = 1000
    """The draws of w that a log-density is the mean over."""

    def __init__(self, n_components: int = 1, latent_dim: int = 1, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._build(n_components, latent_dim, generator)

    def _build(self, n_components: int, latent_dim: int, generator: torch.Generator | None) -> None:
        self.n_components = n_components
        self.latent_dim = latent_dim
        self.network = build_perceptron([latent_dim, self.HIDDEN, n_components * 2 * latent_dim], generator)

    def conditional(self, w: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns means and log-variances given w of shape :math:`(B, d)`, each with shape :math:`(B, K, d)`."""
        mean, log_var = self.network(w).view(len(w), self.n_components, 2, self.latent_dim).unbind(dim=2)
        return mean, log_var.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def fit(self, z: Tensor, seed: int = 0) -> Self:
        r"""Leaves the density as it was learned."""
        return self

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Returns :math:`n` new codes, with shape :math:`(n, d)`, as float64."""
        w = torch.randn(n, self.latent_dim, dtype=torch.float32, generator=generator)
        component = torch.randint(self.n_components, (n,), generator=generator)
        mean, log_var = (both[torch.arange(n), component] for both in self.conditional(w))
        noise = torch.randn(n, self.latent_dim, dtype=torch.float32, generator=generator)
        return (mean + (0.5 * log_var).exp() * noise).double()

    @torch.no_grad()
    def log_prob(self, z: Tensor) -> Tensor:
        r"""Returns an estimate of the log-density of codes of shape :math:`(N, d)`, in nats, with shape :math:`(N,)`.

        It is the mean density over fixed draws of w.
        """
        mean, log_var = self.conditional(
            torch.randn(self.DRAWS, self.latent_dim, dtype=torch.float32, generator=make_generator("w"))
        )
        gaussians = Independent(Normal(mean.flatten(0, 1).double(), (0.5 * log_var).flatten(0, 1).double().exp()), 1)
        every = MixtureSameFamily(
            Categorical(torch.ones(self.DRAWS * self.n_components, dtype=torch.float64)), gaussians
        )
        return torch.cat([every.log_prob(some) for some in z.double().split(100)])

    def load_state_dict(self, state: Mapping[str, Tensor], *arguments: Any, **options: Any) -> Self:  # type: ignore[override]
        r"""Takes over what :meth:`state_dict` gave, in whatever size that is."""
        latent_dim = math.prod(state["network.0.weight"].shape[1:])
        n_components, rest = divmod(len(state["network.2.bias"]), max(1, 2 * latent_dim))
        if not latent_dim or not n_components or rest:
            raise ValueError("the tensors of the prior are not those of a mixture")
        self._build(n_components, latent_dim, None)
        super().load_state_dict(state, *arguments, **options)
        return self.requires_grad_(False)


def fit_mixture(
    z: np.ndarray, n_components: int, covariance: str, regularisation: float, seed: int, start: Any = None
) -> Any:
    r"""Returns scikit-learn's Gaussian mixture of codes of shape :math:`(N, d)`.

    Args:
        z: The codes.
        n_components: The number of components.
        covariance: Their covariances: ``"full"`` or ``"diag"``.
        regularisation: What is added to the variances.
        seed: The seed of the initialisation.
        start: A mixture of the same kind to begin with.

    Raises:
        FloatingPointError: If codes are not finite, or a covariance is not positive definite.
    """
    from sklearn.mixture import GaussianMixture as Mixture

    if not np.isfinite(z).all():
        raise FloatingPointError("Codes are not finite numbers: training diverged.")
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
    # Threads of k-means add up in an order of their own.
    with single_threaded_libraries(), _CREEPING_ALLOWED:
        try:
            return mixture.fit(z)
        except ValueError as error:
            raise FloatingPointError(
                f"A mixture of {n_components} could not be fitted to the codes: {error}"
            ) from error


@contextmanager
def _creeping_allowed() -> Iterator[None]:
    r"""A mixture that is still creeping after 200 steps is as good as its criterion says."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


_CREEPING_ALLOWED = SharedContext(_creeping_allowed)


def _numbers(least: int, cap: int) -> list[int]:
    r"""Returns the numbers of components to try: all up to 10, then each the double of the last, and the cap."""
    numbers = [least]
    while numbers[-1] < cap:
        numbers.append(min(cap, numbers[-1] + 1 if numbers[-1] < 10 else 2 * numbers[-1]))
    return numbers


DENSITIES: Mapping[str, Callable[..., LatentDensity]] = MappingProxyType(
    {
        "mixture": GaussianMixture,
        "normal": partial(GaussianMixture, 1),
        "standard_normal": StandardNormal,
        "ancestral": AncestralMixture,
    }
)
"""The latent densities by name."""
