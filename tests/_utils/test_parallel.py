import os
import signal
import threading
import time

import pytest

from gae_augment._utils.parallel import Failure, run_jobs


def double(number):
    if number == 3:
        raise OSError("a planted fault")
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def results(function, numbers, n_jobs):
    return dict(run_jobs(function, {number: (number,) for number in numbers}, n_jobs))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failed_job_does_not_affect_other_jobs(n_jobs):
    outcomes = results(double, [1, 2, 3, 5], n_jobs)
    assert outcomes == {1: 2, 2: 4, 3: Failure("OSError: a planted fault"), 5: 10}


def test_job_that_always_kills_its_worker_does_not_affect_other_jobs():
    with pytest.warns(RuntimeWarning, match="A worker was lost"):
        outcomes = results(double, [4, 1, 2, 5], 2)
    failure = outcomes.pop(4)
    assert "TerminatedWorkerError" in failure.reason
    assert outcomes == {1: 2, 2: 4, 5: 10}


# Joblib warns of the jobs that it cancels.
@pytest.mark.filterwarnings("ignore:.*have been cancelled.*")
def test_job_that_cannot_be_pickled_does_not_affect_other_jobs():
    with pytest.warns(RuntimeWarning, match="could not be reached"):
        outcomes = dict(run_jobs(double, {"locked": (threading.Lock(),), "free": (2,)}, 2))
    assert "pickle" in outcomes.pop("locked").reason
    assert outcomes == {"free": 4}


def wait_for_file(folder, number):
    path = folder / f"{number}"
    path.touch()
    while number and not (folder / "end").exists():
        time.sleep(0.01)
    return number


# Warnings are errors here, and joblib would warn that it cancels jobs.
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_closing_the_iterator_cancels_jobs_that_have_not_begun(tmp_path, n_jobs):
    jobs = {number: (tmp_path, number) for number in range(20)}
    iterator = run_jobs(wait_for_file, jobs, n_jobs, backend="threading")
    assert next(iterator) == (0, 0)
    iterator.close()
    (tmp_path / "end").touch()
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) < 10
    assert next(iterator, None) is None
