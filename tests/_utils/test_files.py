import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.files import FORMAT_VERSION, read_file, write_file
from gae_augment.report import write_report


@pytest.fixture
def path(tmp_path):
    return tmp_path / "augmenter.safetensors"


def same_images(first, second, labels=(1, 2)):
    return all(torch.equal(first.sample(label, 4, seed=0), second.sample(label, 4, seed=0)) for label in labels)


@pytest.mark.parametrize("kind", ["levels", "unit", "standardised", "int64", "vectors", "colour"])
def test_loaded_augmenter_samples_the_same_images(kind, digits, make_augmenter, path):
    X = {
        "levels": digits[0],
        "unit": digits[0] / 255,
        "standardised": digits[0] / 64 - 1,
        "int64": digits[0].astype(np.int64) * 100,
        "vectors": digits[0].reshape(77, 64),
        "colour": np.repeat(digits[0][:, None], 3, axis=1),
    }[kind]
    augmenter = make_augmenter(architecture="conv" if kind == "colour" else "auto").fit(X, digits[1])
    augmenter.save(path)
    loaded = GAEAugmenter.load(path)
    assert same_images(loaded, augmenter)
    # The first sample without a seed is the same after a load as after the fit.
    assert torch.equal(loaded.sample(1, 3), augmenter.sample(1, 3))
    assert repr(loaded.get_params()) == repr(augmenter.get_params())
    for name in ("counts_", "class_names_", "sampling_strategy_", "seed_", "report_"):
        assert getattr(loaded, name) == getattr(augmenter, name)
    np.testing.assert_array_equal(loaded.classes_, augmenter.classes_)
    np.testing.assert_array_equal(loaded.fit_resample(X, digits[1])[0], augmenter.fit_resample(X, digits[1])[0])


def test_loaded_augmenter_can_be_saved_again(fitted, path, tmp_path):
    fitted.save(path)
    GAEAugmenter.load(path).save(tmp_path / "again")
    (header, tensors), (again, tensors_again) = read_file(path), read_file(tmp_path / "again")
    assert again == header
    assert tensors.keys() == tensors_again.keys()
    assert all(torch.equal(tensors[name], tensors_again[name]) for name in tensors)


@pytest.mark.parametrize("strategy", [{2: 30}, lambda y: {2: 30}], ids=["mapping", "function"])
def test_final_totals_are_saved(strategy, digits, make_augmenter, path):
    augmenter = make_augmenter(sampling_strategy=strategy).fit(*digits)
    augmenter.save(path)
    loaded = GAEAugmenter.load(path)
    assert loaded.sampling_strategy == {2: 30}
    assert loaded.sampling_strategy_ == augmenter.sampling_strategy_ == {2: 18}
    assert same_images(loaded, augmenter, labels=(2,))


@pytest.mark.parametrize("strategy", ["not minority", 0.9])
def test_named_strategies_and_ratios_are_saved(strategy, digits, make_augmenter, path):
    two = digits[1] < 2
    augmenter = make_augmenter(sampling_strategy=strategy).fit(digits[0][two], digits[1][two])
    augmenter.save(path)
    assert GAEAugmenter.load(path).sampling_strategy == strategy


def test_labels_may_be_strings(digits, make_augmenter, path):
    augmenter = make_augmenter().fit(digits[0], np.array(["a", "b", "c"])[digits[1]])
    augmenter.save(path)
    assert same_images(GAEAugmenter.load(path), augmenter, labels=("b", "c"))


def test_numpy_and_torch_parameters_are_saved_as_plain_values(digits, make_augmenter, path):
    augmenter = make_augmenter(
        n_components=np.int64(3),
        delta=np.float32(50),
        device=torch.device("cpu"),
        n_jobs=np.int64(1),
        random_state=None,
    ).fit(*digits)
    augmenter.save(path)
    loaded = GAEAugmenter.load(path)
    assert (loaded.model.n_components, loaded.model.delta, loaded.device, loaded.n_jobs) == (3, 50.0, "cpu", 1)
    assert loaded.random_state == augmenter.seed_
    assert same_images(loaded, augmenter)


