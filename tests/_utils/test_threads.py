import threading
import time
import warnings
from contextlib import contextmanager

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from gae_augment._utils.threads import SharedContext, map_in_threads, single_threaded_libraries, use_threads


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_use_threads_restores_the_number_of_threads(four_threads):
    with use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    with pytest.raises(ZeroDivisionError), use_threads(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


def test_calls_run_in_parallel_on_one_thread_each_and_keep_their_order(four_threads):
    barrier = threading.Barrier(4)

    def call(item):
        # The barrier opens only when four calls run at the same time.
        barrier.wait(timeout=20)
        time.sleep(0.02 * (4 - item))
        return item, torch.get_num_threads(), threading.get_ident()

    items, threads, idents = zip(*map_in_threads(call, range(4)), strict=True)
    assert items == (0, 1, 2, 3)
    assert set(threads) == {1}
    assert len(set(idents)) == 4
    assert torch.get_num_threads() == 4
    threads_of_new_thread = []
    thread = threading.Thread(target=lambda: threads_of_new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert threads_of_new_thread == [4]


def test_two_threads_per_call_halve_the_parallel_calls(four_threads):
    parallel_calls, lock, running = [], threading.Lock(), [0]

    def call(_):
        with lock:
            running[0] += 1
            parallel_calls.append(running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return torch.get_num_threads()

    assert set(map_in_threads(call, range(8), threads_each=2)) == {2}
    assert max(parallel_calls) == 2


def test_single_thread_runs_calls_in_the_calling_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(map_in_threads(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}
    finally:
        torch.set_num_threads(before)


def test_first_failure_is_raised_and_waiting_calls_are_cancelled(four_threads):
    started = []

    def call(item):
        started.append(item)
        if item == 0:
            raise ZeroDivisionError("first failure")
        time.sleep(0.2)

    with pytest.raises(ZeroDivisionError, match="first failure"):
        list(map_in_threads(call, range(100)))
    assert len(started) < 20
    assert torch.get_num_threads() == 4


def test_products_do_not_depend_on_the_number_of_threads(four_threads):
    # Sums of these shapes are split among threads, and differ without the limit.
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*shape, generator=generator) for shape in ((100, 1000), (1000, 784)))
    torch.set_num_threads(1)
    expected = x @ w
    torch.set_num_threads(4)
    assert all(torch.equal(product, expected) for product in map_in_threads(lambda _: x @ w, range(8)))


def test_shared_context_is_entered_by_the_first_thread_and_left_by_the_last():
    events = []

    @contextmanager
    def context():
        events.append("entered")
        yield
        events.append("left")

    shared = SharedContext(context)
    inside, leave = threading.Event(), threading.Event()

    def use_in_thread():
        with shared:
            inside.set()
            leave.wait(timeout=20)

    thread = threading.Thread(target=use_in_thread)
    with shared:
        thread.start()
        assert inside.wait(timeout=20)
    assert events == ["entered"]
    leave.set()
    thread.join()
    assert events == ["entered", "left"]
    with warnings.catch_warnings(), shared:
        assert events[-1] == "entered"


def test_libraries_are_limited_to_one_thread_and_restored(four_threads):
    def enter_and_leave():
        with single_threaded_libraries():
            pass

    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(3):
        before = blas_threads()
        assert before
        with single_threaded_libraries():
            assert torch.get_num_threads() == 1
            with single_threaded_libraries():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
            # Another thread enters and leaves the context in the meantime.
            thread = threading.Thread(target=enter_and_leave)
            thread.start()
            thread.join()
            assert set(blas_threads()) == {1}
        assert blas_threads() == before
