import os
import signal
import threading

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
def test_a_job_that_fails_loses_no_other(n_jobs):
    found = results(double, [1, 2, 3, 5], n_jobs)
    assert found == {1: 2, 2: 4, 3: Failure("OSError: a planted fault"), 5: 10}


def test_a_job_that_its_worker_always_dies_of_loses_no_other():
    with pytest.warns(RuntimeWarning, match="A worker was lost"):
        found = results(double, [4, 1, 2, 5], 2)
    failure = found.pop(4)
    assert "TerminatedWorkerError" in failure.reason
    assert found == {1: 2, 2: 4, 5: 10}


# Joblib tells of what it takes back.
@pytest.mark.filterwarnings("ignore:.*have been cancelled.*")
def test_a_job_that_cannot_be_sent_loses_no_other():
    with pytest.warns(RuntimeWarning, match="could not be reached"):
        found = dict(run_jobs(double, {"locked": (threading.Lock(),), "free": (2,)}, 2))
    assert "pickle" in found.pop("locked").reason
    assert found == {"free": 4}
