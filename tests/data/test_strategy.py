import numpy as np
import pytest
from imblearn.utils import check_sampling_strategy

from gae_augment.data.strategy import count_labels, resolve_strategy

LABELS = {
    "three classes": np.repeat([0, 1, 2], [7, 4, 2]),
    "unsorted": np.array([2, 0, 1, 0, 2, 0, 0]),
    "tied largest": np.repeat([0, 1, 2], [5, 5, 2]),
    "tied smallest": np.repeat([3, 5, 9], [6, 2, 2]),
    "all tied": np.repeat([0, 1, 2], 4),
    "binary": np.repeat([0, 1], [10, 3]),
    "binary, smaller first": np.repeat([0, 1], [3, 10]),
    "binary tie": np.repeat([0, 1], [4, 4]),
    "negative": np.repeat([-1, 1], [4, 9]),
    "strings": np.repeat(["cat", "ant", "bee"], [2, 6, 4]),
    "binary strings": np.repeat(["yes", "no"], [3, 8]),
}


def totals_for(y):
    r"""Returns a mapping of totals for the first and the last label only."""
    labels, counts = np.unique(y, return_counts=True)
    return {label.item(): int(count) + 3 for label, count in zip(labels[[0, -1]], counts[[0, -1]], strict=True)}


STRATEGIES = {
    "auto": "auto",
    "minority": "minority",
    "not minority": "not minority",
    "not majority": "not majority",
    "all": "all",
    "majority": "majority",
    "unknown word": "most",
    "0.5": 0.5,
    "0.55": 0.55,
    "1": 1,
    "0.1": 0.1,
    "0": 0.0,
    "above 1": 1.5,
    "negative": -0.5,
    "list": [0, 1],
    "empty mapping": {},
    "unknown label": {77: 100},
    "negative total": {0: -1, 1: -1, "ant": -1, "no": -1, -1: -1},
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_words_and_ratios_match_imbalanced_learn(y, strategy):
    try:
        expected = dict(check_sampling_strategy(strategy, y, "over-sampling"))
    except ValueError:
        with pytest.raises((ValueError, TypeError), match=r"sampling_strategy|number of samples"):
            resolve_strategy(strategy, y)
    else:
        assert resolve_strategy(strategy, y) == expected


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_mappings_and_functions_match_imbalanced_learn(y):
    totals = totals_for(y)
    expected = dict(check_sampling_strategy(totals, y, "over-sampling"))
    assert set(expected.values()) == {3}
    assert resolve_strategy(totals, y) == expected
    assert resolve_strategy(totals_for, y) == dict(check_sampling_strategy(totals_for, y, "over-sampling"))


def test_result_is_sorted_and_has_plain_integers():
    result = resolve_strategy({2: np.int64(9), 0: 8}, LABELS["three classes"])
    assert list(result.items()) == [(0, 1), (2, 7)]
    assert {type(value) for pair in result.items() for value in pair} == {int}


def test_numpy_scalars_are_valid_keys():
    assert resolve_strategy({np.int64(1): 6}, LABELS["three classes"]) == {1: 2}
    assert resolve_strategy({np.str_("ant"): 6}, LABELS["strings"]) == {"ant": 0}


def test_labels_are_counted_in_sorted_order():
    assert count_labels(np.array(["b", "a", "b"])) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("strategy", "error", "message"),
    [
        ("majority", ValueError, r"is 'majority', but the largest class .*Use 'auto'"),
        ("most", ValueError, r"is 'most', but .*'auto', 'all', 'minority', 'not majority', 'not minority'"),
        (0.3, ValueError, r"there are 3 classes\. A ratio is for two classes only.*Use 'auto'"),
        (7.0, ValueError, r"is 7\.0, but a ratio must be in \(0, 1\]"),
        ({1: 3}, ValueError, r"Class 1 has 4 .* total of 3.*final totals, not images to add"),
        ({8: 3}, ValueError, r"\[8\].*not present.*\[0, 1, 2\]"),
        ({1: -3}, ValueError, r"total of class 1 .*is -3\. .*cannot be negative"),
        ({1: 5.5}, ValueError, r"total of class 1 .*is 5\.5, but must be an integer"),
        (lambda y: {1: 3}, ValueError, r"total of 3"),
        ([0, 1], TypeError, r"is \[0, 1\].*\{label: total"),
        (None, TypeError, r"'sampling_strategy' is None"),
        (True, TypeError, r"'sampling_strategy' is True"),
    ],
)
def test_messages_give_fault_value_and_remedy(strategy, error, message):
    with pytest.raises(error, match=message):
        resolve_strategy(strategy, LABELS["three classes"])


def test_ratio_that_adds_nothing_is_refused():
    with pytest.raises(ValueError, match=r"0\.3 adds no images to class 1.*3 compared to 10.*Increase"):
        resolve_strategy(0.3, LABELS["binary"])


def test_single_class_is_refused_with_imbalanced_learn_message():
    with pytest.raises(ValueError, match=r"needs to have more than 1 class\. Got 1 class instead"):
        check_sampling_strategy("auto", np.zeros(4), "over-sampling")
    with pytest.raises(ValueError, match=r"needs to have more than 1 class\. Got 1 class instead"):
        resolve_strategy("auto", np.zeros(4, dtype=int))
