r"""Measures how much synthetic images improve a classifier's test scores."""

__all__ = [
    "BALANCED",
    "PLAIN",
    "ClassifierGain",
    "PairedDifference",
    "classifier_gain",
    "imbalance_metrics",
    "train_mixed",
]

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .._utils.checks import check_integer, check_tensor
from ..mixing import MixedSampler
from .classifier import Classifier, train_classifier
from .images import Labelled, checked_labels, checked_pair, to_unit

PLAIN = "plain training"
BALANCED = "class-balanced sampling"

UNDERTRAINED = 0.1
"""A classifier is undertrained if it covers less than this part of the way from chance to perfect recognition."""

METRICS = ("balanced accuracy", "macro F1", "G-mean", "accuracy")

Source = Labelled | Callable[[int], Labelled]
"""A pair of images and labels, or a function that returns the pair for a seed."""


def imbalance_metrics(labels: Tensor, predictions: Tensor, classes: int) -> dict[str, Any]:
    r"""Returns metrics of a classifier's predictions.

    Args:
        labels: The true labels, from 0 to ``classes`` - 1, with shape :math:`(N,)`.
        predictions: The predicted labels, from 0 to ``classes`` - 1, with shape :math:`(N,)`.
        classes: The number of classes.

    Returns:
        A dictionary with values in [0, 1]. ``"recall"`` is the list of the classes' recalls. ``"balanced accuracy"`` is
        their mean, and ``"G-mean"`` is their geometric mean. ``"macro F1"`` is the mean of the classes' F1 scores.
        ``"accuracy"`` is the fraction of correct predictions.

    Raises:
        ValueError: If labels are out of range, or a class does not occur in ``labels``.
    """
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    check_tensor(labels, "labels")
    check_tensor(predictions, "predictions")
    check_integer(classes, "classes", 2)
    true = checked_labels(labels, "labels", images=len(labels), classes=classes).cpu().numpy()
    predicted = checked_labels(predictions, "predictions", images=len(labels), classes=classes).cpu().numpy()
    missing = sorted(set(range(classes)) - set(true.tolist()))
    if missing:
        raise ValueError(
            f"No test image belongs to the classes {missing}. Add images of each, or renumber without these classes."
        )
    recall = recall_score(true, predicted, labels=range(classes), average=None, zero_division=0)
    f1 = f1_score(true, predicted, labels=range(classes), average="macro", zero_division=0)
    return {
        "balanced accuracy": float(recall.mean()),
        "macro F1": float(f1),
        "G-mean": float((recall ** (1 / classes)).prod()),
        "accuracy": float(accuracy_score(true, predicted)),
        "recall": recall.tolist(),
    }


@dataclass(frozen=True)
class PairedDifference:
    r"""The mean difference of a score between two ways of training, with its 95 % confidence interval.

    Each of :math:`S` random seeds or data splits gives one difference. The differences have the mean :math:`\bar d` and
    the standard deviation :math:`s_d`. The interval is :math:`\bar d \pm t_{0.975, S-1} \, s_d / \sqrt{S}`, with the
    97.5 % quantile of Student's t distribution.

    Attributes:
        mean: The mean difference.
        low: The lower end of the interval; ``None`` if there is only one difference.
        high: The upper end of the interval; ``None`` if there is only one difference.
    """

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, differences: Sequence[float]) -> "PairedDifference":
        r"""Returns the mean and the 95 % confidence interval of one or more differences."""
        mean, seeds = statistics.fmean(differences), len(differences)
        if seeds == 1:
            return cls(mean, None, None)
        from scipy.stats import t

        half_width = float(t.ppf(0.975, seeds - 1)) * statistics.stdev(differences) / seeds**0.5
        return cls(mean, mean - half_width, mean + half_width)


