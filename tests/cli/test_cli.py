import json
import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from gae_augment import GAEAugmenter
from gae_augment.cli import main
from gae_augment.demo import load_data
from gae_augment.fitting import parallel_fits, plan
from gae_augment.motion import learning, registration


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    r"""Shortens the trainings of models and of features for FID, and learns few motions: no test here needs quality."""
    monkeypatch.setattr(plan, "STEPS", 40)
    monkeypatch.setattr(learning, "MOTIONS_PER_CLASS", 4)
    monkeypatch.setattr(registration, "STEPS", 2)
    for module in ("cli.commands", "demo.run"):
        monkeypatch.setattr(f"gae_augment.{module}.epochs_of_a_thousand_steps", lambda images: 3)


@pytest.fixture
def folder(tmp_path):
    r"""A folder of colour images, of any brightness: 12 with a horizontal and 5 with a vertical stripe."""
    random = np.random.default_rng(0)
    for name, count in (("across", 12), ("down", 5)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 60, (8, 8, 3), dtype=np.uint8) + np.uint8(40 * (number % 4))
            stripe = number % 8
            image[(stripe, slice(None)) if name == "across" else (slice(None), stripe)] = 250
            Image.fromarray(image).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_balance_writes_originals_and_synthetic_files(folder, tmp_path, capsys):
    output = tmp_path / "balanced"
    assert main(["balance", str(folder), "--output", str(output), "--jobs", "1"]) == 0
    real = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    for path in real:
        assert (output / path).read_bytes() == (folder / path).read_bytes()
    new = sorted(path.relative_to(output) for path in output.rglob("*.png") if path.relative_to(output) not in real)
    assert [str(path) for path in new] == [f"down/synthetic_{number:05d}.png" for number in range(7)]
    for path in new:
        with Image.open(output / path) as image:
            assert (image.size, image.mode) == ((8, 8), "RGB")
    assert "down: 5 real, 7 synthetic" in capsys.readouterr().out


def test_fit_then_sample(folder, tmp_path, capsys):
    file, output = tmp_path / "augmenter.safetensors", tmp_path / "samples"
    assert main(["fit", str(folder), "--output", str(file), "--jobs", "1"]) == 0
    assert "down: 5 images" in capsys.readouterr().out
    command = ["sample", str(file), "--class", "down", "--number", "3", "--output", str(output)]
    assert main(command) == 0
    first = [path.read_bytes() for path in sorted((output / "down").iterdir())]
    assert len(first) == 3
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    # The same seed gives the same images, and existing files are not overwritten.
    assert main([*command, "--force"]) == 0
    assert [path.read_bytes() for path in sorted((output / "down").iterdir())] == first * 2


