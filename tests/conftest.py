r"""Fixtures of several test files: long-tailed digits, small augmenters, planted faults, global random numbers."""

import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.fitting import parallel_fits

COUNTS = {0: 40, 1: 25, 2: 12}

LONGEST = ("test_cluster.py", "test_docs.py", "test_readme.py", "test_lightning.py", "test_lightning_advice.py")


def pytest_collection_modifyitems(items):
    r"""Runs the files with the longest tests first, so that no process is left alone with them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def digits():
    r"""Returns 40, 25 and 12 handwritten digits of three classes, uint8 with shape (77, 8, 8), and their labels."""
    data = load_digits()
    chosen = np.sort(np.concatenate([np.flatnonzero(data.target == label)[:n] for label, n in COUNTS.items()]))
    images = (data.images[chosen] * 255 / 16).round().astype(np.uint8)
    images.setflags(write=False)
    return images, data.target[chosen].astype(np.int64)


HYPER_PARAMETERS = set(GenerativeModel().get_params()) - {"definition"}


@pytest.fixture(scope="session")
def make_augmenter():
    r"""Builds augmenters that train for at most two epochs, with a boundary that the first epoch reaches.

    Hyper-parameters of the model and parameters of the augmenter are passed together.
    """

    def make(model="gae", **parameters):
        defaults = {"epochs": 2, "delta": 100.0} if model == "gae" else {"epochs": 2}
        hyper_parameters = {name: parameters.pop(name) for name in HYPER_PARAMETERS & parameters.keys()}
        generative_model = GenerativeModel(model, **defaults | hyper_parameters)
        return GAEAugmenter(generative_model, **{"random_state": 0, "progress": False, **parameters})

    return make


@pytest.fixture
def class_fits(monkeypatch):
    r"""Records the number of images of each class whose fit starts in this process."""
    sizes = []
    fit_class = parallel_fits.fit_class

    def recorded(images, *arguments):
        sizes.append(len(images))
        return fit_class(images, *arguments)

    monkeypatch.setattr(parallel_fits, "fit_class", recorded)
    return sizes


@pytest.fixture
def plant_a_fault(monkeypatch):
    r"""Makes the fit of every class with a given number of images fail."""
    fit_class = parallel_fits.fit_class

    def plant(number, message="a planted fault"):
        def failing(images, *arguments):
            if len(images) == number:
                raise FloatingPointError(message)
            return fit_class(images, *arguments)

        monkeypatch.setattr(parallel_fits, "fit_class", failing)

    return plant


@pytest.fixture(scope="session")
def fitted(digits, make_augmenter):
    r"""Returns an augmenter fitted to the digits. Sample with a seed: other tests sample without one."""
    return make_augmenter().fit(*digits)


@pytest.fixture
def global_rngs_unmoved():
    r"""Fails a test that changes the global random state of torch, NumPy or Python."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state), "the global random state of torch has changed"
    np.testing.assert_equal(np.random.get_state(), numpy_state, "the global random state of NumPy has changed")  # noqa: NPY002
    assert random.getstate() == python_state, "the global random state of Python has changed"


@pytest.fixture
def no_training(monkeypatch):
    r"""Fails a test that starts a training in this process."""

    def train(*_):
        pytest.fail("a training started")

    monkeypatch.setattr(parallel_fits, "fit_class", train)
