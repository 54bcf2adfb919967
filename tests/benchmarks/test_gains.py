import json

import pytest

from benchmarks.gains import PRIOR, differences, gains, main, over_the_best, prior


def test_shipped_prior_is_that_of_the_committed_runs(tmp_path):
    main(["--output", str(tmp_path / "gains.json")])
    assert (tmp_path / "gains.json").read_text(encoding="utf-8") == PRIOR.read_text(encoding="utf-8")


def test_differences_are_paired_and_averaged_by_data_set():
    rows = [
        {"dataset": name, "arm": arm, "seed": str(seed), "balanced_accuracy": str(value)}
        for name, arm, seed, value in [
            ("a", "base", 0, 50), ("a", "motion", 0, 53), ("a", "base", 1, 60), ("a", "motion", 1, 61),
            ("b", "base", 0, 70), ("b", "motion", 0, 76), ("b", "motion", 1, 99),
        ]
    ]  # fmt: skip
    found = differences(rows, lambda row: row["arm"] == "motion", lambda row: row["arm"] == "base", ("dataset", "seed"))
    assert found == {"a": [3, 1], "b": [6]}
    assert prior(found) == {"mean": 4.0, "deviation": pytest.approx(2.83), "sets": 2}


def test_motions_with_one_strategy_are_compared_with_the_best_other_one():
    cell = dict.fromkeys(("profile", "on", "regime", "budget", "settings"), "")
    accuracies = {
        ("balanced", "base"): [60, 99], ("balanced", "motion"): [90, 92], ("softmax", "base"): [80, 84],
        ("plain", "base"): [81, 70],
    }  # fmt: skip
    rows = [
        {**cell, "dataset": "a", "strategy": name, "arm": arm, "seed": str(seed), "balanced_accuracy": str(value)}
        for (name, arm), values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    # On average, balanced softmax is better than plain training.
    assert over_the_best(rows, "balanced") == {"a": [10, 8]}
    assert over_the_best(rows, "softmax") == {}


def test_prior_of_motions_without_views_says_what_the_runs_say():
    assert gains()["motions on class-balanced sampling, from scratch, no views"]["mean"] > 3
    assert json.loads(PRIOR.read_text(encoding="utf-8"))["gains"] == gains()
