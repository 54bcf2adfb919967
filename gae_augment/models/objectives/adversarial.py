r"""VAE-GAN, a variational autoencoder that is trained together with a critic."""

__all__ = ["AdversarialVariational"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..likelihoods import Likelihood
from ..networks import Autoencoder, Critic, build_critic
from .base import Losses, Objective
from .variational import gaussian_kl, reparameterise, standard_normal


class AdversarialVariational(Objective):
    r"""VAE-GAN, a variational autoencoder with a critic that distinguishes real from generated images.

    Let :math:`D_l` be the critic's features, :math:`x` an image, and :math:`\tilde x` its reconstruction. The
    feature-matching loss is :math:`L_{rec} = \frac12 \|D_l(x) - D_l(\tilde x)\|^2`. Let :math:`D` be the critic's
    probability that an image is real, :math:`f_d` the decoder, and :math:`z_p \sim N(0, I)` a random code. Let
    :math:`BCE` be the binary cross-entropy. The adversarial loss is
    :math:`L_D = BCE(D(x), 1) + BCE(D(f_d(z_p)), 0)`.

    The encoder minimises :math:`KL(q(z|x) \| N(0, I)) + L_{rec}`, where :math:`q(z|x)` is the posterior of the code
    :math:`z`. The decoder minimises :math:`\gamma L_{rec} - (1 - \gamma) L_D`. The critic minimises :math:`L_D`.

    The critic skips a training step if a term of :math:`L_D` is below ``equilibrium - margin``. The decoder skips a
    training step if a term is above ``equilibrium + margin``. If both would skip the step, neither does.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        gamma: The weight :math:`\gamma` of the feature-matching loss in the decoder's loss, in [0, 1].
        equilibrium: The desired value of each term of :math:`L_D`, in nats.
        margin: The allowed deviation of each term of :math:`L_D` from ``equilibrium``, in nats.

    References:
        | Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2016)
        | https://arxiv.org/abs/1512.09300
    """

    critic: Critic

    def __init__(
        self, likelihood: Likelihood, gamma: float = 0.5, equilibrium: float = 0.68, margin: float = 0.4
    ) -> None:
        super().__init__(likelihood)
        self.gamma = gamma
        self.equilibrium = equilibrium
        self.margin = margin

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Builds the critic, with the architecture of ``network`` and random weights."""
        self.critic = build_critic(network.shape, network.architecture, generator)

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the encoder's loss, averaged over a batch of images ``x``, in nats."""
        return self.losses(network, x, noise)[0][0]

    def losses(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Losses:
        r"""Returns pairs of a loss and the parameters that minimise it, for encoder, decoder and critic.

        Each loss is averaged over a batch of images ``x``. A decoder or a critic that skips the step has no pair.
        """
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)

        # Real, reconstructed and generated images pass separately: no loss needs the gradients of all three.
        def critic_features(images: Tensor) -> Tensor:
            features: Tensor = self.critic.features(network.centred(images))
            return features

        def decoded_features(codes: Tensor) -> Tensor:
            return critic_features(self.likelihood.mean(network.decode(codes)))

        real, reconstructed = critic_features(x), decoded_features(z)
        generated = decoded_features(standard_normal(z, noise))
        real_logits, generated_logits = self.critic.head(real), self.critic.head(generated)

        feature_matching = 0.5 * (real - reconstructed).square().sum(dim=1).mean()
        real_entropy = functional.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
        generated_entropy = functional.binary_cross_entropy_with_logits(
            generated_logits, torch.zeros_like(generated_logits)
        )
        adversarial = real_entropy + generated_entropy

        entropies = torch.stack([real_entropy, generated_entropy]).tolist()
        train_critic = min(entropies) >= self.equilibrium - self.margin
        train_decoder = max(entropies) <= self.equilibrium + self.margin
        if not train_critic and not train_decoder:
            train_critic = train_decoder = True

        def parameters(module: nn.Module) -> list[nn.Parameter]:
            return list(module.parameters())

        losses = [(gaussian_kl(mean, log_var).mean() + feature_matching, parameters(network.encoder))]
        if train_decoder:
            decoder_loss = self.gamma * feature_matching - (1 - self.gamma) * adversarial
            losses.append((decoder_loss, parameters(network.decoder)))
        if train_critic:
            losses.append((adversarial, parameters(self.critic)))
        return losses
