r"""The report: what each arm gains over real images alone, and where moving images loses."""

__all__ = ["Gains", "best_strategies", "paired_gains", "report", "where_motions_lose"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from ..imbalance.cells import thirds
from ..records import RecordTable
from ..tables import markdown, write_report
from .arms import BASE, parse_arm
from .images import ImagesRow, images_table
from .runs import BUDGETS, Place, Run
from .training import BALANCED, REGIMES

TITLE = "Motions: what a classifier gains if its real images are moved"

INTRODUCTION = """\
`motion` moves real images by motions that generative models of all classes have learned. `elastic` moves them by random
smooth maps of the same strength and roughness. `decoded` and `residual` add synthetic images of scarce classes. Images
are moved or added before the user's transform. All arms draw all classes equally often, unless the heading names
another strategy against imbalance.

Each entry is the gain in balanced accuracy over `base` (real images alone) in points: the mean of the differences
between runs of the same seed, ± its standard error, and the number of seeds. The row `base` has the balanced accuracy
itself. Losses of more than one standard error are **bold**. Unless a column says otherwise, runs are measured on
development images: a tenth of every class, held out of the training images before the profile is applied.
"""

BEST = """\
## On top of the best strategy

The best strategy against imbalance on the same images, of real images alone and of moved ones. Motions were measured
with class-balanced sampling, balanced softmax and square-root sampling with balanced softmax; real images alone also
with post-hoc logit adjustment.
"""


@dataclass(frozen=True)
class Gains:
    r"""Differences in balanced accuracy between two arms, in points, one per seed."""

    points: tuple[float, ...]

    @property
    def mean(self) -> float:
        r"""The mean difference."""
        return fmean(self.points)

    @property
    def error(self) -> float | None:
        r"""The standard error of the mean; ``None`` for one seed."""
        return stdev(self.points) / len(self.points) ** 0.5 if len(self.points) > 1 else None

    @property
    def loses(self) -> bool:
        r"""Whether the mean is below 0 by more than one standard error."""
        return self.error is not None and self.mean < -self.error

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.2f}"
        text = f"{self.mean:+.2f}{error}"
        return f"{f'**{text}**' if self.loses else text} ({len(self.points)})"


def _pairing(run: Run) -> tuple[object, ...]:
    return run.place, run.regime, run.budget, run.strategy, run.settings, run.seed, run.device