@pytest.mark.parametrize("command", ["fit", "balance"])
def test_saved_classes_are_not_fitted_again(folder, tmp_path, monkeypatch, command):
    options = [command, str(folder), "--jobs", "1", "--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert main([*options, "--output", str(tmp_path / "first")]) == 0
    monkeypatch.delattr(parallel_fits, "fit_class")
    assert main([*options, "--output", str(tmp_path / "second")]) == 0
    first, second = (tmp_path / name for name in ("first", "second"))
    if command == "balance":
        written = [path.relative_to(first) for path in first.rglob("*.png")]
        assert len(written) == 24
        assert all((first / path).read_bytes() == (second / path).read_bytes() for path in written)
    else:
        samples = [GAEAugmenter.load(path).sample(1, 4) for path in (first, second)]
        assert torch.equal(*samples)


def test_report_needs_the_training_set(folder, tmp_path, capsys):
    file, page = tmp_path / "augmenter.safetensors", tmp_path / "report.html"
    assert main(["fit", str(folder), "--output", str(file), "--jobs", "1"]) == 0
    command = ["report", str(file), str(folder), "--output", str(page)]
    for number in range(3):
        shutil.copy(folder / "down" / f"{number}.png", folder / "down" / f"again_{number}.png")
    assert main([*command, "--held-out", str(folder)]) == 1
    assert "{0: 12, 1: 8} images per class, but the augmenter was fitted to {0: 12, 1: 5}" in capsys.readouterr().err
    held_out = shutil.copytree(folder, tmp_path / "held out")
    for path in folder.glob("down/again_*"):
        path.unlink()
    assert main([*command, "--held-out", str(held_out)]) == 0
    assert capsys.readouterr().out.endswith(f"{page}\n")
    text = page.read_text()
    assert "Class down" in text
    assert "FID (classifier features" in text
    assert main(command) == 1
    assert "exists already. Pass --force" in capsys.readouterr().err
    (folder / "across").rename(folder / "along")
    assert main(["report", str(file), str(folder), "--output", str(tmp_path / "other.html")]) == 1
    assert (
        "The classes ['along'] have other names or labels than those that the augmenter was fitted to, ['across'"
        in capsys.readouterr().err
    )


def test_errors_are_one_line_and_keep_existing_files(folder, tmp_path, capsys):
    file = tmp_path / "augmenter.safetensors"
    file.write_text("precious")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (["balance", str(empty), "--output", str(tmp_path / "x")], repr(str(empty))),
        (["balance", str(folder), "--output", str(folder)], "inside the input folder"),
        (["fit", str(folder), "--output", str(file)], "--force"),
        (["fit", str(folder), "--output", str(file / "below")], "--output"),
        (["sample", str(file), "--class", "down", "--output", str(tmp_path / "y")], repr(str(file))),
        (
            ["sample", str(tmp_path / "none"), "--class", "down", "--output", str(tmp_path / "y")],
            repr(str(tmp_path / "none")),
        ),
        (["demo", "--dataset", "unknown", "--output", str(tmp_path / "z")], "'digits'"),
        (["demo", "--dataset", "mnist", "--data-root", str(empty), "--output", str(tmp_path / "z")], "--data-root"),
        (["demo", "--profile", "lt-x", "--output", str(tmp_path / "z")], "'lt-R'"),
    ]
    for command, message in cases:
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert error.startswith(f"gae-augment {command[0]}: ")
        assert message in error
        assert "Traceback" not in error
    assert file.read_text() == "precious"


