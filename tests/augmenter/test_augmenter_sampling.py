import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch.utils.data import TensorDataset

from gae_augment import GAEAugmenter


@pytest.mark.parametrize(
    "use",
    [
        lambda augmenter, path: augmenter.sample(0, 1),
        lambda augmenter, path: augmenter.reconstruct(0, torch.zeros(1, 3)),
        lambda augmenter, path: augmenter.report_,
        lambda augmenter, path: augmenter.augment(TensorDataset(torch.zeros(2, 3), torch.tensor([0, 1]))),
        lambda augmenter, path: augmenter.save(path),
    ],
    ids=["sample", "reconstruct", "report_", "augment", "save"],
)
def test_use_before_fit_is_refused(use, tmp_path):
    with pytest.raises(NotFittedError, match=r"not fitted yet\. Call 'fit' with a dataset, or with X and y, first"):
        use(GAEAugmenter(), tmp_path / "augmenter")
    assert not list(tmp_path.iterdir())


def test_samples_without_a_seed_are_new_each_time(digits, make_augmenter):
    first, second = make_augmenter().fit(*digits), make_augmenter().fit(*digits)
    samples = [first.sample(1, 4) for _ in range(3)]
    assert not any(torch.equal(samples[0], later) for later in samples[1:])
    assert all(torch.equal(second.sample(1, 4), images) for images in samples)
    second.fit(*digits)
    assert torch.equal(second.sample(1, 4), samples[0])


def test_samples_with_a_seed_repeat(fitted):
    assert torch.equal(fitted.sample(1, 4, seed=5), fitted.sample(1, 4, seed=5))
    assert not torch.equal(fitted.sample(1, 4, seed=5), fitted.sample(1, 4, seed=6))


def test_equal_labels_and_seeds_of_numpy_give_the_same_images(fitted):
    expected = fitted.sample(1, 4, seed=5)
    assert torch.equal(fitted.sample(np.int64(1), np.int64(4), seed=np.int64(5)), expected)
    assert torch.equal(fitted.sample(fitted.classes_[1], 4, seed=5), expected)


def test_pickled_augmenter_gives_the_same_images(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    assert torch.equal(copy.sample(2, 3, seed=0), fitted.sample(2, 3, seed=0))


@pytest.mark.parametrize(
    ("label", "n", "message"),
    [
        (7, 3, r"Class 7 is unknown, .*\. Choose one of \[1, 2\], or change 'sampling_strategy'"),
        ("1", 3, r"Class '1' is unknown"),
        (0, 3, r"Class 0 has 40 images and needs no more"),
        (1, 0, r"'n' is 0, but must be an integer of at least 1"),
        (1, -2, r"'n' is -2, but"),
        (1, 2.0, r"'n' is 2\.0, but"),
        (1, True, r"'n' is True, but"),
    ],
)
def test_invalid_classes_and_numbers_are_refused(fitted, label, n, message):
    with pytest.raises(ValueError, match=message):
        fitted.sample(label, n)


def test_samples_are_written_to_out(fitted):
    out = torch.zeros(5, 8, 8, dtype=torch.uint8)
    assert fitted.sample(1, 5, seed=0, out=out) is out
    assert torch.equal(out, fitted.sample(1, 5, seed=0))
    for shape, dtype in (((8, 8), torch.float32), ((64,), torch.uint8), ((1, 8, 8), torch.uint8)):
        expected = re.escape(f"to images of shape (8, 8) of torch.uint8, but images of shape {shape} of {dtype} are")
        with pytest.raises(ValueError, match=expected):
            fitted.sample(1, 5, out=torch.zeros(5, *shape, dtype=dtype))
    with pytest.raises(ValueError, match=r"the working size, 8x8, but images of 8x7 .* working_size=\(8, 7\)"):
        fitted.sample(1, 5, out=torch.zeros(5, 8, 7, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"'out' holds 4 images on cpu, but must hold 5 on the CPU"):
        fitted.sample(1, 5, out=out[:4])


def test_reconstruct_is_that_of_the_fitted_model(digits, fitted):
    images = torch.tensor(digits[0][digits[1] == 1])
    assert torch.equal(fitted.reconstruct(1, images), fitted.models_[1].reconstruct(images))
    with pytest.raises(ValueError, match=r"shape \(25, 4, 8\), but .* images of shape \(N, 8, 8\)\. Resize"):
        fitted.reconstruct(1, images[:, :4])