def paired_gains(runs: Iterable[Run], base: str) -> dict[Place, Gains]:
    r"""Returns the gains of the runs of one arm over those of another arm, by place, paired by seed.

    All runs have one regime, budget and strategy. ``base`` is the name of the other arm.
    """
    runs = list(runs)
    bases = {_pairing(run): run for run in runs if run.arm == base}
    points: dict[Place, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.arm != base and _pairing(run) in bases:
            difference = run.balanced_accuracy - bases[_pairing(run)].balanced_accuracy
            points.setdefault(run.place, []).append(difference)
    return {place: Gains(tuple(values)) for place, values in points.items()}


def _by_arm(runs: Iterable[Run]) -> dict[str, list[Run]]:
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    order = ["base", "residual", "decoded", "motion", "elastic"]
    return dict(sorted(arms.items(), key=lambda arm: (order.index(arm[0].partition(":")[0]), arm[0])))


def _heading(place: Place) -> str:
    measured = "" if place.on == "development" else f", on {place.on} images"
    return f"{place.dataset}, {place.profile}{measured}"


def _gains_table(arms: Mapping[str, Sequence[Run]], places: Sequence[Place]) -> str:
    base = arms[str(BASE)]
    lines = []
    for arm, runs in arms.items():
        if arm == str(BASE):
            accuracies = [[run.balanced_accuracy for run in base if run.place == place] for place in places]
            lines.append([arm, *(f"{fmean(one):.2f} ({len(one)})" if one else "" for one in accuracies), "", ""])
        elif gains := paired_gains([*base, *runs], str(BASE)):
            entries = [str(gains[place]) if place in gains else "" for place in places]
            lost = [gain.mean < 0 for gain in gains.values()]
            # Means over different sets must not be compared.
            mean = f"{fmean(gain.mean for gain in gains.values()):+.2f}" if len(gains) == len(places) else ""
            lines.append([f"`{arm}`", *entries, mean, f"{sum(lost)} of {len(lost)}"])
    return markdown(("arm", *map(_heading, places), "mean of all", "below base in"), lines)


def _recall_gains(arms: Mapping[str, Sequence[Run]]) -> str:
    r"""Returns the change of the mean recall of the classes with many and with few images, over all places."""
    bases = {_pairing(run): run for run in arms[str(BASE)]}
    lines = []
    for arm, runs in arms.items():
        pairs = [(run, bases[_pairing(run)]) for run in runs if _pairing(run) in bases]
        if arm == str(BASE) or not pairs:
            continue
        changes: list[list[float]] = [[], [], []]
        for run, base in pairs:
            recall, before = (list(map(float, one.recall.split())) for one in (run, base))
            for change, labels in zip(changes, thirds(list(map(int, run.counts.split()))), strict=True):
                if labels:
                    change.append(fmean(recall[label] - before[label] for label in labels))
        seconds, base_seconds = (sum(pair[place].training_seconds for pair in pairs) for place in (0, 1))
        # Trainings of a few steps take 0.0 seconds.
        slower = f"{seconds / base_seconds:.2f}" if base_seconds else ""
        moved = fmean(run.displacement for run in runs)
        lines.append([f"`{arm}`", *(f"{fmean(change):+.2f}" for change in changes),
                      f"{moved:.1f} %" if moved else "", slower, str(len(pairs))])  # fmt: skip
    head = ("arm", "rich classes", "middle", "scarce classes", "displacement", "training time", "runs")
    return markdown(head, lines)


def _learned_against_random(arms: Mapping[str, Sequence[Run]], places: Sequence[Place]) -> str:
    r"""Returns the gains of learned motions over random maps with the same options; empty if there are none."""
    lines = []
    for arm, runs in arms.items():
        other = _rival(arm, "elastic")
        if other and (gains := paired_gains([*runs, *arms.get(other, ())], other)):
            lines.append([f"`{arm}`", *(str(gains[place]) if place in gains else "" for place in places)])
    return markdown(("arm", *map(_heading, places)), lines) if lines else ""


def where_motions_lose(runs: Sequence[Run], rival: str = "base") -> str:
    r"""Returns one sentence: in how many comparisons learned motions are below a rival, and the worst.

    Args:
        runs: All runs.
        rival: The kind of the other arm: ``"base"``, or ``"elastic"`` with the options of the motions.
    """
    losses, compared = [], 0
    for kind, cell in _cells(runs).items():
        arms = _by_arm(cell)
        for arm, moved in arms.items():
            other = _rival(arm, rival)
            for place, gain in paired_gains([*arms.get(other, ()), *moved], other).items() if other else ():
                compared += gain.error is not None
                if gain.loses:
                    losses.append((gain.mean, f"`{arm}`, {_heading(place)}, {_kind(*kind, ', ')}: {gain.mean:+.2f}"))
    beginning = f"Against `{rival}`, motions lose by more than a standard error in"
    if not losses:
        return f"{beginning} none of {compared} comparisons with several seeds."
    worst = "; ".join(text for _, text in sorted(losses)[:6])
    return f"{beginning} {len(losses)} of {compared} comparisons with several seeds; the worst are {worst}."


def _rival(arm: str, kind: str) -> str | None:
    r"""Returns the arm that a learned motion is compared with; ``None`` if there is none."""
    parsed = parse_arm(arm)
    if parsed.kind != "motion":
        return None
    if kind == "base":
        return str(BASE)
    return None if parsed.single or parsed.gae or parsed.rho else str(replace(parsed, kind="elastic"))


def _cells(runs: Iterable[Run]) -> dict[tuple[str, str, str], list[Run]]:
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.regime, run.budget, run.strategy), []).append(run)
    return cells


