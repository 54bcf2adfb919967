r"""Comparisons of two figures that were taken in turns, and the table of them."""

__all__ = ["Comparison", "comparison_table", "report"]

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..records import RecordTable


@dataclass(frozen=True)
class Comparison:
    r"""What something takes, beside what it is measured by, each the median of several rounds.

    Attributes:
        name: The name of the benchmark.
        what: What was done.
        reference: What it is measured by.
        aim: The ratio that it is to stay below, or ``nan``.
        rounds: How often both were done, in turns.
        unit: What both are measured in: ``"s"``, ``"MB"`` of memory, or ``"FID"``.
        ours: The median of ours.
        other: The median of the reference.
        ratio: The median of the ratios of the rounds.
        least: The least of these ratios.
        most: The largest.
    """

    name: str
    what: str
    reference: str
    aim: float
    rounds: int
    unit: str
    ours: float
    other: float
    ratio: float
    least: float
    most: float
    device: str
    threads: int
    versions: str


def comparison_table(path: Path) -> RecordTable[Comparison]:
    r"""Returns the table of comparisons in a file."""
    return RecordTable(path, Comparison, ("name", "device"))


def report(comparisons: Iterable[Comparison]) -> str:
    r"""Returns the comparisons as a table in Markdown, one for each machine."""
    parts = []
    machines: dict[tuple[str, int, str], list[Comparison]] = {}
    for comparison in comparisons:
        machines.setdefault((comparison.device, comparison.threads, comparison.versions), []).append(comparison)
    for (device, threads, versions), own in machines.items():
        lines = [
            f"**{device}, {threads} threads; {versions}**",
            "",
            "| what | beside | ours | the other | ratio (least to most) | aim | rounds |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for one in sorted(own, key=lambda one: one.name):
            aim = "" if math.isnan(one.aim) else f"{one.aim:g}"
            lines.append(
                f"| {one.what} | {one.reference} | {one.ours:.3g} {one.unit} | {one.other:.3g} {one.unit} | "
                f"**{one.ratio:.3g}** ({one.least:.3g} to {one.most:.3g}) | {aim} | {one.rounds} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
