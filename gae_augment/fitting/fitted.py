r"""The fitted model of one class: from images to codes and back, in the user's values."""

__all__ = ["FitReport", "FittedModel"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from .._utils.chunks import chunk_size, map_chunks
from .._utils.devices import resolve_device, to_device
from .._utils.storage import new_images
from ..data import ValueScale
from ..models import (
    DENSITIES,
    MODELS,
    Autoencoder,
    LatentDensity,
    Likelihood,
    ModelDefinition,
    build_autoencoder,
    resolve_definition,
)
from .plan import Plan
from .training import likelihood_for

IMAGES_PER_CHUNK = 500
"""The maximum number of images that pass through the network together."""


@dataclass(frozen=True)
class FitReport:
    r"""The result of one class's fit in numbers.

    Attributes:
        images: The number of real images of the class.
        epochs: The epochs of the training.
        reconstruction_error: The excess reconstruction error of the training images, in nats per pixel.
        delta: The boundary :math:`\delta`, in nats per pixel: the user's, or with ``"auto"`` the least error of
            held-out images. With fewer than 200 images, ``"auto"`` is a fraction of the mean image's error. ``None``
            without early stopping.
        delta_reached: Whether the error fell below the boundary, or stopped falling if that is the rule; ``None``
            without early stopping.
        n_components: The number of components of the latent density.
        seconds: The duration of the fit.
        retries: How often training diverged and started again with a smaller learning rate, in float32.
        curve: The error during training: pairs of an epoch and the error after it, of held-out images where there are
            any, in nats per pixel.
        plan: Every choice of the fit; ``print(report.plan)`` shows what ``"auto"`` was resolved to.
    """

    images: int
    epochs: int
    reconstruction_error: float
    delta: float | None
    delta_reached: bool | None
    n_components: int
    seconds: float
    plan: Plan = field(repr=False)
    retries: int = 0
    curve: tuple[tuple[int, float], ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        r"""Returns plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], plan: Plan) -> Self:
        r"""Returns the report of plain values, such as those of a file.

        Raises:
            KeyError, TypeError, ValueError: If the values are not those of a report.
        """
        reached = values["delta_reached"]
        if reached not in (True, False, None):
            raise ValueError(f"'delta_reached' is {reached!r}, but must be true, false or null")
        return cls(
            images=int(values["images"]),
            epochs=int(values["epochs"]),
            reconstruction_error=float(values["reconstruction_error"]),
            delta=None if values["delta"] is None else float(values["delta"]),
            delta_reached=reached,
            n_components=int(values["n_components"]),
            seconds=float(values["seconds"]),
            retries=int(values["retries"]),
            curve=tuple((int(epoch), float(error)) for epoch, error in values["curve"]),
            plan=plan,
        )


class FittedModel:
    r"""The fitted model of one class.

    Args:
        plan: The plan of the fit.
        definition: The definition of the model.
        values: The value scale of the images.

    Attributes:
        network: The autoencoder, on the CPU.
        density: The density of new codes.
        limits: The range of the training codes in each dimension, with shape :math:`(2, d)`, if new codes
            must stay within it.
        report: The result in numbers.
        anchors: The training images, in the user's values, if the plan keeps them.
        anchor_codes: Their codes, computed when samples first need them.
    """

    network: Autoencoder
    density: LatentDensity
    report: FitReport
    limits: Tensor | None = None
    anchors: Tensor | None = None
    anchor_codes: Tensor | None = None

    def __init__(self, plan: Plan, definition: ModelDefinition, values: ValueScale) -> None:
        self.plan = plan
        self.definition = definition
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        r"""The shape of one image."""
        return self.plan.shape

    @property
    def likelihood(self) -> Likelihood:
        r"""The distribution of a pixel given a code."""
        return likelihood_for(self.values)

    def build_network(self, generator: torch.Generator | None) -> Autoencoder:
        r"""Returns a network as planned, with weights from a generator; without one, on the meta device."""
        return build_autoencoder(
            self.plan.shape,
            self.plan.latent_dim,
            self.plan.architecture,
            stochastic=self.definition.stochastic,
            generator=generator,
        ).requires_grad_(generator is not None)

    def build_density(self) -> LatentDensity:
        r"""Returns the planned density, not fitted yet."""
        if self.plan.density == "mixture":
            return DENSITIES["mixture"](self.plan.max_components, min_components=self.plan.min_components)
        return DENSITIES[self.plan.density]()

    @contextmanager
    def on_device(self) -> Iterator[torch.device]:
        r"""Moves the network to the device of the plan, and back to the CPU afterwards."""
        device = torch.device(self.plan.device)
        self.network.to(device)
        try:
            yield device
        finally:
            self.network.cpu()

    def encode(self, images: Tensor) -> Tensor:
        r"""Returns the codes of images of shape :math:`(N, *)`, with shape :math:`(N, d)`, on the network's device."""
        device = next(self.network.parameters()).device

        @torch.no_grad()
        def encode_chunk(chunk: slice) -> Tensor:
            return self.network.encode(self.values.to_network(to_device(images[chunk], device)))

        size = chunk_size(IMAGES_PER_CHUNK, self.shape)
        return torch.cat([codes for _, codes in map_chunks(encode_chunk, len(images), size, device)])

    def decode(self, z: Tensor, out: Tensor | None = None) -> Tensor:
        r"""Returns the images of codes of shape :math:`(N, d)`, in the user's type and value range, on the CPU.

        Args:
            z: The codes.
            out: A tensor to write the images to; by default new memory.
        """
        images = self.empty_images(len(z)) if out is None else out
        with self.on_device() as device:
            z = z.float().to(device)

            @torch.no_grad()
            def decode_chunk(chunk: slice) -> Tensor:
                return self.values.from_network(self.likelihood.mean(self.network.decode(z[chunk]))).cpu()

            for chunk, decoded in map_chunks(decode_chunk, len(z), chunk_size(IMAGES_PER_CHUNK, self.shape), device):
                # Torch would split the copy among threads, which then compete with the decoding threads.
                images.numpy()[chunk] = decoded.numpy()
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        r"""Returns the autoencoder's reconstructions of images of shape :math:`(N, *)`.

        Raises:
            ValueError: If the images have another shape than in the fit.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"The images have shape {tuple(images.shape)}, but the model was fitted to images of shape "
                f"(N, {', '.join(map(str, self.shape))}). Resize them."
            )
        return self.decode(self.encode(images))

    def empty_images(self, n: int) -> Tensor:
        r"""Returns memory for n images of the class, uninitialised."""
        return new_images((n, *self.shape), self.values.dtype, None)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        r"""Returns the fitted model as plain values for a JSON header, and tensors."""
        report = self.report.as_dict()
        del report["plan"]
        header = {
            "plan": asdict(self.plan),
            "values": {"kind": self.values.kind, "dtype": str(self.values.dtype).removeprefix("torch.")},
            "report": report,
        }
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"density.{name}": tensor for name, tensor in self.density.state_dict().items()}
        if self.anchors is not None:
            tensors["anchors.images"] = self.anchors
        if self.limits is not None:
            tensors["codes.limits"] = self.limits
        if self.values.mean is not None and self.values.deviation is not None and self.values.bounds is not None:
            tensors |= {"values.mean": self.values.mean, "values.deviation": self.values.deviation}
            tensors["values.bounds"] = self.values.bounds
        return header, tensors

    @classmethod
    def from_state_dict(
        cls,
        header: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        definitions: Mapping[str, ModelDefinition] = MODELS,
        device: torch.device | str = "auto",
    ) -> Self:
        r"""Returns the fitted model of :meth:`state_dict`.

        Args:
            header: Its plain values.
            tensors: Its tensors.
            definitions: Custom definitions of models, by name.
            device: The device of sampling, which may differ from that of the fit.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: If header and tensors are not those of a fitted model.
        """
        plan = replace(Plan.from_plain(header["plan"]), device=str(resolve_device(device)))
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "density": {}, "values": {}, "anchors": {}, "codes": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        values = ValueScale.from_plain(header["values"], groups["values"], plan.shape)
        self = cls(plan, resolve_definition(definitions.get(plan.model, plan.model)), values)
        # On the meta device the network takes no memory until its tensors are known to fit.
        self.network, self.density = self.build_network(generator=None), self.build_density()
        _require(all(tensor.dtype == torch.float32 for tensor in groups["network"].values()), "weights must be float32")
        self.network.load_state_dict(groups["network"], assign=True)
        self.network.requires_grad_(False)
        self.density.load_state_dict(groups["density"])
        _require(
            self.density.latent_dim == plan.latent_dim,
            f"codes have {plan.latent_dim} dimensions, but those of the density have {self.density.latent_dim}",
        )
        self.anchors = groups["anchors"].get("images")
        if self.anchors is not None:
            matches = len(self.anchors) and tuple(self.anchors.shape[1:]) == plan.shape
            _require(bool(matches) and self.anchors.dtype == values.dtype, "anchors must be images of the class")
            _require(plan.keeps_images, "there are training images, but the plan keeps none")
        self.limits = groups["codes"].get("limits")
        if self.limits is not None:
            _require(self.limits.shape == (2, plan.latent_dim), f"limits must have {plan.latent_dim} dimensions")
        self.report = FitReport.from_plain(header["report"], plan)
        return self


def _require(condition: bool, rule: str) -> None:
    r"""Raises a ValueError with a rule that the content of a file breaks."""
    if not condition:
        raise ValueError(rule)
