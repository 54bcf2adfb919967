r"""Maps of velocity fields, beside translations, matrix exponentials and derivatives."""

import pytest
import torch

from gae_augment._utils.seeding import make_generator
from gae_augment.motion import fields
from gae_augment.motion.fields import (
    MAP_NODES,
    MIN_JACOBIAN,
    NODES,
    SHRINKAGE,
    displacement,
    invertible,
    jacobian,
    move_images,
    move_points,
    roughness,
)

NODE_POINTS = torch.linspace(-1, 1, NODES, dtype=torch.float64)


def random_fields(n, scale, seed="fields"):
    return scale * torch.randn(n, 2, NODES, NODES, generator=make_generator(seed), dtype=torch.float64)


def smooth_fields(n, scale):
    r"""Fields without noise from node to node, as registration gives them."""
    coarse = scale * torch.randn(n, 2, 3, 3, generator=make_generator("smooth"), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, NODES, mode="bicubic", align_corners=True)


def linear_field(matrix):
    r"""The field v(p) = A p, whose coefficients are its values at the nodes."""
    y, x = torch.meshgrid(NODE_POINTS, NODE_POINTS, indexing="ij")
    return torch.einsum("ij,jhw->ihw", matrix, torch.stack([x, y]))[None]


def random_points(n, limit, seed="points"):
    return limit * (2 * torch.rand(1, n, 2, generator=make_generator(seed), dtype=torch.float64) - 1)


def noise(*shape):
    return torch.rand(*shape, generator=make_generator("noise"), dtype=torch.float64)


def jacobian_at(points, u):
    r"""Returns the Jacobian determinants of the bilinear map at points, by automatic differentiation."""
    points = points.clone().requires_grad_()
    moved = move_points(points, u)
    rows = [torch.autograd.grad(moved[..., axis].sum(), points, retain_graph=True)[0] for axis in (0, 1)]
    return torch.linalg.det(torch.stack(rows, dim=-2))


# Maps


@pytest.mark.parametrize("pixels", [(2, 0), (0, -3), (5, 4)])
def test_constant_field_is_a_translation(pixels):
    height, width = 24, 40
    dx, dy = pixels
    v = torch.tensor([2 * dx / width, 2 * dy / height], dtype=torch.float64)[:, None, None].expand(1, 2, NODES, NODES)
    torch.testing.assert_close(displacement(v), v[..., :1, :1].expand(1, 2, MAP_NODES, MAP_NODES))
    images = noise(1, 3, height, width)
    moved = move_images(images, displacement(v))
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(moved[inside], images.roll((-dy, -dx), dims=(-2, -1))[inside])


def test_translation_by_half_a_pixel_interpolates_neighbours():
    images = noise(1, 1, 16, 16)
    u = torch.zeros(1, 2, MAP_NODES, MAP_NODES, dtype=torch.float64)
    u[:, 0] = 1 / 16
    linear = (images[..., :-1] + images[..., 1:]) / 2
    torch.testing.assert_close(move_images(images, u, "bilinear")[..., :-1], linear)
    # The cubic kernel with a = -0.75, clamped to the range of the image.
    a, b, c, d = (images[..., start : 13 + start] for start in range(4))
    cubic = (0.59375 * (b + c) - 0.09375 * (a + d)).clamp(images.min(), images.max())
    torch.testing.assert_close(move_images(images, u)[..., 1:14], cubic)


def test_image_is_continued_by_reflection():
    images = noise(1, 1, 8, 20)
    u = torch.zeros(1, 2, MAP_NODES, MAP_NODES, dtype=torch.float64)
    u[:, 0] = 2 * 3 / 20
    expected = torch.cat([images, images.flip(-1)], dim=-1)[..., 3:23]
    torch.testing.assert_close(move_images(images, u), expected)


@pytest.mark.parametrize(
    "matrix",
    [[[0.3, 0.0], [0.0, -0.4]], [[0.0, -0.5], [0.5, 0.0]], [[0.0, 0.6], [0.0, 0.0]], [[0.2, 0.3], [-0.1, -0.2]]],
    ids=["scaling", "rotation", "shear", "mixture"],
)
def test_linear_field_is_a_matrix_exponential(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    points = random_points(50, limit=0.35)
    expected = points @ torch.linalg.matrix_exp(matrix).T
    v = linear_field(matrix)
    error = (move_points(points, displacement(v)) - expected).abs().max()
    assert error < 2e-3
    # Each squaring halves the error of the first, straight step.
    finer = (move_points(points, displacement(v, squarings=fields.SQUARINGS + 3)) - expected).abs().max()
    assert finer.item() == pytest.approx(error.item() / 8, rel=0.1)


def test_horizontal_component_comes_first():
    v = torch.zeros(1, 2, NODES, NODES)
    v[:, 0] = 0.25
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8, 8] = 1
    # The pixel takes its value from the right.
    assert move_images(image, displacement(v))[0, 0].nonzero().tolist() == [[8, 6]]


def test_map_of_the_negative_field_is_the_inverse():
    v = invertible(smooth_fields(20, 0.15))
    # From the border, points could leave the image.
    points = random_points(200, limit=0.6).expand(20, -1, -1)
    there = move_points(points, displacement(v))
    assert (there - points).norm(dim=-1).max() > 0.2
    back = move_points(there, displacement(-v))
    assert (back - points).norm(dim=-1).max() < 0.01


