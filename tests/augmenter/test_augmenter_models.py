import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.files import read_file
from gae_augment.fitting import make_plan
from gae_augment.models import ModelDefinition, Objective, Reconstruction

VAE = GenerativeModel("vae", latent_dim=3, epochs=2)
GAE = GenerativeModel(latent_dim=4, epochs=2, delta=100.0)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    r"""Shortens the trainings with ``epochs="auto"``."""
    monkeypatch.setattr("gae_augment.fitting.plan.STEPS", 20)


def build(model, **parameters):
    return GAEAugmenter(model, **{"random_state": 0, "progress": False, **parameters})


def assert_same_images(augmenter, expected, labels=(1, 2)):
    for label in labels:
        assert torch.equal(augmenter.sample(label, 3, seed=0), expected.sample(label, 3, seed=0))


# A name, a model with hyper-parameters, or a definition


def test_name_means_the_model_with_its_defaults(digits):
    with_name, with_model = build("vae").fit(*digits), build(GenerativeModel("vae")).fit(*digits)
    assert {report.plan.model for report in with_name.report_.values()} == {"vae"}
    assert_same_images(with_name, with_model)


def test_fit_changes_no_model(digits):
    model = GenerativeModel("vae", epochs=2)
    before = repr(model.get_params())
    augmenter = build(model).fit(*digits)
    assert augmenter.model is model
    assert repr(model.get_params()) == before


# Classes with models of their own


def test_mapping_gives_classes_models_of_their_own(digits):
    augmenter = build({1: VAE, 2: GAE}).fit(*digits)
    plans = {label: report.plan for label, report in augmenter.report_.items()}
    assert {label: (plan.model, plan.latent_dim) for label, plan in plans.items()} == {1: ("vae", 3), 2: ("gae", 4)}
    assert [fitted.definition.name for fitted in augmenter.models_.values()] == ["vae", "gae"]
    # Each class gets the images that its model gives when it is the model of all classes.
    assert_same_images(augmenter, build(VAE).fit(*digits), [1])
    assert_same_images(augmenter, build(GAE).fit(*digits), [2])


@pytest.mark.filterwarnings("ignore:The reconstruction error:sklearn.exceptions.ConvergenceWarning")
def test_classes_outside_the_mapping_get_gae(digits):
    augmenter = build({1: "vae"}).fit(*digits)
    assert [report.plan.model for report in augmenter.report_.values()] == ["vae", "gae"]
    assert augmenter.report_[2].plan == build("gae").fit(*digits).report_[2].plan
    assert_same_images(augmenter, build("gae").fit(*digits), [2])


def test_mapping_may_name_a_class_that_needs_no_images(digits):
    augmenter = build({0: "vae", 1: VAE, 2: GAE}).fit(*digits)
    assert list(augmenter.models_) == [1, 2]


def test_mapping_of_string_labels(digits, tmp_path):
    X, y = digits[0], np.array(["nought", "one", "two"])[digits[1]]
    augmenter = build({"one": VAE, "two": GAE}).fit(X, y)
    augmenter.save(tmp_path / "file")
    loaded = GAEAugmenter.load(tmp_path / "file")
    assert {label: report.plan.model for label, report in loaded.report_.items()} == {"one": "vae", "two": "gae"}
    assert_same_images(loaded, augmenter, ["one", "two"])


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({1: VAE, 7: "vae"}, ValueError, r"'model' maps the labels \[7\], but .* classes are \[0, 1, 2\]"),
        ({"1": "vae"}, ValueError, r"'model' maps the labels \['1'\]"),
        ({1: "gan"}, ValueError, r"'model' is 'gan', but must be one of 'gae'"),
        ({1: 3}, TypeError, r"'model' is 3, but must be a name, one of 'gae', .* or a GenerativeModel"),
        ({1: None}, TypeError, r"'model' is None, but must be a name"),
        ({1: {2: "vae"}}, TypeError, r"'model' is \{2: 'vae'\}, but must be a name"),
        ({1: GenerativeModel}, TypeError, r"'model' is <class .*GenerativeModel'>, but must be"),
        ({2: GenerativeModel(epochs=0)}, ValueError, r"'epochs' is 0, but must be an integer"),
        (None, TypeError, r"'model' is None, but must be a name"),
        (["gae", "vae"], TypeError, r"'model' is \['gae', 'vae'\], but must be .* or a mapping from labels"),
    ],
    ids=str,
)
def test_unknown_labels_and_other_objects_are_refused(model, error, message, digits, no_training):
    augmenter = build(model)
    with pytest.raises(error, match=message):
        augmenter.fit(*digits)
    with pytest.raises(NotFittedError):
        check_is_fitted(augmenter)


def test_models_that_do_not_suit_the_data_are_refused_before_any_training(no_training):
    X, y = np.random.default_rng(0).random((30, 16)), np.repeat([0, 1, 2], [15, 10, 5])
    with pytest.raises(ValueError, match=r"'architecture' is 'conv', but the data are vectors of 16 features"):
        build({2: GenerativeModel(architecture="conv")}).fit(X, y)


# Files


@pytest.mark.parametrize(
    "model",
    ["vae", VAE, {1: VAE, 2: GAE}, {np.int64(1): VAE, np.int64(2): GAE}],
    ids=["name", "model", "mapping", "mapping of NumPy labels"],
)
def test_loaded_augmenter_has_the_models_and_fits_the_same(model, digits, tmp_path):
    augmenter = build(model).fit(*digits)
    augmenter.save(tmp_path / "file")
    loaded = GAEAugmenter.load(tmp_path / "file")
    assert repr(loaded.get_params(deep=False)["model"]) == repr(
        {int(label): choice for label, choice in model.items()} if isinstance(model, dict) else model
    )
    assert loaded.report_ == augmenter.report_
    assert_same_images(loaded, augmenter)
    assert_same_images(clone(loaded).fit(*digits), augmenter)


