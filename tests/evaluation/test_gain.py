import json
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from imblearn.metrics import geometric_mean_score
from scipy.stats import ttest_rel
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, f1_score

from gae_augment import MixedSampler
from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import ClassifierGain, classifier_gain, imbalance_metrics, train_classifier
from gae_augment.evaluation.gain import BALANCED, PLAIN

GAE = f"{BALANCED} + GAE"


@pytest.fixture(scope="module")
def digits():
    r"""Three digits with a scarce last class, its removed images as "synthetic" images, and a test set."""
    data = load_digits(n_class=3)
    images, labels = torch.from_numpy(data.images).float().div(16), torch.from_numpy(data.target)
    train = torch.arange(len(labels)) < 400
    scarce = (labels == 2) & (torch.arange(len(labels)) >= 20)
    return (
        (images[train & ~scarce], labels[train & ~scarce]),
        (images[train & scarce], labels[train & scarce]),
        (images[~train], labels[~train]),
    )


def gain(digits, **options):
    train, synthetic, test = digits
    return classifier_gain(
        train, options.pop("synthetic", synthetic), test, **{"epochs": 2, "seeds": (0, 1), **options}
    )


@pytest.fixture(scope="module")
def result(digits):
    return gain(digits)


@pytest.mark.parametrize(
    ("balanced", "mixed", "verdict"),
    [
        ([0.80, 0.82], [0.85, 0.871], "Synthetic images helped: +5.0 points of balanced accuracy over"),
        ([0.85, 0.871], [0.80, 0.82], "Synthetic images harmed: -5.0 points"),
        ([0.80, 0.82], [0.79, 0.85], r"made no clear difference: +1.0 points of balanced accuracy over"),
        (
            [0.80],
            [0.85],
            "Synthetic images: +5.0 points of balanced accuracy over class-balanced sampling, with one seed",
        ),
        # Chance is 50 %.
        ([0.53, 0.54], [0.80, 0.80], "Undertrained: with class-balanced sampling the balanced accuracy is 53.5 %, and"),
    ],
)
def test_verdict(balanced, mixed, verdict):
    scores = {
        arm: [{"balanced accuracy": value, "recall": [value, value]} for value in values]
        for arm, values in ((PLAIN, balanced), (BALANCED, balanced), (GAE, mixed))
    }
    result = ClassifierGain(tuple(range(len(balanced))), scores)
    assert verdict in result.verdict()
    assert result.undertrained == verdict.startswith("Undertrained")


def test_metrics_match_scikit_learn_and_imbalanced_learn():
    generator = make_generator("metrics")
    labels = torch.randint(4, (200,), generator=generator)
    is_wrong = torch.rand(200, generator=generator) < 0.4
    predictions = torch.where(is_wrong, torch.randint(4, (200,), generator=generator), labels)
    metrics = imbalance_metrics(labels, predictions, 4)
    assert metrics["G-mean"] == pytest.approx(geometric_mean_score(labels.numpy(), predictions.numpy()))
    assert metrics["balanced accuracy"] == pytest.approx(balanced_accuracy_score(labels.numpy(), predictions.numpy()))
    assert metrics["macro F1"] == pytest.approx(f1_score(labels.numpy(), predictions.numpy(), average="macro"))
    assert metrics["accuracy"] == pytest.approx((labels == predictions).double().mean().item())
    for label, recall in enumerate(metrics["recall"]):
        assert recall == pytest.approx((predictions[labels == label] == label).double().mean().item())


def test_metrics_of_a_class_that_is_never_predicted():
    labels, predictions = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0])
    metrics = imbalance_metrics(labels, predictions, 2)
    assert metrics["G-mean"] == 0 == geometric_mean_score(labels.numpy(), predictions.numpy())
    assert metrics["recall"] == [1, 0]
    assert metrics["balanced accuracy"] == 0.5
    assert metrics["macro F1"] == pytest.approx((6 / 7 + 0) / 2)


def test_metrics_of_invalid_labels_raise():
    with pytest.raises(ValueError, match=r"No test image belongs to the classes \[1\]"):
        imbalance_metrics(torch.tensor([0, 2]), torch.tensor([0, 1]), 3)
    with pytest.raises(ValueError, match=r"'predictions' has shape \(1,\), but needs shape \(2,\), one label"):
        imbalance_metrics(torch.tensor([0, 1]), torch.tensor([0]), 2)


def test_every_arm_has_one_score_per_seed(result):
    assert list(result.scores) == [PLAIN, BALANCED, GAE]
    assert all(len(scores) == 2 for scores in result.scores.values())
    assert result.seeds == (0, 1)


def test_plain_arm_matches_plain_training(digits, result):
    train, _, test = digits
    for seed, scores in zip((0, 1), result.scores[PLAIN], strict=True):
        classifier = train_classifier(*train, classes=3, epochs=2, seed=seed)
        assert scores == imbalance_metrics(test[1], classifier.predict(test[0]), 3)


def test_gae_arm_matches_training_with_the_mixed_sampler(digits):
    train, synthetic, test = digits
    images, labels = torch.cat([train[0], synthetic[0]]), torch.cat([train[1], synthetic[1]])
    is_synthetic = [False] * len(train[1]) + [True] * len(synthetic[1])
    data = SimpleNamespace(targets=labels.tolist(), is_synthetic=is_synthetic)
    options = {"epochs": 2, "affine": True, "batch_size": 50, "learning_rate": 3e-3}
    result = gain(digits, seeds=(7,), synthetic_fraction=0.8, **options)
    sampler = MixedSampler(data, 0.8, epochs=2, seed=7)
    classifier = train_classifier(images, labels, classes=3, sampler=sampler, seed=7, **options)
    assert result.scores[GAE] == [imbalance_metrics(test[1], classifier.predict(test[0]), 3)]


