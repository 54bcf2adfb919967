import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import membership


def images(n, *parts):
    return torch.rand(n, 1, 8, 8, generator=make_generator("membership", *parts))


@pytest.mark.parametrize("distance", ["pixels", "aligned"])
def test_copies_reveal_all_members(distance):
    members, others = images(50, 1), images(50, 2)
    result = membership(members, others, members, distance=distance)
    assert (result.advantage, result.area) == (1, 1)
    assert result.distance_ratio == pytest.approx(0, abs=1e-5)


def test_copies_of_others_are_infinitely_closer_to_them():
    members, others = images(50, 1), images(50, 2)
    assert membership(members, others, others).distance_ratio == math.inf
    assert membership(members, members, members).distance_ratio == 1


@pytest.mark.parametrize("distance", ["pixels", "aligned"])
def test_unrelated_images_reveal_no_members(distance):
    results = [
        membership(images(300, s, 1), images(300, s, 2), images(100, s, 3), distance=distance) for s in range(10)
    ]
    # Each advantage is the mean of two differences of fractions of 150 images, with variances of at most 0.25 / 150.
    bound = 3 * (2 * 0.25 / 150 / 2 / 10) ** 0.5
    assert sum(result.advantage for result in results) / 10 == pytest.approx(0, abs=bound)
    assert sum(result.area for result in results) / 10 == pytest.approx(0.5, abs=3 * (1 / 12 * 2 / 300 / 10) ** 0.5)
    assert sum(result.distance_ratio for result in results) / 10 == pytest.approx(1, abs=0.02)


def test_area_matches_scikit_learn():
    members, others, synthetic = images(40, 1), images(30, 2), images(20, 3)
    synthetic[:5] = members[:5]
    distances = [
        (queries.flatten(1)[:, None] - synthetic.flatten(1)).square().mean(dim=2).sqrt().min(dim=1).values
        for queries in (members, others)
    ]
    expected = roc_auc_score([1] * 40 + [0] * 30, -torch.cat(distances).numpy())
    assert membership(members, others, synthetic).area == pytest.approx(expected)


def test_copies_of_half_of_the_members_give_half_the_advantage():
    members, others = images(200, 1), images(200, 2)
    result = membership(members, others, members[torch.arange(200) % 4 < 2])
    assert result.advantage == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(3, 1), images(9, 2), images(9, 3)), "'members' holds 3 images, but needs at least 4"),
        (
            (images(9, 1), images(9, 2)[:, :, :4], images(9, 3)),
            r"'others' have shape \(1, 4, 8\), but must have shape \(1, 8, 8\)",
        ),
        ((images(9, 1), images(9, 2), 2 * images(9, 3)), "those of 'synthetic' lie in"),
    ],
)
def test_invalid_images_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        membership(*arguments)


def test_unknown_distance_raises():
    with pytest.raises(ValueError, match="'distance' is 'far', but must be 'pixels' or 'aligned'"):
        membership(images(9, 1), images(9, 2), images(9, 3), distance="far")
