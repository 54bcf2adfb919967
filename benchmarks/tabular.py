r"""``python -m benchmarks.tabular``: tables of numbers, over-sampled by GAESampler, SMOTE, ADASYN and others."""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from imblearn.over_sampling import ADASYN, SMOTE, RandomOverSampler
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from gae_augment.evaluation import PairedDifference
from gae_augment.integrations.imblearn import GAESampler

from .machine import device_name, versions
from .records import RecordTable
from .tables import markdown, signed, write_report

RESULTS = Path(__file__).resolve().parent / "results" / "tabular"

DATASETS = ("mammography", "ecoli", "yeast")

FOLDS = 5

LEAST_ROWS = 10
"""The minimum number of rows of a class; a fold of a smaller one would have at most one row."""

CLASSIFIERS: dict[str, Callable[..., BaseEstimator]] = {
    "logistic regression": lambda **options: LogisticRegression(max_iter=2000, **options),
    "random forest": lambda **options: RandomForestClassifier(200, random_state=0, **options),
    "gradient boosting": lambda **options: HistGradientBoostingClassifier(random_state=0, **options),
}

NOTHING, WEIGHTS, OURS = "nothing", "class weights", "GAESampler"

SAMPLERS: dict[str, Callable[[int], Any] | None] = {
    NOTHING: None,
    WEIGHTS: None,
    "RandomOverSampler": lambda seed: RandomOverSampler(random_state=seed),
    "SMOTE": lambda seed: SMOTE(random_state=seed),
    "ADASYN": lambda seed: ADASYN(random_state=seed),
    OURS: lambda seed: GAESampler(random_state=seed),
}


@dataclass(frozen=True)
class Run:
    r"""One sampler and classifier in the folds of one seed: means, in percent, and the seconds of sampling."""

    dataset: str
    classifier: str
    sampler: str
    seed: int
    balanced_accuracy: float
    macro_f1: float
    seconds: float
    classes: str
    device: str
    versions: str


def load_table(name: str, data_root: Path) -> tuple[np.ndarray, np.ndarray]:
    r"""Returns the distinct rows of a table, with shape :math:`(N, F)`, and their classes from 0 on.

    Classes with fewer than ten rows are left out.
    """
    lines = np.loadtxt(data_root / "tabular" / f"{name}.csv", delimiter=",", dtype=str)
    lines = np.unique(lines, axis=0)
    _, y, counts = np.unique(lines[:, -1], return_inverse=True, return_counts=True)
    kept = counts[y] >= LEAST_ROWS
    return lines[kept, :-1].astype(np.float64), np.unique(y[kept], return_inverse=True)[1]


def measure(dataset: str, X: np.ndarray, y: np.ndarray, sampler: str, seed: int) -> list[Run]:
    r"""Trains and tests every classifier in every fold; the sampler sees only the standardised training rows."""
    accuracies: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    scores: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    seconds = 0.0
    make = SAMPLERS[sampler]
    options = {"class_weight": "balanced"} if sampler == WEIGHTS else {}
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y):
        scaler = StandardScaler().fit(X[train])
        learned = scaler.transform(X[train]), y[train]
        unseen = scaler.transform(X[test])
        start = time.perf_counter()
        learned = make(seed).fit_resample(*learned) if make else learned
        seconds += time.perf_counter() - start
        for name, classifier in CLASSIFIERS.items():
            predicted = classifier(**options).fit(*learned).predict(unseen)
            accuracies[name].append(100 * balanced_accuracy_score(y[test], predicted))
            scores[name].append(100 * f1_score(y[test], predicted, average="macro"))
    return [
        Run(
            dataset,
            name,
            sampler,
            seed,
            round(fmean(accuracies[name]), 3),
            round(fmean(scores[name]), 3),
            round(seconds / FOLDS, 3),
            " ".join(map(str, np.bincount(y))),
            device_name(torch.device("cpu")),
            versions("torch", "scikit-learn", "imbalanced-learn"),
        )
        for name in CLASSIFIERS
    ]


def _difference(ours: dict[int, Run], others: dict[int, Run], metric: str) -> str:
    common = [seed for seed in ours if seed in others]
    return signed(PairedDifference.of([getattr(ours[seed], metric) - getattr(others[seed], metric) for seed in common]))


def report(runs: Sequence[Run]) -> str:
    r"""Returns a table for each data set, with the difference of GAESampler to every other sampler."""
    parts = []
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        parts.append(f"## {dataset}, classes of {own[0].classes.replace(' ', ', ')}\n")
        lines = []
        for classifier in CLASSIFIERS:
            rows = {
                sampler: {run.seed: run for run in own if (run.classifier, run.sampler) == (classifier, sampler)}
                for sampler in SAMPLERS
            }
            for sampler, found in rows.items():
                if found:
                    compared = sampler != OURS and rows[OURS]
                    lines.append(
                        [
                            classifier,
                            sampler,
                            f"{fmean(run.balanced_accuracy for run in found.values()):.2f}",
                            _difference(rows[OURS], found, "balanced_accuracy") if compared else "",
                            f"{fmean(run.macro_f1 for run in found.values()):.2f}",
                            _difference(rows[OURS], found, "macro_f1") if compared else "",
                            f"{fmean(run.seconds for run in found.values()):.2f}",
                            str(len(found)),
                        ]
                    )
        head = ("classifier", "sampler", "balanced accuracy", "ours above it", "macro F1", "ours above it")
        parts.append(markdown((*head, "seconds to sample a fold", "seeds"), lines))
    machines = dict.fromkeys(f"{run.device}, {run.versions}" for run in runs)
    return "\n".join([*parts, *(f"- {machine}" for machine in machines), ""])


def main(arguments: list[str] | None = None) -> None:
    r"""Measures every sampler with every classifier on every table; runs that are in the results are not repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    table = RecordTable(options.output / "runs.csv", Run, ("dataset", "classifier", "sampler", "seed"))
    done = {(run.dataset, run.sampler, run.seed) for run in table.records.values()}
    plans = list(product(options.datasets, options.samplers, range(options.seeds)))
    missing = [plan for plan in plans if plan not in done]
    print(f"{len(plans) - len(missing)} of {len(plans)} runs are in {table.path}.")
    tables = {dataset: load_table(dataset, options.data_root) for dataset in options.datasets}
    for dataset, sampler, seed in tqdm(missing, unit="run"):
        with warnings.catch_warnings():
            # GAESampler warns of small classes whose error was still falling; the figures show the effect.
            warnings.simplefilter("ignore")
            try:
                table.add(*measure(dataset, *tables[dataset], sampler, seed))
            except ValueError as error:
                # ADASYN needs neighbours of other classes.
                tqdm.write(f"{dataset}, {sampler}, seed {seed}: {error}")
    write_report(options.output, "Tables", report(list(table.records.values())))
    print(report([run for run in table.records.values() if run.dataset in options.datasets]))


if __name__ == "__main__":
    main()
