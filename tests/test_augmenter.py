import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from PIL import Image
from processes import interruptible
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.fitting.training import mean_image_error


class Pairs(Dataset):
    r"""A dataset of images and labels as they are."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


# An estimator as scikit-learn knows it


def test_parameters_clone_and_repr():
    parameters = {"latent_dim": 3, "delta": 0.2, "sampling_strategy": {1: 50}, "device": "cpu", "n_jobs": 2}
    augmenter = GAEAugmenter(**parameters)
    assert augmenter.get_params() == {**GAEAugmenter().get_params(), **parameters}
    assert clone(augmenter).get_params() == augmenter.get_params()
    assert clone(augmenter) is not augmenter
    assert (
        repr(augmenter)
        == "GAEAugmenter(delta=0.2, device='cpu', latent_dim=3, n_jobs=2,\n             sampling_strategy={1: 50})"
    )
    assert "GAEAugmenter" in augmenter._repr_html_()
    assert augmenter.set_params(model="gae", epochs=9).epochs == 9


def test_defaults_are_those_of_the_public_face():
    assert GAEAugmenter().get_params() == {
        "model": "gae",
        "latent_dim": "auto",
        "architecture": "auto",
        "density": "auto",
        "components": "auto",
        "delta": "auto",
        "epochs": "auto",
        "batch_size": 64,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "precision": "auto",
        "starts": "auto",
        "truncated": True,
        "anchored": "auto",
        "max_similarity": None,
        "sampling_strategy": "auto",
        "errors": "warn",
        "device": "auto",
        "n_jobs": None,
        "n_threads": 1,
        "random_state": None,
        "progress": True,
        "cache_dir": None,
    }


def test_clone_of_a_fitted_one_is_not_fitted(fitted):
    check_is_fitted(fitted)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(fitted))


@pytest.mark.parametrize(
    "use",
    [
        lambda augmenter, path: augmenter.sample(0, 1),
        lambda augmenter, path: augmenter.report_,
        lambda augmenter, path: augmenter.augment(TensorDataset(torch.zeros(2, 3), torch.tensor([0, 1]))),
        lambda augmenter, path: augmenter.save(path),
    ],
    ids=["sample", "report_", "augment", "save"],
)
def test_use_before_fit_is_refused(use, tmp_path):
    with pytest.raises(NotFittedError, match=r"not fitted yet\. Call 'fit' with a dataset, or with X and y, first"):
        use(GAEAugmenter(), tmp_path / "augmenter")
    assert not list(tmp_path.iterdir())


# What is fitted


def test_attributes_of_a_fit(fitted):
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.counts_ == {0: 40, 1: 25, 2: 12}
    assert fitted.class_names_ == {0: "0", 1: "1", 2: "2"}
    assert fitted.sampling_strategy_ == {1: 15, 2: 28}
    assert list(fitted.models_) == list(fitted.report_) == [1, 2]
    assert fitted.seed_ == 0
    assert [report.images for report in fitted.report_.values()] == [25, 12]


def images_of(digits, form):
    X = torch.tensor(digits[0])
    return {
        "(N, C, H, W)": X[:, None].repeat(1, 3, 1, 1),
        "(N, H, W)": X,
        "(N, F)": X.flatten(1),
        "unit": X / 255,
        "float64": X.double() / 255,
        "float16": (X / 255).half(),
        "normalised": X / 64 - 1,
        "bool": X > 127,
        "int64": X.long() * 1000 - 7,
        "uint16": X.to(torch.uint16),
        "one pixel wide": X[:, :, 3:4],
        "one pixel": X[:, None, 3:4, 3:4],
    }[form]


FORMS = (
    "(N, C, H, W)",
    "(N, H, W)",
    "(N, F)",
    "unit",
    "float64",
    "float16",
    "normalised",
    "bool",
    "int64",
    "uint16",
    "one pixel wide",
    "one pixel",
)


@pytest.mark.parametrize("numpy", [False, True], ids=["torch", "NumPy"])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_every_form(form, numpy, digits, make_augmenter):
    X, y = images_of(digits, form), torch.from_numpy(digits[1])
    if numpy:
        X, y = X.numpy(), y.numpy()
    X_before, y_before = X.copy() if numpy else X.clone(), y.copy() if numpy else y.clone()
    augmenter = make_augmenter()
    X_new, y_new = augmenter.fit_resample(X, y)
    assert type(X_new) is type(X)
    assert type(y_new) is type(y)
    assert (X_new.dtype, y_new.dtype) == (X.dtype, y.dtype)
    assert X_new.shape == (120, *X.shape[1:])
    assert y_new[77:].tolist() == [1] * 15 + [2] * 28
    for new, original, before in ((X_new, X, X_before), (y_new, y, y_before)):
        np.testing.assert_array_equal(np.asarray(new)[:77], np.asarray(before))
        np.testing.assert_array_equal(np.asarray(original), np.asarray(before))
    synthetic = augmenter.sample(2, 5)
    assert (synthetic.shape[1:], str(synthetic.dtype)) == (tuple(X.shape[1:]), str(torch.as_tensor(X[:1]).dtype))
    assert torch.isfinite(synthetic.double()).all()
    if form in ("unit", "float64", "float16"):
        assert 0 <= X_new.min() <= X_new.max() <= 1


def test_synthetic_images_are_of_their_class(digits):
    # Two classes that differ in the half that is lit: an image of the wrong class would be lit in the other.
    generator = np.random.default_rng(0)
    X = np.zeros((70, 6, 6), dtype=np.uint8)
    X[:40, :3] = generator.integers(150, 256, (40, 3, 6))
    X[40:60, 3:] = generator.integers(150, 256, (20, 3, 6))
    X[60:, :, 3:] = generator.integers(150, 256, (10, 6, 3))
    y = np.repeat([0, 1, 2], [40, 20, 10])
    X_new, y_new = GAEAugmenter(GenerativeModel(epochs=60, delta=0.05), random_state=0, progress=False).fit_resample(
        X, y
    )
    made, label = X_new[70:].astype(float), y_new[70:]
    below, right = (
        made[:, 3:].mean((1, 2)) - made[:, :3].mean((1, 2)),
        made[:, :, 3:].mean((1, 2)) - made[:, :, :3].mean((1, 2)),
    )
    assert (below[label == 1] > 100).all()
    assert (right[label == 2] > 100).all()


def test_datasets_of_pillow_images(digits, make_augmenter):
    labels = digits[1].tolist()
    for mode in ("L", "RGB", "I;16", "1", "LA"):
        images = [
            Image.fromarray(image.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(image).convert(mode)
            for image in digits[0]
        ]
        data = Pairs(images, labels)
        augmented = make_augmenter().fit(data).augment(data)
        assert len(augmented) == 120
        assert (augmented[119][0].mode, augmented[119][0].size) == (mode, (8, 8))


def test_dataset_and_arrays_give_the_same_images(digits, fitted, make_augmenter):
    X, y = torch.tensor(digits[0]), torch.from_numpy(digits[1])
    dataset = make_augmenter().fit(TensorDataset(X, y))
    for label in (1, 2):
        assert torch.equal(dataset.sample(label, 3, seed=0), fitted.sample(label, 3, seed=0))


def test_names_of_classes_come_from_the_dataset(digits, make_augmenter):
    data = Pairs(torch.tensor(digits[0]), digits[1])
    data.classes = ["nought", "one"]
    assert make_augmenter().fit(data).class_names_ == {0: "nought", 1: "one", 2: "2"}


@pytest.mark.parametrize("kind", [list, np.array, lambda y: np.array(y, dtype=object)], ids=["list", "str", "object"])
def test_strings_are_labels(kind, digits, make_augmenter):
    y = kind(np.array(["nought", "one", "two"])[digits[1]].tolist())
    augmenter = make_augmenter(sampling_strategy={"two": 20})
    X_new, y_new = augmenter.fit_resample(digits[0], y)
    assert augmenter.sampling_strategy_ == {"two": 8}
    assert len(X_new) == 85
    assert y_new.dtype == np.asarray(y).dtype
    assert y_new.tolist() == [*y, *["two"] * 8]
    assert augmenter.sample("two", 1).shape == (1, 8, 8)


def test_labels_of_every_integer_type_are_kept(digits, make_augmenter):
    for y in (digits[1].astype(np.uint8), torch.tensor(digits[1], dtype=torch.int32), digits[1].astype(float)):
        y_new = make_augmenter().fit_resample(digits[0], y)[1]
        assert y_new.dtype == y.dtype
        assert y_new[-1] == 2
    y_new = make_augmenter().fit_resample(digits[0], digits[1] == 2)[1]
    assert (y_new.dtype, y_new[-1], y_new.sum()) == (bool, True, 65)


def test_gradients_of_the_originals_go_through(digits, make_augmenter):
    X = (torch.tensor(digits[0]) / 255).requires_grad_()
    X_new, _ = make_augmenter().fit_resample(X, torch.from_numpy(digits[1]))
    X_new.sum().backward()
    assert torch.equal(X.grad, torch.ones_like(X))


def test_balanced_classes_are_left_as_they_are(make_augmenter, no_training):
    X, y = np.zeros((6, 4)), np.array([0, 0, 0, 1, 1, 1])
    X_new, y_new = make_augmenter().fit_resample(X, y)
    np.testing.assert_array_equal(X_new, X)
    np.testing.assert_array_equal(y_new, y)


def test_two_images_are_enough(digits, make_augmenter):
    X, y = np.concatenate([digits[0][digits[1] == 0], digits[0][digits[1] == 1][:2]]), np.repeat([0, 1], [40, 2])
    augmenter = make_augmenter(epochs=100, delta=0.02, latent_dim=2).fit(X, y)
    assert augmenter.report_[1].components == 1
    assert augmenter.sample(1, 500, seed=0).shape == (500, 8, 8)
    between = np.abs(augmenter.sample(1, 500, seed=0).numpy() - X[-2:].mean(axis=0)).mean()
    assert between < np.abs(X[-2:] - X[-2:].mean(axis=0)).mean() * 2


@pytest.mark.parametrize("value", [0, 20, 128, 255])
def test_constant_images_come_out_as_they_are(value):
    X = np.random.default_rng(0).integers(0, 256, (30, 5, 5)).astype(np.uint8)
    X[20:] = value
    X_new, _ = GAEAugmenter(random_state=0, progress=False).fit_resample(X, np.repeat([0, 1], [20, 10]))
    np.testing.assert_allclose(X_new[30:], value, atol=16)


def test_constant_features_come_out_as_they_are(make_augmenter):
    X = np.random.default_rng(0).normal(size=(30, 5)) * 100
    X[:, 2] = 0.1
    X_new, _ = make_augmenter().fit_resample(X, np.repeat([0, 1], [20, 10]))
    assert (X_new[:, 2] == 0.1).all()
    assert (X_new[30:].std(axis=0) > 0).any()


# Samples


def test_samples_without_a_seed_are_new_each_time(digits, make_augmenter):
    first, second = make_augmenter().fit(*digits), make_augmenter().fit(*digits)
    drawn = [first.sample(1, 4) for _ in range(3)]
    assert not any(torch.equal(drawn[0], other) for other in drawn[1:])
    assert all(torch.equal(second.sample(1, 4), one) for one in drawn)
    second.fit(*digits)
    assert torch.equal(second.sample(1, 4), drawn[0])


def test_samples_with_a_seed_repeat(fitted):
    assert torch.equal(fitted.sample(1, 4, seed=5), fitted.sample(1, 4, seed=5))
    assert not torch.equal(fitted.sample(1, 4, seed=5), fitted.sample(1, 4, seed=6))


def test_equal_labels_and_seeds_give_the_same_images(fitted):
    expected = fitted.sample(1, 4, seed=5)
    assert torch.equal(fitted.sample(np.int64(1), np.int64(4), seed=np.int64(5)), expected)
    assert torch.equal(fitted.sample(fitted.classes_[1], 4, seed=5), expected)


@pytest.mark.parametrize(
    ("label", "n", "message"),
    [
        (7, 3, r"for the classes \[1, 2\], and class 7 is unknown.*'sampling_strategy' says"),
        ("1", 3, r"class '1' is unknown"),
        (0, 3, r"class 0 has 40 images and was to get none"),
        (1, 0, r"'n', .* of at least 1, and it is 0"),
        (1, -2, r"it is -2"),
        (1, 2.0, r"it is 2\.0"),
        (1, True, r"it is True"),
    ],
)
def test_other_samples_are_refused(fitted, label, n, message):
    with pytest.raises(ValueError, match=message):
        fitted.sample(label, n)


# One seed, the same images


def resampled(digits, make_augmenter, **parameters):
    return make_augmenter(**parameters).fit_resample(*digits)[0][77:]


def test_same_seed_same_images(digits, make_augmenter):
    first = resampled(digits, make_augmenter, random_state=3)
    np.testing.assert_array_equal(resampled(digits, make_augmenter, random_state=3), first)
    assert (resampled(digits, make_augmenter, random_state=4) != first).any()
    assert (resampled(digits, make_augmenter, random_state=None) != first).any()


def test_random_states_of_numpy_give_their_next_draw(digits, make_augmenter):
    legacy = np.random.RandomState(0)
    augmenter = make_augmenter(random_state=legacy)
    first = augmenter.fit(*digits).sample(1, 3)
    assert not torch.equal(augmenter.fit(*digits).sample(1, 3), first)
    again = make_augmenter(random_state=np.random.RandomState(0))
    assert torch.equal(again.fit(*digits).sample(1, 3), first)


def test_same_images_in_another_process(digits, make_augmenter, tmp_path):
    np.savez(tmp_path / "digits.npz", X=digits[0], y=digits[1])
    program = """if True:
        import sys
        import numpy as np
        from gae_augment import GAEAugmenter
        digits = np.load(sys.argv[1])
        augmenter = GAEAugmenter(epochs=2, delta=100.0, random_state=0, progress=False)
        np.save(sys.argv[2], augmenter.fit_resample(digits["X"], digits["y"])[0])
    """
    command = [sys.executable, "-c", program, tmp_path / "digits.npz", tmp_path / "made.npy"]
    subprocess.run(command, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy")[77:], resampled(digits, make_augmenter))


def test_number_of_jobs_does_not_matter(digits, make_augmenter):
    alone = make_augmenter(n_jobs=1).fit(*digits)
    together = make_augmenter(n_jobs=2).fit(*digits)
    with joblib.parallel_config("threading", n_jobs=2):
        context = make_augmenter().fit(*digits)
    assert list(together.models_) == [1, 2]
    for augmenter in (together, context):
        assert_same_images(augmenter, alone)


def assert_same_images(augmenter, other, n=3):
    for label in (1, 2):
        assert torch.equal(augmenter.sample(label, n, seed=0), other.sample(label, n, seed=0))


@pytest.mark.parametrize(
    "settings",
    [{}, {"anchored": False}, {"architecture": "conv"}, {"precision": "float32"}, {"n_threads": 2}],
    ids=["default", "not anchored", "convolutional", "float32", "two threads each"],
)
def test_number_of_threads_does_not_matter(digits, make_augmenter, settings):
    alone = make_augmenter(n_jobs=1, **settings).fit(*digits)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            # More images than are decoded at once, so that their decoding is shared among threads too.
            assert_same_images(make_augmenter(**settings).fit(*digits), alone, n=2500)
    finally:
        torch.set_num_threads(before)


def test_ctrl_c_ends_fits_that_run_side_by_side():
    program = """if True:
        import torch
        from gae_augment import GAEAugmenter
        torch.set_num_threads(2)
        images = torch.rand(60, 1, 28, 28)
        labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
        print("started", flush=True)
        GAEAugmenter(delta=1e-9, epochs=10**6, progress=False, device="cpu").fit(images, labels)
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


