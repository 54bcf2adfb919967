import io
import pickle

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data.folders import as_pictures, check_output, open_folder, upright_bytes


def image_folder(tmp_path, modes, size=(6, 5)):
    r"""Writes one random image per mode, alternately to two class folders; returns the folder."""
    random = np.random.default_rng(0)
    for index, mode in enumerate(modes):
        path = tmp_path / "images" / f"class{index % 2}"
        path.mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            image = Image.frombytes("I;16", size, random.integers(0, 60000, size[::-1], dtype=np.uint16).tobytes())
        else:
            image = Image.fromarray(random.integers(0, 255, (*size[::-1], 4), dtype=np.uint8), "RGBA").convert(mode)
        image.save(path / f"{index}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_images_of_one_mode_are_read_without_conversion(tmp_path, mode):
    dataset = open_folder(image_folder(tmp_path, [mode] * 4))
    for path, label in dataset.samples:
        image, item_label = dataset[dataset.samples.index((path, label))]
        assert image.mode == mode
        assert item_label == label
        with Image.open(path) as original:
            assert image.tobytes() == original.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_resized_images_keep_their_mode(tmp_path, mode):
    folder = image_folder(tmp_path, [mode] * 4)
    originals = open_folder(folder)
    # Twice as high, three times as wide.
    for (image, _), (original, _) in zip(open_folder(folder, size=(10, 18)), originals, strict=True):
        assert (image.mode, image.size) == (mode, (18, 10))
        if mode in ("1", "I;16"):
            assert np.array_equal(np.asarray(image)[::2, ::3], np.asarray(original))
    for (image, _), (original, _) in zip(open_folder(folder, size=(5, 6)), originals, strict=True):
        assert image.tobytes() == original.tobytes()


def test_images_of_several_sizes_keep_theirs(tmp_path):
    folder = image_folder(tmp_path, ["L"] * 4)
    Image.new("L", (9, 7)).save(folder / "class1" / "large.png")
    assert [image.size for image, _ in open_folder(folder)] == [(6, 5)] * 4 + [(9, 7)]
    assert {image.size for image, _ in open_folder(folder, size=(7, 8))} == {(8, 7)}


@pytest.mark.parametrize(("ending", "options"), [("tif", {}), ("png", {}), ("webp", {"lossless": True})])
def test_first_frame_of_animations_and_pages_is_read(tmp_path, ending, options):
    first, *others = (Image.new("RGB", (6, 5), colour) for colour in ("red", "green", "blue"))
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"0.{ending}"
    first.save(path, save_all=True, append_images=others, **options)
    with Image.open(path) as stored:
        assert stored.n_frames == 3
    image, _ = open_folder(tmp_path)[0]
    assert image.tobytes() == first.tobytes()


@pytest.mark.parametrize("modes", [["L", "RGB"], ["P", "P"], ["RGB", "RGBA", "L"]])
def test_images_of_several_modes_or_with_palettes_become_rgb(tmp_path, modes):
    dataset = open_folder(image_folder(tmp_path, modes))
    assert {image.mode for image, _ in dataset} == {"RGB"}


@pytest.mark.parametrize("modes", [["F", "F"], ["I", "I"], ["I;16", "L"]])
def test_modes_without_a_faithful_conversion_are_refused(tmp_path, modes):
    for index, mode in enumerate(modes):
        (tmp_path / f"class{index}").mkdir()
        image = Image.new(mode, (4, 4), 7)
        image.save(tmp_path / f"class{index}" / "image.tiff")
    with pytest.raises(ValueError, match="to 8 bits, or all of them to 16"):
        open_folder(tmp_path)


def test_folder_without_classes_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="one sub-folder per class"):
            open_folder(path)


def test_file_other_than_an_image_is_named(tmp_path):
    folder = image_folder(tmp_path, ["L"] * 4)
    (folder / "class0" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"broken\.png"):
        open_folder(folder)


def add_unreadable_files(folder):
    r"""Adds three unreadable files, one of them with a valid header; returns their names."""
    (folder / "class0" / "empty.png").write_bytes(b"")
    (folder / "class1" / "text.png").write_text("no image")
    intact = folder / "class1" / "1.png"
    (folder / "class1" / "truncated.png").write_bytes(intact.read_bytes()[:-60])
    return {"empty.png", "text.png", "truncated.png"}


