r"""Motions that models learn, and random draws of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import fit_model
from gae_augment.fitting.fitted import FittedModel
from gae_augment.motion import Motion, MotionBank, learn_bank, learn_motions, learning
from gae_augment.motion.fields import MIN_JACOBIAN, displacement, jacobian


def fit(images, definition="gae", **parameters):
    return fit_model(images, GenerativeModel(definition, epochs=30, **parameters), seed=0)


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 1])


@pytest.fixture(scope="module")
def fitted(images):
    return fit(images)


def random_bank(n=40, scale=0.1):
    return MotionBank({1: (scale * torch.randn(n, 2, 8, 8, generator=make_generator("bank"))).half()})


# Learning


def test_fields_are_small_half_precision_tensors_that_move(fitted):
    fields = learn_motions(fitted, 12, seed=0)
    assert (fields.shape, fields.dtype) == ((12, 2, 8, 8), torch.float16)
    # On an image of 8 pixels, points move by about a pixel at most.
    largest = displacement(fields.float()).abs().amax(dim=(1, 2, 3))
    assert (largest > 0.005).all()
    assert (largest < 0.5).all()


def test_seed_decides_on_the_fields(fitted):
    fields = learn_motions(fitted, 6, seed=0)
    assert torch.equal(learn_motions(fitted, 6, seed=0), fields)
    assert not torch.equal(learn_motions(fitted, 6, seed=1), fields)


def test_number_of_threads_does_not_matter(fitted, monkeypatch):
    monkeypatch.setattr(learning, "PAIRS_PER_CHUNK", 4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = learn_motions(fitted, 10, seed=0)
        torch.set_num_threads(3)
        assert torch.equal(learn_motions(fitted, 10, seed=0), alone)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_models_that_explain_little_move_little(fitted, monkeypatch):
    assert 0.1 < fitted.explained < 1
    monkeypatch.setattr(fitted, "explained", 1.0)
    fields = learn_motions(fitted, 4, seed=0).float()
    monkeypatch.setattr(fitted, "explained", 0.5)
    torch.testing.assert_close(learn_motions(fitted, 4, seed=0).float(), fields / 2, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(fitted, "explained", 0.0)
    assert learn_motions(fitted, 4, seed=0).abs().max() == 0


def test_explained_fraction_is_that_of_the_reconstructions(fitted, images):
    x = images.float() / 255
    residual = (fitted.reconstruct(images).float() / 255 - x).square().sum()
    expected = 1 - residual / (x - x.mean(dim=0)).square().sum()
    # Reconstructions are rounded to levels.
    assert fitted.explained == pytest.approx(expected.item(), abs=0.01)


def test_longer_steps_move_further(fitted, monkeypatch):
    sizes = []
    for step in (0.1, 2.0):
        monkeypatch.setattr(fitted, "plan", replace(fitted.plan, step=step))
        sizes.append(learn_motions(fitted, 6, seed=0).float().square().mean())
    assert sizes[0] < sizes[1] / 4


@pytest.mark.parametrize("definition", ["vae", "vade", "vamp_vae"])
def test_models_with_a_prior_of_their_own_learn_motions(images, definition):
    assert learn_motions(fit(images, definition), 2, seed=0).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 6, 9), (70, 40)], ids=["colour", "larger than registration needs"])
def test_images_of_other_shapes_have_motions(shape):
    images = torch.rand(8, *shape, generator=make_generator("shapes"))
    fitted = fit_model(images, GenerativeModel(epochs=2, architecture=(8,)), seed=0)
    assert learn_motions(fitted, 3, seed=0).shape == (3, 2, 8, 8)


def test_gradients_are_not_needed_by_the_caller(fitted):
    expected = learn_motions(fitted, 3, seed=0)
    with torch.no_grad():
        assert torch.equal(learn_motions(fitted, 3, seed=0), expected)


def test_saved_model_learns_the_same_motions(fitted):
    loaded = FittedModel.from_state_dict(*fitted.state_dict())
    assert torch.equal(learn_motions(loaded, 3, seed=0), learn_motions(fitted, 3, seed=0))


# A bank


def test_bank_has_motions_of_all_models_of_images(fitted, images, monkeypatch):
    monkeypatch.setattr(learning, "MOTIONS_PER_CLASS", 3)
    vectors = images.flatten(1).double()
    models = {
        "image": fitted,
        "vector": fit(vectors, n_init=1),
        "vector with codes": fit(vectors, n_init=1, synthesis="residual"),
        "early file without images": from_early_file(fit(images, synthesis="decoded")),
        "again": fitted,
    }
    learned = learn_bank(models, seed=0)
    assert learned.counts == {"image": 3, "again": 3}
    assert len(learned) == 6
    # Classes with the same model have motions of their own.
    assert not torch.equal(learned.fields[:3], learned.fields[3:])
    assert torch.equal(learn_bank({"image": fitted}, seed=0).fields, learned.fields[:3])


def from_early_file(fitted):
    header, tensors = fitted.state_dict()
    loaded = FittedModel.from_state_dict(header, {name: tensors[name] for name in tensors if name != "codes.training"})
    assert loaded.codes is None
    return loaded


def test_models_of_early_files_learn_the_same_motions(fitted, monkeypatch):
    monkeypatch.setattr(learning, "MOTIONS_PER_CLASS", 3)
    learned = learn_bank({1: from_early_file(fitted)}, seed=0)
    assert torch.equal(learned.fields, learn_bank({1: fitted}, seed=0).fields)


def test_number_of_all_motions_is_limited(fitted, monkeypatch):
    monkeypatch.setattr(learning, "MAX_MOTIONS", 5)
    assert learn_bank({0: fitted, 1: fitted}, seed=0).counts == {0: 2, 1: 2}
    monkeypatch.setattr(learning, "MAX_MOTIONS", 1)
    assert learn_bank({0: fitted, 1: fitted}, seed=0).counts == {0: 1, 1: 1}
    assert len(learn_bank({}, seed=0)) == 0


def test_draws_are_invertible():
    motions = random_bank(scale=0.2)
    v = motions.draw(300, generator=make_generator(0))
    assert (v.shape, v.dtype) == ((300, 2, 8, 8), torch.float32)
    for direction in (v, -v):
        assert (jacobian(displacement(direction)) >= MIN_JACOBIAN).all()
    assert motions.draw(0).shape == (0, 2, 8, 8)


def test_draws_have_the_mean_and_the_covariance_of_the_bank():
    fields = 0.01 * torch.randn(6, 2, 8, 8, generator=make_generator("bank")) + 0.02
    motions = MotionBank({"a": fields[:4].half(), "b": fields[4:].half()})
    stored = motions.fields.double().flatten(1)
    v = motions.draw(20_000, generator=make_generator(0)).double().flatten(1)
    torch.testing.assert_close(v.mean(dim=0), stored.mean(dim=0), rtol=0, atol=5e-4)
    torch.testing.assert_close(v.T.cov(), stored.T.cov(correction=0), rtol=0, atol=1e-5)
    # Each is a combination of the bank's fields.
    assert torch.linalg.matrix_rank(torch.cat([stored, v[:50]]), rtol=1e-4) == 6


def test_strength_multiplies_the_fields():
    motions = random_bank(scale=0.01)
    v = motions.draw(5, generator=make_generator(0))
    torch.testing.assert_close(motions.draw(5, strength=2.5, generator=make_generator(0)), 2.5 * v)


def test_draws_are_repeated_by_a_generator_and_by_the_global_seed():
    motions = random_bank()
    state = torch.get_rng_state()
    first = motions.draw(4, generator=make_generator(1))
    assert torch.equal(motions.draw(4, generator=make_generator(1)), first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    first, second = motions.draw(4), motions.draw(4)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(motions.draw(4), first)


class Moved(Dataset):
    def __init__(self):
        self.motion = Motion(random_bank(4000), p=1.0)
        self.image = torch.rand(1, 8, 8, generator=make_generator("image"))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.motion(self.image)


def test_workers_of_a_loader_draw_different_motions():
    def epoch():
        torch.manual_seed(5)
        return torch.cat(list(DataLoader(Moved(), batch_size=2, num_workers=2)))

    moved = epoch()
    assert moved.flatten(1).unique(dim=0).shape[0] == 8
    assert torch.equal(epoch(), moved)


@pytest.mark.parametrize(
    "fields",
    [
        torch.zeros(3, 2, 8, 8),
        torch.zeros(3, 2, 8, 7, dtype=torch.float16),
        torch.zeros(2, 8, 8, dtype=torch.float16),
        torch.full((3, 2, 8, 8), float("nan"), dtype=torch.float16),
        torch.full((3, 2, 8, 8), float("inf"), dtype=torch.float16),
    ],
    ids=["float32", "another size", "one field", "nan", "infinite"],
)
def test_fields_must_be_finite_half_precision_tensors(fields):
    with pytest.raises(ValueError, match=r"The fields of class 1 have shape .* but must have shape \(n, 2, 8, 8\)"):
        MotionBank({1: fields})


@pytest.mark.parametrize("n", [1, 5, 128, 129, 600])
def test_draws_have_the_mean_and_the_covariance_of_the_fields(n):
    r"""Fields with ten degrees of freedom, fewer and more than the 128 values of a field."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(10, 128, generator=generator)
    fields = (0.004 * torch.randn(n, 10, generator=generator) @ basis + 0.01).view(n, 2, 8, 8).half()
    bank = MotionBank({"a": fields[: n // 2], "b": fields[n // 2 :]})
    drawn = bank.draw(20_000, generator=generator).flatten(1).double().numpy()
    expected = fields.double().flatten(1).numpy()
    covariance = np.cov(expected.T, bias=True)
    np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * covariance.max() + 1e-9)
