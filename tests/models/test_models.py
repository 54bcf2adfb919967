r"""The same tests for every model in MODELS."""

import copy
import inspect
import math
import pickle

import pytest
import torch
from sklearn.base import clone

from gae_augment import MODELS, GAEAugmenter
from gae_augment._utils.seeding import make_generator
from gae_augment.data import ValueScale
from gae_augment.fitting import FittedModel, fit_model, make_plan
from gae_augment.fitting.plan import RESOLUTION
from gae_augment.fitting.training import likelihood_for, train
from gae_augment.models import ModelDefinition, Objective, Reconstruction, resolve_definition
from gae_augment.models.generative_model import GenerativeModel
from gae_augment.models.likelihoods import Bernoulli
from gae_augment.models.networks import build_autoencoder
from gae_augment.models.objectives.reconstruction import RegularisedReconstruction
from gae_augment.synthesis import draw_codes, sample

TEN = ["gae", "vae", "beta_vae", "info_vae", "wae", "vae_gan", "vade", "gmvae", "vamp_vae", "rae_l2"]

# Extreme weights of the regularisers.
EXTREME = [
    (model, argument, weight)
    for model, argument, weights in [
        ("beta_vae", "beta", (0.0, 1e6)),
        ("info_vae", "scale", (1.0, 1e6)),
        ("wae", "scale", (0.0, 1e6)),
        ("vae_gan", "gamma", (0.0, 1.0)),
        ("vade", "pretraining", (0.0, 1.0)),
        ("gmvae", "weight", (0.0, 1e6)),
        ("vamp_vae", "warm_up", (0.0, 1.0)),
        ("rae_l2", "code_weight", (0.0, 1e6)),
        ("rae_l2", "decay", (0.0, 1e6)),
    ]
    for weight in weights
]


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 0].copy())


def fit(definition, images, seed=0, device="auto", **parameters):
    parameters = {"epochs": 3, "batch_size": 16, "latent_dim": 3, **parameters}
    return fit_model(images, GenerativeModel(definition, **parameters), seed=seed, device=device)


def untrained(model, architecture, images):
    r"""Returns the value scale of images, and the untrained network and objective of a model."""
    values = ValueScale.of(images)
    definition = MODELS[model]
    network = build_autoencoder(
        (8, 8), 3, architecture, stochastic=definition.stochastic, generator=make_generator("weights")
    )
    network.fit_normalisation(values.to_network(images), likelihood_for(values))
    return values, network, definition.objective(likelihood_for(values))


