r"""Files of formats 2, which version 0.1 wrote, and 3, and the header of the present format."""

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.files import read_file, write_file
from gae_augment.fitting import upgrade_header
from gae_augment.fitting.saved_plans import plan_from_plain
from gae_augment.models import MODELS, ModelDefinition

FOLDER = Path(__file__).parent / "format2"
SAMPLES = load_file(FOLDER / "samples.safetensors")
NAMES = ["gae", "gmvae", "vade_table"]
LABELS = [1, 2]


def assert_same_samples(samples, expected):
    r"""Compares samples up to rounding, which depends on the processor."""
    assert (samples.shape, samples.dtype) == (expected.shape, expected.dtype)
    difference = (samples.double() - expected.double()).abs()
    assert difference.max() <= (1 if expected.dtype == torch.uint8 else 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_stored_samples_are_those_of_version_0_1(name):
    # Version 0.1 wrote the digests.
    digests = json.loads((FOLDER / "digests.json").read_text())[name]
    for label in LABELS:
        arrays = [SAMPLES[f"{name}.{label}.{call}"].numpy() for call in ("seeded", "first")]
        texts = [f"{array.dtype.str}{array.shape}".encode() + array.tobytes() for array in arrays]
        assert [hashlib.sha256(text).hexdigest()[:16] for text in texts] == digests[str(label)]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("name", NAMES)
def test_files_of_version_0_1_sample_the_same_images(name, label):
    augmenter = GAEAugmenter.load(FOLDER / f"{name}.safetensors")
    assert_same_samples(augmenter.sample(label, 9, seed=1), SAMPLES[f"{name}.{label}.seeded"])
    assert_same_samples(augmenter.sample(label, 4), SAMPLES[f"{name}.{label}.first"])


def test_files_of_version_0_1_keep_their_parameters_and_reports():
    augmenter = GAEAugmenter.load(FOLDER / "vade_table.safetensors")
    expected = GenerativeModel("vade", architecture=(16, 8), latent_dim=4, epochs=8, batch_size=64, n_components=(1, 2))
    assert repr(augmenter.model) == repr(expected)
    assert (augmenter.on_error, augmenter.random_state, augmenter.progress) == ("warn", 0, False)
    assert augmenter.sampling_strategy == {1: 30, 2: 20}
    report = augmenter.report_[1]
    assert (report.images, report.epochs, report.delta, report.n_components, report.retries) == (25, 8, None, 1, 0)
    assert [epoch for epoch, _ in report.curve] == [5, 8]
    assert report.reconstruction_error == pytest.approx(0.19538, abs=1e-5)
    plan = report.plan
    assert (plan.model, plan.shape, plan.architecture, plan.stopping) == ("vade", (64,), (16, 8), "all epochs")
    assert (plan.min_components, plan.max_components, plan.synthesis) == (1, 2, "decoded")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_version_0_1_are_saved_in_the_present_format(name, tmp_path):
    augmenter = GAEAugmenter.load(FOLDER / f"{name}.safetensors")
    augmenter.save(tmp_path / "again")
    header, tensors = read_file(tmp_path / "again")
    old_header, old_tensors = read_file(FOLDER / f"{name}.safetensors")
    assert "generators" in old_header
    assert "generators" not in header
    assert [sorted(model) for _, model in header["models"]] == [["explained", "plan", "report", "values"]] * 2
    assert tensors.keys() == old_tensors.keys()
    assert all(torch.equal(tensors[key], old_tensors[key]) for key in tensors)
    again = GAEAugmenter.load(tmp_path / "again")
    assert repr(again) == repr(augmenter)
    assert again.report_ == augmenter.report_
    for label in LABELS:
        assert torch.equal(again.sample(label, 4, seed=2), augmenter.sample(label, 4, seed=2))


def test_header_of_the_present_format_is_not_changed(fitted, tmp_path):
    fitted.save(tmp_path / "file")
    header, _ = read_file(tmp_path / "file")
    assert upgrade_header(header, {}) == header


def test_headers_of_the_first_files_lack_failures_and_retries():
    header, _ = read_file(FOLDER / "gae.safetensors")
    del header["failures"]
    for _, generator in header["generators"]:
        del generator["report"]["retries"], generator["report"]["curve"], generator["settings"]["device"]
    upgraded = upgrade_header(header, {})
    assert upgraded["failures"] == []
    assert [(model["report"]["retries"], model["report"]["curve"]) for _, model in upgraded["models"]] == [(0, [])] * 2
    assert plan_from_plain(upgraded["models"][0][1]["plan"]).images == 25


@pytest.mark.parametrize("shape", [(3, 64, 64), (48, 48)], ids=str)
def test_large_images_of_version_0_1_have_its_convolutional_network(shape):
    header, _ = read_file(FOLDER / "gae.safetensors")
    for _, generator in header["generators"]:
        generator["shape"] = list(shape)
        generator["settings"]["architecture"] = "auto"
    upgraded = upgrade_header(header, {})
    assert [model["plan"]["architecture"] for _, model in upgraded["models"]] == ["conv"] * 2


def test_custom_definition_of_version_0_1_is_passed_to_load(tmp_path):
    header, tensors = read_file(FOLDER / "gae.safetensors")
    header["parameters"]["model"] = "custom"
    for _, generator in header["generators"]:
        generator["settings"]["model"] = "custom"
    write_file(tmp_path / "file", header, tensors)
    with pytest.raises(ValueError, match=r"custom"):
        GAEAugmenter.load(tmp_path / "file")
    definition = ModelDefinition("custom", MODELS["gae"].objective, early_stopping=True)
    augmenter = GAEAugmenter.load(tmp_path / "file", definition=definition)
    assert augmenter.model.definition is definition
    assert_same_samples(augmenter.sample(1, 9, seed=1), SAMPLES["gae.1.seeded"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["generators"][0][1].pop("settings"), "KeyError: 'settings'"),
        (lambda header: header["generators"][0][1]["settings"].pop("model"), "KeyError: 'model'"),
        (lambda header: header["generators"][0][1]["settings"].update(colour="red"), "argument 'colour'"),
        (lambda header: header["generators"][0][1]["settings"].update(epochs=-1), "'epochs' is -1, but must be"),
        (lambda header: header["generators"][0][1]["settings"].update(starts=0), "'n_init' is 0, but must be"),
        (lambda header: header["generators"][0][1].update(shape=[0, 8]), "a plan has no 'shape' of"),
        (lambda header: header["generators"][0][1]["report"].pop("components"), "KeyError: 'components'"),
        (lambda header: header["generators"][0][1]["report"].update(images=1), "There is 1 image, but"),
        (lambda header: header["generators"][0].pop(), "not enough values"),
        (lambda header: header.update(generators=7), "TypeError"),
        (lambda header: header.pop("parameters"), "KeyError: 'parameters'"),
        (lambda header: header["parameters"].pop("model"), "KeyError: 'model'"),
        (lambda header: header["parameters"].update(colour="red"), "argument 'colour'"),
        (lambda header: header["parameters"].update(components=[3, 1]), "'n_components' is .3, 1., but must be"),
    ],
)
def test_malformed_header_of_version_0_1_is_refused(change, message, tmp_path):
    header, tensors = read_file(FOLDER / "gae.safetensors")
    change(header)
    path = tmp_path / "file"
    write_file(path, header, tensors)
    with pytest.raises(ValueError, match=rf"(?s)'{path}' does not hold a complete augmenter: .*{message}.*Save it"):
        GAEAugmenter.load(path)


