import numpy as np
import pytest
import torch

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment.data import ValueScale
from gae_augment.fitting import fit_model
from gae_augment.fitting.fit import MEAN_IMAGE_FRACTION
from gae_augment.fitting.fitted import FittedModel
from gae_augment.fitting.plan import HOLD_OUT_FROM
from gae_augment.fitting.training import mean_image_error
from gae_augment.fitting.training import train as train_network
from gae_augment.models import Bernoulli, excess_error
from gae_augment.synthesis import sample

QUICK = GenerativeModel(epochs=2, delta=100.0)


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 2].copy())


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_samples_and_reconstructions_have_shape_and_type_of_the_images(images):
    fitted = fit_model(images, QUICK, seed=0)
    for result in (sample(fitted, 12, seed=0), fitted.reconstruct(images)):
        assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert fitted.encode(images).shape == (12, 10)


def test_images_depend_on_the_seeds_of_fit_and_sampling_alone(images):
    def draw(fit_seed, seed):
        return sample(fit_model(images, QUICK, seed=fit_seed), 4, seed=seed)

    assert torch.equal(draw(0, 0), draw(0, 0))
    assert not torch.equal(draw(0, 0), draw(1, 0))
    assert not torch.equal(draw(0, 0), draw(0, 1))


def test_long_training_reconstructs_the_images(images):
    model = GenerativeModel(epochs=300, delta=0.02, latent_dim=12, batch_size=12)
    fitted = fit_model(images, model, seed=0)
    assert fitted.report.delta_reached
    assert fitted.report.reconstruction_error < 0.02
    mean_image = images.double().mean(dim=0)
    error = (fitted.reconstruct(images).double() - images).square().mean()
    assert error < (images - mean_image).square().mean() / 4
    # The nearest image to a reconstruction is the image itself.
    distances = torch.cdist(fitted.reconstruct(images).flatten(1).float(), images.flatten(1).float())
    assert distances.argmin(dim=1).tolist() == list(range(12))


def test_report_matches_the_fit(images):
    fitted = fit_model(images, QUICK, seed=0)
    x = images.float() / 255
    outputs = fitted.network.decode(fitted.network.encode(x)).detach()
    report = fitted.report
    # Where bfloat16 is fast, the products are rounded to it.
    assert report.reconstruction_error == pytest.approx(excess_error(outputs, x, Bernoulli()).mean().item(), rel=5e-3)
    assert (report.images, report.epochs, report.delta, report.delta_reached) == (12, 2, 100.0, True)
    assert report.n_components == fitted.density.n_components == 1
    assert report.seconds > 0
    assert report.plan == fitted.plan
    assert report.curve == ((2, pytest.approx(report.reconstruction_error)),)


def test_density_is_fitted_to_the_codes(images):
    fitted = fit_model(images, QUICK, seed=0)
    codes = fitted.encode(images).double()
    np.testing.assert_allclose(fitted.density.means[0], codes.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_boundary_of_a_small_class_is_a_fraction_of_the_mean_image_error(images):
    report = fit_model(images, GenerativeModel(epochs=2), seed=0).report
    assert report.delta == pytest.approx(MEAN_IMAGE_FRACTION * mean_image_error(images, ValueScale.of(images)))
    assert report.delta_reached == (report.reconstruction_error < report.delta)


def test_large_class_holds_out_a_tenth(monkeypatch):
    images = torch.rand(HOLD_OUT_FROM, 4, 4, generator=make_generator("large"))
    split = {}

    def train(network, objective, images, values, *, rows, held_out, **options):
        split.update(training=images[rows], held_out=held_out)
        return train_network(network, objective, images, values, rows=rows, held_out=held_out, **options)

    monkeypatch.setattr("gae_augment.fitting.fit.train", train)
    report = fit_model(images, GenerativeModel(epochs=3), seed=0).report
    assert (len(split["training"]), len(split["held_out"])) == (180, 20)
    all_images = torch.cat(list(split.values())).cpu()
    assert torch.equal(all_images.flatten(1).sort(dim=0)[0], images.flatten(1).sort(dim=0)[0])
    assert report.images == 200


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_integers_are_trained_on_in_a_type_that_cuda_indexes(dtype, monkeypatch):
    values = (1000 * torch.rand(20, 4, 4, generator=make_generator("wide"))).round()
    dtypes = []

    def recorded(network, objective, images, *others, **options):
        dtypes.append(images.dtype)
        return train_network(network, objective, images, *others, **options)

    monkeypatch.setattr("gae_augment.fitting.fit.train", recorded)
    fitted = fit_model(values.to(dtype), GenerativeModel(epochs=2, synthesis="residual", step=1), seed=0)
    assert dtypes
    assert not set(dtypes) & {torch.uint16, torch.uint32, torch.uint64}
    assert fitted.anchors.dtype == sample(fitted, 3, seed=0).dtype == dtype
    twin = fit_model(values.to(torch.int64), GenerativeModel(epochs=2, synthesis="residual", step=1), seed=0)
    assert torch.equal(sample(fitted, 3, seed=0).long(), sample(twin, 3, seed=0))


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="There is 1 image, but a model needs at least 2"):
        fit_model(torch.zeros(1, 4, 4), seed=0)


def test_state_gives_the_same_model(images):
    fitted = fit_model(images * 3.7, QUICK, seed=0)
    header, tensors = fitted.state_dict()
    loaded = FittedModel.from_state_dict(header, tensors)
    assert torch.equal(sample(loaded, 5, seed=3), sample(fitted, 5, seed=3))
    assert torch.equal(loaded.reconstruct(images * 3.7), fitted.reconstruct(images * 3.7))
    assert (loaded.report, loaded.plan) == (fitted.report, fitted.plan)
    for wrong in ({}, {**tensors, "what.is": torch.zeros(1)}, dict(list(tensors.items())[1:])):
        with pytest.raises((KeyError, RuntimeError)):
            FittedModel.from_state_dict(header, wrong)


def test_diverged_training_is_retried_with_a_smaller_rate(images):
    fitted = fit_model(images, GenerativeModel(learning_rate=3.0, epochs=30), seed=0)
    assert fitted.report.retries > 0
    assert fitted.plan.learning_rate == pytest.approx(3.0 * 0.1**fitted.report.retries)
    assert fitted.plan.precision == "float32"


def test_training_that_always_diverges_raises(images, monkeypatch):
    def train(*_, **__):
        raise FloatingPointError("Training diverged: a planted fault")

    monkeypatch.setattr("gae_augment.fitting.fit.train", train)
    with pytest.raises(FloatingPointError, match="a planted fault"):
        fit_model(images, QUICK, seed=0)


def test_images_of_another_shape_are_refused(images):
    with pytest.raises(ValueError, match=r"shape \(2, 5, 5\), but the model was fitted to images of shape \(N, 8, 8\)"):
        fit_model(images, QUICK, seed=0).reconstruct(torch.zeros(2, 5, 5, dtype=torch.uint8))
