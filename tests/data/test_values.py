import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from gae_augment._utils.seeding import make_generator
from gae_augment.data.values import ValueScale


def rand(*shape):
    return torch.rand(shape, generator=make_generator("values"))


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (torch.tensor([[0], [255]], dtype=torch.uint8), "levels"),
        (torch.tensor([[False], [True]]), "levels"),
        (torch.tensor([[0.0], [1.0]]), "unit"),
        (torch.tensor([[0.2], [0.3]], dtype=torch.float16), "unit"),
        (torch.tensor([[0.0], [1.01]]), "standardised"),
        (torch.tensor([[-0.01], [1.0]], dtype=torch.float64), "standardised"),
        (torch.tensor([[0], [1]]), "standardised"),
        (torch.tensor([[0], [60000]], dtype=torch.uint16), "standardised"),
    ],
)
def test_dtype_and_range_set_the_kind(images, kind):
    scale = ValueScale.of(images)
    assert (scale.kind, scale.dtype) == (kind, images.dtype)


def test_uint8_values_are_divided_by_255():
    images = torch.arange(256, dtype=torch.uint8).view(16, 16)
    x = ValueScale.of(images).to_network(images)
    np.testing.assert_allclose(x.numpy(), np.arange(256).reshape(16, 16) / 255, rtol=1e-6)


def test_standardisation_matches_scikit_learn():
    images = rand(50, 4) * torch.tensor([1.0, 10.0, 1e4, 1e-3]) - 5
    expected = StandardScaler().fit_transform(images.double().numpy())
    scale = ValueScale.of(images)
    np.testing.assert_allclose(scale.to_network(images).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        torch.arange(256, dtype=torch.uint8).view(16, 16),
        rand(10, 3, 4) > 0.5,
        rand(10, 3, 4),
        rand(10, 3, 4).double(),
        rand(10, 3, 4).half(),
        rand(10, 3, 4) * 7 - 3,
        (rand(10, 3, 4) * 7 - 3).double(),
        (rand(10, 3, 4) * 7 - 3).half(),
        (rand(10, 3, 4) * 1000 - 500).long(),
        (rand(10, 3, 4) * 100 - 50).to(torch.int8),
        (rand(10, 3, 4) * 65535).to(torch.uint16),
    ],
    ids=lambda images: str(images.dtype),
)
def test_round_trip_restores_images(images):
    scale = ValueScale.of(images)
    x = scale.to_network(images)
    assert x.dtype == torch.float32
    restored = scale.from_network(x)
    assert restored.dtype == images.dtype
    if images.dtype.is_floating_point:
        resolution = max(torch.finfo(images.dtype).eps, 1e-6)
        np.testing.assert_allclose(restored.double(), images.double(), rtol=4 * resolution, atol=4 * resolution)
    else:
        assert torch.equal(restored, images)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_values_are_clamped_to_the_observed_range(dtype):
    extremes = torch.tensor([[-1e3, -1e3], [1e3, 1e3]])
    # Vectors have bounds per feature, images the same bounds for all pixels.
    vectors = torch.tensor([[3, 100], [9, 250]], dtype=dtype)
    assert ValueScale.of(vectors).from_network(extremes).tolist() == [[3, 100], [9, 250]]
    scale = ValueScale.of(vectors[:, None])
    assert scale.from_network(extremes[:, None]).tolist() == [[[3, 3]], [[250, 250]]]


def test_unsigned_integers_do_not_wrap_around():
    images = torch.tensor([[0], [65535]], dtype=torch.uint16)
    scale = ValueScale.of(images)
    assert scale.from_network(torch.tensor([[-9.0], [9.0]])).tolist() == [[0], [65535]]


def test_constant_feature_is_preserved_exactly():
    images = torch.stack([torch.full((20,), 0.1), rand(20) * 5], dim=1)
    scale = ValueScale.of(images)
    assert torch.equal(scale.to_network(images)[:, 0], torch.zeros(20))
    assert torch.equal(scale.from_network(torch.full((3, 2), 4.0))[:, 0], torch.full((3,), 0.1))


def test_values_beyond_the_range_give_its_ends():
    extremes = torch.tensor([[-1e4, 1e4]])
    assert ValueScale.of(torch.tensor([[7, 9]], dtype=torch.uint8)).from_network(extremes).tolist() == [[0, 255]]
    assert ValueScale.of(torch.tensor([[0.3, 0.4]])).from_network(extremes).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0)),
        1e6 + torch.randn(50, 7, generator=torch.Generator().manual_seed(0)),
        torch.randint(-9, 9, (50, 3, 4, 4), generator=torch.Generator().manual_seed(0)),
        torch.randint(0, 256, (50, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        torch.cat([torch.rand(49, 3, generator=torch.Generator().manual_seed(0)), torch.full((1, 3), 4.0)]),
    ],
    ids=["unit", "far from 0", "integers", "levels", "last value out of range"],
)
@pytest.mark.parametrize("size", [1, 7, 49, 50])
def test_scale_of_batches_equals_scale_of_all_images(images, size):
    all_images, batches = ValueScale.of(images), ValueScale.of(iter(images.split(size)))
    assert (batches.kind, batches.dtype) == (all_images.kind, all_images.dtype)
    for name in ("mean", "deviation", "bounds"):
        if getattr(all_images, name) is None:
            assert getattr(batches, name) is None
        else:
            torch.testing.assert_close(getattr(batches, name), getattr(all_images, name), rtol=1e-9, atol=1e-9)
    if all_images.kind == "standardised":
        # NumPy is the independent reference.
        np.testing.assert_allclose(all_images.deviation, np.std(images.double().numpy(), axis=0), rtol=1e-9)


def test_scale_does_not_depend_on_threads():
    # With a single feature, threads would share the sum over the rows.
    vectors = torch.randn(60_000, 1, generator=make_generator(0))
    before = torch.get_num_threads()
    scales = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            scales.append(ValueScale.of(vectors))
    finally:
        torch.set_num_threads(before)
    for scale in scales[1:]:
        assert torch.equal(scale.mean, scales[0].mean)
        assert torch.equal(scale.deviation, scales[0].deviation)
