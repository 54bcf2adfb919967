import math

import numpy as np
import pytest
import torch
from sklearn.base import clone

from gae_augment import MODELS, GenerativeModel
from gae_augment.fitting import make_plan
from gae_augment.fitting import plan as plan_module
from gae_augment.fitting.saved_plans import plan_from_plain
from gae_augment.models import ModelDefinition, Reconstruction


def test_600_steps_by_default():
    assert make_plan(GenerativeModel(delta=1e-9, batch_size=10), (2, 2), 40).epochs == 150
    # The steps of an epoch are those of the images that are not held out.
    held_out = make_plan(GenerativeModel(batch_size=10), (2, 2), 400)
    assert (held_out.held_out, held_out.epochs) == (40, 17)


def test_printed_plan_tells_how_many_components_the_images_support():
    plan = make_plan(GenerativeModel(n_components=500), (2, 2), 30)
    assert "max_components:     500 (at most 1 with 30 images)\n" in str(plan)
    assert "max_components:     3\n" in str(make_plan(GenerativeModel(n_components=3), (2, 2), 90))


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 28, 28), 10), ((3, 32, 32), 32), ((4,), 4), ((2, 2), 4), ((1024,), 10)], ids=str
)
def test_latent_dimension_depends_on_the_shape(shape, expected):
    assert make_plan(GenerativeModel(), shape, 10).latent_dim == expected
    assert make_plan(GenerativeModel(latent_dim=3), shape, 10).latent_dim == 3


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 32, 32), "fc"), ((3, 32, 32), "conv_half"), ((1024,), "fc"), ((5000,), "fc")], ids=str
)
def test_architecture_depends_on_the_shape(shape, expected):
    assert make_plan(GenerativeModel(), shape, 10).architecture == expected
    assert make_plan(GenerativeModel(architecture="paper"), shape, 10).architecture == "paper"


def test_codes_are_truncated_only_where_a_fitted_density_has_enough_of_them():
    assert make_plan(GenerativeModel(latent_dim=2), (8, 8), 40).truncated
    assert not make_plan(GenerativeModel(latent_dim=2), (8, 8), 39).truncated
    assert not make_plan(GenerativeModel(latent_dim=2, truncated=False), (8, 8), 40).truncated
    assert not make_plan(GenerativeModel("vae", latent_dim=2), (8, 8), 40).truncated
    assert not make_plan(GenerativeModel("vade", latent_dim=2), (8, 8), 40).truncated
    assert make_plan(GenerativeModel("vade", latent_dim=2, density="mixture"), (8, 8), 40).truncated


