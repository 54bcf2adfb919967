r"""The networks whose features classifiers are trained on."""

__all__ = ["AUTOMATIC", "Backbone", "load_backbone"]

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.v2 import functional

from ..._utils.devices import resolve_device
from ..._utils.modules import evaluation_mode

AUTOMATIC = ("efficientnet_b0", "mobilenet_v3_large", "resnet18", "resnet50", "convnext_tiny")
"""The networks of torchvision that ``"auto"`` looks for, in this order."""

IMAGES_PER_BATCH = 8
"""The number of images that pass through a network together. The activations of few images fit into caches."""

DEFAULT_SIZE = 224


class Backbone(Protocol):
    r"""A fixed network: a callable that maps uint8 images, with shape (B, 3, S, S), to features, with shape (B, F).

    Attributes:
        name: The name of the network.
        size: The side :math:`S` of the images in pixels.
    """

    name: str
    size: int

    def __call__(self, images: Tensor) -> Tensor:
        r"""Returns the features of images."""


class _Function:
    r"""A network of the user's own."""

    def __init__(self, function: Callable[[Tensor], Any], name: str) -> None:
        self.function, self.name = function, name
        self.size = int(getattr(function, "size", DEFAULT_SIZE))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        # It may be a part of the network that is trained afterwards.
        with evaluation_mode(self.function):
            features = self.function(images)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            kind = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"The network {self.name} returned {kind} for {len(images)} images, but must return a tensor of "
                f"features with shape ({len(images)}, F). Flatten its output, or average it over positions."
            )
        if not features.isfinite().all():
            raise ValueError(
                f"The network {self.name} returned features that are not finite. It gets uint8 images from 0 to 255, "
                f"and must normalise them itself."
            )
        return features.float().cpu()


class _Torchvision:
    r"""A network of torchvision without its last layer, with the weights that lie in the cache of torch.hub."""

    def __init__(self, name: str, file: Path, device: torch.device) -> None:
        weights = models.get_model_weights(name).DEFAULT
        preset = weights.transforms()
        self.name, self.device, self.size = f"{name} ({weights})", device, int(preset.crop_size[0])
        self.mean, self.std = list(preset.mean), list(preset.std)
        # Initial weights are drawn from the global generator, and are not used.
        with torch.random.fork_rng(devices=[]):
            network = models.get_model(name, weights=None)
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(
                f"'backbone' is {name!r}, which has no linear last layer to leave out. Name another network, such as "
                f"{AUTOMATIC[0]}."
            )
        parent, _, last = linear[-1].rpartition(".")
        setattr(network.get_submodule(parent), last, nn.Identity())
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        features = []
        for batch in images.split(IMAGES_PER_BATCH if self.device.type == "cpu" else len(images)):
            x = functional.normalize(batch.to(self.device).float() / 255, self.mean, self.std)
            features.append(self.network(x.contiguous(memory_format=torch.channels_last)).flatten(1).cpu())
        return torch.cat(features)


def weights_file(name: str) -> Path:
    r"""Returns where torch.hub keeps the default weights of a network of torchvision."""
    url = models.get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def load_backbone(
    backbone: str | Callable[[Tensor], Any] | None, device: torch.device | str = "auto"
) -> Backbone | None:
    r"""Returns a network, or ``None`` for none, also if ``"auto"`` finds no weights. Nothing is downloaded.

    Args:
        backbone: ``"auto"``, ``"none"`` or ``None``, the name of a network of torchvision, ``"MODULE:FUNCTION"`` where
            the function returns a callable, or the callable itself. It maps uint8 images, with shape
            :math:`(B, 3, S, S)`, to features, with shape :math:`(B, F)`, and normalises images itself. Its attribute
            ``size`` is :math:`S`, by default 224.
        device: A torch device for torchvision's networks.

    Raises:
        ValueError: If there is no such network.
        FileNotFoundError: If the weights are not on disk.
        ModuleNotFoundError: If the module cannot be imported.
    """
    if backbone is None or backbone == "none":
        return None
    if not isinstance(backbone, str):
        if not callable(backbone):
            raise ValueError(f"'backbone' is {backbone!r}, but must be a name, a callable or None.")
        return _Function(backbone, type(backbone).__name__)
    if backbone == "auto":
        found = [name for name in AUTOMATIC if weights_file(name).is_file()]
        return _Torchvision(found[0], weights_file(found[0]), resolve_device(device)) if found else None
    if ":" in backbone:
        return _Function(_call(backbone), backbone)
    if backbone not in models.list_models(module=models):
        raise ValueError(
            f"'backbone' is {backbone!r}, which torchvision does not have. Choose 'auto', 'none', MODULE:FUNCTION, or "
            f"a name such as {', '.join(AUTOMATIC[:3])}."
        )
    file = weights_file(backbone)
    if not file.is_file():
        raise FileNotFoundError(
            f"The weights of {backbone} are not at {file}, and nothing is downloaded. Download them once: "
            f"torchvision.models.get_model({backbone!r}, weights='DEFAULT')."
        )
    return _Torchvision(backbone, file, resolve_device(device))


def _call(text: str) -> Callable[[Tensor], Any]:
    module, _, function = text.partition(":")
    # A script's own folder is on the path, but not the folder in which a command is typed.
    sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(import_module(module), function, None)
    finally:
        sys.path.pop(0)
    if not callable(factory):
        raise ValueError(
            f"'backbone' is {text!r}, but the module {module} has no function {function!r}. Name a function without "
            f"arguments that returns a callable from images to features."
        )
    network = factory()
    if not callable(network):
        raise ValueError(
            f"'backbone' is {text!r}, which returned a {type(network).__name__}, but must return a callable from uint8 "
            f"images, with shape (B, 3, {DEFAULT_SIZE}, {DEFAULT_SIZE}), to features, with shape (B, F)."
        )
    return network
