r"""The fitted model of one class, which maps images to codes and codes to images."""

__all__ = ["IMAGES_PER_CHUNK", "FitReport", "FittedModel"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from .._utils.checks import check_tensor
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
from .saved_plans import plan_from_plain
from .training import likelihood_for

IMAGES_PER_CHUNK = 500
"""The maximum number of images that pass through the network together."""


@dataclass(frozen=True)
class FitReport:
    r"""A report on the fit of one class.

    All errors are excess reconstruction errors in nats per pixel. A perfect reconstruction has an excess error of 0.

    Attributes:
        images: The number of real images that the model learned from: all of the class, or at most 300 for motions.
        epochs: The number of epochs trained.
        reconstruction_error: The mean error of training images after training.
        delta: The model's ``delta`` if it is a number. With ``"auto"``, the smallest error in ``curve``. For fewer than
            200 images (not vectors), 30 % of the error if every reconstruction is the mean image. ``None`` if the
            model's definition disables early stopping.
        delta_reached: Whether the error fell below ``delta`` or, if ``delta`` is the smallest error, stopped falling.
            ``None`` if ``delta`` is ``None``.
        n_components: The number of mixture components of the latent density.
        seconds: The duration of the fit, in seconds.
        retries: The number of restarts after training diverged.
        curve: Pairs (epoch, error after this epoch). The fit measures the error on held-out images if it has any, else
            on training images.
        plan: The settings of the fit. ``print(report.plan)`` shows one setting per line.
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
        r"""Returns the report as a dictionary of plain values, which JSON supports."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], plan: Plan) -> Self:
        r"""Returns the report that plain values describe.

        Args:
            values: The output of :meth:`as_dict`, with or without ``"plan"``.
            plan: The plan of the fit.

        Raises:
            KeyError, TypeError, ValueError: If the values do not describe a report.
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
    r"""A generative model, fitted to the images of one class.

    Args:
        plan: The settings of training and sampling.
        definition: The model's objective, latent density and type of encoder.
        values: The conversion from image values to network inputs, and back.

    Attributes:
        network: The autoencoder.
        density: The latent density, the distribution of new codes.
        limits: The minimum (row 0) and the maximum (row 1) of the training images' codes in each latent dimension, with
            shape :math:`(2, d)`. If a new code is outside the limits, another is drawn. ``None`` sets no limits.
        report: The report on the fit.
        anchors: The training images, in the user's type and value range. ``None`` if sampling does not need them.
        codes: The codes of the training images, with shape :math:`(N, d)`. ``None`` for vectors without ``anchors``,
            and in files of early versions.
        explained: The fraction of the training images' variance that the reconstructions explain, in [0, 1]. 1 for
            vectors, and in files of early versions.
    """

    network: Autoencoder
    density: LatentDensity
    report: FitReport
    limits: Tensor | None = None
    anchors: Tensor | None = None
    codes: Tensor | None = None
    explained: float = 1.0

    def __init__(self, plan: Plan, definition: ModelDefinition, values: ValueScale) -> None:
        self.plan = plan
        self.definition = definition
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        r"""The shape of one image: :math:`(C, H, W)`, :math:`(H, W)` or :math:`(F,)`."""
        return self.plan.shape

    @property
    def likelihood(self) -> Likelihood:
        r"""The distribution of a pixel given the decoder's output."""
        return likelihood_for(self.values)

    def build_network(self, generator: torch.Generator | None) -> Autoencoder:
        r"""Returns an untrained autoencoder, as specified by ``self.plan``.

        Args:
            generator: The random number generator of the weights. ``None`` returns a network without weights, on
                PyTorch's meta device.
        """
        return build_autoencoder(
            self.plan.shape,
            self.plan.latent_dim,
            self.plan.architecture,
            stochastic=self.definition.stochastic,
            generator=generator,
        ).requires_grad_(generator is not None)

    def build_density(self) -> LatentDensity:
        r"""Returns an unfitted latent density, as specified by ``self.plan``."""
        if self.plan.density == "mixture":
            return DENSITIES["mixture"](self.plan.max_components, min_components=self.plan.min_components)
        return DENSITIES[self.plan.density]()

    @contextmanager
    def on_device(self) -> Iterator[torch.device]:
        r"""Context manager: moves the network to the device of ``self.plan``, and yields this device.

        At the end, the network moves back to the CPU.
        """
        device = torch.device(self.plan.device)
        self.network.to(device)
        try:
            yield device
        finally:
            self.network.cpu()

    def encode(self, images: Tensor) -> Tensor:
        r"""Returns the codes of images, with shape :math:`(N, d)`, on the network's device.

        Here :math:`d` is the latent dimension. If the encoder is stochastic, the codes are the posterior means.

        Args:
            images: The images, with shape :math:`(N, *)`, in the user's type and value range.
        """
        device = next(self.network.parameters()).device

        @torch.no_grad()
        def encode_chunk(chunk: slice) -> Tensor:
            return self.network.encode(self.values.to_network(to_device(images[chunk], device)))

        size = chunk_size(IMAGES_PER_CHUNK, self.shape)
        return torch.cat([codes for _, codes in map_chunks(encode_chunk, len(images), size, device)])

    def training_codes(self) -> Tensor:
        r"""Returns the codes of the training images, with shape :math:`(N, d)`.

        Files of early versions hold the images without their codes, which are then computed at the first call.
        """
        if self.codes is None:
            assert self.anchors is not None
            self.codes = self.encode(self.anchors).cpu()
        return self.codes

    def decode(self, z: Tensor, out: Tensor | None = None) -> Tensor:
        r"""Returns the images decoded from codes, in the user's type and value range, on the CPU.

        Args:
            z: The codes, with shape :math:`(N, d)`, where :math:`d` is the latent dimension.
            out: A CPU tensor that the method fills and returns. ``None`` creates a new tensor.
        """
        check_tensor(z, "z")
        images = self.empty_images(len(z)) if out is None else out
        with self.on_device() as device:
            z = z.float().to(device)

            @torch.no_grad()
            def decode_chunk(chunk: slice) -> Tensor:
                return self.values.from_network(self.likelihood.mean(self.network.decode(z[chunk]))).cpu()

            for chunk, decoded in map_chunks(decode_chunk, len(z), chunk_size(IMAGES_PER_CHUNK, self.shape), device):
                # NumPy copies, because torch would use several threads, which compete with the decoding threads.
                images.numpy()[chunk] = decoded.numpy()
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        r"""Returns the autoencoder's reconstructions of images, in the shape, type and value range of the images.

        Args:
            images: The images, with shape :math:`(N, *)`, in the user's type and value range.

        Raises:
            ValueError: If the images do not have the shape of the training images.
        """
        check_tensor(images, "images")
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"The images have shape {tuple(images.shape)}, but the model was fitted to images of shape "
                f"(N, {', '.join(map(str, self.shape))}). Resize them."
            )
        return self.decode(self.encode(images))

    def empty_images(self, n: int) -> Tensor:
        r"""Returns an uninitialised CPU tensor for ``n`` images, with shape :math:`(n, *)`."""
        return new_images((n, *self.shape), self.values.dtype, None)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        r"""Returns a header that JSON supports, and the tensors of the fitted model by name."""
        report = self.report.as_dict()
        del report["plan"]
        header = {
            "plan": asdict(self.plan),
            "values": {"kind": self.values.kind, "dtype": str(self.values.dtype).removeprefix("torch.")},
            "report": report,
            "explained": self.explained,
        }
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"density.{name}": tensor for name, tensor in self.density.state_dict().items()}
        if self.anchors is not None:
            tensors["anchors.images"] = self.anchors
        if self.codes is not None:
            tensors["codes.training"] = self.codes
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
        r"""Returns the fitted model that the output of :meth:`state_dict` describes.

        Args:
            header: The header.
            tensors: The tensors by name.
            definitions: All model definitions that ``header`` may name, by name.
            device: The device of sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: If ``header`` and ``tensors`` do not describe a fitted model.
        """
        plan = replace(plan_from_plain(header["plan"]), device=str(resolve_device(device)))
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "density": {}, "values": {}, "anchors": {}, "codes": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        values = ValueScale.from_plain(header["values"], groups["values"], plan.shape)
        self = cls(plan, resolve_definition(definitions.get(plan.model, plan.model)), values)
        # On the meta device the network takes no memory before the shapes of the tensors are checked.
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
        self.explained = header["explained"]
        _require(
            type(self.explained) in (int, float) and 0 <= self.explained <= 1,
            "the explained fraction of the variance must be a number between 0 and 1",
        )
        self.codes = groups["codes"].get("training")
        if self.codes is not None:
            count = plan.images if self.anchors is None else len(self.anchors)
            _require(self.codes.dtype == torch.float32, "codes of training images must be float32")
            _require(
                self.codes.shape == (count, plan.latent_dim),
                f"codes of training images must have shape {(count, plan.latent_dim)}",
            )
        self.limits = groups["codes"].get("limits")
        if self.limits is not None:
            _require(self.limits.shape == (2, plan.latent_dim), f"limits must have {plan.latent_dim} dimensions")
        self.report = FitReport.from_plain(header["report"], plan)
        return self


def _require(condition: bool, rule: str) -> None:
    r"""Raises a ValueError with the message ``rule`` if ``condition`` is false."""
    if not condition:
        raise ValueError(rule)
