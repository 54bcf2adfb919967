import numpy as np
import pytest

from gae_augment.data.long_tail import choose_images, profile_counts


def test_exponential_profile_follows_its_formula():
    counts = profile_counts("lt-100", [6000] * 10)
    assert counts == [int(6000 * 100 ** (-c / 9) + 1e-9) for c in range(10)]
    # The published counts of CIFAR-10-LT with ratio 100 (1906.07413).
    published = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert profile_counts("lt-100", [5000] * 10) == published


def test_exponential_profile_starts_from_the_smallest_class():
    assert profile_counts("lt-10", [100, 40, 70]) == [40, 12, 4]


def test_every_class_keeps_the_two_images_a_generator_needs():
    assert min(profile_counts("lt-1000", [50] * 10)) == 2


def test_deepsmote_has_published_counts_and_natural_keeps_all():
    assert profile_counts("deepsmote", [5000] * 10) == [4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40]
    assert profile_counts("natural", [3, 9]) == [3, 9]


@pytest.mark.parametrize("profile", ["lt", "lt-0", "lt--5", "long", ""])
def test_unknown_profile_is_refused(profile):
    with pytest.raises(ValueError, match=f"is {profile!r}, but must be 'natural', 'deepsmote' or 'lt-R'"):
        profile_counts(profile, [10, 10])


@pytest.mark.parametrize("available", [[5000] * 9, [3999] + [5000] * 9])
def test_deepsmote_refuses_unsuitable_classes(available):
    with pytest.raises(ValueError, match="needs ten classes of at least"):
        profile_counts("deepsmote", available)


def test_chosen_images_depend_only_on_seed_and_class():
    labels = np.arange(300) % 3
    indices = choose_images(labels, {0: 50, 1: 10, 2: 3}, seed=4)
    assert np.bincount(labels[indices]).tolist() == [50, 10, 3]
    assert (np.diff(indices) > 0).all()
    assert (indices == choose_images(labels, {0: 50, 1: 10, 2: 3}, seed=4)).all()
    assert (indices != choose_images(labels, {0: 50, 1: 10, 2: 3}, seed=5)).any()
    # The images of a class do not depend on the other counts, and a smaller count gives a subset.
    changed = choose_images(labels, {0: 5, 1: 10, 2: 30}, seed=4)
    assert set(changed[labels[changed] == 1]) == set(indices[labels[indices] == 1])
    assert set(changed[labels[changed] == 0]) < set(indices[labels[indices] == 0])
