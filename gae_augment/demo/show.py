r"""Shows the results of the demonstration as a table and as a picture."""

__all__ = ["picture", "table"]

import os
import statistics

from PIL import Image, ImageDraw

from ..report import gain_table
from .run import DemoResult


def table(result: DemoResult) -> str:
    r"""Returns the results of the demonstration as a plain-text table."""
    text = gain_table(result.classes, result.before, result.after, result.gain, result.fidelity, result.memorisation)
    seconds = result.fits["seconds"]
    return f"{text}\nfit of {len(result.synthetic)} classes: {statistics.fmean(seconds):.1f} s on average"


def picture(result: DemoResult, path: str | os.PathLike[str], *, columns: int = 10) -> None:
    r"""Writes a PNG file with one row per class: real images on the left, synthetic images on the right.

    Args:
        result: The results of the demonstration.
        path: The file to write.
        columns: The maximum number of real images, and of synthetic images, in a row.
    """
    shape = result.real[0].shape[1:]
    scale = max(1, round(48 / max(shape[-2:])))
    height, width = shape[-2] * scale, shape[-1] * scale
    gap, margin, head = 6, 12 + 7 * max(len(name) for name in result.classes), 20
    block = columns * (width + gap)
    canvas = Image.new("RGB", (margin + 2 * block + 3 * gap + 12, head + len(result.classes) * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, 4), "real", fill="black")
    draw.text((margin + block + 12, 4), "synthetic", fill="black")
    for label, name in enumerate(result.classes):
        top = head + label * (height + gap)
        draw.text((6, top + height // 2 - 6), name, fill="black")
        for left, images in ((margin, result.real[label]), (margin + block + 12, result.synthetic.get(label))):
            for column, image in enumerate(() if images is None else images[:columns]):
                levels = image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]
                tile = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
                canvas.paste(
                    tile.resize((width, height), Image.Resampling.NEAREST), (left + column * (width + gap), top)
                )
    canvas.save(path)