def test_demo_rejects_unsuitable_data_before_any_work(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gae_augment.demo.run.GAEAugmenter", lambda **_: pytest.fail("a training started"))
    assert main(["demo", "--dataset", str(folder), "--output", str(tmp_path / "z")]) == 1
    assert re.search(r"'down'.* 0\b", capsys.readouterr().err)
    for path in folder.rglob("*.png"):
        Image.frombytes("I;16", (8, 8), bytes(128)).save(path)
    assert main(["demo", "--dataset", str(folder), "--output", str(tmp_path / "z")]) == 1
    assert "8 bits" in capsys.readouterr().err
    assert main(["demo", "--inception", "--output", str(tmp_path / "z")]) == 1
    assert "Inception" in capsys.readouterr().err


def test_balance_keeps_real_files_with_names_of_synthetic_ones(folder, tmp_path):
    real = folder / "down" / "synthetic_00001.png"
    (folder / "down" / "0.png").rename(real)
    assert main(["balance", str(folder), "--output", str(tmp_path / "out"), "--jobs", "1"]) == 0
    assert (tmp_path / "out" / "down" / real.name).read_bytes() == real.read_bytes()
    assert len(list((tmp_path / "out" / "down").iterdir())) == 12


def test_balance_into_the_input_folder_is_rejected(folder, capsys):
    for output in (folder, folder / "new"):
        assert main(["balance", str(folder), "--output", str(output), "--force"]) == 1
        assert f"{str(output)!r} is or lies inside the input folder {str(folder)!r}" in capsys.readouterr().err


def test_fit_into_a_folder_is_rejected(folder, tmp_path, capsys):
    assert main(["fit", str(folder), "--output", str(tmp_path), "--force"]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_fit_into_a_pipe_is_rejected(folder, tmp_path, capsys, no_training):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["fit", str(folder), "--output", str(pipe), "--force"]) == 1
    assert str(pipe) in capsys.readouterr().err
    assert pipe.is_fifo()


def test_error_about_an_unknown_class_lists_the_known_ones(folder, tmp_path, capsys):
    file = tmp_path / "augmenter.safetensors"
    main(["fit", str(folder), "--output", str(file), "--jobs", "1"])
    capsys.readouterr()
    assert main(["sample", str(file), "--class", "up", "--output", str(tmp_path / "y")]) == 1
    assert f"There is no class 'up' in {str(file)!r}. Choose one of ['across', 'down'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["demo", "--seeds", "0"], ["unknown"], []])
def test_wrong_usage_exits_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: gae-augment" in capsys.readouterr().err


def test_demo_writes_table_scores_and_image(tmp_path, capsys):
    output = tmp_path / "demo"
    assert main(["demo", "--seeds", "2", "--steps", "20", "--jobs", "1", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    result = json.loads((output / "result.json").read_text())
    assert list(result["classifier"]["arms"]) == [
        "plain training",
        "class-balanced sampling",
        "class-balanced sampling + GAE",
    ]
    for arm in result["classifier"]["arms"].values():
        assert f"{100 * arm['summary']['balanced accuracy']['mean']:.2f} ±" in text
    assert set(result["images after"].values()) == {max(result["images before"].values())}
    assert "FID (classifier features, digits): " in text
    assert "memorisation" in text
    with Image.open(output / "samples.png") as picture:
        pixels = np.asarray(picture)
    # The right half holds synthetic images, except in the first row: the largest class has none.
    assert (pixels[: pixels.shape[0] // 12, pixels.shape[1] * 3 // 4] == 255).all()
    assert pixels[pixels.shape[0] // 2 :, pixels.shape[1] * 5 // 8 :].min() == 0


def test_demo_on_a_folder_with_a_test_set(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "split").mkdir(exist_ok=True)
        (tmp_path / "split" / split).symlink_to(folder)
    data = load_data(str(tmp_path / "split"))
    assert data.classes == ("across", "down")
    assert data.train[0].shape == data.test[0].shape == (17, 3, 8, 8)


def test_folder_without_a_test_set_is_split_by_class(folder):
    data = load_data(str(folder))
    assert data.train[1].tolist() == [0] * 6
    assert data.test[1].bincount().tolist() == [6, 5]
    images = {tuple(image.flatten().tolist()) for split in (data.train, data.test) for image in split[0]}
    assert len(images) == 17


def outcome(capsys):
    return json.loads(capsys.readouterr().out)


def test_standard_output_holds_only_the_json(folder, tmp_path, capsys):
    file = tmp_path / "augmenter.safetensors"
    assert main(["fit", str(folder), "--output", str(file), "--json"]) == 0
    fitted = outcome(capsys)
    assert fitted["file"] == str(file)
    assert fitted["classes"]["down"]["images"] == 5
    assert main(["sample", str(file), "--number", "2", "--output", str(tmp_path / "samples"), "--json"]) == 0
    assert outcome(capsys) == {"classes": {"down": 2}, "paths": [str(tmp_path / "samples")]}
    assert main(["balance", str(folder), "--output", str(tmp_path / "balanced"), "--json"]) == 0
    assert outcome(capsys)["classes"] == {
        "across": {"real": 12, "synthetic": 0},
        "down": {"real": 5, "synthetic": 7},
    }
    assert main(["fit", str(folder), "--output", str(file), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] in captured.err


def test_dry_run_writes_nothing(folder, tmp_path, capsys, no_training):
    for command, name in (("fit", "augmenter.safetensors"), ("balance", "balanced")):
        output = tmp_path / "new" / name
        assert main([command, str(folder), "--output", str(output), "--dry-run", "--json"]) == 0
        result = outcome(capsys)
        assert result["classes"]["down"] == {"real": 5, "synthetic": 7}
        assert result["fit seconds"] > 0
        assert result["sample seconds"] > 0
        assert not output.parent.exists()
        assert main([command, str(folder), "--output", str(output), "--dry-run"]) == 0
        assert "fitting 1 classes: about" in capsys.readouterr().out


def test_evaluate_measures_gain_fidelity_and_memorisation(folder, tmp_path, capsys):
    file = tmp_path / "augmenter.safetensors"
    assert main(["fit", str(folder), "--output", str(file)]) == 0
    held_out = shutil.copytree(folder, tmp_path / "held out")
    for number in range(3):
        shutil.copy(held_out / "down" / f"{number}.png", held_out / "down" / f"again_{number}.png")
    command = ["evaluate", str(file), str(folder), "--held-out", str(held_out), "--seeds", "2", "--steps", "20"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    result = outcome(capsys)
    assert result["images after"] == {"across": 12, "down": 12}
    arms = result["classifier"]["arms"]
    assert list(arms) == ["plain training", "class-balanced sampling", "class-balanced sampling + GAE"]
    assert [len(arm["per seed"]) for arm in arms.values()] == [2, 2, 2]
    # Every held-out image is a training image.
    assert result["memorisation"]["threshold"] == 0
    assert any(name.startswith("FID (classifier features, ") for name in result["fidelity"])
    assert result["held-out images of training objects"] is None
    assert main([*command, "--groups", "[^/]+/(again_)?[0-9]+"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(result["verdict"])
    assert "balanced accuracy, % (mean ± standard deviation over 2 seeds)" in printed.out
    assert "training 5 of 6, seed 1, class-balanced sampling: balanced accuracy" in printed.err
    assert " left" in printed.err
    assert "17 of 20 held-out images show objects of the training set" in printed.err

    page = tmp_path / "report.html"
    command[0] = "report"
    assert main([*command, "--gain", "--output", str(page), "--json"]) == 0
    shown = outcome(capsys)
    assert shown["classifier"]["verdict"] == result["verdict"]
    assert f'<p class="verdict">{result["verdict"]}' in page.read_text()
    mean = arms["class-balanced sampling + GAE"]["summary"]["balanced accuracy"]["mean"]
    assert f"class-balanced sampling + GAE</th><td>{100 * mean:.2f}</td>" in page.read_text()
    assert main(["report", str(file), str(folder), "--gain", "--output", str(tmp_path / "x.html")]) == 1
    assert "Pass their folder with --held-out" in capsys.readouterr().err


def test_report_names_a_missing_library_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "gae_augment.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(GAEAugmenter, "load", lambda *_: pytest.fail("the augmenter was loaded"))
    assert main(["report", "fitted.safetensors", "images", "--output", str(tmp_path / "report.html")]) == 1
    assert "pip install 'gae-augment[report]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_class_outside_the_training_set_is_rejected(folder, tmp_path, capsys, command):
    file, held_out = tmp_path / "augmenter.safetensors", tmp_path / "held out"
    assert main(["fit", str(folder), "--output", str(file)]) == 0
    shutil.copytree(folder, held_out)
    shutil.copytree(folder / "down", held_out / "new")
    output = ["--output", str(tmp_path / "page.html")] if command == "report" else []
    assert main([command, str(file), str(folder), "--held-out", str(held_out), *output]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{str(held_out)!r} has the classes ['across', 'down', 'new'], but {str(folder)!r} has" in error
    assert error.endswith("Add images of the missing classes, or remove the extra ones.")
    assert not (tmp_path / "page.html").exists()


def resize_file(path, size):
    with Image.open(path) as image:
        image.resize(size).save(path)


def test_images_of_several_sizes(folder, tmp_path, capsys):
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        resize_file(path, (200 + number, 100))
    held_out = shutil.copytree(folder, tmp_path / "held out")
    for path in held_out.rglob("*.png"):
        resize_file(path, (40, 90))
    file, page, output = tmp_path / "augmenter.safetensors", tmp_path / "page.html", tmp_path / "balanced"
    assert main(["balance", str(folder), "--output", str(output), "--dry-run"]) == 0
    assert main(["balance", str(folder), "--output", str(output)]) == 0
    for path in folder.rglob("*.png"):
        assert (output / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert main(["fit", str(folder), "--output", str(file)]) == 0
    assert GAEAugmenter.load(file).models_[1].shape == (3, 31, 64)
    # Held-out images, whose median size is another, are read in the size of the fit.
    measured = [str(file), str(folder), "--held-out", str(held_out), "--seeds", "1", "--steps", "5"]
    assert main(["evaluate", *measured]) == 0
    assert main(["report", *measured, "--gain", "--output", str(page)]) == 0
    assert "Class down" in page.read_text()
    assert main(["fit", str(folder), "--size", "6x8", "--output", str(file), "--force"]) == 0
    assert GAEAugmenter.load(file).models_[1].shape == (3, 6, 8)
    assert main(["evaluate", *measured]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["fit", str(folder), "--size", "8x8x8", "--output", str(file)])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixel_in_several_sizes(tmp_path, mode):
    random = np.random.default_rng(0)
    for name, count in (("across", 9), ("down", 4)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(random.integers(0, 256, (2, 2, 4), dtype=np.uint8), "RGBA")
            image = image.resize((70, 90 + number)).convert("L" if mode == "I;16" else mode)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image).astype(np.uint16) * 250)
            image.save(tmp_path / "images" / name / f"{number}.png")
    output, file = tmp_path / "balanced", tmp_path / "augmenter.safetensors"
    assert main(["fit", str(tmp_path / "images"), "--size", "12", "--output", str(file)]) == 0
    assert main(["sample", str(file), "--number", "2", "--output", str(tmp_path / "samples")]) == 0
    with Image.open(tmp_path / "samples" / "down" / "synthetic_00000.png") as image:
        assert (image.mode, image.size) == (mode, (12, 12))
    assert main(["balance", str(tmp_path / "images"), "--size", "9x8", "--output", str(output)]) == 0
    with Image.open(output / "down" / "synthetic_00000.png") as image:
        assert image.mode == mode


def test_demo_needs_a_size_for_images_of_several(folder, tmp_path, capsys):
    resize_file(folder / "down" / "1.png", (12, 10))
    assert main(["demo", "--dataset", str(folder), "--output", str(tmp_path / "demo")]) == 1
    assert "or resize those of a folder with --size 64" in capsys.readouterr().err


def test_warnings_are_single_lines(folder, tmp_path, capsys, monkeypatch):
    fit = GAEAugmenter.fit

    def warn(self, *arguments, **options):
        warnings.warn("a planted warning", RuntimeWarning, stacklevel=2)
        return fit(self, *arguments, **options)

    monkeypatch.setattr(GAEAugmenter, "fit", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit", str(folder), "--output", str(tmp_path / "augmenter.safetensors")]) == 0
    assert "gae-augment fit: warning: a planted warning\n" in capsys.readouterr().err


def test_interruption_names_the_checkpoints(folder, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel_fits, "fit_class", interrupt)
    fit = ["fit", str(folder), "--output", str(tmp_path / "fitted.safetensors"), "--jobs", "1"]
    assert main(fit) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "gae-augment fit: interrupted"
    checkpoints = str(tmp_path / "checkpoints")
    assert main([*fit, "--checkpoint-dir", checkpoints]) == 130
    hint = f"are in {checkpoints!r}; run the same command again to resume"
    assert capsys.readouterr().err.splitlines()[-1].endswith(hint)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_includes_commands_and_options(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "evaluate" in script
    assert "shard-size" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_command(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    function = "$(complete -p gae-augment | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    completion = f"COMP_WORDS=(gae-augment ev) COMP_CWORD=1; {function}; echo ${{COMPREPLY[*]}}"
    run = subprocess.run(["bash", "-c", f"source {script}; {completion}"], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["evaluate"]


@pytest.mark.parametrize(("setting", "during"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_decides(setting, during, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if setting is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", setting)
    seen = []
    monkeypatch.setattr("gae_augment.cli.run.run", lambda argv: seen.append(os.environ["OMP_WAIT_POLICY"]) or 0)
    assert main(["demo"]) == 0
    assert seen == [during]
    assert os.environ.get("OMP_WAIT_POLICY") == setting


def test_the_command_line_decides_before_pytorch_is_imported():
    code = "import sys; from gae_augment.cli import main; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
