r"""``gae-augment evaluate``, ``report`` and ``sample`` on folders whose files, names and classes are unusual."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from gae_augment.cli import main
from gae_augment.fitting import plan


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(plan, "STEPS", 40)
    monkeypatch.setattr("gae_augment.cli.commands.epochs_of_a_thousand_steps", lambda images: 3)


def stripes(folder, counts, *, seed=0, dtype=np.uint8):
    r"""Writes grey images with a bright stripe, across in the first class, down in the others."""
    random = np.random.default_rng(seed)
    for index, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 100, (8, 8)).astype(dtype)
            stripe = number % 8
            image[(slice(None), stripe) if index else (stripe, slice(None))] = 250
            Image.fromarray(image * dtype(250 if dtype == np.uint16 else 1)).save(folder / name / f"{number}.png")
    return folder


def fit(folder, *options):
    file = folder.parent / "augmenter.safetensors"
    assert main(["fit", str(folder), "--output", str(file), "--jobs", "1", *options]) == 0
    return str(file)


def evaluated(folder, held_out, *options):
    command = ["evaluate", fit(folder, "--force"), str(folder), "--held-out", str(held_out)]
    return main([*command, "--seeds", "1", "--steps", "10", *options])


COUNTS = {"across": 12, "down": 5}


@pytest.mark.parametrize("colourful", ["train", "test"])
def test_one_coloured_file_does_not_separate_the_folders(tmp_path, colourful):
    folders = {name: stripes(tmp_path / name, COUNTS, seed=seed) for seed, name in enumerate(("train", "test"))}
    file = folders[colourful] / "down" / "0.png"
    with Image.open(file) as image:
        image.convert("RGB").save(file)
    assert evaluated(*folders.values()) == 0


def test_images_of_16_bits_are_evaluated_like_those_of_8(tmp_path, capsys):
    results = []
    for dtype in (np.uint8, np.uint16):
        folders = [
            stripes(tmp_path / dtype.__name__ / name, COUNTS, seed=seed, dtype=dtype)
            for seed, name in enumerate(("train", "test"))
        ]
        capsys.readouterr()
        assert evaluated(*folders, "--json") == 0
        printed = capsys.readouterr().out
        results.append(json.loads(printed[printed.index("{") :]))
    plain = [result["classifier"]["arms"]["plain training"]["per seed"][0] for result in results]
    assert plain[0] == plain[1]


def test_8_and_16_bits_do_not_mix(tmp_path, capsys):
    train, test = stripes(tmp_path / "train", COUNTS), stripes(tmp_path / "test", COUNTS, dtype=np.uint16)
    assert evaluated(train, test) == 1
    assert "Convert all of them to 8 bits, or all of them to 16" in capsys.readouterr().err


def test_classes_that_need_no_images_leave_nothing_to_compare(tmp_path, capsys):
    train, test = (stripes(tmp_path / name, {"across": 6, "down": 6}) for name in ("train", "test"))
    assert evaluated(train, test) == 1
    assert "No class gets synthetic images, so there is nothing to compare" in capsys.readouterr().err


def test_table_of_objects_tells_the_folders_apart(tmp_path, capsys):
    train, test = (stripes(tmp_path / name, COUNTS, seed=seed) for seed, name in enumerate(("train", "test")))
    table = tmp_path / "objects.csv"
    files = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))]
    objects = {file: f"part {number}" for number, file in enumerate(files)}

    def write():
        table.write_text("\n".join(["path,group", *(f"{file},{name}" for file, name in objects.items())]))

    write()
    assert evaluated(train, test, "--groups", str(table)) == 0
    assert "show objects of the training set" not in capsys.readouterr().err
    objects["test/down/0.png"] = objects["train/across/3.png"]
    write()
    assert evaluated(train, test, "--groups", str(table)) == 0
    assert "1 of 17 held-out images show objects of the training set" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["c$_$ 5", os.fsdecode(b"caf\xe9")], ids=["dollars", "not UTF-8"])
def test_report_takes_any_name_of_a_class(tmp_path, name):
    folder = stripes(tmp_path / "train", {"across": 12, name: 5})
    page = tmp_path / "report.html"
    assert main(["report", fit(folder), str(folder), "--output", str(page)]) == 0
    assert name.encode("utf-8", "backslashreplace").decode() in page.read_text()


def test_class_without_a_model_is_answered_with_names(tmp_path, capsys):
    folder = stripes(tmp_path / "train", COUNTS)
    file = fit(folder)
    assert main(["sample", file, "--class", "across", "--output", str(tmp_path / "new")]) == 1
    assert "Class 'across' has no model of its own. Choose one of ['down']" in capsys.readouterr().err
