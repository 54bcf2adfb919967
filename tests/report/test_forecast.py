r"""What a forecast reads, trains and tells. No test takes a time."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data import open_folder
from gae_augment.fitting import learned_from, parallel_fits, timing
from gae_augment.report import forecast

SHORT = GenerativeModel(epochs=2, architecture=(8,), batch_size=8, delta=100.0)


def arrays(counts, *shape, dtype=torch.uint8):
    n = sum(counts)
    X = (200 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    return X, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def augmenter(model=SHORT, **options):
    return GAEAugmenter(model, random_state=0, progress=False, n_jobs=1, **options)


@pytest.fixture
def opened(monkeypatch):
    r"""The paths of the image files that Pillow opens."""
    paths = []
    real_open = Image.open

    def recording(file, *arguments, **options):
        paths.append(str(file))
        return real_open(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", recording)
    return paths


def photographs(root, counts):
    for label, n in enumerate(counts):
        (root / f"class{label}").mkdir()
        for number in range(n):
            pixels = np.random.default_rng(number).integers(0, 256, (80, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class{label}" / f"{number:04d}.jpg")
    return root


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int16, torch.bool])
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6), (6, 6), (5,)], ids=str)
def test_all_kinds_of_data_have_forecasts(shape, dtype):
    X, y = arrays([30, 12, 5], *shape, dtype=dtype)
    estimate = forecast(augmenter(), X, y)
    assert estimate.counts == {0: 30, 1: 12, 2: 5}
    assert estimate.added == {1: 18, 2: 25}
    assert estimate.n_models == 2
    assert estimate.fit_seconds > 0
    assert estimate.sample_seconds > 0


def test_nothing_to_add_takes_no_time(no_training, monkeypatch):
    monkeypatch.setattr(timing, "fit_class", parallel_fits.fit_class)
    estimate = forecast(augmenter(), *arrays([9, 9], 1, 6, 6))
    assert (estimate.added, estimate.n_models, estimate.fit_seconds, estimate.sample_seconds) == ({}, 0, 0.0, 0.0)


def test_number_of_models_is_that_of_the_fit(tmp_path, monkeypatch, class_fits):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 3)
    dataset = open_folder(photographs(tmp_path, [9, 7, 2, 8, 1]))
    estimate = forecast(augmenter(), dataset)
    assert estimate.added == {1: 2, 2: 7, 3: 1, 4: 8}
    assert class_fits == []
    augmenter().fit(dataset)
    assert len(class_fits) == estimate.n_models == 3


def test_classes_with_equal_steps_are_timed_once(monkeypatch):
    counts = []

    def recorded(images, plan, *arguments, **options):
        counts.append(plan.images)
        return timing.time_fit(images, plan, *arguments, **options)

    monkeypatch.setattr("gae_augment.report.forecasting.time_fit", recorded)
    forecast(augmenter(), *arrays([60, 30, 20, 25, 10, 5], 1, 6, 6))
    assert counts == [20]
    counts.clear()
    models = {1: SHORT, 2: GenerativeModel("vae", epochs=2, architecture=(8,), batch_size=8)}
    forecast(augmenter(models), *arrays([60, 30, 20], 1, 6, 6))
    assert sorted(counts) == [20, 30]


def test_few_images_are_read(tmp_path, opened):
    dataset = open_folder(photographs(tmp_path, [420, 20, 10]), headers=50)
    assert len(opened) <= 50
    opened.clear()
    forecast(augmenter(), dataset)
    # 100 sizes, a class of median size, 100 images as a check, and the images that are moved.
    assert len(opened) <= 1 + 100 + 20 + 100 + 32


def test_images_of_a_dataset_are_moved_at_their_own_size(monkeypatch):
    sizes = []

    def recorded(image, v):
        sizes.append(tuple(image.shape[-2:]))
        return image

    monkeypatch.setattr("gae_augment.report.forecasting.move", recorded)
    data = TensorDataset(*arrays([12, 6], 3, 90, 70))
    forecast(augmenter(), data)
    assert set(sizes) == {(90, 70)}


def test_class_that_cannot_be_fitted_is_an_error_before_the_fit():
    with pytest.raises(ValueError, match=r"Class 2 has 1 image, but a model needs at least 2"):
        forecast(augmenter(), *arrays([12, 6, 1], 1, 6, 6))