@pytest.mark.parametrize(
    ("model", "shape", "images", "stopping"),
    [
        (GenerativeModel(), (8, 8), 199, "mean image"),
        (GenerativeModel(), (8, 8), 200, "held-out"),
        (GenerativeModel(), (64,), 199, "plateau"),
        (GenerativeModel(), (64,), 200, "held-out"),
        (GenerativeModel(delta=0.1), (8, 8), 500, "delta"),
        (GenerativeModel("vae"), (8, 8), 500, "all epochs"),
    ],
)
def test_stopping_rule(model, shape, images, stopping):
    plan = make_plan(model, shape, images)
    assert plan.stopping == stopping
    assert plan.held_out == (images // 10 if stopping == "held-out" else 0)


def test_vectors_have_several_initialisations_that_share_half_of_the_epochs():
    plan = make_plan(GenerativeModel(epochs=160), (30,), 100)
    assert (plan.n_init, plan.trial_epochs) == (8, 10)
    # No trial, where a code has as many dimensions as a vector, and for images.
    assert make_plan(GenerativeModel(), (10,), 100).n_init == make_plan(GenerativeModel(), (8, 8), 100).n_init == 1


@pytest.mark.parametrize(
    ("parameters", "images", "expected"),
    [
        ({}, 100, 64),
        ({}, 1000, 64),
        ({"architecture": "conv"}, 199, 16),
        ({"architecture": "conv"}, 200, 32),
        ({"architecture": "conv_half"}, 100, 16),
        ({"batch_size": 7}, 100, 7),
    ],
)
def test_convolutional_networks_have_smaller_batches(parameters, images, expected):
    plan = make_plan(GenerativeModel(**parameters), (8, 8), images)
    assert plan.batch_size == expected
    # At least 600 steps, or three quarters of them for small classes of large images.
    steps = 450 if images < 200 and "architecture" in parameters else 600
    assert plan.epochs == math.ceil(steps / math.ceil((images - plan.held_out) / expected))


def test_only_fits_that_stop_at_the_mean_images_error_have_fewer_steps():
    epochs = [make_plan(GenerativeModel(model, architecture="conv", delta=delta), (8, 8), 100).epochs
              for model, delta in (("gae", "auto"), ("gae", 0.1), ("vae", "auto"))]  # fmt: skip
    assert epochs == [65, 86, 86]


@pytest.mark.parametrize(
    ("fast", "device", "shape", "parameters", "precision"),
    [
        (True, "cpu", (28, 28), {}, "bfloat16"),
        (False, "cpu", (28, 28), {}, "float32"),
        (True, "cpu", (28, 28), {"architecture": "conv"}, "bfloat16"),
        (True, "cuda", (28, 28), {"architecture": "conv"}, "bfloat16"),
        (True, "cpu", (3, 64, 64), {}, "bfloat16"),
        (True, "cpu", (30,), {}, "float32"),
        (True, "cpu", (28, 28), {"precision": "float32"}, "float32"),
        (False, "cpu", (30,), {"precision": "bfloat16"}, "bfloat16"),
    ],
)
def test_precision_is_the_faster_one_that_suits(fast, device, shape, parameters, precision, monkeypatch):
    monkeypatch.setattr(plan_module, "multiplies_bfloat16_fast", lambda device: fast)
    assert make_plan(GenerativeModel(**parameters), shape, 10, torch.device(device)).precision == precision


@pytest.mark.parametrize(
    ("parameters", "shape", "synthesis", "step"),
    [
        ({}, (8, 8), "residual", 1.5),
        ({}, (3, 8, 8), "residual", 1.5),
        ({}, (64,), "decoded", 1.5),
        ({"step": 1}, (8, 8), "residual", 1.0),
        ({"synthesis": "decoded"}, (8, 8), "decoded", 1.5),
        ({"synthesis": "deformed", "step": 3}, (8, 8), "deformed", 3.0),
        ({"synthesis": "residual", "step": 0.5}, (64,), "residual", 0.5),
    ],
)
def test_synthesis_and_step(parameters, shape, synthesis, step):
    plan = make_plan(GenerativeModel(**parameters), shape, 10)
    assert (plan.synthesis, plan.step) == (synthesis, step)
    assert type(plan.step) is float


@pytest.mark.parametrize("synthesis", ["decoded", "residual", "deformed"])
def test_training_images_are_kept_only_where_sampling_needs_them(synthesis):
    model = GenerativeModel(synthesis=synthesis)
    assert make_plan(model, (8, 8), 10).keeps_images == (synthesis != "decoded")
    if synthesis != "deformed":
        assert make_plan(model.set_params(max_similarity=0.9), (8, 8), 10).keeps_images


@pytest.mark.parametrize("definition", MODELS)
def test_no_plan_has_anything_left_open(definition):
    for shape in ((64,), (8, 8), (3, 64, 64)):
        plan = make_plan(GenerativeModel(definition), shape, 50)
        assert "auto" not in vars(plan).values()


def test_printed_plan_has_one_value_per_line():
    plan = make_plan(GenerativeModel(epochs=7), (8, 8), 50)
    lines = str(plan).splitlines()
    assert len(lines) == len(vars(plan))
    assert [line.split() for line in lines if line.startswith("epochs")] == [["epochs:", "7"]]


def test_numbers_of_every_kind_become_plain_ones():
    model = GenerativeModel(epochs=np.int64(3), learning_rate=np.float32(0.5), delta=1).validated()
    assert (model.epochs, model.learning_rate, model.delta) == (3, 0.5, 1.0)
    assert (type(model.epochs), type(model.learning_rate), type(model.delta)) == (int, float, float)


def test_plain_values_give_the_plan_again():
    plan = make_plan(GenerativeModel(architecture=(16, 8), max_similarity=0.9), (1, 8, 8), 50)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(plan).items()}
    assert plan_from_plain(plain) == plan


