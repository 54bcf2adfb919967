r"""A torchvision transform that moves images as the generative models have learned."""

__all__ = ["VALUES_TOGETHER", "Motion", "move"]

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageMode
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from .._utils.checks import check_number
from .bank import MAX_STRENGTH, MotionBank
from .fields import displacement, move_images, move_points

POINTS = getattr(tv_tensors, "KeyPoints", None)
"""torchvision's class of key points, if this version has one."""

PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}
"""The Pillow modes with colours multiplied by opacity, by the mode with plain colours."""

NEAREST_MODES = ("P", "PA")
"""The Pillow modes whose pixels are indices, which cannot be interpolated."""

EXACT = (torch.float64, torch.int64, torch.int32, torch.uint64, torch.uint32)
"""The types whose values are interpolated in double precision."""

VALUES_TOGETHER = 2**17
"""The maximum number of values of the images that are moved together. More do not fit into a processor's cache."""

BOX_POINTS = 9
"""The number of points along each side of a box that are moved."""


class Motion(v2.Transform):
    r"""Moves images by random motions from a bank. :meth:`gae_augment.GAEAugmenter.motion` returns such a transform.

    A motion is a smooth invertible map of the image. Images keep their size and type, and pixels that come from beyond
    the border are reflected. The transform accepts PIL images, tensors with any number of leading axes, and
    torchvision's ``tv_tensors`` in any nesting. Masks move with nearest-neighbour interpolation. A box becomes the
    smallest one around its moved content, and a rotated box moves by its corners. Everything that one call receives
    moves alike. Random numbers come from torch's global generator, as in torchvision's transforms.

    To move an image takes time in proportion to its pixels: 2 to 4 ms of one core for 224x224 in colour. Make large
    photographs smaller first.

    Args:
        bank: The motions.
        strength: The factor of every motion, from 0 to 3. 1 moves images as far as the models have learned.
        p: The probability that a call moves its images.
        per_image: Whether each image of a batch gets a motion of its own. The batch must then be one tensor with shape
            :math:`(B, C, H, W)`, or such images beside masks, boxes and key points with the same first axis.

    Raises:
        TypeError, ValueError: If ``strength`` or ``p`` is no number, or out of range.
    """

    def __init__(self, bank: MotionBank, strength: float = 1.0, p: float = 0.5, *, per_image: bool = False) -> None:
        super().__init__()
        check_number(strength, "strength", 0, MAX_STRENGTH)
        check_number(p, "p", 0, 1)
        self.bank = bank
        self.strength = strength
        self.p = p
        self.per_image = per_image

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        r"""Draws the motions of one call. ``None`` leaves everything unchanged."""
        n = 1
        if self.per_image:
            n = next((len(x) for x in flat_inputs if isinstance(x, Tensor) and x.ndim > 3), 1)
        moves = self._moves(n)
        if not moves.any():
            return {"v": None}
        device = next((x.device for x in flat_inputs if isinstance(x, Tensor)), torch.device("cpu"))
        v = self.bank.draw(n, strength=self.strength) * moves[:, None, None, None]
        return {"v": v.to(device)}

    def _moves(self, n: int) -> Tensor:
        r"""Draws whether each of some images moves, with shape :math:`(n,)`."""
        return torch.rand(n) < self.p

    def move_each(self, images: Sequence[Any]) -> list[Any]:
        r"""Returns images, each moved by a motion of its own, with probability ``p``.

        The distribution is that of one call for each image. Small images of one kind are moved together, which takes a
        fraction of the time.

        Args:
            images: PIL images and tensors with shape :math:`(*, C, H, W)`, which may differ in size and type.
        """
        moved = list(images)
        positions = self._moves(len(moved)).nonzero().flatten().tolist()
        if not positions:
            return moved
        v = self.bank.draw(len(positions), strength=self.strength)
        alike: dict[Any, list[int]] = {}
        for row, position in enumerate(positions):
            alike.setdefault(_kind(moved[position]), []).append(row)
        for kind, rows in alike.items():
            number = 1 if kind is None else max(1, VALUES_TOGETHER // math.prod(kind[-1]))
            for start in range(0, len(rows), number):
                few = rows[start : start + number]
                chosen = [positions[row] for row in few]
                for position, image in zip(chosen, _move_alike([moved[one] for one in chosen], v[few]), strict=True):
                    moved[position] = image
        return moved

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        r"""Returns one input moved."""
        return inpt if params["v"] is None else move(inpt, params["v"])

    def extra_repr(self) -> str:
        r"""Returns the parameters, for ``repr``."""
        return f"strength={self.strength}, p={self.p}, motions={len(self.bank)}"


def move(inpt: Any, v: Tensor) -> Any:
    r"""Returns an image, a mask, boxes or key points, moved by velocity fields.

    Args:
        inpt: A PIL image, a tensor with shape :math:`(*, C, H, W)` or :math:`(H, W)`, or one of ``tv_tensors``.
        v: The velocity fields, with shape :math:`(1, 2, 8, 8)`, or :math:`(B, 2, 8, 8)` with one field for each entry
            of the input's first axis.
    """
    if isinstance(inpt, Image.Image):
        return _move_pil(inpt, displacement(v))
    x = inpt.as_subclass(Tensor)
    if not x.numel():
        return inpt
    # A point of the image moves against the map, which tells where a pixel's value comes from.
    if isinstance(inpt, tv_tensors.BoundingBoxes):
        moved = _move_boxes(x, displacement(-v), inpt.format, inpt.canvas_size)
    elif POINTS is not None and isinstance(inpt, POINTS):
        moved = functional.clamp_keypoints(
            _move_pixels(x, displacement(-v), inpt.canvas_size), canvas_size=inpt.canvas_size
        )
    else:
        moved = _move_tensor(x, displacement(v), "nearest" if isinstance(inpt, tv_tensors.Mask) else "bicubic")
    return tv_tensors.wrap(moved, like=inpt)


def _kind(image: Any) -> tuple[Any, tuple[int, ...]] | None:
    r"""Returns what images that can be moved together have in common, the shape last; ``None`` if that is nothing."""
    if isinstance(image, Image.Image):
        # The colours of these modes are multiplied by opacity for a while.
        return None if image.mode in PREMULTIPLIED else (image.mode, (len(image.getbands()), *image.size))
    return (image.dtype, tuple(image.shape)) if type(image) is Tensor and image.ndim == 3 else None


def _move_alike(images: list[Any], v: Tensor) -> list[Any]:
    r"""Returns images of one kind, moved by as many velocity fields."""
    if len(images) == 1:
        return [move(images[0], v)]
    if isinstance(images[0], Image.Image):
        maps = _move_tensor(torch.stack([_maps(image) for image in images]), displacement(v), _mode(images[0]))
        return [_with_maps(image, one) for image, one in zip(images, maps, strict=True)]
    x = torch.stack(images)
    # Copies, so that one image does not keep the memory of all.
    return [one.clone() for one in _move_tensor(x, displacement(v).to(x.device), "bicubic")]


def _move_tensor(x: Tensor, u: Tensor, mode: str) -> Tensor:
    # What moves alike is taken as the channels of one image.
    maps = x.reshape(len(u), -1, *x.shape[-2:])
    # CPUs cannot sample half precision, and float32 cannot hold large integers.
    values = maps.to(torch.float64 if x.dtype in EXACT else torch.float32, memory_format=torch.contiguous_format)
    return move_images(values, u.to(values), mode, x.dtype).reshape(x.shape)


def _move_pil(image: Image.Image, u: Tensor) -> Image.Image:
    # Colours of transparent pixels must not bleed into others.
    premultiplied = PREMULTIPLIED.get(image.mode)
    if premultiplied is not None:
        return _move_pil(image.convert(premultiplied), u).convert(image.mode)
    return _with_maps(image, _move_tensor(_maps(image), u, _mode(image)))


def _mode(image: Image.Image) -> str:
    r"""Returns the interpolation of a PIL image."""
    return "nearest" if image.mode in NEAREST_MODES else "bicubic"


def _maps(image: Image.Image) -> Tensor:
    r"""Returns the pixels of a PIL image, with shape :math:`(C, H, W)`."""
    array = np.array(image)
    bands = array[..., None] if array.ndim == 2 else array
    # Torch has no integers of the other byte order. To copy band by band is faster than all at once.
    maps = np.empty((bands.shape[-1], *bands.shape[:-1]), array.dtype.newbyteorder("="))
    for band in range(len(maps)):
        maps[band] = bands[..., band]
    return torch.from_numpy(maps)


def _with_maps(image: Image.Image, maps: Tensor) -> Image.Image:
    r"""Returns a PIL image with other pixels."""
    # Pillow keeps some modes in the other byte order.
    array = np.empty((*maps.shape[1:], len(maps)), ImageMode.getmode(image.mode).typestr)
    for band, values in enumerate(maps.numpy()):
        array[..., band] = values
    # A copy keeps palette, colour profile and resolution.
    result = image.copy()
    result.frombytes((np.packbits(array[..., 0], axis=1) if image.mode == "1" else array).tobytes())
    return result


def _move_pixels(points: Tensor, u: Tensor, canvas_size: tuple[int, int]) -> Tensor:
    r"""Returns points (x, y) in pixels, moved by maps; the first axis belongs to the maps if there are several."""
    size = torch.tensor(canvas_size[::-1], device=points.device)
    relative = (2 * points.double() / size - 1).reshape(len(u), -1, 2)
    moved = ((move_points(relative, u.double()) + 1) / 2 * size).reshape(points.shape)
    return (moved if points.is_floating_point() else moved.round()).to(points.dtype)


def _move_boxes(
    boxes: Tensor, u: Tensor, box_format: tv_tensors.BoundingBoxFormat, canvas_size: tuple[int, int]
) -> Tensor:
    kinds = tv_tensors.BoundingBoxFormat
    rotated = box_format.value not in ("XYXY", "XYWH", "CXCYWH")
    corners_format = kinds["XYXYXYXY"] if rotated else kinds.XYXY
    # In double precision, because torchvision rounds centres and sizes of integer boxes.
    corners = functional.convert_bounding_box_format(boxes.double(), old_format=box_format, new_format=corners_format)
    if rotated:
        moved = _move_pixels(corners.reshape(*corners.shape[:-1], 4, 2), u, canvas_size).flatten(-2)
    else:
        # A side may bulge beyond its corners, so points between them are moved too.
        t = torch.linspace(0, 1, BOX_POINTS, dtype=torch.float64, device=boxes.device)
        x1, y1, x2, y2 = (side[..., None] for side in corners.unbind(dim=-1))
        x, y = torch.broadcast_tensors((x1 + t * (x2 - x1))[..., None, :], (y1 + t * (y2 - y1))[..., None])
        moved = _move_pixels(torch.stack([x, y], dim=-1).flatten(-3, -2), u, canvas_size)
        size = torch.tensor(canvas_size[::-1], dtype=moved.dtype, device=moved.device)
        moved = moved.clamp(min=torch.zeros_like(size), max=size)
        moved = torch.cat([moved.amin(dim=-2), moved.amax(dim=-2)], dim=-1)
    moved = functional.convert_bounding_box_format(moved, old_format=corners_format, new_format=box_format)
    return (moved if boxes.is_floating_point() else moved.round()).to(boxes.dtype)