class Denoising(Objective):
    def loss(self, network, x, noise):
        noisy = x + 0.1 * torch.randn(x.shape, generator=noise, device=x.device)
        return self.likelihood.negative_log_likelihood(network.decode(network.encode(noisy)), x).mean()


DENOISING = ModelDefinition("denoising", Denoising, early_stopping=True)
PLAIN = ModelDefinition("plain", Reconstruction, density="normal")


def test_two_custom_definitions_are_saved_and_loaded(digits, tmp_path):
    model = {1: GenerativeModel(DENOISING, epochs=2, delta=100.0), 2: GenerativeModel(PLAIN, epochs=2)}
    augmenter = build(model, n_jobs=2).fit(*digits)
    assert [report.plan.model for report in augmenter.report_.values()] == ["denoising", "plain"]
    path = tmp_path / "file"
    augmenter.save(path)
    loaded = GAEAugmenter.load(path, definition=[PLAIN, DENOISING])
    assert [fitted.definition for fitted in loaded.models_.values()] == [DENOISING, PLAIN]
    assert [choice.definition for choice in loaded.model.values()] == [DENOISING, PLAIN]
    assert_same_images(loaded, augmenter)
    assert_same_images(clone(loaded).fit(*digits), augmenter)
    for missing, definitions in {"denoising": PLAIN, "plain": [DENOISING]}.items():
        with pytest.raises(ValueError, match=rf"custom model '{missing}', .* Pass its definition: load\("):
            GAEAugmenter.load(path, definition=definitions)
    unused = ModelDefinition("unused", Denoising)
    with pytest.raises(ValueError, match=r"'definition' has 'unused', but '.*' has no such model"):
        GAEAugmenter.load(path, definition=[PLAIN, DENOISING, unused])


def test_two_custom_definitions_of_one_name_are_refused(digits, no_training):
    twin = ModelDefinition("denoising", Reconstruction)
    with pytest.raises(
        ValueError, match=r"two different definitions with the name 'denoising'\. Give each a unique name"
    ):
        build({1: GenerativeModel(DENOISING), 2: GenerativeModel(twin)}).fit(*digits)


def test_copies_of_a_definition_are_the_same_definition(digits):
    model = GenerativeModel(ModelDefinition("regularised", partial(Reconstruction)), epochs=2)
    # Copies of partial functions are not equal.
    copies = {label: pickle.loads(pickle.dumps(model)) for label in (1, 2)}
    assert copies[1].definition != copies[2].definition
    assert_same_images(build(copies).fit(*digits), build(model).fit(*digits))


def test_definition_is_a_model_too(digits, tmp_path):
    augmenter = build(PLAIN).fit(*digits)
    augmenter.save(tmp_path / "file")
    assert augmenter.report_[1].plan.model == "plain"
    loaded = GAEAugmenter.load(tmp_path / "file", definition=PLAIN)
    assert loaded.model.definition == PLAIN
    assert_same_images(loaded, augmenter)


# The plan in the report


@pytest.mark.filterwarnings("ignore:The reconstruction error:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("vectors", [False, True], ids=["images", "vectors"])
@pytest.mark.parametrize("model", ["gae", "vae", VAE, GAE], ids=["gae", "vae", "changed vae", "changed gae"])
def test_plan_is_complete_and_is_that_of_the_fit(model, vectors, digits, tmp_path):
    X, y = digits
    X = X.reshape(len(X), -1) if vectors else X
    augmenter = build(model).fit(X, y)
    generative_model = GenerativeModel(model) if isinstance(model, str) else model
    for label, fitted in augmenter.models_.items():
        report = augmenter.report_[label]
        plan = report.plan
        assert plan is fitted.plan
        assert "auto" not in vars(plan).values()
        assert plan == make_plan(generative_model, X.shape[1:], int((y == label).sum()))
        images = torch.from_numpy(X[y == label])
        assert fitted.encode(images).shape == (plan.images, plan.latent_dim)
        assert fitted.density.latent_dim == plan.latent_dim
        assert plan.min_components <= fitted.density.n_components <= plan.max_components
        assert report.epochs <= plan.epochs
        if plan.stopping == "all epochs":
            assert report.epochs == plan.epochs
        assert (fitted.anchors is not None) == plan.keeps_images == (not vectors)
    augmenter.save(tmp_path / "file")
    loaded = GAEAugmenter.load(tmp_path / "file")
    assert {label: report.plan for label, report in loaded.report_.items()} == {
        label: report.plan for label, report in augmenter.report_.items()
    }


def test_printed_plan_shows_every_choice(digits, capsys):
    print(build(GAE).fit(*digits).report_[1].plan)
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines if not line.endswith(":"))
    expected = {
        "model:": "gae",
        "images:": "25",
        "latent_dim:": "4",
        "architecture:": "fc",
        "density:": "mixture",
        "stopping:": "delta (stops when the error of training images is below delta)",
        "delta:": "100.0",
        "epochs:": "2",
        "batch_size:": "64",
        "n_init:": "1",
        "synthesis:": "residual",
        "step:": "1.5",
    }
    assert shown.items() >= expected.items()
    assert "auto" not in shown.values()


def test_file_lists_the_plan(digits, tmp_path):
    augmenter = build(GAE).fit(*digits)
    augmenter.save(tmp_path / "file")
    header, _ = read_file(tmp_path / "file")
    assert "auto" not in str(header["models"])