def test_other_classes_do_not_matter(digits, make_augmenter, fitted):
    X, y = digits
    without = make_augmenter().fit(X[y != 1], y[y != 1])
    only = make_augmenter(sampling_strategy={2: 30}).fit(X, y)
    for augmenter in (without, only):
        assert list(augmenter.models_) == [2]
        assert torch.equal(augmenter.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))


def test_copies_make_the_same_images(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    assert torch.equal(copy.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_global_random_numbers_are_neither_moved_nor_read(digits, make_augmenter):
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    expected = resampled(digits, make_augmenter)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    made = resampled(digits, make_augmenter)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
    np.testing.assert_array_equal(made, expected)


def test_threads_are_given_back(digits, make_augmenter):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make_augmenter().fit(*digits).sample(1, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_settings_of_torch_do_not_matter(digits, make_augmenter, fitted):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            made = make_augmenter().fit(*digits).sample(1, 3, seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(made, fitted.sample(1, 3, seed=0))


# What the user is told


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (1e-9, r"did not come below delta=1e-09 .* 2 of 2 classes \(class 1: \d\.\d{4}, .*, class 2: .*\)\. Raise"),
        ("auto", r"did not come below delta, or stop falling, before the epochs ended, for 2 of 2 classes"),
    ],
)
def test_boundary_that_is_not_reached_is_a_warning(digits, make_augmenter, delta, message):
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        augmenter = make_augmenter(delta=delta, epochs=1).fit(*digits)
    assert caught[0].filename == __file__
    assert not any(report.delta_reached for report in augmenter.report_.values())
    assert augmenter.sample(1, 1).shape == (1, 8, 8)


def test_boundary_that_is_reached_is_no_warning(digits, make_augmenter):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter = make_augmenter(delta=100.0).fit(*digits)
    assert all(report.delta_reached for report in augmenter.report_.values())


def test_class_that_fails_is_named_and_the_others_are_kept(digits, make_augmenter, fitted, plant_a_fault):
    plant_a_fault(25)
    augmenter = make_augmenter(errors="raise")
    message = r"failed for 1 of 2 classes: class 1: FloatingPointError: a planted fault.* others, \[2\], are kept"
    with pytest.raises(RuntimeError, match=message):
        augmenter.fit(*digits)
    assert list(augmenter.report_) == [2]
    assert torch.equal(augmenter.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))
    with pytest.raises(ValueError, match=r"class 1 could not be fitted"):
        augmenter.sample(1, 3)


def test_class_that_fails_stays_real(digits, make_augmenter, plant_a_fault, tmp_path):
    plant_a_fault(25)
    augmenter = make_augmenter()
    message = r"failed for 1 of 2 classes: class 1: .*a planted fault\. They get no synthetic images; errors='raise'"
    with pytest.warns(RuntimeWarning, match=message):
        augmenter.fit(*digits)
    assert augmenter.failures_ == {1: "FloatingPointError: a planted fault"}
    assert augmenter.sampling_strategy_[1] == 0 < augmenter.sampling_strategy_[2]
    dataset = TensorDataset(*map(torch.tensor, digits))
    augmenter.save(tmp_path / "file")
    for one in (augmenter, GAEAugmenter.load(tmp_path / "file")):
        assert set(one.augment(dataset).images_to_add) == {2}
        with pytest.raises(ValueError, match=r"class 1 could not be fitted"):
            one.sample(1, 3)
    with pytest.warns(RuntimeWarning, match=message):
        _, y = augmenter.fit_resample(*digits)
    assert np.bincount(y)[[1, 2]].tolist() == [25, np.bincount(digits[1]).max()]


def test_two_fits_at_the_same_time_do_not_disturb_each_other(digits, make_augmenter):
    def made(seed):
        augmenter = make_augmenter(random_state=seed, epochs=10).fit(*digits)
        return torch.stack([augmenter.sample(label, 5, seed=seed) for label in (1, 2)])

    alone = [made(seed) for seed in range(4)]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(made, range(4)))
    assert all(map(torch.equal, alone, together))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_where_no_class_can_be_learned_there_is_an_error(digits, make_augmenter, plant_a_fault):
    plant_a_fault(25)
    with pytest.raises(RuntimeError, match=r"failed for 1 of 1 classes: class 1: FloatingPointError: a planted fault"):
        make_augmenter(sampling_strategy={1: 30}).fit(*digits)


