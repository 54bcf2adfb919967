r"""Two things are compared in turns, in one process, and the ratio is the figure: machines are shared and differ."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gae_augment._utils.devices import resolve_device

from ..machine import device_name, versions
from .comparisons import Comparison, comparison_table, report

RESULTS = Path(__file__).parents[1] / "results" / "speed"

GROWTH_ROUNDS = 2

REMARKS = """# Speed

`make bench` writes this table and `comparisons.csv`; pytest-benchmark writes its own `latest.json` of that run alone.
`make bench BENCH="-m slow"` runs the benchmarks that take minutes, and `make bench BENCH="-k sample"` those with a
matching name. The other rows keep their last figures. In each round the reference runs first, then ours; the ratio is
the median of the rounds' ratios.

The processor without AVX-512 is one and a half to four times slower than the other one, has no bfloat16, and was
shared. On it, MNIST with up to 80 components instead of 20 took 91 seconds and had an FID of 0.68 (0.65 to 0.71). No
GPU was measured.

**Small classes.** With equal steps, forty classes cost as much as the bare loop. Nearly all of it is matrix products,
casts of weights to bfloat16, and Adam's memory traffic, 120 MB per step. Early stopping makes small classes cheap: at
three tenths of the mean image's error, where samples are best, a class of a hundred images has taken 20 to 50 of the
600 steps. A bare loop that stopped there would be as fast.

For equal steps, alternatives were tried in a loop with only the products, the loss and fused Adam. In milliseconds per
class and step:

- one network after another: 8.9 to 12.2;
- two in parallel, one thread each, as in the fits: 7.0;
- stacked weights with batched products: 7.1 to 8.2 (2 networks), 7.5 (4) and 6.6 to 7.2 (10);
- two stacks of five in parallel: 5.4.

The best of these takes 0.6 of the loop's time, not a third, and needs a second kind of network and of training. It was
not adopted. Half the widths take half the time (4.8 to 6.4, or 2.6 in stacks), a quarter of the widths 0.3 of it. With
40 to 500 images of two data sets, the FID of narrower networks was within the noise, so `architecture="fc"` may be
wider than necessary.

**Where an aim is missed** by a little, these changes were tried; figures are fractions of the previous time.

- *Anchored sampling* also decodes the training images, a tenth more, and adds the detail that the decoder lacks.
  Nearest codes by a product instead of distances: 0.96 to 0.98 (adopted). Sums in place: 1.00. Chunks of 125, 250 or
  1000 images instead of 500: 1.19, 1.04 and 0.95 to 1.00. Keeping memory: 0.99 to 1.02.
- *Bare tensors* take 0.35 microseconds per image more than the data set alone; 0.1 of these are the pair of image and
  label. No closure for a missing transform: 0.98. Torch's indexing instead of NumPy's: 1.05. A clone of each image:
  1.00.
- *Fits at 64 pixels.* Decoded images enlarged by two products of matrices instead of `interpolate`: 0.86 of a step
  (adopted). Weights in bfloat16 with float32 masters: 0.93. Learning rates of 0.002 and 0.003 instead of 0.001: 1.3 and
  2.0 of the time of ten classes of photographs, as more steps are needed; batches of 32 instead of 16: 1.3. At most 300
  steps instead of 450: no faster for photographs, which stop earlier, while classes of CIFAR-10 end with errors 10 to
  15 % higher. Random colours are the worst case: no class of photographs took as many steps.
- *The paper's fit beside pythae*: products take 12 of 26 ms per step, 0.2 of pythae's step. Weights in bfloat16 with
  float32 masters, and Adam in pieces that fit in the cache: 0.87 to 0.96, with bit-identical weights. The C library's
  thresholds: 1.00.

**Memory** is the process's own pages, which the system cannot reclaim: without mapped files, and less what the imports
take. With `cache_dir`, images are in mapped files, and the system keeps as much of them in memory as there is space
for.

**Photographs, busy machines and large folders, before and after.** What an earlier state of 0.2 took, and what it takes
now. Times of the first row were taken beside two other processes on two cores. The forecasts are in the table of the
processor without AVX-512; all but that of leaves at 64 pixels were made beside two other processes.

| what | before | now |
| --- | --- | --- |
| dry run of photographs at 64 and 128 pixels, without imports | 19 s, 123 s | 8 s, 18 s |
| forecast | 13 and 26 times the fit's processor time | 0.6 to 1.2 times on MNIST, leaves and tiles |
| `balance` of classes of 121 and 123 images | makes two images | makes none: a tenth is tolerated |
| `report --gain` of a classifier at chance | 8 minutes in silence | says "undertrained", and how much time is left |
| images that a fit reads | all | some hundred of each class that a model learns from, and 100 others |
| the demonstration beside busy processes, per processor time alone | 4.1 | 0.93 to 0.97 |
| a loader's epoch of moved 28x28 images, per image | 299 microseconds | 42 microseconds |
| memory of a batch of 64 moved photographs of 2000x1500 pixels, cropped to 224 | 1.2 GB | 0.26 GB |
| moving a photograph of 2000x1500 pixels, processor without AVX-512 | 440 ms | 300 to 360 ms |

