import os
import signal
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data.folders import open_folder
from gae_augment.export import write_shards
from gae_augment.models.objectives import ModelDefinition
from gae_augment.models.objectives.reconstruction import Reconstruction

COUNTS = {"apple": 40, "pear": 12, "vest": 9}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    r"""A folder of colour images of three classes, one of them with a folder of its own inside."""
    root = tmp_path_factory.mktemp("real")
    random = np.random.default_rng(0)
    for name, number in COUNTS.items():
        for place in range(number):
            path = root / name / ("more" if place == 0 else ".") / f"photo.{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return open_folder(root)


@pytest.fixture(scope="module")
def augmenter(real):
    return GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False, device="cpu").fit(real)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples_of(paths):
    r"""Returns the samples of tar files: their names, and what belongs to each by its ending."""
    samples = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for entry in tar:
                name, ending = entry.name.split(".", 1)
                samples.setdefault((path.name, name), {})[ending] = tar.extractfile(entry).read()
    return samples


def test_a_folder_of_files_is_read_by_torchvision(real, augmenter, tmp_path):
    assert write_shards(augmenter, tmp_path / "out", real=real, images_per_shard=50) == [tmp_path / "out"]
    balanced = open_folder(tmp_path / "out")
    assert Counter(balanced.targets) == {0: 40, 1: 40, 2: 40}
    written = contents(tmp_path / "out")
    for path, own in contents(Path(real.root)).items():
        assert written.pop(path) == own
    assert Counter(path.split("/")[0] for path in written) == {"pear": 28, "vest": 31}
    assert all("/synthetic_" in path for path in written)


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "parquet"])
def test_workers_do_not_change_a_byte(format, real, augmenter, tmp_path):
    for name, n_jobs in (("alone", None), ("together", 2)):
        write_shards(augmenter, tmp_path / name, real=real, format=format, images_per_shard=50, n_jobs=n_jobs)
    alone, together = contents(tmp_path / "alone"), contents(tmp_path / "together")
    assert alone == together
    write_shards(augmenter, tmp_path / "other", real=real, format=format, images_per_shard=50, seed=1)
    assert contents(tmp_path / "other") != alone


# The library leaves files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_the_tar_files(real, augmenter, tmp_path):
    webdataset = pytest.importorskip("webdataset")
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
            with Image.open(os.path.join(real.root, sample["json"]["path"])) as own:
                assert own.tobytes() == sample["png"].tobytes()
    # Each shard has its part of each class, in an order of chance.
    for number in range(3):
        labels = [sample["cls"] for sample in samples if f"-{number:05d}-of" in sample["__url__"]]
        assert all(12 <= count <= 15 for count in Counter(labels).values())
        assert labels != sorted(labels)


def test_hugging_face_reads_the_parquet_files(real, augmenter, tmp_path):
    datasets = pytest.importorskip("datasets")
    paths = write_shards(augmenter, tmp_path / "out", real=real, format="parquet", images_per_shard=50)
    table = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == real.classes
    assert isinstance(table.features["image"], datasets.Image)
    assert Counter(table["label"]) == {0: 40, 1: 40, 2: 40}
    assert sum(table["is_synthetic"]) == 59
    assert table[0]["image"].size == (8, 8)


def test_images_depend_on_seed_and_class_alone(augmenter, tmp_path):
    write_shards(augmenter, tmp_path / "a", images_to_add={1: 5}, format="webdataset")
    write_shards(augmenter, tmp_path / "b", images_to_add={1: 5, 2: 5}, format="webdataset")
    one, both = ({s["png"] for s in samples_of((tmp_path / n).glob("*.tar")).values()} for n in "ab")
    assert len(one) == 5
    assert one < both


