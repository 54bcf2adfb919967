import io
import os
import signal
import sys
import tarfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import webdataset
from PIL import ExifTags, Image
from sklearn.exceptions import NotFittedError

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data.folders import open_folder
from gae_augment.export import write_shards
from gae_augment.models import ModelDefinition
from gae_augment.models.objectives.reconstruction import Reconstruction

COUNTS = {"apple": 40, "pear": 12, "vest": 9}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    r"""A folder of colour images of three classes; one image of each lies in a nested folder."""
    root = tmp_path_factory.mktemp("real")
    random = np.random.default_rng(0)
    for name, count in COUNTS.items():
        for number in range(count):
            path = root / name / ("more" if number == 0 else ".") / f"photo.{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return open_folder(root)


@pytest.fixture(scope="module")
def augmenter(real):
    return GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False, device="cpu").fit(real)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples_of(paths):
    r"""Returns the samples of tar files: {(shard, key): {suffix: bytes}}."""
    samples = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for entry in tar:
                key, suffix = entry.name.split(".", 1)
                samples.setdefault((path.name, key), {})[suffix] = tar.extractfile(entry).read()
    return samples


def test_torchvision_reads_the_image_folder(real, augmenter, tmp_path):
    assert write_shards(augmenter, tmp_path / "out", real=real, images_per_shard=50) == [tmp_path / "out"]
    balanced = open_folder(tmp_path / "out")
    assert Counter(balanced.targets) == {0: 40, 1: 40, 2: 40}
    written = contents(tmp_path / "out")
    for path, data in contents(Path(real.root)).items():
        assert written.pop(path) == data
    assert Counter(path.split("/")[0] for path in written) == {"pear": 28, "vest": 31}
    assert all("/synthetic_" in path for path in written)


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "parquet"])
def test_bytes_do_not_depend_on_the_number_of_workers(format, real, augmenter, tmp_path):
    for name, n_jobs in (("serial", None), ("parallel", 2)):
        write_shards(augmenter, tmp_path / name, real=real, format=format, images_per_shard=50, n_jobs=n_jobs)
    serial = contents(tmp_path / "serial")
    assert serial == contents(tmp_path / "parallel")
    write_shards(augmenter, tmp_path / "seed 1", real=real, format=format, images_per_shard=50, seed=1)
    assert contents(tmp_path / "seed 1") != serial


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "parquet"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_real_and_synthetic_images_stand_the_same_way_up(format, tmp_path):
    r"""The left half of each stored image is white. Its tag turns it, so that viewers show a white upper half."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.new("L", (8, 8))
    stored.paste(255, (0, 0, 4, 8))
    for name, count in {"a": 8, "b": 4}.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(count):
            stored.save(tmp_path / "in" / name / f"{number}.png", exif=exif)
    photos = open_folder(tmp_path / "in")
    fitted = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False).fit(photos)
    written = write_shards(fitted, tmp_path / "out", real=photos, format=format)
    if format == "imagefolder":
        # As a reader that ignores the tag.
        images = [np.asarray(Image.open(path)) for path in (tmp_path / "out").rglob("*.png")]
    elif format == "webdataset":
        images = [np.asarray(Image.open(io.BytesIO(sample["png"]))) for sample in samples_of(written).values()]
    else:
        rows = datasets.Dataset.from_parquet(list(map(str, written)), cache_dir=str(tmp_path / "cache"))
        images = [np.asarray(image) for image in rows["image"]]
    assert len(images) == 16
    assert all(image[:4].mean() > 250 and image[4:].mean() < 5 for image in images)


# webdataset leaves open files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_the_tar_files(real, augmenter, tmp_path):
    paths = write_shards(augmenter, tmp_path / "out", real=real, format="webdataset", images_per_shard=50)
    assert [path.name for path in paths] == [f"shard-{number:05d}-of-00003.tar" for number in range(3)]
    dataset = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False).decode("pil")
    samples = list(dataset)
    assert Counter(sample["cls"] for sample in samples) == {0: 40, 1: 40, 2: 40}
    assert len({sample["__key__"] for sample in samples}) == 120
    assert Counter(sample["json"]["synthetic"] for sample in samples) == {True: 59, False: 61}
    for sample in samples:
        assert sample["json"]["class"] == real.classes[sample["cls"]]
        if not sample["json"]["synthetic"]:
            with Image.open(os.path.join(real.root, sample["json"]["path"])) as image:
                assert image.tobytes() == sample["png"].tobytes()
    # Each shard holds its share of each class, in random order.
    for number in range(3):
        labels = [sample["cls"] for sample in samples if f"-{number:05d}-of" in sample["__url__"]]
        assert all(12 <= count <= 15 for count in Counter(labels).values())
        assert labels != sorted(labels)


def test_tar_files_hold_no_time_and_no_user(augmenter, tmp_path):
    (path,) = write_shards(augmenter, tmp_path / "out", images_to_add={1: 2}, format="webdataset")
    with tarfile.open(path) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == [
        f"{number:08d}.{suffix}" for number in (0, 1) for suffix in ("cls", "json", "png")
    ]
    assert {(entry.mtime, entry.uid, entry.uname, entry.gname, entry.mode) for entry in entries} == {
        (0, 0, "", "", 0o644)
    }


def test_hugging_face_reads_the_parquet_files(real, augmenter, tmp_path):
    paths = write_shards(augmenter, tmp_path / "out", real=real, format="parquet", images_per_shard=50)
    table = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == real.classes
    assert isinstance(table.features["image"], datasets.Image)
    assert Counter(table["label"]) == {0: 40, 1: 40, 2: 40}
    assert sum(table["is_synthetic"]) == 59
    assert table[0]["image"].size == (8, 8)


def test_parquet_files_hold_images_that_exist_in_the_working_directory(real, augmenter, tmp_path, monkeypatch):
    monkeypatch.chdir(real.root)
    paths = write_shards(augmenter, tmp_path / "out", real=real, format="parquet", images_per_shard=50)
    table = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path / "cache"))
    rows = table.cast_column("image", datasets.Image(decode=False)).filter(
        lambda row: not row["is_synthetic"], keep_in_memory=True
    )
    assert {row["image"]["path"]: row["image"]["bytes"] for row in rows} == contents(Path(real.root))


@pytest.fixture(params=[False, True], ids=["bars enabled", "bars disabled"])
def progress_bars_disabled(request):
    r"""Sets the progress bars of Hugging Face datasets, and restores them."""
    switches = {False: datasets.enable_progress_bars, True: datasets.disable_progress_bars}
    before = datasets.are_progress_bars_disabled()
    switches[request.param]()
    yield request.param
    switches[before]()


@pytest.mark.skipif("HF_DATASETS_DISABLE_PROGRESS_BARS" in os.environ, reason="the environment decides about the bars")
def test_parquet_writing_is_silent_and_leaves_no_setting_or_cache(
    augmenter, tmp_path, capfd, monkeypatch, progress_bars_disabled
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_shards(augmenter, tmp_path / "out", images_to_add={1: 4}, format="parquet", images_per_shard=2)
    assert capfd.readouterr() == ("", "")
    assert datasets.are_progress_bars_disabled() == progress_bars_disabled
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "out",
        "shard-00000-of-00002.parquet",
        "shard-00001-of-00002.parquet",
    ]


@pytest.mark.parametrize(
    ("format", "writer"), [("webdataset", "webdataset.TarWriter.write"), ("parquet", "datasets.Dataset.to_parquet")]
)
def test_failed_shard_leaves_no_file(augmenter, tmp_path, monkeypatch, format, writer):
    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr(writer, fail)
    with pytest.raises(RuntimeError, match="1 of 1 shards could not be written; shard 0 failed with OSError: no room"):
        write_shards(augmenter, tmp_path / "out", images_to_add={1: 2}, format=format)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("format", "library", "extra"), [("webdataset", "webdataset", "webdataset"), ("parquet", "datasets", "huggingface")]
)
def test_missing_library_is_named_before_any_work(augmenter, tmp_path, monkeypatch, format, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(GAEAugmenter, "sample", lambda *_, **__: pytest.fail("images were sampled"))
    with pytest.raises(ModuleNotFoundError, match=rf"{library!r}: pip install 'gae-augment\[{extra}\]'"):
        write_shards(augmenter, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


def test_images_depend_only_on_seed_and_class(augmenter, tmp_path):
    write_shards(augmenter, tmp_path / "a", images_to_add={1: 5}, format="webdataset")
    write_shards(augmenter, tmp_path / "b", images_to_add={1: 5, 2: 5}, format="webdataset")
    first, both = ({s["png"] for s in samples_of((tmp_path / n).glob("*.tar")).values()} for n in "ab")
    assert len(first) == 5
    assert first < both


def test_shard_of_a_killed_worker_is_written_again(real, tmp_path):
    killed = tmp_path / "killed"

    class Fatal(ModelDefinition):
        def __setstate__(self, state):
            self.__dict__.update(state)
            if not killed.exists():
                killed.touch()
                # As of a worker that is lost while it writes.
                (tmp_path / "parallel" / ".shard-00000-of-00003.parquet.lost").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    model = Fatal("fatal", Reconstruction, density="mixture", early_stopping=True)
    augmenter = GAEAugmenter(
        GenerativeModel(model, epochs=2, delta=100.0), random_state=0, progress=False, device="cpu"
    ).fit(real)
    write_shards(augmenter, tmp_path / "serial", format="parquet", images_per_shard=20)
    with pytest.warns(RuntimeWarning, match="A worker was lost"):
        write_shards(augmenter, tmp_path / "parallel", format="parquet", images_per_shard=20, n_jobs=2)
    assert killed.exists()
    assert contents(tmp_path / "serial") == contents(tmp_path / "parallel")


def test_class_name_with_a_slash_gives_one_folder(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    y = np.repeat([0, 1, 2], [12, 9, 9])
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False).fit(X, y)
    augmenter.class_names_ = {0: "bag", 1: "..", 2: "T-shirt/top"}
    write_shards(augmenter, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["--", "T-shirt-top"]
    # Two names may give the same folder.
    augmenter.class_names_ = {0: "bag", 1: "T-shirt-top", 2: "T-shirt/top"}
    write_shards(augmenter, tmp_path / "alike")
    numbers = {path.name: len(list(path.iterdir())) for path in (tmp_path / "alike").iterdir()}
    assert numbers == {"T-shirt-top": 3, "T-shirt-top-2": 3}


def test_name_that_is_not_utf_8_is_written_with_escapes(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (21, 1, 8, 8), dtype=np.uint8)
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False)
    augmenter.fit(X, np.repeat([0, 1], [12, 9]))
    augmenter.class_names_ = {0: "tea", 1: os.fsdecode(b"caf\xe9")}
    (path,) = write_shards(augmenter, tmp_path / "out", format="parquet")
    table = pyarrow.parquet.read_table(path)
    assert b"caf\\\\udce9" in table.schema.metadata[b"huggingface"]


def test_invalid_arguments_are_rejected_before_any_work(real, augmenter, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(NotFittedError):
        write_shards(GAEAugmenter(), folder)
    cases = [
        ({"format": "zip"}, "'format' is 'zip', but must be one of 'imagefolder', 'webdataset', 'parquet'"),
        ({"images_per_shard": 0}, "'images_per_shard' is 0, but must be at least 1"),
        ({"images_to_add": {0: 3}}, "Class 0 has 40 images and needs no more"),
        ({"images_to_add": {1: -1}}, "'images_to_add' is -1 for class 1, but must be 0 or more"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            write_shards(augmenter, folder, **options)
    floats = np.random.default_rng(0).random((30, 1, 8, 8))
    float_augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), progress=False).fit(
        floats, np.repeat([0, 1], [20, 10])
    )
    with pytest.raises(ValueError, match="PNG files hold"):
        write_shards(float_augmenter, folder)
    with pytest.raises(
        ValueError, match=r"classes \['apple', 'pear', 'vest'\], but the augmenter was fitted to \['0', '1'\]"
    ):
        write_shards(float_augmenter, folder, real=real)
    assert not folder.exists()


def test_existing_shards_are_not_mixed_with_new_ones(augmenter, tmp_path):
    write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset")
    with pytest.raises(ValueError, match="--force"):
        write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset")
    with pytest.raises(ValueError, match=r"already holds the shard 'shard-00000-of-00001\.tar'"):
        write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset", force=True)


def test_failed_shard_is_named_and_the_others_stay(augmenter, tmp_path, monkeypatch):
    sample = GAEAugmenter.sample

    def fail_once(self, label, n, *, seed=None, out=None):
        if n == 4 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OSError("no room")
        return sample(self, label, n, seed=seed, out=out)

    monkeypatch.setattr(GAEAugmenter, "sample", fail_once)
    with pytest.raises(RuntimeError, match="1 of 3 shards could not be written; shard 0 failed with OSError"):
        write_shards(augmenter, tmp_path / "out", images_to_add={1: 12}, format="webdataset", images_per_shard=4)
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_classes_with_the_same_name_stay_separate(format, augmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenter, "class_names_", {0: "apple", 1: "fruit", 2: "fruit"})
    paths = write_shards(augmenter, tmp_path / "out", format=format)
    if format == "imagefolder":
        counts = Counter(path.parent.name for path in (tmp_path / "out").rglob("*.png"))
    else:
        rows = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path / "cache"))
        counts = Counter(rows.features["label"].int2str(label) for label in rows["label"])
    assert counts == {"fruit": 28, "fruit-2": 31}


def test_workers_may_have_another_working_directory(real, augmenter, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(real.root).parent)
    relative = open_folder(Path(real.root).name)
    start = os.getcwd()

    def run_elsewhere(function, jobs, n_jobs):
        os.chdir(tmp_path)
        try:
            yield from ((key, function(*arguments)) for key, arguments in list(jobs.items()))
        finally:
            os.chdir(start)

    monkeypatch.setattr("gae_augment.export.shards.run_jobs", run_elsewhere)
    write_shards(augmenter, "out", real=relative, n_jobs=2)
    assert len(contents(Path(start) / "out")) == 120
