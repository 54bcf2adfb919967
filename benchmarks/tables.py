r"""Tables in Markdown, for every report."""

__all__ = ["markdown", "signed"]

from collections.abc import Sequence

from gae_augment.evaluation import Difference


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""Returns a table; all columns but the first are figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"


def signed(difference: Difference | None) -> str:
    r"""Returns a difference with its interval, where it has one, and nothing for none."""
    if difference is None:
        return ""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"
