r"""``python -m benchmarks.gains``: the prior of ``gae_augment.evaluation.advise``, from the runs of the benchmarks."""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from gae_augment.evaluation.advice.setting import PARTNERS

from .photos.sets import folder_of

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

MOVED_WITH = {
    "plain training": "balanced softmax",
    "class-balanced sampling": "class-balanced sampling",
    "square-root sampling with balanced softmax": "square-root sampling",
    "balanced softmax": "balanced softmax",
    "balanced softmax with τ = 1.5": "balanced softmax",
}
"""The strategy of the benchmark of motions that shows what motions gain on one of ``advise``.

The batches of plain training and of balanced softmax are the same, and the loss was measured with one factor.
"""

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
            found[folder_of(row["dataset"])].append(float(row["balanced_accuracy"]) - bases[key])
    return found


def prior(found: Differences, unknown: float = UNKNOWN_DEVIATION) -> dict[str, float | int]:
    r"""Returns the mean over data sets, and the standard deviation between them. Each set counts alike."""
    means = [fmean(values) for values in found.values()]
    if not means:
        return {"mean": 0.0, "deviation": unknown, "sets": 0}
    least = LEAST_DEVIATION if len(means) > 2 else FEW_SETS_DEVIATION
    deviation = max(least, stdev(means) if len(means) > 1 else 0.0)
    return {"mean": round(fmean(means), 2), "deviation": round(deviation, 2), "sets": len(means)}


def over_the_best(rows: Iterable[Row], strategy: str) -> Differences:
    r"""Returns what motions with one strategy gain over the best other strategy without motions, by data set.

    The best strategy of a data set, with its profile, transform and budget, has the highest mean of all seeds.

    Args:
        rows: The runs of the benchmark of motions.
        strategy: The strategy with motions.
    """
    cells: dict[tuple[str, ...], dict[tuple[str, str], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        cell = cells[tuple(row[key] for key in ("dataset", "profile", "on", "regime", "budget", "settings"))]
        cell[row["strategy"], row["arm"]][row["seed"]] = float(row["balanced_accuracy"])
    found: Differences = defaultdict(list)
    for (dataset, *_), cell in cells.items():
        others = [scores for (name, arm), scores in cell.items() if arm == "base" and name != strategy]
        moved = cell.get((strategy, "motion"), {})
        if others and moved:
            best = max(others, key=lambda scores: fmean(scores.values()))
            found[dataset] += [moved[seed] - best[seed] for seed in moved if seed in best and best[seed] < CEILING]
    return {dataset: points for dataset, points in found.items() if points}


def _of_motions(moved: Sequence[Row], name: str, strategy: str) -> dict[str, float | int]:
    r"""Returns the prior of a change with a strategy, of networks that are trained from scratch.

    Where it was not measured with the strategy, images of scarce classes gain as much as motions of all classes, and
    weak motions half as much, as they did with class-balanced sampling.
    """
    found = differences(
        moved,
        lambda row: (row["arm"], row["strategy"]) == (CHANGES[name], strategy),
        lambda row: (row["arm"], row["strategy"]) == ("base", strategy),
        ("dataset", "profile", "on", "regime", "budget", "seed", "settings"),
    )
    if found or name == "motions":
        return prior(found)
    known = _of_motions(moved, "motions", strategy)
    return known if name == "synthetic images" else {**known, "mean": round(known["mean"] / 2, 2)}


def _of_photos(photos: Iterable[Row], name: str, plain: bool) -> Differences:
    r"""Returns what a change gains on photographs over as many more standard views, by data set."""
    if plain or name == "weak motions":
        return {}
    # 'motion' moves scarce classes there.
    suffix = "" if name == "synthetic images" else ":classes=all"
    return differences(
        photos,
        lambda row: row["arm"] == f"motion{suffix}",
        lambda row: row["arm"] == "more_views",
        ("dataset", "on", "head", "penalty", "seed"),
    )


def _of_other_heads(photos: Iterable[Row], plain: bool) -> Differences:
    r"""Returns what motions with class-balanced weights gain on photographs over balanced softmax, by data set."""
    if plain:
        return {}
    return differences(
        photos,
        lambda row: (row["arm"], row["head"]) == ("motion:classes=all", "class-balanced"),
        lambda row: (row["arm"], row["head"]) == ("more_views", "balanced softmax"),
        ("dataset", "on", "penalty", "seed"),
    )


def gains(results: Path = RESULTS, *, without: str | None = None) -> dict[str, dict[str, float | int]]:
    r"""Returns the prior of each change, by change, kind of network, and whether images have standard views.

    Args:
        results: The folder of the benchmarks' results.
        without: A data set whose runs are left out.
    """
    imbalance, motion, photos = (
        [row for row in rows_of(results / name / "runs.csv") if folder_of(row["dataset"]) != without]
        for name in ("imbalance", "motion", "photos")
    )
    imbalance = [row for row in imbalance if row["source"] == "nothing"]
    # Published trainings are for a comparison with the tables of others.
    motion = [row for row in motion if row["budget"] != "published"]
    photos = [row for row in photos if row["regime"] == "standard" and row["on"] == "validation"]
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
        for name in CHANGES:
            for strategy in MOVED_WITH:
                known = prior(_of_photos(photos, name, plain), FEW_SETS_DEVIATION)
                table[f"{name} on {strategy}, pretrained, {views}"] = known
                table[f"{name} on {strategy}, from scratch, {views}"] = _of_motions(moved, name, MOVED_WITH[strategy])
        for partner in PARTNERS:
            over = f"motions on {partner} over the best"
            table[f"{over}, from scratch, {views}"] = prior(over_the_best(moved, MOVED_WITH[partner]))
            table[f"{over}, pretrained, {views}"] = prior(_of_other_heads(photos, plain), FEW_SETS_DEVIATION)
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
