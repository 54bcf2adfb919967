r"""``gae-augment balance`` for photographs of different sizes: previews, interruptions and what is left of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.cli import commands, main
from gae_augment.data import open_folder
from gae_augment.fitting import parallel_fits
from gae_augment.motion import learning, registration

HIDDEN = ".gae-augment"


def quick_augmenter(arguments):
    model = GenerativeModel(epochs=2, delta=100.0, architecture=(8,), latent_dim=2)
    return GAEAugmenter(
        model, working_size=arguments.size or "auto", device="cpu", n_jobs=1, random_state=arguments.seed, progress=True
    )


def fit_quickly(setattr):
    r"""Lets the command line fit quickly, in this process or in a child."""
    setattr(commands, "_augmenter", quick_augmenter)
    setattr(learning, "MOTIONS_PER_CLASS", 4)
    setattr(registration, "STEPS", 2)


@pytest.fixture
def quick(monkeypatch):
    fit_quickly(monkeypatch.setattr)


def write_photos(root, sizes):
    random = np.random.default_rng(0)
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            height, width = random.integers(9, 15, 2)
            pixels = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
            stripe = number % 8
            pixels[(stripe, slice(None)) if name == "across" else (slice(None), stripe)] = 250
            ending = "jpg" if number % 2 else "png"
            Image.fromarray(pixels).save(root / name / f"{number}.{ending}")
    return root


@pytest.fixture
def folder(tmp_path):
    r"""A folder of photographs of different sizes: 9, 4 and 1 of each class."""
    return write_photos(tmp_path / "photos", {"across": 9, "down": 4, "single": 1})


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hidden_paths(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def command_for(folder, output, *options):
    return ["balance", str(folder), "--output", str(output), "--jobs", "1", *options]


@pytest.fixture
def uninterrupted(folder, tmp_path, quick):
    r"""Returns what a run without interruption writes."""

    def run(*options):
        output = tmp_path / "uninterrupted"
        assert main(command_for(folder, output, *options)) == 0
        return contents(output)

    return run


def test_photographs_of_different_sizes_need_no_size(tmp_path, capsys):
    folder = write_photos(tmp_path / "photos", {"across": 8, "down": 4})
    output = tmp_path / "balanced"
    assert main(command_for(folder, output)) == 0
    assert "down: 4 real, 4 synthetic" in capsys.readouterr().out
    written = contents(output)
    for path, data in contents(folder).items():
        assert written.pop(path) == data
    assert len(written) == 4
    assert all(path.startswith("down/synthetic_") for path in written)
    # Each synthetic image has the size and format of a real one, and other pixels.
    real = {}
    for path in (folder / "down").iterdir():
        with Image.open(path) as image:
            real[image.size, image.format] = np.asarray(image)
    for path in written:
        with Image.open(output / path) as image:
            assert (np.asarray(image) != real[image.size, image.format]).mean() > 0.1
    assert not hidden_paths(output)


def test_names_need_not_be_utf_8(folder, tmp_path, quick, capsys):
    r"""Old archives hold names in other encodings. Where such a name cannot be printed, escapes stand for it."""
    name = os.fsdecode(b"K\xe4fer")
    (folder / "down").rename(folder / name)
    (folder / name / "0.png").rename(folder / name / os.fsdecode(b"\xe4.png"))
    assert main(command_for(folder, tmp_path / "balanced")) == 0
    assert "K\\udce4fer: 4 real, 5 synthetic" in capsys.readouterr().out
    assert len(list((tmp_path / "balanced" / name).iterdir())) == 9


def test_preview_that_cannot_be_written_is_refused_before_the_fit(folder, tmp_path, class_fits, capsys):
    assert main([*command_for(folder, tmp_path / "balanced"), "--preview", str(tmp_path / "preview.psd")]) == 1
    assert "no ending of an image that can be written" in capsys.readouterr().err
    assert not class_fits


def test_preview_does_not_replace_another_picture(folder, tmp_path, class_fits, capsys):
    mine = tmp_path / "mine.png"
    Image.new("L", (3, 3)).save(mine)
    before = mine.read_bytes()
    assert main([*command_for(folder, tmp_path / "balanced"), "--preview", str(mine)]) == 1
    assert "exists already, and is no preview. Pass --force" in capsys.readouterr().err
    assert (mine.read_bytes(), class_fits) == (before, [])


def test_preview_writes_one_picture_and_the_next_run_goes_on(
    folder, tmp_path, uninterrupted, class_fits, monkeypatch, capsys
):
    expected = uninterrupted()
    assert sorted(class_fits) == [4, 9]
    class_fits.clear()
    output, preview = tmp_path / "balanced", tmp_path / "pictures" / "preview.png"
    command = command_for(folder, output)
    capsys.readouterr()
    assert main([*command, "--preview", str(preview), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(preview)}
    assert sorted(class_fits) == [4, 9]
    assert [path.name for path in output.iterdir()] == [HIDDEN]
    with Image.open(preview) as picture:
        # Three rows for each of two classes, and a line of text above each.
        assert picture.size == (8 * 132, 2 * (16 + 3 * 132))
    before = preview.read_bytes()
    # Another preview and the run itself need no more fits.
    monkeypatch.delattr(parallel_fits, "fit_class")
    assert main([*command, "--preview", str(preview)]) == 0
    assert preview.read_bytes() == before
    assert main(command) == 0
    assert contents(output) == expected
    assert not hidden_paths(output)


def test_preview_into_a_folder_with_files_says_how_to_keep_its_fits(folder, tmp_path, quick, class_fits, capsys):
    output, preview = tmp_path / "balanced", tmp_path / "preview.png"
    output.mkdir()
    (output / "notes.txt").touch()
    command = command_for(folder, output, "--force", "--preview", str(preview))
    assert main(command) == 0
    assert (
        "the fits of this preview are not kept. To keep them, pass the same --checkpoint-dir" in capsys.readouterr().err
    )
    class_fits.clear()
    command += ["--checkpoint-dir", str(tmp_path / "fits")]
    for fits in ([4, 9], []):
        assert main(command) == 0
        assert "not kept" not in capsys.readouterr().err
        assert sorted(class_fits) == fits
        class_fits.clear()


def test_preview_that_cannot_be_written_is_refused_before_any_work(folder, tmp_path, quick, no_training, capsys):
    output, file = tmp_path / "balanced", tmp_path / "file"
    file.touch()
    for preview, message in (
        (tmp_path / "preview", "such as preview.png"),
        (tmp_path / "preview.txt", "such as preview.png"),
        (tmp_path, "such as preview.png"),
        (file / "preview.png", "cannot be written"),
    ):
        assert main(command_for(folder, output, "--preview", str(preview))) == 1
        assert message in capsys.readouterr().err
    assert not output.exists()


KILLED_WHILE_FITTING = """
def die(images, *arguments):
    if len(images) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_class(images, *arguments)

