r"""A small convolutional image classifier, and a function that trains it."""

__all__ = ["Classifier", "train_classifier"]

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._utils.checks import check_integer
from .._utils.devices import resolve_device
from .._utils.seeding import make_generator
from .images import checked_images, checked_pair, to_unit

WIDTHS = (16, 32, 64, 128)
"""The number of output channels of each convolution. The last entry equals the number of extracted features."""

INFERENCE_BATCH_SIZE = 1000

WARM_UP_FRACTION = 0.2
"""The fraction of the training steps during which the learning rate rises."""

ROTATION, SHIFT, ZOOM = 12.0, 0.1, 0.1
"""The bounds of a random affine map: rotation in degrees, shift as a fraction of the side, relative change of size."""


class Classifier(nn.Module):
    r"""A small convolutional classifier of images with any height and width.

    Four convolutions, with batch normalisation and ReLU, precede average pooling and a linear layer. The initial
    weights are Kaiming uniform (https://arxiv.org/abs/1502.01852).

    Args:
        shape: The shape of one image, :math:`(C, H, W)`.
        classes: The number of classes.
        generator: The random number generator for the initial weights.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        # On the meta device PyTorch's default initialisation draws nothing from the global generator.
        with torch.device("meta"):
            for width in WIDTHS:
                stride = 2 if max(sides) > 2 else 1
                layers += [nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                channels, sides = width, [-(-side // stride) for side in sides]
            self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(channels, classes)
        self.shape, self.classes = tuple(shape), classes
        self.to_empty(device="cpu")
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(self.head.bias)
        # Twice as fast on CPUs as PyTorch's default memory format.
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        r"""Maps :math:`B` images in [0, 1] to the 128 inputs of the last layer, with shape :math:`(B, 128)`."""
        return self.body(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> Tensor:
        r"""Maps :math:`B` images in [0, 1] to one logit per class, with shape (B, classes)."""
        return self.head(self.features(x))

    def extract(self, images: Tensor) -> Tensor:
        r"""Returns the 128 inputs of the last layer for each image, on the CPU, with shape :math:`(N, 128)`.

        The images are uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.

        Raises:
            ValueError: If the images are invalid, or differ in shape from the classifier's ``shape``.
        """
        return self._apply_in_batches(self.features, images)

    def predict(self, images: Tensor) -> Tensor:
        r"""Returns the predicted label of each image, on the CPU, with shape :math:`(N,)`.

        The images are uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.

        Raises:
            ValueError: If the images are invalid, or differ in shape from the classifier's ``shape``.
        """
        return self._apply_in_batches(lambda x: self(x).argmax(dim=1), images)

    def logits(self, images: Tensor) -> Tensor:
        r"""Returns the logits of each image, on the CPU, with shape (N, classes).

        The images are uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.

        Raises:
            ValueError: If the images are invalid, or differ in shape from the classifier's ``shape``.
        """
        return self._apply_in_batches(self, images)

    @torch.no_grad()
    def _apply_in_batches(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        images = checked_images(images, "images", like=torch.empty(0, *self.shape))
        device, training = self.head.weight.device, self.training
        # With running statistics a prediction does not depend on the other images of the batch.
        self.eval()
        values = [function(to_unit(batch.to(device))).cpu() for batch in images.split(INFERENCE_BATCH_SIZE)]
        self.train(training)
        return torch.cat(values)


def random_affine(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Rotates, shifts and scales each image of a batch at random.

    The rotation is at most 12 degrees, the shift at most 10 % of each side, and the change of size at most 10 %. Pixels
    from outside the original image are 0.

    Args:
        x: The images, with shape :math:`(B, C, H, W)`.
        generator: A random number generator on the CPU.
    """
    rotation, shift_x, shift_y, zoom = 2 * torch.rand(4, len(x), generator=generator) - 1
    angle, scale = rotation * math.radians(ROTATION), 1 + zoom * ZOOM
    height, width = x.shape[2:]
    # The grid's axes always span -1 to 1, so a rotation of a non-square image needs the ratio of its sides.
    rows = [
        torch.stack([angle.cos(), -angle.sin() * height / width, 2 * SHIFT * shift_x], dim=1),
        torch.stack([angle.sin() * width / height, angle.cos(), 2 * SHIFT * shift_y], dim=1),
    ]
    maps = torch.stack(rows, dim=1) / torch.stack([scale, scale, torch.ones_like(scale)], dim=1).unsqueeze(1)
    grid = functional.affine_grid(maps.to(x.device), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def one_cycle(step: int, steps: int) -> float:
    r"""Returns the learning rate of a training step as a fraction of the peak learning rate.

    The fraction rises linearly to 1 during the first 20 % of the steps. Then it falls towards 0 along a cosine.

    Args:
        step: The index of the step, from 0.
        steps: The total number of steps.
    """
    warm_up = max(1, round(WARM_UP_FRACTION * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up + 1) / (steps - warm_up + 1)))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    sampler: Iterable[int] | None = None,
    epochs: int = 3,
    batch_size: int = 128,
    learning_rate: float = 5e-3,
    affine: bool = False,
    log_frequencies: Tensor | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
) -> Classifier:
    r"""Trains a small convolutional classifier, and returns it in evaluation mode.

    Args:
        images: The training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)` or :math:`(N, H, W)`.
        labels: The labels, from 0 to ``classes`` - 1, with shape :math:`(N,)`.
        classes: The number of classes, at least 2.
        sampler: An iterable that yields the image indices of one epoch, for example a
            :class:`gae_augment.MixedSampler`. By default each epoch uses every image once, in random order.
        epochs: The number of passes over the sampler.
        batch_size: The maximum number of images in a batch.
        learning_rate: The peak learning rate.
        affine: Whether training images are slightly rotated, shifted and scaled, at random.
        log_frequencies: What is added to the logits in training, with shape :math:`(C,)`, such as
            ``log_frequencies`` of a :class:`gae_augment.MixedSampler` for balanced softmax.
        seed: The seed of the initial weights, the default order of the images, and the random affine changes.
        device: A torch device. ``"auto"`` is a CUDA GPU if there is one, else the CPU.

    Raises:
        ValueError: If an argument is invalid, or the sampler yields no index.
        FloatingPointError: If the loss becomes NaN or infinite.
    """
    for name, value, least in (("classes", classes, 2), ("epochs", epochs, 1), ("batch_size", batch_size, 1)):
        check_integer(value, name, least)
    if not 0 < learning_rate < math.inf:
        raise ValueError(
            f"'learning_rate' is {learning_rate}, but must be finite and above 0. 5e-3 is a good first choice."
        )
    images, labels = checked_pair((images, labels), "training", classes)
    torch_device = resolve_device(device)
    network = Classifier(tuple(images.shape[1:]), classes, generator=make_generator(seed, "weights")).to(torch_device)
    images, labels = images.to(torch_device), labels.to(torch_device)
    shift = torch.zeros(classes, device=torch_device) if log_frequencies is None else log_frequencies.to(torch_device)

    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    network.train()
    step = 0
    for epoch in range(epochs):
        generator = make_generator(seed, "training", epoch)
        if sampler is None:
            order = torch.randperm(len(images), generator=generator)
        else:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            order = torch.as_tensor(list(sampler), dtype=torch.long)
        if not len(order):
            raise ValueError(f"'sampler' drew no index in epoch {epoch + 1}. Pass a sampler that draws at least one.")
        batches = order.to(torch_device).tensor_split(math.ceil(len(order) / batch_size))
        for indices in batches:
            x = to_unit(images[indices])
            x = random_affine(x, generator) if affine else x
            loss = functional.cross_entropy(network(x) + shift, labels[indices])
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * one_cycle(step, epochs * len(batches))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
        if not loss.isfinite():
            raise FloatingPointError(
                f"Training diverged: the cross-entropy is {loss.item()} after epoch {epoch + 1}. "
                f"Lower 'learning_rate', which is {learning_rate}."
            )
    return network.eval()
