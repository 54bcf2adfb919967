r"""The classifiers: a small convolutional network for grey images, a residual one for images in colour."""

__all__ = ["build_classifier"]

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from gae_augment._utils.seeding import global_seed, make_generator
from gae_augment.evaluation import Classifier

WIDTHS = (32, 64, 128)


class ResNet(nn.Sequential):
    r"""A residual network for images of 32x32 pixels, after He et al. (1512.03385, section 4.2), of three blocks.

    The first convolution has a stride of 2, which makes it four times cheaper.

    Args:
        channels: The channels of an image.
        classes: The number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels, WIDTHS[0], kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(),
        ]
        width_in = WIDTHS[0]
        for width in WIDTHS:
            stride = 1 if width == width_in else 2
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(
                    nn.Conv2d(width_in, width, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(width)
                )
            layers.append(BasicBlock(width_in, width, stride, shortcut))
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
    r"""Returns a classifier of images of shape :math:`(C, H, W)`, whose first weights depend on the seed alone."""
    if shape[0] == 1:
        return Classifier(shape, classes, generator=make_generator(seed, "weights"))
    with global_seed(seed):
        return ResNet(shape[0], classes)
