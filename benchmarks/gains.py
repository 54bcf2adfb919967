r"""``python -m benchmarks.gains``: the prior of ``gae_augment.evaluation.advise``, from the runs of the benchmarks."""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import fmean, stdev

RESULTS = Path(__file__).resolve().parent / "results"

PRIOR = Path(__file__).resolve().parent.parent / "gae_augment" / "evaluation" / "advice" / "gains.json"

LEAST_DEVIATION, FEW_SETS_DEVIATION = 0.5, 1.0
"""The least standard deviation between data sets, in points: in general, and of fewer than three sets."""

UNKNOWN_DEVIATION = 5.0
"""The standard deviation for strategies and standard views where nothing was measured, so that the data decide."""

CEILING = 99.5
"""Runs tell nothing of a gain if the balanced accuracy in percent is at least this without the change."""

STRATEGIES = {
    "class-balanced sampling": "class-balanced sampling",
    "square-root sampling with balanced softmax": "square-root sampling",
    "balanced softmax": "balanced softmax",
    # Not measured with another factor.
    "balanced softmax with τ = 1.5": "balanced softmax",
}
"""The names in the benchmark of imbalance, by the names of ``advise``."""

CHANGES = {"motions": "motion", "weak motions": "motion:strength=0.5", "synthetic images": "motion:classes=scarce"}
"""The arms of the benchmark of motions, by the names of ``advise``."""

Row = Mapping[str, str]
Differences = dict[str, list[float]]
"""Differences in points, by data set."""


def rows_of(path: Path) -> list[Row]:
    r"""Returns the rows of a table of runs."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def differences(
    rows: Iterable[Row], with_change: Callable[[Row], bool], without: Callable[[Row], bool], pair_by: tuple[str, ...]
) -> Differences:
    r"""Returns the differences in balanced accuracy between paired rows, by data set."""
    rows = list(rows)
    bases = {tuple(row[key] for key in pair_by): float(row["balanced_accuracy"]) for row in rows if without(row)}
    found: Differences = defaultdict(list)
    for row in rows:
        key = tuple(row[name] for name in pair_by)
        if with_change(row) and key in bases and bases[key] < CEILING:
            found[row["dataset"]].append(float(row["balanced_accuracy"]) - bases[key])
    return found


def prior(found: Differences, unknown: float = UNKNOWN_DEVIATION) -> dict[str, float | int]:
    r"""Returns the mean over data sets, and the standard deviation between them. Each set counts alike."""
    means = [fmean(values) for values in found.values()]
    if not means:
        return {"mean": 0.0, "deviation": unknown, "sets": 0}
    least = LEAST_DEVIATION if len(means) > 2 else FEW_SETS_DEVIATION
    deviation = max(least, stdev(means) if len(means) > 1 else 0.0)
    return {"mean": round(fmean(means), 2), "deviation": round(deviation, 2), "sets": len(means)}


def gains(results: Path = RESULTS, *, without: str | None = None) -> dict[str, dict[str, float | int]]:
    r"""Returns the prior of each change, by change, kind of network, and whether images have standard views.

    Args:
        results: The folder of the benchmarks' results.
        without: A data set whose runs are left out.
    """
    imbalance, motion, photos = (
        [row for row in rows_of(results / name / "runs.csv") if row["dataset"] != without]
        for name in ("imbalance", "motion", "photos")
    )
    imbalance = [row for row in imbalance if row["source"] == "nothing"]
    table = {}
    for views in ("no views", "standard views"):
        plain = views == "no views"
        trained = [row for row in imbalance if (row["regime"] == "plain") == plain]
        moved = [row for row in motion if (row["regime"] == "none") == plain]
        for name, measured in STRATEGIES.items():
            found = differences(
                trained,
                lambda row, measured=measured: row["strategy"] == measured,  # type: ignore[misc]
                lambda row: row["strategy"] == "plain",
                ("dataset", "profile", "regime", "seed", "on", "settings", "device"),
            )
            table[f"{name}, from scratch, {views}"] = prior(found)
            table[f"{name}, pretrained, {views}"] = prior({})
        for name, arm in CHANGES.items():
            found = differences(
                moved,
                lambda row, arm=arm: row["arm"] == arm,  # type: ignore[misc]
                lambda row: row["arm"] == "base",
                ("dataset", "profile", "on", "regime", "budget", "strategy", "seed", "settings"),
            )
            table[f"{name}, from scratch, {views}"] = prior(found)
            of_photos: Differences = {}
            if not plain and name != "weak motions":
                # Against as many more standard views. 'motion' moves scarce classes there.
                suffix = "" if name == "synthetic images" else ":classes=all"
                of_photos = differences(
                    [row for row in photos if row["regime"] == "standard" and row["on"] == "validation"],
                    lambda row, suffix=suffix: row["arm"] == f"motion{suffix}",  # type: ignore[misc]
                    lambda row: row["arm"] == "more_views",
                    ("dataset", "on", "head", "penalty", "seed"),
                )
            table[f"{name}, pretrained, {views}"] = prior(of_photos, FEW_SETS_DEVIATION)
    found = differences(
        motion,
        lambda row: row["arm"] == "base" and row["regime"] in ("affine", "flipcrop"),
        lambda row: row["arm"] == "base" and row["regime"] == "none",
        ("dataset", "profile", "on", "budget", "strategy", "seed"),
    )
    table["standard views, from scratch, standard views"] = prior(found)
    table["standard views, pretrained, standard views"] = prior({})
    return dict(sorted(table.items()))


def main(arguments: list[str] | None = None) -> None:
    r"""Writes the file that the package ships."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gains", description=__doc__)
    parser.add_argument("--output", type=Path, default=PRIOR)
    options = parser.parse_args(arguments)
    content = {"unit": "points of balanced accuracy", "version": 1, "gains": gains()}
    options.output.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
