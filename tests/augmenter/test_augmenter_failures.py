import warnings

import numpy as np
import pytest
import torch
from augmenter_data import Pairs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import IterableDataset, TensorDataset

from gae_augment import GAEAugmenter
from gae_augment.fitting.training import mean_image_error

# Warnings and progress


@pytest.mark.parametrize(
    ("delta", "boundary"),
    [(1e-9, "1e-09"), ("auto", r"0\.0\d+")],
)
def test_error_above_delta_is_a_warning(digits, make_augmenter, delta, boundary):
    message = (
        r"error of 2 of 2 classes did not fall below delta, or did not stop falling, before the epochs ended "
        rf"\(in nats per pixel: class 1: \d\.\d{{4}}, delta {boundary}, class 2: .*, delta {boundary}\)\. Raise"
    )
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        augmenter = make_augmenter(delta=delta, epochs=1).fit(*digits)
    assert caught[0].filename == __file__
    assert not any(report.delta_reached for report in augmenter.report_.values())
    assert augmenter.sample(1, 1).shape == (1, 8, 8)


def test_error_below_delta_is_no_warning(digits, make_augmenter):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter = make_augmenter(delta=100.0).fit(*digits)
    assert all(report.delta_reached for report in augmenter.report_.values())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_shows_class_error_and_boundary(digits, make_augmenter, capsys, n_jobs):
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


# Failed classes


def test_failed_class_is_an_error_on_request_and_other_models_are_kept(digits, make_augmenter, fitted, plant_a_fault):
    plant_a_fault(25)
    augmenter = make_augmenter(on_error="raise")
    message = (
        r"failed for 1 of 2 classes: class 1: FloatingPointError: a planted fault.* other classes, \[2\], are kept"
    )
    with pytest.raises(RuntimeError, match=message):
        augmenter.fit(*digits)
    assert list(augmenter.report_) == [2]
    assert torch.equal(augmenter.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))
    with pytest.raises(ValueError, match=r"Class 1 could not be fitted"):
        augmenter.sample(1, 3)


def test_failed_class_gets_no_synthetic_images(digits, make_augmenter, plant_a_fault, tmp_path):
    plant_a_fault(25)
    augmenter = make_augmenter()
    message = (
        r"failed for 1 of 2 classes: class 1: .*a planted fault\. These classes get no synthetic images; "
        r"on_error='raise'"
    )
    with pytest.warns(RuntimeWarning, match=message) as caught:
        augmenter.fit(*digits)
    assert caught[0].filename == __file__
    assert augmenter.failures_ == {1: "FloatingPointError: a planted fault"}
    assert augmenter.sampling_strategy_[1] == 0 < augmenter.sampling_strategy_[2]
    dataset = TensorDataset(*map(torch.tensor, digits))
    augmenter.save(tmp_path / "file")
    for fitted in (augmenter, GAEAugmenter.load(tmp_path / "file")):
        assert set(fitted.augment(dataset).images_to_add) == {2}
        with pytest.raises(ValueError, match=r"Class 1 could not be fitted"):
            fitted.sample(1, 3)
    with pytest.warns(RuntimeWarning, match=message):
        _, y = augmenter.fit_resample(*digits)
    assert np.bincount(y)[[1, 2]].tolist() == [25, np.bincount(digits[1]).max()]


def test_fit_without_any_model_is_an_error(digits, make_augmenter, plant_a_fault):
    plant_a_fault(25)
    message = r"failed for 1 of 1 classes: class 1: FloatingPointError: a planted fault\.$"
    with pytest.raises(RuntimeError, match=message):
        make_augmenter(sampling_strategy={1: 30}).fit(*digits)


def test_diverged_training_is_retried_with_a_smaller_rate(digits, make_augmenter):
    augmenter = make_augmenter(learning_rate=1.0, epochs=20, delta=1e-9)
    message = (
        r"diverged for 2 of 2 classes, and was retried in float32 with a smaller learning rate "
        r"\(class 1: 0\.0?1, class 2: 0\.0?1\)\. Lower 'learning_rate'"
    )
    with (
        pytest.warns(ConvergenceWarning, match=message),
        pytest.warns(ConvergenceWarning, match="did not fall below delta"),
    ):
        augmenter.fit(*digits)
    for label, fitted in augmenter.models_.items():
        assert fitted.report.retries in (1, 2)
        assert fitted.plan.learning_rate == pytest.approx(0.1**fitted.report.retries)
        assert fitted.plan.precision == "float32"
        images = torch.tensor(digits[0][digits[1] == label])
        assert fitted.report.reconstruction_error <= 10 * mean_image_error(images, fitted.values)