fit_class, parallel_fits.fit_class = parallel_fits.fit_class, die
"""

KILLED_WHILE_WRITING = """
def die(path, data):
    if "synthetic_00002" in path.name:
        write_bytes(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write_bytes(path, data)

write_bytes, Path.write_bytes = Path.write_bytes, die
"""

KILLED_WHILE_WRITING_A_SHARD = """
def die(tar, sample):
    if sample["__key__"] == "00000012":
        os.kill(os.getpid(), signal.SIGKILL)
    return write(tar, sample)

import webdataset
write, webdataset.TarWriter.write = webdataset.TarWriter.write, die
"""


def run_until_killed(fault, command, tmp_path):
    r"""Runs the command in a child process, which a fault kills."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from test_balance_photos import fit_quickly\n"
        "from gae_augment.cli import main\n"
        "from gae_augment.fitting import parallel_fits\n"
        f"fit_quickly(setattr)\n{fault}\nsys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, script, *command], env=environment, capture_output=True, text=True, timeout=300
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


def assert_whole(output, expected):
    r"""Checks that every visible file is one of the expected files, byte by byte."""
    written = {path: data for path, data in contents(output).items() if "/." not in f"/{path}"}
    assert written.items() <= expected.items()
    return written


def test_killed_run_resumes_to_the_same_files(folder, tmp_path, uninterrupted, class_fits):
    expected = uninterrupted()
    output = tmp_path / "balanced"
    command = command_for(folder, output)
    run_until_killed(KILLED_WHILE_FITTING, command, tmp_path)
    assert [path.name for path in output.iterdir()] == [HIDDEN]
    run_until_killed(KILLED_WHILE_WRITING, command, tmp_path)
    written = assert_whole(output, expected)
    assert written.keys() < expected.keys()
    assert [path for path in hidden_paths(output) if "synthetic_00002" in path.name], "no half-written file was left"
    times = {path: (output / path).stat().st_mtime_ns for path in written}
    class_fits.clear()
    assert main(command) == 0
    assert class_fits == []
    assert contents(output) == expected
    assert not hidden_paths(output)
    # What was there is not written again.
    assert all((output / path).stat().st_mtime_ns == time for path, time in times.items())


def test_killed_run_resumes_to_the_same_shards(folder, tmp_path, uninterrupted, class_fits):
    pytest.importorskip("webdataset")
    options = ["--format", "webdataset", "--shard-size", "10"]
    expected = uninterrupted(*options)
    output = tmp_path / "balanced"
    command = command_for(folder, output, *options)
    run_until_killed(KILLED_WHILE_WRITING_A_SHARD, command, tmp_path)
    assert assert_whole(output, expected).keys() == {"shard-00000-of-00003.tar"}
    class_fits.clear()
    assert main(command) == 0
    assert class_fits == []
    assert contents(output) == expected
    assert not hidden_paths(output)


@pytest.fixture
def interrupted(folder, tmp_path, quick, monkeypatch):
    r"""Returns the output folder of a run that was interrupted while it wrote files, and its command."""
    output = tmp_path / "balanced"
    command = command_for(folder, output)
    write_bytes = Path.write_bytes

    def interrupt(path, data):
        if "synthetic_00002" in path.name:
            raise KeyboardInterrupt
        return write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupt)
        assert main(command) == 130
    assert HIDDEN in os.listdir(output)
    return output, command


