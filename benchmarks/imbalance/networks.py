r"""The classifiers: a small convolutional network for grey images, residual ones for images in colour."""

__all__ = ["build_classifier", "build_resnet32"]

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from gae_augment._utils.seeding import global_seed, make_generator
from gae_augment.evaluation import Classifier

WIDTHS = (32, 64, 128)


class Padded(nn.Module):
    r"""A shortcut without parameters: every second pixel, and as many channels of zeros as there are channels."""

    def forward(self, x: Tensor) -> Tensor:
        r"""Returns images of half the height and width, and twice the channels."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))


class ResNet(nn.Sequential):
    r"""A residual network for images of 32x32 pixels (He et al., 2015, https://arxiv.org/abs/1512.03385, section 4.2).

    Args:
        channels: The channels of an image.
        classes: The number of classes.
        widths: The channels of the three stages. All but the first halve the height and width.
        blocks: The number of blocks of two convolutions in each stage.
        stride: The stride of the first convolution.
        projects: Whether shortcuts between stages are convolutions; otherwise they have no parameters.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: tuple[int, ...] = WIDTHS,
        blocks: int = 1,
        stride: int = 2,
        projects: bool = True,
    ) -> None:
        width_in = widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width_in, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width_in),
            nn.ReLU(),
        ]
        for width in widths:
            shortcut: nn.Module | None = None
            if width != width_in and projects:
                shortcut = nn.Sequential(
                    nn.Conv2d(width_in, width, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(width)
                )
            elif width != width_in:
                shortcut = Padded()
            layers.append(BasicBlock(width_in, width, 1 if shortcut is None else 2, shortcut))
            layers.extend(BasicBlock(width, width) for _ in range(blocks - 1))
            width_in = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        r"""Returns the logits of images in [0, 1], from shape :math:`(B, C, H, W)` to (B, classes)."""
        logits: Tensor = super().forward(x.contiguous(memory_format=torch.channels_last))
        return logits


def build_classifier(shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    r"""Returns a classifier of images of shape :math:`(C, H, W)`, whose first weights depend on the seed alone.

    Images in colour have a network of three blocks. Its first convolution has a stride of 2, which makes it four times
    cheaper.
    """
    if shape[0] == 1:
        return Classifier(shape, classes, generator=make_generator(seed, "weights"))
    with global_seed(seed):
        return ResNet(shape[0], classes)


def build_resnet32(channels: int, classes: int, seed: int) -> nn.Module:
    r"""Returns the network of published trainings on CIFAR, whose first weights depend on the seed alone."""
    with global_seed(seed):
        return ResNet(channels, classes, widths=(16, 32, 64), blocks=5, stride=1, projects=False)
