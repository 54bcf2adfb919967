r"""Files of deformed images: each has the format, size and quality of the real file that it was made from."""

import io
import json
import struct
import tarfile
from collections import Counter
from pathlib import Path

import datasets
import joblib
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data import open_folder
from gae_augment.export import write_shards
from gae_augment.motion import MotionBank, learning, move, registration
from gae_augment.motion.fields import invertible

SECRET = "the house of somebody"
"""Stands in the metadata of all files that can hold text."""

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth(mode, size):
    r"""Returns an image without fine detail, which JPEG changes little, but without symmetry."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.5 * np.sin(7 * x + 2 * y)
    channels = np.stack([wave, 0.9 * wave, 1 - y * wave, 0.3 + 0.7 * y], axis=-1)
    values = (255 * channels).round().astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((65535 * wave).astype(np.uint16))
    if mode == "1":
        return Image.fromarray(x > y**2)
    if mode == "P":
        return Image.fromarray(values[..., :3]).quantize(16)
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.frombytes(mode, size, values[..., :bands].tobytes())


def exif(orientation=1):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.ImageDescription] = SECRET
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSMapDatum] = SECRET
    return tags


def text():
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Author", SECRET)
    return chunks


XMP = f"<x:xmpmeta>{SECRET}</x:xmpmeta>".encode()

JPEG_DATA = {"exif": exif(), "comment": SECRET, "xmp": XMP}

SOURCES = {
    "low.jpg": ("RGB", {"quality": 50, "subsampling": "4:2:0", "icc_profile": PROFILE, **JPEG_DATA}),
    "high.jpeg": ("RGB", {"quality": 98, "subsampling": "4:4:4", **JPEG_DATA}),
    "wide.JPG": ("RGB", {"quality": 80, "subsampling": "4:2:2", "progressive": True}),
    "grey.jpg": ("L", {"quality": 60, "icc_profile": PROFILE}),
    "print.jpg": ("CMYK", {"quality": 90}),
    "turned.jpg": ("RGB", {"quality": 90, "exif": exif(6)}),
    "mirrored.png": ("RGB", {"exif": exif(2)}),
    "turned.tif": ("RGB", {"exif": exif(8)}),
    "grey.png": ("L", {"pnginfo": text(), "icc_profile": PROFILE}),
    "grey and clear.png": ("LA", {}),
    "clear.png": ("RGBA", {"exif": exif()}),
    "palette.png": ("P", {}),
    "palette and clear.png": ("P", {"transparency": 3}),
    "bits.png": ("1", {}),
    "photo.webp": ("RGB", {"quality": 60, "exif": exif(), "icc_profile": PROFILE}),
    "clear.webp": ("RGBA", {"quality": 60}),
    "photo.tif": ("RGB", {"compression": "tiff_lzw", "icc_profile": PROFILE, "description": SECRET}),
    "raw.tiff": ("L", {"artist": SECRET}),
    "packed.tif": ("L", {"compression": "tiff_adobe_deflate"}),
    "fax.tif": ("1", {"compression": "group4"}),
    "print.tif": ("CMYK", {"compression": "packbits"}),
    "photo.bmp": ("RGB", {}),
    "photo.ppm": ("RGB", {}),
    "grey.pgm": ("L", {}),
}
"""The Pillow mode and the saving options of each file."""

DEEP_SOURCES = {
    "deep.png": ("I;16", {"icc_profile": PROFILE, "pnginfo": text()}),
    "deep.tif": ("I;16", {"compression": "tiff_lzw"}),
    "raw.tif": ("I;16", {"description": SECRET}),
}

LOSSLESS = ("PNG", "TIFF", "BMP", "PPM")


def write_folder(root, sources, mode="RGB"):
    r"""Writes the sources, each in a size of its own, into a class, and twice as many files into another class."""
    for name in ("common", "scarce"):
        (root / name).mkdir(parents=True)
    for number, (name, (source_mode, options)) in enumerate(sources.items()):
        smooth(source_mode, (30 + number, 26)).save(root / "scarce" / name, **options)
    for number in range(2 * len(sources)):
        smooth(mode, (16, 10)).save(root / "common" / f"{number}.png")
    return open_folder(root)


FIELD = (0.9 * invertible(0.2 * torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)))).half().float()


def fit(folder):
    r"""Fits an augmenter for a moment, and plants a strong motion, which moves all images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "MOTIONS_PER_CLASS", 2)
        patch.setattr(registration, "STEPS", 1)
        model = GenerativeModel(epochs=2, delta=100.0, architecture=(8,), latent_dim=2)
        augmenter = GAEAugmenter(model, working_size=8, random_state=0, progress=False, device="cpu").fit(folder)
    augmenter.motions_ = MotionBank({0: FIELD.half()})
    return augmenter


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"), SOURCES)


