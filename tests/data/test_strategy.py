import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.utils import check_sampling_strategy

from gae_augment.data.strategy import count_labels, moderate_strategy, resolve_strategy

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


@pytest.mark.parametrize(
    ("options", "totals"),
    [
        ({}, {"a": 519, "b": 180, "c": 51, "d": 468, "e": 519}),
        ({"at_most": 5}, {"a": 519, "b": 300, "c": 85, "d": 468, "e": 519}),
        ({"at_most": 1}, {"a": 519, "b": 60, "c": 17, "d": 468, "e": 467}),
        ({"tolerance": 0.0}, {"a": 519, "b": 180, "c": 51, "d": 519, "e": 519}),
        ({"tolerance": 0.9}, {"a": 519, "b": 60, "c": 51, "d": 468, "e": 467}),
        ({"per_class": 100}, {"a": 519, "b": 100, "c": 100, "d": 468, "e": 467}),
        ({"per_class": 600, "at_most": 1}, {"a": 600, "b": 600, "c": 600, "d": 600, "e": 600}),
    ],
)
def test_moderate_totals_follow_the_stated_rule(options, totals):
    # A tenth of 519 is 51.9: 468 lacks 51, and 467 lacks 52.
    assert moderate_strategy({"a": 519, "b": 60, "c": 17, "d": 468, "e": 467}, **options) == totals


@settings(max_examples=100, deadline=None)
@given(
    counts=st.dictionaries(st.integers(0, 9), st.integers(1, 1000), min_size=2),
    at_most=st.integers(1, 5),
    tolerance=st.floats(0, 0.99),
)
def test_moderate_totals_are_a_valid_strategy_within_both_bounds(counts, at_most, tolerance):
    totals = moderate_strategy(counts, at_most=at_most, tolerance=tolerance)
    y = np.repeat(list(counts), list(counts.values()))
    added = check_sampling_strategy(totals, y, "over-sampling")
    for label, n in counts.items():
        assert totals[label] == n + added[label]
        assert n <= totals[label] <= min(at_most * n, max(counts.values()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_most": 0}, "'at_most' is 0, but must be at least 1"),
        ({"tolerance": 1.0}, "'tolerance' is 1.0, but must be at least 0 and below 1"),
        ({"tolerance": -0.1}, "'tolerance' is -0.1"),
        ({"tolerance": float("nan")}, "'tolerance' is nan"),
        ({"per_class": 0}, "'per_class' is 0"),
    ],
)
def test_moderate_strategy_rejects_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        moderate_strategy({0: 5, 1: 2}, **options)