def test_models_of_single_classes_are_saved(digits, path):
    models = {
        1: GenerativeModel("vade", epochs=2, n_components=(1, 2), architecture=(8,)),
        2: GenerativeModel(epochs=2, delta=100.0),
    }
    augmenter = GAEAugmenter(models, random_state=0, progress=False, on_error="raise").fit(*digits)
    augmenter.save(path)
    plain = read_file(path)[0]["parameters"]["model"]
    assert [(label, model["definition"]) for label, model in plain] == [(1, "vade"), (2, "gae")]
    loaded = GAEAugmenter.load(path)
    assert repr(loaded.model) == repr(augmenter.model)
    assert loaded.on_error == "raise"
    assert same_images(loaded, augmenter)


def test_missing_device_becomes_auto(fitted, path):
    fitted.save(path)
    header, tensors = read_file(path)
    header["parameters"]["device"] = "cuda:77"
    for _, model in header["models"]:
        model["plan"]["device"] = "cuda:77"
    write_file(path, header, tensors)
    loaded = GAEAugmenter.load(path)
    assert loaded.device == "auto"
    assert same_images(loaded, fitted)


def test_file_is_safetensors_with_a_json_header(fitted, path):
    fitted.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"]["format"] == "gae-augment"
    content = json.loads(header["__metadata__"]["header"])
    assert content["counts"] == [[0, 40], [1, 25], [2, 12]]
    assert content["parameters"]["model"]["definition"] == "gae"
    assert [(label, sorted(model)) for label, model in content["models"]] == [
        (label, ["explained", "plan", "report", "values"]) for label in (1, 2)
    ]
    assert content["models"][0][1]["plan"] == json.loads(json.dumps(asdict(fitted.models_[1].plan)))
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
    assert {name.split(".")[1] for name in names} == {"network", "density", "anchors", "codes"}


def test_augmenters_of_decoded_images_save_no_training_images(digits, make_augmenter, path):
    make_augmenter(synthesis="decoded").fit(*digits).save(path)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
    assert {name.split(".")[1] for name in names} == {"network", "density", "codes"}


def test_models_with_a_shared_value_scale_are_saved(digits, make_augmenter, path):
    augmenter = make_augmenter().fit(digits[0] / 64 - 1, digits[1])
    augmenter.save(path)
    _, tensors = read_file(path)
    assert torch.equal(tensors["0.values.mean"], tensors["1.values.mean"])


def test_saved_files_have_default_permissions(fitted, path):
    fitted.save(path)
    (path.parent / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "plain").stat().st_mode)


def test_path_may_be_a_string(fitted, path):
    fitted.save(str(path))
    assert same_images(GAEAugmenter.load(str(path)), fitted)


# Files that cannot be loaded


@pytest.mark.parametrize("fraction", [0.0, 1e-5, 0.3, 0.999])
def test_truncated_file_is_refused(fitted, path, fraction):
    fitted.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(
        ValueError, match=rf"'{path}' is truncated, damaged, or not a file of gae-augment.*Save it again"
    ):
        GAEAugmenter.load(path)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04" * 100, b"{}", b"\x80\x04" + b"\xff" * 50], ids=["zip", "JSON", "pickle"]
)
def test_files_of_other_formats_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated, damaged, or not a file of gae-augment"):
        GAEAugmenter.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_other_programs_are_refused(path, metadata):
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(ValueError, match=r"safetensors file, but not one of gae-augment\. Load a file of GAEAug"):
        GAEAugmenter.load(path)


def test_later_version_is_refused_with_the_command_to_update(path):
    save_file({"weight": torch.zeros(3)}, path, {"format": "gae-augment", "version": "5", "header": "{}"})
    assert FORMAT_VERSION == 4
    with pytest.raises(
        ValueError,
        match=r"has version 5 of the file format.* up to version 4\. Update it: pip install --upgrade gae-augment",
    ):
        GAEAugmenter.load(path)


def test_version_that_is_not_a_number_is_refused(path):
    save_file({"weight": torch.zeros(3)}, path, {"format": "gae-augment", "version": "new", "header": "{}"})
    with pytest.raises(ValueError, match="truncated, damaged, or not a file of gae-augment"):
        GAEAugmenter.load(path)