def test_unreadable_files_are_skipped_on_request(tmp_path):
    folder = image_folder(tmp_path, ["RGB"] * 6)
    intact = open_folder(folder)
    names = add_unreadable_files(folder)
    with pytest.raises(ValueError, match=r"(empty|text)\.png' cannot be read as an image .* --skip-unreadable"):
        open_folder(folder)
    with pytest.warns(UserWarning, match="3 of 9 files cannot be read as images and are skipped: ") as caught:
        dataset = open_folder(folder, skip_unreadable=True)
    assert all(name in str(caught[0].message) for name in names)
    assert dataset.samples == intact.samples
    assert dataset.targets == intact.targets
    assert len(dataset) == 6


def test_file_with_damaged_pixels_is_named_when_it_is_used(tmp_path):
    folder = image_folder(tmp_path, ["RGB"] * 6)
    add_unreadable_files(folder)
    for name in ("empty", "text"):
        next(folder.rglob(f"{name}.png")).unlink()
    dataset = open_folder(folder)
    with pytest.raises(
        ValueError, match=r"Item 6 of the dataset cannot be read: .*truncated\.png' cannot be read as an image"
    ):
        GAEAugmenter(GenerativeModel(epochs=1), progress=False).fit(dataset)


def test_class_without_a_readable_file_is_refused(tmp_path):
    folder = image_folder(tmp_path, ["RGB"] * 2)
    (folder / "class1" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"contains no readable image of class1\."):
        open_folder(folder, skip_unreadable=True)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 1, 5, 6), torch.uint8),
        ((3, 2, 5, 6), torch.uint8),
        ((3, 3, 5, 6), torch.uint8),
        ((3, 4, 5, 6), torch.uint8),
        ((3, 1, 5, 6), torch.bool),
        ((3, 1, 5, 6), torch.uint16),
    ],
)
def test_images_are_unchanged_after_writing_and_reading(tmp_path, shape, dtype):
    random = np.random.default_rng(0)
    high = {torch.uint8: 256, torch.bool: 2, torch.uint16: 65536}[dtype]
    images = torch.from_numpy(random.integers(0, high, shape).astype(str(dtype).removeprefix("torch.")))
    for index, (picture, image) in enumerate(zip(as_pictures(images), images, strict=True)):
        path = tmp_path / f"{index}.png"
        picture.save(path)
        with Image.open(path) as file:
            array = np.asarray(file)
        expected = image[0].numpy() if shape[1] == 1 else image.permute(1, 2, 0).numpy()
        assert (array == expected).all()


@pytest.mark.parametrize(
    "images", [torch.rand(2, 1, 4, 4), torch.zeros(2, 5, dtype=torch.uint8), torch.zeros(1, 5, 4, 4)]
)
def test_images_unsupported_by_png_are_refused(images):
    with pytest.raises(ValueError, match="PNG files hold"):
        as_pictures(images)


def test_output_folder_is_created_and_never_overwritten_silently(tmp_path):
    assert check_output(tmp_path / "a" / "b").is_dir()
    (tmp_path / "a" / "file").touch()
    with pytest.raises(ValueError, match="--force"):
        check_output(tmp_path / "a")
    assert check_output(tmp_path / "a", force=True) == tmp_path / "a"
    with pytest.raises(ValueError, match="cannot be written to: "):
        check_output(tmp_path / "a" / "file" / "below")