def test_interruption_says_that_the_command_can_be_repeated(capsys, interrupted):
    output, command = interrupted
    assert "run the same command again to resume" in capsys.readouterr().err
    assert main(command) == 0
    assert not hidden_paths(output)


def test_leftovers_of_killed_workers_are_removed(interrupted, uninterrupted):
    output, command = interrupted
    (output / ".augmenter-abc").mkdir()
    (output / ".augmenter-abc" / "augmenter.safetensors").write_text("half")
    (output / "down" / ".synthetic_00000.png.ab12cd34").write_text("half")
    (output / "across" / ".0.png.ab12cd34").write_text("half")
    (output / "across" / ".notes").write_text("a file of the user's")
    assert main(command) == 0
    assert [path.name for path in hidden_paths(output)] == [".notes"]
    (output / "across" / ".notes").unlink()
    assert contents(output) == uninterrupted()


def test_run_killed_before_its_first_work_can_be_repeated(folder, tmp_path, uninterrupted):
    expected = uninterrupted()
    output = tmp_path / "balanced"
    (output / HIDDEN).mkdir(parents=True)
    assert main(command_for(folder, output)) == 0
    assert contents(output) == expected


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "1"],
        ["--size", "8"],
        ["--model", "vae"],
        ["--per-class", "8"],
        ["--tolerance", "0"],
        ["--shard-size", "5"],
        ["--force", "--seed", "1"],
    ],
)
def test_unfinished_run_is_not_mixed_with_other_options(options, interrupted, capsys):
    output, command = interrupted
    before = contents(output)
    assert main([*command, *options]) == 1
    error = capsys.readouterr().err
    assert f"The output folder {str(output)!r} holds an unfinished run with other images or options" in error
    assert "Repeat the command of that run, or remove the folder" in error
    assert contents(output) == before
    assert main([*command, "--force"]) == 0


def change(path):
    Image.new("RGB", (10, 12)).save(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: change(folder / "down" / "0.png"),
        lambda folder: change(folder / "down" / "new.png"),
        lambda folder: (folder / "across" / "8.png").unlink(),
        lambda folder: shutil.copytree(folder / "down", folder / "new class"),
    ],
    ids=["changed", "added", "removed", "new class"],
)
def test_unfinished_run_is_not_mixed_with_other_images(edit, interrupted, folder, capsys):
    output, command = interrupted
    edit(folder)
    assert main(command) == 1
    assert "holds an unfinished run with other images or options" in capsys.readouterr().err
    shutil.rmtree(output)
    assert main(command) == 0


def test_finished_run_is_not_repeated_into_its_folder(folder, tmp_path, uninterrupted, capsys):
    expected = uninterrupted()
    command = command_for(folder, tmp_path / "uninterrupted")
    assert main(command) == 1
    assert "already contains files. To add to them pass --force" in capsys.readouterr().err
    assert contents(tmp_path / "uninterrupted") == expected


def test_force_adds_to_a_folder_that_is_not_empty(folder, tmp_path, uninterrupted):
    expected = uninterrupted()
    output = tmp_path / "full"
    own = {"notes.txt": b"keep", "down/mine.png": b"keep", "down/synthetic_00000.png": b"keep"}
    for path, data in own.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(data)
    assert main(command_for(folder, output)) == 1
    assert contents(output) == own
    assert main(command_for(folder, output, "--force")) == 0
    written = contents(output)
    assert not hidden_paths(output)
    for path, data in own.items():
        assert written.pop(path) == data
    # The same images, of which one has another name, since its own was taken.
    assert sorted(written.values()) == sorted(expected.values())


def test_checkpoint_dir_holds_the_fits_in_place_of_the_hidden_folder(folder, tmp_path, quick, monkeypatch):
    checkpoints = tmp_path / "checkpoints"
    command = command_for(folder, tmp_path / "first", "--checkpoint-dir", str(checkpoints))
    assert main(command) == 0
    assert len(list(checkpoints.glob("*.safetensors"))) == 2
    assert not hidden_paths(tmp_path / "first")
    monkeypatch.delattr(parallel_fits, "fit_class")
    command[3] = str(tmp_path / "second")
    assert main(command) == 0
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


def test_relative_folders_are_the_same_run(folder, tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command_for("photos", "out", "--preview", "preview.png")) == 0
    assert main(command_for("photos", "out")) == 0
    assert len(open_folder("out")) == 9 + 9 + 3


def test_class_of_one_photograph_is_moved_too(folder, tmp_path, uninterrupted):
    with Image.open(folder / "single" / "0.png") as image:
        size = image.size
    added = [path for path in uninterrupted() if path.startswith("single/synthetic_")]
    assert len(added) == 2
    for path in added:
        with Image.open(tmp_path / "uninterrupted" / path) as image:
            assert (image.size, image.format) == (size, "PNG")
