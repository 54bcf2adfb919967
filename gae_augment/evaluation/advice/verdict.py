r"""The verdict: which way of training is best, and whether synthetic images belong to it."""

__all__ = [
    "PROBABILITY", "TRANSFER", "Advice", "AdviceRow", "Decision", "Rows", "choose_base", "class_facts", "decide",
    "name_of", "prior_of_ours",
]  # fmt: skip

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...data import FEW_OBJECTS
from .compare import Arm, Comparison
from .prior import Posterior, Prior, prior_of

PROBABILITY = 0.9
"""Synthetic images or motions are used if they gain with at least this probability."""

TRANSFER = 1.5
"""How much, in points, gains of small networks trained from scratch differ from those of the user's longer training.

It is a standard deviation, and adds to the standard error. ``benchmarks/results/advice/REPORT.md`` compares both.
"""

HOW = {
    "plain training": "DataLoader({train}, shuffle=True), cross_entropy(logits, labels)",
    "class-balanced sampling": "MixedSampler({train}), cross_entropy(logits, labels)",
    "square-root sampling with balanced softmax": (
        "sampler = MixedSampler({train}, balance=0.5), cross_entropy(logits + sampler.log_frequencies, labels)"
    ),
    "balanced softmax": (
        "sampler = MixedSampler({train}, balance=0), cross_entropy(logits + sampler.log_frequencies, labels)"
    ),
    "balanced softmax with τ = 1.5": (
        "sampler = MixedSampler({train}, balance=0), cross_entropy(logits + 1.5 * sampler.log_frequencies, labels)"
    ),
}
"""What to type for each strategy, with ``{train}`` for the training set."""


@dataclass(frozen=True)
class AdviceRow:
    r"""One way of training in the table.

    Attributes:
        name: Its name.
        score: The mean probability of the right class on held-out images, class-balanced, in percent.
        balanced_accuracy: The balanced accuracy on held-out images, in percent.
        measured: The measured gain of the score over the row that it is compared with, in points.
        standard_error: Its standard error.
        gain: The gain, given the prior and the measurement.
        over: The name of the row that it is compared with.
    """

    name: str
    score: float
    balanced_accuracy: float
    measured: float
    standard_error: float
    gain: Posterior
    over: str