def test_output_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    # The superuser may write everywhere, so the system's answer is patched.
    monkeypatch.setattr("gae_augment.data.folders.os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="cannot be written to: "):
        check_output(tmp_path)


def write_class(folder, n, ending="png", size=(4, 4)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.{ending}", "PNG" if ending == "" else None)


def test_hidden_folders_and_files_are_left_out(tmp_path):
    for name in ("a", "b", ".ipynb_checkpoints", "__MACOSX", "b/.thumbnails"):
        write_class(tmp_path / name, 2)
    (tmp_path / "a" / "._0.png").write_bytes(b"a resource fork")
    dataset = open_folder(tmp_path)
    assert (dataset.classes, dataset.targets) == (["a", "b"], [0, 0, 1, 1])


def test_images_with_other_endings_are_named(tmp_path):
    write_class(tmp_path / "a", 3)
    write_class(tmp_path / "b", 2)
    write_class(tmp_path / "b", 12, "gif")
    (tmp_path / "b" / "scan.HEIC").write_bytes(b"")
    (tmp_path / "b" / "photo").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "README").write_text("no image")
    with pytest.warns(
        UserWarning, match=r"^14 images are left out, .*\(\.gif: 12, \.heic: 1, no ending: 1\): .* and 4 more"
    ):
        dataset = open_folder(tmp_path)
    assert dataset.targets == [0, 0, 0, 1, 1]


@pytest.mark.filterwarnings("error")
def test_opened_folder_can_be_pickled(tmp_path):
    write_class(tmp_path / "a", 2)
    dataset = pickle.loads(pickle.dumps(open_folder(tmp_path)))
    assert dataset[1][0].getpixel((0, 0)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("name", "options", "compression"),
    [
        ("0.tif", {"compression": "tiff_lzw"}, "tiff_lzw"),
        ("0.tif", {"compression": "jpeg"}, "jpeg"),
        ("0.tif", {}, "raw"),
        ("0.webp", {"lossless": True}, None),
        ("0.jpg", {"quality": 80}, None),
    ],
)
def test_turned_files_keep_their_format_and_what_they_show(tmp_path, name, options, compression):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(np.kron(values, np.ones((16, 16, 1), dtype=np.uint8))).save(tmp_path / name, exif=exif, **options)
    with Image.open(tmp_path / name) as file:
        expected = np.asarray(ImageOps.exif_transpose(file)).astype(int)
    with Image.open(io.BytesIO(upright_bytes(tmp_path / name))) as file:
        assert file.info.get("compression") == compression
        is_lossless = "jpeg" not in (file.format.lower(), compression)
        assert np.abs(np.asarray(file) - expected).mean() <= (0 if is_lossless else 3)


def test_turned_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("L", (4, 3)).save(tmp_path / "0.tif", exif=exif)

    def full(*arguments, **options):
        raise RuntimeError("the encoder failed")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ValueError, match=r"0\.tif' stands on its side .* RuntimeError: the encoder failed"):
        upright_bytes(tmp_path / "0.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_as_their_exif_tag_says(tmp_path, orientation):
    r"""The truth is Pillow's own, of an image whose eight pixels differ."""
    stored = Image.fromarray(np.arange(0, 240, 30, dtype=np.uint8).reshape(2, 4))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "a").mkdir()
    stored.save(tmp_path / "a" / "0.png", exif=exif)
    image, _ = open_folder(tmp_path)[0]
    with Image.open(tmp_path / "a" / "0.png") as file:
        expected = ImageOps.exif_transpose(file)
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    upright = upright_bytes(tmp_path / "a" / "0.png")
    assert (upright is None) == (orientation == 1)
    if upright:
        with Image.open(io.BytesIO(upright)) as file:
            assert np.array_equal(np.asarray(file), np.asarray(expected))
            assert file.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_sizes_are_those_of_upright_images(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "a").mkdir()
    Image.new("L", (6, 4)).save(tmp_path / "a" / "turned.jpg", exif=exif)
    Image.new("L", (4, 6)).save(tmp_path / "a" / "upright.jpg")
    assert {image.size for image, _ in open_folder(tmp_path)} == {(4, 6)}


def test_sixteen_bits_in_the_other_byte_order(tmp_path):
    values = np.arange(0, 60000, 5000, dtype=np.uint16).reshape(3, 4)
    (tmp_path / "a").mkdir()
    Image.frombytes("I;16B", (4, 3), values.astype(">u2").tobytes()).save(tmp_path / "a" / "0.tiff")
    Image.fromarray(values).save(tmp_path / "a" / "1.png")
    with Image.open(tmp_path / "a" / "0.tiff") as file:
        assert file.mode == "I;16B"
    for image, _ in open_folder(tmp_path):
        assert image.mode == "I;16"
        assert np.array_equal(np.asarray(image), values)


def test_headers_of_some_files_are_read_if_asked(tmp_path, monkeypatch):
    folder = image_folder(tmp_path, ["L"] * 90)
    every = open_folder(folder)
    paths = []
    real_open = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: (paths.append(path), real_open(path, *rest))[1])
    some = open_folder(folder, headers=20)
    assert len(paths) == 18
    # Of both classes.
    assert {path.split("/")[-2] for path in paths} == {"class0", "class1"}
    assert some.samples == every.samples
    assert some.loader == every.loader
    paths.clear()
    open_folder(folder, headers=100)
    assert len(paths) == 90
    paths.clear()
    open_folder(folder, headers=1, skip_unreadable=True)
    assert len(paths) == 90