def _kind(regime: str, budget: str, strategy: str, separator: str) -> str:
    return separator.join((regime, budget) if strategy == BALANCED else (regime, budget, strategy))


def best_strategies(runs: Iterable[Run], arm: str = "motion") -> str:
    r"""Returns a table of the best strategies against imbalance; empty if no set has two with an arm.

    On each set, with each transform and budget, the best strategy is chosen among all that were measured, on the seeds
    that all have. At least two were measured with the arm.

    Args:
        runs: All runs.
        arm: The arm that is compared with real images alone.
    """
    accuracies: dict[tuple[Place, str, str], dict[tuple[str, str], dict[int, float]]] = {}
    for run in runs:
        if run.arm in (str(BASE), arm):
            cell = accuracies.setdefault((run.place, run.regime, run.budget), {})
            cell.setdefault((run.strategy, run.arm), {})[run.seed] = run.balanced_accuracy
    lines = []
    for (place, regime, budget), cell in sorted(accuracies.items(), key=lambda one: one[0]):
        if sum(kind == arm for _, kind in cell) < 2:
            continue
        seeds = sorted(set.intersection(*(set(scores) for scores in cell.values())))
        still, moved = (
            {name: [scores[seed] for seed in seeds] for (name, kind), scores in cell.items() if kind == wanted}
            for wanted in (str(BASE), arm)
        )
        best, best_moved = (max((fmean(scores), name) for name, scores in of.items())[1] for of in (still, moved))
        gains = {
            name: str(Gains(tuple(ours - theirs for ours, theirs in zip(scores, still[best], strict=True))))
            for name, scores in moved.items()
        }
        on_top, accuracy, kind = gains.get(best, ""), f"{fmean(still[best]):.2f}", f"{regime}, {budget}"
        lines.append([_heading(place), kind, best, accuracy, on_top, best_moved, gains[best_moved]])
    head = (
        "data set", "transform, training", "best strategy", "balanced accuracy", f"`{arm}` on top of it",
        f"best with `{arm}`", "gain over the best strategy",
    )  # fmt: skip
    return markdown(head, lines) if lines else ""


def report(output: Path, results: RecordTable[Run], images: RecordTable[ImagesRow]) -> None:
    r"""Writes ``REPORT.md`` from the tables alone, below the remarks of ``REMARKS.md``."""
    runs = list(results.records.values())
    parts = [INTRODUCTION, *(f"{where_motions_lose(runs, rival)}\n" for rival in ("base", "elastic"))]
    if table := best_strategies(runs):
        parts += [BEST, table]
    cells = sorted(
        _cells(runs).items(),
        key=lambda one: (one[0][2] != BALANCED, one[0][2], BUDGETS.index(one[0][1]), REGIMES.index(one[0][0])),
    )
    for (regime, budget, strategy), cell in cells:
        arms = _by_arm(cell)
        if str(BASE) not in arms:
            continue
        places = list(dict.fromkeys(run.place for run in sorted(arms[str(BASE)], key=lambda run: run.place)))
        settings = sorted({f"{run.dataset}: {run.settings}" for run in cell})
        parts += [
            f"## User's transform: {_kind(regime, f'{budget} training', strategy, '; ')}\n",
            _gains_table(arms, places),
            "\n".join(f"- {line}" for line in settings) + "\n",
            "Change of the mean recall of a third of the classes in points, root mean square displacement in percent "
            "of the side, and training time relative to `base`; means over all sets and seeds:\n",
            _recall_gains(arms),
        ]
        if learned := _learned_against_random(arms, places):
            parts += ["Learned motions less random maps with the same options, in points:\n", learned]
    if images.records:
        parts += ["## The images themselves\n", images_table(list(images.records.values()))]
    machines = sorted({f"{run.device}, {run.versions}" for run in runs})
    parts += ["## Machines and versions\n", "\n".join(f"- {line}" for line in machines) + "\n"]
    write_report(output, TITLE, "\n".join(parts))
