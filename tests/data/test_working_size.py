import os
from pathlib import Path

import numpy as np
import pytest
import torch
from example_datasets import Items, pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder

from gae_augment._utils.seeding import make_generator
from gae_augment.data import ImageDataset, check_working_size, load_source, open_folder, resize_images
from gae_augment.data.working_size import choose_size

SIZES = [(30, 20), (8, 8), (100, 300), (20, 25), (41, 33), (64, 64), (9, 70)]


@pytest.mark.parametrize(
    ("sizes", "working_size", "expected"),
    [
        ([(28, 28)] * 3, "auto", (28, 28)),
        ([(64, 3)] * 3, "auto", (64, 3)),
        ([(1, 1)], "auto", (1, 1)),
        ([(65, 65)], "auto", (64, 64)),
        ([(480, 640)] * 3, "auto", (48, 64)),
        # The median height and the median width.
        ([(200, 100), (300, 900), (400, 200)], "auto", (64, 43)),
        ([(20, 10), (30, 20)], "auto", (25, 15)),
        # At most four times as long as wide.
        ([(8000, 8)] * 3, "auto", (32, 8)),
        ([(100, 2000)] * 3, "auto", (16, 64)),
        ([(60, 10), (60, 12)], "auto", (44, 11)),
        # At least 8 pixels, unless all images are smaller.
        ([(6, 6), (6, 6), (20, 30)], "auto", (8, 8)),
        ([(5, 6), (5, 6), (5, 7)], "auto", (5, 6)),
        ([(100, 400)] * 3, 16, (8, 16)),
        ([(28, 28)] * 3, 16, (16, 16)),
        ([(28, 28)] * 3, 32, (28, 28)),
        ([(200, 100)] * 3, 128, (128, 64)),
        ([(28, 28)] * 3, (40, 3), (40, 3)),
        ([(28, 28)] * 3, [np.int64(40), 3], (40, 3)),
    ],
    ids=str,
)
def test_working_sizes(sizes, working_size, expected):
    assert choose_size(sizes, working_size) == expected


@given(
    st.lists(st.tuples(st.integers(1, 8000), st.integers(1, 8000)), min_size=1, max_size=9),
    st.integers(8, 200),
)
def test_chosen_sizes_keep_the_rules(sizes, longest):
    chosen = choose_size(sizes, longest)
    pairs = np.array(sizes)
    if len(set(sizes)) == 1 and pairs.max() <= longest:
        assert chosen == sizes[0]
        return
    assert max(chosen) <= longest
    # Never larger than the largest image, and not smaller than 8 without need.
    assert all(side <= largest for side, largest in zip(chosen, pairs.max(axis=0), strict=True))
    assert all(side >= 8 or largest < 8 for side, largest in zip(chosen, pairs.max(axis=0), strict=True))
    # Each side is rounded by at most half a pixel.
    assert max(chosen) <= 4 * min(chosen) + 2.5 or max(chosen) == 8


@pytest.mark.parametrize("working_size", [None, "large", 7, 0, 64.0, True, (64,), (8, 8, 8), (0, 8), (8, "8"), {64}])
def test_other_working_sizes_are_refused(working_size):
    with pytest.raises(ValueError, match=r"'working_size' is .*, but must be 'auto', an integer of at least 8"):
        check_working_size(working_size)


@pytest.mark.parametrize("working_size", ["auto", 8, np.int64(64), (1, 300), [48, 64]], ids=str)
def test_working_sizes_are_accepted(working_size):
    check_working_size(working_size)


# Resizing


def as_tensor(image):
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(48, 64), (17, 9), (64, 8), (8, 300), (1, 1)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("original", [(300, 211), (40, 33), (8, 700)], ids=str)
def test_pictures_are_resized_as_by_pillow(mode, size, original):
    values = pixels(*original, len(mode)) if len(mode) > 1 else pixels(*original)
    image = Image.frombytes(mode, original[::-1], values.tobytes())
    expected = as_tensor(image.resize(size[::-1], Image.Resampling.BILINEAR))
    resized = resize_images(as_tensor(image)[None], size)[0]
    assert (resized.dtype, resized.shape) == (torch.uint8, (len(mode), *size))
    # Both round intermediate values in integers.
    assert (resized.int() - expected.int()).abs().max() <= 1
    assert (resized.double() - expected).mean().abs() < 0.1


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        (torch.float32, 1 / 255, 1e-6),
        (torch.float64, -1e6, 30.0),
        (torch.float16, 1.0, 0.1),
        (torch.uint16, 250, 0.53),
        (torch.int64, -300, 0.53),
    ],
    ids=str,
)
def test_other_types_are_resized_as_by_pillow(dtype, scale, tolerance):
    values = pixels(90, 70).astype(np.float32) * np.float32(scale)
    expected = as_tensor(Image.fromarray(values).resize((33, 20), Image.Resampling.BILINEAR))
    images = torch.from_numpy(values).to(dtype)[None]
    resized = resize_images(images, (20, 33))
    assert resized.dtype == dtype
    torch.testing.assert_close(resized.double(), expected.double(), atol=tolerance, rtol=0)