def test_points_move_against_the_image():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    blob = (-((x - 29) ** 2 + (y - 25) ** 2) / 8).exp()[None, None]
    v = smooth_fields(1, 0.2).float()
    moved = move_images(blob, displacement(v))[0, 0]
    centre = torch.stack([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
    size = torch.tensor([48.0, 64.0])
    point = 2 * (torch.tensor([29.0, 25.0]) + 0.5) / size - 1
    expected = (move_points(point[None, None], displacement(-v))[0, 0] + 1) / 2 * size - 0.5
    assert (expected - torch.tensor([29.0, 25.0])).norm() > 2
    assert (centre - expected).norm() < 0.5


# Jacobian determinants


def test_identity_has_determinant_1():
    assert jacobian(torch.zeros(3, 2, MAP_NODES, MAP_NODES)).tolist() == pytest.approx([1] * 3, rel=1e-4)


def test_linear_map_has_the_determinant_of_its_matrix():
    matrix = torch.tensor([[1.2, 0.3], [-0.4, 0.8]], dtype=torch.float64)
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, 9, dtype=torch.float64)], indexing="ij")
    u = torch.einsum("ij,jhw->ihw", matrix - torch.eye(2), torch.stack([x, y]))[None]
    torch.testing.assert_close(jacobian(u), torch.linalg.det(matrix)[None])


@pytest.mark.parametrize("scale", [0.03, 0.3])
def test_smallest_determinant_is_that_of_derivatives(scale):
    u = displacement(random_fields(4, scale), nodes=9)
    smallest = jacobian(u)
    points = random_points(3000, limit=1.0).expand(4, -1, -1)
    assert (jacobian_at(points, u) >= smallest[:, None] - 1e-9).all()
    # Just inside the four corners of each cell.
    nodes = torch.linspace(-1, 1, 9, dtype=torch.float64)
    sides = torch.cat([nodes[:-1] + 1e-7, nodes[1:] - 1e-7])
    corners = torch.stack(torch.meshgrid(sides, sides, indexing="xy"), dim=-1).reshape(1, -1, 2).expand(4, -1, -1)
    torch.testing.assert_close(jacobian_at(corners, u).amin(dim=1), smallest, rtol=1e-4, atol=1e-4)


def test_fold_has_a_negative_determinant():
    u = torch.zeros(1, 2, MAP_NODES, MAP_NODES)
    u[:, 0, :, 10] = 0.2
    assert jacobian(u) < 0


# Invertible fields


def test_good_fields_are_unchanged():
    v = smooth_fields(5, 0.05)
    assert torch.equal(invertible(v), v)


@pytest.mark.parametrize("scale", [0.4, 5.0, 60_000.0])
def test_wild_fields_are_weakened_until_both_maps_are_invertible(scale):
    wild = random_fields(7, scale).float()
    before = wild.clone()
    v = invertible(wild)
    assert torch.equal(wild, before)
    for direction in (v, -v):
        assert (jacobian(displacement(direction)) >= MIN_JACOBIAN).all()
    factors = (v / wild).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-4, atol=0)
    # Fields are not weakened more than necessary.
    weakened = factors[:, 0] < 0.99
    assert weakened.sum() > 3
    stronger = v[weakened] / SHRINKAGE
    smallest = torch.minimum(jacobian(displacement(stronger)), jacobian(displacement(-stronger)))
    assert (smallest < MIN_JACOBIAN).all()


def test_fields_are_checked_in_chunks(monkeypatch):
    v = torch.cat([random_fields(5, 0.4), smooth_fields(2, 0.05)])
    at_once = invertible(v)
    monkeypatch.setattr(fields, "FIELDS_PER_CHUNK", 2)
    torch.testing.assert_close(invertible(v), at_once)
    assert invertible(v[:0]).shape == (0, 2, NODES, NODES)


def test_roughness_is_the_mean_squared_derivative():
    constant = torch.full((1, 2, NODES, NODES), 0.7)
    assert roughness(constant).item() == 0
    matrix = torch.tensor([[0.2, 0.3], [-0.1, 0.5]], dtype=torch.float64)
    # The difference of neighbours is 2 / 7 of a derivative, and is divided by 2 / 8.
    expected = matrix.square().sum() / 2 * (8 / 7) ** 2
    assert roughness(linear_field(matrix)).item() == pytest.approx(expected.item())
    both = roughness(torch.cat([linear_field(matrix), linear_field(2 * matrix)]))
    assert (both[1] / both[0]).item() == pytest.approx(4)


# Images


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (33, 50), (300, 20)], ids=str)
def test_no_displacement_leaves_images_as_they_are(size):
    images = noise(2, 3, *size)
    u = torch.zeros(1, 2, MAP_NODES, MAP_NODES, dtype=torch.float64)
    torch.testing.assert_close(move_images(images, u), images)
    assert torch.equal(move_images(images, u, "nearest"), images)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_large_image_is_moved_in_chunks_as_at_once(rows, monkeypatch):
    images, u = noise(2, 3, 50, 40), displacement(smooth_fields(2, 0.1))
    at_once = move_images(images, u)
    monkeypatch.setattr(fields, "PIXELS_PER_CHUNK", rows * 2 * 40)
    torch.testing.assert_close(move_images(images, u), at_once)


def test_one_map_moves_all_images():
    images, u = noise(3, 2, 20, 16), displacement(smooth_fields(1, 0.1))
    torch.testing.assert_close(move_images(images, u), move_images(images, u.expand(3, -1, -1, -1)))


def test_maps_hardly_depend_on_the_size_of_the_image():
    y, x = (torch.linspace(-1, 1, side)[:, None] for side in (600, 400))
    large = ((3 * y).sin() + (4 * x.T).cos())[None, None].double()
    u = displacement(smooth_fields(1, 0.1))
    small = torch.nn.functional.interpolate(large, (60, 40), mode="area")
    moved = torch.nn.functional.interpolate(move_images(large, u), (60, 40), mode="area")
    assert (moved - small).abs().max() > 0.2
    assert (move_images(small, u) - moved)[..., 2:-2, 2:-2].abs().max() < 0.05
