r"""Registration, beside planted maps."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from gae_augment._utils.seeding import make_generator
from gae_augment.motion.fields import MIN_JACOBIAN, NODES, displacement, jacobian, move_images
from gae_augment.motion.registration import register


@pytest.fixture(scope="module")
def digits():
    r"""Eight real digits, with shape (8, 1, 32, 32)."""
    images = torch.from_numpy(load_digits().images[:8] / 16).float()[:, None]
    return functional.interpolate(images, 32, mode="bicubic", align_corners=False).clamp(0, 1)


def planted_fields(n, scale=0.1):
    coarse = scale * torch.randn(n, 2, 3, 3, generator=make_generator("planted"))
    return functional.interpolate(coarse, NODES, mode="bicubic", align_corners=True)


def difference(moved, fixed):
    return (moved - fixed).square().mean(dim=(1, 2, 3))


def test_planted_maps_of_digits_are_found(digits):
    planted = displacement(planted_fields(8))
    fixed = move_images(digits, planted)
    found = displacement(register(digits, fixed))
    before, after = difference(digits, fixed), difference(move_images(digits, found), fixed)
    assert (after < before / 5).all()
    assert after.sum() < before.sum() / 15
    # Where the images have edges, the maps are alike too.
    edges = digits.diff(dim=2)[..., 1:].abs() + digits.diff(dim=3)[:, :, 1:].abs()
    weights = functional.interpolate(edges, planted.shape[-2:], mode="bilinear")
    error, size = ((weights * (u).square()).sum() for u in (found - planted, planted))
    assert error < size / 4


def test_pairs_do_not_interact(digits):
    fixed = move_images(digits[:2], displacement(planted_fields(2)))
    together = register(digits[:2], fixed)
    for place in range(2):
        alone = register(digits[place : place + 1], fixed[place : place + 1])
        torch.testing.assert_close(together[place : place + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 0.0), (0.5, 0.0), (1.0, -0.3), (0.6, 0.3), (2.0, 0.1)])
def test_brightness_and_contrast_are_no_motion(digits, contrast, brightness):
    v = register(digits, contrast * digits + brightness)
    # A tenth of a pixel of 32.
    assert displacement(v).abs().max() < 0.1 * 2 / 32


def test_blank_images_do_not_move(digits):
    blank = torch.full_like(digits, 0.3)
    assert register(blank, blank).abs().max() == 0
    assert register(digits, blank).isfinite().all()
    assert register(blank, digits).isfinite().all()


def test_maps_between_different_digits_are_invertible(digits):
    v = register(digits, digits.roll(1, dims=0), smoothness=0.01)
    for direction in (v, -v):
        assert (jacobian(displacement(direction)) >= MIN_JACOBIAN).all()


def test_smoothness_makes_fields_smaller(digits):
    fixed = digits.roll(1, dims=0)
    sizes = [register(digits, fixed, smoothness=weight).square().mean().item() for weight in (0.1, 1.0, 10.0)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 20), (3, 5, 64)], ids=str)
def test_images_of_any_shape_are_registered(shape):
    moving, fixed = torch.rand(2, 2, *shape, generator=make_generator("shapes"))
    v = register(moving, fixed)
    assert (v.shape, v.dtype, v.requires_grad) == ((2, 2, NODES, NODES), torch.float32, False)
    assert difference(move_images(moving, displacement(v)), fixed).sum() < difference(moving, fixed).sum()


def test_gradients_are_needed_by_registration_alone(digits):
    fixed = digits.flip(0)
    expected = register(digits, fixed)
    with torch.no_grad():
        assert np.array_equal(register(digits, fixed), expected)
    assert torch.is_grad_enabled()