def test_missing_file_is_reported(path):
    with pytest.raises(FileNotFoundError, match=rf"There is no file '{path}' to load\. 'save' writes one"):
        GAEAugmenter.load(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        GAEAugmenter.load(path.parent)


@pytest.mark.parametrize(
    "damage",
    [
        lambda header, tensors: header.pop("counts"),
        lambda header, tensors: header.pop("models"),
        lambda header, tensors: header["parameters"].update(colour="red"),
        lambda header, tensors: header["parameters"]["model"].update(colour="red"),
        lambda header, tensors: header["parameters"]["model"].update(epochs=-1),
        lambda header, tensors: header["parameters"]["model"].pop("definition"),
        lambda header, tensors: header["models"][0][1]["plan"].update(epochs=-1),
        lambda header, tensors: header["models"][0][1]["plan"].update(colour="red"),
        lambda header, tensors: header["models"][0][1]["plan"].pop("epochs"),
        lambda header, tensors: header["models"][0][1]["values"].update(dtype="float7"),
        lambda header, tensors: header["models"][0][1]["report"].pop("curve"),
        lambda header, tensors: header["models"][0].pop(),
        lambda header, tensors: header["models"].append([7, header["models"][0][1]]),
        lambda header, tensors: header.update(models=7),
        lambda header, tensors: tensors.pop("0.density.means"),
        lambda header, tensors: tensors.pop("1.network.encoder.1.bias"),
        lambda header, tensors: tensors.update({"0.network.encoder.1.bias": torch.zeros(3)}),
    ],
)
def test_file_with_an_incomplete_augmenter_is_refused(fitted, path, damage):
    fitted.save(path)
    header, tensors = read_file(path)
    damage(header, tensors)
    write_file(path, header, tensors)
    with pytest.raises(ValueError, match=rf"(?s)'{path}' does not hold a complete augmenter: .*\. Save it again"):
        GAEAugmenter.load(path)


# Files that cannot be written


def test_saving_needs_an_existing_folder(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"A file needs an existing, writable folder with enough free space"):
        fitted.save(tmp_path / "missing" / "augmenter")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="A file needs an existing, writable folder") as caught:
        fitted.save(tmp_path / "file" / "augmenter")
    assert caught.value.filename == str(tmp_path / "file" / "augmenter")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write to every folder")
def test_saving_needs_a_writable_folder(fitted, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="existing, writable folder"):
            fitted.save(tmp_path / "augmenter")
    finally:
        tmp_path.chmod(0o700)


def test_folder_is_not_replaced_by_a_file(fitted, path):
    path.mkdir()
    with pytest.raises(FileExistsError, match="not a regular file and is not overwritten"):
        fitted.save(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interrupted", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_write_keeps_the_old_file(fitted, path, monkeypatch, interrupted, error):
    path.write_bytes(b"the old file")

    def interrupt(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(interrupted, interrupt)
        with pytest.raises((KeyboardInterrupt, OSError)):
            fitted.save(path)
    assert path.read_bytes() == b"the old file"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_saving_replaces_the_old_file(fitted, path):
    path.write_bytes(b"the old file")
    fitted.save(path)
    assert same_images(GAEAugmenter.load(path), fitted)
    assert [Path(entry) for entry in path.parent.iterdir()] == [path]


def test_header_must_hold_plain_values(path):
    with pytest.raises(TypeError, match=r"<object .* is a object, but the header of a file can hold plain values only"):
        write_file(path, {"value": object()}, {})
    assert not path.exists()


def test_non_contiguous_tensors_are_saved(path):
    tensor = torch.arange(6.0).view(2, 3).mT
    write_file(path, {"a": 1}, {"x": tensor})
    header, tensors = read_file(path)
    assert header == {"a": 1}
    assert torch.equal(tensors["x"], tensor)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipe_is_not_replaced_by_a_file(fitted, tmp_path, digits):
    # The same holds for a device such as /dev/null, which an administrator could replace.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="not a regular file and is not overwritten; choose another path"):
        fitted.save(pipe)
    with pytest.raises(FileExistsError, match="not a regular file and is not overwritten"):
        write_report(fitted, digits, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]
