import numpy as np
import pytest
import torch
from example_datasets import pixels
from PIL import Image
from torchvision import tv_tensors

from gae_augment.data import DatasetView, ItemFormat, load_source, read_images


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [
        ("L", 1, torch.uint8),
        ("LA", 2, torch.uint8),
        ("RGB", 3, torch.uint8),
        ("RGBA", 4, torch.uint8),
        ("I;16", 1, torch.uint16),
        ("1", 1, torch.bool),
    ],
)
def test_png_files_survive_the_round_trip(image_folder, mode, channels, dtype):
    data = image_folder(mode)
    item_format = ItemFormat.of(data[0][0])
    assert (item_format.shape, item_format.dtype, item_format.mode) == ((channels, 6, 5), dtype, mode)
    images = read_images(DatasetView(data), range(6), item_format)
    assert (images.shape, images.dtype) == ((6, channels, 6, 5), dtype)
    for tensor, (original, _) in zip(images, (data[i] for i in range(6)), strict=True):
        returned = item_format.from_tensor(tensor)
        assert (returned.mode, returned.size, returned.tobytes()) == (mode, original.size, original.tobytes())
        # The independent reference is Pillow's array, with channels last.
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).squeeze(-1).numpy(), np.asarray(original))


@pytest.mark.parametrize("mode", ["F", "I", "CMYK", "YCbCr", "HSV"])
def test_other_modes_survive_the_round_trip(mode):
    image = Image.fromarray(pixels(4, 3, 3)).convert("CMYK" if mode == "CMYK" else "RGB")
    image = image.convert("L").convert(mode) if mode in "FI" else image.convert(mode)
    item_format = ItemFormat.of(image)
    returned = item_format.from_tensor(item_format.to_tensor(image))
    assert (returned.mode, returned.tobytes()) == (mode, image.tobytes())


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_one_pixel_wide_survive_the_round_trip(mode, size):
    image = Image.fromarray(pixels(8, 8)).convert(mode).resize(size)
    item_format = ItemFormat.of(image)
    assert item_format.shape == (len(mode), *size[::-1])
    assert item_format.from_tensor(item_format.to_tensor(image)).tobytes() == image.tobytes()


def test_palettes_are_refused(image_folder):
    data = image_folder("P")
    assert data[0][0].mode == "P"
    with pytest.raises(ValueError, match=r"mode 'P', whose values are palette indices.*convert\('RGB'\)"):
        load_source(data)


def test_foreign_byte_order_is_refused():
    with pytest.raises(ValueError, match=r"mode 'I;16B', but .* must have mode 'I;16'.*image\.convert\('I'\)"):
        ItemFormat.of(Image.new("I;16B", (3, 3)))


@pytest.mark.parametrize(
    ("image", "container", "shape", "channels_last"),
    [
        (pixels(5, 4), "array", (5, 4), False),
        (pixels(9), "array", (9,), False),
        (pixels(3, 5, 4), "array", (3, 5, 4), False),
        (pixels(5, 4, 3), "array", (3, 5, 4), True),
        (pixels(5, 7, 1), "array", (1, 5, 7), True),
        (pixels(3, 4, 3), "array", (3, 4, 3), False),
        (pixels(5, 4, dtype=np.float64), "array", (5, 4), False),
        (pixels(5, 4, dtype=np.float16), "array", (5, 4), False),
        (pixels(5, 4, dtype=np.int64), "array", (5, 4), False),
        (pixels(5, 4) > 100, "array", (5, 4), False),
        (np.asfortranarray(pixels(5, 4, 3)), "array", (3, 5, 4), True),
        (pixels(5, 4)[::-1], "array", (5, 4), False),
        (torch.from_numpy(pixels(3, 5, 4)), "tensor", (3, 5, 4), False),
        (torch.from_numpy(pixels(5, 4, 3)), "tensor", (5, 4, 3), False),
        (torch.from_numpy(pixels(9)).float(), "tensor", (9,), False),
        (torch.from_numpy(pixels(5, 4)).mT, "tensor", (4, 5), False),
        (tv_tensors.Image(torch.from_numpy(pixels(3, 5, 4))), "tv_tensor", (3, 5, 4), False),
    ],
)
def test_arrays_and_tensors_survive_the_round_trip(image, container, shape, channels_last):
    item_format = ItemFormat.of(image)
    assert (item_format.container, item_format.shape, item_format.channels_last) == (container, shape, channels_last)
    tensor = item_format.to_tensor(image)
    assert type(tensor) is torch.Tensor
    assert tuple(tensor.shape) == shape
    returned = item_format.from_tensor(tensor)
    assert type(returned) is type(image)
    assert returned.dtype == image.dtype
    np.testing.assert_array_equal(np.asarray(returned), np.asarray(image))
    # The returned image is a copy.
    before = tensor.clone()
    returned[...] = 0
    assert torch.equal(tensor, before)


def test_read_only_arrays_become_writable():
    image = pixels(5, 4)
    image.setflags(write=False)
    item_format = ItemFormat.of(image)
    assert item_format.from_tensor(item_format.to_tensor(image)).flags.writeable


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("a.png", r"is a str, but must be a PIL image, an array or a tensor\. Wrap"),
        (None, "An image is a NoneType"),
        ([[1, 2]], "An image is a list"),
        (np.array([["a"]]), "of type <U1, which torch does not support.*astype"),
        (np.array([[None]]), "of type object"),
        (pixels(3, 3).astype(">i4"), r"of type >i4, .*astype"),
        (np.ones((2, 2), dtype=complex), r"has shape \(2, 2\) and type torch\.complex128, but must hold real numbers"),
        (torch.ones(2, 3, 4, 5), r"has shape \(2, 3, 4, 5\)"),
        (torch.tensor(1.0), r"has shape \(\)"),
        (torch.ones(3, 0, 4), r"has shape \(3, 0, 4\)"),
    ],
)
def test_other_types_and_shapes_than_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        ItemFormat.of(image)
