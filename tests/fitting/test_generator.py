import dataclasses
import threading
import time

import numpy as np
import pytest
import torch

import gae_augment.models.generative_model
from gae_augment._utils.seeding import make_generator
from gae_augment.data.values import ValueScale
from gae_augment.fitting.generator import HOLD_OUT_FROM, PART_OF_SPREAD, Generator
from gae_augment.fitting.training import mean_image_error
from gae_augment.fitting.training import train as train_network
from gae_augment.models.generative_model import GenerativeModel
from gae_augment.models.likelihoods import Bernoulli
from gae_augment.models.objectives import excess_error

QUICK = GenerativeModel(epochs=2, delta=100.0)


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 2].copy())


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_samples_and_reconstructions_have_the_form_of_the_images(images):
    generator = fit_model(images, QUICK, seed=0)
    for made in (generator.sample(12, seed=0), generator.reconstruct(images)):
        assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert generator.encode(images).shape == (12, 10)


def test_one_seed_for_everything(images):
    def sample(fit_seed, seed):
        return fit_model(images, QUICK, seed=fit_seed).sample(4, seed=seed)

    assert torch.equal(sample(0, 0), sample(0, 0))
    assert not torch.equal(sample(0, 0), sample(1, 0))
    assert not torch.equal(sample(0, 0), sample(0, 1))


def test_trained_long_enough_it_gives_its_images_back(images):
    settings = GenerativeModel(epochs=300, delta=0.02, latent_dim=12, batch_size=12)
    generator = fit_model(images, settings, seed=0)
    assert generator.report.delta_reached
    assert generator.report.reconstruction_error < 0.02
    mean_image = images.double().mean(dim=0)
    error = (generator.reconstruct(images).double() - images).square().mean()
    assert error < (images - mean_image).square().mean() / 4
    # The nearest image to a reconstruction is the image itself.
    distances = torch.cdist(generator.reconstruct(images).flatten(1).float(), images.flatten(1).float())
    assert distances.argmin(dim=1).tolist() == list(range(12))


def test_no_more_images_pass_together_than_memory_is_for(images, monkeypatch):
    monkeypatch.setattr("gae_augment.fitting.generator.VALUES_AT_ONCE", 6 * images[0].numel())
    generator = fit_model(images, GenerativeModel(epochs=1, anchored=True), seed=0)
    decode, sizes = generator.network.decode, []
    monkeypatch.setattr(generator.network, "decode", lambda z: (sizes.append(len(z)), decode(z))[1])
    generator.sample(50, seed=0)
    assert max(sizes) <= 6
    assert sum(sizes) > 50


def test_report_is_of_what_was_done(images):
    generator = fit_model(images, QUICK, seed=0)
    x = images.float() / 255
    outputs = generator.network.decode(generator.network.encode(x)).detach()
    report = generator.report
    # Where bfloat16 is fast, the products are rounded to it.
    assert report.reconstruction_error == pytest.approx(excess_error(outputs, x, Bernoulli()).mean().item(), rel=5e-3)
    assert (report.images, report.epochs, report.delta, report.delta_reached) == (12, 2, 100.0, True)
    assert report.components == generator.density.n_components == 1
    assert report.seconds > 0
    assert report.curve == ((2, pytest.approx(report.reconstruction_error)),)


def test_density_is_fitted_to_the_codes(images):
    generator = fit_model(images, QUICK, seed=0)
    codes = generator.encode(images).double()
    np.testing.assert_allclose(generator.density.means[0], codes.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_small_class_has_a_boundary_that_is_a_part_of_its_spread(images):
    report = fit_model(images, GenerativeModel(epochs=2), seed=0).report
    assert report.delta == pytest.approx(PART_OF_SPREAD * mean_image_error(images, ValueScale.of(images)))
    assert report.delta_reached == (report.reconstruction_error < report.delta)


def test_large_class_holds_a_tenth_out(monkeypatch):
    images = torch.rand(HOLD_OUT_FROM, 4, 4, generator=make_generator("large"))
    seen = {}

    def train(network, objective, images, values, *, rows, held_out, **options):
        seen.update(training=images[rows], held_out=held_out)
        return train_network(network, objective, images, values, rows=rows, held_out=held_out, **options)

    monkeypatch.setattr("gae_augment.fitting.generator.train", train)
    report = fit_model(images, GenerativeModel(epochs=3), seed=0).report
    assert (len(seen["training"]), len(seen["held_out"])) == (180, 20)
    seen_images = torch.cat(list(seen.values())).cpu()
    assert torch.equal(seen_images.flatten(1).sort(dim=0)[0], images.flatten(1).sort(dim=0)[0])
    assert report.images == 200


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_integers_are_trained_on_in_a_type_that_cuda_indexes(dtype, monkeypatch):
    values = (1000 * torch.rand(20, 4, 4, generator=make_generator("wide"))).round()
    seen = []

    def noted(network, objective, images, *others, **options):
        seen.append(images.dtype)
        return train_network(network, objective, images, *others, **options)

    monkeypatch.setattr("gae_augment.fitting.generator.train", noted)
    generator = fit_model(values.to(dtype), GenerativeModel(epochs=2, anchored=1), seed=0)
    assert seen
    assert not set(seen) & {torch.uint16, torch.uint32, torch.uint64}
    assert generator.anchors.dtype == generator.sample(3, seed=0).dtype == dtype
    twin = fit_model(values.to(torch.int64), GenerativeModel(epochs=2, anchored=1), seed=0)
    assert torch.equal(generator.sample(3, seed=0).long(), twin.sample(3, seed=0))


def test_epochs_provide_for_600_steps():
    images = torch.rand(40, 2, 2, generator=make_generator("steps"))
    report = fit_model(images, GenerativeModel(delta=1e-9, batch_size=10), seed=0).report
    assert report.epochs == 150


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 28, 28), 10), ((3, 32, 32), 32), ((4,), 4), ((2, 2), 4), ((1024,), 10)], ids=str
)
def test_latent_dimension(shape, expected):
    assert GenerativeModel().latent_dim_for(shape) == expected
    assert GenerativeModel(latent_dim=3).latent_dim_for(shape) == 3


