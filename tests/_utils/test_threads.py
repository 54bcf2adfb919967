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


def test_threads_are_given_back(four_threads):
    with use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    with pytest.raises(ZeroDivisionError), use_threads(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


def test_calls_run_side_by_side_each_on_one_thread_and_come_in_order(four_threads):
    together = threading.Barrier(4)

    def call(item):
        # It passes only if four calls are there at the same time.
        together.wait(timeout=20)
        time.sleep(0.02 * (4 - item))
        return item, torch.get_num_threads(), threading.get_ident()

    items, threads, places = zip(*map_in_threads(call, range(4)), strict=True)
    assert items == (0, 1, 2, 3)
    assert set(threads) == {1}
    assert len(set(places)) == 4
    assert torch.get_num_threads() == 4
    started_later = []
    thread = threading.Thread(target=lambda: started_later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert started_later == [4]


def test_calls_of_two_threads_each_are_half_as_many_at_a_time(four_threads):
    at_once, lock, running = [], threading.Lock(), [0]

    def call(_):
        with lock:
            running[0] += 1
            at_once.append(running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return torch.get_num_threads()

    assert set(map_in_threads(call, range(8), threads_each=2)) == {2}
    assert max(at_once) == 2


def test_one_thread_is_the_calling_one():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(map_in_threads(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}
    finally:
        torch.set_num_threads(before)


def test_the_first_failure_is_raised_and_what_has_not_begun_is_left(four_threads):
    begun = []

    def call(item):
        begun.append(item)
        if item == 0:
            raise ZeroDivisionError("the first")
        time.sleep(0.2)

    with pytest.raises(ZeroDivisionError, match="the first"):
        list(map_in_threads(call, range(100)))
    assert len(begun) < 20
    assert torch.get_num_threads() == 4


def test_products_are_the_same_whatever_the_number_of_threads(four_threads):
    # Shapes whose sums are split among threads: without the limit these differ.
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*shape, generator=generator) for shape in ((100, 1000), (1000, 784)))
    torch.set_num_threads(1)
    expected = x @ w
    torch.set_num_threads(4)
    assert all(torch.equal(product, expected) for product in map_in_threads(lambda _: x @ w, range(8)))


def test_a_shared_context_is_entered_by_the_first_and_left_by_the_last():
    events = []

    @contextmanager
    def context():
        events.append("entered")
        yield
        events.append("left")

    shared = SharedContext(context)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with shared:
            inside.set()
            leave.wait(timeout=20)

    thread = threading.Thread(target=other)
    with shared:
        thread.start()
        assert inside.wait(timeout=20)
    assert events == ["entered"]
    leave.set()
    thread.join()
    assert events == ["entered", "left"]
    with warnings.catch_warnings(), shared:
        assert events[-1] == "entered"


def test_libraries_have_one_thread_and_get_theirs_back(four_threads):
    def come_and_go():
        with single_threaded_libraries():
            pass

    def numbers():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(3):
        before = numbers()
        assert before
        with single_threaded_libraries():
            assert torch.get_num_threads() == 1
            with single_threaded_libraries():
                assert set(numbers()) == {1}
            assert set(numbers()) == {1}
            # Another thread comes and goes meanwhile.
            thread = threading.Thread(target=come_and_go)
            thread.start()
            thread.join()
            assert set(numbers()) == {1}
        assert numbers() == before
