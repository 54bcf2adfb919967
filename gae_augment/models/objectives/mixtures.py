r"""Variational autoencoders whose prior is a mixture that is trained together with the network."""

__all__ = ["GaussianMixtureVariational", "VampPrior", "VariationalDeepEmbedding"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..densities import AncestralMixture, GaussianMixture
from ..likelihoods import Likelihood
from ..mixture_fit import fit_mixture, supported_components
from ..networks import LOG_VARIANCE_LIMIT, Autoencoder, build_perceptron
from .base import Objective
from .variational import gaussian_kl, reparameterise


def gaussian_log_prob(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    r"""Returns the log-density :math:`\log N(z; \mu, \sigma^2)` of a diagonal Gaussian, in nats.

    The arguments :math:`z`, :math:`\mu` and :math:`\log \sigma^2` are broadcast. The result sums over the last
    dimension.
    """
    return -0.5 * (log_var + (z - mean).square() / log_var.exp() + LOG_TWO_PI).sum(dim=-1)


LOG_TWO_PI = 1.8378770664093453


class VariationalDeepEmbedding(Objective):
    r"""VaDE, a variational autoencoder whose prior is a mixture of diagonal Gaussians.

    Pretraining minimises the reconstruction error. The mixture is then fitted to the codes. After that, network and
    mixture are trained to maximise the evidence lower bound.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        pretraining: The fraction of epochs used for pretraining.

    References:
        | Variational deep embedding (Jiang et al., 2017), https://arxiv.org/abs/1611.05148
    """

    logits: nn.Parameter
    means: nn.Parameter
    log_variances: nn.Parameter

    def __init__(self, likelihood: Likelihood, pretraining: float = 1 / 3) -> None:
        super().__init__(likelihood)
        self.pretraining = pretraining
        self.pretrained = False

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Creates the mixture, with one component per 20 images, but at least 1 and at most ``n_components``."""
        k = supported_components(len(x), n_components)
        self.logits = nn.Parameter(torch.zeros(k, dtype=torch.float32))
        self.means = nn.Parameter(torch.zeros(k, network.latent_dim, dtype=torch.float32))
        self.log_variances = nn.Parameter(torch.zeros(k, network.latent_dim, dtype=torch.float32))
        self.seed = int(torch.randint(2**31, (1,), generator=generator))

    @torch.no_grad()
    def advance(self, network: Autoencoder, x: Tensor, progress: float) -> None:
        r"""Fits the mixture to the codes of the images ``x``, in the first call after pretraining."""
        if self.pretrained or progress < self.pretraining:
            return
        self.pretrained = True
        z = network.encode(x).double().cpu()
        regularisation = 1e-3 * max(z.var(dim=0, correction=0).mean().item(), 1e-6)
        mixture = fit_mixture(z.numpy(), len(self.logits), "diag", regularisation, self.seed)
        self.logits.copy_(torch.from_numpy(mixture.weights_).clamp(min=1e-6).log())
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.log_variances.copy_(torch.from_numpy(mixture.covariances_).log())

    def bounded_log_variances(self) -> Tensor:
        r"""Returns the mixture components' log-variances, limited to [-12, 12].

        They have the shape :math:`(K, d)`, for :math:`K` components in :math:`d` dimensions.
        """
        return self.log_variances.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def divergence(self, mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        r"""Returns an estimate of :math:`KL(q(z, c|x) \| p(z, c))` for each of :math:`B` images :math:`x`, in nats.

        Here :math:`q` is the posterior and :math:`p` the prior of the code :math:`z` and the component :math:`c`.

        Args:
            mean: The means of the codes' posteriors, with shape :math:`(B, d)`.
            log_var: The log-variances of the codes' posteriors, with shape :math:`(B, d)`.
            z: One code drawn from each posterior, with shape :math:`(B, d)`.
        """
        log_weights, log_variances = self.logits.log_softmax(dim=0), self.bounded_log_variances()
        log_gamma = (log_weights + gaussian_log_prob(z[:, None], self.means, log_variances)).log_softmax(dim=1)
        gamma = log_gamma.exp()
        cross = log_variances + (log_var.exp()[:, None] + (mean[:, None] - self.means).square()) / log_variances.exp()
        return (
            0.5 * (gamma * cross.sum(dim=2)).sum(dim=1)
            - 0.5 * (1 + log_var).sum(dim=1)
            + (gamma * (log_gamma - log_weights)).sum(dim=1)
        )

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats.

        The loss is the reconstruction error during pretraining, and then the negative evidence lower bound.
        """
        if not self.pretrained:
            return self.likelihood.negative_log_likelihood(network.decode(network.encode(x)), x).mean()
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x)
        return (error + self.divergence(mean, log_var, z)).mean()

    def prior(self, network: Autoencoder) -> GaussianMixture:
        r"""Returns the mixture that was trained with the autoencoder."""
        return GaussianMixture.of(self.logits.softmax(dim=0), self.means, self.bounded_log_variances().exp())


class VampPrior(Objective):
    r"""VampVAE, a variational autoencoder whose prior is a mixture of posteriors.

    Component :math:`k` of the prior is :math:`q(z|u_k)`, the posterior of the code :math:`z` for the pseudo-input
    :math:`u_k`. Pseudo-inputs have the shape of images, and are trained together with the network.

    The loss is the reconstruction error plus the divergence of the posterior from the prior. During a warm-up, the
    weight of the divergence grows from 0 to 1.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        warm_up: The length of the warm-up, as a fraction of all epochs; 0 for no warm-up.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120
    """

    pseudo_inputs: nn.Parameter

    def __init__(self, likelihood: Likelihood, warm_up: float = 0.0) -> None:
        super().__init__(likelihood)
        self.warm_up = warm_up
        self.weight = 1.0

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Initialises the pseudo-inputs with random images of ``x``, at most ``n_components``."""
        rows = torch.randperm(len(x), generator=generator)[:n_components]
        self.pseudo_inputs = nn.Parameter(x[rows.to(x.device)].clone())

    def advance(self, network: Autoencoder, x: Tensor, progress: float) -> None:
        r"""Sets the weight of the divergence, which grows linearly from 0 to 1 during the warm-up.

        The argument ``progress`` is the fraction of completed epochs.
        """
        self.weight = min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0

    def components(self, network: Autoencoder) -> tuple[Tensor, Tensor]:
        r"""Returns the means and the log-variances of the prior's components.

        Both have the shape :math:`(K, d)`, for :math:`K` components in :math:`d` dimensions.
        """
        return network.posterior(self.likelihood.clamp(self.pseudo_inputs))

    def log_prior(self, network: Autoencoder, z: Tensor) -> Tensor:
        r"""Returns the prior's log-density at each code in ``z``, in nats.

        The codes have the shape :math:`(B, d)`, and the result has the shape :math:`(B,)`.
        """
        mean, log_var = self.components(network)
        return gaussian_log_prob(z[:, None], mean, log_var).logsumexp(dim=1) - torch.tensor(float(len(mean))).log()

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats."""
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x)
        divergence = gaussian_log_prob(z, mean, log_var) - self.log_prior(network, z)
        return (error + self.weight * divergence).mean()

    @torch.no_grad()
    def prior(self, network: Autoencoder) -> GaussianMixture:
        r"""Returns the learned prior, a mixture with equal weights."""
        mean, log_var = self.components(network)
        return GaussianMixture.of(torch.full((len(mean),), 1 / len(mean)), mean, log_var.exp())