def test_training_that_always_diverges_is_an_error_with_a_remedy(digits, make_augmenter):
    with pytest.raises(RuntimeError, match=r"2 of 2 classes: class 1: FloatingPointError: .*Lower 'learning_rate'"):
        make_augmenter(learning_rate=1e30).fit(*digits)


# Invalid data, refused before any training


@pytest.fixture
def arrays():
    return np.random.default_rng(0).random((12, 4, 4)), np.repeat([0, 1, 2], [6, 4, 2])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def with_value(X, value):
    X = X.copy()
    X[3, 1, 1] = value
    return X


INVALID_DATA = {
    "one image": (lambda X, y: (X[:11], y[:11]), r"Class 2 has 1 image, but .* at least 2\. Add images"),
    "one image, dataset": (lambda X, y: (Pairs(X[:11], y[:11]), None), r"Class 2 has 1 image, but .* at least 2"),
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
    "sizes": (lambda X, y: ([*X[:11], X[11, 1:]], y), r"several sizes as a dataset: .*ImageDataset\(X, labels=y\)"),
    "channels, dataset": (
        lambda X, y: (Pairs([*X[:11, None], np.zeros((2, 9, 4))], y), None),
        r"Item 11 has shape \(2, 9, 4\), but item 0 has shape \(1, 4, 4\)\. Convert the images",
    ),
    "NaN": (lambda X, y: (with_value(X, np.nan), y), r"image 3 of X holds NaN or infinity\. Remove it"),
    "infinity": (lambda X, y: (with_value(X, np.inf), y), r"image 3 of X holds NaN or infinity"),
    "NaN, dataset": (lambda X, y: (Pairs(with_value(X, np.nan)[::-1], y), None), r"item 8 holds NaN .*Remove it"),
    "empty": (lambda X, y: (X[:0], y[:0]), r"'X' is empty: its shape is \(0, 4, 4\)"),
    "empty, dataset": (lambda X, y: (Pairs(X[:0], y[:0]), None), r"dataset is empty"),
    "stream": (lambda X, y: (Stream(), None), r"IterableDataset.*TensorDataset"),
    "channels last": (lambda X, y: (np.zeros((12, 8, 8, 3)), y), r"channels seem to be last.*transpose"),
    "labels beside a dataset": (lambda X, y: (Pairs(X, y), y), r"Use fit\(dataset\)"),
    "one-hot": (lambda X, y: (X, np.eye(3)[y]), r"Convert one-hot labels with y\.argmax\(1\)"),
    "integers and strings": (lambda X, y: (X, [*y[:11], "a"]), r"Make all labels integers, or all labels strings"),
}


@pytest.mark.parametrize(("change", "message"), INVALID_DATA.values(), ids=INVALID_DATA)
def test_invalid_data_are_refused(change, message, arrays, make_augmenter, no_training):
    augmenter = make_augmenter()
    with pytest.raises((ValueError, TypeError), match=message):
        augmenter.fit(*change(*arrays))
    with pytest.raises(NotFittedError):
        check_is_fitted(augmenter)


def test_images_of_the_largest_class_are_checked_too(no_training, make_augmenter):
    images = torch.rand(30, 1, 4, 4)
    images[3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="item 3 holds NaN or infinity"):
        make_augmenter().fit(TensorDataset(images, torch.tensor([0] * 20 + [1] * 10)))


def test_class_with_one_image_can_be_left_out(arrays, make_augmenter):
    X, y = arrays
    augmenter = make_augmenter(sampling_strategy={1: 9}).fit(X[:11], y[:11])
    assert augmenter.sampling_strategy_ == {1: 5}


def test_refused_data_leave_the_last_fit_in_place(digits, make_augmenter, fitted):
    augmenter = make_augmenter().fit(*digits)
    with pytest.raises(ValueError, match="empty"):
        augmenter.fit(digits[0][:0], digits[1][:0])
    assert torch.equal(augmenter.sample(1, 3, seed=0), fitted.sample(1, 3, seed=0))


def test_fit_resample_refuses_datasets(arrays, make_augmenter, no_training):
    with pytest.raises(TypeError, match=r"Use fit\(dataset\)\.augment\(dataset\)"):
        make_augmenter().fit_resample(Pairs(*arrays), arrays[1])
