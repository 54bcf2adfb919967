r"""Encodes the images of a report as PNG, and draws its charts as SVG."""

__all__ = ["code_chart", "count_chart", "curve_chart", "png_address"]

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
"""A placeholder colour, which ``_svg`` replaces by the text colour of the HTML page."""

REAL, SYNTHETIC = "#3b82c4", "#e0822d"
"""The chart colours of real and synthetic images; distinct for colour-blind readers on light and dark pages."""


def png_address(image: Tensor) -> str:
    r"""Encodes an image as a PNG, and returns the ``data:`` URL of the PNG.

    Args:
        image: The image, in [0, 1], with shape :math:`(1, H, W)` or :math:`(3, H, W)`.
    """
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
    # A fixed salt and no date make the text reproducible; "none" keeps text as text.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def count_chart(counts: Sequence[tuple[str, int, int]]) -> str:
    r"""Returns an SVG bar chart of the numbers of real and synthetic images of each class.

    Args:
        counts: One tuple (name, number of real images, number of synthetic images) per class.
    """
    figure, axes = _axes(7.0, 0.9 + 0.3 * len(counts))
    names, real, synthetic = zip(*counts, strict=True)
    positions = range(len(counts))
    axes.barh(positions, real, color=REAL, label="real")
    axes.barh(positions, synthetic, left=real, color=SYNTHETIC, label="synthetic")
    # A name with dollar signs is no mathematics.
    axes.set_yticks(positions, names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside upper right", ncols=2)
    return _svg(figure)


def curve_chart(fit: FitReport) -> str:
    r"""Returns an SVG line chart of a model's reconstruction error, in nats per pixel, over the epochs.

    If ``fit.delta`` is a number, a dashed line marks it.

    Args:
        fit: The report of a class's fit, with at least one error in its ``curve``.
    """
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


def code_chart(real_codes: Tensor, synthetic_codes: Tensor) -> str:
    r"""Returns an SVG scatter chart of the latent codes of a class.

    Args:
        real_codes: The codes of real images, projected onto their first two principal axes, with shape :math:`(N, 2)`,
            or :math:`(N, 1)` for one-dimensional codes.
        synthetic_codes: Codes from the model's latent density, projected onto the same axes, with shape :math:`(M, 2)`
            or :math:`(M, 1)`.
    """
    figure, axes = _axes(3.4, 2.4)
    for codes, colour, name in ((synthetic_codes, SYNTHETIC, "synthetic"), (real_codes, REAL, "real")):
        second = codes[:, 1] if codes.shape[1] > 1 else codes[:, 0] * 0
        axes.scatter(codes[:, 0].numpy(), second.numpy(), s=6, color=colour, alpha=0.5, linewidths=0, label=name)
    axes.set_xlabel("first principal axis of the codes")
    axes.set_ylabel("second axis")
    figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside upper right", ncols=2)
    return _svg(figure)
