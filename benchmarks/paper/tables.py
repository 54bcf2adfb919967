r"""Tables of runs, ours beside the paper's."""

__all__ = ["fid_table", "time_table"]

import math
from collections.abc import Iterable, Sequence
from statistics import mean

from scipy.stats import spearmanr

from ..tables import markdown
from .published import FID, SECONDS
from .rows import PAPERS
from .runs import Run


def _by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(run.model, []).append(run)
    return rows


def _number(value: float, digits: int = 2) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _correlation(ours: dict[str, float], published: dict[str, float]) -> str:
    common = [model for model in published if model in ours]
    if len(common) < 3:
        return ""
    found = spearmanr([ours[model] for model in common], [published[model] for model in common]).statistic
    return f"Rank correlation with the paper over {len(common)} models: {found:.2f}.\n"


def fid_table(dataset: str, runs: Sequence[Run]) -> str:
    r"""Returns the table of FIDs of a data set, the best first, and the rank correlation with the paper's."""
    rows = _by_model(runs)
    published = FID.get(dataset, {})
    ours = {model: mean(run.fid for run in own) for model, own in rows.items()}
    lines = []
    for rank, model in enumerate(sorted(ours, key=ours.__getitem__), start=1):
        own = rows[model]
        lines.append(
            [
                f"{rank}. {model}",
                _number(ours[model]),
                _number(mean(run.fid_inception for run in own)),
                _number(published.get(model, math.nan)),
                *(
                    _number(mean(getattr(run, name) for run in own))
                    for name in ("fid_reconstructions", "precision", "recall", "coverage")
                ),
                f"{mean(run.components for run in own):.0f}",
                _number(mean(run.lipschitz_samples for run in own)),
                _number(mean(run.lipschitz_training for run in own)),
                str(own[0].train_images),
                str(len(own)),
            ]
        )
    head = (
        "model", f"FID (classifier features, {dataset})", "FID (Inception)", "paper's FID", "FID of reconstructions",
        "precision", "recall", "coverage", "components", "Lipschitz at samples", "at training codes",
        "training images", "seeds",
    )  # fmt: skip
    return markdown(head, lines) + "\n" + _correlation(ours, published)


def time_table(dataset: str, runs: Sequence[Run]) -> str:
    r"""Returns the table of training times of a data set, the fastest first, and the rank correlation."""
    rows = _by_model(runs)
    published = SECONDS.get(dataset, {})
    on_cpu = all("CPU" in run.device for run in runs)
    ours = {model: mean(run.cpu_seconds if on_cpu else run.seconds for run in own) for model, own in rows.items()}
    devices = {model: ", ".join(sorted({run.device for run in own})) for model, own in rows.items()}
    # Times of two machines do not compare.
    comparable = {model: seconds for model, seconds in ours.items() if devices[model] == devices.get(PAPERS)}
    lines = [
        [
            model,
            _number(ours[model], 0),
            _number(mean(run.seconds for run in rows[model]), 0),
            _number(ours[model] / ours[PAPERS]) if model in comparable else "",
            _number(published.get(model, math.nan)),
            _number(published.get(model, math.nan) / published.get(PAPERS, math.nan)),
            str(rows[model][0].epochs_trained),
            devices[model],
        ]
        for model in sorted(ours, key=ours.__getitem__)
    ]
    cost = "seconds of one CPU thread" if on_cpu else "seconds"
    head = ("model", cost, "by the clock", f"to {PAPERS}", "paper, A100", "to its GAE", "epochs", "machine")
    return markdown(head, lines) + "\n" + _correlation(comparable, published)
