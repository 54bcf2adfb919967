r"""Fits in the threads of one process, and their interruption."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import processes
import pytest
import torch

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import check_interruption, interrupted_by
from gae_augment.data import ValueScale
from gae_augment.fitting import FitCache, fit_classes, parallel_fits, plan_fits

SIZES = {0: 60, 1: 20, 2: 24, 3: 28, 4: 32}
ENDLESS = GenerativeModel(epochs=10**6, delta=1e-9)
# The first class is soon fitted, and the others never are.
MODELS_OF_CLASSES = {1: GenerativeModel(epochs=2, delta=100.0), **dict.fromkeys([2, 3, 4], ENDLESS)}

CTRL_C = """
import json, sys, threading, time
sys.path[:0] = sys.argv[2:]
import torch
from test_interruption import MODELS_OF_CLASSES, make_data, running_fits, threads_of_new_thread
from gae_augment import GAEAugmenter

if __name__ == "__main__":
    torch.set_num_threads(3)
    try:
        GAEAugmenter(MODELS_OF_CLASSES, random_state=0).fit(*make_data(), checkpoint_dir=sys.argv[1])
    except KeyboardInterrupt as error:
        # An interactive session keeps the traceback too, and with it all frames.
        interrupt = error
    result = [type(interrupt).__name__, running_fits(), torch.get_num_threads(), threads_of_new_thread()]
    before = time.process_time()
    time.sleep(0.5)
    print(json.dumps([*result, time.process_time() - before]))
"""


def make_data():
    y = torch.repeat_interleave(torch.tensor(list(SIZES)), torch.tensor(list(SIZES.values())))
    return torch.rand(len(y), 12, 12, generator=make_generator(0)), y


def make_fits(models=MODELS_OF_CLASSES):
    X, y = make_data()
    images = {label: X[y == label] for label in (1, 2, 3, 4)}
    return plan_fits(images, {None: GenerativeModel(), **models}, ValueScale.of(X), 0, "cpu")


def running_fits():
    r"""Returns the names of threads that can run a fit; the pool's threads end within milliseconds after their fits."""
    deadline = time.monotonic() + 5
    while names := [thread.name for thread in threading.enumerate() if "worker" in thread.name]:
        if time.monotonic() > deadline:
            return names
        time.sleep(0.01)
    return []


def threads_of_new_thread():
    r"""Returns the number of threads of PyTorch in a thread that starts now."""
    numbers = []
    thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return numbers[0]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_ctrl_c_ends_the_fit_and_its_threads(tmp_path):
    script, folder = tmp_path / "fit.py", tmp_path / "cache"
    script.write_text(CTRL_C)
    folders = [Path(__file__).parent, Path(processes.__file__).parent]
    command = processes.interruptible([sys.executable, "-W", "error", script, folder, *folders])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(folder.glob("*.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    # Half a second of this is the measurement of processor time.
    assert time.monotonic() - sent < 20
    assert process.returncode == 0, errors
    error, running, threads, threads_later, processor_time = json.loads(output)
    assert error == "KeyboardInterrupt"
    assert running == []
    assert (threads, threads_later) == (3, 3)
    assert processor_time < 0.1
    assert "class/s]" in errors, "the progress bar is missing"
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_closed_iteration_ends_its_threads_and_keeps_finished_classes(tmp_path, three_threads):
    cache, fits = FitCache(tmp_path), make_fits()
    fitted = fit_classes(fits, cache=cache)
    label, model = next(fitted)
    assert (label, model.report.images) == (1, 20)
    assert threading.active_count() > 1
    fitted.close()
    assert running_fits() == []
    assert (torch.get_num_threads(), threads_of_new_thread()) == (3, 3)
    assert list(tmp_path.glob("*.safetensors")) == [cache.path(fits[1])]


def test_error_while_the_classes_are_collected_ends_all_threads(tmp_path, three_threads, monkeypatch):
    class Bar(parallel_fits.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(parallel_fits, "tqdm", Bar)
    augmenter = GAEAugmenter(MODELS_OF_CLASSES, random_state=0, progress=False)
    # The exception keeps its traceback, and with it all frames.
    with pytest.raises(KeyboardInterrupt) as caught:
        augmenter.fit(*make_data(), checkpoint_dir=tmp_path)
    assert caught.value.__traceback__ is not None
    assert running_fits() == []
    assert (torch.get_num_threads(), threads_of_new_thread()) == (3, 3)


def test_number_of_threads_is_restored_after_the_fits(three_threads):
    quick = GenerativeModel(epochs=2, delta=100.0)
    models = dict(fit_classes(make_fits(dict.fromkeys([1, 2, 3, 4], quick))))
    assert sorted(models) == [1, 2, 3, 4]
    assert running_fits() == []
    assert (torch.get_num_threads(), threads_of_new_thread()) == (3, 3)


def test_as_many_fits_run_at_a_time_as_threads_suffice_for(three_threads, monkeypatch):
    lock, running, counts = threading.Lock(), [0], []

    def fit_class(images, *_):
        with lock:
            running[0] += 1
            counts.append(running[0])
        time.sleep(0.2)
        with lock:
            running[0] -= 1
        raise ValueError("not fitted")

    monkeypatch.setattr("gae_augment.fitting.parallel_fits.fit_class", fit_class)
    for n_threads, expected in ((1, 3), (2, 1), (5, 1)):
        counts.clear()
        model = GenerativeModel(n_threads=n_threads)
        failures = dict(fit_classes(make_fits(dict.fromkeys([1, 2, 3, 4], model))))
        assert {failure.reason for failure in failures.values()} == {"ValueError: not fitted"}
        assert max(counts) == expected


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_jobs", [None, 1])
def test_progress_is_shown_for_every_class(threads, n_jobs):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    calls = []
    try:
        models = dict.fromkeys([1, 2, 3, 4], GenerativeModel(epochs=2, delta=100.0))
        fitted = dict(fit_classes(make_fits(models), n_jobs=n_jobs, show=lambda *arguments: calls.append(arguments)))
    finally:
        torch.set_num_threads(before)
    assert {label for label, _, _ in calls} == fitted.keys() == {1, 2, 3, 4}
    assert all(error > 0 and delta == 100.0 for _, error, delta in calls)


def test_event_interrupts_only_threads_that_watch_it():
    event = threading.Event()
    check_interruption()
    with interrupted_by(event):
        check_interruption()
        event.set()
        with pytest.raises(InterruptedError, match="interrupted"):
            check_interruption()
    check_interruption()
    with pytest.raises(InterruptedError), interrupted_by(event):
        pytest.fail("the event was set before")
    check_interruption()
