import pytest
import torch
from sklearn.base import clone
from torch.nn import functional

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import make_generator
from gae_augment.synthesis.similarity import aligned_nearest


def blobs(n, *parts, size=24, channels=1):
    r"""Smooth images in [0.2, 0.8], with shape :math:`(n, C, H, W)`."""
    coarse = torch.rand(n, channels, 6, 6, generator=make_generator("blobs", *parts))
    return 0.2 + 0.6 * functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x.roll((2, -1), dims=(2, 3)),
        lambda x: 0.7 * x + 0.1,
        lambda x: (x + 0.02 * torch.randn(x.shape, generator=make_generator(1))).clamp(0, 1),
    ],
    ids=["same", "shifted", "less contrast", "noisy"],
)
def test_changed_copy_is_nearest_to_its_original(change, channels):
    points = blobs(60, "points", channels=channels)
    originals = torch.tensor([7, 3, 59])
    distance, index = aligned_nearest(change(points[originals]), points)
    assert torch.equal(index, originals)
    unrelated, _ = aligned_nearest(blobs(20, "others", channels=channels), points)
    assert distance.max() < 0.06 < unrelated.min()


def test_distance_is_one_minus_the_correlation():
    # Images this small are neither shifted nor blurred.
    a, b = (torch.rand(5, 1, 6, 7, generator=make_generator(name)) for name in "ab")
    correlation = torch.corrcoef(torch.cat([a, b]).flatten(1))[:5, 5:]
    distance, index = aligned_nearest(a, b)
    torch.testing.assert_close(distance, 1 - correlation.max(dim=1).values)
    assert torch.equal(index, correlation.argmax(dim=1))


def test_flat_images_are_copies_only_of_flat_images():
    flat = torch.full((1, 1, 24, 24), 0.5)
    distance, index = aligned_nearest(flat, torch.cat([blobs(3, 0), flat + 0.2]))
    assert index.item() == 3
    assert distance.item() == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def data():
    X = (255 * blobs(70, "data")).round().byte()
    return X, torch.tensor([0] * 50 + [1] * 20)


def similarity(images, train):
    return 1 - aligned_nearest(images.float() / 255, train.float() / 255)[0]


@pytest.mark.parametrize("synthesis", ["decoded", "residual"])
def test_max_similarity_bounds_the_similarity_of_new_images(data, synthesis, tmp_path):
    X, y = data
    model = GenerativeModel(epochs=60, delta=1e-3, synthesis=synthesis, step=1)
    unlimited = GAEAugmenter(model, random_state=0, progress=False).fit(X, y)
    similarities = similarity(unlimited.sample(1, 200, seed=0), X[y == 1])
    limit = float(similarities.quantile(0.7))
    limited = clone(unlimited).set_params(model__max_similarity=limit).fit(X, y)
    images = limited.sample(1, 200, seed=0)
    assert similarity(images, X[y == 1]).max() <= limit + 1e-6
    # Images below the limit are unchanged.
    unchanged = (similarities <= limit - 1e-6).numpy()
    assert 100 < unchanged.sum() < 200
    assert torch.equal(images[unchanged], unlimited.sample(1, 200, seed=0)[unchanged])
    limited.save(tmp_path / "file")
    assert torch.equal(GAEAugmenter.load(tmp_path / "file").sample(1, 200, seed=0), images)


def test_unreachable_max_similarity_raises(data):
    model = GenerativeModel(epochs=2, delta=10.0, synthesis="residual", step=0.01, max_similarity=0.5)
    augmenter = GAEAugmenter(model, random_state=0, progress=False)
    with pytest.raises(RuntimeError, match=r"3 of 3 new images have a similarity above 0\.5 .* Raise 'max_similarity'"):
        augmenter.fit(*data).sample(1, 3)


@pytest.mark.parametrize("value", [0, -0.5, 1.5, "high"])
def test_invalid_max_similarity_raises(data, value):
    with pytest.raises(
        ValueError, match=f"'max_similarity' is {value!r}, but must be None, or a number above 0 and at most 1"
    ):
        GAEAugmenter(GenerativeModel(max_similarity=value)).fit(*data)


def test_max_similarity_of_vectors_raises(data):
    with pytest.raises(ValueError, match="'max_similarity' compares images, but the data are vectors of 576 features"):
        GAEAugmenter(GenerativeModel(max_similarity=0.9)).fit(data[0].flatten(1), data[1])
