r"""Two things are compared in turns, in one process, and the ratio is the figure: machines are shared and differ."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from gae_augment.devices import resolve_device

from ..machine import device_name, versions
from .comparisons import Comparison, comparison_table, report

RESULTS = Path(__file__).parents[1] / "results" / "speed"

REMARKS = """# Speed

`make bench` writes this table, `comparisons.csv`, and `latest.json` of the last run alone. `make bench BENCH="-m slow"`
does those that take minutes, `make bench BENCH="-k sample"` those of a name; the others stay as they were measured. In
each round the reference comes first, then ours; the ratio is the median of the rounds' own ratios.

"""


class Compare(Protocol):
    r"""Takes the times of two functions in turns; see :func:`compare`."""

    def __call__(
        self,
        ours: Callable[[], Any],
        reference: Callable[[], Any],
        *,
        what: str,
        beside: str,
        aim: float = float("nan"),
        rounds: int = 5,
        warmup: bool = True,
    ) -> None:
        r"""Takes the times."""


def wait() -> None:
    r"""Waits until the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Compare:
    r"""What takes the time of ours, and before each round that of the reference, and adds the ratio to the table."""

    def run(
        ours: Callable[[], Any],
        reference: Callable[[], Any],
        *,
        what: str,
        beside: str,
        aim: float = float("nan"),
        rounds: int = 5,
        warmup: bool = True,
    ) -> None:
        references: list[float] = []
        times: list[float] = []

        def timed(function: Callable[[], Any], into: list[float]) -> None:
            start = time.perf_counter()
            function()
            wait()
            into.append(time.perf_counter() - start)

        if warmup:
            reference()
            ours()
            wait()
        benchmark.pedantic(
            lambda: timed(ours, times), setup=lambda: timed(reference, references), rounds=rounds, iterations=1
        )
        ratios = [own / other for own, other in zip(times, references, strict=True)]
        comparison = Comparison(
            name=request.node.name,
            what=what,
            reference=beside,
            aim=aim,
            rounds=rounds,
            seconds=round(statistics.median(times), 4),
            reference_seconds=round(statistics.median(references), 4),
            ratio=round(statistics.median(ratios), 3),
            least=round(min(ratios), 3),
            most=round(max(ratios), 3),
            device=device_name(resolve_device("auto")),
            threads=torch.get_num_threads(),
            versions=versions("torch", "torchvision", "lightning", "scikit-learn"),
        )
        benchmark.extra_info |= {"reference seconds": comparison.reference_seconds, "ratio": comparison.ratio}
        comparison_table(RESULTS / "comparisons.csv").add(comparison)

    return run


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    r"""Keeps the name of the machine out of the results."""
    machine_info.pop("node", None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    r"""Writes the one table, and shows it."""
    table = comparison_table(RESULTS / "comparisons.csv")
    if table.records:
        text = report(table.records.values())
        (RESULTS / "REPORT.md").write_text(REMARKS + text)
        terminalreporter.write_line(f"\n{text}")