@dataclass(frozen=True)
class Advice:
    r"""The result of :func:`gae_augment.evaluation.advise`.

    Attributes:
        use: Whether motions or synthetic images should be used.
        strategy: The remedy for imbalance of the best training: with ours if ``use``, else without.
        standard_views: Whether training images should have standard views: crops, mirror images and colours.
        more_views: Whether images of scarce classes should have twice as many standard views.
        ours: ``"none"``, ``"motions"`` or ``"synthetic images"``.
        strength: The strength of the motions; 0 without any.
        gain: What the best training with motions or synthetic images gains over the best one without, in points.
        best: The name of the best training with motions or synthetic images.
        over: The name of the best training without them.
        rows: The ways of training that were compared, the best ones of each kind.
        classes: The numbers of images and objects of each class, and the smallest difference of its recall that is not
            chance, in points.
        beats_chance: Whether the best training, with or without ours, recognises held-out images better than chance.
        warnings: What makes the verdict uncertain.
        backbone: The name of the network whose features were used, or that of small networks.
        splits: The number of splits into training and held-out images.
        images: The number of images that were compared.
        seconds: The time in seconds.
    """

    use: bool
    strategy: str
    standard_views: bool
    more_views: bool
    ours: str
    strength: float
    gain: Posterior | None
    best: str
    over: str
    rows: tuple[AdviceRow, ...]
    classes: Mapping[str, Mapping[str, Any]]
    beats_chance: bool
    warnings: tuple[str, ...]
    backbone: str
    splits: int
    images: int
    seconds: float

    @property
    def sentence(self) -> str:
        r"""The verdict in one sentence."""
        if not self.beats_chance:
            return (
                f"Do not use synthetic images here: {self.over}, the best training without them, recognises held-out "
                f"images no better than chance, and no training does. Check the labels, or choose another network."
            )
        if self.gain is None:
            return f"Use {self.over}. Motions were not compared."
        points = f"{self.gain.mean:+.1f} points ({self.gain.low:+.1f} to {self.gain.high:+.1f})"
        if self.use:
            return f"Use {self.best}: {points} over {self.over} alone."
        return f"Do not use synthetic images here: {self.over} alone. The best with them, {self.best}, gains {points}."

    @property
    def command(self) -> str:
        r"""What to type."""
        how = HOW[self.strategy]
        if self.use and self.ours == "synthetic images":
            return f"augmented = augmenter.augment(train), {how.format(train='augmented')} (or gae-augment balance)"
        how = how.format(train="train")
        if self.use:
            return f"transform = Compose([augmenter.motion(strength={self.strength:g}), ...]), {how}"
        if self.more_views:
            return f"train = Subset(train, [*range(len(train)), *rows]) with the rows of scarce classes, {how}"
        return how

    def table(self) -> str:
        r"""Returns the compared ways of training as text."""
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'':{width}}  balanced accuracy  score   gain (95 %)            P(gain > 0)"]
        for row in self.rows:
            gain = f"{row.gain.mean:+5.1f} ({row.gain.low:+.1f} to {row.gain.high:+.1f})" if row.over else ""
            probability = f"{row.gain.probability:.2f}" if row.over else ""
            lines.append(
                f"{row.name:{width}}  {row.balanced_accuracy:17.1f}  {row.score:5.1f}  {gain:22} {probability}"
            )
        return "\n".join(line.rstrip() for line in lines)

    def as_dict(self) -> dict[str, Any]:
        r"""Returns all figures as a dictionary that the ``json`` module can write."""
        values = asdict(self)
        for row, values_of_row in zip(self.rows, values["rows"], strict=True):
            values_of_row["gain"] = row.gain.as_dict()
        if self.gain is not None:
            values["gain"] = self.gain.as_dict()
        return {"sentence": self.sentence, "command": self.command, **values}


def ours_of(arm: Arm) -> str:
    r"""Returns what an arm adds, in words."""
    return f"learned motions of strength {arm.strength:g}" if arm.ours == "motions" else arm.ours


def name_of(arm: Arm) -> str:
    r"""Returns the name of an arm, such as ``balanced softmax + standard views + learned motions of strength 0.5``."""
    parts = [
        arm.strategy,
        *(["standard views" + (", two of scarce classes" if arm.more_views else "")] if arm.standard else []),
        *([ours_of(arm)] if arm.ours != "none" else []),
    ]
    return " + ".join(parts)


def _base_prior(arm: Arm, pretrained: bool) -> Prior:
    r"""Returns the prior of an arm without ours, over plain training without standard views."""
    parts = []
    if arm.strategy != "plain training":
        parts.append(prior_of(arm.strategy, pretrained=pretrained, standard=arm.standard))
    if arm.standard:
        parts.append(prior_of("standard views", pretrained=pretrained, standard=True))
    mean = sum(part.mean for part in parts)
    return Prior(mean, sum(part.deviation**2 for part in parts) ** 0.5, min(part.sets for part in parts))


@dataclass(frozen=True)
class Decision:
    r"""The best arm without ours, the best one of ours on top of it and its gain, and the rows of the table."""

    base: Arm
    best: Arm | None
    gain: Posterior | None
    rows: tuple[AdviceRow, ...]
    beats_chance: bool

    @property
    def use(self) -> bool:
        r"""Whether motions or synthetic images should be used."""
        return self.beats_chance and self.gain is not None and self.gain.probability >= PROBABILITY


Rows = dict[Arm, AdviceRow]


def choose_base(comparison: Comparison, allowed: Sequence[Arm], *, pretrained: bool) -> tuple[Arm, Rows]:
    r"""Returns the best training without ours, and the rows of all that were compared.

    Each arm without ours is compared with plain training. The prior of its gain, from other data sets, is updated by
    the measured difference. The best one has the largest posterior mean.

    Args:
        comparison: The comparison. It has plain training.
        allowed: The arms among which to choose.
        pretrained: Whether the network was trained on other images.
    """
    plain = Arm("plain training")
    rows = {plain: _first_row(comparison, plain)}
    for arm in comparison.arms:
        if arm.ours == "none" and arm != plain:
            rows[arm] = _row(comparison, arm, plain, _base_prior(arm, pretrained), pretrained)
    return max(allowed, key=lambda arm: rows[arm].gain.mean), rows


