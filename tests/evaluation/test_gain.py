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
from gae_augment.evaluation import classifier_gain, imbalance_metrics, train_classifier
from gae_augment.evaluation.gain import BALANCED, PLAIN

GAE = f"{BALANCED} + GAE"


@pytest.fixture(scope="module")
def digits():
    r"""Three digits, the last of them scarce, its missing images as "synthetic" ones, and a test set."""
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


def test_metrics_match_the_libraries():
    generator = make_generator("metrics")
    labels = torch.randint(4, (200,), generator=generator)
    wrong = torch.rand(200, generator=generator) < 0.4
    predictions = torch.where(wrong, torch.randint(4, (200,), generator=generator), labels)
    found = imbalance_metrics(labels, predictions, 4)
    assert found["G-mean"] == pytest.approx(geometric_mean_score(labels.numpy(), predictions.numpy()))
    assert found["balanced accuracy"] == pytest.approx(balanced_accuracy_score(labels.numpy(), predictions.numpy()))
    assert found["macro F1"] == pytest.approx(f1_score(labels.numpy(), predictions.numpy(), average="macro"))
    assert found["accuracy"] == pytest.approx((labels == predictions).double().mean().item())
    for label, recall in enumerate(found["recall"]):
        assert recall == pytest.approx((predictions[labels == label] == label).double().mean().item())


def test_metrics_of_a_class_that_is_never_predicted():
    labels, predictions = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0])
    found = imbalance_metrics(labels, predictions, 2)
    assert found["G-mean"] == 0 == geometric_mean_score(labels.numpy(), predictions.numpy())
    assert found["recall"] == [1, 0]
    assert found["balanced accuracy"] == 0.5
    assert found["macro F1"] == pytest.approx((6 / 7 + 0) / 2)


def test_metrics_refuse_a_class_without_labels():
    with pytest.raises(ValueError, match=r"these have none: \[1\]"):
        imbalance_metrics(torch.tensor([0, 2]), torch.tensor([0, 1]), 3)
    with pytest.raises(ValueError, match="'predictions' holds one label per image"):
        imbalance_metrics(torch.tensor([0, 1]), torch.tensor([0]), 2)


def test_arms_and_seeds(result):
    assert list(result.scores) == [PLAIN, BALANCED, GAE]
    assert all(len(scores) == 2 for scores in result.scores.values())
    assert result.seeds == (0, 1)


def test_plain_arm_is_plain_training(digits, result):
    train, _, test = digits
    for seed, scores in zip((0, 1), result.scores[PLAIN], strict=True):
        classifier = train_classifier(*train, classes=3, epochs=2, seed=seed)
        assert scores == imbalance_metrics(test[1], classifier.predict(test[0]), 3)


def test_gae_arm_is_training_from_the_mixed_sampler(digits):
    train, synthetic, test = digits
    images, labels = torch.cat([train[0], synthetic[0]]), torch.cat([train[1], synthetic[1]])
    marks = [False] * len(train[1]) + [True] * len(synthetic[1])
    data = SimpleNamespace(targets=labels.tolist(), is_synthetic=marks)
    options = {"epochs": 2, "affine": True, "batch_size": 50, "learning_rate": 3e-3}
    found = gain(digits, seeds=(7,), synthetic_fraction=0.8, **options)
    sampler = MixedSampler(data, 0.8, epochs=2, seed=7)
    classifier = train_classifier(images, labels, classes=3, sampler=sampler, seed=7, **options)
    assert found.scores[GAE] == [imbalance_metrics(test[1], classifier.predict(test[0]), 3)]


def test_more_of_the_scarce_class_helps(digits):
    # The "synthetic" images are real ones, of a class that has fewer than ten otherwise.
    found = gain(digits, epochs=4, synthetic_fraction=1.0, seeds=(0, 1, 2))
    assert found.mean(GAE, "balanced accuracy") > found.mean(PLAIN, "balanced accuracy")
    assert found.mean(GAE, "G-mean") > found.mean(PLAIN, "G-mean")


def test_without_synthetic_images_the_arm_is_its_baseline(digits):
    train = digits[0]
    nothing = gain(digits, synthetic=(train[0][:0], train[1][:0]), seeds=(0,))
    assert nothing.scores[GAE] == nothing.scores[BALANCED]
    unused = gain(digits, synthetic_fraction=0.0, seeds=(0,))
    assert unused.scores[GAE] == unused.scores[BALANCED] == nothing.scores[BALANCED]