# Format 3


def to_format_3(header, tensors):
    r"""Returns a header and tensors as format 3 had them, with 'anchored' and without codes of training images."""
    header = deepcopy(header)
    choice = header["parameters"]["model"]
    for model in [model for _, model in choice] if isinstance(choice, list) else [choice]:
        synthesis, step = model.pop("synthesis"), model.pop("step")
        # True stood for a step of 1.
        model["anchored"] = {"auto": "auto", "decoded": False, "residual": True if step == 1 else step}[synthesis]
    for _, model in header["models"]:
        del model["explained"]
        synthesis, step = model["plan"].pop("synthesis"), model["plan"].pop("step")
        model["plan"]["anchor_step"] = None if synthesis == "decoded" else step
    return header, {name: tensor for name, tensor in tensors.items() if not name.endswith("codes.training")}


def fit_quickly(model, digits):
    return GAEAugmenter(model, random_state=0, progress=False).fit(*digits)


QUICK = {"epochs": 2, "delta": 1000.0, "architecture": (8,)}


@pytest.mark.parametrize(
    "model",
    [
        GenerativeModel(**QUICK),
        GenerativeModel(**QUICK, synthesis="decoded"),
        GenerativeModel(**QUICK, synthesis="decoded", max_similarity=1.0),
        GenerativeModel(**QUICK, synthesis="residual", step=1.0),
        GenerativeModel(**QUICK, synthesis="residual", step=0.5),
        {1: GenerativeModel(**QUICK, synthesis="decoded"), 2: GenerativeModel(**QUICK)},
    ],
    ids=["auto", "decoded", "limited similarity", "step 1", "step 0.5", "models of single classes"],
)
def test_files_of_format_3_sample_the_same_images(model, digits, tmp_path):
    augmenter = fit_quickly(model, digits)
    augmenter.save(tmp_path / "new")
    write_file(tmp_path / "old", *to_format_3(*read_file(tmp_path / "new")))
    loaded = GAEAugmenter.load(tmp_path / "old")
    assert repr(loaded.model) == repr(augmenter.model)
    assert loaded.report_ == augmenter.report_
    for label in LABELS:
        fitted = loaded.models_[label]
        assert (fitted.codes, fitted.explained) == (None, 1.0)
        assert torch.equal(loaded.sample(label, 9, seed=1), augmenter.sample(label, 9, seed=1))
    # It is saved in the present format.
    loaded.save(tmp_path / "again")
    again = GAEAugmenter.load(tmp_path / "again")
    assert again.report_ == augmenter.report_
    assert torch.equal(again.sample(1, 9, seed=1), augmenter.sample(1, 9, seed=1))


