r"""Threads: a fixed number for each task, and tasks in parallel.

The number of threads of a matrix product changes the order of its sums, and with it the last bits of the result. Each
task therefore has a fixed number of threads, usually one, and several tasks run in parallel. All cores are used, and
results do not depend on their number.
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
    r"""A process-wide context: the first thread to use it enters, and the last one leaves.

    Without sharing, a thread that leaves would restore a process-wide setting while another still needs it.

    Args:
        make: A function that creates the context manager.
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
    r"""Sets the number of threads of PyTorch operations in the calling thread.

    A single thread also avoids a deadlock in forked processes: PyTorch would wait for the parent's threads, which do
    not exist there.
    """
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
    r"""Limits NumPy, scikit-learn and PyTorch in the calling thread to a single thread."""
    if getattr(_thread_local, "single_threaded", False):
        # threadpoolctl takes milliseconds to find the libraries, so nested uses skip it.
        yield
        return
    _thread_local.single_threaded = True
    try:
        # OpenMP limits apply to the calling thread, BLAS limits to the process, so only the latter are shared.
        with use_threads(1), _SINGLE_THREADED_BLAS, threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        _thread_local.single_threaded = False


@contextmanager
def interrupted_by(event: Event) -> Iterator[None]:
    r"""Lets an event interrupt the calling thread, at every :func:`check_interruption`.

    Ctrl+C reaches the main thread only.

    Raises:
        InterruptedError: If the event is set already.
    """
    _thread_local.interruption = event
    try:
        check_interruption()
        yield
    finally:
        del _thread_local.interruption


def check_interruption() -> None:
    r"""Raises an InterruptedError if the event of :func:`interrupted_by` is set."""
    event: Event | None = getattr(_thread_local, "interruption", None)
    if event is not None and event.is_set():
        raise InterruptedError("The work was interrupted.")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads_each: int = 1
) -> Iterator[Result]:
    r"""Yields the results of a function in order, from parallel calls that share PyTorch's number of threads.

    If PyTorch has a single thread, as in a DataLoader or pool worker, calls run sequentially in the calling thread.

    Args:
        function: The function.
        items: Its arguments, one for each call.
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