def test_a_shard_whose_worker_is_killed_is_written_again(real, tmp_path):
    killed = tmp_path / "killed"

    class Fatal(ModelDefinition):
        def __setstate__(self, state):
            self.__dict__.update(state)
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    model = Fatal("fatal", Reconstruction, density="mixture", early_stopping=True)
    augmenter = GAEAugmenter(
        GenerativeModel(model, epochs=2, delta=100.0), random_state=0, progress=False, device="cpu"
    ).fit(real)
    write_shards(augmenter, tmp_path / "alone", format="parquet", images_per_shard=20)
    with pytest.warns(RuntimeWarning, match="A worker was lost"):
        write_shards(augmenter, tmp_path / "together", format="parquet", images_per_shard=20, n_jobs=2)
    assert killed.exists()
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")


def test_a_name_with_a_slash_is_one_folder(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    y = np.repeat([0, 1, 2], [12, 9, 9])
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), random_state=0, progress=False).fit(X, y)
    augmenter.class_names_ = {0: "bag", 1: "..", 2: "T-shirt/top"}
    write_shards(augmenter, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["--", "T-shirt-top"]


def test_what_cannot_be_written_is_refused_before_any_work(real, augmenter, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(NotFittedError):
        write_shards(GAEAugmenter(), folder)
    cases = [
        ({"format": "zip"}, "'format' is one of 'imagefolder', 'webdataset', 'parquet', and it is 'zip'"),
        ({"images_per_shard": 0}, "at least 1, and it is 0"),
        ({"images_to_add": {0: 3}}, "class 0 has 40 images and was to get none"),
        ({"images_to_add": {1: -1}}, "0 or more, and for class 1 they are -1"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            write_shards(augmenter, folder, **options)
    floats = np.random.default_rng(0).random((30, 1, 8, 8))
    other = GAEAugmenter(GenerativeModel(epochs=2, delta=100.0), progress=False).fit(
        floats, np.repeat([0, 1], [20, 10])
    )
    with pytest.raises(ValueError, match="PNG files hold"):
        write_shards(other, folder)
    with pytest.raises(ValueError, match="fitted to, \\['0', '1'\\], and they are of"):
        write_shards(other, folder, real=real)
    assert not folder.exists()


def test_shards_are_not_mixed_with_others(augmenter, tmp_path):
    write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset")
    with pytest.raises(ValueError, match="--force"):
        write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset")
    with pytest.raises(ValueError, match=r"holds 'shard-00000-of-00001\.tar'"):
        write_shards(augmenter, tmp_path, images_to_add={1: 2}, format="webdataset", force=True)


def test_a_shard_that_fails_is_named_and_the_others_are_kept(augmenter, tmp_path, monkeypatch):
    sample = GAEAugmenter.sample

    def fail_once(self, label, n, *, seed=None, out=None):
        if n == 4 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OSError("no room")
        return sample(self, label, n, seed=seed, out=out)

    monkeypatch.setattr(GAEAugmenter, "sample", fail_once)
    with pytest.raises(RuntimeError, match="1 of 3 shards could not be written, the first of them number 0: OSError"):
        write_shards(augmenter, tmp_path / "out", images_to_add={1: 12}, format="webdataset", images_per_shard=4)
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_classes_of_one_name_are_kept_apart(format, augmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenter, "class_names_", {0: "apple", 1: "fruit", 2: "fruit"})
    paths = write_shards(augmenter, tmp_path / "out", format=format)
    if format == "imagefolder":
        found = Counter(path.parent.name for path in (tmp_path / "out").rglob("*.png"))
    else:
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path / "cache"))
        found = Counter(rows.features["label"].int2str(label) for label in rows["label"])
    assert found == {"fruit": 28, "fruit-2": 31}


def test_workers_that_are_at_home_elsewhere_find_everything(real, augmenter, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(real.root).parent)
    relative = open_folder(Path(real.root).name)
    home = os.getcwd()

    def elsewhere(function, jobs, n_jobs):
        os.chdir(tmp_path)
        try:
            yield from ((key, function(*arguments)) for key, arguments in list(jobs.items()))
        finally:
            os.chdir(home)

    monkeypatch.setattr("gae_augment.export.run_jobs", elsewhere)
    write_shards(augmenter, "out", real=relative, n_jobs=2)
    assert len(contents(Path(home) / "out")) == 120