def test_too_few_images():
    with pytest.raises(ValueError, match="at least 2 images, and there are 1"):
        fit_model(torch.zeros(1, 4, 4), seed=0)


def test_state_makes_the_same_generator(images):
    generator = fit_model(images * 3.7, QUICK, seed=0)
    header, tensors = generator.state_dict()
    other = Generator.from_state_dict(header, tensors)
    assert torch.equal(other.sample(5, seed=3), generator.sample(5, seed=3))
    assert torch.equal(other.reconstruct(images * 3.7), generator.reconstruct(images * 3.7))
    assert (other.report, other.settings) == (generator.report, generator.settings)
    for wrong in ({}, {**tensors, "what.is": torch.zeros(1)}, dict(list(tensors.items())[1:])):
        with pytest.raises((KeyError, RuntimeError)):
            Generator.from_state_dict(header, wrong)


def test_settings_take_numbers_of_every_kind():
    settings = GenerativeModel(epochs=np.int64(3), learning_rate=np.float32(0.5), delta=1, device=torch.device("cpu"))
    assert dataclasses.asdict(settings) == dataclasses.asdict(
        GenerativeModel(epochs=3, learning_rate=0.5, delta=1.0, device="cpu")
    )
    assert (type(settings.epochs), type(settings.delta), type(settings.device)) == (int, float, str)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"model": "gan"}, r"'model' is 'gan', but must be one of 'gae'"),
        (
            {"architecture": "resnet"},
            r"'architecture' is 'resnet', but must be one of 'auto', 'conv', 'fc', 'paper', or a tuple of widths",
        ),
        ({"density": "uniform"}, r"'auto', 'mixture', 'normal', 'standard_normal', and it is 'uniform'"),
        ({"latent_dim": 0}, r"'latent_dim' is an integer of at least 1, and it is 0"),
        ({"components": "many"}, r"'components' is an integer of at least 1, and it is 'many'"),
        ({"components": (5, 2)}, r"'components' is the most components, or the least and the most, .* it is \(5, 2\)"),
        ({"components": (5,)}, r"it is \(5,\)"),
        ({"architecture": (10, 0)}, r"'architecture' is \(10, 0\), but must be .* or a tuple of widths"),
        ({"schedule": "linear"}, r"'schedule' is one of 'cosine', 'constant', and it is 'linear'"),
        ({"precision": "float16"}, r"'precision' is one of 'auto', 'float32', 'bfloat16', and it is 'float16'"),
        ({"starts": 0}, r"'starts' is an integer of at least 1, and it is 0"),
        ({"n_threads": 0}, r"'n_threads' is an integer of at least 1, and it is 0"),
        ({"n_threads": "auto"}, r"'n_threads' is an integer of at least 1, and it is 'auto'"),
        ({"model": "vae", "delta": 0.1}, r"'vae' trains for all its epochs; it is 0\.1\. Leave it at 'auto'"),
        ({"epochs": 2.5}, r"'epochs' is an integer of at least 1, and it is 2\.5"),
        ({"epochs": True}, r"and it is True"),
        ({"batch_size": -4}, r"'batch_size' .* it is -4"),
        ({"delta": 0}, r"'delta' is a number above 0, and it is 0"),
        ({"delta": float("nan")}, r"it is nan"),
        ({"learning_rate": "auto"}, r"'learning_rate' is a number above 0, and it is 'auto'"),
        ({"learning_rate": float("inf")}, r"it is inf"),
        ({"device": "abacus"}, r"'device' is one that torch can use here, and it is 'abacus'\. Use 'auto' or 'cpu'"),
        ({"device": "cuda:77"}, r"it is 'cuda:77'"),
        ({"device": None}, r"it is None"),
    ],
)
def test_other_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        GenerativeModel(**setting)