def decide(comparison: Comparison, base: Arm, ours: Sequence[Arm], rows: Rows, *, pretrained: bool) -> Decision:
    r"""Decides whether motions or synthetic images are better than the best training without them.

    The prior of their gain is updated as in :func:`choose_base`. Its mean is at most half of the errors without ours.

    Args:
        comparison: The comparison. It has the best training.
        base: The best training without ours.
        ours: The trainings with motions or synthetic images.
        rows: The rows of the trainings without ours.
        pretrained: Whether the network was trained on other images.
    """
    rows = rows or {base: _first_row(comparison, base)}
    accuracy = comparison.balanced_accuracy(base)
    added = {
        arm: _row(comparison, arm, base, prior_of_ours(arm, base, accuracy, pretrained=pretrained), pretrained)
        for arm in ours
    }
    best = max(added, key=lambda arm: added[arm].gain.mean) if added else None
    gain = added[best].gain if best else None
    beats_chance = any(comparison.beats_chance(arm) for arm in (base, best) if arm is not None)
    return Decision(base, best, gain, (*rows.values(), *added.values()), beats_chance)


def prior_of_ours(arm: Arm, base: Arm, accuracy: float, *, pretrained: bool) -> Prior:
    r"""Returns the prior of what an arm with ours gains over the best arm without.

    Args:
        arm: The arm with ours.
        base: The best arm without.
        accuracy: The balanced accuracy of the best arm without, in percent.
        pretrained: Whether the network was trained on other images.
    """
    if arm.strategy == base.strategy:
        change = arm.ours if arm.ours != "motions" or arm.strength > 0.5 else "weak motions"
        change = f"{change} on {arm.strategy}"
    else:
        # Weak motions were not measured with another strategy than the best.
        change = f"motions on {arm.strategy} over the best"
    prior = prior_of(change, pretrained=pretrained, standard=arm.standard)
    # Other data sets, whose classifiers erred more, show no gain of what is left here.
    return replace(prior, mean=min(prior.mean, (100 - accuracy) / 2))


def _first_row(comparison: Comparison, arm: Arm) -> AdviceRow:
    return AdviceRow(name_of(arm), *_scores(comparison, arm), 0.0, 0.0, Posterior(0.0, 1e-9), "")


def _scores(comparison: Comparison, arm: Arm) -> tuple[float, float]:
    return comparison.score(arm), comparison.balanced_accuracy(arm)


def _row(comparison: Comparison, arm: Arm, over: Arm, prior: Prior, pretrained: bool) -> AdviceRow:
    measured, error = comparison.difference(arm, over)
    gain = prior.update(measured, error if pretrained else math.hypot(error, TRANSFER))
    return AdviceRow(name_of(arm), *_scores(comparison, arm), measured, error, gain, name_of(over))


def class_facts(
    comparison: Comparison, names: Sequence[str], counts: Sequence[int], objects: Sequence[int], decision: Decision
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    r"""Returns what is known of each class, and warnings of classes with few objects."""
    arm = decision.best or next(arm for arm in comparison.arms if arm != decision.base or len(comparison.arms) == 1)
    facts, warnings = {}, []
    for label, name in enumerate(names):
        chance = None
        if label in comparison.classes:
            # One object more or less is the smallest difference.
            chance = max(1.96 * comparison.recall_error(arm, decision.base, label), 100 / objects[label])
        facts[name] = {"images": int(counts[label]), "objects": int(objects[label]), "chance": chance}
        if chance is None:
            warnings.append(f"1 object in class {name}: it cannot be held out, and its recall is unknown.")
        elif objects[label] < FEW_OBJECTS:
            warnings.append(
                f"{objects[label]} objects in class {name}: a difference of its recall below {chance:.0f} points is "
                f"chance."
            )
    return facts, warnings
