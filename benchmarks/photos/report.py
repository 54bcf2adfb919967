r"""The report: paired differences of the arms to standard views alone, and to as many more standard views."""

__all__ = ["finetuned_report", "paired", "report", "write"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..tables import markdown, write_report
from .arms import ADDED_VIEWS, ARMS, STANDARD_VIEWS, parse_arm
from .finetuning import EPOCHS, TRAININGS, VIEWS, FinetunedRun, best_rate, rate_runs
from .heads import HEADS
from .runs import Run

HEAD = (
    "regime, arm",
    "views",
    "balanced accuracy",
    "above plain",
    "above more views",
    "splits above plain",
    "scarce recall",
    "above plain",
)


def paired(differences: Sequence[float]) -> str:
    r"""Returns the mean of paired differences with its standard error, :math:`s_d / \sqrt{S}`."""
    error = f" ± {stdev(differences) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
    return f"{fmean(differences):+.2f}{error}"


def _differences(runs: Mapping[int, Any], others: Mapping[int, Any], metric: str) -> list[float]:
    return [getattr(runs[seed], metric) - getattr(others[seed], metric) for seed in runs if seed in others]


def _by_arm(runs: Sequence[Run]) -> dict[tuple[str, str], dict[int, Run]]:
    arms: dict[tuple[str, str], dict[int, Run]] = {}
    for run in runs:
        arms.setdefault((run.regime, run.arm), {})[run.seed] = run
    order = {arm: position for position, arm in enumerate(ARMS)}
    return {arm: arms[arm] for arm in sorted(arms, key=lambda arm: (order.get(arm, len(order)), arm))}


def _control(regime: str, arm: str) -> tuple[str, str]:
    r"""Returns the regime and the arm with as many standard views."""
    return regime, str(replace(parse_arm("more_views"), classes=parse_arm(arm).classes))


def _penalty(runs: Sequence[Run]) -> float:
    r"""Returns the penalty with the highest balanced accuracy of standard views alone."""
    plain = [run for run in runs if (run.regime, run.arm) == ("standard", "plain")] or runs
    penalties = {run.penalty for run in plain}
    return max(penalties, key=lambda penalty: fmean(run.balanced_accuracy for run in plain if run.penalty == penalty))


def _table(runs: Sequence[Run]) -> str:
    arms = _by_arm(runs)
    lines = []
    for (regime, arm), by_seed in arms.items():
        plain, control = arms.get((regime, "plain"), {}), arms.get(_control(regime, arm), {})
        gains = _differences(by_seed, plain, "balanced_accuracy")
        over_control = _differences(by_seed, control, "balanced_accuracy")
        is_plain = arm == "plain"
        lines.append(
            [
                f"{regime}, {arm}",
                f"{fmean(run.views for run in by_seed.values()):.0f}",
                f"{fmean(run.balanced_accuracy for run in by_seed.values()):.2f}",
                "" if is_plain or not gains else paired(gains),
                "" if is_plain or control is by_seed or not over_control else paired(over_control),
                "" if is_plain or not gains else f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
                f"{fmean(run.scarce_recall for run in by_seed.values()):.2f}",
                "" if is_plain or not gains else paired(_differences(by_seed, plain, "scarce_recall")),
            ]
        )
    return markdown(HEAD, lines)


def _sensitivity(runs: Sequence[Run]) -> str:
    r"""Returns the differences to plain with each penalty."""
    penalties = sorted({run.penalty for run in runs})
    tables = {penalty: _by_arm([run for run in runs if run.penalty == penalty]) for penalty in penalties}
    lines = []
    for regime, arm in tables[penalties[0]]:
        cells = []
        for penalty in penalties:
            by_seed, plain = tables[penalty].get((regime, arm), {}), tables[penalty].get((regime, "plain"), {})
            if arm == "plain":
                cells.append(f"{fmean(run.balanced_accuracy for run in by_seed.values()):.2f}")
            else:
                gains = _differences(by_seed, plain, "balanced_accuracy")
                cells.append(paired(gains) if gains else "")
        lines.append([f"{regime}, {arm}", *cells])
    return markdown(("regime, arm", *(f"penalty {penalty:g}" for penalty in penalties)), lines)


def report(runs: Sequence[Run]) -> str:
    r"""Returns the tables of each set and head, with the penalty that suits standard views alone best."""
    parts = [
        f"All figures are percentages, means over splits. Differences are paired by split, mean ± standard error. "
        f"Every training image has {STANDARD_VIEWS} standard views, or one in the regime 'centre'. Each arm except "
        f"'plain' adds {ADDED_VIEWS} views to each image of the scarce classes, or of all classes with 'classes=all'. "
        f"The views of an image share the weight of one image. The penalty of the heads is the best one of standard "
        f"views alone, which favours 'plain'. Where an arm has fewer splits than 'plain', only the differences compare "
        f"them.\n"
    ]
    for dataset, on in dict.fromkeys((run.dataset, run.on) for run in runs):
        for head in HEADS:
            own = [run for run in runs if (run.dataset, run.on, run.head) == (dataset, on, head)]
            if not own:
                continue
            penalty = _penalty(own)
            parts.append(f"## {dataset}, {on}, {head}, penalty {penalty:g}\n")
            if head == HEADS[0]:
                parts.append(f"Training images of the first split: {own[0].classes.replace(' ', ', ')}.\n")
            parts.append(_table([run for run in own if run.penalty == penalty]))
            parts.append("Balanced accuracy above plain, by penalty:\n")
            parts.append(_sensitivity(own))
    machines = dict.fromkeys(f"{run.device}, {run.versions}" for run in runs)
    return "\n".join([*parts, *(f"- {machine}" for machine in machines), ""])


def _means_of_trainings(runs: Sequence[FinetunedRun]) -> dict[str, dict[int, FinetunedRun]]:
    r"""Returns the runs of each arm by split, with the mean figures of the trainings that all arms have there."""
    common: dict[int, set[int]] = {}
    for seed in {run.seed for run in runs}:
        by_arm = [{run.training for run in runs if (run.seed, run.arm) == (seed, arm)} for arm in {r.arm for r in runs}]
        common[seed] = set.intersection(*filter(None, by_arm))
    arms: dict[str, dict[int, FinetunedRun]] = {}
    for arm, seed in dict.fromkeys((run.arm, run.seed) for run in runs):
        own = [run for run in runs if (run.arm, run.seed) == (arm, seed) and run.training in common[seed]]
        if own:
            accuracy, recall = (
                fmean(getattr(run, name) for run in own) for name in ("balanced_accuracy", "scarce_recall")
            )
            arms.setdefault(arm, {})[seed] = replace(own[0], balanced_accuracy=accuracy, scarce_recall=recall)
    return arms


def finetuned_report(runs: Sequence[FinetunedRun]) -> str:
    r"""Returns a table for each set, with the learning rate that suits standard views alone best."""
    parts = [
        "## Fine-tuning\n",
        f"The last three of sixteen blocks and the last convolution are trained with balanced softmax; the blocks "
        f"before them stay frozen. In each epoch, each image is shown once, in one of its views: {VIEWS[0]} standard "
        f"ones, and {VIEWS[1]} of the arm. The learning rate is the best one of standard views alone, which favours "
        f"'plain'. It is chosen in trainings of {EPOCHS} epochs, for longer ones too. Splits have the mean of up to "
        f"{TRAININGS} trainings each, or one if it is longer.\n",
    ]
    for dataset, on in dict.fromkeys((run.dataset, run.on) for run in runs):
        own = [run for run in runs if (run.dataset, run.on) == (dataset, on)]
        rate = best_rate(own, dataset, on)
        tried = ", ".join(
            f"{fmean(run.balanced_accuracy for run in tried_runs):.2f} with {tried_rate:g}"
            for tried_rate, tried_runs in rate_runs(own, dataset, on).items()
        )
        parts += [f"### {dataset}, {on}, learning rate {rate:g}\n", f"Standard views alone: {tried}.\n"]
        for settings in sorted({run.settings for run in own}, key=lambda text: int(text.split()[0])):
            parts += [f"{settings}:\n", _finetuned_arms([r for r in own if (r.rate, r.settings) == (rate, settings)])]
    return "\n".join(parts)


def _finetuned_arms(runs: Sequence[FinetunedRun]) -> str:
    r"""Returns the table of the arms of a set and of trainings of one length."""
    arms = _means_of_trainings(runs)
    lines = []
    for arm, by_seed in sorted(arms.items(), key=lambda one: (one[0] != "plain", one[0])):
        control = arms.get(_control("standard", arm)[1], {})
        gains = _differences(by_seed, arms.get("plain", {}), "balanced_accuracy")
        over_control = _differences(by_seed, control, "balanced_accuracy")
        compared = arm != "plain" and bool(gains)
        lines.append(
            [
                arm,
                f"{fmean(run.balanced_accuracy for run in by_seed.values()):.2f}",
                paired(gains) if compared else "",
                paired(over_control) if compared and over_control and control is not by_seed else "",
                f"{sum(gain > 0 for gain in gains)} of {len(gains)}" if compared else "",
                f"{fmean(run.scarce_recall for run in by_seed.values()):.2f}",
            ]
        )
    head = ("arm", "balanced accuracy", "above plain", "above more views", "splits above plain", "scarce recall")
    return markdown(head, lines)


def write(folder: Path, runs: Sequence[Run], finetuned: Sequence[FinetunedRun] = ()) -> None:
    r"""Writes ``REPORT.md``."""
    parts = ([report(runs)] if runs else []) + ([finetuned_report(finetuned)] if finetuned else [])
    if parts:
        write_report(folder, "Photographs", "\n".join(parts))
