r"""``python -m benchmarks.cluster``: the overhead of fits on a cluster.

The cluster has two nodes of one processor each, on the same machine and processors as the other fits. The difference is
the overhead of the cluster: the start and imports of workers, and the transfer of images and models.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import joblib
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from tqdm.auto import tqdm

from gae_augment import GAEAugmenter, GenerativeModel

from .machine import device_name, versions
from .records import RecordTable
from .tables import markdown, write_report

RESULTS = Path(__file__).resolve().parent / "results" / "cluster"

HERE, PROCESSES, RAY, DASK = "this process", "processes", "Ray", "Dask"

PROCESSORS = 2

SIZES: dict[str, tuple[int, int, tuple[int, ...], int]] = {
    "10 of 50 images, 1x28x28": (10, 50, (1, 28, 28), 20),
    "40 of 100 images, 1x28x28": (40, 100, (1, 28, 28), 5),
    "10 of 200 images, 3x64x64": (10, 200, (3, 64, 64), 1),
}
"""Scarce classes, images per class, their shape, and epochs, which the overhead of a cluster does not depend on."""


@dataclass(frozen=True)
class Run:
    r"""One fit; ``first`` is 1 for the first fit of a new cluster, whose workers still have to import."""

    size: str
    place: str
    first: int
    repetition: int
    seconds: float
    device: str
    versions: str


@contextmanager
def _ray() -> Iterator[None]:
    import ray
    from ray.cluster_utils import Cluster

    from gae_augment.integrations.ray import register_ray_tasks

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(PROCESSORS - 1):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        register_ray_tasks()
        with joblib.parallel_config("ray_tasks"):
            yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def _dask() -> Iterator[None]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=PROCESSORS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@contextmanager
def _processes() -> Iterator[None]:
    from joblib.externals.loky import get_reusable_executor

    try:
        with joblib.parallel_config("loky", n_jobs=PROCESSORS):
            yield
    finally:
        get_reusable_executor().shutdown(wait=True)


PLACES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    HERE: nullcontext,
    PROCESSES: _processes,
    RAY: _ray,
    DASK: _dask,
}


def measure(size: str, repetition: int) -> list[Run]:
    r"""Fits the same classes in every place, twice."""
    classes, images, shape, epochs = SIZES[size]
    rng = np.random.default_rng(repetition)
    X = rng.integers(0, 256, ((classes + 1) * images + 1, *shape), dtype=np.uint8)
    # The last class is the largest, which needs no images.
    y = np.minimum(np.arange(len(X)) // images, classes)
    # Noise never reaches this boundary, so that all epochs are trained.
    augmenter = GAEAugmenter(GenerativeModel(delta=1e-9, epochs=epochs), random_state=0, progress=False)
    device = f"{device_name(torch.device('cpu'))}, {PROCESSORS} cores"
    libraries = versions("torch", "joblib", "ray", "distributed")
    runs = []
    torch.set_num_threads(PROCESSORS)
    places = list(PLACES.items())
    # The order rotates, since the load of the machine changes over time.
    for place, context in places[repetition % len(places) :] + places[: repetition % len(places)]:
        with context():
            for first in (1, 0):
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    augmenter.fit(X, y)
                seconds = round(time.perf_counter() - start, 3)
                runs.append(Run(size, place, first, repetition, seconds, device, libraries))
    return runs


def report(runs: Sequence[Run]) -> str:
    r"""Returns a table: the seconds of a fit in this process, and the overhead of each other place."""
    lines = []
    for size in dict.fromkeys(run.size for run in runs):
        seconds = {
            (place, first): fmean(measured)
            for place in PLACES
            for first in (1, 0)
            if (measured := [run.seconds for run in runs if (run.size, run.place, run.first) == (size, place, first)])
        }
        here = seconds[HERE, 0]
        cells = [
            f"{seconds[place, 1] - here:+.1f} / {seconds[place, 0] - here:+.1f}" for place in (PROCESSES, RAY, DASK)
        ]
        lines.append([size, f"{here:.1f}", *cells, str(len({run.repetition for run in runs if run.size == size}))])
    others = [f"{place} add: to the first fit / to a later one" for place in (PROCESSES, RAY, DASK)]
    head = ("scarce classes", f"seconds in {HERE}", *others)
    machines = dict.fromkeys(f"{run.device}, {run.versions}" for run in runs)
    return "\n".join([markdown((*head, "repetitions"), lines), *(f"- {machine}" for machine in machines), ""])


def main(arguments: list[str] | None = None) -> None:
    r"""Measures every size; fits that are in the results are not repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    table = RecordTable(options.output / "runs.csv", Run, ("size", "place", "first", "repetition"))
    done = {(run.size, run.repetition) for run in table.records.values()}
    plans = [(size, number) for number in range(options.repetitions) for size in options.sizes]
    missing = [plan for plan in plans if plan not in done]
    print(f"{len(plans) - len(missing)} of {len(plans)} runs are in {table.path}.")
    for size, number in tqdm(missing, unit="run"):
        table.add(*measure(size, number))
    table_text = report(list(table.records.values()))
    write_report(options.output, "Fits on a cluster", table_text)
    print(table_text)


if __name__ == "__main__":
    main()