def test_a_training_that_diverges_is_begun_again(digits, make_augmenter):
    augmenter = make_augmenter(learning_rate=1.0, epochs=20, delta=1e-9)
    message = r"2 of 2 classes diverged with learning_rate=1\.0, and was begun .* \(class 1: 0\.\d+, class 2: 0\.\d+\)"
    with pytest.warns(ConvergenceWarning, match=message), pytest.warns(ConvergenceWarning, match="did not come below"):
        augmenter.fit(*digits)
    for label, generator in augmenter.models_.items():
        assert generator.report.retries in (1, 2)
        assert generator.settings.learning_rate == pytest.approx(0.1**generator.report.retries)
        assert generator.settings.precision == "float32"
        images = torch.tensor(digits[0][digits[1] == label])
        assert generator.report.reconstruction_error <= 10 * mean_image_error(images, generator.values)


def test_training_that_diverges_names_the_remedy(digits, make_augmenter):
    with pytest.raises(RuntimeError, match=r"2 of 2 classes: class 1: FloatingPointError: .*Lower 'learning_rate'"):
        make_augmenter(learning_rate=1e30).fit(*digits)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_images_in_files_are_learned_from_as_those_in_memory(n_jobs, digits, make_augmenter, tmp_path):
    X, y = digits[0].copy(), digits[1]
    in_memory = make_augmenter(anchored=True).fit(X, y)
    in_files = make_augmenter(anchored=True, cache_dir=tmp_path / "new", n_jobs=n_jobs).fit(X, y)
    for label in (1, 2):
        assert torch.equal(in_files.sample(label, 5), in_memory.sample(label, 5))
    # Nothing is left, and the anchors can still be read.
    assert list(tmp_path.glob("new/images-*")) == []
    assert torch.equal(in_files.models_[1].anchors, torch.from_numpy(X[y == 1]))
    assert np.array_equal(X, digits[0])
    in_files.save(tmp_path / "file")
    assert str(tmp_path).encode() not in (tmp_path / "file").read_bytes()
    assert GAEAugmenter.load(tmp_path / "file").cache_dir is None