**Quality before and after** products in bfloat16, the fused optimiser, and stopping at a boundary. Before, the
demonstration (digits, five seeds) had an FID of 2.23, a balanced accuracy of 94.29 % and 3.3 seconds of fits. Now it
has 1.37, 94.51 % and 0.6 seconds. `gae (paper)` on MNIST, with mixtures fitted five times, has an FID of 0.63 to 0.75
in float32 and 0.64 to 0.81 in bfloat16 (`benchmarks/results/paper/REPORT.md`).

"""


def wait() -> None:
    r"""Waits until the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _record(
    name: str, unit: str, ours: Sequence[float], others: Sequence[float], *, what: str, beside: str, aim: float
) -> Comparison:
    r"""Adds the figures of some rounds to the table."""
    ratios = [figure / reference for figure, reference in zip(ours, others, strict=True)]
    comparison = Comparison(
        name=name,
        what=what,
        reference=beside,
        aim=aim,
        rounds=len(ratios),
        unit=unit,
        ours=round(statistics.median(ours), 4),
        other=round(statistics.median(others), 4),
        ratio=round(statistics.median(ratios), 3),
        least=round(min(ratios), 3),
        most=round(max(ratios), 3),
        device=device_name(resolve_device("auto")),
        threads=torch.get_num_threads(),
        versions=versions("torch", "torchvision", "lightning", "scikit-learn"),
    )
    comparison_table(RESULTS / "comparisons.csv").add(comparison)
    return comparison


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., Comparison]:
    r"""What adds figures that a benchmark took itself to the table, a line for each unit."""

    def add(ours: Sequence[float], others: Sequence[float], *, unit: str, **texts: Any) -> Comparison:
        return _record(f"{request.node.name}, {unit}", unit, ours, others, **texts)

    return add


@pytest.fixture
def compare_memory(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    r"""What runs a program in a process of its own and adds the MB that it prints to the table, beside a number."""

    def run(program: str, megabytes: float, *, what: str, beside: str, aim: float = float("nan")) -> None:
        printed: list[float] = []

        def measured() -> None:
            command = [sys.executable, "-c", program]
            printed.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

        benchmark.pedantic(measured, rounds=1, iterations=1)
        record = _record(request.node.name, "MB", printed, [megabytes], what=what, beside=beside, aim=aim)
        benchmark.extra_info |= {"MB": record.ours, "ratio": record.ratio}

    return run


@pytest.fixture
def compare_growth(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    r"""What runs a program with a size and with a smaller one in turns, each in a process of its own.

    The program prints seconds and MB. The time goes to the table beside that of the smaller size times the work, so
    that a ratio of 1 is growth with the work; and the memory beside the room that the data take.
    """

    def run(program: Callable[[int], str], smaller: int, size: int, *, of: str, work: float, megabytes: float) -> None:
        figures: dict[int, list[tuple[float, float]]] = {smaller: [], size: []}

        def measured(size: int) -> None:
            command = [sys.executable, "-c", program(size)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, memory = map(float, printed.split())
            figures[size].append((seconds, memory))

        benchmark.pedantic(lambda: measured(size), setup=lambda: measured(smaller), rounds=GROWTH_ROUNDS, iterations=1)
        (small, _), (large, memory) = (zip(*figures[own], strict=True) for own in (smaller, size))
        times = {"what": f"{of}: {size}, time", "beside": f"{smaller} of them, times {work:g}, the work"}
        grown = [work * seconds for seconds in small]
        record = _record(request.node.name, "s", large, grown, aim=1.0, **times)
        room = {"what": f"{of}: {size}, memory", "beside": "what the images take as they are stored"}
        _record(f"{request.node.name}, memory", "MB", memory, [megabytes] * len(memory), aim=float("nan"), **room)
        benchmark.extra_info |= {"ratio": record.ratio}

    return run


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
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
        figures: bool = False,
    ) -> None:
        references: list[float] = []
        times: list[float] = []

        def timed(function: Callable[[], Any], into: list[float]) -> None:
            start = time.perf_counter()
            figure = function()
            wait()
            # What it returns is the time, where it knows better.
            into.append(figure if figures else time.perf_counter() - start)

        if warmup:
            reference()
            ours()
            wait()
        benchmark.pedantic(
            lambda: timed(ours, times), setup=lambda: timed(reference, references), rounds=rounds, iterations=1
        )
        record = _record(request.node.name, "s", times, references, what=what, beside=beside, aim=aim)
        benchmark.extra_info |= {"reference seconds": record.other, "ratio": record.ratio}

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
