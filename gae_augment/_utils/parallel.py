r"""Parallel jobs in threads, in processes or on a cluster, with any backend of joblib."""

__all__ = ["MAX_ATTEMPTS", "Failure", "attempt", "check_n_jobs", "run_jobs", "runs_here"]

import warnings
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, TypeVar

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

MAX_ATTEMPTS = 3
"""The maximum number of attempts at a job."""


@dataclass(frozen=True)
class Failure:
    r"""The result of a failed job.

    Attributes:
        reason: The type and the message of the exception.
    """

    reason: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        r"""Returns the failure of a job that raised an exception."""
        return cls(f"{type(error).__name__}: {error}")


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | Failure:
    r"""Calls a function and returns its result, or a :class:`Failure` if the function raises an exception."""
    try:
        return function(*arguments)
    except Exception as error:
        return Failure.of(error)


def check_n_jobs(n_jobs: int | None) -> None:
    r"""Raises a ValueError if ``n_jobs`` is 0, or neither an integer nor ``None``."""
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise ValueError(
            f"'n_jobs' is {n_jobs!r}, but must be a number of jobs at the same time: None or 1, or -1 for one per core."
        )


def runs_here(n_jobs: int | None) -> bool:
    r"""Returns whether joblib runs jobs in this process, one after another."""
    # A cluster backend runs jobs elsewhere even if the cluster has a single free processor.
    return effective_n_jobs(n_jobs) == 1 and get_active_backend()[0].default_n_jobs == 1


def _keyed(key: Key, function: Callable[..., Result], *arguments: Any) -> tuple[Key, Result | Failure]:
    return key, attempt(function, *arguments)


def run_jobs(
    function: Callable[..., Result], jobs: Mapping[Key, tuple[Any, ...]], n_jobs: int | None, **options: Any
) -> Iterator[tuple[Key, Result | Failure]]:
    r"""Runs jobs in parallel, and yields a pair (key, result) when a job ends.

    If a worker dies, the jobs without a result run again, at most twice. Closing the iterator cancels jobs that have
    not begun.

    Args:
        function: The function that each job calls.
        jobs: The arguments of the function for each job, by key.
        n_jobs: The number of jobs at a time, as in joblib. ``None`` uses joblib's default.
        **options: Further arguments of :class:`joblib.Parallel`.

    Yields:
        The key and the result of a job. The result is a :class:`Failure` if the function raised an exception, or the
        job's worker died in the last attempt.

    Warns:
        RuntimeWarning: If a worker died and jobs run again.
    """
    missing = dict(jobs)
    for number in range(1, MAX_ATTEMPTS + 1):
        # In the last attempt, each job runs alone, so that a job that kills its worker takes no other job down.
        for keys in [list(missing)] if number < MAX_ATTEMPTS else [[key] for key in missing]:
            results: Iterable[tuple[Key, Result | Failure]] = ()
            try:
                results = _run({key: jobs[key] for key in keys}, function, n_jobs, options)
                for key, result in results:
                    del missing[key]
                    yield key, result
            except (GeneratorExit, KeyboardInterrupt):
                if isinstance(results, Generator):
                    # Joblib warns that it cancels the other jobs, which is intended here.
                    with warnings.catch_warnings(action="ignore"):
                        results.close()
                raise
            except Exception as error:
                if number == MAX_ATTEMPTS:
                    yield keys[0], Failure.of(error)
                    continue
                reason = next(iter(str(error).strip().splitlines()), "")
                warnings.warn(
                    f"A worker was lost or could not be reached ({type(error).__name__}: {reason}). Its jobs are "
                    f"retried: {list(missing)}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if not missing:
            return


def _run(
    jobs: Mapping[Key, tuple[Any, ...]], function: Callable[..., Result], n_jobs: int | None, options: dict[str, Any]
) -> Iterable[tuple[Key, Result | Failure]]:
    # Each call is one object: Dask would scatter separate arguments, and lose them with the worker.
    calls = [delayed(partial(_keyed, key, function, *arguments))() for key, arguments in jobs.items()]
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", **options)
    except ValueError:
        # Some backends of joblib return all results at the end.
        parallel = Parallel(n_jobs=n_jobs, **options)
    results: Iterable[tuple[Key, Result | Failure]] = parallel(calls)
    return results
