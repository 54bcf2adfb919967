r"""Jobs: pieces of work in processes of their own or on a cluster, by any of joblib's backends.

A worker that dies, as one does that a system short of memory kills, takes what it was at with it. Pieces of work here
depend on their arguments alone, so that those are done again and come out the same.
"""

__all__ = ["ATTEMPTS", "Failure", "attempt", "run_jobs", "runs_here"]

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

ATTEMPTS = 3
"""So often a piece of work is given to a worker."""


@dataclass(frozen=True)
class Failure:
    r"""What comes of a piece of work in place of its result, so that one that fails loses no other.

    Attributes:
        reason: The error, in words.
    """

    reason: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        r"""Returns the failure that an error stands for."""
        return cls(f"{type(error).__name__}: {error}")


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | Failure:
    r"""Returns the result of a function, or its failure."""
    try:
        return function(*arguments)
    except Exception as error:
        return Failure.of(error)


def runs_here(n_jobs: int | None) -> bool:
    r"""Returns whether joblib does the jobs in this process, one after another."""
    # A backend that takes all of a cluster as a rule does so if the cluster has one processor, or one that is left.
    return effective_n_jobs(n_jobs) == 1 and get_active_backend()[0].default_n_jobs == 1


def _keyed(key: Key, function: Callable[..., Result], *arguments: Any) -> tuple[Key, Result | Failure]:
    return key, attempt(function, *arguments)


def run_jobs(
    function: Callable[..., Result], jobs: Mapping[Key, tuple[Any, ...]], n_jobs: int | None, **options: Any
) -> Iterator[tuple[Key, Result | Failure]]:
    r"""Yields the key and the result of each job, in the order in which they are ready.

    Where workers die, only the jobs without a result are done again, if the backend gives results one by one; those
    that give all at the end, joblib's ``"multiprocessing"`` and Ray's ``"ray"``, do all of them again.

    Args:
        function: What is called.
        jobs: The arguments of each call, by a key.
        n_jobs: How many calls at a time, as in joblib.
        **options: More arguments of :class:`joblib.Parallel`.

    Yields:
        Key and result, or the key and the failure of the function, or of the backend after the last attempt.

    Warns:
        RuntimeWarning: If jobs are done again.
    """
    missing = dict(jobs)
    for number in range(1, ATTEMPTS + 1):
        # In the last attempt each job is alone, so that one that its worker always dies of takes no other along.
        for together in [list(missing)] if number < ATTEMPTS else [[key] for key in missing]:
            try:
                for key, result in _run({key: jobs[key] for key in together}, function, n_jobs, options):
                    del missing[key]
                    yield key, result
            except Exception as error:
                if number == ATTEMPTS:
                    yield together[0], Failure.of(error)
                    continue
                reason = next(iter(str(error).strip().splitlines()), "")
                warnings.warn(
                    f"A worker was lost, or could not be reached ({type(error).__name__}: {reason}). What it was to do "
                    f"is done again: {list(missing)}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if not missing:
            return


def _run(
    jobs: Mapping[Key, tuple[Any, ...]], function: Callable[..., Result], n_jobs: int | None, options: dict[str, Any]
) -> Iterable[tuple[Key, Result | Failure]]:
    # As one object: arguments of their own Dask would scatter, and what it scatters is lost with the worker.
    calls = [delayed(partial(_keyed, key, function, *arguments))() for key, arguments in jobs.items()]
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", **options)
    except ValueError:
        # Some of joblib's backends give their results at the end only.
        parallel = Parallel(n_jobs=n_jobs, **options)
    results: Iterable[tuple[Key, Result | Failure]] = parallel(calls)
    return results
