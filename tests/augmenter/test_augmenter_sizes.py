import numpy as np
import pytest
import torch
from augmenter_data import Pairs
from PIL import Image

from gae_augment import GAEAugmenter
from gae_augment._utils.files import read_file, write_file
from gae_augment.data import load_source, resize_images
from gae_augment.fitting import FitCache
from gae_augment.report import assess, forecast, measure_gain, open_data, write_report

LABELS = [0] * 12 + [1] * 6 + [2] * 4


def photographs(sizes, seed=0):
    r"""Returns a dataset of grey pictures, whose sizes repeat the given heights and widths."""
    random = np.random.default_rng(seed)
    shapes = [sizes[number % len(sizes)] for number in range(len(LABELS))]
    return Pairs([Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes], LABELS)


@pytest.fixture(scope="module")
def photos():
    return photographs([(80, 100), (90, 120), (100, 160), (300, 150)])


@pytest.mark.parametrize(
    ("working_size", "shape"), [("auto", (1, 48, 64)), (16, (1, 12, 16)), ((9, 8), (1, 9, 8)), (999, (1, 90, 120))]
)
def test_networks_see_images_at_the_working_size(photos, make_augmenter, working_size, shape):
    augmenter = make_augmenter(working_size=working_size).fit(photos)
    assert {report.plan.shape for report in augmenter.report_.values()} == {shape}
    images = augmenter.sample(1, 3, seed=0)
    assert (images.shape, images.dtype) == ((3, *shape), torch.uint8)
    _, read = load_source(photos, working_size=working_size)
    assert torch.equal(augmenter.models_[1].anchors, read(range(12, 18)))
    assert augmenter.reconstruct(1, read([0])).shape == (1, *shape)


def test_working_size_of_the_images_changes_nothing(digits, make_augmenter, fitted):
    same = make_augmenter(working_size=(8, 8)).fit(*digits)
    assert torch.equal(same.sample(1, 4, seed=0), fitted.sample(1, 4, seed=0))


def test_large_arrays_are_seen_at_the_working_size(make_augmenter):
    X = np.random.default_rng(0).random((22, 3, 200, 100))
    augmenter = make_augmenter().fit(X, LABELS)
    assert augmenter.sample(1, 2).shape == (2, 3, 64, 32)
    resized = resize_images(torch.from_numpy(X), (64, 32))
    assert torch.equal(augmenter.models_[2].anchors, resized[18:])


def test_fit_resample_keeps_the_size_of_the_array(make_augmenter, no_training):
    X = np.random.default_rng(0).random((22, 80, 10))
    for working_size in (64, (80, 11)):
        with pytest.raises(ValueError, match=r"but these images keep their size, 80x10\. Leave it at 'auto', or call"):
            make_augmenter(working_size=working_size).fit_resample(X, LABELS)


@pytest.mark.parametrize("working_size", ["auto", 80, 200, (80, 10)], ids=str)
def test_fit_resample_returns_rows_of_the_shape_of_the_array(make_augmenter, working_size):
    X = np.random.default_rng(0).random((22, 80, 10))
    X_both, y_both = make_augmenter(working_size=working_size).fit_resample(X, LABELS)
    assert X_both.shape == (36, 80, 10)
    assert np.bincount(y_both).tolist() == [12, 12, 12]


@pytest.mark.parametrize("working_size", ["auto", 16, (9, 8)], ids=str)
def test_saved_augmenter_keeps_its_working_size(photos, make_augmenter, tmp_path, working_size):
    augmenter = make_augmenter(working_size=working_size).fit(photos)
    augmenter.save(tmp_path / "fitted")
    loaded = GAEAugmenter.load(tmp_path / "fitted")
    assert loaded.working_size == working_size
    assert loaded.models_[1].shape == augmenter.models_[1].shape
    assert torch.equal(loaded.sample(1, 3, seed=0), augmenter.sample(1, 3, seed=0))


def test_file_without_a_working_size_is_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "fitted")
    header, tensors = read_file(tmp_path / "fitted")
    del header["parameters"]["working_size"]
    write_file(tmp_path / "old", header, tensors)
    assert GAEAugmenter.load(tmp_path / "old").working_size == "auto"
    header["parameters"]["working_size"] = [8, "8"]
    write_file(tmp_path / "damaged", header, tensors)
    with pytest.raises(ValueError, match=r"does not hold a complete augmenter: .*'working_size' is"):
        GAEAugmenter.load(tmp_path / "damaged")


def test_cached_classes_have_the_working_size(photos, make_augmenter, tmp_path, class_fits):
    cache = FitCache(tmp_path)
    first = make_augmenter(n_jobs=1).fit(photos, checkpoint_dir=cache)
    # Motions are learned from the largest class too.
    assert class_fits == [12, 6, 4]
    assert make_augmenter(n_jobs=1, working_size=64).fit(photos, checkpoint_dir=cache).cache_key_ == first.cache_key_
    assert class_fits == [12, 6, 4]
    other = make_augmenter(n_jobs=1, working_size=32).fit(photos, checkpoint_dir=cache)
    assert class_fits == [12, 6, 4] * 2
    assert other.cache_key_ != first.cache_key_


def test_fitted_images_do_not_depend_on_the_number_of_jobs(photos, make_augmenter):
    first, second = (make_augmenter(n_jobs=n_jobs).fit(photos) for n_jobs in (1, 2))
    assert torch.equal(first.sample(2, 4, seed=0), second.sample(2, 4, seed=0))


def test_everything_is_measured_at_the_working_size(photos, make_augmenter, tmp_path):
    r"""The held-out images would have another working size by themselves."""
    held_out = photographs([(50, 50), (300, 60)], seed=1)
    augmenter = make_augmenter(working_size=20).fit(photos)
    assert forecast(augmenter, photos).added == {1: 6, 2: 8}
    assert augmenter.models_[1].shape == (1, 15, 20)
    for data in (photos, held_out):
        assert open_data(data, augmenter)[1]([0, 5]).shape == (2, 1, 15, 20)
    assert open_data(held_out)[1]([0]).shape != (1, 1, 15, 20)

    def extractor(images):
        return images.flatten(1).float()[:, :5]

    extractor.name = "five pixels"
    assessment = assess(augmenter, photos, held_out=held_out, extractor=extractor)
    assert assessment.training[1].shape == (6, 1, 15, 20)
    assert assessment.fidelity
    gain = measure_gain(augmenter, photos, held_out, seeds=(0,), steps=5)
    assert len(gain.scores) == 3
    assert "Class 1" in write_report(augmenter, photos, tmp_path / "page.html", held_out=held_out).read_text()