@dataclass(frozen=True)
class ClassifierGain:
    r"""The test scores of a classifier after several ways of training, called arms.

    Attributes:
        seeds: The random seeds. Each arm was trained once per seed.
        scores: A mapping from the name of each arm to a list. The list holds one result of :func:`imbalance_metrics`
            per seed.
    """

    seeds: tuple[int, ...]
    scores: dict[str, list[dict[str, Any]]]

    def values(self, arm: str, metric: str) -> list[float]:
        r"""Returns the values of a test metric for an arm (a way of training), one value per seed."""
        if arm not in list(self.scores):
            raise ValueError(f"{arm!r} is not an arm. Choose one of {list(self.scores)}.")
        if metric not in list(self.scores[arm][0]):
            raise ValueError(f"{metric!r} is not a metric. Choose one of {list(METRICS)}.")
        return [scores[metric] for scores in self.scores[arm]]

    def mean(self, arm: str, metric: str) -> float:
        r"""Returns the mean of a test metric over the seeds, for an arm (a way of training)."""
        return statistics.fmean(self.values(arm, metric))

    def deviation(self, arm: str, metric: str) -> float | None:
        r"""Returns the standard deviation of a test metric over the seeds, for an arm (a way of training).

        The divisor is the number of seeds minus 1. With one seed, the result is ``None``.
        """
        return statistics.stdev(self.values(arm, metric)) if len(self.seeds) > 1 else None

    def difference(self, arm: str, metric: str, baseline: str = BALANCED) -> PairedDifference:
        r"""Returns the mean difference of a test metric between two arms (ways of training).

        For each seed, the value for ``baseline`` is subtracted from the value for ``arm``. The result includes a 95 %
        confidence interval.
        """
        pairs = zip(self.values(arm, metric), self.values(baseline, metric), strict=True)
        return PairedDifference.of([value - base for value, base in pairs])

    @property
    def undertrained(self) -> bool:
        r"""Whether the classifiers with class-balanced sampling are hardly better than chance."""
        chance = 1 / len(self.scores[BALANCED][0]["recall"])
        return self.mean(BALANCED, "balanced accuracy") < chance + UNDERTRAINED * (1 - chance)

    def verdict(self, arm: str | None = None) -> str:
        r"""Returns in one or two sentences what synthetic images gained over class-balanced sampling.

        Args:
            arm: The way of training with synthetic images; by default the last one.
        """
        arm = list(self.scores)[-1] if arm is None else arm
        if self.undertrained:
            chance = 100 / len(self.scores[BALANCED][0]["recall"])
            return (
                f"Undertrained: with class-balanced sampling the balanced accuracy is "
                f"{100 * self.mean(BALANCED, 'balanced accuracy'):.1f} %, and chance is {chance:.1f} %. Train for more "
                f"steps to compare."
            )
        gain = self.difference(arm, "balanced accuracy")
        points = f"{100 * gain.mean:+.1f} points of balanced accuracy over class-balanced sampling"
        if gain.low is None or gain.high is None:
            return f"Synthetic images: {points}, with one seed. More seeds show whether this is chance."
        points += f" (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}, {len(self.seeds)} seeds)"
        if gain.low > 0:
            return f"Synthetic images helped: {points}."
        if gain.high < 0:
            return f"Synthetic images harmed: {points}. Train without them."
        return f"Synthetic images made no clear difference: {points}."

    def as_dict(self) -> dict[str, Any]:
        r"""Returns the scores and their statistics over seeds as a dictionary that the ``json`` module can write."""
        return {
            "verdict": self.verdict(),
            "undertrained": self.undertrained,
            "seeds": list(self.seeds),
            "baseline": BALANCED,
            "arms": {
                arm: {
                    "per seed": scores,
                    "summary": {
                        metric: {
                            "mean": self.mean(arm, metric),
                            "standard deviation": self.deviation(arm, metric),
                            "difference": asdict(self.difference(arm, metric)),
                        }
                        for metric in METRICS
                    },
                    "mean recall": [
                        statistics.fmean(recall) for recall in zip(*self.values(arm, "recall"), strict=True)
                    ],
                }
                for arm, scores in self.scores.items()
            },
        }