def test_file_of_format_3_may_hold_no_fitted_class(digits, tmp_path):
    model = GenerativeModel(**QUICK, synthesis="decoded")
    augmenter = GAEAugmenter(model, sampling_strategy={}, random_state=0, progress=False).fit(*digits)
    augmenter.save(tmp_path / "new")
    header, tensors = read_file(tmp_path / "new")
    assert header["models"] == []
    write_file(tmp_path / "old", *to_format_3(header, tensors))
    assert repr(GAEAugmenter.load(tmp_path / "old").model) == repr(model)


@pytest.mark.parametrize("step", ["auto", 0, -1, 3.1, True, [1.5], float("nan")])
def test_malformed_step_of_format_3_is_refused(step, digits, tmp_path):
    fit_quickly(GenerativeModel(**QUICK), digits).save(tmp_path / "new")
    header, tensors = to_format_3(*read_file(tmp_path / "new"))
    header["models"][0][1]["plan"]["anchor_step"] = step
    write_file(tmp_path / "old", header, tensors)
    with pytest.raises(ValueError, match="does not hold a complete augmenter: ValueError: a plan has no 'step' of"):
        GAEAugmenter.load(tmp_path / "old")


@pytest.mark.parametrize("anchored", ["maybe", 3.5, [1], {"step": 1}])
def test_malformed_anchored_of_format_3_is_refused(anchored, digits, tmp_path):
    fit_quickly(GenerativeModel(**QUICK), digits).save(tmp_path / "new")
    header, tensors = to_format_3(*read_file(tmp_path / "new"))
    header["parameters"]["model"]["anchored"] = anchored
    write_file(tmp_path / "old", header, tensors)
    with pytest.raises(ValueError, match="does not hold a complete augmenter"):
        GAEAugmenter.load(tmp_path / "old")
