import pytest
import torch
from sklearn.metrics import roc_auc_score

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import membership


def images(n, *parts):
    return torch.rand(n, 1, 8, 8, generator=make_generator("membership", *parts))


@pytest.mark.parametrize("distance", ["pixels", "aligned"])
def test_copies_give_all_members_away(distance):
    members, others = images(50, 1), images(50, 2)
    found = membership(members, others, members, distance=distance)
    assert (found.advantage, found.area) == (1, 1)
    assert found.distance_ratio == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("distance", ["pixels", "aligned"])
def test_images_of_another_source_give_nobody_away(distance):
    found = [membership(images(300, s, 1), images(300, s, 2), images(100, s, 3), distance=distance) for s in range(10)]
    # Each advantage is a mean of two differences of two fractions of 150, of at most 0.5 each.
    bound = 3 * (2 * 0.25 / 150 / 2 / 10) ** 0.5
    assert sum(one.advantage for one in found) / 10 == pytest.approx(0, abs=bound)
    assert sum(one.area for one in found) / 10 == pytest.approx(0.5, abs=3 * (1 / 12 * 2 / 300 / 10) ** 0.5)
    assert sum(one.distance_ratio for one in found) / 10 == pytest.approx(1, abs=0.02)


def test_the_area_is_that_of_the_curve():
    members, others, synthetic = images(40, 1), images(30, 2), images(20, 3)
    synthetic[:5] = members[:5]
    away = [
        (own.flatten(1)[:, None] - synthetic.flatten(1)).square().mean(dim=2).sqrt().min(dim=1).values
        for own in (members, others)
    ]
    expected = roc_auc_score([1] * 40 + [0] * 30, -torch.cat(away).numpy())
    assert membership(members, others, synthetic).area == pytest.approx(expected)


def test_half_of_the_members_copied():
    members, others = images(200, 1), images(200, 2)
    found = membership(members, others, members[torch.arange(200) % 4 < 2])
    assert found.advantage == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(3, 1), images(9, 2), images(9, 3)), "'members' holds at least 4 images"),
        ((images(9, 1), images(9, 2)[:, :, :4], images(9, 3)), "Images that are compared have one shape"),
        ((images(9, 1), images(9, 2), 2 * images(9, 3)), "those of 'synthetic' lie in"),
    ],
)
def test_images_that_cannot_be_compared(arguments, message):
    with pytest.raises(ValueError, match=message):
        membership(*arguments)


def test_distances_that_there_are_not():
    with pytest.raises(ValueError, match="'distance' is 'pixels' or 'aligned'"):
        membership(images(9, 1), images(9, 2), images(9, 3), distance="far")
