r"""What short trainings tell of long ones. No test takes a time."""

from dataclasses import replace

import pytest
import torch

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment.data import ValueScale
from gae_augment.fitting import FitTime, make_plan, time_fit, timing


def images(n, side=8):
    return torch.rand(n, 1, side, side, generator=make_generator(0))


def timed(n, model=None, **options):
    data = images(n)
    model = model or GenerativeModel(batch_size=10)
    plan = make_plan(model, (1, 8, 8), n)
    return plan, time_fit(data, plan, model.resolved_definition, ValueScale.of(data), **options)


@pytest.fixture
def trainings(monkeypatch):
    r"""Records the plan and the number of images of each training."""
    plans = []
    fit_class = timing.fit_class

    def recorded(data, plan, *arguments, **options):
        plans.append((plan, len(data)))
        return fit_class(data, plan, *arguments, **options)

    monkeypatch.setattr(timing, "fit_class", recorded)
    return plans


def test_duration_is_that_of_the_steps_and_the_codes():
    plan = make_plan(GenerativeModel(batch_size=32, epochs=40), (1, 8, 8), 300)
    # 270 images are not held out: 9 batches.
    assert plan.held_out == 30
    assert FitTime(0.5, 0.25, 0.1, None).of(plan) == pytest.approx(40 * 9 * 0.25 * 0.5 + 300 * 0.1)
    assert FitTime(0.5, 0.25, 0.1, None).of(replace(plan, epochs=80)) == pytest.approx(2 * 90 * 0.5 + 30)


@pytest.mark.parametrize("n", [20, 150, 1000])
def test_few_steps_are_trained(trainings, n, monkeypatch):
    monkeypatch.setattr(timing, "TIMED_SECONDS", 1e9)
    plan, _ = timed(n)
    steps = [training.epochs * -(-size // 10) for training, size in trainings if training.stopping == "all epochs"]
    batches = min(-(-n // 10), timing.TIMED_BATCHES)
    assert steps == [1, 1, batches, 3 * batches]
    # A class with images to hold out has no trial, because its typical number of steps is known well enough.
    assert len(trainings) == 4 + (plan.stopping == "mean image")


def test_slow_steps_are_fewer(trainings, monkeypatch):
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.0)
    _, time = timed(1000)
    assert [(training.epochs, size) for training, size in trainings] == [(1, 10), (1, 10), (2, 10)]
    assert time.step > 0


def test_parallel_fits_are_timed_in_parallel(trainings, monkeypatch):
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.0)
    timed(300, at_a_time=3)
    assert len(trainings) == 9


def test_share_is_that_of_a_training_if_it_is_short():
    # Every image is the same, so that training stops at its first measurement.
    data = images(1).repeat(50, 1, 1, 1)
    model = GenerativeModel(batch_size=10, delta=10.0)
    plan = make_plan(model, (1, 8, 8), 50)
    time = time_fit(data, plan, model.resolved_definition, ValueScale.of(data))
    assert 0 < time.share <= 2 / plan.epochs


def test_trial_ends_in_time(monkeypatch, trainings):
    monkeypatch.setattr(timing, "TRIAL_SECONDS", 0.0)
    plan, time = timed(50, GenerativeModel(batch_size=10, delta=1e-9))
    assert trainings[-1][0].epochs == plan.epochs
    assert time.share == timing.TYPICAL_SHARE["delta"][1]


def test_training_of_all_epochs_has_no_trial(trainings, monkeypatch):
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.0)
    _, time = timed(50, GenerativeModel("vae", epochs=30))
    assert time.share == 1
    assert len(trainings) == 3


def test_learned_density_takes_no_time_of_its_own():
    _, time = timed(50, GenerativeModel("vade", epochs=3))
    assert time.density == 0