@pytest.mark.parametrize(
    ("fast", "device", "shape", "settings", "precision"),
    [
        (True, "cpu", (28, 28), {}, torch.bfloat16),
        (False, "cpu", (28, 28), {}, torch.float32),
        (True, "cpu", (28, 28), {"architecture": "conv"}, torch.float32),
        (True, "cuda", (28, 28), {"architecture": "conv"}, torch.bfloat16),
        (True, "cpu", (3, 64, 64), {}, torch.float32),
        (True, "cpu", (30,), {}, torch.float32),
        (True, "cpu", (28, 28), {"precision": "float32"}, torch.float32),
        (False, "cpu", (30,), {"precision": "bfloat16"}, torch.bfloat16),
    ],
)
def test_precision_is_the_faster_one_that_suits(fast, device, shape, settings, precision, monkeypatch):
    monkeypatch.setattr(gae_augment.models.generative_model, "multiplies_bfloat16_fast", lambda device: fast)
    assert GenerativeModel(**settings).precision_for(shape, torch.device(device)) == precision


@pytest.fixture
def colour():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("scale", ["levels", "unit", "standardised"])
def test_an_anchored_image_at_the_code_of_a_training_image_is_that_image(colour, scale):
    images = {"levels": colour, "unit": colour / 255, "standardised": colour.double() - 100}[scale]
    generator = fit_model(images, GenerativeModel(architecture="fc", epochs=3, anchored=True), seed=0)
    codes = generator.encode(images)
    generator.density.sample = lambda n, random: codes[:n]
    torch.testing.assert_close(generator.sample(12, seed=0), images, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("anchored", "t"), [(True, 1), (0.5, 0.5), (2, 2)])
def test_anchored_images_are_the_formula(colour, anchored, t):
    generator = fit_model(colour / 255, GenerativeModel(architecture="fc", epochs=3, anchored=anchored), seed=0)
    z = generator.density.sample(5, make_generator(7, "sample")).float()
    codes = generator.encode(colour / 255)
    expected = []
    for code in z:
        nearest = min(range(12), key=lambda i: (codes[i] - code).norm().item())
        reached = codes[nearest] + t * (code - codes[nearest])
        new, old = (generator.decode(some[None])[0] for some in (reached, codes[nearest]))
        expected.append((colour[nearest] / 255 + new - old).clamp(0, 1))
    torch.testing.assert_close(generator.sample(5, seed=7), torch.stack(expected))


def test_images_are_anchored_and_vectors_are_not(colour):
    for images, anchored in ((colour, True), (colour[:, :1], True), (colour[:, 0], True), (colour.flatten(1), False)):
        generator = fit_model(images, GenerativeModel(architecture="fc", epochs=1), seed=0)
        header, tensors = generator.state_dict()
        assert (generator.anchors is not None) == ("anchors.images" in tensors) == anchored
        again = Generator.from_state_dict(header, tensors)
        assert torch.equal(again.sample(3, seed=1), generator.sample(3, seed=1))
    assert fit_model(colour, GenerativeModel(architecture="fc", epochs=1, anchored=False), seed=0).anchors is None


@pytest.mark.parametrize("wrong", ["maybe", -0.5, 3.5, float("nan"), None])
def test_anchored_is_true_false_auto_or_how_far(wrong):
    with pytest.raises(ValueError, match=f"number above 0 and at most 3, and it is {wrong!r}"):
        GenerativeModel(anchored=wrong)


@pytest.mark.parametrize("anchored", [False, True])
def test_sampling_in_inference_mode_and_of_no_images(anchored, images, monkeypatch):
    monkeypatch.setattr("gae_augment.fitting.generator.DECODED_AT_ONCE", 4)
    generator = fit_model(images, GenerativeModel(epochs=1, anchored=anchored), seed=0)
    expected = generator.sample(10, seed=0)
    with torch.inference_mode():
        assert torch.equal(generator.sample(10, seed=0), expected)
    assert generator.reconstruct(images[:0]).shape == images[:0].shape


@pytest.mark.parametrize("anchored", [False, True])
def test_what_a_sampling_that_is_broken_off_still_makes_is_written_nowhere(anchored, images, monkeypatch):
    monkeypatch.setattr("gae_augment.fitting.generator.DECODED_AT_ONCE", 4)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    generator = fit_model(images, GenerativeModel(epochs=1, anchored=anchored), seed=0)
    out = generator.sample(8, seed=0)
    before, from_values = out.clone(), type(generator.values).from_values
    seen, broken_off, done = [], threading.Event(), threading.Event()

    def seeing(values, x):
        seen.append(x)
        return from_values(values, x)

    def slow_or_broken(values, x):
        if torch.equal(x, seen[0]):
            time.sleep(0.2)
            raise MemoryError
        broken_off.wait(10)
        made = from_values(values, x)
        done.set()
        return made

    with monkeypatch.context() as one_after_another:
        one_after_another.setattr("torch.get_num_threads", lambda: 1)
        one_after_another.setattr(type(generator.values), "from_values", seeing)
        generator.sample(8, seed=1)
    monkeypatch.setattr(type(generator.values), "from_values", slow_or_broken)
    with pytest.raises(MemoryError):
        generator.sample(8, seed=1, out=out)
    broken_off.set()
    assert done.wait(10)
    time.sleep(0.1)
    assert torch.equal(out, before)
