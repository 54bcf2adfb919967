r"""What several test files share: long-tailed digits, tiny augmenters, and a watch over the global random numbers."""

import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from sklearn.datasets import load_digits

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.fitting import classes

COUNTS = {0: 40, 1: 25, 2: 12}


@pytest.fixture(scope="session")
def digits():
    r"""Handwritten digits of three classes, 40, 25 and 12 of them, uint8 with shape (77, 8, 8), and their labels."""
    data = load_digits()
    chosen = np.sort(np.concatenate([np.flatnonzero(data.target == label)[:n] for label, n in COUNTS.items()]))
    images = (data.images[chosen] * 255 / 16).round().astype(np.uint8)
    images.setflags(write=False)
    return images, data.target[chosen].astype(np.int64)


HYPER_PARAMETERS = set(GenerativeModel().get_params()) - {"definition"}


@pytest.fixture(scope="session")
def make_augmenter():
    r"""Augmenters that train for two epochs at most, with a boundary that is reached at once."""

    def make(model="gae", **parameters):
        quick = {"epochs": 2} if model != "gae" else {"epochs": 2, "delta": 100.0}
        hyper = {name: parameters.pop(name) for name in HYPER_PARAMETERS & parameters.keys()}
        model = GenerativeModel(model, **quick | hyper)
        return GAEAugmenter(model, **{"random_state": 0, "progress": False, **parameters})

    return make


@pytest.fixture
def class_fits(monkeypatch):
    r"""The number of images of each class whose fit has begun in this process."""
    entries = []
    fit_class = classes.fit_class

    def recorded(images, *arguments):
        entries.append(len(images))
        return fit_class(images, *arguments)

    monkeypatch.setattr(classes, "fit_class", recorded)
    return entries


@pytest.fixture
def plant_a_fault(monkeypatch):
    r"""Makes the fits of classes with a certain number of images fail."""
    fit_class = classes.fit_class

    def plant(number, words="a planted fault"):
        def failing(images, *arguments):
            if len(images) == number:
                raise FloatingPointError(words)
            return fit_class(images, *arguments)

        monkeypatch.setattr(classes, "fit_class", failing)

    return plant


@pytest.fixture(scope="module")
def isolated_ray():
    r"""Hides Ray clusters of the user from the tests, and those of the tests from the user.

    Ray notes the address of the newest cluster in its temporary folder. The paths of its sockets must be short. One
    cluster runs at a time, whichever test process needs it.
    """
    with (
        FileLock(Path(tempfile.gettempdir()) / f"gae-augment-tests-ray-{os.getuid()}.lock"),
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", folder)
        yield
        # A test that fails midway leaves its cluster to the next one.
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


@pytest.fixture(scope="session")
def fitted(digits, make_augmenter):
    r"""An augmenter that is fitted to the digits. Its next ``sample`` without a seed is for no test to rely on."""
    return make_augmenter().fit(*digits)


@pytest.fixture
def global_rngs_unmoved():
    r"""Fails a test that moved the global random numbers of torch, NumPy or Python."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state), "torch's global random numbers were moved"
    np.testing.assert_equal(np.random.get_state(), numpy_state, "NumPy's global random numbers were moved")  # noqa: NPY002
    assert random.getstate() == python_state, "Python's global random numbers were moved"


@pytest.fixture
def no_training(monkeypatch):
    r"""Fails a test in which a training starts in this process."""

    def train(*_):
        pytest.fail("a training started")

    monkeypatch.setattr(classes, "fit_class", train)
