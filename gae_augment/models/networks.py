r"""Encoders and decoders for a given image shape and latent dimension."""

__all__ = [
    "ARCHITECTURES",
    "CONVOLUTIONAL",
    "LOG_VARIANCE_LIMIT",
    "Architecture",
    "Autoencoder",
    "Critic",
    "build_autoencoder",
    "build_critic",
    "build_perceptron",
    "check_architecture",
]

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .likelihoods import Likelihood

HIDDEN = {"fc": (1000, 500), "paper": (500, 500, 2000)}
"""The widths of the hidden layers of fully connected encoders; decoders have the widths in reverse order."""

CONVOLUTIONAL = {"conv": 1, "conv_half": 2}
"""The convolutional architectures, and the ratio of the height of an image to that of their largest feature maps."""

ARCHITECTURES = (*CONVOLUTIONAL, *HIDDEN)

Architecture = str | tuple[int, ...]
"""The name of an architecture, or the widths of the hidden layers of a custom fully connected encoder."""

LOG_VARIANCE_LIMIT = 12.0
"""The maximum absolute value of the log-variance of a code."""


class Layers(nn.Sequential):
    r"""A sequence of layers whose outputs have the data type of the inputs, even under ``torch.autocast``."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = super().forward(x)
        return outputs.to(x.dtype)


class Autoencoder(nn.Module):
    r"""An encoder and a decoder, with normalised inputs and outputs.

    Args:
        encoder: Maps images of shape :math:`(B, *)` to latent codes of shape :math:`(B, d)`. A stochastic encoder
            returns means and log-variances of codes, concatenated to the shape :math:`(B, 2d)`.
        decoder: Maps codes to one number per pixel, with shape :math:`(B, *)`.
        shape: The shape of one image.
        latent_dim: The latent dimension :math:`d`.
        architecture: The name of the architecture, or the layer widths of a fully connected encoder.
    """

    mean: Tensor
    deviation: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: Layers,
        decoder: Layers,
        shape: tuple[int, ...],
        latent_dim: int,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.shape = shape
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit_normalisation(self, x: Tensor, likelihood: Likelihood) -> None:
        r"""Sets the normalisation from the mean and the standard deviation of training images.

        Args:
            x: :math:`N` training images, with shape :math:`(N, *)`, in [0, 1] or standardised.
            likelihood: The distribution of an image given the decoder's outputs.
        """
        mean = x.mean(dim=0)
        deviation = (x - mean).square().mean().sqrt()
        deviation = torch.where(deviation > 0, deviation, 1.0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        offset, scale = likelihood.normalisation(mean, deviation)
        self.offset.copy_(offset)
        self.scale.copy_(scale)

    def centred(self, x: Tensor) -> Tensor:
        r"""Subtracts the mean training image, and divides by the training images' standard deviation, a scalar."""
        return (x - self.mean) / self.deviation

    def encode(self, x: Tensor) -> Tensor:
        r"""Returns the latent codes of :math:`B` images, with shape :math:`(B, d)`.

        A stochastic encoder gives the posterior means.
        """
        return self.encoder(self.centred(x))[:, : self.latent_dim]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the means and the log-variances of the codes of :math:`B` images, from a stochastic encoder.

        Both have the shape :math:`(B, d)`. The log-variances are limited to [-12, 12].
        """
        mean, log_var = self.encoder(self.centred(x)).split(self.latent_dim, dim=1)
        return mean, log_var.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, z: Tensor) -> Tensor:
        r"""Decodes :math:`B` latent codes of shape :math:`(B, d)`.

        The result has the shape :math:`(B, *)`. It holds logits of Bernoulli pixels or means of Gaussian pixels.
        """
        return self.offset + self.scale * self.decoder(z)


class FeatureMaps(nn.Module):
    r"""Reshapes images or vectors to feature maps of ``shape`` = (channels, height, width), with the channels last.

    This order in memory makes convolutions on CPUs faster.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape).contiguous(memory_format=torch.channels_last)