def test_the_table_has_ten_models():
    assert list(MODELS) == TEN
    assert all(name == model.name for name, model in MODELS.items())
    with pytest.raises(TypeError):
        MODELS["mine"] = MODELS["gae"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_every_parameter_is_trained(model, architecture, images):
    values, network, objective = untrained(model, architecture, images)
    before = {}
    prepare, advance = objective.prepare, objective.advance

    def prepared(*arguments, **options):
        prepare(*arguments, **options)
        before.update({f"network.{name}": value.clone() for name, value in network.named_parameters()})
        before.update({f"objective.{name}": value.clone() for name, value in objective.named_parameters()})

    def advanced(*arguments):
        advance(*arguments)
        if getattr(objective, "pretrained", False) and not before.get("initialised"):
            # The initialisation of the mixture is not training.
            before.update({f"objective.{name}": value.clone() for name, value in objective.named_parameters()})
            before["initialised"] = torch.ones(())

    objective.prepare, objective.advance = prepared, advanced
    train(
        network, objective, images, values, epochs=8, batch_size=16, learning_rate=1e-2, delta=0.0,
        n_components=2, resolution=RESOLUTION, generator=make_generator("order"),
    )  # fmt: skip
    after = {f"network.{name}": value for name, value in network.named_parameters()}
    after |= {f"objective.{name}": value for name, value in objective.named_parameters()}
    before.pop("initialised", None)
    assert after.keys() == before.keys()
    assert [name for name in after if torch.equal(after[name], before[name])] == []
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_precision_applies_only_to_products_in_layers(model, architecture, images):
    values, network, objective = untrained(model, architecture, images)
    products, losses = [], []
    last = [module for module in network.decoder.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    last.register_forward_hook(lambda module, inputs, output: products.append(output.dtype))
    original = objective.losses

    def recording(*arguments):
        losses.append(original(*arguments))
        return losses[-1]

    objective.losses = recording
    twin = copy.deepcopy(network)
    options = {
        "epochs": 8,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "delta": 0.0,
        "n_components": 2,
        "resolution": RESOLUTION,
    }
    log = train(
        network, objective, images, values, precision=torch.bfloat16, generator=make_generator("order"), **options
    )
    assert set(products) == {torch.bfloat16}
    assert {loss.dtype for step in losses for loss, _ in step} == {torch.float32}
    assert {parameter.dtype for parameter in (*network.parameters(), *objective.parameters())} == {torch.float32}
    assert network.decode(network.encode(values.to_network(images))).dtype == torch.float32

    full = train(
        twin,
        MODELS[model].objective(likelihood_for(values)),
        images,
        values,
        generator=make_generator("order"),
        **options,
    )
    assert log.training_error == pytest.approx(full.training_error, rel=0.1)
    assert log.training_error != full.training_error


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_loss_falls(model, architecture, images, monkeypatch):
    # The first loss is measured early, because the reconstruction error of a VAE-GAN soon goes up and down.
    monkeypatch.setattr("gae_augment.fitting.training.CHECK_CONVOLUTIONAL_EVERY", 5)
    values, network, objective = untrained(model, architecture, images)
    # The loss is compared within the last phase of training, so earlier phases are switched off.
    x = values.to_network(images)
    losses = []

    def record(error):
        with torch.no_grad():
            if model == "vae_gan":
                # A better critic raises the other losses, so only the reconstruction error has to fall.
                losses.append(error)
            else:
                draws = [objective.loss(network, x, make_generator("noise", i)) for i in range(8)]
                losses.append(torch.stack(draws).mean().item())

    for name, off in (("pretraining", 0.0), ("warm_up", 0.0)):
        if hasattr(objective, name):
            setattr(objective, name, off)
    train(
        network, objective, images, values, epochs=50, batch_size=20, learning_rate=2e-3, delta=0.0,
        n_components=2, resolution=RESOLUTION, generator=make_generator("order"), progress=record,
    )  # fmt: skip
    # The critic of a VAE-GAN changes what its decoder is measured by, so its pixel error may rise again.
    assert (min(losses) if model == "vae_gan" else losses[-1]) < losses[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_same_seed_same_images(model, images):
    def samples(fit_seed, seed):
        return sample(fit(model, images, fit_seed), 6, seed=seed)

    assert torch.equal(samples(0, 0), samples(0, 0))
    assert not torch.equal(samples(0, 0), samples(1, 0))
    assert not torch.equal(samples(0, 0), samples(0, 1))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
@pytest.mark.parametrize("kind", ["levels", "unit", "standardised"])
def test_samples_and_reconstructions_have_shape_type_and_range_of_the_data(model, architecture, kind, images):
    data = {"levels": images, "unit": images / 255, "standardised": images.double() * 3 - 100}[kind]
    data = data[:, None].expand(-1, 3, -1, -1)
    fitted = fit(model, data, architecture=architecture, epochs=2)
    for batch in (sample(fitted, 7, seed=0), fitted.reconstruct(data[:7])):
        assert (batch.shape, batch.dtype) == ((7, 3, 8, 8), data.dtype)
        assert data.min() <= batch.min() <= batch.max() <= data.max()
    if kind == "levels":
        assert sample(fitted, 1, seed=0).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("model", MODELS)
def test_samples_of_vectors_vary_within_the_range_of_each_feature(model):
    x = torch.randn(60, 5, generator=make_generator("vectors"), dtype=torch.float64) * torch.tensor([1, 10, 100, 0, 1])
    fitted = fit(model, x, epochs=6)
    samples = sample(fitted, 50, seed=0)
    assert (samples.shape, samples.dtype) == ((50, 5), torch.float64)
    assert (samples >= x.amin(dim=0)).all()
    assert (samples <= x.amax(dim=0)).all()
    assert samples[:, :3].std(dim=0).min() > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_two_images_are_enough(model, architecture, images):
    fitted = fit(model, images[:2], architecture=architecture, epochs=20)
    assert sample(fitted, 5, seed=0).shape == (5, 8, 8)
    assert math.isfinite(fitted.report.reconstruction_error)


@pytest.mark.parametrize("model", MODELS)
def test_last_batch_may_have_one_image(model, images):
    assert sample(fit(model, images[:17], epochs=4), 2, seed=0).shape == (2, 8, 8)


@pytest.mark.parametrize("model", MODELS)
def test_loaded_model_gives_the_same_samples(model, digits, make_augmenter, tmp_path):
    delta = 100.0 if MODELS[model].early_stopping else "auto"
    augmenter = make_augmenter(model=model, delta=delta, n_components=2, latent_dim=2).fit(*digits)
    augmenter.save(tmp_path / "augmenter.safetensors")
    loaded = GAEAugmenter.load(tmp_path / "augmenter.safetensors")
    assert loaded.get_params()["model__definition"] == model
    assert loaded.report_ == augmenter.report_
    for label in augmenter.models_:
        assert torch.equal(loaded.sample(label, 9, seed=4), augmenter.sample(label, 9, seed=4))
        assert loaded.models_[label].density.n_components == augmenter.report_[label].n_components


@pytest.mark.parametrize("model", MODELS)
def test_number_of_components_is_the_one_asked_for(model, images):
    learned = {"vade", "gmvae", "vamp_vae"}
    n_components = fit(model, images.repeat(2, 1, 1), n_components=(2, 2), epochs=4).report.n_components
    assert n_components == (2 if model in {*learned, "gae", "rae_l2"} else 1)


@pytest.mark.parametrize("model", MODELS)
def test_given_density_replaces_the_default(model, images):
    fitted = fit(model, images, density="normal")
    codes = fitted.encode(images).double()
    torch.testing.assert_close(fitted.density.means[0], codes.mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "argument", "weight"), EXTREME)
def test_extreme_weights_give_finite_results(model, argument, weight, images):
    definition = MODELS[model]
    extreme = ModelDefinition(
        "extreme",
        lambda likelihood: definition.objective(likelihood, **{argument: weight}),
        definition.density,
        stochastic=definition.stochastic,
    )
    fitted = fit(extreme, images, epochs=30)
    assert math.isfinite(fitted.report.reconstruction_error)
    assert fitted.density.sample(20, make_generator("codes")).isfinite().all()
    assert fitted.encode(images).isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("model", MODELS)
def test_fit_on_cuda_leaves_the_network_on_the_cpu(model, images):
    fitted = fit(model, images, device="cuda")
    assert sample(fitted, 5, seed=0).shape == (5, 8, 8)
    assert next(fitted.network.parameters()).device.type == "cpu"


class Denoising(Objective):
    def loss(self, network, x, noise):
        noisy = x + 0.1 * torch.randn(x.shape, generator=noise, device=x.device)
        return self.likelihood.negative_log_likelihood(network.decode(network.encode(noisy)), x).mean()


def test_custom_model_is_fitted_saved_and_loaded(digits, make_augmenter, tmp_path):
    definition = ModelDefinition("denoising", Denoising, early_stopping=True)
    augmenter = make_augmenter(model=definition, delta=100.0, n_jobs=2).fit(*digits)
    assert not torch.equal(augmenter.sample(1, 3, seed=0), make_augmenter().fit(*digits).sample(1, 3, seed=0))
    path = tmp_path / "custom.safetensors"
    augmenter.save(path)
    loaded = GAEAugmenter.load(path, definition=definition)
    assert loaded.model.definition == definition
    assert torch.equal(loaded.sample(1, 3, seed=0), augmenter.sample(1, 3, seed=0))
    for definitions in ((), ModelDefinition("unrelated", Denoising)):
        with pytest.raises(ValueError, match=r"with the custom model 'denoising', .* Pass its definition: load\("):
            GAEAugmenter.load(path, definition=definitions)


def test_custom_model_needs_a_new_name():
    with pytest.raises(
        ValueError, match=r"has the name 'vae', which is the name of a model in MODELS\. Choose another name"
    ):
        resolve_definition(ModelDefinition("vae", Reconstruction))
    assert resolve_definition(MODELS["vae"]) is MODELS["vae"]


def test_custom_objective_needs_only_a_loss():
    with pytest.raises(TypeError, match=r"abstract method '?loss'?"):
        Objective(Bernoulli())
    assert set(inspect.signature(Denoising.loss).parameters) == {"self", "network", "x", "noise"}


def test_training_continues_from_the_best_initial_weights(monkeypatch):
    x = torch.randn(50, 2, generator=make_generator("starts"))
    errors, networks, epochs = [], [], []

    def recording(network, *arguments, **options):
        networks.append(network)
        epochs.append(options["epochs"])
        log = train(network, *arguments, **options)
        errors.append(log.errors[-1])
        return log

    monkeypatch.setattr("gae_augment.fitting.fit.train", recording)
    model = GenerativeModel(architecture=(16,), latent_dim=1, epochs=40, batch_size=50, n_init=4)
    fitted = fit_model(x, model, seed=0)
    assert epochs == [5, 5, 5, 5, 20]
    assert len({id(network) for network in networks[:4]}) == 4
    assert fitted.network is networks[4] is networks[errors[:4].index(min(errors[:4]))]
    assert fitted.report.epochs == 40
    assert fitted.plan.n_init == 4
    assert [make_plan(GenerativeModel(), shape, 50).n_init for shape in ((11,), (10,), (1, 8, 8))] == [8, 1, 1]


def test_new_codes_stay_within_the_range_of_training_codes():
    x = torch.randn(400, 2, generator=make_generator("tails"))
    model = GenerativeModel(architecture=(16,), latent_dim=2, epochs=3)
    fitted = fit_model(x, model, seed=0)
    codes = fitted.encode(x).double()

    def outside(z):
        return ((z < codes.amin(dim=0)) | (z > codes.amax(dim=0))).any(dim=1).sum().item()

    assert outside(fitted.density.sample(3000, make_generator(0))) > 0
    assert outside(draw_codes(fitted, 3000, make_generator(0))) == 0
    assert fit_model(x[:40], model, seed=0).limits is not None
    assert fit_model(x[:39], model, seed=0).limits is None
    for changed in ({"truncated": False}, {"density": "standard_normal"}, {"definition": "vae"}):
        assert fit_model(x, clone(model).set_params(**changed), seed=0).limits is None


@pytest.mark.parametrize("model", ["vade", "vamp_vae"])
def test_single_epoch_reaches_the_last_phase(model, images):
    fitted = fit(model, images, epochs=1, n_components=2)
    codes = fitted.encode(images)
    if model == "vade":
        # The mean of the fitted mixture is the mean of the codes.
        mean = (fitted.density.weights @ fitted.density.means).float()
        torch.testing.assert_close(mean, codes.mean(dim=0), rtol=1e-2, atol=1e-2)
    assert sample(fitted, 3, seed=0).shape == (3, 8, 8)


@pytest.mark.parametrize("model", MODELS)
def test_default_type_of_torch_does_not_change_samples(model, images):
    expected = sample(fit(model, images), 4, seed=0)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(sample(fit(model, images), 4, seed=0), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_pickled_definitions_are_recognised():
    definition = pickle.loads(pickle.dumps(MODELS["beta_vae"]))
    assert resolve_definition(definition) is definition
    assert GenerativeModel(definition).resolved_definition.name == "beta_vae"


@pytest.mark.parametrize(
    ("model", "name", "tensor"),
    [
        ("gmvae", "density.network.0.weight", torch.zeros(128, 0)),
        ("gmvae", "density.network.0.weight", torch.zeros(128)),
        ("gmvae", "density.network.2.bias", torch.zeros(7)),
        ("vae", "density.latent_dim", torch.tensor(7)),
        ("gae", "density.means", torch.zeros(1, 7)),
    ],
)
def test_tensors_of_the_wrong_size_are_refused(model, name, tensor, images):
    header, tensors = fit(model, images).state_dict()
    with pytest.raises((ValueError, RuntimeError)):
        FittedModel.from_state_dict(header, {**tensors, name: tensor})


def test_decay_applies_only_to_the_decoder(images):
    x = images.float() / 255
    network = build_autoencoder((8, 8), 3, "fc", generator=make_generator(0))

    def gradients(decay):
        loss = RegularisedReconstruction(Bernoulli(), code_weight=0.0, decay=decay).loss(network, x, torch.Generator())
        return torch.autograd.grad(loss, list(network.parameters()))

    parameters = dict(network.named_parameters())
    for (name, parameter), with_decay, without in zip(parameters.items(), gradients(0.5), gradients(0.0), strict=True):
        expected = parameter.detach() if name.startswith("decoder") else torch.zeros_like(parameter)
        torch.testing.assert_close(with_decay - without, expected, atol=1e-4, rtol=1e-4)