def test_more_images_of_the_scarce_class_help(digits):
    # The "synthetic" images are real images of a class with fewer than ten training images.
    result = gain(digits, epochs=4, synthetic_fraction=1.0, seeds=(0, 1, 2))
    assert result.mean(GAE, "balanced accuracy") > result.mean(PLAIN, "balanced accuracy")
    assert result.mean(GAE, "G-mean") > result.mean(PLAIN, "G-mean")


def test_arm_without_synthetic_images_matches_the_baseline(digits):
    train = digits[0]
    no_images = gain(digits, synthetic=(train[0][:0], train[1][:0]), seeds=(0,))
    assert no_images.scores[GAE] == no_images.scores[BALANCED]
    zero_fraction = gain(digits, synthetic_fraction=0.0, seeds=(0,))
    assert zero_fraction.scores[GAE] == zero_fraction.scores[BALANCED] == no_images.scores[BALANCED]


def test_arms_share_first_weights_and_budget(digits, monkeypatch):
    calls = []

    def record(images, labels, **options):
        sampler = options["sampler"]
        calls.append((options["seed"], options["epochs"], len(labels if sampler is None else sampler), len(images)))
        return train_classifier(images, labels, **options)

    monkeypatch.setattr("gae_augment.evaluation.gain.train_classifier", record)
    gain(digits, seeds=(5,), epochs=1)
    real, synthetic = len(digits[0][1]), len(digits[1][1])
    assert calls == [(5, 1, real, real), (5, 1, real, real), (5, 1, real, real + synthetic)]


def test_each_model_has_an_arm_and_images_per_seed(digits):
    source_seeds = []

    def source(seed):
        source_seeds.append(seed)
        return digits[1]

    result = gain(digits, synthetic={"VAE": source, "copies": digits[1]}, epochs=1)
    assert list(result.scores) == [PLAIN, BALANCED, f"{BALANCED} + VAE", f"{BALANCED} + copies"]
    assert result.scores[f"{BALANCED} + VAE"] == result.scores[f"{BALANCED} + copies"]
    assert source_seeds == [0, 1]


def test_training_images_may_be_a_function_of_the_seed(digits):
    train, synthetic, test = digits
    result = classifier_gain(lambda seed: train, synthetic, test, epochs=1, seeds=(4,))
    assert result.scores == classifier_gain(train, synthetic, test, epochs=1, seeds=(4,)).scores


def test_real_and_synthetic_types_may_differ(digits):
    train, synthetic, test = digits
    uint8_train = ((train[0] * 255).round().to(torch.uint8), train[1])
    unit_train = (uint8_train[0].float() / 255, train[1])
    result = classifier_gain(uint8_train, synthetic, test, epochs=1, seeds=(0,))
    assert result.scores == classifier_gain(unit_train, synthetic, test, epochs=1, seeds=(0,)).scores


def test_same_seed_gives_same_scores_without_global_state(digits, result):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = states()
    reports = []
    repeated = gain(digits, progress=lambda arm, seed, scores: reports.append((arm, seed, scores)))
    assert states() == before
    assert repeated == result
    assert reports == [(arm, seed, result.scores[arm][seed]) for seed in (0, 1) for arm in (PLAIN, BALANCED, GAE)]


def test_intervals_match_scipy(digits):
    result = gain(digits, epochs=1, seeds=(0, 1, 2, 3))
    pairs = [result.values(arm, "balanced accuracy") for arm in (PLAIN, BALANCED)]
    difference = result.difference(PLAIN, "balanced accuracy")
    interval = ttest_rel(*pairs).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.mean == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
    assert difference.low < difference.high
    assert result.deviation(PLAIN, "accuracy") == pytest.approx(np.std(result.values(PLAIN, "accuracy"), ddof=1))


def test_as_dict_holds_plain_json_values(digits, result):
    plain = result.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["arms"][BALANCED]["summary"]["G-mean"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert plain["arms"][PLAIN]["mean recall"] == np.mean(result.values(PLAIN, "recall"), axis=0).tolist()

    single = gain(digits, seeds=(0,), epochs=1).as_dict()
    assert json.loads(json.dumps(single, allow_nan=False)) == single
    assert single["arms"][GAE]["summary"]["accuracy"]["standard deviation"] is None
    assert single["arms"][GAE]["summary"]["accuracy"]["difference"]["low"] is None


def test_invalid_input_raises(digits):
    train, synthetic, test = digits
    for options, message in [
        ({"seeds": ()}, r"'seeds' is \(\), but must hold at least one seed"),
        ({"seeds": (1, 1)}, r"'seeds' is \(1, 1\), but must hold at least one seed and no duplicates"),
        ({"synthetic_fraction": 1.5}, "'synthetic_fraction'"),
        ({"synthetic": torch.zeros(3)}, r"'synthetic' is of type Tensor, but must be a pair \(images, labels\)"),
        (
            {"synthetic": (torch.zeros(2, 9, 9), torch.tensor([2, 2]))},
            r"\(1, 9, 9\), but must have shape \(1, 8, 8\)",
        ),
        ({"synthetic": (synthetic[0], synthetic[1] + 1)}, "ranges from 3 to 3"),
        ({"classes": 4}, r"No real training image belongs to the classes \[3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            gain(digits, **options)
    with pytest.raises(ValueError, match="or NaN: those of 'train images'"):
        classifier_gain((train[0] * math.nan, train[1]), synthetic, test)
    with pytest.raises(ValueError, match="'test labels' is of type list, but must be a tensor of integers"):
        classifier_gain(train, synthetic, (test[0], test[1].tolist()))
