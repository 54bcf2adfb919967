r"""The figures of a report: pictures as PNG, charts as SVG in the colours of the page that they stand on."""

__all__ = ["chart_of_codes", "chart_of_counts", "chart_of_curve", "picture"]

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..fitting import FitReport

try:
    import matplotlib
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("A report needs matplotlib and Jinja: pip install 'gae-augment[report]'") from error

INK = "#010203"
"""What becomes the colour of the page's text."""

REAL, SYNTHETIC = "#3b82c4", "#e0822d"
"""Two colours that the colour-blind tell apart, on light and on dark."""


def picture(image: Tensor) -> str:
    r"""Returns an image, with shape :math:`(C, H, W)`, C 1 or 3, in [0, 1], as the address of a PNG."""
    levels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else np.ascontiguousarray(levels)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(which="both", colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    # The same figure gives the same text, and its words stay words.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def chart_of_counts(counts: Sequence[tuple[str, int, int]]) -> str:
    r"""Returns bars of the real and the synthetic images of each class."""
    figure, axes = _axes(7.0, 0.9 + 0.3 * len(counts))
    names, real, added = zip(*counts, strict=True)
    places = range(len(counts))
    axes.barh(places, real, color=REAL, label="real")
    axes.barh(places, added, left=real, color=SYNTHETIC, label="synthetic")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside upper right", ncols=2)
    return _svg(figure)


def chart_of_curve(fit: FitReport) -> str:
    r"""Returns the error on its way down, and the boundary."""
    figure, axes = _axes(3.4, 2.4)
    epochs, errors = zip(*fit.curve, strict=True)
    axes.plot(epochs, errors, color=SYNTHETIC, marker="o", markersize=2.5)
    if fit.delta is not None:
        axes.axhline(fit.delta, color=INK, linestyle="--", linewidth=1)
        axes.annotate("δ", (epochs[-1], fit.delta), color=INK, ha="right", va="bottom")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epochs")
    axes.set_ylabel("excess error, nats per value")
    return _svg(figure)


def chart_of_codes(codes: Tensor, new_codes: Tensor) -> str:
    r"""Returns the map of codes, with shapes :math:`(n, 2)` and :math:`(m, 2)`, or of one axis."""
    figure, axes = _axes(3.4, 2.4)
    for some, colour, name in ((new_codes, SYNTHETIC, "synthetic"), (codes, REAL, "real")):
        across = some[:, 1] if some.shape[1] > 1 else some[:, 0] * 0
        axes.scatter(some[:, 0].numpy(), across.numpy(), s=6, color=colour, alpha=0.5, linewidths=0, label=name)
    axes.set_xlabel("first axis of the codes")
    axes.set_ylabel("second")
    figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside upper right", ncols=2)
    return _svg(figure)
