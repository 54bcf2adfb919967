import pytest

from gae_augment.fitting import images_to_learn_from, learned_from

COUNTS = {0: 900, 1: 20, 2: 1, 3: 400, 4: 20, 5: 7, 6: 300}


def test_decoded_images_need_models_of_scarce_classes_alone():
    assert images_to_learn_from(COUNTS, [5, 1, 3], set()) == {1: 20, 3: 400, 5: 7}


def test_motions_are_learned_from_all_classes_and_at_most_300_images():
    assert images_to_learn_from(COUNTS, [1], set(COUNTS)) == {0: 300, 1: 20, 3: 300, 4: 20, 5: 7, 6: 300}


@pytest.mark.parametrize(
    ("most", "expected"), [(2, [1, 5]), (3, [0, 1, 5]), (4, [0, 1, 3, 5]), (6, [0, 1, 3, 4, 5, 6])]
)
def test_motions_are_learned_from_scarce_classes_then_large_ones(monkeypatch, most, expected):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", most)
    assert list(images_to_learn_from(COUNTS, [1, 2, 5], set(COUNTS))) == expected


def test_of_scarce_classes_the_largest_are_learned_from(monkeypatch):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 3)
    # Of equal classes, the first one.
    assert list(images_to_learn_from(COUNTS, [1, 3, 4, 5, 6], set(COUNTS))) == [1, 3, 6]


def test_other_classes_and_single_rows_have_models_whatever_their_number(monkeypatch):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 1)
    assert list(images_to_learn_from(COUNTS, [0, 1, 3, 5], {0, 5})) == [0, 1, 3]
    assert list(images_to_learn_from(COUNTS, [1, 2, 4, 5], set(COUNTS), each=True)) == [1, 4, 5]
