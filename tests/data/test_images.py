import numpy as np
import pytest
import torch
from example_datasets import Items, grey, pixels
from PIL import Image
from torch.utils.data import TensorDataset

from gae_augment._utils.seeding import make_generator
from gae_augment.data import DatasetView, ItemFormat, image_array, load_source, read_images


def read_all(items):
    labels, read = load_source(Items(items))
    return read(range(len(labels)))


def test_tensors_that_require_a_gradient_are_detached():
    images = torch.rand(4, 3, 3, generator=make_generator(0)).requires_grad_()
    data = TensorDataset(images, torch.tensor([0, 1, 0, 1]))
    raw_images = read_images(DatasetView(data), [1, 3], ItemFormat.of(data[0][0]))
    assert not raw_images.requires_grad
    assert torch.equal(raw_images, images[[1, 3]])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Image.new("RGB", (9, 5)), r"Item 1 has shape \(3, 5, 9\), but item 0 has shape \(1, 5, 4\)\. Convert the"),
        (Image.new("1", (4, 5)), "Item 1 has mode 1, but item 0 has mode L"),
        (np.zeros((1, 5, 4), dtype=np.uint8), "Item 1 has mode None, but item 0 has mode L"),
    ],
)
def test_images_of_several_modes_or_numbers_of_channels_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        read_all([grey()[0], (second, 1)])


def test_images_of_several_types_are_refused():
    message = r"Item 1 has type array of torch\.float64, but item 0 has type tensor of torch\.float32"
    with pytest.raises(ValueError, match=message):
        read_all([(torch.zeros(1, 2, 2), 0), (np.zeros((1, 2, 2)), 1)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused(value):
    images = torch.zeros(4, 3)
    images[2, 1] = value
    with pytest.raises(ValueError, match=r"not finite: item 2 holds NaN or infinity\. Remove"):
        read_all(list(zip(images, range(4), strict=True)))
    with pytest.raises(ValueError, match=r"not finite: image 2 of X holds NaN or infinity"):
        image_array(images)


def test_types_that_numpy_lacks_are_refused():
    images = torch.zeros(2, 3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"X is of torch\.bfloat16\. Convert it: X\.float\(\)"):
        image_array(images)
    with pytest.raises(ValueError, match=r"item 0 is of torch\.bfloat16\. Convert it"):
        read_all(list(zip(images, range(2), strict=True)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int64, np.float16, np.float32, np.float64, bool])
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (5, 4, 6), (5, 7)], ids=str)
def test_arrays_keep_their_type_and_values(dtype, shape):
    X = (pixels(*shape) % 2).astype(dtype)
    images = image_array(X)
    assert images.numpy().dtype == X.dtype
    np.testing.assert_array_equal(images.numpy(), X)
    assert torch.equal(image_array(images), images)


def test_arrays_of_every_memory_layout_and_container(tmp_path):
    X = pixels(6, 5, 4)
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.setflags(write=False)
    for array in (
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        read_only,
        np.asfortranarray(X),
        X[::-1][::-1],
        X.tolist(),
        list(X),
        list(torch.from_numpy(X)),
        torch.from_numpy(X.copy()).mT.contiguous().mT,
        torch.from_numpy(X.copy()).double().requires_grad_(),
    ):
        images = image_array(array)
        assert not images.requires_grad
        np.testing.assert_array_equal(images.numpy(), X)
    labels, read = load_source(read_only, [0] * 4 + [1] * 2)
    np.testing.assert_array_equal(read(np.flatnonzero(labels)).numpy(), X[4:])


def test_writable_arrays_are_not_copied(tmp_path):
    X = pixels(6, 5, 4)
    assert np.shares_memory(image_array(X).numpy(), X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    assert np.shares_memory(image_array(mapped).numpy(), mapped)
    reversed_X, read_only = X[::-1], np.load(tmp_path / "X.npy", mmap_mode="r")
    assert torch.equal(image_array(reversed_X), torch.from_numpy(reversed_X.copy()))
    assert torch.equal(image_array(read_only), torch.from_numpy(X))


def test_object_arrays_become_float64():
    X = np.array([[1, 2.5], [True, -3]], dtype=object)
    assert torch.equal(image_array(X), torch.tensor([[1, 2.5], [1, -3]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((4, 8, 8, 3)), r"channels seem to be last: 'X' has shape \(4, 8, 8, 3\).*X\.transpose\(0, 3, 1, 2\)"),
        (torch.zeros(4, 8, 8, 1), r"X\.permute\(0, 3, 1, 2\)"),
        (np.array([["a"]]), "'X' cannot be converted to an array of numbers"),
        (np.array([["a", 1]], dtype=object), "array of numbers: could not convert string to float: 'a'"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "cannot be converted to an array .*Pass images of several sizes as a"),
        (np.zeros((2, 3), dtype=complex), "Complex data not supported"),
        (np.zeros((0, 3)), r"empty: its shape is \(0, 3\)"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\)"),
        ([], r"has shape \(0,\)"),
        (np.zeros(5), r"'X' has shape \(5,\) .*\(N, F\)\. Add the missing axis"),
        (np.zeros((1, 1, 1, 1, 1)), r"has shape \(1, 1, 1, 1, 1\)"),
        (np.float64(3), r"has shape \(\)"),
    ],
)
def test_unsuitable_arrays_are_refused(X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        load_source(X, [0])
