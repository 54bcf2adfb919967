r"""A generator: the generative model of one class."""

__all__ = ["FitReport", "Generator", "Progress", "silent"]

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from ._utils.seeding import derive_seed, make_generator
from ._utils.storage import new_images, take
from ._utils.threads import map_in_threads, use_threads
from .data import ValueScale
from .devices import resolve_device
from .fitting import (
    AT_MOST_CHECKED,
    FLAT,
    PREPARED_VALUES,
    RESOLVED,
    VALUES_AT_ONCE,
    TrainingLog,
    at_once,
    spread,
    train,
)
from .models import (
    DENSITIES,
    Autoencoder,
    GaussianMixture,
    GeneratorSettings,
    LatentDensity,
    Model,
    Objective,
    build_autoencoder,
    resolve_model,
)
from .synthesis import aligned_nearest

Progress = Callable[[float, float | None], None]
"""What is told the reconstruction error and the boundary, in nats per pixel; the latter is None while there is none."""


Result = TypeVar("Result")


def silent(error: float, delta: float | None) -> None:
    r"""Shows nothing."""


LEAST_IMAGES = 2
"""The fewest images that a generator learns from."""

STEPS = 600
"""The optimiser's steps that ``epochs="auto"`` provides for."""

HOLD_OUT_FROM = 200
"""From so many images on, a tenth of them is held out to see when the error stops falling."""

PART_OF_SPREAD = 0.3
"""The boundary for fewer images, as a part of their spread."""

RESOLVED_VECTORS = 1e-5
"""The excess error, in nats per feature, below which nothing is left to learn of vectors: half a percent of spread."""

CENTRED_ON = 5000
"""The mean image is taken over at most so many."""

DECODED_AT_ONCE = 500

MOST_COMPONENTS = 80
"""The most components of a mixture that ``components="auto"`` tries, a number that doubling comes to."""

LIMITS_FROM = 20
"""From so many codes for each dimension on, new codes keep within the range of these."""

REDRAWS = 20
"""How often codes beyond the range are drawn anew, at most."""

INDEXED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}
"""What holds the values of types that CUDA cannot index: its unsigned integers are bytes."""

WORSE = 10
"""Who ends with an error of more than so many times that of the mean image has learned nothing."""

PARTS_OF_RATE = (1.0, 0.1, 0.01)
"""The parts of the learning rate that are tried, each after the training diverged with the one before."""

LEARNED_COMPONENTS = 10
"""The components of a mixture that is learned with the network, where ``components="auto"``."""


@dataclass(frozen=True)
class FitReport:
    r"""What one class's fit came to.

    Attributes:
        images: The real images of the class.
        epochs: The epochs trained.
        reconstruction_error: The excess reconstruction error of the training images, in nats per pixel.
        delta: The boundary :math:`\delta`, in nats per pixel: the one that was asked for, or with ``"auto"`` the one
            that was found: from 200 images on the least error of those held out, below that a part of the error
            that the mean image has. ``None`` for a model that trains for all its epochs.
        delta_reached: Whether the error came below it, or stopped falling where the boundary is that very point;
            ``None`` where there is no boundary.
        components: The components of the latent density.
        seconds: The time that the fit took.
        retries: How often the training diverged and was begun again with more careful settings, which the generator
            then has.
        curve: The error on its way down: after how many epochs it was measured, and what it was, of held-out images
            where there are any, in nats per pixel.
    """

    images: int
    epochs: int
    reconstruction_error: float
    delta: float | None
    delta_reached: bool | None
    components: int
    seconds: float
    retries: int = 0
    curve: tuple[tuple[int, float], ...] = field(default=(), repr=False)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        r"""Returns the report that ``dataclasses.asdict`` made plain values of.

        Raises:
            KeyError, TypeError, ValueError: If they are none.
        """
        reached = values["delta_reached"]
        if reached not in (True, False, None):
            raise ValueError(f"whether delta was reached is true, false or null, and it is {reached!r}")
        return cls(
            images=int(values["images"]),
            epochs=int(values["epochs"]),
            reconstruction_error=float(values["reconstruction_error"]),
            delta=None if values["delta"] is None else float(values["delta"]),
            delta_reached=reached,
            components=int(values["components"]),
            seconds=float(values["seconds"]),
            # Files of the first versions have neither.
            retries=int(values.get("retries", 0)),
            curve=tuple((int(epoch), float(error)) for epoch, error in values.get("curve", ())),
        )


def as_maps(images: Tensor) -> Tensor:
    r"""Returns images with an axis of channels, with shape :math:`(N, C, H, W)`."""
    return images if images.ndim == 4 else images.unsqueeze(1)


