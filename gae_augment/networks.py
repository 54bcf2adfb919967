r"""Encoders and decoders, built from the shape of an image and the latent dimension."""

__all__ = ["ARCHITECTURES", "Autoencoder", "build_autoencoder", "resolve_architecture"]

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = {"fc": (1000, 500), "paper": (500, 500, 2000)}
"""The widths of the fully connected encoders; a decoder has them in reverse."""

FULLY_CONNECTED_UP_TO = 1024
"""The largest number of pixels for which ``"auto"`` takes a fully connected network."""

ARCHITECTURES = ("auto", "conv", *HIDDEN)


class Autoencoder(nn.Module):
    r"""An encoder :math:`f_e` and a decoder :math:`f_d`, which see images as deviations from their mean.

    Before :meth:`centre` the mean is 0. After it the network begins where the mean image is, at the contrast of the
    data: without that, images of low contrast spend their whole training on their common background.

    Args:
        encoder: Maps images, with shape :math:`(B, *)`, to codes, with shape :math:`(B, d)`.
        decoder: Maps codes to the parameters of the images' distribution, with shape :math:`(B, *)`: logits of
            Bernoulli pixels, or means of Gaussian features.
        shape: The shape of one image.
    """

    mean: Tensor
    deviation: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def centre(self, x: Tensor, likelihood: Literal["bernoulli", "gaussian"]) -> None:
        r"""Makes the mean image the origin, and the spread about it the unit, of inputs and outputs.

        Args:
            x: The images, with shape :math:`(N, *)`: in [0, 1], or standardised.
            likelihood: What the outputs are: ``"bernoulli"`` for logits, ``"gaussian"`` for means.
        """
        mean = x.mean(dim=0)
        deviation = (x - mean).square().mean().sqrt()
        deviation = torch.where(deviation > 0, deviation, 1.0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        if likelihood == "gaussian":
            self.offset.copy_(mean)
            self.scale.copy_(deviation)
            return
        # Pixels that are always black can still be lit: their logit is not minus infinity.
        mean = mean.clamp(0.001, 0.999)
        self.offset.copy_(mean.logit())
        # A logit moves its pixel by p(1 - p). Where pixels are black or white the unit stays one logit.
        self.scale.copy_((deviation / (mean * (1 - mean)).mean()).clamp(max=1.0))

    def encode(self, x: Tensor) -> Tensor:
        r"""Returns the codes of images, with shape :math:`(B, d)`."""
        return self.encoder((x - self.mean) / self.deviation)

    def decode(self, z: Tensor) -> Tensor:
        r"""Returns the parameters of the images' distribution, with shape :math:`(B, *)`."""
        return self.offset + self.scale * self.decoder(z)


class ConvResize(nn.Module):
    r"""Convolves feature maps, then resizes them to a given height and width.

    Resizing leaves no checkerboard and reaches every size, odd ones and one pixel included, which a transposed
    convolution does not. Convolving before it costs a quarter of convolving after.
    """

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.relu(self.convolution(maps))
        return functional.interpolate(maps, size=self.size, mode="bilinear", align_corners=False)


def _fully_connected(shape: tuple[int, ...], latent_dim: int, hidden: Sequence[int]) -> Autoencoder:
    pixels = math.prod(shape)

    def layers(widths: Sequence[int]) -> list[nn.Module]:
        modules: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            modules += [nn.Linear(width_in, width_out), nn.ReLU()]
        return modules[:-1]

    encoder = nn.Sequential(nn.Flatten(), *layers([pixels, *hidden, latent_dim]))
    decoder = nn.Sequential(*layers([latent_dim, *reversed(hidden), pixels]), nn.Unflatten(1, shape))
    return Autoencoder(encoder, decoder, shape)


def _convolutional(shape: tuple[int, ...], latent_dim: int) -> Autoencoder:
    # A matrix is a grey image, and a vector is one of height 1.
    channels, height, width = (1,) * (3 - len(shape)) + shape
    sizes = [(height, width)]
    while max(sizes[-1]) > 4:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    widths = [min(16 * 2**level, 128) for level in range(len(sizes))]

    down: list[nn.Module] = [nn.Conv2d(channels, widths[0], kernel_size=3, padding=1), nn.ReLU()]
    up: list[nn.Module] = []
    for level in range(1, len(sizes)):
        down += [nn.Conv2d(widths[level - 1], widths[level], kernel_size=3, stride=2, padding=1), nn.ReLU()]
        up = [ConvResize(widths[level], widths[level - 1], sizes[level - 1]), *up]
    smallest = (widths[-1], *sizes[-1])

    encoder = nn.Sequential(
        nn.Unflatten(1, (channels, height) if len(shape) == 2 else (channels,)) if len(shape) < 3 else nn.Identity(),
        *down,
        nn.Flatten(),
        nn.Linear(math.prod(smallest), latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, math.prod(smallest)),
        nn.Unflatten(1, smallest),
        nn.ReLU(),
        *up,
        nn.Conv2d(widths[0], channels, kernel_size=3, padding=1),
        nn.Flatten(),
        nn.Unflatten(1, shape),
    )
    return Autoencoder(encoder, decoder, shape)


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    r"""Draws every weight by He's rule for ReLU networks (1502.01852) from a generator, and sets every bias to 0.

    PyTorch's own initialisation draws from the global generator, which is the user's.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def resolve_architecture(architecture: str, shape: tuple[int, ...]) -> str:
    r"""Returns the architecture that is asked for, or with ``"auto"`` the one that suits images of this shape.

    Vectors and small images get ``"fc"``, larger images ``"conv"``.

    Raises:
        ValueError: If the architecture is unknown, or is convolutional where there are no pixels side by side.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"'architecture' is one of {', '.join(map(repr, ARCHITECTURES))}, and it is {architecture!r}.")
    if architecture == "conv" and len(shape) == 1:
        raise ValueError(
            f"A convolutional network needs images, and these are vectors of {shape[0]} features. "
            f"Use architecture='fc', or 'auto'."
        )
    if architecture == "auto":
        return "fc" if len(shape) == 1 or math.prod(shape) <= FULLY_CONNECTED_UP_TO else "conv"
    return architecture


