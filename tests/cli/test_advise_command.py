import json
from datetime import date
from functools import partial

import numpy as np
import pytest
from PIL import Image

from gae_augment import GenerativeModel
from gae_augment.cli import commands, main
from gae_augment.evaluation.advice import setting


@pytest.fixture
def folder(tmp_path, monkeypatch):
    r"""Bright and dark photographs of two sizes, two of each object, and a network in the current folder."""
    random = np.random.default_rng(0)
    for name, count, level in (("bright", 24, 160), ("dark", 10, 60)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            size = (20, 28) if number % 2 else (24, 20)
            image = random.integers(level - 40, level + 40, size, dtype=np.uint8)
            image[number % 20] = 255
            Image.fromarray(image).save(tmp_path / "images" / name / f"part{number // 2}_{number % 2}.png")
    (tmp_path / "brightness.py").write_text(
        "def network():\n"
        "    features = lambda images: images.float().unflatten(2, (4, -1)).mean(dim=(3, 4)).flatten(1)\n"
        "    return features\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(setting, "MAX_REPETITIONS", 1)
    # What the motions are worth is not tested here.
    monkeypatch.setattr(commands, "GenerativeModel", partial(GenerativeModel, epochs=2))
    return tmp_path / "images"


def test_advise_prints_a_table_a_verdict_and_what_to_type(folder, capsys):
    options = ["advise", str(folder), "--groups", "[^/]+/part[0-9]+", "--backbone", "brightness:network"]
    checkpoints = ["--checkpoint-dir", "checkpoints"]
    assert main([*options, *checkpoints]) == 0
    printed = capsys.readouterr()
    assert "34 of 34 images, 2 classes, 17 objects; network: brightness:network" in printed.err
    assert "split 3 of 3" in printed.err
    assert "5 objects in class dark" in printed.err
    for text in ("plain training", "balanced softmax", "learned motions of strength 0.5", "synthetic images"):
        assert text in printed.out
    # The features and the splits are kept, so that the same command has the same answer at once.
    assert main([*options, *checkpoints, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["sentence"] in printed.out
    assert values["command"] in printed.out
    # What was found stands at the beginning of 'balance', until the folder changes.
    assert main(["balance", str(folder), "--output", "balanced", "--dry-run"]) == 0
    assert f"{date.today()}: {values['sentence']}" in capsys.readouterr().err
    (folder / "dark" / "part0_0.png").unlink()
    assert main(["balance", str(folder), "--output", "balanced", "--dry-run"]) == 0
    assert "gae-augment advise" not in capsys.readouterr().err
    assert values["classes"]["dark"] | {"chance": 0} == {"images": 10, "objects": 5, "chance": 0}
    assert {"use", "strategy", "gain", "rows", "warnings", "splits", "seconds"} <= values.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "resnet19"], "torchvision does not have"),
        (["--backbone", "no_such_module:network"], "no_such_module"),
        (["--groups", "["], "no regular expression"),
        (["--minutes", "0"], "'minutes' is 0"),
    ],
)
def test_wrong_options_are_errors(folder, capsys, options, message):
    assert main(["advise", str(folder), *options]) == 1
    assert message in capsys.readouterr().err


def test_advice_is_given_where_the_cache_cannot_be_written(folder, monkeypatch, capsys):
    (folder.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "file"))
    assert main(["advise", str(folder), "--backbone", "brightness:network"]) == 0
    assert "balanced softmax" in capsys.readouterr().out


def test_table_of_objects(folder, capsys):
    rows = [f"{path.relative_to(folder)},{path.stem.split('_')[0]}" for path in folder.glob("*/*.png")]
    (folder.parent / "objects.csv").write_text("\n".join(["path,group", *rows]))
    assert main(["advise", str(folder), "--groups", "objects.csv", "--backbone", "brightness:network"]) == 0
    # Without the class in their names, the objects of two classes are the same.
    assert "12 objects" in capsys.readouterr().err
