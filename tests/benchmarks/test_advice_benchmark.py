import csv

import pytest

from benchmarks import advice
from benchmarks.advice import Verdict, posterior, report, true_gain, verdict_table


@pytest.fixture
def runs(tmp_path):
    r"""Runs of one cell, with two seeds of three arms."""
    names = {"balanced": "class-balanced sampling", "softmax": "balanced softmax"}
    rows = [
        {"dataset": "mnist", "profile": "lt-100", "on": on, "regime": "none", "budget": "short", "arm": arm,
         "strategy": names[strategy], "seed": seed, "settings": "s", "balanced_accuracy": value}
        for strategy, on, arm, seed, value in [
            ("balanced", "development", "base", 0, 90.0), ("balanced", "development", "motion", 0, 92.0),
            ("balanced", "development", "base", 1, 91.0), ("balanced", "development", "motion", 1, 94.0),
            ("balanced", "development", "elastic", 0, 99.0), ("balanced", "test", "motion", 0, 10.0),
            ("softmax", "development", "motion", 0, 11.0),
        ]
    ]  # fmt: skip
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def verdict(measured, *, dataset="mnist", regime="none", before="balanced softmax", after="balanced softmax"):
    return Verdict(
        dataset, "lt-100", regime, 0, 1, before, "motions", after, measured, 0.5, 80.0, 3, 200.0, "a processor"
    )


def test_true_gain_is_paired_by_seed(runs):
    balanced = "class-balanced sampling"
    asked = verdict(1.0, before=balanced, after=balanced)
    assert true_gain(asked, "short", motion_runs=runs) == [2.0, 3.0]
    assert true_gain(asked, "long", motion_runs=runs) == []
    assert true_gain(verdict(1.0, before="plain training"), "short", motion_runs=runs) == []
    assert true_gain(verdict(1.0, before=balanced), "short", motion_runs=runs) == [11.0 - 90.0]


def test_prior_leaves_out_the_data_set(monkeypatch):
    asked = []
    known = {"mean": 1.0, "deviation": 1.5811388300841898, "sets": 3}
    prior = {f"motions on balanced softmax{over}, from scratch, no views": known for over in ("", " over the best")}
    prior["motions on balanced softmax over the best, from scratch, no views"] = {**known, "mean": 2.0}
    monkeypatch.setattr(advice, "gains", lambda without: asked.append(without) or prior)
    gain = posterior(verdict(3.0))
    assert asked == ["mnist"]
    # The measurement has the variance 0.25 + 1.5 ** 2, as the prior has 2.5.
    assert (gain.mean, gain.deviation**2) == pytest.approx((2.0, 1.25))
    assert posterior(verdict(3.0, before="plain training")).mean == pytest.approx(2.5)


def test_report_counts_harm_and_what_was_missed(tmp_path, monkeypatch):
    truth = {"none": [-1.0, -1.2], "affine": [0.5, 0.7]}
    monkeypatch.setattr(advice, "true_gain", lambda v, budget: truth[v.regime] if budget == "short" else [])
    monkeypatch.setattr(advice, "CELLS", tuple(advice.Cell("mnist", "lt-100", regime) for regime in truth))
    text = report(tmp_path, [verdict(20.0), verdict(-20.0, regime="affine")])
    assert "loses more than 0.2 points in 1: mnist, lt-100, none, seed 0, short: -1.10." in text
    assert "against a gain of more than 0.2 points: 1: mnist, lt-100, affine, seed 0, short: +0.60." in text
    assert "use motions" in text
    assert (tmp_path / "REPORT.md").read_text().strip() == text.strip()


def test_committed_report_is_that_of_the_committed_verdicts(tmp_path):
    (tmp_path / "REMARKS.md").write_text((advice.OUTPUT / "REMARKS.md").read_text())
    table = verdict_table(advice.OUTPUT / "verdicts.csv")
    report(tmp_path, list(table.records.values()))
    assert (tmp_path / "REPORT.md").read_text() == (advice.OUTPUT / "REPORT.md").read_text()