class Resize(nn.Module):
    r"""Bilinear interpolation of images to ``size`` = (height, width), in float32 or a more precise type."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        # On a CPU, bfloat16 is slower than float32, and would round the pixels of the decoded images. With few
        # channels, two products of matrices take a quarter of the time of interpolate().
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        rows, columns = (_interpolation(*sizes, images) for sizes in zip(images.shape[-2:], self.size, strict=True))
        with torch.autocast(images.device.type, enabled=False):
            return rows @ images @ columns.T


def _interpolation(size: int, new_size: int, like: Tensor) -> Tensor:
    r"""Returns the matrix that interpolates ``size`` values to ``new_size`` values linearly."""
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    return functional.interpolate(units[None], size=new_size, mode="linear", align_corners=False)[0].T


class ConvResize(nn.Module):
    r"""A 3x3 convolution and a ReLU. The result is resized to ``size`` = (height, width) by bilinear interpolation."""

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.relu(self.convolution(maps))
        return functional.interpolate(maps, size=self.size, mode="bilinear", align_corners=False)


class Critic(nn.Module):
    r"""A network that distinguishes real images from generated images.

    Args:
        features: Maps :math:`B` images to :math:`F` features per image, with shape :math:`(B, F)`.
        head: Maps features to the logit of the probability that an image is real, with shape :math:`(B, 1)`.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    r"""Returns linear layers with ReLUs between them.

    The list ``widths`` holds the number of inputs, then the outputs of each layer.
    """
    modules: list[nn.Module] = []
    for in_width, out_width in pairwise(widths):
        modules += [nn.Linear(in_width, out_width), nn.ReLU()]
    return modules[:-1]


def _hidden(architecture: Architecture) -> Sequence[int]:
    r"""Returns the widths of the hidden layers of a fully connected encoder."""
    return architecture if isinstance(architecture, tuple) else HIDDEN[architecture]


def _fully_connected_encoder(shape: tuple[int, ...], hidden: Sequence[int], outputs: int) -> Layers:
    return Layers(nn.Flatten(), *_layers([math.prod(shape), *hidden, outputs]))


def _fully_connected_decoder(shape: tuple[int, ...], hidden: Sequence[int], latent_dim: int) -> Layers:
    return Layers(*_layers([latent_dim, *reversed(hidden), math.prod(shape)]), nn.Unflatten(1, shape))


