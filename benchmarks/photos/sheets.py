r"""Contact sheets: real images, the images that models make of them, and the motions, in columns."""

__all__ = ["Column", "bent_grid", "draw_sheets", "motion_columns"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import functional

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment.fitting import FittedModel
from gae_augment.motion import learn_motions
from gae_augment.motion.fields import displacement, move_points
from gae_augment.motion.transform import move
from gae_augment.synthesis import draw_codes

from ..data import load_images
from .motions import ClassModels
from .sets import COUNTS, load_photos, training_rows

MAX_BYTES = 150_000
"""The largest size of a file of images."""

COLUMNS = 8

CELL = 176
"""The largest side in pixels of an image on a sheet."""

GAP = 4

GRID = 9
"""The number of lines of a grid in each direction."""

SMALL_CLASSES = {"mnist": dict.fromkeys((2, 3, 4, 5), 60), "bccd": {1: 60, 2: 60}}
"""The number of training images of the classes of small images that are drawn."""


@dataclass(frozen=True)
class Column:
    r"""One training image with one motion.

    Attributes:
        source: The image, uint8 with shape :math:`(C, H, W)`.
        residual: The residual image of the working size, uint8.
        deformed: The source, moved.
        v: The velocity field, with shape :math:`(2, 8, 8)`.
    """

    source: Tensor
    residual: Tensor
    deformed: Tensor
    v: Tensor


def motion_columns(fitted: FittedModel, images: Tensor, n: int, seed: int) -> list[Column]:
    r"""Returns training images with the motions and the residual images of the same pairs of codes.

    Args:
        fitted: The model of the class, which keeps its training images.
        images: The training images in full size.
        n: The number of columns.
        seed: The seed of the motions.
    """
    assert fitted.codes is not None
    assert fitted.anchors is not None
    fields = learn_motions(fitted, n, seed=seed).float()
    # The codes that these motions were learned from.
    z = draw_codes(fitted, n, make_generator(seed, "motions")).float()
    nearest = torch.cdist(z, fitted.codes).argmin(dim=1)
    start = fitted.codes[nearest]
    change = [fitted.values.to_network(fitted.decode(code)) for code in (start, start + fitted.plan.step * (z - start))]
    residual = fitted.values.to_network(fitted.anchors[nearest]) + change[1] - change[0]
    moved = move(images[nearest], fields)
    return [
        Column(*column)
        for column in zip(images[nearest], fitted.values.from_network(residual), moved, fields, strict=True)
    ]


def bent_grid(v: Tensor, side: int) -> Image.Image:
    r"""Returns a regular grid, moved like an image by a velocity field."""
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    lines, along = torch.linspace(-0.96, 0.96, GRID), torch.linspace(-0.96, 0.96, 60)
    rows = torch.stack(torch.meshgrid(lines, along, indexing="ij"), dim=-1)
    for points in (rows, rows.flip(-1)):
        # A point of an image moves against the map, which tells where a pixel's value comes from.
        moved = move_points(points.reshape(1, -1, 2), displacement(-v[None])).view(points.shape)
        for line in ((moved + 1) / 2 * side).tolist():
            pen.line([tuple(point) for point in line], fill=(30, 60, 140), width=1)
    return picture


def save_sheet(columns: Sequence[Column], path: Path) -> Path:
    r"""Writes the rows source, residual, deformed and motion into an image file of less than 150 kB.

    Args:
        columns: The columns.
        path: The file without its suffix: ``.png`` for small images, which are enlarged by whole pixels, else ``.jpg``.
    """
    side = max(columns[0].source.shape[-2:])
    is_small = side <= CELL // 2
    cell = side * (CELL // side) if is_small else CELL
    mode = functional.InterpolationMode.NEAREST if is_small else functional.InterpolationMode.BILINEAR
    height, width = 4 * (cell + GAP) - GAP, len(columns) * (cell + GAP) - GAP
    sheet = torch.full((3, height, width), 255, dtype=torch.uint8)
    for position, column in enumerate(columns):
        grid = functional.pil_to_tensor(bent_grid(column.v, cell))
        for row, image in enumerate((column.source, column.residual, column.deformed, grid)):
            top, left = row * (cell + GAP), position * (cell + GAP)
            resized = functional.resize(image, [cell, cell], interpolation=mode, antialias=not is_small)
            sheet[:, top : top + cell, left : left + cell] = resized
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_suffix(".png" if is_small else ".jpg")
    picture = functional.to_pil_image(sheet)
    for quality in range(90, 30, -5):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
    return path


def _models(name: str, data_root: Path, cache: Path, model: GenerativeModel) -> tuple[ClassModels, list[int]]:
    r"""Returns the models of a set, and the labels of the classes to draw."""
    if name in COUNTS:
        # The first split of the measurements, whose models are stored.
        photos = load_photos(name, "train", data_root)
        rows = training_rows(photos, 0, validated=True)
        labels = photos.labels[rows]
        models = ClassModels(photos.images[rows], labels, 0, cache / f"{name}-validation-0", model)
        return models, [label for label in labels.unique().tolist() if label != int(labels.bincount().argmax())]
    cache.mkdir(parents=True, exist_ok=True)
    images, labels = load_images(name, data_root, cache).train
    images = images if images.ndim == 4 else images[:, None]
    counts = SMALL_CLASSES[name]
    rows = torch.cat([(labels == label).nonzero().flatten()[:n] for label, n in counts.items()])
    return ClassModels(images[rows], labels[rows], 0, cache / f"{name}-sheet", model), list(counts)


def draw_sheets(names: Sequence[str], data_root: Path, cache: Path, output: Path, model: GenerativeModel) -> None:
    r"""Writes one sheet of each set, with as many columns of each scarce class as fit."""
    for name in names:
        models, labels = _models(name, data_root, cache, model)
        columns: list[Column] = []
        for position, label in enumerate(labels):
            n = len(range(position, COLUMNS, len(labels)))
            images = models.images[models.labels == label]
            columns += motion_columns(models.fitted[label], images, n, derive_seed(0, "sheet", label))
        print(save_sheet(columns, output / name))
