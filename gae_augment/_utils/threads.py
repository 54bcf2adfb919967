r"""Threads: how many share the arithmetic of a piece of work, and pieces of work side by side.

The order of a sum, and with it the last bits of a result, changes with the number of threads that a matrix product is
shared among. Every piece of work therefore has a fixed number of them, one as a rule, and several pieces run at a time:
results are the same whatever the machine's cores are, and all of them are used.
"""

__all__ = ["SharedContext", "map_in_threads", "single_threaded_libraries", "use_threads"]

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Lock, local
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedContext:
    r"""A context of the whole process, entered by the first thread that needs it and left by the last.

    Args:
        make: Makes the context manager, which changes what all threads see: were each thread to restore what it found,
            one would take away what another still needs.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._users = make, Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._context = self._make()
                self._context.__enter__()
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._context.__exit__(None, None, None)


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    r"""Shares PyTorch's arithmetic in the calling thread among so many.

    With one it also goes on in a process that was forked from one that had used several, where PyTorch would wait for
    threads that are not there.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_SINGLE_THREADED_BLAS = SharedContext(lambda: threadpool_limits(1, user_api="blas"))
_own = local()


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    r"""Runs the arithmetic of NumPy and scikit-learn in the calling thread on that thread alone, and PyTorch's too."""
    if getattr(_own, "single_threaded", False):
        # To look for the libraries takes some milliseconds.
        yield
        return
    _own.single_threaded = True
    try:
        # OpenMP counts threads for each thread that asks, BLAS for the process.
        with use_threads(1), _SINGLE_THREADED_BLAS, threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        _own.single_threaded = False


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads_each: int = 1
) -> Iterator[Result]:
    r"""Yields the results of a function in order, as many calls at a time as PyTorch has threads for.

    Where PyTorch has one thread, as in the worker of a loader or of a pool, the calls come one after another in the
    calling thread.

    Args:
        function: What is called.
        items: What it is called with.
        threads_each: How many threads a call has.
    """
    items = list(items)
    threads = torch.get_num_threads()
    workers = min(threads // threads_each, len(items))
    if workers <= 1:
        for item in items:
            with use_threads(threads_each):
                result = function(item)
            yield result
        return

    def call(item: Item) -> Result:
        with use_threads(threads_each):
            return function(item)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="gae-augment")
    try:
        yield from pool.map(call, items)
    except BaseException:
        # Nobody waits for the results of the calls that are still on their way.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
        # A thread that is started later takes over the number that was set last, by whichever thread.
        torch.set_num_threads(threads)