def _levels(shape: tuple[int, ...], stride: int) -> tuple[int, list[tuple[int, int]], list[int]]:
    r"""Returns an image's channel count, then the sizes and the channel counts of a network's feature maps.

    The first size is that of the image divided by ``stride``. Sizes halve down to at most 4x4 pixels. All sizes are
    rounded up.
    """
    # A matrix is a grey image with one channel.
    channels, height, width = (1,) * (3 - len(shape)) + shape
    sizes = [(-(-height // stride), -(-width // stride))]
    while max(sizes[-1]) > 4:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return channels, sizes, [min(16 * 2**level, 128) for level in range(len(sizes))]


def _convolutional_encoder(shape: tuple[int, ...], stride: int, outputs: int) -> Layers:
    channels, sizes, widths = _levels(shape, stride)
    down: list[nn.Module] = [nn.Conv2d(channels, widths[0], kernel_size=3, stride=stride, padding=1), nn.ReLU()]
    for in_width, out_width in pairwise(widths):
        down += [nn.Conv2d(in_width, out_width, kernel_size=3, stride=2, padding=1), nn.ReLU()]
    return Layers(
        FeatureMaps((channels, shape[-2], shape[-1])),
        *down,
        nn.Flatten(),
        nn.Linear(widths[-1] * math.prod(sizes[-1]), outputs),
    )


def _convolutional_decoder(shape: tuple[int, ...], stride: int, latent_dim: int) -> Layers:
    channels, sizes, widths = _levels(shape, stride)
    up: list[nn.Module] = []
    for level in range(len(sizes) - 1, 0, -1):
        up.append(ConvResize(widths[level], widths[level - 1], sizes[level - 1]))
    smallest = (widths[-1], *sizes[-1])
    return Layers(
        nn.Linear(latent_dim, math.prod(smallest)),
        FeatureMaps(smallest),
        nn.ReLU(),
        *up,
        nn.Conv2d(widths[0], channels, kernel_size=3, padding=1),
        # The decoder's result has the usual order in memory, in which the loss is computed faster.
        nn.Flatten(),
        nn.Unflatten(1, (channels, *sizes[0])),
        *([Resize((shape[-2], shape[-1]))] if stride > 1 else []),
        *([nn.Flatten(1, 2)] if len(shape) == 2 else []),
    )


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    r"""Draws random weights by He's rule (https://arxiv.org/abs/1502.01852), and small random biases."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
    for layer in layers:
        assert layer.bias is not None
        bound = 1 / layer.weight[0].numel()
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _zero_outputs(layer: nn.Linear | nn.Conv2d, start: int = 0) -> None:
    r"""Zeroes the weights and biases of a layer's outputs, from index ``start`` on."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight[start:].zero_()
        layer.bias[start:].zero_()


def check_architecture(architecture: Architecture, shape: tuple[int, ...]) -> None:
    r"""Raises a ValueError if the architecture is unknown, or if it is convolutional and the data are vectors.

    The tuple ``shape`` is the shape of one image or vector.
    """
    custom = (
        isinstance(architecture, tuple)
        and len(architecture) > 0
        and all(type(width) is int and width > 0 for width in architecture)
    )
    if not custom and architecture not in ARCHITECTURES:
        raise ValueError(
            f"'architecture' is {architecture!r}, but must be one of 'auto', {', '.join(map(repr, ARCHITECTURES))}, "
            f"or a tuple of widths such as (1000, 500)."
        )
    if architecture in CONVOLUTIONAL and len(shape) == 1:
        raise ValueError(
            f"'architecture' is {architecture!r}, but the data are vectors of {shape[0]} features. "
            f"Use architecture='fc' or 'auto'."
        )


def build_autoencoder(
    shape: tuple[int, ...],
    latent_dim: int,
    architecture: Architecture,
    *,
    stochastic: bool = False,
    generator: torch.Generator | None = None,
) -> Autoencoder:
    r"""Returns an untrained autoencoder for images of a given shape.

    Args:
        shape: The shape of one image: (channels, height, width), (height, width), or (features,) for a vector.
        latent_dim: The latent dimension.
        architecture: ``"fc"`` and ``"paper"`` are fully connected, with encoder widths 1000-500 and 500-500-2000.
            ``"conv"`` is convolutional. ``"conv_half"`` is too, but its largest feature maps have half the height and
            width of the image. A tuple gives the widths of a fully connected encoder. Fully connected decoders have the
            widths in reverse order.
        stochastic: Whether the encoder outputs means and log-variances of latent codes instead of codes.
        generator: The random generator of the initial weights. ``None`` creates weights without memory, on PyTorch's
            meta device. ``load_state_dict(…, assign=True)`` then sets them.

    Raises:
        ValueError: If the architecture is unknown or does not suit the shape.
    """
    check_architecture(architecture, shape)
    outputs = 2 * latent_dim if stochastic else latent_dim
    # The meta device draws and allocates nothing. Torch's default type may be float64, so float() is explicit.
    with torch.device("meta"):
        if architecture in CONVOLUTIONAL:
            stride = CONVOLUTIONAL[architecture]
            encoder = _convolutional_encoder(shape, stride, outputs)
            decoder = _convolutional_decoder(shape, stride, latent_dim)
        else:
            hidden = _hidden(architecture)
            encoder = _fully_connected_encoder(shape, hidden, outputs)
            decoder = _fully_connected_decoder(shape, hidden, latent_dim)
        network = Autoencoder(encoder, decoder, shape, latent_dim, architecture).float()
    if generator is not None:
        network = network.to_empty(device="cpu")
        _initialise(network, generator)
        # The untrained network outputs exactly the mean image. Random weights would leave speckles on the images of a
        # class that is trained for a few dozen steps only.
        last = [module for module in network.decoder.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        _zero_outputs(last)
        if stochastic:
            # Posteriors start with a variance of 1.
            _zero_outputs(cast(nn.Linear, network.encoder[-1]), latent_dim)
        for name, value in (("mean", 0.0), ("deviation", 1.0), ("offset", 0.0), ("scale", 1.0)):
            network.get_buffer(name).fill_(value)
    return network


def build_critic(shape: tuple[int, ...], architecture: Architecture, generator: torch.Generator) -> Critic:
    r"""Returns an untrained critic, a network that distinguishes real images from generated images.

    Args:
        shape: The shape of one image: (channels, height, width), (height, width), or (features,) for a vector.
        architecture: ``"fc"``, ``"paper"``, ``"conv"``, ``"conv_half"``, or a tuple of widths.
        generator: The random generator of the initial weights.
    """
    check_architecture(architecture, shape)
    with torch.device("meta"):
        if architecture in CONVOLUTIONAL:
            width = 128
            encoder = _convolutional_encoder(shape, CONVOLUTIONAL[architecture], width)
        else:
            *hidden, width = _hidden(architecture)
            encoder = _fully_connected_encoder(shape, hidden, width)
        critic = Critic(Layers(*encoder, nn.ReLU()), Layers(nn.Linear(width, 1)))
    critic = critic.float().to_empty(device="cpu")
    _initialise(critic, generator)
    return critic


def build_perceptron(widths: Sequence[int], generator: torch.Generator | None = None) -> Layers:
    r"""Returns a fully connected network with ReLUs between its layers.

    Args:
        widths: The number of inputs, the number of units of each hidden layer, and the number of outputs.
        generator: The random generator of the initial weights. With a generator, the untrained network outputs 0.
            ``None`` leaves all weights uninitialised, for use with ``load_state_dict``.
    """
    with torch.device("meta"):
        network = Layers(*_layers(widths))
    network = network.float().to_empty(device="cpu")
    if generator is not None:
        _initialise(network, generator)
        _zero_outputs(cast(nn.Linear, network[-1]))
    return network
