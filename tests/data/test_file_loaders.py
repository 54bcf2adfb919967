import io
import itertools

import numpy as np
import pytest
import torch
from example_datasets import Items
from PIL import ExifTags, Image, JpegImagePlugin
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import ImageFolder

from gae_augment._utils.seeding import make_generator
from gae_augment.data import load_source, open_folder, resize_images

SIZE = (240, 180)
"""The width and height of the photographs."""


def photograph(number, size=SIZE):
    r"""Returns an image of smooth colours with a little noise, as photographs have."""
    noise = torch.rand(1, 3, 12, 9, generator=make_generator(number))
    smooth = torch.nn.functional.interpolate(noise, size[::-1], mode="bicubic")[0].clamp(0, 1)
    pixels = 255 * (0.9 * smooth + 0.1 * torch.rand(smooth.shape, generator=make_generator(number, "noise")))
    return Image.fromarray(pixels.byte().permute(1, 2, 0).numpy())


def write_folder(root, ending, n=6, mode="RGB", **options):
    for number in range(n):
        (root / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        photograph(number).convert(mode).save(root / f"class{number % 2}" / f"{number}.{ending}", **options)
    return root


@pytest.fixture
def decoded(monkeypatch):
    r"""The sizes at which Pillow decodes JPEG files."""
    sizes = []
    load_prepare = JpegImagePlugin.JpegImageFile.load_prepare

    def recording(self):
        sizes.append(self.size)
        load_prepare(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load_prepare", recording)
    return sizes


def whole(dataset, indices, size):
    tensors = [torch.from_numpy(np.array(dataset[index][0])) for index in indices]
    maps = [t[None] if t.ndim == 2 else t.permute(2, 0, 1) for t in tensors]
    return torch.cat([resize_images(image[None], size) for image in maps])


OPENERS = {
    "ImageFolder": ImageFolder,
    "open_folder": open_folder,
    "Subset": lambda root: Subset(ImageFolder(root), [5, 4, 3, 2, 1, 0]),
    "ConcatDataset": lambda root: ConcatDataset([open_folder(root), open_folder(root)]),
    "transform": lambda root: ImageFolder(root, transform=lambda image: image.rotate(90)),
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_decoded_at_reduced_size(tmp_path, decoded, opener, mode):
    dataset = OPENERS[opener](write_folder(tmp_path, "jpg", mode=mode))
    _, read = load_source(dataset)
    assert read.shape[-2:] == (48, 64)
    # The sizes come from headers. The first image alone is decoded.
    assert len(decoded) == 1
    decoded.clear()
    batch = read(range(6))
    assert set(decoded) == {(120, 90)}
    plain = OPENERS["open_folder" if "transform" in opener else opener](tmp_path)
    if "transform" in opener:
        plain.loader = dataset.loader
    expected = whole(plain, range(6), (48, 64))
    assert (batch.int() - expected.int()).abs().float().mean() < 2
    assert np.corrcoef(batch.flatten(), expected.flatten())[0, 1] > 0.999


def test_reduced_images_are_not_smaller_than_needed(tmp_path, decoded):
    dataset = ImageFolder(write_folder(tmp_path, "jpg"))
    for working_size, width in [(20, 30), (40, 60), (64, 120), (120, 240), (300, 240), ((10, 60), 120)]:
        _, read = load_source(dataset, working_size=working_size)
        decoded.clear()
        read([0, 1])
        assert {size[0] for size in decoded} == {width}
        assert width == SIZE[0] or width >= 1.5 * read.shape[-1]


@pytest.mark.parametrize(("ending", "options"), [("png", {}), ("webp", {"lossless": True}), ("bmp", {})])
def test_other_files_are_decoded_whole(tmp_path, ending, options):
    dataset = open_folder(write_folder(tmp_path, ending, **options))
    _, read = load_source(dataset)
    assert torch.equal(read(range(6)), whole(dataset, range(6), (48, 64)))


def test_loaders_of_the_user_are_kept(tmp_path):
    paths = []

    def load(path):
        paths.append(path)
        with Image.open(path) as image:
            return image.convert("L").resize((80, 90))

    dataset = ImageFolder(write_folder(tmp_path, "jpg"), loader=load)
    _, read = load_source(dataset)
    assert read.shape == (1, 64, 57)
    paths.clear()
    assert torch.equal(read(range(6)), whole(dataset, range(6), (64, 57)))
    assert len(paths) == 12


@pytest.mark.parametrize("ending", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_files_have_the_size_and_pixels_that_a_viewer_shows(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    dataset = open_folder(write_folder(tmp_path, ending, exif=exif))
    _, read = load_source(dataset)
    size = (48, 64) if orientation < 5 else (64, 48)
    assert read.shape[-2:] == size
    expected = whole(dataset, range(6), size)
    assert np.corrcoef(read(range(6)).flatten(), expected.flatten())[0, 1] > 0.999


def test_turned_files_are_decoded_at_reduced_size(tmp_path, decoded):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number in range(2):
        (tmp_path / f"class{number}").mkdir()
        # Three times as high as wide, as a viewer shows it.
        photograph(number, (300, 100)).save(tmp_path / f"class{number}" / "0.jpg", exif=exif)
    _, read = load_source(open_folder(tmp_path), working_size=32)
    assert read.shape[-2:] == (32, 11)
    decoded.clear()
    read([0, 1])
    assert set(decoded) == {(75, 25)}


def test_first_of_several_images_in_a_file_is_decoded_at_reduced_size(tmp_path, decoded):
    for number in range(2):
        (tmp_path / f"class{number}").mkdir()
        more = [photograph(number + 2, (60, 40))]
        path = tmp_path / f"class{number}" / "0.jpg"
        photograph(number, (320, 240)).save(path, format="MPO", save_all=True, append_images=more)
    dataset = open_folder(tmp_path)
    _, read = load_source(dataset, working_size=40)
    decoded.clear()
    images = read([0, 1])
    assert set(decoded) == {(80, 60)}
    assert np.corrcoef(images.flatten(), whole(dataset, [0, 1], (30, 40)).flatten())[0, 1] > 0.999


def test_folder_with_a_size_is_read_at_that_size(tmp_path):
    dataset = open_folder(write_folder(tmp_path, "jpg"), size=(30, 40))
    _, read = load_source(dataset)
    assert torch.equal(read(range(6)), whole(dataset, range(6), (30, 40)))


def test_damaged_files_are_named(tmp_path):
    root = write_folder(tmp_path, "jpg")
    path = root / "class1" / "3.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    for dataset, message in [
        (open_folder(root), r"Item 4 of the dataset cannot be read: .*3\.jpg' cannot be read as an image"),
        (ImageFolder(root), r"Item 4 of the dataset cannot be read: OSError: image file is truncated"),
    ]:
        _, read = load_source(dataset)
        with pytest.raises(ValueError, match=message):
            read(range(6))


def test_datasets_of_unknown_classes_are_read_whole(decoded):
    file = io.BytesIO()
    photograph(0).save(file, "JPEG")

    class Lazy(Items):
        def __getitem__(self, index):
            return Image.open(io.BytesIO(file.getvalue())), index % 2

    _, read = load_source(Lazy(list(itertools.repeat(None, 6))))
    read(range(6))
    assert set(decoded) == {SIZE}