def test_a_model_is_cloned_and_searched_over():
    model = GenerativeModel(ModelDefinition("mine", Reconstruction, early_stopping=True), latent_dim=3)
    assert clone(model).set_params(latent_dim=4).get_params()["latent_dim"] == 4
    assert model.latent_dim == 3
    assert clone(model).validated().resolved_definition.name == "mine"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"definition": "gan"}, r"'definition' is 'gan', but must be one of 'gae'"),
        (
            {"architecture": "resnet"},
            r"'architecture' is 'resnet', but must be one of 'auto', 'conv', 'conv_half', 'fc', 'paper', or a tuple",
        ),
        ({"density": "uniform"}, r"'density' is 'uniform', but must be .* 'mixture', 'normal', 'standard_normal'"),
        ({"latent_dim": 0}, r"'latent_dim' is 0, but must be an integer of at least 1"),
        ({"n_components": "many"}, r"'n_components' is 'many', but must be an integer of at least 1"),
        ({"n_components": (5, 2)}, r"'n_components' is \(5, 2\), but must be a maximum, or \(minimum, maximum\)"),
        ({"n_components": (5,)}, r"'n_components' is \(5,\)"),
        ({"architecture": (10, 0)}, r"'architecture' is \(10, 0\), but must be .* or a tuple of widths"),
        ({"lr_schedule": "linear"}, r"'lr_schedule' is 'linear', but must be one of 'cosine', 'constant'"),
        ({"precision": "float16"}, r"'precision' is 'float16', but must be one of 'auto', 'float32', 'bfloat16'"),
        ({"n_init": 0}, r"'n_init' is 0, but must be an integer of at least 1"),
        ({"n_threads": 0}, r"'n_threads' is 0, but must be an integer of at least 1"),
        ({"n_threads": "auto"}, r"'n_threads' is 'auto', but must be an integer"),
        ({"definition": "vae", "delta": 0.1}, r"'delta' is 0\.1, but 'vae' has no early stopping .* at 'auto'"),
        ({"epochs": 2.5}, r"'epochs' is 2\.5, but must be an integer of at least 1"),
        ({"epochs": True}, r"'epochs' is True"),
        ({"batch_size": -4}, r"'batch_size' is -4"),
        ({"delta": 0}, r"'delta' is 0, but must be a number above 0"),
        ({"delta": float("nan")}, r"'delta' is nan"),
        ({"learning_rate": "auto"}, r"'learning_rate' is 'auto', but must be a number above 0"),
        ({"learning_rate": float("inf")}, r"'learning_rate' is inf"),
        ({"truncated": "yes"}, r"'truncated' is 'yes', but must be True or False"),
        ({"synthesis": "anchored"}, r"'synthesis' is 'anchored', .* 'auto', 'decoded', 'residual', 'deformed'"),
        ({"synthesis": None}, r"'synthesis' is None, but must be one of"),
        ({"synthesis": True}, r"'synthesis' is True, but must be one of"),
        ({"step": "far"}, r"'step' is 'far', but must be 'auto', or a number above 0 and at most 3"),
        ({"step": 3.5}, r"'step' is 3\.5, but must be 'auto', or a number above 0 and at most 3"),
        ({"step": 0}, r"'step' is 0, but must be"),
        ({"step": True}, r"'step' is True"),
        ({"step": None}, r"'step' is None"),
        ({"step": float("nan")}, r"'step' is nan"),
        ({"max_similarity": 1.5}, r"'max_similarity' is 1\.5, but must be None, or a number above 0 and at most 1"),
    ],
)
def test_other_values_are_refused(parameters, message):
    model = GenerativeModel(**parameters)
    with pytest.raises(ValueError, match=message):
        model.validated()
    with pytest.raises(ValueError, match=message):
        make_plan(model, (8, 8), 10)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"architecture": "conv"}, "'architecture' is 'conv', but the data are vectors of 64 features"),
        ({"max_similarity": 0.9}, "'max_similarity' compares images, but the data are vectors of 64 features"),
        ({"synthesis": "deformed"}, "'synthesis' is 'deformed', but the data are vectors of 64 features"),
    ],
)
def test_vectors_have_no_parameters_of_images(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_plan(GenerativeModel(**parameters), (64,), 10)