def test_black_and_white_is_what_is_nearer():
    image = Image.fromarray(pixels(90, 70) > 100)
    expected = as_tensor(
        Image.fromarray(np.array(image).astype(np.float32)).resize((33, 20), Image.Resampling.BILINEAR)
    )
    resized = resize_images(as_tensor(image)[None], (20, 33))[0]
    assert resized.dtype == torch.bool
    certain = (expected - 0.5).abs() > 1e-4
    assert torch.equal(resized[certain], expected[certain] > 0.5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float32, torch.float64, torch.bool])
def test_constant_images_stay_constant(dtype):
    for value in (0, 1, 127, 254, 255):
        images = torch.full((2, 3, 50, 31), value).to(dtype)
        for size in ((20, 20), (64, 7), (90, 100)):
            assert torch.equal(resize_images(images, size), torch.full((2, 3, *size), value).to(dtype))


def test_values_stay_in_their_range():
    generator = make_generator(0)
    images = (torch.rand(5, 1, 61, 47, generator=generator) > 0.02).float()
    resized = resize_images(images, (23, 64))
    assert resized.min() >= 0
    assert resized.max() == 1


def test_image_does_not_depend_on_its_batch_or_layout():
    images = torch.from_numpy(pixels(6, 90, 70, 3)).permute(0, 3, 1, 2)
    for batch in (images, images.float() / 255):
        together = resize_images(batch, (30, 41))
        assert all(
            torch.equal(resize_images(image[None].contiguous(), (30, 41))[0], each)
            for image, each in zip(batch, together, strict=True)
        )
        threads = torch.get_num_threads()
        assert torch.equal(resize_images(batch, (30, 41)), together)
        assert torch.get_num_threads() == threads


def test_images_of_the_right_size_are_returned_themselves():
    images = torch.rand(2, 5, 6)
    assert resize_images(images, (5, 6)) is images


# Reading


def mixed(kind, sizes=SIZES):
    r"""Returns images of several sizes in one container, and the same images as tensors of shape (C, H, W)."""
    arrays = [
        np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8) for number, size in enumerate(sizes)
    ]
    convert = {
        "PIL image": Image.fromarray,
        "grey PIL image": lambda array: Image.fromarray(array[..., 0]),
        "black and white": lambda array: Image.fromarray(array[..., 0] > 100),
        "16 bits": lambda array: Image.fromarray(array[..., 0].astype(np.uint16) * 257),
        "transparent": lambda array: Image.fromarray(np.dstack([array, array[..., 1]]), "RGBA"),
        "array": lambda array: array,
        "grey array": lambda array: array[..., 0],
        "float array": lambda array: array[..., 0] / 255,
        "tensor": lambda array: torch.from_numpy(array).permute(2, 0, 1),
        "tv_tensor": lambda array: tv_tensors.Image(torch.from_numpy(array).permute(2, 0, 1)),
    }[kind]
    images = [convert(array) for array in arrays]
    tensors = [image if isinstance(image, torch.Tensor) else as_tensor(image) for image in images]
    return images, [tensor[0] if kind in ("grey array", "float array") else tensor for tensor in tensors]