def test_samples_are_written_where_they_are_wanted(fitted):
    out = torch.zeros(5, 8, 8, dtype=torch.uint8)
    assert fitted.sample(1, 5, seed=0, out=out) is out
    assert torch.equal(out, fitted.sample(1, 5, seed=0))
    with pytest.raises(ValueError, match=r"wanted have shape \(8, 7\) of torch\.uint8, .*fitted to \(8, 8\)"):
        fitted.sample(1, 5, out=torch.zeros(5, 8, 7, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"'out' holds 5 images on the CPU, and it holds 4"):
        fitted.sample(1, 5, out=out[:4])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_names_class_error_and_boundary(digits, make_augmenter, capsys, n_jobs):
    data = Pairs(torch.tensor(digits[0]), digits[1])
    data.classes = ["nought", "one", "two"]
    augmenter = make_augmenter(progress=True, n_jobs=n_jobs).fit(data)
    shown = capsys.readouterr().err
    for label, name in {1: "one", 2: "two"}.items():
        assert f"class {name}: error {augmenter.report_[label].reconstruction_error:.4f}, delta 100" in shown
    assert "2/2" in shown


def test_no_progress_is_silent(digits, make_augmenter, capsys):
    make_augmenter(progress=False).fit(*digits)
    assert capsys.readouterr() == ("", "")


# Bad input: said before anything is trained


@pytest.fixture
def good():
    return np.random.default_rng(0).random((12, 4, 4)), np.repeat([0, 1, 2], [6, 4, 2])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def with_value(X, value):
    X = X.copy()
    X[3, 1, 1] = value
    return X


BAD_DATA = {
    "one image": (lambda X, y: (X[:11], y[:11]), r"Class 2 has 1 image, and .* at least 2\. Give it more"),
    "one image, dataset": (lambda X, y: (Pairs(X[:11], y[:11]), None), r"Class 2 has 1 image, .* at least 2"),
    "one class": (lambda X, y: (X, y * 0), r"more than 1 class\. Got 1 class"),
    "one class, dataset": (lambda X, y: (Pairs(X, y * 0), None), r"more than 1 class\. Got 1 class"),
    "no labels": (lambda X, y: (X, None), r"'y' is missing: fit\(X, y\)"),
    "too few labels": (lambda X, y: (X, y[:5]), r"has shape \(5,\), but .* with shape \(12,\)"),
    "float labels": (lambda X, y: (X, y + 0.5), r"integers or strings.*LabelEncoder"),
    "float labels, dataset": (
        lambda X, y: (Pairs(X, y + 0.5), None),
        r"label of item 0 is .*0\.5.*, but must be .*Number",
    ),
    "missing labels, dataset": (lambda X, y: (Pairs(X, [None] * 12), None), r"label of item 0 is None.*Number"),
    "text labels, dataset": (lambda X, y: (Pairs(X, ["a"] * 12), None), r"label of item 0 is 'a', a str.*Number"),
    "sizes": (lambda X, y: ([*X[:11], X[11, 1:]], y), r"Resize all images to one size"),
    "sizes, dataset": (lambda X, y: (Pairs([*X[:11], X[11, 1:]], y), None), r"Item 11 has shape \(3, 4\).*Resize"),
    "NaN": (lambda X, y: (with_value(X, np.nan), y), r"image 3 of X holds NaN or infinity\. Remove it"),
    "infinity": (lambda X, y: (with_value(X, np.inf), y), r"image 3 of X holds NaN or infinity"),
    "NaN, dataset": (lambda X, y: (Pairs(with_value(X, np.nan)[::-1], y), None), r"item 8 holds NaN .*Remove it"),
    "empty": (lambda X, y: (X[:0], y[:0]), r"'X' is empty: its shape is \(0, 4, 4\)"),
    "empty, dataset": (lambda X, y: (Pairs(X[:0], y[:0]), None), r"dataset is empty"),
    "stream": (lambda X, y: (Stream(), None), r"IterableDataset.*TensorDataset"),
    "channels last": (lambda X, y: (np.zeros((12, 8, 8, 3)), y), r"channels seem to be last.*transpose"),
    "labels beside a dataset": (lambda X, y: (Pairs(X, y), y), r"Use fit\(dataset\)"),
    "one-hot": (lambda X, y: (X, np.eye(3)[y]), r"Convert one-hot labels with y\.argmax\(1\)"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused(bad, message, good, make_augmenter, no_training):
    augmenter = make_augmenter()
    with pytest.raises((ValueError, TypeError), match=message):
        augmenter.fit(*bad(*good))
    with pytest.raises(NotFittedError):
        check_is_fitted(augmenter)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "gan"}, r"'model' is 'gan', but must be one of 'gae'"),
        ({"sampling_strategy": "most"}, r"is 'most', but must be one of .*'not majority', 'not minority'"),
        ({"sampling_strategy": {2: 1}}, r"Class 2 has 2 .* a total of 1\. The numbers are final totals"),
        ({"sampling_strategy": {9: 5}}, r"\[9\] .* not present in the data\. Its classes are \[0, 1, 2\]"),
        ({"sampling_strategy": 0.5}, r"there are 3 classes\. A ratio is for two classes only\. Use 'auto'"),
        ({"sampling_strategy": [1]}, r"\{label: total"),
        ({"architecture": "conv"}, r"vectors of 16 features\. Use architecture='fc'"),
        ({"density": "kde"}, r"'density' is one of"),
        ({"epochs": 0}, r"'epochs' is an integer of at least 1, and it is 0"),
        ({"device": "abacus"}, r"Use 'auto' or 'cpu'"),
        ({"n_jobs": 0}, r"'n_jobs' .* it is 0\. Use None or 1"),
        ({"random_state": "seed"}, r"'random_state' is 'seed', but must be .*Pass an integer"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(parameters, message, good, make_augmenter, no_training):
    augmenter = make_augmenter(**parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        augmenter.fit(good[0].reshape(12, 16), good[1])
    with pytest.raises(NotFittedError):
        check_is_fitted(augmenter)


def test_class_with_one_image_can_be_left_out(good, make_augmenter):
    X, y = good
    augmenter = make_augmenter(sampling_strategy={1: 9}).fit(X[:11], y[:11])
    assert augmenter.sampling_strategy_ == {1: 5}


def test_refused_data_leave_the_last_fit_in_place(digits, make_augmenter, fitted):
    augmenter = make_augmenter().fit(*digits)
    with pytest.raises(ValueError, match="empty"):
        augmenter.fit(digits[0][:0], digits[1][:0])
    assert torch.equal(augmenter.sample(1, 3, seed=0), fitted.sample(1, 3, seed=0))


def test_fit_resample_refuses_datasets(good, make_augmenter, no_training):
    with pytest.raises(TypeError, match=r"Use fit\(dataset\)\.augment\(dataset\)"):
        make_augmenter().fit_resample(Pairs(*good), good[1])


def test_backend_of_joblib_that_returns_no_generator(digits, make_augmenter):
    # Its processes are forks, and these cannot use a GPU that their parent has used.
    with parallel_config("multiprocessing", n_jobs=2):
        augmenter = make_augmenter(n_jobs=None, device="cpu").fit(*digits)
    alone = make_augmenter(device="cpu").fit(*digits)
    assert torch.equal(augmenter.sample(1, 4, seed=0), alone.sample(1, 4, seed=0))


def test_all_images_are_checked_not_only_those_that_are_learned(no_training, make_augmenter):
    images = torch.rand(30, 1, 4, 4)
    images[3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="item 3 holds NaN or infinity"):
        make_augmenter().fit(TensorDataset(images, torch.tensor([0] * 20 + [1] * 10)))


def test_integers_and_strings_as_labels_of_one_set_are_refused(no_training, make_augmenter):
    with pytest.raises(ValueError, match="Make all labels integers, or all labels strings"):
        make_augmenter().fit(np.zeros((3, 4)), [0, 0, "a"])


def test_a_class_comes_out_the_same_whichever_others_are_scarce(make_augmenter):
    X = np.random.default_rng(0).normal(size=(60, 5))
    y = np.repeat([0, 1, 2], [30, 20, 10])
    one, two = (make_augmenter(sampling_strategy=totals).fit(X, y) for totals in ({1: 30}, {1: 30, 2: 30}))
    assert torch.equal(one.sample(1, 5, seed=0), two.sample(1, 5, seed=0))


def test_reconstruct(digits, fitted):
    images = torch.tensor(digits[0][digits[1] == 1])
    assert torch.equal(fitted.reconstruct(1, images), fitted.models_[1].reconstruct(images))
    with pytest.raises(ValueError, match="have shape \\(N, 8, 8\\)"):
        fitted.reconstruct(1, images[:, :4])


@pytest.mark.parametrize(
    ("estimator", "check"),
    # A list, which scikit-learn's own parametrize_with_checks does not make.
    [
        pytest.param(estimator, check, id=check.func.__name__)
        for estimator, check in estimator_checks_generator(
            GAEAugmenter(GenerativeModel(epochs=2, delta=1000.0, n_init=1), random_state=0, progress=False)
        )
    ],
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_features_are_those_of_the_last_array():
    X, y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 5 % 2
    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=1000.0, n_init=1), random_state=0, progress=False).fit(
        X, y
    )
    assert augmenter.n_features_in_ == 4
    augmenter.fit(TensorDataset(torch.rand(30, 1, 4, 4), torch.from_numpy(y)))
    assert not hasattr(augmenter, "n_features_in_")


def test_a_data_set_need_not_be_of_torchs_class():
    class Own:
        targets = (np.arange(30) % 5 % 2).tolist()

        def __len__(self):
            return 30

        def __getitem__(self, index):
            return torch.full((1, 4, 4), index / 30), self.targets[index]

    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=1000.0), random_state=0, progress=False).fit(Own())
    assert augmenter.counts_ == {0: 18, 1: 12}