class GaussianMixtureVariational(Objective):
    r"""GMVAE, a variational autoencoder whose prior is a mixture that depends on a second latent variable.

    The code :math:`z` of an image :math:`x` has the prior :math:`p(z|w,k) = N(\mu_k(w), \sigma_k^2(w))`. Here
    :math:`w \sim N(0, I)` is the second latent variable, and all components :math:`k` are equally probable. A network
    computes the means :math:`\mu_k` and the variances :math:`\sigma_k^2` from :math:`w`. The loss is

    .. math:: rec + \sum_k p(k|z,w) KL(q(z|x) \| p(z|w,k)) + KL(q(w|x) \| N(0, I)) + \max(\lambda, KL(p(k|z,w) \| u)).

    Here :math:`rec` is the reconstruction error, and :math:`u` is the uniform distribution of components. The
    distributions :math:`q(z|x)`, :math:`q(w|x)` and :math:`p(k|z,w)` are posteriors. The last divergence is averaged
    over a batch before the maximum is taken.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        free_bits: The lower limit :math:`\lambda` of the last term, in nats.
        weight: The factor of all terms of the loss except :math:`rec`.

    References:
        | Deep unsupervised clustering with Gaussian mixture variational autoencoders (Dilokthanakul et al., 2016)
        | https://arxiv.org/abs/1611.02648
    """

    mixture: AncestralMixture
    context: nn.Sequential

    HIDDEN = 128

    def __init__(self, likelihood: Likelihood, free_bits: float = 0.5, weight: float = 1.0) -> None:
        super().__init__(likelihood)
        self.free_bits = free_bits
        self.weight = weight

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Builds the prior, and a network that computes the posterior of the second latent variable.

        The prior has one component per 20 images in ``x``, but at least 1 and at most ``n_components``.
        """
        d = network.latent_dim
        k = supported_components(len(x), n_components)
        self.mixture = AncestralMixture(k, d, generator)
        # With a last layer of 0, all components would remain identical. Random means separate the components.
        last = self.mixture.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.view(k, 2, d)[:, 0] = torch.randn(k, d, dtype=torch.float32, generator=generator)
        self.context = build_perceptron([2 * d, self.HIDDEN, 2 * d], generator)

    def divergences(
        self, mean: Tensor, log_var: Tensor, z: Tensor, w_mean: Tensor, w_log_var: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Returns three divergences for each of :math:`B` images, in nats, with shape :math:`(B,)`.

        They are for the code, the latent variable :math:`w` and the component, in this order.

        Args:
            mean: The means of the codes' posteriors, with shape :math:`(B, d)`.
            log_var: The log-variances of the codes' posteriors, with shape :math:`(B, d)`.
            z: One code drawn from each posterior, with shape :math:`(B, d)`.
            w_mean: The means of the posteriors of :math:`w`, with shape :math:`(B, d)`.
            w_log_var: The log-variances of the posteriors of :math:`w`, with shape :math:`(B, d)`.
            w: One value drawn from each posterior of :math:`w`, with shape :math:`(B, d)`.
        """
        means, log_variances = self.mixture.conditional(w)
        log_gamma = gaussian_log_prob(z[:, None], means, log_variances).log_softmax(dim=1)
        gamma = log_gamma.exp()
        ratio = log_var[:, None] - log_variances
        divergences = 0.5 * (ratio.exp() + (mean[:, None] - means).square() / log_variances.exp() - 1 - ratio).sum(
            dim=2
        )
        uniform = torch.tensor(float(self.mixture.n_components), device=z.device).log()
        return (
            (gamma * divergences).sum(dim=1),
            gaussian_kl(w_mean, w_log_var),
            uniform + (gamma * log_gamma).sum(dim=1),
        )

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats."""
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)
        w_mean, w_log_var = self.context(torch.cat([mean, log_var], dim=1)).chunk(2, dim=1)
        w_log_var = w_log_var.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        w = reparameterise(w_mean, w_log_var, noise)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        codes, context, components = (
            divergence.mean() for divergence in self.divergences(mean, log_var, z, w_mean, w_log_var, w)
        )
        return error + self.weight * (codes + context + functional.relu(components - self.free_bits) + self.free_bits)

    def prior(self, network: Autoencoder) -> AncestralMixture:
        r"""Returns the trained prior, on the CPU."""
        return self.mixture.requires_grad_(False).cpu()
