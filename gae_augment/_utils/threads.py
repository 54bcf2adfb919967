r"""Parallel tasks with a fixed number of threads per task.

The fixed number makes results independent of the number of cores.
"""

__all__ = [
    "SharedContext",
    "check_interruption",
    "interrupted_by",
    "map_in_threads",
    "single_threaded_libraries",
    "use_threads",
]

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Lock, local
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedContext:
    r"""Context manager: lets several threads share another context manager that changes a process-wide setting.

    The first thread to enter changes the setting, and the last thread to exit restores the setting.

    Args:
        make: A function that creates the shared context manager.
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
    r"""Context manager: sets PyTorch's number of threads for the calling thread, and restores it at the end."""
    previous = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


_SINGLE_THREADED_BLAS = SharedContext(lambda: threadpool_limits(1, user_api="blas"))
_thread_local = local()


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    r"""Context manager: makes NumPy, scikit-learn and PyTorch run single-threaded in the calling thread.

    BLAS, the linear algebra library of NumPy, runs single-threaded in all threads of the process.
    """
    if getattr(_thread_local, "single_threaded", False):
        # threadpoolctl takes milliseconds to find the libraries, so nested uses skip it.
        yield
        return
    _thread_local.single_threaded = True
    try:
        # OpenMP limits apply to the calling thread, BLAS limits to the process, so only BLAS limits are shared.
        with use_threads(1), _SINGLE_THREADED_BLAS, threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        _thread_local.single_threaded = False


@contextmanager
def interrupted_by(event: Event) -> Iterator[None]:
    r"""Context manager: makes :func:`check_interruption` raise an error in this thread once ``event`` is set.

    Raises:
        InterruptedError: If ``event`` is set at the start.
    """
    _thread_local.interruption = event
    try:
        check_interruption()
        yield
    finally:
        del _thread_local.interruption


def check_interruption() -> None:
    r"""Raises an InterruptedError if this thread's event in :func:`interrupted_by` is set."""
    event: Event | None = getattr(_thread_local, "interruption", None)
    if event is not None and event.is_set():
        raise InterruptedError("The work was interrupted.")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads_each: int = 1
) -> Iterator[Result]:
    r"""Calls a function for all items in parallel, and yields the results in the order of the items.

    Parallel calls together use at most ``torch.get_num_threads()`` threads.

    Args:
        function: The function to call.
        items: The arguments of the function, one per call.
        threads_each: The number of threads of each call.
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
        # After a failure, the results of the other calls are not needed.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
        # New threads inherit the number set last by any thread, here by a worker of the pool.
        torch.set_num_threads(threads)
