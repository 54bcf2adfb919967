import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from processes import interruptible


def resample(digits, make_augmenter, **parameters):
    r"""Returns the synthetic images of ``fit_resample``."""
    return make_augmenter(**parameters).fit_resample(*digits)[0][77:]


def assert_same_images(augmenter, expected, n=3):
    for label in (1, 2):
        assert torch.equal(augmenter.sample(label, n, seed=0), expected.sample(label, n, seed=0))


def test_same_seed_gives_the_same_images(digits, make_augmenter):
    first = resample(digits, make_augmenter, random_state=3)
    np.testing.assert_array_equal(resample(digits, make_augmenter, random_state=3), first)
    assert (resample(digits, make_augmenter, random_state=4) != first).any()
    assert (resample(digits, make_augmenter, random_state=None) != first).any()


def test_random_states_of_numpy_give_their_next_draw(digits, make_augmenter):
    augmenter = make_augmenter(random_state=np.random.RandomState(0))
    first = augmenter.fit(*digits).sample(1, 3)
    assert not torch.equal(augmenter.fit(*digits).sample(1, 3), first)
    again = make_augmenter(random_state=np.random.RandomState(0))
    assert torch.equal(again.fit(*digits).sample(1, 3), first)


def test_number_of_jobs_does_not_matter(digits, make_augmenter):
    alone = make_augmenter(n_jobs=1).fit(*digits)
    two_jobs = make_augmenter(n_jobs=2).fit(*digits)
    with joblib.parallel_config("threading", n_jobs=2):
        context = make_augmenter().fit(*digits)
    assert list(two_jobs.models_) == [1, 2]
    for augmenter in (two_jobs, context):
        assert_same_images(augmenter, alone)


def test_joblib_backend_without_generators(digits, make_augmenter):
    # Its processes are forks, and these cannot use a GPU that their parent has used.
    with parallel_config("multiprocessing", n_jobs=2):
        augmenter = make_augmenter(n_jobs=None, device="cpu").fit(*digits)
    alone = make_augmenter(device="cpu").fit(*digits)
    assert torch.equal(augmenter.sample(1, 4, seed=0), alone.sample(1, 4, seed=0))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"synthesis": "decoded"},
        {"architecture": "conv"},
        {"architecture": "conv_half"},
        {"precision": "float32"},
        {"n_threads": 2},
    ],
    ids=["default", "decoded", "convolutional", "convolutional at half size", "float32", "two threads each"],
)
def test_number_of_threads_does_not_matter(digits, make_augmenter, parameters):
    alone = make_augmenter(n_jobs=1, **parameters).fit(*digits)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            # More images than are decoded at once, so that threads share the decoding too.
            assert_same_images(make_augmenter(**parameters).fit(*digits), alone, n=2500)
    finally:
        torch.set_num_threads(before)


def test_fits_in_several_threads_do_not_disturb_each_other(digits, make_augmenter):
    def fit_and_sample(seed):
        augmenter = make_augmenter(random_state=seed, epochs=10).fit(*digits)
        return torch.stack([augmenter.sample(label, 5, seed=seed) for label in (1, 2)])

    one_by_one = [fit_and_sample(seed) for seed in range(4)]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(fit_and_sample, range(4)))
    assert all(map(torch.equal, one_by_one, concurrent))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_ctrl_c_ends_concurrent_fits():
    program = """if True:
        import torch
        from gae_augment import GAEAugmenter, GenerativeModel
        torch.set_num_threads(2)
        images = torch.rand(60, 1, 28, 28)
        labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
        print("started", flush=True)
        GAEAugmenter(GenerativeModel(delta=1e-9, epochs=10**6), progress=False, device="cpu").fit(images, labels)
    """
    process = subprocess.Popen(
        interruptible([sys.executable, "-c", program]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "started\n"
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_images_of_a_class_do_not_depend_on_other_classes(digits, make_augmenter, fitted):
    X, y = digits
    without = make_augmenter().fit(X[y != 1], y[y != 1])
    alone = make_augmenter(sampling_strategy={2: 30}).fit(X, y)
    for augmenter in (without, alone):
        assert list(augmenter.models_) == [2]
        assert torch.equal(augmenter.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))


def test_standardised_images_of_a_class_do_not_depend_on_which_classes_are_scarce(make_augmenter):
    X = np.random.default_rng(0).normal(size=(60, 5))
    y = np.repeat([0, 1, 2], [30, 20, 10])
    alone, both = (make_augmenter(sampling_strategy=totals).fit(X, y) for totals in ({1: 30}, {1: 30, 2: 30}))
    assert torch.equal(alone.sample(1, 5, seed=0), both.sample(1, 5, seed=0))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_global_random_numbers_are_neither_moved_nor_read(digits, make_augmenter):
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    expected = resample(digits, make_augmenter)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    images = resample(digits, make_augmenter)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
    np.testing.assert_array_equal(images, expected)


def test_number_of_threads_is_restored(digits, make_augmenter):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make_augmenter().fit(*digits).sample(1, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_default_type_and_gradient_mode_of_torch_do_not_matter(digits, make_augmenter, fitted):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            images = make_augmenter().fit(*digits).sample(1, 3, seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(images, fitted.sample(1, 3, seed=0))
