import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from errno import ENOSPC
from pathlib import Path

import pytest
import torch
from processes import interruptible

import gae_augment.fitting.cache
from gae_augment import GAEAugmenter
from gae_augment._utils.files import read_file
from gae_augment._utils.seeding import make_generator

# Some classes that get a generator, and one that does not.
FIT = """
import sys
import torch
from gae_augment import GAEAugmenter
from gae_augment._utils.seeding import make_generator

if __name__ == "__main__":
    folder, n_jobs, file, classes = sys.argv[1], eval(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    sizes = {0: 60} | {label: 16 + 4 * label for label in range(1, classes + 1)}
    y = torch.repeat_interleave(torch.tensor(list(sizes)), torch.tensor(list(sizes.values())))
    X = torch.rand(len(y), 12, 12, generator=make_generator(0))
    augmenter = GAEAugmenter(epochs=40, delta=1e-9, random_state=0, progress=False, n_jobs=n_jobs)
    print("begins", flush=True)
    augmenter.fit(X, y, checkpoint_dir=None if folder == "-" else folder)
    augmenter.save(file)
"""


def digest(augmenter):
    made = [augmenter.sample(label, 5, seed=1).numpy().tobytes() for label in augmenter.models_]
    return hashlib.sha256(b"".join(made)).hexdigest()


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(FIT)

    def start(folder, file, n_jobs=None, classes=4):
        command = [sys.executable, "-W", "ignore", script, folder, repr(n_jobs), file, str(classes)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(interruptible(command), **pipes, start_new_session=True)

    return start


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def kept(folder):
    r"""The finished classes' files, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


@pytest.fixture(scope="module")
def data():
    y = torch.tensor([0] * 40 + [1] * 20 + [2] * 24)
    return torch.rand(len(y), 12, 12, generator=make_generator(0)), y


def augmenter(**options):
    return GAEAugmenter(**{"epochs": 3, "delta": 1.0, "random_state": 0, "progress": False, **options})


@pytest.mark.parametrize("options", [{}, {"anchored": False}, {"model": "vade"}, {"model": "vae", "n_jobs": 2}])
def test_a_second_fit_finds_what_the_first_has_done(data, tmp_path, class_fits, options):
    if options.get("model"):
        options = {**options, "delta": "auto"}
    plain = augmenter(**options).fit(*data)
    first = augmenter(**options).fit(*data, checkpoint_dir=tmp_path)
    class_fits.clear()
    second = augmenter(**options).fit(*data, checkpoint_dir=tmp_path)
    assert class_fits == []
    assert list(second.models_) == [1, 2]
    assert digest(plain) == digest(first) == digest(second)
    assert second.report_ == first.report_


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"epochs": 4}, [20, 24]),
        ({"random_state": 1}, [20, 24]),
        ({"model": "rae_l2", "delta": "auto"}, [20, 24]),
        ({"sampling_strategy": {1: 30}}, []),
        ({"n_jobs": 1, "progress": True}, []),
    ],
)
def test_what_a_generator_depends_on_is_fitted_again_when_it_changes(data, tmp_path, class_fits, changed, again):
    augmenter().fit(*data, checkpoint_dir=tmp_path)
    class_fits.clear()
    augmenter(**changed).fit(*data, checkpoint_dir=tmp_path)
    assert sorted(class_fits) == again


def test_a_class_whose_images_change_is_fitted_again_and_no_other(data, tmp_path, class_fits):
    augmenter().fit(*data, checkpoint_dir=tmp_path)
    class_fits.clear()
    X = data[0].clone()
    X[-1, 0, 0] = 1 - X[-1, 0, 0]
    changed = augmenter().fit(X, data[1], checkpoint_dir=tmp_path)
    assert class_fits == [24]
    assert digest(changed) == digest(augmenter().fit(X, data[1]))


def test_a_folder_has_one_seed_where_none_is_given(data, tmp_path, class_fits):
    first = augmenter(random_state=None).fit(*data, checkpoint_dir=tmp_path / "one")
    again = augmenter(random_state=None).fit(*data, checkpoint_dir=tmp_path / "one")
    other = augmenter(random_state=None).fit(*data, checkpoint_dir=tmp_path / "other")
    assert first.seed_ == again.seed_ != other.seed_
    assert len(class_fits) == 4


def test_a_damaged_file_is_fitted_again(data, tmp_path, class_fits):
    first = augmenter().fit(*data, checkpoint_dir=tmp_path)
    class_fits.clear()
    damaged = min(tmp_path.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="A checkpoint is damaged, and its class is fitted again"):
        second = augmenter().fit(*data, checkpoint_dir=tmp_path)
    assert len(class_fits) == 1
    assert digest(first) == digest(second)


def test_no_training_images_are_kept(data, tmp_path):
    fitted = augmenter().fit(*data, checkpoint_dir=tmp_path)
    assert fitted.models_[1].anchors is not None
    images = [bytes(image) for image in data[0].numpy().view("u1").reshape(len(data[0]), -1)]
    for path in tmp_path.glob("*.safetensors"):
        assert not any(name.startswith("anchors") for name in read_file(path)[1])
        content = path.read_bytes()
        assert not any(image in content for image in images)


def test_a_folder_that_cannot_be_used_is_refused_before_the_data_are_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match=r"this one cannot; pass another 'checkpoint_dir'"):
        augmenter().fit("no data", checkpoint_dir=tmp_path / "file")


def test_a_full_disk_does_not_end_the_fit(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device", "kept")

    monkeypatch.setattr(gae_augment.fitting.cache, "write_file", full)
    with pytest.warns(RuntimeWarning, match=r"could not be kept: .*No space left.* The fit goes on"):
        fitted = augmenter().fit(*data, checkpoint_dir=tmp_path)
    assert digest(fitted) == digest(augmenter().fit(*data))


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fit_that_is_killed_goes_on(start, tmp_path, n_jobs):
    finish(start("-", tmp_path / "whole", n_jobs))
    folder = tmp_path / "kept"
    folder.mkdir()
    done = {}
    for number in (1, 2):
        process = start(folder, tmp_path / "out", n_jobs)
        while len(kept(folder)) < number:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        now = kept(folder)
        # What was finished has not been written again.
        assert done.items() <= now.items()
        done = now
    finish(start(folder, tmp_path / "out", n_jobs))
    assert done.items() <= kept(folder).items()
    assert len(kept(folder)) == 4
    assert not list(folder.glob(".*.safetensors.*"))
    assert digest(GAEAugmenter.load(tmp_path / "out")) == digest(GAEAugmenter.load(tmp_path / "whole"))


@pytest.mark.slow
def test_thirty_kills_at_random_moments(start, tmp_path):
    classes, moments, kills, fits = 10, random.Random(0), 0, 0
    finish(start("-", tmp_path / "whole", classes=classes))
    whole = digest(GAEAugmenter.load(tmp_path / "whole"))
    while kills < 30:
        fits += 1
        folder, done = tmp_path / f"kept{fits}", {}
        folder.mkdir()
        while len(done) < classes and kills < 30:
            process = start(folder, tmp_path / "out", classes=classes)
            assert process.stdout.readline() == "begins\n"
            time.sleep(moments.uniform(0, 1))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert done.items() <= kept(folder).items()
            done = kept(folder)
        finish(start(folder, tmp_path / "out", classes=classes))
        assert done.items() <= kept(folder).items()
        assert len(kept(folder)) == classes
        assert digest(GAEAugmenter.load(tmp_path / "out")) == whole
    print(f"{kills} kills of {fits} fits")


def test_two_processes_with_one_folder_do_the_work_once(start, tmp_path):
    folder = tmp_path / "kept"
    both = [start(folder, tmp_path / name) for name in ("a", "b")]
    while len(kept(folder)) < 4:
        assert all(process.poll() is None for process in both), [process.communicate() for process in both]
        time.sleep(0.01)
    done = kept(folder)
    for process in both:
        finish(process)
    assert kept(folder) == done
    assert digest(GAEAugmenter.load(tmp_path / "a")) == digest(GAEAugmenter.load(tmp_path / "b"))


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_fit_ends_soon_and_leaves_what_it_has_done(start, tmp_path, n_jobs):
    folder = tmp_path / "kept"
    process = start(folder, tmp_path / "out", n_jobs)
    while not kept(folder):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    done = kept(folder)
    # As a terminal does, to all processes of the group.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
    deadline = time.monotonic() + 20
    while orphans(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert orphans(process.pid) == []
    finish(start(folder, tmp_path / "out", n_jobs))
    assert done.items() <= kept(folder).items()


def orphans(session):
    r"""The processes of a session that are left."""
    left = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            left.append(path.parent.name)
    return left
