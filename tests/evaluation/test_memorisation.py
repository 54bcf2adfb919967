import json
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import memorisation


def samples(n, *parts):
    return torch.rand(n, 1, 2, 3, generator=make_generator("memorisation", *parts))


def test_planted_copies_are_flagged_and_listed_first():
    train, held_out, synthetic = samples(500, "train"), samples(500, "held out"), samples(200, "synthetic")
    planted = {3: 400, 50: 7, 199: 7}
    for copy, original in planted.items():
        synthetic[copy] = train[original]
    result = memorisation(train, held_out, synthetic)
    assert result.worst[:3] == tuple((copy, original, 0.0) for copy, original in planted.items())
    assert all(result.nearest_distance[copy] <= result.threshold for copy in planted)
    assert result.flagged >= 3
    assert result.fraction == result.flagged / 200


def test_aligned_distance_finds_shifted_copies():
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    order = torch.randperm(len(images), generator=make_generator(0))
    train, held_out, unseen = images[order[:1500]].split(500)
    shifted = train[:100].roll(1, dims=3)
    by_pixels, aligned = (memorisation(train, held_out, shifted, distance=name) for name in ("pixels", "aligned"))
    assert by_pixels.fraction < 0.2
    assert aligned.fraction > 0.95
    assert aligned.worst[0][:2] == (aligned.worst[0][0], aligned.worst[0][0])
    assert memorisation(train, held_out, unseen, distance="aligned").fraction < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "euclidean"}, "'distance' is 'euclidean', but must be 'pixels' or 'aligned'"),
        (
            {"distance": "aligned", "features": torch.flatten},
            "'features' are given, but distance='aligned'",
        ),
    ],
)
def test_invalid_distance_raises(options, message):
    with pytest.raises(ValueError, match=message):
        memorisation(samples(5, 1), samples(5, 2), samples(5, 3), **options)


def test_copies_are_flagged_even_if_held_out_images_are_copies():
    train = samples(50, "train")
    result = memorisation(train, train[:20], train[20:30])
    assert result.threshold == 0
    assert result.fraction == 1


@pytest.mark.parametrize("quantile", [0.01, 0.1])
def test_unseen_images_are_flagged_at_about_the_quantile(quantile):
    result = memorisation(samples(400, 1), samples(3000, 2), samples(3000, 3), quantile=quantile)
    # Three standard deviations of the difference of two fractions.
    assert result.fraction == pytest.approx(quantile, abs=3 * (2 * quantile * (1 - quantile) / 3000) ** 0.5)
    assert result.expected_fraction == pytest.approx(quantile, rel=0.01)


def test_expected_fraction_of_few_held_out_images():
    # One of 5 distances from one distribution is the smallest with probability 1/5.
    flagged = [memorisation(samples(30, 1), samples(4, 2, s), samples(1, 3, s)).flagged for s in range(1000)]
    result = memorisation(samples(30, 1), samples(4, 2), samples(1, 3))
    assert result.expected_fraction == 1 / 5
    assert np.mean(flagged) == pytest.approx(0.2, abs=3 * (0.2 * 0.8 / 1000) ** 0.5)


def test_distances_match_brute_force(monkeypatch):
    # The package's attribute of this name is the function, not the module.
    monkeypatch.setattr(sys.modules[memorisation.__module__], "CHUNK_SIZE", 7)
    train, held_out, synthetic = samples(40, 1), samples(30, 2), samples(20, 3)
    a, b, c = (images.flatten(1).double().numpy() for images in (train, held_out, synthetic))
    across = np.array([[np.sqrt(np.mean((x - y) ** 2)) for y in a] for x in c])
    held = np.array([min(np.sqrt(np.mean((x - y) ** 2)) for y in a) for x in b])
    result = memorisation(train, held_out, synthetic, quantile=0.25, worst=5)
    assert result.nearest_index.tolist() == across.argmin(axis=1).tolist()
    np.testing.assert_allclose(result.nearest_distance, across.min(axis=1), rtol=1e-12)
    assert result.threshold == pytest.approx(np.quantile(held, 0.25, method="lower"), rel=1e-12)
    assert result.flagged == (across.min(axis=1) <= result.threshold).sum()
    order = np.argsort(across.min(axis=1))[:5]
    assert [synthetic_index for synthetic_index, _, _ in result.worst] == order.tolist()
    assert [train_index for _, train_index, _ in result.worst] == across.argmin(axis=1)[order].tolist()
    assert [distance for _, _, distance in result.worst] == pytest.approx(across.min(axis=1)[order])


def test_uint8_and_unit_values_give_the_same_distances():
    levels = [(samples(30, seed) * 255).to(torch.uint8) for seed in range(3)]
    result = memorisation(*levels)
    expected = memorisation(levels[0], levels[1].double() / 255, levels[2].squeeze(1).float() / 255)
    torch.testing.assert_close(result.nearest_distance, expected.nearest_distance, rtol=1e-6, atol=1e-7)
    # The distance between black and white is 1.
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert memorisation(black, black, black + 255).nearest_distance.tolist() == [1, 1]


def test_features_replace_pixels():
    train, held_out, synthetic = samples(40, 1), samples(30, 2), samples(20, 3)
    synthetic[4] = train[9].flip(-1)

    def mirror_invariant(images):
        return (images + images.flip(-1)).flatten(1)

    assert memorisation(train, held_out, synthetic).worst[0][0] != 4
    synthetic_index, train_index, distance = memorisation(train, held_out, synthetic, features=mirror_invariant).worst[
        0
    ]
    assert (synthetic_index, train_index) == (4, 9)
    assert distance == pytest.approx(0, abs=1e-7)


def test_features_of_a_network_need_no_gradient():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4))
    found = memorisation(samples(9, 1), samples(9, 2), samples(9, 3), features=network)
    assert not found.nearest_distance.requires_grad


def test_noisy_copies_of_digits_are_flagged_and_unseen_digits_are_not():
    images = torch.from_numpy(load_digits().images).float().div(16)
    order = torch.randperm(len(images), generator=make_generator("digits"))
    train, held_out, unseen = images[order].split(600)
    noise = 0.01 * torch.rand(train.shape, generator=make_generator("noise"))
    assert memorisation(train, held_out, unseen).fraction < 0.03
    result = memorisation(train, held_out, (train + noise).clamp(max=1))
    assert result.fraction == 1
    assert result.nearest_index.tolist() == list(range(600))


def test_as_dict_holds_plain_json_values():
    result = memorisation(samples(30, 1), samples(30, 2), samples(30, 3), worst=2)
    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
    assert len(result.as_dict()["worst"]) == 2


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ((samples(0, 1), samples(3, 2), samples(3, 3)), {}, "'train' holds 0 images, but needs at least 1"),
        ((samples(3, 1), samples(0, 2), samples(3, 3)), {}, "'held_out' holds 0 images, but needs at least 1"),
        ((samples(3, 1), samples(3, 2), samples(0, 3)), {}, "'synthetic' holds 0 images, but needs at least 1"),
        (
            (samples(3, 1), samples(3, 2), torch.zeros(3, 1, 3, 2)),
            {},
            r"have shape \(1, 3, 2\), but must have shape \(1, 2, 3\)",
        ),
        ((samples(3, 1), samples(3, 2), samples(3, 3)), {"quantile": 0.0}, "'quantile' is 0.0, but must be above 0"),
        ((samples(3, 1), samples(3, 2), samples(3, 3)), {"worst": -1}, "'worst' is -1, but must be at least 0"),
    ],
)
def test_invalid_input_raises(sets, options, message):
    with pytest.raises(ValueError, match=message):
        memorisation(*sets, **options)
