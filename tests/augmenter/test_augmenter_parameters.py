import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import TensorDataset

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.models import ModelDefinition, Reconstruction

DEFAULTS = {
    "model": "gae",
    "sampling_strategy": "auto",
    "working_size": "auto",
    "on_error": "warn",
    "device": "auto",
    "n_jobs": None,
    "random_state": None,
    "progress": True,
    "cache_dir": None,
}

MODEL_DEFAULTS = {
    "definition": "gae",
    "latent_dim": "auto",
    "architecture": "auto",
    "density": "auto",
    "n_components": "auto",
    "delta": "auto",
    "epochs": "auto",
    "batch_size": "auto",
    "learning_rate": 1e-3,
    "lr_schedule": "cosine",
    "precision": "auto",
    "n_init": "auto",
    "truncated": True,
    "synthesis": "auto",
    "step": "auto",
    "max_similarity": None,
    "n_threads": 1,
}

CUSTOM = ModelDefinition("custom", Reconstruction, early_stopping=True)


def test_defaults():
    assert GAEAugmenter().get_params() == DEFAULTS
    assert GenerativeModel().get_params() == MODEL_DEFAULTS


def test_get_params_lists_the_parameters_of_the_model():
    model = GenerativeModel("vae", latent_dim=3)
    expected = {f"model__{name}": value for name, value in MODEL_DEFAULTS.items()}
    expected |= {"model__definition": "vae", "model__latent_dim": 3}
    assert GAEAugmenter(model).get_params() == DEFAULTS | expected | {"model": model}
    assert GAEAugmenter(model).get_params(deep=False) == DEFAULTS | {"model": model}


def test_repr_shows_changed_parameters():
    augmenter = GAEAugmenter(
        GenerativeModel(delta=0.2, latent_dim=3), sampling_strategy={1: 50}, device="cpu", n_jobs=2
    )
    assert repr(augmenter) == (
        "GAEAugmenter(device='cpu', model=GenerativeModel(delta=0.2, latent_dim=3),\n"
        "             n_jobs=2, sampling_strategy={1: 50})"
    )
    assert "GAEAugmenter" in augmenter._repr_html_()


@pytest.mark.parametrize(
    "model",
    ["vae", GenerativeModel("vae", latent_dim=3), CUSTOM, {1: "vae", 2: GenerativeModel(latent_dim=3)}],
    ids=["name", "model", "definition", "mapping"],
)
def test_clone_has_equal_parameters_of_its_own(model):
    augmenter = GAEAugmenter(model, sampling_strategy={1: 50}, n_jobs=2)
    twin = clone(augmenter)
    assert twin is not augmenter
    # Two models are equal if their representations are.
    assert repr(twin.get_params()) == repr(augmenter.get_params())
    if isinstance(model, GenerativeModel):
        assert twin.model is not model
        twin.set_params(model__latent_dim=8)
        assert model.latent_dim == 3


def test_clone_of_a_fitted_augmenter_is_not_fitted(fitted):
    check_is_fitted(fitted)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(fitted))


# Parameters of the model


@pytest.mark.parametrize(
    ("model", "definition"),
    [("vae", "vae"), (GenerativeModel("vae"), "vae"), (CUSTOM, CUSTOM)],
    ids=["name", "model", "definition"],
)
@pytest.mark.parametrize("copied", [lambda augmenter: augmenter, clone, copy.deepcopy], ids=["itself", "clone", "copy"])
def test_set_params_sets_parameters_of_the_model(model, definition, copied):
    augmenter = copied(GAEAugmenter(model, n_jobs=3))
    assert augmenter.set_params(model__latent_dim=8, model__epochs=9, device="cpu") is augmenter
    assert isinstance(augmenter.model, GenerativeModel)
    assert augmenter.model.get_params() == {
        **MODEL_DEFAULTS,
        "definition": definition,
        "latent_dim": 8,
        "epochs": 9,
    }
    assert (augmenter.n_jobs, augmenter.device) == (3, "cpu")


def test_set_params_sets_a_model_and_its_parameters_together():
    augmenter = GAEAugmenter(GenerativeModel(latent_dim=3)).set_params(model="vae", model__epochs=9)
    assert (augmenter.model.definition, augmenter.model.latent_dim, augmenter.model.epochs) == ("vae", "auto", 9)
    augmenter.set_params(model=GenerativeModel("wae", latent_dim=4), model__epochs=5)
    assert (augmenter.model.definition, augmenter.model.latent_dim, augmenter.model.epochs) == ("wae", 4, 5)
    assert augmenter.set_params(model="gae").model == "gae"


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("gae", {"latent_dim": 8}, r"Invalid parameter 'latent_dim' for estimator GAEAugmenter"),
        ("gae", {"model__width": 8}, r"Invalid parameter 'width' for estimator GenerativeModel"),
        ({1: "vae"}, {"model__epochs": 8}, r"'model' is a mapping, but a parameter such as .* Use set_params\(model="),
    ],
    ids=["not the augmenter's", "unknown", "mapping"],
)
def test_set_params_refuses_unknown_parameters(model, parameters, message):
    augmenter = GAEAugmenter(model)
    with pytest.raises(ValueError, match=message):
        augmenter.set_params(**parameters)
    assert augmenter.get_params(deep=False).keys() == DEFAULTS.keys()


