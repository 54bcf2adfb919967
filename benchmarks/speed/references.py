r"""What ours is measured by: the least code that does the same work."""

__all__ = ["BareFit", "bare_objective", "fit_pythae"]

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..silence import silence

Loss = Callable[[nn.Module, nn.Module, Tensor], Tensor]
"""From an encoder, a decoder and a batch, the loss of it."""


def _fully_connected(widths: list[int]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        modules += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _rebuilt(decoder: nn.Module, z: Tensor, x: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(decoder(z).float(), x, reduction="sum") / len(x)


def _autoencoder(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    return _rebuilt(decoder, encoder(x), x)


def _rae_l2(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    z = encoder(x)
    weights = sum(parameter.square().sum() for parameter in decoder.parameters())
    return _rebuilt(decoder, z, x) + 1e-2 * 0.5 * z.float().square().sum(dim=1).mean() + 1e-4 * weights


def _vae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    mean, log_var = encoder(x).float().chunk(2, dim=1)
    z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1).mean()
    return _rebuilt(decoder, z, x) + kl


bare_objective: dict[str, Loss] = {"gae": _autoencoder, "rae_l2": _rae_l2, "vae": _vae}
"""The losses of some models, by their names in ``MODELS``."""


@dataclass
class BareFit:
    r"""A training in plain PyTorch, as one would write it for one model and one machine.

    Attributes:
        model: One of :data:`bare_objective`.
        hidden: The widths of the encoder; the decoder has them in reverse.
        epochs: The epochs to train.
        batch_size: The images of a batch.
        precision: What products are computed in.
        latent_dim: The dimension of a code.
    """

    model: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int = 100
    precision: torch.dtype = torch.float32
    latent_dim: int = 10

    def __call__(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        r"""Trains on uint8 images of shape :math:`(N, *)`, and returns the decoder and the codes."""
        pixels, codes = images[0].numel(), self.latent_dim * (2 if self.model == "vae" else 1)
        encoder = _fully_connected([pixels, *self.hidden, codes]).to(images.device)
        decoder = _fully_connected([self.latent_dim, *reversed(self.hidden), pixels]).to(images.device)
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
        loss_of = bare_objective[self.model]
        for _ in range(self.epochs):
            for chosen in torch.randperm(len(images), device=images.device).split(self.batch_size):
                x = images[chosen].flatten(1).float() / 255
                with torch.autocast(images.device.type, self.precision, enabled=self.precision != torch.float32):
                    loss = loss_of(encoder, decoder, x)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            return decoder, torch.cat([encoder(own.flatten(1).float() / 255) for own in images.split(1000)])


def fit_pythae(images: Tensor, hidden: tuple[int, ...], epochs: int, components: int, batch_size: int = 100) -> None:
    r"""Trains pythae's autoencoder on uint8 images of shape :math:`(N, *)`, and fits its mixture to the codes.

    Raises:
        ModuleNotFoundError: If pythae is not installed.
    """
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig
    from pythae.trainers import BaseTrainerConfig

    shape, latent_dim = tuple(images.shape[1:]), BareFit.latent_dim

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.latent_dim = latent_dim
            self.layers = _fully_connected([images[0].numel(), *hidden, latent_dim])

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.layers(x.flatten(1)))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = _fully_connected([latent_dim, *reversed(hidden), images[0].numel()])

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).sigmoid().view(-1, *shape))

    with tempfile.TemporaryDirectory() as folder, silence():
        model = AE(AEConfig(input_dim=shape, latent_dim=latent_dim), encoder=Encoder(), decoder=Decoder())
        trainer = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=1e-3,
            no_cuda=not torch.cuda.is_available(),
            seed=0,
        )
        data = images.float() / 255
        TrainingPipeline(model=model, training_config=trainer)(train_data=data)
        GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=components)).fit(data)
