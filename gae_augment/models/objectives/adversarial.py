r"""The autoencoder with an adversary, VAE-GAN."""

__all__ = ["AdversarialVariational"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..likelihoods import Likelihood
from ..networks import Autoencoder, Critic, build_critic
from .base import Losses, Objective
from .variational import gaussian_kl, reparameterise, standard_normal


class AdversarialVariational(Objective):
    r"""VAE-GAN: a critic tells real images from made ones, and its features say how alike two images are.

    With :math:`L_{rec} = \frac12 \|D_l(x) - D_l(\tilde x)\|^2` and :math:`L_D = BCE(D(x), 1) + BCE(D(f_d(z_p)), 0)`,
    :math:`z_p \sim N(0, I)`, the encoder minimises :math:`KL + L_{rec}`, the decoder :math:`\gamma L_{rec} - (1 -
    \gamma) L_D`, and the critic :math:`L_D`. Where the critic is far ahead its step is skipped, and where it is far
    behind the decoder's.

    Args:
        likelihood: As for every objective.
        gamma: The weight :math:`\gamma` of likeness against deceit, for the decoder.
        equilibrium: The cross-entropy about which critic and decoder are balanced, in nats.
        margin: How far the critic's cross-entropies may lie from it.

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
        r"""Makes the critic, with the architecture of the encoder."""
        self.critic = build_critic(network.shape, network.architecture, generator)

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the encoder's loss, in nats per image; :meth:`losses` gives all three."""
        return self.losses(network, x, noise)[0][0]

    def losses(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Losses:
        r"""Returns the encoder's loss, and those of the decoder and of the critic whose turn it is."""
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)

        # Three passes, for no loss needs the gradients of all three.
        def critic_features(images: Tensor) -> Tensor:
            features: Tensor = self.critic.features(network.centred(images))
            return features

        def made(codes: Tensor) -> Tensor:
            return critic_features(self.likelihood.mean(network.decode(codes)))

        real, rebuilt, invented = critic_features(x), made(z), made(standard_normal(z, noise))
        real_logits, invented_logits = self.critic.head(real), self.critic.head(invented)

        likeness = 0.5 * (real - rebuilt).square().sum(dim=1).mean()
        on_real = functional.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
        on_invented = functional.binary_cross_entropy_with_logits(invented_logits, torch.zeros_like(invented_logits))
        adversarial = on_real + on_invented

        entropies = torch.stack([on_real, on_invented]).tolist()
        critic_steps = min(entropies) >= self.equilibrium - self.margin
        decoder_steps = max(entropies) <= self.equilibrium + self.margin
        if not critic_steps and not decoder_steps:
            critic_steps = decoder_steps = True

        def parameters(module: nn.Module) -> list[nn.Parameter]:
            return list(module.parameters())

        losses = [(gaussian_kl(mean, log_var).mean() + likeness, parameters(network.encoder))]
        if decoder_steps:
            losses.append((self.gamma * likeness - (1 - self.gamma) * adversarial, parameters(network.decoder)))
        if critic_steps:
            losses.append((adversarial, parameters(self.critic)))
        return losses
