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