def _on(device: torch.device, images: Tensor) -> Tensor:
    r"""Returns images on a device, in a type that can be indexed there."""
    return images.to(INDEXED.get(images.dtype, images.dtype)).to(device)


def _side_by_side(
    function: Callable[[slice], Result], n: int, most: int, device: torch.device
) -> Iterator[tuple[slice, Result]]:
    r"""Yields the parts, of so many at most, of n things, and what a function makes of them.

    A GPU does one after another. The function must not write to what outlives it: of calls that are broken off some
    go on for a while.
    """
    parts = [slice(start, min(start + most, n)) for start in range(0, max(n, 1), most)]
    results = map(function, parts) if device.type == "cuda" else map_in_threads(function, parts)
    yield from zip(parts, results, strict=True)


class Generator:
    r"""Learns the images of one class, and makes new ones.

    Args:
        settings: What it is made of.

    Example:
        >>> images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> generator = Generator(GeneratorSettings(epochs=2)).fit(images, seed=0)
        >>> generator.sample(3, seed=1).shape
        torch.Size([3, 1, 8, 8])
    """

    shape: tuple[int, ...]
    values: ValueScale
    network: Autoencoder
    density: LatentDensity
    report: FitReport
    anchors: Tensor | None = None
    limits: Tensor | None = None
    _anchor_codes: Tensor | None = None
    _prior: LatentDensity | None = None

    def __init__(self, settings: GeneratorSettings | None = None) -> None:
        self.settings = settings or GeneratorSettings()
        self.model = resolve_model(self.settings.model)

    def fit(
        self,
        images: Tensor,
        *,
        seed: int,
        values: ValueScale | None = None,
        progress: Progress = silent,
    ) -> Self:
        r"""Trains the network, then fits the density to the codes.

        Args:
            images: The images of the class, with shape :math:`(N, *)`, :math:`N \geq 2`.
            seed: What everything random depends on.
            values: The scale of the values, if it is known from more images than these.
            progress: Called with the reconstruction error and the boundary, both in nats per pixel, whenever the error
                is measured; the boundary is ``None`` while it is not known.

        Raises:
            ValueError: If there are too few images, or the settings do not suit them.
            FloatingPointError: If training diverged, and did so again with smaller learning rates in float32.
        """
        if len(images) < LEAST_IMAGES:
            raise ValueError(f"A generator needs at least {LEAST_IMAGES} images, and there are {len(images)}.")
        self.settings.check_shape(tuple(images.shape[1:]))
        start = time.perf_counter()
        self.values = values or ValueScale.of(images)
        self.limits = None
        self.shape = tuple(images.shape[1:])
        anchors = images.cpu()
        images = _on(resolve_device(self.settings.device), images)
        given = self.settings
        for retries, part in enumerate(PARTS_OF_RATE):
            if retries:
                self.settings = replace(given, learning_rate=part * given.learning_rate, precision="float32")
            try:
                log, delta = self._learn(images, anchors, seed, progress)
                break
            except FloatingPointError:
                if part == PARTS_OF_RATE[-1]:
                    self.settings = given
                    raise
        self.report = FitReport(
            images=len(images),
            epochs=log.epochs,
            reconstruction_error=log.training_error,
            delta=delta,
            delta_reached=None if delta is None else log.reached,
            components=self.density.components,
            seconds=time.perf_counter() - start,
            retries=retries,
            curve=tuple(zip(log.checked_after, log.errors, strict=True)),
        )
        self.network.cpu()
        return self

    def _learn(
        self, images: Tensor, anchors: Tensor, seed: int, progress: Progress
    ) -> tuple[TrainingLog, float | None]:
        r"""Trains the network and fits the density, and returns the log and the boundary."""
        with use_threads(self.settings.n_threads):
            log, delta = self._train(images, seed, progress)
            worst = WORSE * max(spread(images[:AT_MOST_CHECKED], self.values), FLAT)
        if self.model.bounded and log.training_error > worst:
            raise FloatingPointError(
                f"The reconstruction error is {log.training_error} in the end, more than {WORSE} times that of the "
                f"mean image: training diverged. Lower 'learning_rate', which is {self.settings.learning_rate}."
            )
        self.anchors = anchors if self.settings.keeps_images_of(self.shape) else None
        self._anchor_codes = None
        if self.settings.density == "auto" and self._prior is not None:
            self.density = self._prior
        else:
            codes = self.encode(images)
            if not codes.isfinite().all():
                raise FloatingPointError("Codes of training images are not finite numbers: training diverged.")
            self._anchor_codes = None if self.anchors is None else codes.cpu()
            self.density.fit(codes, seed=derive_seed(seed, "density"))
            own = isinstance(self.density, GaussianMixture) and self.settings.truncated
            if own and len(codes) >= LIMITS_FROM * codes.shape[1]:
                self.limits = torch.stack([codes.amin(dim=0), codes.amax(dim=0)]).cpu().double()
        return log, delta

    def _train(self, images: Tensor, seed: int, progress: Progress) -> tuple[TrainingLog, float | None]:
        r"""Trains the network until the error is below the boundary, and returns the log and the boundary.

        With ``delta="auto"`` a large class holds out a tenth of its images, and the network with the least error on
        them is kept. A small class cannot spare any, and learnt by heart its samples are worse than coarse ones: there
        the boundary is a part of the error that the mean image has. A model without a boundary trains on.
        """
        if not self.model.bounded:
            return self._train_until(0.0, images, seed, progress), None
        if self.settings.delta != "auto":
            return self._train_until(self.settings.delta, images, seed, progress), self.settings.delta
        if len(self.shape) == 1 and len(images) < HOLD_OUT_FROM:
            log = self._train_until(None, images, seed, progress)
            return log, max(min(log.errors), RESOLVED_VECTORS)
        if len(images) < HOLD_OUT_FROM:
            delta = max(PART_OF_SPREAD * spread(images, self.values), RESOLVED)
            return self._train_until(delta, images, seed, progress), delta
        order = torch.randperm(len(images), generator=make_generator(seed, "held out")).to(images.device)
        spared = len(images) // 10
        # Of those that are held out only so many are looked at; of the others there is no copy.
        held_out = images[order[: min(spared, AT_MOST_CHECKED)]]
        log = self._train_until(None, images, seed, progress, rows=order[spared:], held_out=held_out)
        return log, min(log.errors)

    def _train_until(
        self,
        delta: float | None,
        images: Tensor,
        seed: int,
        progress: Progress,
        *,
        rows: Tensor | None = None,
        held_out: Tensor | None = None,
    ) -> TrainingLog:
        settings = self.settings
        rows = torch.arange(len(images), device=images.device) if rows is None else rows
        steps_per_epoch = math.ceil(len(rows) / settings.batch_size)
        epochs = math.ceil(STEPS / steps_per_epoch) if settings.epochs == "auto" else settings.epochs
        starts = self.settings.starts_for(self.shape)
        # The first weights share half of the epochs evenly, and the best ones have the other half for themselves.
        trial_epochs = epochs // (2 * starts) if starts > 1 else 0

        def trained(start: int, epochs: int, **options: Any) -> tuple[TrainingLog, Objective]:
            objective = self.model.objective(self.values.likelihood)
            log = train(
                self.network,
                objective,
                images,
                self.values,
                rows=rows,
                epochs=epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                precision=settings.precision_for(self.shape, images.device),
                components=settings.component_range(LEARNED_COMPONENTS)[1],
                generator=make_generator(seed, "batches", *([start] if start else [])),
                resolved=RESOLVED_VECTORS if len(self.shape) == 1 else RESOLVED,
                **options,
            )
            return log, objective

        centred_on = at_once(CENTRED_ON, self.shape, PREPARED_VALUES)
        tried: list[tuple[float, Autoencoder]] = []
        for start in range(starts):
            self._build(make_generator(seed, "weights", *([start] if start else [])))
            self.network.to(images.device)
            self.network.centre(self.values.to_network(images[rows[:centred_on]]), self.values.likelihood)
            if trial_epochs:
                log, _ = trained(start, trial_epochs, delta=0.0, schedule="constant")
                tried.append((log.errors[-1], self.network))
        if tried:
            self.network = min(tried, key=lambda one: one[0])[1]
        log, objective = trained(
            0,
            epochs - starts * trial_epochs,
            held_out=held_out,
            delta=delta,
            schedule=settings.schedule,
            progress=lambda error: progress(error, delta or None),
        )
        log.epochs += starts * trial_epochs
        log.checked_after = [epoch + starts * trial_epochs for epoch in log.checked_after]
        self._prior = objective.prior(self.network)
        return log

    def _build(self, generator: torch.Generator | None) -> None:
        settings = self.settings
        self.network = build_autoencoder(
            self.shape,
            settings.latent_dim_for(self.shape),
            settings.architecture,
            stochastic=self.model.stochastic,
            generator=generator,
        ).requires_grad_(generator is not None)
        density = self.model.density if settings.density == "auto" else settings.density
        least, most = settings.component_range(MOST_COMPONENTS)
        self.density = DENSITIES[density](most, min_components=least) if density == "mixture" else DENSITIES[density]()

    def encode(self, images: Tensor) -> Tensor:
        r"""Returns the codes of images of shape :math:`(N, *)`, with shape :math:`(N, d)`, on the network's device."""
        device = next(self.network.parameters()).device

        @torch.no_grad()
        def encoded(part: slice) -> Tensor:
            return self.network.encode(self.values.to_network(_on(device, images[part])))

        most = at_once(DECODED_AT_ONCE, self.shape)
        return torch.cat([codes for _, codes in _side_by_side(encoded, len(images), most, device)])

    def decode(self, z: Tensor, out: Tensor | None = None) -> Tensor:
        r"""Returns the images of codes of shape :math:`(N, d)`, in the user's type and value range, on the CPU.

        Args:
            z: The codes.
            out: Where the images are written to, if not to new memory.
        """
        images = self._new(len(z)) if out is None else out
        with self._on_device() as device:
            z = z.float().to(device)

            @torch.no_grad()
            def decoded(part: slice) -> Tensor:
                return self.values.from_network(self.network.decode(z[part])).cpu()

            for part, made in _side_by_side(decoded, len(z), at_once(DECODED_AT_ONCE, self.shape), device):
                # Torch would share the copy among threads, which then spin beside those that decode.
                images.numpy()[part] = made.numpy()
        return images

    def _new(self, n: int) -> Tensor:
        return new_images((n, *self.shape), self.values.dtype, None)

    @contextmanager
    def _on_device(self) -> Iterator[torch.device]:
        r"""Lends the network to the device that the work is done on."""
        device = resolve_device(self.settings.device)
        self.network.to(device)
        try:
            yield device
        finally:
            self.network.cpu()

    def reconstruct(self, images: Tensor) -> Tensor:
        r"""Returns images of shape :math:`(N, *)` as the autoencoder gives them back."""
        return self.decode(self.encode(images))

    def sample(self, n: int, *, seed: int, out: Tensor | None = None) -> Tensor:
        r"""Returns :math:`n` new images, with shape :math:`(n, *)`, in the user's type and value range.

        A new code :math:`z` is decoded. Anchored, the image is :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`, where
        :math:`x_i` is the training image whose code :math:`z_i` is nearest to it: what the autoencoder cannot reproduce
        is kept from a real image, and the model moves it.

        Args:
            n: The number of images.
            seed: What the images depend on, besides the fit.
            out: Where the images are written to, if not to new memory.

        Raises:
            RuntimeError: If ``max_similarity`` cannot be kept.
        """
        generator = make_generator(seed, "sample")
        images = self._new(n) if out is None else out
        self._draw(images, generator)
        most = self.settings.max_similarity
        if most is None:
            return images
        close = self._similarity(images) > most
        for _ in range(REDRAWS):
            if not close.any():
                return images
            places = close.nonzero().flatten()
            again = self._draw(self._new(len(places)), generator)
            # NumPy has all types here, and torch has not.
            images.numpy()[places.numpy()] = again.numpy()
            close[places] = self._similarity(again) > most
        if close.any():
            raise RuntimeError(
                f"New images are to have a similarity of at most {most:g} with every training image, and after "
                f"{REDRAWS} more draws {int(close.sum())} of {n} have not. Raise 'max_similarity', or 'anchored', "
                f"which moves images away from those that they come from, or leave the class without new images."
            )
        return images

    def _draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        r"""Writes new images to a tensor, and returns it."""
        with use_threads(1):
            z = self.draw_codes(len(images), generator)
        if self.settings.reach_for(self.shape) is None or self.anchors is None:
            return self.decode(z, images)
        return self._decode_anchored(z, self.anchors, images)

    def _similarity(self, images: Tensor) -> Tensor:
        r"""Returns the correlation of images with the training image that each is most like, in the end of moving."""
        assert self.anchors is not None
        training = as_maps(self.values.to_network(_on(torch.device("cpu"), self.anchors)))

        def of(part: slice) -> Tensor:
            made = self.values.to_network(_on(torch.device("cpu"), images[part]))
            return 1 - aligned_nearest(as_maps(made), training)[0]

        most = at_once(DECODED_AT_ONCE, self.shape)
        return torch.cat([own for _, own in _side_by_side(of, len(images), most, torch.device("cpu"))])

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Returns :math:`n` new codes, with shape :math:`(n, d)`.

        A code of a fitted mixture that lies beyond all training codes in a dimension is drawn anew: out there the
        decoder was never trained.
        """
        z = self.density.sample(n, generator)
        if self.limits is None:
            return z
        for _ in range(REDRAWS):
            outside = ((z < self.limits[0]) | (z > self.limits[1])).any(dim=1)
            if not outside.any():
                break
            z[outside] = self.density.sample(int(outside.sum()), generator)
        return z

    def _decode_anchored(self, z: Tensor, anchors: Tensor, images: Tensor) -> Tensor:
        reach = self.settings.reach_for(self.shape)
        assert reach is not None
        with self._on_device() as device:
            if self._anchor_codes is None:
                self._anchor_codes = self.encode(anchors).cpu()
            codes, z = self._anchor_codes.to(device), z.float().to(device)
            lengths = codes.square().sum(dim=1)

            @torch.no_grad()
            def nearest_of(part: slice) -> Tensor:
                # The squared distances less the new codes' own squares, which are the same for all anchors.
                return torch.addmm(lengths, z[part], codes.T, alpha=-2).argmin(dim=1)

            nearest = torch.cat([own for _, own in _side_by_side(nearest_of, len(z), DECODED_AT_ONCE, device)])
            # The neighbours of a training image come together, so that it is decoded once and not for each of them.
            order = nearest.argsort(stable=True)

            @torch.no_grad()
            def decoded(part: slice) -> Tensor:
                chosen = order[part]
                own, place = nearest[chosen].unique_consecutive(return_inverse=True)
                start = codes[nearest[chosen]]
                moved = start + reach * (z[chosen] - start)
                expected = self.values.expectation(self.network.decode(torch.cat([moved, codes[own]])))
                # What the autoencoder misses of each training image, once for all new images that keep it.
                missed = self.values.to_network(_on(device, take(anchors, own.cpu().numpy()))) - expected[len(moved) :]
                return self.values.from_values(expected[: len(moved)] + missed[place]).cpu()

            places = order.cpu().numpy()
            # Each image may bring its training image with it.
            most = at_once(DECODED_AT_ONCE, self.shape, VALUES_AT_ONCE // 2)
            for part, made in _side_by_side(decoded, len(z), most, device):
                # NumPy has all types here, and torch has not.
                images.numpy()[places[part]] = made.numpy()
        return images

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        r"""Returns what a fitted generator is: plain values for a JSON header, and tensors."""
        header = {
            "settings": {**vars(self.settings), "model": self.model.name},
            "shape": list(self.shape),
            "values": {"kind": self.values.kind, "dtype": str(self.values.dtype).removeprefix("torch.")},
            "report": asdict(self.report),
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
        cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Model | None = None
    ) -> Self:
        r"""Returns the generator that :meth:`state_dict` gave, of a model of the user's own if it was one.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: If header and tensors are not those of a generator.
        """
        self = cls(GeneratorSettings(**{**header["settings"], "model": model or header["settings"]["model"]}))
        self.shape = tuple(int(size) for size in header["shape"])
        _require(0 < len(self.shape) <= 3 and min(self.shape) > 0, f"images have a shape, and it is {self.shape}")
        # Networks take no memory until it is known that the tensors are theirs.
        self._build(generator=None)
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "density": {}, "values": {}, "anchors": {}, "codes": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        _require(
            all(tensor.dtype == torch.float32 for tensor in groups["network"].values()), "weights are of type float32"
        )
        self.network.load_state_dict(groups["network"], assign=True)
        self.network.requires_grad_(False)
        self.density.load_state_dict(groups["density"])
        self.values = ValueScale.from_plain(header["values"], groups["values"], self.shape)
        self.anchors = groups["anchors"].get("images")
        if self.anchors is not None:
            own = len(self.anchors) and tuple(self.anchors.shape[1:]) == self.shape
            _require(bool(own) and self.anchors.dtype == self.values.dtype, "anchors are images of the class")
        keeps = self.settings.keeps_images_of(self.shape)
        _require(self.anchors is None or keeps, "only generators that need training images have them")
        self.report = FitReport.from_plain(header["report"])
        self.limits = groups["codes"].get("limits")
        dimension = self.settings.latent_dim_for(self.shape)
        _require(
            self.density.latent_dim == dimension,
            f"codes have {dimension} dimensions, and those of the density {self.density.latent_dim}",
        )
        if self.limits is not None:
            _require(self.limits.shape == (2, dimension), f"there are limits for each of {dimension} dimensions")
        return self


def _require(holds: bool, rule: str) -> None:
    r"""Raises a ValueError with the rule that the content of a file breaks."""
    if not holds:
        raise ValueError(rule)
