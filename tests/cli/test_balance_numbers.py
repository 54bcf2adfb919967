r"""How many images ``gae-augment balance`` adds, and that the run, the dry run and the preview agree."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFilter
from test_balance_photos import command_for, contents, fit_quickly, write_photos

from gae_augment.cli import main
from gae_augment.export import selection


@pytest.fixture
def quick(monkeypatch):
    fit_quickly(monkeypatch.setattr)


def number_of_files(folder):
    return {path.name: len(list(path.iterdir())) for path in folder.iterdir()}


def outcome(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "totals", "bounded"),
    [
        # 18 images lack 2 of 20, which is a tenth; 17 lack 3; 4 have at most 12 in total.
        ([], {"a": 20, "b": 18, "c": 20, "d": 12}, ["d"]),
        (["--tolerance", "0"], {"a": 20, "b": 20, "c": 20, "d": 12}, ["d"]),
        (["--tolerance", "0.2"], {"a": 20, "b": 18, "c": 17, "d": 12}, ["d"]),
        (["--per-class", "19"], {"a": 20, "b": 19, "c": 19, "d": 19}, []),
        (["--per-class", "21"], {"a": 21, "b": 21, "c": 21, "d": 21}, []),
    ],
)
def test_run_and_dry_run_give_the_promised_numbers(tmp_path, quick, capsys, options, totals, bounded):
    real = {"a": 20, "b": 18, "c": 17, "d": 4}
    folder, output = write_photos(tmp_path / "photos", real), tmp_path / "balanced"
    assert main(command_for(folder, output, "--dry-run", "--json", *options)) == 0
    planned = outcome(capsys)
    assert not output.exists()
    assert main(command_for(folder, output, "--json", *options)) == 0
    written = outcome(capsys)
    assert number_of_files(output) == totals
    for result in (planned, written):
        assert result["classes"] == {
            name: {"real": real[name], "synthetic": totals[name] - real[name]} for name in totals
        }
        assert result["bounded"] == bounded


def test_summary_tells_which_classes_stay_small(tmp_path, quick, capsys):
    folder = write_photos(tmp_path / "photos", {"a": 9, "b": 2})
    for options in ["--dry-run"], []:
        assert main(command_for(folder, tmp_path / "balanced", *options)) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "a: 9 real, 0 synthetic"
        assert lines[1] == (
            "b: 2 real, 4 synthetic (in total at most 3 times the real ones; --per-class sets another number)"
        )


def test_folder_without_scarce_classes_is_copied_without_a_fit(tmp_path, quick, no_training, capsys):
    folder, output = write_photos(tmp_path / "photos", {"a": 10, "b": 9, "c": 10}), tmp_path / "balanced"
    assert main(command_for(folder, output, "--dry-run")) == 0
    assert "fitting 0 classes" in capsys.readouterr().out
    assert main(command_for(folder, output)) == 0
    assert capsys.readouterr().out.splitlines()[1] == "b: 9 real, 0 synthetic"
    assert contents(output) == contents(folder)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_folder_without_scarce_classes_is_copied_to_shards(tmp_path, no_training, jobs):
    pytest.importorskip("webdataset")
    folder, output = write_photos(tmp_path / "photos", {"a": 3, "b": 3}), tmp_path / "balanced"
    command = ["balance", str(folder), "--output", str(output), "--format", "webdataset", "--shard-size", "4"]
    assert main([*command, "--jobs", jobs]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["shard-00000-of-00002.tar", "shard-00001-of-00002.tar"]
    # Each archive holds three of the six files.
    data = b"".join(path.read_bytes() for path in output.iterdir())
    assert all(file in data for file in contents(folder).values())


def test_preview_of_a_folder_without_scarce_classes_is_an_error(tmp_path, no_training, capsys):
    folder, output = write_photos(tmp_path / "photos", {"a": 10, "b": 9}), tmp_path / "balanced"
    assert main(command_for(folder, output, "--preview", str(tmp_path / "preview.png"))) == 1
    error = capsys.readouterr().err
    assert "No class needs images, so there is nothing to draw" in error
    assert "--per-class, or for equal classes with --tolerance 0" in error
    assert not output.exists()
    assert not (tmp_path / "preview.png").exists()


def test_fit_still_makes_all_classes_as_large_as_the_largest(tmp_path, capsys, no_training):
    folder = write_photos(tmp_path / "photos", {"a": 10, "b": 9, "c": 2})
    assert main(["fit", str(folder), "--output", str(tmp_path / "file"), "--dry-run", "--json"]) == 0
    assert {name: n["synthetic"] for name, n in outcome(capsys)["classes"].items()} == {"a": 0, "b": 1, "c": 8}


def test_images_of_one_small_size_get_moderate_numbers_too(tmp_path, quick):
    random = np.random.default_rng(0)
    for name, count in (("a", 10), ("b", 3)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    assert main(command_for(tmp_path / "images", tmp_path / "balanced")) == 0
    assert number_of_files(tmp_path / "balanced") == {"a": 10, "b": 9}


@pytest.mark.parametrize(
    "options", [["--tolerance", "1"], ["--tolerance", "-0.1"], ["--tolerance", "x"], ["--per-class", "0"]]
)
def test_numbers_out_of_range_are_wrong_usage(tmp_path, options, capsys):
    with pytest.raises(SystemExit) as end:
        main(command_for(tmp_path, tmp_path / "balanced", *options))
    assert end.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_classes_with_few_objects_get_a_warning(tmp_path, quick, capsys):
    folder = write_photos(tmp_path / "photos", {"common": 30, "many": 12, "few": 12, "most": 29})
    for path in sorted((folder / "few").iterdir()):
        # Three photographs of each of four parts.
        path.rename(path.with_name(f"part{int(path.stem) % 4}_{path.name}"))
    for options, objects, classes in (
        ([], {"common": 30, "few": 12, "many": 12, "most": 29}, []),
        (["--groups", r"few/part\d|[^/]+/\d+"], {"common": 30, "few": 4, "many": 12, "most": 29}, ["few"]),
        # A class that gets no images needs no warning.
        (["--groups", r"common|few|[^/]+/\d+"], {"common": 1, "few": 1, "many": 12, "most": 29}, ["few"]),
    ):
        assert main(command_for(folder, tmp_path / "balanced", "--dry-run", "--json", *options)) == 0
        printed = capsys.readouterr()
        result = json.loads(printed.out)
        assert result["objects"] == objects
        assert len(result["warnings"]) == len(classes)
        for warning, name in zip(result["warnings"], classes, strict=True):
            assert warning.startswith(f"Class {name!r} has {objects[name]} independent objects in 12 images")
            assert f"gae-augment balance: warning: {warning}\n" in printed.err
        assert printed.err.count("independent objects") == len(classes)


@pytest.mark.parametrize("pattern", ["part(", "part"])
def test_useless_pattern_of_groups_is_refused_before_any_work(tmp_path, no_training, capsys, pattern):
    folder = write_photos(tmp_path / "photos", {"a": 9, "b": 2})
    assert main(command_for(folder, tmp_path / "balanced", "--groups", pattern)) == 1
    assert f"The pattern of groups {pattern!r}" in capsys.readouterr().err
    assert not (tmp_path / "balanced").exists()


def test_images_outside_the_groups_are_told(tmp_path, quick, capsys):
    folder = write_photos(tmp_path / "photos", {"a": 9, "b": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(command_for(folder, tmp_path / "balanced", "--groups", "^a/", "--dry-run")) == 0
    assert "gae-augment balance: warning: The pattern of groups '^a/' does not match 2 of 11" in capsys.readouterr().err


def test_summary_compares_synthetic_with_real_images(tmp_path, quick, monkeypatch, capsys):
    folder = write_photos(tmp_path / "photos", {"a": 9, "b": 4})
    with monkeypatch.context() as patch:
        # Real images are exactly like themselves.
        patch.setattr(selection, "move", lambda image, v: image)
        assert main(command_for(folder, tmp_path / "first")) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == "b: 4 real, 5 synthetic"
        assert lines[2].startswith("  like real: sharpness ")
        assert main(command_for(folder, tmp_path / "second", "--per-class", "16", "--json")) == 0
    result = outcome(capsys)
    for name in "a", "b":
        assert set(result["like real"][name]) == {"sharpness", "brightness", "resolution"}
        assert (result["rejected"][name], result["left out"][name]) == (0, 0)
    # Each of the four images is drawn three times.
    assert result["like real"]["b"] == pytest.approx({"sharpness": 1, "brightness": 1, "resolution": 1})


def test_class_of_poor_images_keeps_its_real_ones_only(tmp_path, quick, monkeypatch, capsys):
    folder, output = write_photos(tmp_path / "photos", {"a": 9, "b": 4}), tmp_path / "balanced"
    monkeypatch.setattr(selection, "move", lambda image, v: image.filter(ImageFilter.GaussianBlur(3)))
    assert main(command_for(folder, output, "--json")) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert contents(output) == contents(folder)
    assert result["classes"]["b"] == {"real": 4, "synthetic": 0}
    assert result["like real"]["b"]["sharpness"] < 0.5
    (warning,) = (line for line in result["warnings"] if "objects" not in line)
    sharpness = result["like real"]["b"]["sharpness"]
    assert warning.startswith(
        f"Class 'b' gets no images, because synthetic ones have {sharpness:.2f} times the sharpness"
    )
    assert f"gae-augment balance: warning: {warning}\n" in printed.err


def test_images_that_are_left_out_are_told(tmp_path, quick, monkeypatch, capsys):
    folder, output = write_photos(tmp_path / "photos", {"a": 9, "b": 4}), tmp_path / "balanced"
    monkeypatch.setattr(selection, "move", lambda image, v: image.point(lambda value: value // 2 + 127))
    monkeypatch.setattr(selection, "POOR", 0.0)
    assert main(command_for(folder, output)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1:3] == ["b: 4 real, 0 synthetic", "  20 rejected, 5 left out"]
    assert "warning: Class 'b' gets 5 images fewer than planned" in printed.err


def test_dry_run_opens_few_of_many_files(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "images"
    for label, number in enumerate([900, 300, 30]):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(number):
            (folder / f"class{label}" / f"{index}.png").hardlink_to(
                write_png(tmp_path / f"{index % 10}.png", index % 10)
            )
    opened = []
    real_open = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: (opened.append(path), real_open(path, *rest))[1])
    monkeypatch.setattr("gae_augment.cli.commands.DRY_RUN_HEADERS", 100)
    assert main(command_for(folder, tmp_path / "balanced", "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["class2"] == {"real": 30, "synthetic": 60}
    # 100 headers, the first image, 100 sizes, 300 images of a class of median size and 100 of all, and a trial.
    assert len(opened) < 700


def write_png(path, seed):
    r"""Writes a small grey image, unless it exists, and returns its path."""
    if not path.exists():
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    return path
