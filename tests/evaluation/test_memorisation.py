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


def test_planted_copies_are_flagged_and_head_the_list():
    train, held_out, synthetic = samples(500, "train"), samples(500, "held out"), samples(200, "synthetic")
    planted = {3: 400, 50: 7, 199: 7}
    for place, copied in planted.items():
        synthetic[place] = train[copied]
    found = memorisation(train, held_out, synthetic)
    assert found.worst[:3] == tuple((place, copied, 0.0) for place, copied in planted.items())
    assert all(found.nearest_distance[place] <= found.threshold for place in planted)
    assert found.flagged >= 3
    assert found.fraction == found.flagged / 200


def test_a_copy_that_is_moved_is_found_when_images_are_aligned():
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    order = torch.randperm(len(images), generator=make_generator(0))
    train, held_out, honest = images[order[:1500]].split(500)
    moved = train[:100].roll(1, dims=3)
    by_pixels, aligned = (memorisation(train, held_out, moved, distance=name) for name in ("pixels", "aligned"))
    assert by_pixels.fraction < 0.2
    assert aligned.fraction > 0.95
    assert aligned.worst[0][:2] == (aligned.worst[0][0], aligned.worst[0][0])
    assert memorisation(train, held_out, honest, distance="aligned").fraction < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "euclidean"}, "'distance' is 'pixels' or 'aligned', and it is 'euclidean'"),
        ({"distance": "aligned", "features": torch.flatten}, "aligned by their pixels, and 'features' are given"),
    ],
)
def test_distances_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        memorisation(samples(5, 1), samples(5, 2), samples(5, 3), **options)


def test_copies_are_flagged_even_among_held_out_copies():
    train = samples(50, "train")
    found = memorisation(train, train[:20], train[20:30])
    assert found.threshold == 0
    assert found.fraction == 1


@pytest.mark.parametrize("quantile", [0.01, 0.1])
def test_honest_samples_are_flagged_at_about_the_quantile(quantile):
    found = memorisation(samples(400, 1), samples(3000, 2), samples(3000, 3), quantile=quantile)
    # Three standard deviations of the difference of two fractions.
    assert found.fraction == pytest.approx(quantile, abs=3 * (2 * quantile * (1 - quantile) / 3000) ** 0.5)
    assert found.expected_fraction == pytest.approx(quantile, rel=0.01)


def test_expected_fraction_of_few_held_out_images():
    # Among 5 distances of one distribution, the fifth is the smallest once in 5 times.
    flagged = [memorisation(samples(30, 1), samples(4, 2, s), samples(1, 3, s)).flagged for s in range(1000)]
    found = memorisation(samples(30, 1), samples(4, 2), samples(1, 3))
    assert found.expected_fraction == 1 / 5
    assert np.mean(flagged) == pytest.approx(0.2, abs=3 * (0.2 * 0.8 / 1000) ** 0.5)


def test_distances_match_a_brute_force(monkeypatch):
    # The package's attribute of this name is the function, not the module.
    monkeypatch.setattr(sys.modules[memorisation.__module__], "AT_ONCE", 7)
    train, held_out, synthetic = samples(40, 1), samples(30, 2), samples(20, 3)
    a, b, c = (images.flatten(1).double().numpy() for images in (train, held_out, synthetic))
    across = np.array([[np.sqrt(np.mean((x - y) ** 2)) for y in a] for x in c])
    held = np.array([min(np.sqrt(np.mean((x - y) ** 2)) for y in a) for x in b])
    found = memorisation(train, held_out, synthetic, quantile=0.25, worst=5)
    assert found.nearest_index.tolist() == across.argmin(axis=1).tolist()
    np.testing.assert_allclose(found.nearest_distance, across.min(axis=1), rtol=1e-12)
    assert found.threshold == pytest.approx(np.quantile(held, 0.25, method="lower"), rel=1e-12)
    assert found.flagged == (across.min(axis=1) <= found.threshold).sum()
    order = np.argsort(across.min(axis=1))[:5]
    assert [place for place, _, _ in found.worst] == order.tolist()
    assert [copied for _, copied, _ in found.worst] == across.argmin(axis=1)[order].tolist()
    assert [distance for _, _, distance in found.worst] == pytest.approx(across.min(axis=1)[order])


def test_levels_and_unit_values_are_the_same_images():
    levels = [(samples(30, part) * 255).to(torch.uint8) for part in range(3)]
    found = memorisation(*levels)
    expected = memorisation(levels[0], levels[1].double() / 255, levels[2].squeeze(1).float() / 255)
    torch.testing.assert_close(found.nearest_distance, expected.nearest_distance, rtol=1e-6, atol=1e-7)
    # The distance of black and white is 1.
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert memorisation(black, black, black + 255).nearest_distance.tolist() == [1, 1]


def test_features_stand_in_for_pixels():
    train, held_out, synthetic = samples(40, 1), samples(30, 2), samples(20, 3)
    synthetic[4] = train[9].flip(-1)

    def folded(images):
        return (images + images.flip(-1)).flatten(1)

    assert memorisation(train, held_out, synthetic).worst[0][0] != 4
    place, copied, distance = memorisation(train, held_out, synthetic, features=folded).worst[0]
    assert (place, copied) == (4, 9)
    assert distance == pytest.approx(0, abs=1e-7)


def test_digits_are_original_and_their_noisy_copies_are_not():
    images = torch.from_numpy(load_digits().images).float().div(16)
    order = torch.randperm(len(images), generator=make_generator("digits"))
    train, held_out, honest = images[order].split(600)
    noise = 0.01 * torch.rand(train.shape, generator=make_generator("noise"))
    assert memorisation(train, held_out, honest).fraction < 0.03
    found = memorisation(train, held_out, (train + noise).clamp(max=1))
    assert found.fraction == 1
    assert found.nearest_index.tolist() == list(range(600))


def test_as_dict_is_plain():
    found = memorisation(samples(30, 1), samples(30, 2), samples(30, 3), worst=2)
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()
    assert len(found.as_dict()["worst"]) == 2


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ((samples(0, 1), samples(3, 2), samples(3, 3)), {}, "'train' holds at least 1 images"),
        ((samples(3, 1), samples(0, 2), samples(3, 3)), {}, "'held_out' holds at least 1 images"),
        ((samples(3, 1), samples(3, 2), samples(0, 3)), {}, "'synthetic' holds at least 1 images"),
        ((samples(3, 1), samples(3, 2), torch.zeros(3, 1, 3, 2)), {}, "one shape"),
        ((samples(3, 1), samples(3, 2), samples(3, 3)), {"quantile": 0.0}, "'quantile' is above 0"),
        ((samples(3, 1), samples(3, 2), samples(3, 3)), {"worst": -1}, "'worst' is at least 0"),
    ],
)
def test_bad_input_is_refused(sets, options, message):
    with pytest.raises(ValueError, match=message):
        memorisation(*sets, **options)
