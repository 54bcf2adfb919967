import threading
import time

import pytest
import torch

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import fit_model
from gae_augment.fitting.fitted import FittedModel
from gae_augment.synthesis import draw_codes, sample


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 2].copy())


@pytest.fixture
def colour():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8, generator=generator)


def test_chunks_bound_the_images_in_memory(images, monkeypatch):
    monkeypatch.setattr("gae_augment.synthesis.sampling.VALUES_PER_CHUNK", 6 * images[0].numel())
    fitted = fit_model(images, GenerativeModel(epochs=1, synthesis="residual"), seed=0)
    decode, sizes = fitted.network.decode, []
    monkeypatch.setattr(fitted.network, "decode", lambda z: (sizes.append(len(z)), decode(z))[1])
    sample(fitted, 50, seed=0)
    assert max(sizes) <= 6
    assert sum(sizes) > 50


@pytest.mark.parametrize("scale", ["levels", "unit", "standardised"])
def test_residual_sample_at_a_training_code_is_the_training_image(colour, scale):
    images = {"levels": colour, "unit": colour / 255, "standardised": colour.double() - 100}[scale]
    fitted = fit_model(images, GenerativeModel(architecture="fc", epochs=3, synthesis="residual"), seed=0)
    codes = fitted.encode(images)
    fitted.density.sample = lambda n, random: codes[:n]
    torch.testing.assert_close(sample(fitted, 12, seed=0), images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("t", [1, 0.5, 2])
def test_residual_samples_follow_the_formula(colour, t):
    model = GenerativeModel(architecture="fc", epochs=3, synthesis="residual", step=t)
    fitted = fit_model(colour / 255, model, seed=0)
    z = fitted.density.sample(5, make_generator(7, "sample")).float()
    codes = fitted.encode(colour / 255)
    expected = []
    for new_code in z:
        nearest = min(range(12), key=lambda i: (codes[i] - new_code).norm().item())
        reached = codes[nearest] + t * (new_code - codes[nearest])
        new, old = (fitted.decode(code[None])[0] for code in (reached, codes[nearest]))
        expected.append((colour[nearest] / 255 + new - old).clamp(0, 1))
    torch.testing.assert_close(sample(fitted, 5, seed=7), torch.stack(expected))


def test_images_are_residual_and_vectors_are_decoded(colour):
    for images, residual in ((colour, True), (colour[:, :1], True), (colour[:, 0], True), (colour.flatten(1), False)):
        fitted = fit_model(images, GenerativeModel(architecture="fc", epochs=1), seed=0)
        header, tensors = fitted.state_dict()
        assert (fitted.anchors is not None) == ("anchors.images" in tensors) == residual
        assert (fitted.codes is not None) == ("codes.training" in tensors) == residual
        loaded = FittedModel.from_state_dict(header, tensors)
        assert torch.equal(sample(loaded, 3, seed=1), sample(fitted, 3, seed=1))
    decoded = fit_model(colour, GenerativeModel(architecture="fc", epochs=1, synthesis="decoded"), seed=0)
    assert decoded.anchors is None
    assert torch.equal(decoded.codes, decoded.encode(colour))


@pytest.mark.parametrize("definition", ["gae", "vade", "vamp_vae"])
def test_vectors_can_be_residual(colour, definition):
    vectors = colour.flatten(1).double()
    model = GenerativeModel(definition, architecture=(8,), latent_dim=2, epochs=2, n_init=1, synthesis="residual")
    fitted = fit_model(vectors, model, seed=0)
    header, tensors = fitted.state_dict()
    assert torch.equal(tensors["codes.training"], fitted.encode(vectors))
    expected = sample(fitted, 5, seed=1)
    assert torch.equal(sample(FittedModel.from_state_dict(header, tensors), 5, seed=1), expected)
    # Sampling does not change what is saved.
    assert fitted.state_dict()[1].keys() == tensors.keys()


@pytest.mark.parametrize("synthesis", ["decoded", "residual"])
def test_sampling_in_inference_mode_and_of_no_images(synthesis, images, monkeypatch):
    monkeypatch.setattr("gae_augment.synthesis.sampling.IMAGES_PER_CHUNK", 4)
    fitted = fit_model(images, GenerativeModel(epochs=1, synthesis=synthesis), seed=0)
    expected = sample(fitted, 10, seed=0)
    with torch.inference_mode():
        assert torch.equal(sample(fitted, 10, seed=0), expected)
    assert fitted.reconstruct(images[:0]).shape == images[:0].shape


@pytest.mark.parametrize("synthesis", ["decoded", "residual"])
def test_interrupted_sampling_writes_nothing_afterwards(synthesis, images, monkeypatch):
    for module in ("synthesis.sampling", "fitting.fitted"):
        monkeypatch.setattr(f"gae_augment.{module}.IMAGES_PER_CHUNK", 4)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    fitted = fit_model(images, GenerativeModel(epochs=1, synthesis=synthesis), seed=0)
    out = sample(fitted, 8, seed=0)
    before, from_network = out.clone(), type(fitted.values).from_network
    seen, interrupted, done = [], threading.Event(), threading.Event()

    def seeing(values, x):
        seen.append(x)
        return from_network(values, x)

    def slow_or_broken(values, x):
        if torch.equal(x, seen[0]):
            time.sleep(0.2)
            raise MemoryError
        interrupted.wait(10)
        made = from_network(values, x)
        done.set()
        return made

    with monkeypatch.context() as one_after_another:
        one_after_another.setattr("torch.get_num_threads", lambda: 1)
        one_after_another.setattr(type(fitted.values), "from_network", seeing)
        sample(fitted, 8, seed=1)
    monkeypatch.setattr(type(fitted.values), "from_network", slow_or_broken)
    with pytest.raises(MemoryError):
        sample(fitted, 8, seed=1, out=out)
    interrupted.set()
    assert done.wait(10)
    time.sleep(0.1)
    assert torch.equal(out, before)


def test_number_of_images_is_a_positive_integer(images):
    fitted = fit_model(images, GenerativeModel(epochs=1), seed=0)
    for wrong in (0, -1, 2.0, True, "3"):
        with pytest.raises(ValueError, match=f"'n' is {wrong!r}, but must be an integer of at least 1"):
            sample(fitted, wrong, seed=0)


def test_new_codes_keep_within_the_range_of_the_training_codes():
    x = torch.randn(60, 2, generator=make_generator("codes"))
    model = GenerativeModel(architecture=(8,), latent_dim=2, epochs=2, n_init=1)
    fitted = fit_model(x, model, seed=0)
    codes = draw_codes(fitted, 2000, make_generator("draw"))
    low, high = fitted.limits
    assert ((codes >= low) & (codes <= high)).all()
    # Without limits some lie outside.
    fitted.limits = None
    free = draw_codes(fitted, 2000, make_generator("draw"))
    assert ((free < low) | (free > high)).any()
