r"""Draws the synthetic images of a folder, and rejects those that lie outside the range of the real ones."""

__all__ = ["Chosen", "Selection", "select_images"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from .._utils.seeding import balanced_draw, derive_seed, make_generator
from .._utils.threads import map_in_threads
from ..augmenter import GAEAugmenter
from ..data import (
    DatasetView,
    ImageStatistics,
    ItemFormat,
    Label,
    as_pictures,
    image_statistics,
    load_source,
    resize_images,
)
from ..motion import move

TRIES = 4
"""The number of draws for one synthetic image, after which it is left out."""

MAX_COMPARED = 1000
"""The maximum number of real images of a class, evenly spread, that set its range."""

BRIGHTNESS_MARGIN, SHARPNESS_MARGIN, DISTANCE_MARGIN = 0.1, 0.25, 0.1
"""The margins beyond the range of the real images, relative to the bound.

Interpolation alone costs a moved photograph about a fifth of its mean absolute Laplacian. A smaller margin would reject
all images that are made from the least sharp photographs.
"""

POOR = 0.5
"""A class gets no images if they have less than this fraction of the sharpness or the resolution of the real ones."""


@dataclass(frozen=True)
class Chosen:
    r"""A synthetic image to write.

    Attributes:
        source: The index, in the folder's dataset, of the real image that is moved; or the image itself.
        motion: The velocity field of a moved image, with shape :math:`(1, 2, 8, 8)`; ``None`` for another image.
    """

    source: int | Image.Image
    motion: Tensor | None = None


@dataclass(frozen=True)
class Selection:
    r"""The synthetic images of a class.

    Attributes:
        chosen: The images to write.
        rejected: The number of draws outside the range of the real images.
        left_out: The number of images without a draw inside the range.
        like_real: The median brightness, sharpness and resolution of the synthetic images, divided by those of the real
            ones. The figures are those of the first draws if the class is poor, and empty without images.
        is_poor: Whether the class gets no images, because they are much less sharp or smaller than the real ones.
    """

    chosen: tuple[Chosen, ...]
    rejected: int
    left_out: int
    like_real: Mapping[str, float]
    is_poor: bool = False


def select_images(
    augmenter: GAEAugmenter,
    real: ImageFolder,
    *,
    images_to_add: Mapping[Label, int] | None = None,
    seed: int = 0,
) -> dict[Label, Selection]:
    r"""Draws the synthetic images of a folder, and rejects those that lie outside the range of the real ones.

    An image is rejected if its brightness or sharpness lies outside the range of the real images of its class, with a
    margin of 10 and 25 percent of the bounds. It is also rejected if it is farther from the nearest real image than any
    real image is from another one, with a margin of 10 percent. This distance is the root mean squared difference in
    the working size. A rejected image is drawn again at most three times, then left out. At most 1000 real images of
    each class, evenly spread, set the range.

    A class gets no images if the first draws have less than half the median sharpness or resolution of the real ones.
    All figures are measured before the images are encoded as files.

    Args:
        augmenter: The augmenter, fitted to ``real``.
        real: The image folder. Its transforms have no effect.
        images_to_add: The number of images of each class, by label. By default the augmenter's ``sampling_strategy_``.
        seed: The seed of all random numbers. The same seed gives the same images.

    Returns:
        The images of each class that needs some, by label.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        ValueError: If a class has no model, or a file cannot be read as an image.
    """
    augmenter.report_  # noqa: B018, raises NotFittedError
    numbers = augmenter.sampling_strategy_ if images_to_add is None else images_to_add
    labels, read = load_source(real, working_size=augmenter.working_size)
    view = DatasetView(real)
    size = (int(read.shape[-2]), int(read.shape[-1]))
    selections = {}
    for label, number in numbers.items():
        if number:
            rows = np.flatnonzero(labels == label).tolist()
            spread = np.unique(np.linspace(0, len(rows) - 1, MAX_COMPARED).round().astype(int))
            compared = map_in_threads(lambda index: _measure(view.raw_image(index), size), [rows[k] for k in spread])
            is_moved = augmenter.motions_for(label, 1, seed=0) is not None
            bounds = _Range.of(list(compared), size)
            draw = partial(
                _draw_moved if is_moved else _draw_sampled, augmenter, view, label, rows, bounds, number, seed
            )
            selections[label] = _select(draw, bounds.statistics, number)
    return selections


@dataclass(frozen=True, eq=False)
class _Measured:
    r"""The figures of an image, and its pixels in the working size as a vector in [0, 1]."""

    statistics: ImageStatistics
    vector: Tensor


@dataclass(frozen=True)
class _Candidate:
    r"""A draw of a synthetic image, its figures, and whether it lies in the range of the real images."""

    chosen: Chosen
    statistics: ImageStatistics
    accepted: bool


Draw = Callable[[Sequence[int], int], list[_Candidate]]
"""A function of the numbers of images and of the number of the try, from 0."""


def _measure(image: Image.Image, size: tuple[int, int]) -> _Measured:
    tensor = ItemFormat.of(image).to_tensor(image)
    maps = resize_images(tensor.reshape(1, -1, *tensor.shape[-2:]), size)
    scale = {torch.uint8: 255, torch.uint16: 65535}.get(maps.dtype, 1)
    return _Measured(image_statistics(image), maps.flatten().float() / scale)


@dataclass(frozen=True, eq=False)
class _Range:
    r"""The range of the real images of a class."""

    brightness: tuple[float, float]
    sharpness: tuple[float, float]
    distance: float
    points: Tensor
    statistics: list[ImageStatistics]
    size: tuple[int, int]

    @classmethod
    def of(cls, images: list[_Measured], size: tuple[int, int]) -> Self:
        statistics = [image.statistics for image in images]
        points = torch.stack([image.vector for image in images])
        distances = _distances(points, points).fill_diagonal_(torch.inf)
        # A single image has no other one.
        farthest = distances.min(dim=1).values.max().item()
        return cls(
            _with_margin([one.brightness for one in statistics], BRIGHTNESS_MARGIN),
            _with_margin([one.sharpness for one in statistics], SHARPNESS_MARGIN),
            farthest * (1 + DISTANCE_MARGIN),
            points,
            statistics,
            size,
        )

    def judge(self, chosen: Chosen, picture: Image.Image) -> _Candidate:
        r"""Measures a draw, and tells whether it lies in the range."""
        image = _measure(picture, self.size)
        accepted = (
            self.brightness[0] <= image.statistics.brightness <= self.brightness[1]
            and self.sharpness[0] <= image.statistics.sharpness <= self.sharpness[1]
            and _distances(image.vector[None], self.points).min().item() <= self.distance
        )
        return _Candidate(chosen, image.statistics, accepted)


def _with_margin(values: Sequence[float], margin: float) -> tuple[float, float]:
    return min(values) * (1 - margin), max(values) * (1 + margin)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    r"""Returns the root mean squared differences of vectors, with shapes :math:`(M, D)` and :math:`(N, D)`."""
    return torch.cdist(a, b) / a.shape[1] ** 0.5


def _select(draw: Draw, real: Sequence[ImageStatistics], number: int) -> Selection:
    accepted: dict[int, _Candidate] = {}
    missing, rejected = list(range(number)), 0
    for attempt in range(TRIES):
        candidates = draw(missing, attempt)
        if attempt == 0:
            figures = _like_real([candidate.statistics for candidate in candidates], real)
            if min(figures["sharpness"], figures["resolution"]) < POOR:
                return Selection((), 0, number, figures, is_poor=True)
        accepted |= {k: candidate for k, candidate in zip(missing, candidates, strict=True) if candidate.accepted}
        missing = [k for k in missing if k not in accepted]
        rejected += len(missing)
        if not missing:
            break
    written = [accepted[k] for k in sorted(accepted)]
    figures = _like_real([candidate.statistics for candidate in written], real)
    return Selection(tuple(candidate.chosen for candidate in written), rejected, len(missing), figures)


def _like_real(synthetic: Sequence[ImageStatistics], real: Sequence[ImageStatistics]) -> dict[str, float]:
    figures = {}
    for name in ("sharpness", "brightness", "resolution") if synthetic else ():
        of_real = float(np.median([getattr(one, name) for one in real]))
        ratio = float(np.median([getattr(one, name) for one in synthetic])) / of_real if of_real else 1.0
        figures[name] = ratio
    return figures


def _draw_moved(
    augmenter: GAEAugmenter,
    view: DatasetView,
    label: Label,
    rows: Sequence[int],
    bounds: _Range,
    number: int,
    seed: int,
    positions: Sequence[int],
    attempt: int,
) -> list[_Candidate]:
    r"""Moves real images: at first all of them equally often, then any of them."""
    sources = balanced_draw(len(rows), number, derive_seed(seed, "sources", label)).tolist()

    def draw(k: int) -> _Candidate:
        source = sources[k]
        if attempt:
            # Another motion of the same image would often be rejected for the same reason.
            generator = make_generator(seed, "source", label, k, attempt)
            source = int(torch.randint(len(rows), (1,), generator=generator))
        v = augmenter.motions_for(label, 1, seed=derive_seed(seed, "selection", label, k, attempt))
        assert v is not None
        return bounds.judge(Chosen(rows[source], v), move(view.raw_image(rows[source]), v))

    return list(map_in_threads(draw, positions))


def _draw_sampled(
    augmenter: GAEAugmenter,
    view: DatasetView,
    label: Label,
    rows: Sequence[int],
    bounds: _Range,
    number: int,
    seed: int,
    positions: Sequence[int],
    attempt: int,
) -> list[_Candidate]:
    r"""Samples images in the working size."""
    images = augmenter.sample(label, len(positions), seed=derive_seed(seed, "selection", attempt))
    return list(map_in_threads(lambda picture: bounds.judge(Chosen(picture), picture), as_pictures(images)))