def test_arms_share_first_weights_and_budget(digits, monkeypatch):
    calls = []

    def record(images, labels, **options):
        drawn = options["sampler"]
        calls.append((options["seed"], options["epochs"], len(labels if drawn is None else drawn), len(images)))
        return train_classifier(images, labels, **options)

    monkeypatch.setattr("gae_augment.evaluation.gain.train_classifier", record)
    gain(digits, seeds=(5,), epochs=1)
    real, synthetic = len(digits[0][1]), len(digits[1][1])
    assert calls == [(5, 1, real, real), (5, 1, real, real), (5, 1, real, real + synthetic)]


def test_models_and_seeds_have_their_own_images(digits):
    seen = []

    def source(seed):
        seen.append(seed)
        return digits[1]

    found = gain(digits, synthetic={"VAE": source, "copies": digits[1]}, epochs=1)
    assert list(found.scores) == [PLAIN, BALANCED, f"{BALANCED} + VAE", f"{BALANCED} + copies"]
    assert found.scores[f"{BALANCED} + VAE"] == found.scores[f"{BALANCED} + copies"]
    assert seen == [0, 1]


def test_training_images_of_each_seed(digits):
    train, synthetic, test = digits
    found = classifier_gain(lambda seed: train, synthetic, test, epochs=1, seeds=(4,))
    assert found.scores == classifier_gain(train, synthetic, test, epochs=1, seeds=(4,)).scores


def test_types_may_differ(digits):
    train, synthetic, test = digits
    levels = ((train[0] * 255).round().to(torch.uint8), train[1])
    same = (levels[0].float() / 255, train[1])
    found = classifier_gain(levels, synthetic, test, epochs=1, seeds=(0,))
    assert found.scores == classifier_gain(same, synthetic, test, epochs=1, seeds=(0,)).scores


def test_same_seed_same_scores_and_no_global_state_moves(digits, result):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = states()
    heard = []
    again = gain(digits, progress=lambda arm, seed, scores: heard.append((arm, seed, scores)))
    assert states() == before
    assert again == result
    assert heard == [(arm, seed, result.scores[arm][seed]) for seed in (0, 1) for arm in (PLAIN, BALANCED, GAE)]


def test_intervals_match_scipy(digits):
    found = gain(digits, epochs=1, seeds=(0, 1, 2, 3))
    pairs = [found.values(arm, "balanced accuracy") for arm in (PLAIN, BALANCED)]
    difference = found.difference(PLAIN, "balanced accuracy")
    interval = ttest_rel(*pairs).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.mean == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
    assert difference.low < difference.high
    assert found.deviation(PLAIN, "accuracy") == pytest.approx(np.std(found.values(PLAIN, "accuracy"), ddof=1))


def test_as_dict_is_plain(digits, result):
    plain = result.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["arms"][BALANCED]["summary"]["G-mean"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert plain["arms"][PLAIN]["mean recall"] == np.mean(result.values(PLAIN, "recall"), axis=0).tolist()

    single = gain(digits, seeds=(0,), epochs=1).as_dict()
    assert json.loads(json.dumps(single, allow_nan=False)) == single
    assert single["arms"][GAE]["summary"]["accuracy"]["standard deviation"] is None
    assert single["arms"][GAE]["summary"]["accuracy"]["difference"]["low"] is None


def test_bad_input_is_refused(digits):
    train, synthetic, test = digits
    for changed, message in [
        ({"seeds": ()}, "'seeds' holds at least one"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"synthetic_fraction": 1.5}, "'synthetic_fraction'"),
        ({"synthetic": torch.zeros(3)}, r"'synthetic' is a pair \(images, labels\)"),
        ({"synthetic": (torch.zeros(2, 9, 9), torch.tensor([2, 2]))}, "one shape"),
        ({"synthetic": (synthetic[0], synthetic[1] + 1)}, "goes from 3 to 3"),
        ({"classes": 4}, r"real training images, and these have none: \[3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            gain(digits, **changed)
    with pytest.raises(ValueError, match="without NaN"):
        classifier_gain((train[0] * math.nan, train[1]), synthetic, test)
    with pytest.raises(ValueError, match="'test labels' is a tensor of integers"):
        classifier_gain(train, synthetic, (test[0], test[1].tolist()))