@pytest.fixture(scope="module")
def augmenter(real):
    return fit(real)


@pytest.fixture(scope="module")
def written(real, augmenter, tmp_path_factory):
    output = tmp_path_factory.mktemp("balanced")
    write_shards(augmenter, output, real=real)
    return output


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def as_shown(path):
    r"""Returns the first image of a file, as viewers show it."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def pairs(folder, output, names):
    r"""Returns the synthetic file that was made from each source. The size of an image tells its source."""
    synthetic = sorted((output / "scarce").glob("synthetic_*"))
    by_size = {(as_shown(path).size, path.suffix): path for path in synthetic}
    sources = {name: Path(folder.root) / "scarce" / name for name in names}
    made = {name: by_size.pop((as_shown(path).size, path.suffix)) for name, path in sources.items()}
    assert not by_size
    assert len(synthetic) == len(made) == len(names)
    return {name: (sources[name], made[name]) for name in names}


def difference(first, second):
    r"""Returns the mean absolute difference of two images, as a fraction of the largest value."""
    return np.abs(np.asarray(first).astype(float) - np.asarray(second)).mean() / np.asarray(first).max()


def assert_moved(original, made, tolerance=0.0):
    r"""Checks that a file holds an image moved, up to a mean difference that JPEG and WebP cause."""
    with Image.open(made) as image:
        assert (image.size, image.mode) == (original.size, original.mode)
        assert difference(move(original, FIELD), image) <= tolerance
        # The motion is visible.
        assert difference(original, image) > tolerance + 0.02


@pytest.mark.parametrize("name", SOURCES)
def test_deformed_file_has_the_format_and_quality_of_its_source(name, real, written):
    source, made = pairs(real, written, SOURCES)[name]
    with Image.open(source) as original, Image.open(made) as image:
        assert image.format == original.format
        assert image.mode == original.mode
        assert image.size == as_shown(source).size
        assert image.info.get("icc_profile") == original.info.get("icc_profile")
        assert image.info.get("transparency") == original.info.get("transparency")
        if original.format == "JPEG":
            assert image.quantization == original.quantization
            assert JpegImagePlugin.get_sampling(image) == JpegImagePlugin.get_sampling(original)
        if original.format == "TIFF":
            assert image.info["compression"] == original.info["compression"]
        if original.mode == "P":
            assert image.getpalette()[:48] == original.getpalette()[:48]
        lossless = original.format in LOSSLESS
    assert_moved(as_shown(source), made, 0.0 if lossless else 0.03)


@pytest.mark.parametrize("name", SOURCES)
def test_deformed_file_holds_no_other_metadata(name, real, written):
    source, made = pairs(real, written, SOURCES)[name]
    holds_text = any(key in SOURCES[name][1] for key in ("exif", "pnginfo", "description", "artist", "comment"))
    assert (SECRET.encode() in source.read_bytes()) == holds_text
    assert SECRET.encode() not in made.read_bytes()
    with Image.open(made) as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert "xmp" not in image.info


@pytest.mark.parametrize("name", ["turned.jpg", "mirrored.png", "turned.tif"])
def test_turned_source_gives_an_upright_file(name, real, written):
    source, made = pairs(real, written, SOURCES)[name]
    with Image.open(source) as stored, Image.open(made) as image:
        assert stored.getexif()[ExifTags.Base.Orientation] > 1 or stored.size != as_shown(source).size
        # As a reader that ignores the tag.
        received = np.asarray(image)
        turn = {
            "turned.jpg": Image.Transpose.ROTATE_270,
            "mirrored.png": Image.Transpose.FLIP_LEFT_RIGHT,
            "turned.tif": Image.Transpose.ROTATE_90,
        }[name]
    upright = smooth("RGB", (30 + list(SOURCES).index(name), 26)).transpose(turn)
    assert received.shape == np.asarray(upright).shape
    assert difference(move(upright, FIELD), received) < 0.02


def test_real_files_are_copied_and_each_source_is_used_once(real, written):
    files = contents(written)
    turned = {"turned.jpg", "mirrored.png", "turned.tif"}
    for path, data in contents(real.root).items():
        assert (files.pop(path) == data) == (Path(path).name not in turned)
    assert len(files) == len(SOURCES)
    assert Counter(open_folder(written).targets) == {0: 2 * len(SOURCES), 1: 2 * len(SOURCES)}


def test_files_of_16_bits_keep_them(tmp_path):
    folder = write_folder(tmp_path / "in", DEEP_SOURCES, mode="I;16")
    big_endian = tmp_path / "in" / "scarce" / "swapped.tif"
    write_big_endian_tiff(big_endian, np.asarray(smooth("I;16", (30, 31))))
    smooth("I;16", (16, 10)).save(tmp_path / "in" / "common" / "6.png")
    smooth("I;16", (16, 10)).save(tmp_path / "in" / "common" / "7.png")
    folder = open_folder(tmp_path / "in")
    augmenter = fit(folder)
    write_shards(augmenter, tmp_path / "out", real=folder)
    for source, made in pairs(folder, tmp_path / "out", [*DEEP_SOURCES, "swapped.tif"]).values():
        with Image.open(source) as original, Image.open(made) as image:
            assert (image.format, image.mode) == (original.format, "I;16")
            assert image.info.get("icc_profile") == original.info.get("icc_profile")
            assert image.info.get("compression") == original.info.get("compression")
            original.load()
            assert_moved(Image.fromarray(np.asarray(original).astype(np.uint16)), made)
            # More than 8 bits are in use.
            assert len(np.unique(np.asarray(image))) > 256
        assert SECRET.encode() not in made.read_bytes()


def write_big_endian_tiff(path, values):
    height, width = values.shape
    entries = [(256, 3, width), (257, 3, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8 + 2 + 9 * 12 + 4)]
    entries += [(277, 3, 1), (278, 3, height), (279, 4, values.size * 2)]
    directory = struct.pack(">H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack(">HHI", tag, kind, 1) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8) + directory + bytes(4) + values.astype(">u2").tobytes())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_shards_hold_the_same_bytes_as_the_image_folder(format, real, augmenter, written, tmp_path):
    paths = write_shards(augmenter, tmp_path / "out", real=real, format=format)
    received = {}
    if format == "webdataset":
        for path in paths:
            samples = {}
            with tarfile.open(path) as tar:
                for entry in tar:
                    key, _, suffix = entry.name.partition(".")
                    samples.setdefault(key, {})[suffix] = tar.extractfile(entry).read()
            for sample in samples.values():
                description = json.loads(sample.pop("json"))
                assert sample.pop("cls") == str(real.class_to_idx[description["class"]]).encode()
                ((suffix, data),) = sample.items()
                assert suffix == Path(description["path"]).suffix[1:].lower()
                received[description["path"]] = data
    else:
        table = datasets.Dataset.from_parquet(list(map(str, paths)), cache_dir=str(tmp_path / "cache"))
        for row in table.cast_column("image", datasets.Image(decode=False)):
            received[row["image"]["path"]] = row["image"]["bytes"]
            assert row["is_synthetic"] == ("synthetic_" in row["image"]["path"])
    assert received == contents(written)


def test_bytes_depend_neither_on_workers_nor_on_the_time(real, augmenter, tmp_path):
    write_shards(augmenter, tmp_path / "serial", real=real, images_per_shard=30)
    with joblib.parallel_backend("threading", n_jobs=2):
        write_shards(augmenter, tmp_path / "parallel", real=real, images_per_shard=30)
    serial = contents(tmp_path / "serial")
    assert serial == contents(tmp_path / "parallel")
    write_shards(augmenter, tmp_path / "seed 1", real=real, images_per_shard=30, seed=1)
    assert contents(tmp_path / "seed 1") != serial


@pytest.fixture
def one_source(tmp_path):
    r"""Returns a function that writes a folder whose scarce class has one file, and fits it."""

    def make(save, name):
        for number in range(3):
            path = tmp_path / "in" / "common" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth("RGB", (16 + number, 10)).save(path)
        source = tmp_path / "in" / "scarce" / name
        source.parent.mkdir(parents=True)
        save(source)
        folder = open_folder(tmp_path / "in")
        return folder, fit(folder), source

    return make


def synthetic_of(output):
    return sorted((output / "scarce").glob("synthetic_*"))


def test_class_of_one_file_is_moved(one_source, tmp_path):
    folder, augmenter, source = one_source(smooth("L", (21, 13)).save, "only.png")
    write_shards(augmenter, tmp_path / "out", real=folder)
    made = synthetic_of(tmp_path / "out")
    assert [path.name for path in made] == ["synthetic_00000.png", "synthetic_00001.png"]
    for path in made:
        assert_moved(as_shown(source), path)


@pytest.mark.parametrize(
    ("name", "options"),
    [("pages.tif", {"compression": "tiff_lzw"}), ("animation.webp", {"lossless": True, "duration": 100})],
)
def test_first_image_of_several_in_a_file_is_moved(name, options, one_source, tmp_path):
    first, second = smooth("RGB", (24, 20)), smooth("RGB", (24, 20)).transpose(Image.Transpose.ROTATE_180)
    folder, augmenter, source = one_source(
        lambda path: first.save(path, save_all=True, append_images=[second], **options), name
    )
    write_shards(augmenter, tmp_path / "out", real=folder)
    for path in synthetic_of(tmp_path / "out"):
        assert path.suffix == source.suffix
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == 1
        assert_moved(first, path, 0.02)
    # The real file keeps all its images.
    with Image.open(tmp_path / "out" / "scarce" / name) as image:
        assert image.n_frames == 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"icc_profile": PROFILE}, {"save_all": True, "duration": 100}])
@pytest.mark.parametrize("lossless", [True, False])
def test_lossless_webp_files_stay_lossless(mode, options, lossless, one_source, tmp_path):
    first, second = smooth(mode, (24, 20)), smooth(mode, (24, 20)).transpose(Image.Transpose.ROTATE_180)
    more = {"append_images": [second]} if "save_all" in options else {}
    folder, augmenter, source = one_source(
        lambda path: first.save(path, lossless=lossless, exact=True, quality=60, **options, **more), "image.webp"
    )
    write_shards(augmenter, tmp_path / "out", real=folder)
    with Image.open(source) as image:
        original = image.convert(mode)
    for path in synthetic_of(tmp_path / "out"):
        assert (b"VP8L" in path.read_bytes()) is lossless
        assert_moved(original, path, 0.0 if lossless else 0.02)


def thunderscan(values):
    r"""Returns a TIFF file of 4-bit grey values in the compression ThunderScan, which no library writes any more."""
    height, width = values.shape
    # A byte with two leading ones holds one pixel.
    data = bytes((0xC0 | values).astype(np.uint8).ravel())
    tags = {256: width, 257: height, 258: 4, 259: 32809, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + directory + bytes(4)


def test_compression_that_cannot_be_written_becomes_a_lossless_one(one_source, tmp_path):
    values = np.asarray(smooth("L", (24, 20))) // 16
    folder, augmenter, source = one_source(lambda path: path.write_bytes(thunderscan(values)), "old.tif")
    with Image.open(source) as image:
        assert (image.info["compression"], (np.asarray(image) == 17 * values).all()) == ("tiff_thunderscan", True)
    write_shards(augmenter, tmp_path / "out", real=folder)
    for path in synthetic_of(tmp_path / "out"):
        with Image.open(path) as image:
            assert (image.format, image.info["compression"]) == ("TIFF", "tiff_adobe_deflate")
        assert_moved(as_shown(source), path)


def test_camera_files_of_two_images_become_plain_jpeg_files(one_source, tmp_path):
    first, second = smooth("RGB", (24, 20)), smooth("RGB", (12, 10))
    folder, augmenter, source = one_source(
        lambda path: first.save(path, "MPO", save_all=True, append_images=[second], quality=70), "camera.jpg"
    )
    write_shards(augmenter, tmp_path / "out", real=folder)
    with Image.open(source) as original:
        assert original.format == "MPO"
        for path in synthetic_of(tmp_path / "out"):
            with Image.open(path) as image:
                assert (image.format, image.size) == ("JPEG", (24, 20))
                assert image.quantization == original.quantization


def test_name_of_a_link_gives_the_ending(one_source, tmp_path):
    r"""Stores of large files link names to contents without endings."""
    content = tmp_path / "store" / "0123456789abcdef"
    content.parent.mkdir()
    smooth("RGB", (24, 20)).save(content, "JPEG")
    folder, augmenter, _ = one_source(lambda path: path.symlink_to(content), "linked.jpg")
    write_shards(augmenter, tmp_path / "out", real=folder)
    assert [path.name for path in synthetic_of(tmp_path / "out")] == ["synthetic_00000.jpg", "synthetic_00001.jpg"]
    assert len(open_folder(tmp_path / "out")) == 6


def test_file_with_a_wrong_ending_keeps_its_format(one_source, tmp_path):
    folder, augmenter, _ = one_source(lambda path: smooth("RGB", (24, 20)).save(path, "JPEG"), "really jpeg.png")
    write_shards(augmenter, tmp_path / "out", real=folder)
    for path in synthetic_of(tmp_path / "out"):
        with Image.open(path) as image:
            assert (path.suffix, image.format) == (".png", "JPEG")


def test_noise_in_the_best_quality_can_be_written(one_source, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    folder, augmenter, source = one_source(lambda path: noise.save(path, quality=100, subsampling=0), "noise.jpg")
    write_shards(augmenter, tmp_path / "out", real=folder)
    with Image.open(synthetic_of(tmp_path / "out")[0]) as image, Image.open(source) as original:
        assert image.quantization == original.quantization


DAMAGES = {
    "vanished": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, "cut off") for name in ("photo.tif", "photo.webp")), *(("photo.jpg", damage) for damage in DAMAGES)],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_file_that_was_lost_or_damaged_after_the_fit_is_named(name, damage, one_source, tmp_path):
    folder, augmenter, source = one_source(smooth("RGB", (24, 20)).save, name)
    DAMAGES[damage](source)
    for format in ("imagefolder", "webdataset"):
        output = tmp_path / format
        with pytest.raises(RuntimeError, match="1 of 1 shards could not be written") as error:
            write_shards(augmenter, output, real=folder, format=format)
        assert str(source) in str(error.value)
        # Neither temporary nor half-written files remain.
        for path in output.rglob("*"):
            assert not path.name.startswith(".")
            # Damaged files are copied as they are.
            if path.is_file() and path.name != source.name:
                with Image.open(path) as image:
                    image.load()


def test_unknown_error_of_a_decoder_names_the_file(one_source, tmp_path, monkeypatch):
    folder, augmenter, source = one_source(smooth("RGB", (24, 20)).save, "photo.png")
    load = PngImagePlugin.PngImageFile.load

    def fail(image, *arguments):
        if getattr(image, "filename", "") == str(source):
            raise KeyError("a fault of the decoder")
        return load(image, *arguments)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(RuntimeError, match="could not be written") as error:
        write_shards(augmenter, tmp_path / "out", real=folder)
    assert str(source) in str(error.value)
    assert "a fault of the decoder" in str(error.value)


def test_full_disk_leaves_no_half_written_file(real, augmenter, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def fail(path, data):
        if "synthetic_00003" in path.name:
            write_bytes(path, data[:10])
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(RuntimeError, match="No space left on device"):
        write_shards(augmenter, tmp_path / "out", real=real)
    paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert paths
    assert not any(path.name.startswith(".") or "synthetic_00003" in path.name for path in paths)
    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()


def test_without_the_real_images_samples_have_the_working_size(augmenter, tmp_path):
    write_shards(augmenter, tmp_path / "out", images_to_add={1: 2})
    for path in synthetic_of(tmp_path / "out"):
        with Image.open(path) as image:
            assert (image.format, image.mode, max(image.size)) == ("PNG", "RGB", 8)