def classifier_gain(
    train: Source,
    synthetic: Source | Mapping[str, Source],
    test: Labelled,
    *,
    synthetic_fraction: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 5e-3,
    affine: bool = False,
    classes: int | None = None,
    device: torch.device | str = "auto",
    progress: Callable[[str, int, dict[str, Any]], None] = lambda arm, seed, scores: None,
) -> ClassifierGain:
    r"""Trains a small classifier with and without synthetic images, and returns its test scores.

    For each seed, the classifier is trained in several ways, called arms. The arms use different images:

    - ``"plain training"`` uses every real image once per epoch.
    - ``"class-balanced sampling"`` draws real images, with equal class frequencies.
    - ``"class-balanced sampling + GAE"`` draws real and synthetic images, with equal class frequencies. In the last
      15 % of the epochs, it draws only real images.

    Args:
        train: A pair of real training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`, and their labels; or
            a function that returns the pair for a seed.
        synthetic: A pair of synthetic images and their labels, or a function that returns the pair for a seed. A
            mapping from model names to pairs or functions gives one arm per name, ``"class-balanced sampling + NAME"``.
        test: A pair of test images and their labels, with at least one image of each class.
        synthetic_fraction: The ``synthetic_fraction`` of :class:`gae_augment.MixedSampler`, in [0, 1].
        seeds: The seeds of the initial weights and the batches, without duplicates.
        epochs: The number of epochs. An epoch draws :math:`N` images.
        batch_size: The maximum number of images in a batch.
        learning_rate: The peak learning rate.
        affine: Whether training images are slightly rotated, shifted and scaled, at random.
        classes: The number of classes; by default one more than the largest test label.
        device: A torch device. ``"auto"`` is a CUDA GPU if there is one, else the CPU.
        progress: A function that is called after each training with the name of the arm, the seed and the scores.

    Raises:
        ValueError: If an argument is invalid, or a class has no real training image or no test image.
        FloatingPointError: If the loss becomes NaN or infinite.
    """
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        raise TypeError(f"'seeds' is {seeds!r}, but must be a sequence of integers such as (0, 1, 2).")
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"'seeds' is {seeds}, but must hold at least one seed and no duplicates. Use (0, 1, 2).")
    test_images, test_labels = checked_pair(test, "test", classes)
    classes = int(test_labels.max()) + 1 if classes is None else classes
    models = synthetic if isinstance(synthetic, Mapping) else {"GAE": synthetic}
    scores: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        real = checked_pair(train(seed) if callable(train) else train, "train", classes, like=test_images)
        missing = sorted(set(range(classes)) - set(real[1].tolist()))
        if missing:
            raise ValueError(
                f"No real training image belongs to the classes {missing}. Add images of each, or lower 'classes'."
            )
        no_images = (real[0][:0], real[1][:0])
        arms: dict[str, tuple[Labelled, float | None]] = {PLAIN: (no_images, None), BALANCED: (no_images, 0.0)}
        for model, source in models.items():
            images = source(seed) if callable(source) else source
            pair = checked_pair(images, "synthetic", classes, like=test_images, at_least=0)
            arms[f"{BALANCED} + {model}"] = (pair, synthetic_fraction)

        for arm, (synthetic_pair, fraction) in arms.items():
            classifier = train_mixed(
                real,
                synthetic_pair,
                fraction,
                classes=classes,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                affine=affine,
                seed=seed,
                device=device,
            )
            scores.setdefault(arm, []).append(imbalance_metrics(test_labels, classifier.predict(test_images), classes))
            progress(arm, seed, scores[arm][-1])
    return ClassifierGain(seeds, scores)


def train_mixed(
    real: Labelled, synthetic: Labelled, fraction: float | None, *, classes: int, epochs: int, seed: int, **options: Any
) -> Classifier:
    r"""Trains a classifier on real and synthetic images, and returns it.

    Args:
        real: A pair of real images, with shape :math:`(N, C, H, W)`, and their labels.
        synthetic: A pair of synthetic images, with shape :math:`(M, C, H, W)`, and their labels.
        fraction: The ``synthetic_fraction`` of a :class:`gae_augment.MixedSampler`, which draws class-balanced batches.
            With ``None``, each epoch uses every image once.
        classes: The number of classes.
        epochs: The number of epochs. If ``fraction`` is a number, an epoch draws :math:`N` images.
        seed: The seed of the initial weights and the batches.
        **options: More arguments of :func:`train_classifier`.
    """
    images, labels = _concatenated(real, synthetic)
    sampler = None
    if fraction is not None:
        is_synthetic = [False] * len(real[1]) + [True] * len(synthetic[1])
        data = SimpleNamespace(targets=labels.tolist(), is_synthetic=is_synthetic)
        # This training is not distributed, even if the process is a rank of one that is.
        sampler = MixedSampler(data, fraction, epochs=epochs, seed=seed, num_replicas=1, rank=0)
    return train_classifier(images, labels, classes=classes, sampler=sampler, epochs=epochs, seed=seed, **options)


def _concatenated(real: Labelled, synthetic: Labelled) -> Labelled:
    r"""Concatenates real and synthetic images, and their labels. Images of different types become float32 in [0, 1]."""
    images = [real[0], synthetic[0]]
    if real[0].dtype != synthetic[0].dtype:
        images = [to_unit(batch) for batch in images]
    return torch.cat(images), torch.cat([real[1], synthetic[1]])
