r"""Jobs: pieces of work in processes of their own or on a cluster, by any of joblib's backends.

A worker that dies, as one does that a system short of memory kills, takes what it was at with it. Pieces of work here
depend on their arguments alone, so that those are done again and come out the same.
"""

__all__ = ["ATTEMPTS", "run_jobs", "runs_here"]

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

Key = TypeVar("Key", bound=Hashable)

ATTEMPTS = 3
"""So often a piece of work is given to a worker."""


def runs_here(n_jobs: int | None) -> bool:
    r"""Returns whether joblib does the jobs in this process, one after another."""
    # A backend that takes all of a cluster as a rule does so if the cluster has one processor, or one that is left.
    return effective_n_jobs(n_jobs) == 1 and get_active_backend()[0].default_n_jobs == 1


def _keyed(key: Key, function: Callable[..., Any], *arguments: Any) -> tuple[Key, Any]:
    return key, function(*arguments)


def run_jobs(
    function: Callable[..., Any], jobs: Mapping[Key, tuple[Any, ...]], n_jobs: int | None, **options: Any
) -> Iterator[tuple[Key, Any]]:
    r"""Yields the key and the result of each job, in the order in which they are ready.

    Where workers die, only the jobs without a result are done again, if the backend gives results one by one; those
    that give all at the end, joblib's ``"multiprocessing"`` and Ray's ``"ray"``, do all of them again.

    Args:
        function: What is called. It catches its own errors: one that reaches the backend counts as a dead worker.
        jobs: The arguments of each call, by a key.
        n_jobs: How many calls at a time, as in joblib.
        **options: More arguments of :class:`joblib.Parallel`.

    Yields:
        Key and result, or the key and the error of the backend after the last attempt.

    Warns:
        RuntimeWarning: If jobs are done again.
    """
    missing = dict(jobs)
    for attempt in range(1, ATTEMPTS + 1):
        # As one object: arguments of their own Dask would scatter, and what it scatters is lost with the worker.
        calls = [delayed(partial(_keyed, key, function, *arguments))() for key, arguments in missing.items()]
        try:
            try:
                parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", **options)
            except ValueError:
                # Some of joblib's backends give their results at the end only.
                parallel = Parallel(n_jobs=n_jobs, **options)
            for key, result in parallel(calls):
                del missing[key]
                yield key, result
            return
        except Exception as error:
            if attempt == ATTEMPTS:
                for key in missing:
                    yield key, error
                return
            warnings.warn(
                f"A worker was lost ({type(error).__name__}: {str(error).strip().splitlines()[:1]}). What it was to "
                f"do is done again: {list(missing)}.",
                RuntimeWarning,
                stacklevel=2,
            )