@pytest.mark.parametrize(
    "kind",
    [
        "PIL image",
        "grey PIL image",
        "black and white",
        "16 bits",
        "transparent",
        "array",
        "grey array",
        "float array",
        "tensor",
        "tv_tensor",
    ],
)
def test_images_of_several_sizes_are_read_at_one(kind):
    images, tensors = mixed(kind)
    size = choose_size(SIZES)
    assert size == (30, 33)
    _, read = load_source(Items(list(zip(images, [0, 1, 0, 1, 0, 1, 0], strict=True))))
    batch = read(range(7))
    assert tuple(batch.shape[-2:]) == size
    assert batch.dtype == tensors[0].dtype
    for image, tensor in zip(batch, tensors, strict=True):
        assert torch.equal(image, resize_images(tensor[None], size)[0])
    assert torch.equal(read([5, 2]), batch[[5, 2]])
    # The images of the dataset are unchanged.
    again, _ = mixed(kind)
    for image, expected in zip(images, again, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_modes_and_channels_must_agree_whatever_the_size():
    for second, message in [
        (Image.new("RGB", (9, 50)), r"Item 1 has shape \(3, 50, 9\), but item 0 has shape \(1, 5, 4\)\. Convert"),
        (Image.new("1", (9, 50)), "Item 1 has mode 1, but item 0 has mode L"),
        (np.zeros((1, 50, 9), dtype=np.uint8), "Item 1 has mode None, but item 0 has mode L"),
        (torch.zeros(50, 9), r"Item 1 has shape \(50, 9\)"),
    ]:
        _, read = load_source(Items([(Image.new("L", (4, 5)), 0), (second, 1)]))
        with pytest.raises(ValueError, match=message):
            read([0, 1])


def test_nan_in_a_large_image_is_found():
    image = torch.zeros(1, 500, 500)
    image[0, 499, 499] = float("nan")
    _, read = load_source(Items([(torch.zeros(1, 9, 9), 0), (image, 1)]))
    with pytest.raises(ValueError, match="item 1 holds NaN"):
        read([0, 1])


def test_image_of_another_size_that_no_one_looked_at():
    r"""Of 1000 images, 100 are looked at. The planted one is not, and is resized to the size of the others."""
    images = [Image.fromarray(image) for image in pixels(1000, 6, 5)]
    (unseen,) = set(range(500, 504)) - set(np.linspace(0, 999, 100).astype(int).tolist()) - {501, 502, 503}
    images[unseen] = Image.fromarray(pixels(90, 80))
    _, read = load_source(Items([(image, number % 2) for number, image in enumerate(images)]))
    batch = read(range(1000))
    assert batch.shape == (1000, 1, 6, 5)
    for number, image in enumerate(images):
        if number != unseen:
            assert torch.equal(batch[number], as_tensor(image))
    assert torch.equal(batch[unseen], resize_images(as_tensor(images[unseen])[None], (6, 5))[0])


def test_at_most_a_hundred_images_are_read_for_their_sizes():
    class Counting(TensorDataset):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

    data = Counting(torch.zeros(5000, 1, 4, 4), torch.arange(5000) % 2)
    load_source(data, working_size=(2, 2))
    without = Counting.reads
    load_source(data)
    assert Counting.reads - 2 * without <= 100


def test_arrays_are_resized_only_if_large():
    X, y = torch.rand(6, 3, 80, 40, generator=make_generator(0)), [0, 1] * 3
    read = load_source(X, y)[1]
    assert torch.equal(read([1, 4]), resize_images(X, (64, 32))[[1, 4]])
    assert torch.equal(load_source(X, y, 100)[1](range(6)), X)
    assert load_source(X, y, (7, 9))[1]([0]).shape == (1, 3, 7, 9)
    assert torch.equal(load_source(X, y, own_size=True)[1](range(6)), X)
    assert torch.equal(load_source(X, y, (80, 40), own_size=True)[1](range(6)), X)
    with pytest.raises(
        ValueError, match=r"'working_size' is 32, but these images keep their size, 80x40\. Leave it at"
    ):
        load_source(X, y, 32, own_size=True)


def test_vectors_are_never_resized():
    X, y = torch.rand(6, 300), [0, 1] * 3
    assert torch.equal(load_source(X, y)[1](range(6)), X)
    for data in ((X, y), (TensorDataset(X, torch.tensor(y)), None)):
        with pytest.raises(ValueError, match="'working_size' is 64, but the data are vectors of 300 features"):
            load_source(*data, 64)
    _, read = load_source(Items([(torch.zeros(3), 0), (torch.zeros(4), 1)]))
    with pytest.raises(ValueError, match=r"Item 1 has shape \(4,\)"):
        read([0, 1])


@pytest.mark.parametrize("size", [(8, 8000), (8000, 8), (8000, 8000), (1, 1), (2000, 3)], ids=str)
def test_extreme_sizes_are_read(size):
    images = [Image.new("L", size[::-1], 200), Image.new("L", (30, 20), 200)]
    for working_size in ("auto", 100, (20, 20)):
        _, read = load_source(ImageDataset(images, labels=[0, 1]), working_size=working_size)
        batch = read([0, 1])
        assert max(batch.shape) <= 100
        assert (batch == 200).all()


def test_animation_is_read_as_its_first_frame(tmp_path):
    (tmp_path / "a").mkdir()
    first, *others = (Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue"))
    first.save(tmp_path / "a" / "0.gif", save_all=True, append_images=others)
    folder = ImageFolder(tmp_path, is_valid_file=lambda path: True)
    batch = load_source(folder)[1]([0])
    assert torch.equal(batch[0], as_tensor(first))


@pytest.mark.parametrize("name", ["tiles", "leaves"])
def test_real_photographs(name):
    root = Path(os.environ.get("GAE_DATA_ROOT", "missing")) / "photos" / name / "train"
    if not root.is_dir():
        pytest.skip(f"GAE_DATA_ROOT does not name a folder with photos/{name}")
    folder = open_folder(root)
    labels, read = load_source(folder)
    chosen = range(0, len(labels), max(1, len(labels) // 10))
    batch = read(chosen)
    height, width = batch.shape[-2:]
    assert max(height, width) == 64
    for index, image in zip(chosen, batch, strict=True):
        expected = as_tensor(folder[index][0].resize((width, height), Image.Resampling.BILINEAR))
        # JPEG files are decoded at reduced size.
        assert (image.int() - expected.int()).abs().float().mean() <= 2
        assert np.corrcoef(image.flatten(), expected.flatten())[0, 1] > 0.995