def build_autoencoder(
    shape: tuple[int, ...],
    latent_dim: int,
    architecture: str = "auto",
    *,
    generator: torch.Generator | None = None,
) -> Autoencoder:
    r"""Returns an autoencoder for images of a shape, with fresh weights.

    Args:
        shape: The shape of one image: (C, H, W), (H, W) or (F,).
        latent_dim: The latent dimension :math:`d`.
        architecture: ``"paper"``, the paper's fully connected network, 500-500-2000; ``"fc"``, 1000-500, which trains
            in a third of the time; ``"conv"``, convolutions of stride 2 down to at most 4x4 pixels and back;
            ``"auto"``, by the shape.
        generator: What the weights are drawn from. Without one they are left unset, to be loaded.

    Raises:
        ValueError: If the architecture is unknown or does not suit the shape.
    """
    # On the meta device nothing is drawn and nothing allocated. Torch's default type, the user's, is not relied on.
    with torch.device("meta"):
        architecture = resolve_architecture(architecture, shape)
        if architecture == "conv":
            network = _convolutional(shape, latent_dim)
        else:
            network = _fully_connected(shape, latent_dim, HIDDEN[architecture])
    network = network.float().to_empty(device="cpu")
    if generator is not None:
        _initialise(network, generator)
        # The first output is the mean image and nothing else. Random weights here would leave speckles on the images
        # of a class that is trained for some dozen steps only.
        last = [module for module in network.decoder.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
        for name, value in (("mean", 0.0), ("deviation", 1.0), ("offset", 0.0), ("scale", 1.0)):
            network.get_buffer(name).fill_(value)
    return network