def test_parameter_of_the_model_changes_the_fit_like_a_new_model(digits, make_augmenter):
    changed = clone(make_augmenter()).set_params(model__latent_dim=8).fit(*digits)
    expected = make_augmenter(latent_dim=8).fit(*digits)
    assert changed.report_[1].plan.latent_dim == 8
    assert torch.equal(changed.sample(1, 3, seed=0), expected.sample(1, 3, seed=0))


@pytest.mark.filterwarnings("ignore:The reconstruction error:sklearn.exceptions.ConvergenceWarning")
def test_parameter_grid_over_models_and_their_parameters(digits, make_augmenter):
    base = make_augmenter(delta="auto")
    grid = ParameterGrid({"model__definition": ["gae", "vae"], "model__latent_dim": [2, 3]})
    plans = [clone(base).set_params(**parameters).fit(*digits).report_[1].plan for parameters in grid]
    assert [(plan.model, plan.latent_dim) for plan in plans] == [("gae", 2), ("gae", 3), ("vae", 2), ("vae", 3)]
    assert base.model.latent_dim == "auto"


@pytest.mark.filterwarnings("ignore:The reconstruction error:sklearn.exceptions.ConvergenceWarning")
def test_grid_search_chooses_the_latent_dimension(digits):
    def reconstruction(augmenter, X, y):
        return -sum(report.reconstruction_error for report in augmenter.report_.values())

    X, y = digits
    augmenter = GAEAugmenter("gae", random_state=0, progress=False)
    search = GridSearchCV(
        augmenter,
        {"model__latent_dim": [1, 6], "model__epochs": [60], "model__delta": [1e-9]},
        scoring=reconstruction,
        cv=2,
        error_score="raise",
    )
    search.fit(X, y)
    # More dimensions reconstruct more.
    assert search.best_params_["model__latent_dim"] == 6
    assert {report.plan.latent_dim for report in search.best_estimator_.report_.values()} == {6}
    assert augmenter.model == "gae"


# Refused before any training


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "gan"}, r"'definition' is 'gan', but must be one of 'gae'"),
        ({"sampling_strategy": "most"}, r"is 'most', but must be one of .*'not majority', 'not minority'"),
        ({"sampling_strategy": {2: 1}}, r"Class 2 has 2 .* a total of 1\. The numbers are final totals"),
        ({"sampling_strategy": {9: 5}}, r"\[9\] .* not present in the data\. Its classes are \[0, 1, 2\]"),
        ({"sampling_strategy": 0.5}, r"there are 3 classes\. A ratio is for two classes only\. Use 'auto'"),
        ({"sampling_strategy": [1]}, r"\{label: total"),
        ({"architecture": "conv"}, r"vectors of 16 features\. Use architecture='fc'"),
        ({"density": "kde"}, r"'density' is 'kde', but must be one of 'auto', 'mixture'"),
        ({"epochs": 0}, r"'epochs' is 0, but must be an integer of at least 1"),
        (
            {"working_size": "small"},
            r"'working_size' is 'small', but must be 'auto', an integer of at least 8 .*, or a",
        ),
        ({"working_size": 8}, r"'working_size' is 8, but the data are vectors of 16 features.*Leave it at 'auto'"),
        ({"on_error": "ignore"}, r"'on_error' is 'ignore', but must be 'warn' or 'raise'"),
        ({"device": "abacus"}, r"Use 'auto' or 'cpu'"),
        ({"n_jobs": 0}, r"'n_jobs' is 0, but must be .* None or 1"),
        ({"random_state": "seed"}, r"'random_state' is 'seed', but must be .*Pass an integer"),
    ],
    ids=str,
)
def test_invalid_parameters_are_refused(parameters, message, make_augmenter, no_training):
    X, y = np.random.default_rng(0).random((12, 16)), np.repeat([0, 1, 2], [6, 4, 2])
    augmenter = make_augmenter(**parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        augmenter.fit(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(augmenter)


# scikit-learn


@pytest.mark.parametrize(
    ("estimator", "check"),
    # A list: scikit-learn's parametrize_with_checks passes a generator.
    [
        pytest.param(estimator, check, id=check.func.__name__)
        for estimator, check in estimator_checks_generator(
            GAEAugmenter(GenerativeModel(epochs=2, delta=1000.0, n_init=1), random_state=0, progress=False)
        )
    ],
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_features_are_those_of_the_last_array():
    X, y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 5 % 2
    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=1000.0, n_init=1), random_state=0, progress=False)
    assert augmenter.fit(X, y).n_features_in_ == 4
    augmenter.fit(TensorDataset(torch.rand(30, 1, 4, 4), torch.from_numpy(y)))
    assert not hasattr(augmenter, "n_features_in_")
