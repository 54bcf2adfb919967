r"""Tables in Markdown, for every report."""

__all__ = ["markdown", "signed", "write_report"]

from collections.abc import Sequence
from pathlib import Path

from gae_augment.evaluation import PairedDifference


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""Returns a table; all columns except the first hold figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"


def signed(difference: PairedDifference | None) -> str:
    r"""Returns a difference with its interval, where it has one, and nothing for none."""
    if difference is None:
        return ""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"


def write_report(folder: Path, title: str, tables: str) -> None:
    r"""Writes ``REPORT.md``: the remarks of ``REMARKS.md``, which a person writes, and the tables below them."""
    remarks = folder / "REMARKS.md"
    text = f"{remarks.read_text()}\n" if remarks.is_file() else ""
    (folder / "REPORT.md").write_text(f"# {title}\n\n{text}{tables}")
