r"""What the demonstration came to, as a table and as a picture."""

__all__ = ["picture", "table"]

import os

import numpy as np
from PIL import Image, ImageDraw

from .run import MODEL_NAME, DemoResult


def table(result: DemoResult) -> str:
    r"""Returns the result as a table to read."""
    gain = result.gain
    arms = list(gain.scores)
    short = ["plain", "balanced", f"balanced+{MODEL_NAME}"]
    recall = {arm: np.mean([scores["recall"] for scores in gain.scores[arm]], axis=0) * 100 for arm in arms}
    width = max(5, *(len(name) for name in result.classes))
    lines = [
        f"{'':{width}}  {'training images':^17}  {'recall of a class, %':^36}",
        f"{'class':{width}}  {'before':>8} {'after':>8}  " + " ".join(f"{name:>12}" for name in short),
    ]
    for label, name in enumerate(result.classes):
        values = " ".join(f"{recall[arm][label]:12.1f}" for arm in arms)
        lines.append(f"{name:{width}}  {result.before[label]:8d} {result.after[label]:8d}  {values}")
    seeds = len(gain.seeds)
    lines += ["", f"balanced accuracy, % (mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''})"]
    widest = max(map(len, arms))
    for arm in arms:
        mean, deviation = gain.mean(arm, "balanced accuracy"), gain.deviation(arm, "balanced accuracy")
        line = f"  {arm:{widest}}  {100 * mean:6.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        if arm == arms[-1]:
            difference = gain.difference(arm, "balanced accuracy")
            line += f"   {100 * difference.mean:+.2f} to class-balanced sampling"
            if difference.low is not None and difference.high is not None:
                line += f", 95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
        lines.append(line)
    lines.append("")
    for name, value in result.fidelity.items():
        if name.startswith("FID"):
            lines.append(f"{name}: {value:.2f}")
    copied = result.memorisation
    lines.append(
        f"memorisation: {100 * copied['fraction']:.1f} % of the synthetic images are as close to a training image as "
        f"the closest {100 * copied['expected fraction']:.1f} % of unseen real ones"
    )
    seconds = result.fits["seconds"]
    lines.append(f"fit of {len(result.synthetic)} classes: {np.mean(seconds):.1f} s on average")
    return "\n".join(lines)


def picture(result: DemoResult, path: str | os.PathLike[str], *, columns: int = 10) -> None:
    r"""Writes a PNG with a row per class: real images at the left, synthetic ones at the right."""
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
            for place, image in enumerate(() if images is None else images[:columns]):
                levels = image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]
                tile = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
                canvas.paste(
                    tile.resize((width, height), Image.Resampling.NEAREST), (left + place * (width + gap), top)
                )
    canvas.save(path)
