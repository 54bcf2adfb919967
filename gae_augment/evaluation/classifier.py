r"""A small convolutional classifier, the yardstick of the evaluation, and its training."""

__all__ = ["Classifier", "train_classifier"]

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._utils.devices import resolve_device
from .._utils.seeding import make_generator
from .images import checked_images, checked_pair, to_unit

WIDTHS = (16, 32, 64, 128)
"""The channels of the convolutions; the last are the features."""

AT_ONCE = 1000
"""The images that pass through the network together where nothing is learned."""

WARM_UP = 0.2
"""The part of the steps in which the learning rate rises."""

ROTATION, SHIFT, ZOOM = 12.0, 0.1, 0.1
"""The bounds of a random affine map: degrees, parts of the image's side, and the change of scale."""


class Classifier(nn.Module):
    r"""Four convolutions, each with batch normalisation and a ReLU, the mean over the pixels, and a linear layer.

    A convolution halves the height and the width as long as one of them is above 2, so that images from 8x8 to 64x64
    and beyond go in as they are. The strides keep it cheap: an epoch of MNIST takes some seconds on one CPU core.

    Args:
        shape: The shape of one image, :math:`(C, H, W)`.
        classes: The number of classes.
        generator: What the weights are drawn from, by He's rule (1502.01852).
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        # PyTorch's own initialisation draws from the global generator; on the meta device nothing is drawn.
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
        # Twice as fast as PyTorch's usual order on CPUs.
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        r"""Returns the features of images in [0, 1], from shape :math:`(B, C, H, W)` to :math:`(B, 128)`."""
        return self.body(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> Tensor:
        r"""Returns the logits of images in [0, 1], from shape :math:`(B, C, H, W)` to (B, classes)."""
        return self.head(self.features(x))

    def extract(self, images: Tensor) -> Tensor:
        r"""Returns the features of any number of images, uint8 or in [0, 1], with shape :math:`(N, 128)`, on the CPU.

        Raises:
            ValueError: If the images are not of the shape that the classifier was built for.
        """
        return self._pass(self.features, images)

    def predict(self, images: Tensor) -> Tensor:
        r"""Returns the labels of any number of images, uint8 or in [0, 1], with shape :math:`(N,)`, on the CPU.

        Raises:
            ValueError: If the images are not of the shape that the classifier was built for.
        """
        return self._pass(lambda x: self(x).argmax(dim=1), images)

    @torch.no_grad()
    def _pass(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        images = checked_images(images, "images", like=torch.empty(0, *self.shape))
        device, training = self.head.weight.device, self.training
        # Batch normalisation by the running statistics: a prediction does not depend on the images beside it.
        self.eval()
        values = [function(to_unit(batch.to(device))).cpu() for batch in images.split(AT_ONCE)]
        self.train(training)
        return torch.cat(values)


def random_affine(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Returns each image rotated, shifted and scaled in its own way, with zeros where nothing was.

    torchvision's transforms draw one map for a whole batch.

    Args:
        x: The images, with shape :math:`(B, C, H, W)`.
        generator: A generator of the CPU, so that the maps are the same on every device.
    """
    turn, shift_x, shift_y, zoom = 2 * torch.rand(4, len(x), generator=generator) - 1
    angle, scale = turn * math.radians(ROTATION), 1 + zoom * ZOOM
    height, width = x.shape[2:]
    # The grid's axes go from -1 to 1 whatever the side, so a rotation of pixels shears it unless the image is square.
    rows = [
        torch.stack([angle.cos(), -angle.sin() * height / width, 2 * SHIFT * shift_x], dim=1),
        torch.stack([angle.sin() * width / height, angle.cos(), 2 * SHIFT * shift_y], dim=1),
    ]
    maps = torch.stack(rows, dim=1) / torch.stack([scale, scale, torch.ones_like(scale)], dim=1).unsqueeze(1)
    grid = functional.affine_grid(maps.to(x.device), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def one_cycle(step: int, steps: int) -> float:
    r"""Returns the learning rate of a step as a part of its peak: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


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
    seed: int = 0,
    device: torch.device | str = "auto",
) -> Classifier:
    r"""Returns a classifier trained with AdamW on the cross-entropy, in evaluation mode.

    Everything random depends on the seed: the first weights on nothing else, so that they are the same whatever the
    images and the sampler.

    Args:
        images: The training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)` or :math:`(N, H, W)`.
        labels: Their labels, in 0 to ``classes`` - 1, with shape :math:`(N,)`.
        classes: The number of classes, at least 2.
        sampler: The indices of an epoch, such as :class:`gae_augment.MixedSampler`; one that has ``set_epoch`` is told
            the epoch. By default every image once, in a random order.
        epochs: The passes over the sampler.
        batch_size: The most images in a batch; those of an epoch differ in size by at most 1.
        learning_rate: The peak learning rate.
        affine: Whether each image is turned by up to 12 degrees, shifted by up to a tenth of its side and scaled by up
            to a tenth, in its own way each time.
        seed: The seed.
        device: ``"auto"``, a CUDA GPU where there is one, or a device of torch.

    Raises:
        ValueError: If the images, the labels or a number are not as above, or the sampler draws no index.
        FloatingPointError: If training diverged.
    """
    if classes < 2:
        raise ValueError(f"'classes' is at least 2, and it is {classes}. One class leaves nothing to tell apart.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"'{name}' is at least 1, and it is {value}.")
    if not 0 < learning_rate < math.inf:
        raise ValueError(
            f"'learning_rate' is a number above 0, and it is {learning_rate}. 5e-3 is a good first choice."
        )
    images, labels = checked_pair((images, labels), "training", classes)
    torch_device = resolve_device(device)
    network = Classifier(tuple(images.shape[1:]), classes, generator=make_generator(seed, "weights")).to(torch_device)
    images, labels = images.to(torch_device), labels.to(torch_device)

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
            raise ValueError("'sampler' draws at least one index in an epoch, and it drew none. Pass a longer one.")
        batches = order.to(torch_device).tensor_split(math.ceil(len(order) / batch_size))
        for chosen in batches:
            x = to_unit(images[chosen])
            x = random_affine(x, generator) if affine else x
            loss = functional.cross_entropy(network(x), labels[chosen])
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * one_cycle(step, epochs * len(batches))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
        if not loss.isfinite():
            raise FloatingPointError(
                f"The cross-entropy is {loss.item()} after epoch {epoch + 1}: training diverged. "
                f"Lower 'learning_rate', which is {learning_rate}."
            )
    return network.eval()
