import numpy as np
import pytest
import torch
from augmenter_data import Pairs
from PIL import Image
from torch.utils.data import TensorDataset

from gae_augment import GAEAugmenter, GenerativeModel


def test_attributes_of_a_fit(fitted):
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.counts_ == {0: 40, 1: 25, 2: 12}
    assert fitted.class_names_ == {0: "0", 1: "1", 2: "2"}
    assert fitted.sampling_strategy_ == {1: 15, 2: 28}
    assert list(fitted.models_) == list(fitted.report_) == [1, 2]
    assert fitted.seed_ == 0
    assert [report.images for report in fitted.report_.values()] == [25, 12]


def images_of(digits, form):
    r"""Returns the digits in another shape, type or range of values."""
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
def test_fit_resample_keeps_shape_type_and_originals_of_every_array(form, numpy, digits, make_augmenter):
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


def test_synthetic_images_resemble_their_class(digits):
    # Each class is bright in another half, so an image of the wrong class would be bright in the wrong half.
    generator = np.random.default_rng(0)
    X = np.zeros((70, 6, 6), dtype=np.uint8)
    X[:40, :3] = generator.integers(150, 256, (40, 3, 6))
    X[40:60, 3:] = generator.integers(150, 256, (20, 3, 6))
    X[60:, :, 3:] = generator.integers(150, 256, (10, 6, 3))
    y = np.repeat([0, 1, 2], [40, 20, 10])
    augmenter = GAEAugmenter(GenerativeModel(epochs=60, delta=0.05), random_state=0, progress=False)
    X_new, y_new = augmenter.fit_resample(X, y)
    synthetic, labels = X_new[70:].astype(float), y_new[70:]
    lower, upper = synthetic[:, 3:].mean((1, 2)), synthetic[:, :3].mean((1, 2))
    right, left = synthetic[:, :, 3:].mean((1, 2)), synthetic[:, :, :3].mean((1, 2))
    assert (lower - upper)[labels == 1].min() > 100
    assert (right - left)[labels == 2].min() > 100


def test_synthetic_items_have_mode_and_size_of_pillow_images(digits, make_augmenter):
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
    augmenter = make_augmenter().fit(TensorDataset(X, y))
    for label in (1, 2):
        assert torch.equal(augmenter.sample(label, 3, seed=0), fitted.sample(label, 3, seed=0))


def test_names_of_classes_come_from_the_dataset(digits, make_augmenter):
    data = Pairs(torch.tensor(digits[0]), digits[1])
    data.classes = ["nought", "one"]
    assert make_augmenter().fit(data).class_names_ == {0: "nought", 1: "one", 2: "2"}


@pytest.mark.parametrize("kind", [list, np.array, lambda y: np.array(y, dtype=object)], ids=["list", "str", "object"])
def test_labels_may_be_strings(kind, digits, make_augmenter):
    y = kind(np.array(["nought", "one", "two"])[digits[1]].tolist())
    augmenter = make_augmenter(sampling_strategy={"two": 20})
    X_new, y_new = augmenter.fit_resample(digits[0], y)
    assert augmenter.sampling_strategy_ == {"two": 8}
    assert len(X_new) == 85
    assert y_new.dtype == np.asarray(y).dtype
    assert y_new.tolist() == [*y, *["two"] * 8]
    assert augmenter.sample("two", 1).shape == (1, 8, 8)


def test_labels_keep_their_type(digits, make_augmenter):
    for y in (digits[1].astype(np.uint8), torch.tensor(digits[1], dtype=torch.int32), digits[1].astype(float)):
        y_new = make_augmenter().fit_resample(digits[0], y)[1]
        assert y_new.dtype == y.dtype
        assert y_new[-1] == 2
    y_new = make_augmenter().fit_resample(digits[0], digits[1] == 2)[1]
    assert (y_new.dtype, y_new[-1], y_new.sum()) == (bool, True, 65)


def test_originals_keep_their_gradients(digits, make_augmenter):
    X = (torch.tensor(digits[0]) / 255).requires_grad_()
    X_new, _ = make_augmenter().fit_resample(X, torch.from_numpy(digits[1]))
    X_new.sum().backward()
    assert torch.equal(X.grad, torch.ones_like(X))


def test_balanced_classes_are_returned_unchanged(make_augmenter, no_training):
    X, y = np.zeros((6, 4)), np.array([0, 0, 0, 1, 1, 1])
    X_new, y_new = make_augmenter().fit_resample(X, y)
    np.testing.assert_array_equal(X_new, X)
    np.testing.assert_array_equal(y_new, y)


def test_two_images_are_enough(digits, make_augmenter):
    X, y = np.concatenate([digits[0][digits[1] == 0], digits[0][digits[1] == 1][:2]]), np.repeat([0, 1], [40, 2])
    augmenter = make_augmenter(epochs=100, delta=0.02, latent_dim=2).fit(X, y)
    assert augmenter.report_[1].n_components == 1
    assert augmenter.sample(1, 500, seed=0).shape == (500, 8, 8)
    distance = np.abs(augmenter.sample(1, 500, seed=0).numpy() - X[-2:].mean(axis=0)).mean()
    assert distance < np.abs(X[-2:] - X[-2:].mean(axis=0)).mean() * 2


@pytest.mark.parametrize("value", [0, 20, 128, 255])
def test_constant_images_stay_constant(value):
    X = np.random.default_rng(0).integers(0, 256, (30, 5, 5)).astype(np.uint8)
    X[20:] = value
    X_new, _ = GAEAugmenter(random_state=0, progress=False).fit_resample(X, np.repeat([0, 1], [20, 10]))
    np.testing.assert_allclose(X_new[30:], value, atol=16)


def test_constant_features_stay_constant(make_augmenter):
    X = np.random.default_rng(0).normal(size=(30, 5)) * 100
    X[:, 2] = 0.1
    X_new, _ = make_augmenter().fit_resample(X, np.repeat([0, 1], [20, 10]))
    assert (X_new[:, 2] == 0.1).all()
    assert (X_new[30:].std(axis=0) > 0).any()


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_images_in_files_give_the_same_samples_as_in_memory(n_jobs, digits, make_augmenter, tmp_path):
    X, y = digits[0].copy(), digits[1]
    in_memory = make_augmenter(synthesis="residual").fit(X, y)
    in_files = make_augmenter(synthesis="residual", cache_dir=tmp_path / "new", n_jobs=n_jobs).fit(X, y)
    for label in (1, 2):
        assert torch.equal(in_files.sample(label, 5), in_memory.sample(label, 5))
    # The files are removed, but the training images can still be read.
    assert list(tmp_path.glob("new/images-*")) == []
    assert torch.equal(in_files.models_[1].anchors, torch.from_numpy(X[y == 1]))
    assert np.array_equal(X, digits[0])
    in_files.save(tmp_path / "file")
    assert str(tmp_path).encode() not in (tmp_path / "file").read_bytes()
    assert GAEAugmenter.load(tmp_path / "file").cache_dir is None


def test_dataset_need_not_be_of_a_torch_class():
    class MapStyle:
        targets = (np.arange(30) % 5 % 2).tolist()

        def __len__(self):
            return 30

        def __getitem__(self, index):
            return torch.full((1, 4, 4), index / 30), self.targets[index]

    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=1000.0), random_state=0, progress=False).fit(MapStyle())
    assert augmenter.counts_ == {0: 18, 1: 12}
