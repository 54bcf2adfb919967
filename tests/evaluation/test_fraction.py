import json

import pytest
import torch
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

from gae_augment.evaluation import FractionChoice, choose_synthetic_fraction
from gae_augment.evaluation.fraction import CONFIDENCE, hold_out


@pytest.fixture(scope="module")
def digits():
    r"""Digits with five scarce classes, and the images removed from these classes."""
    data = load_digits()
    images, labels = torch.from_numpy(data.images).float().div(16).unsqueeze(1), torch.from_numpy(data.target)
    in_training = (labels < 5) | (torch.arange(len(labels)) % 12 == 0)
    return (images[in_training], labels[in_training]), (images[~in_training], labels[~in_training])


def scripted(scores):
    r"""A classifier with ``scores[i]`` of ten images of class 1 right in training ``i``, and all of class 0."""
    trainings = iter(scores)

    def train_on(real, synthetic, fraction, seed):
        n_right = next(trainings)

        def predict(images):
            truth = (images.flatten(1)[:, 0] > 0.5).long()
            wrong = torch.cumsum(truth, dim=0) > n_right
            return torch.where(wrong & (truth == 1), 0, truth)

        return predict

    return train_on


@pytest.fixture
def dark_and_bright():
    r"""50 images of each of two classes, of which ten per class are held out."""
    labels = torch.arange(2).repeat(50)
    return labels.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels


def no_images(real, seed):
    return real[0][:0], real[1][:0]


@pytest.mark.parametrize("gains", [(1, 1, 2), (3, 0, 0), (1, 0, 1), (2, 1, 2), (-1, -2, -1), (0, 0, 0)], ids=str)
def test_fraction_is_chosen_only_for_a_significant_gain(dark_and_bright, gains):
    without = 5
    scores = [right for gain in gains for right in (without, without + gain, without - 4)]
    choice = choose_synthetic_fraction(
        dark_and_bright,
        no_images,
        fractions=(0.3, 0.6),
        splits=3,
        train_on=scripted(scores),
    )
    significant = any(gains) and ttest_1samp(gains, 0, alternative="greater").pvalue < 1 - CONFIDENCE
    assert choice.fraction == (0.3 if significant else 0.0)
    assert choice.best == 0.3
    # One image of ten in one of two classes changes balanced accuracy by 0.05.
    assert choice.without == pytest.approx([0.75] * 3)
    assert choice.difference(0.3).mean == pytest.approx(0.05 * sum(gains) / 3)
    assert ("is used" if significant else "No synthetic images are used") in choice.reason
    values = json.loads(json.dumps(choice.as_dict()))
    assert values["reason"] == choice.reason
    assert FractionChoice.from_dict(values) == choice


def test_objects_are_held_out_whole(dark_and_bright):
    images, labels = dark_and_bright
    # An image's last pixel is its number, so that the held-out ones are known.
    images = images.clone()
    images[:, 0, 1, 1] = torch.arange(100) / 100
    groups = [f"object {index // 4}" for index in range(100)]
    trained = []

    def train_on(real, synthetic, fraction, seed):
        trained.append({groups[round(100 * value)] for value in real[0][:, 0, 1, 1].tolist()})

        def predict(held_out):
            unseen = {groups[round(100 * value)] for value in held_out[:, 0, 1, 1].tolist()}
            assert unseen
            assert not unseen & trained[-1]
            return torch.zeros(len(held_out), dtype=torch.long)

        return predict

    choose_synthetic_fraction((images, labels), no_images, splits=3, groups=groups, train_on=train_on)
    # Without groups, most objects are on both sides.
    with pytest.raises(AssertionError):
        choose_synthetic_fraction((images, labels), no_images, splits=2, train_on=train_on)
    assert len(trained) == 9 + 1


def test_helpful_images_are_chosen(digits):
    train, missing = digits
    choice = choose_synthetic_fraction(train, lambda real, seed: missing, splits=3, epochs=4, batch_size=32)
    assert choice.fraction > 0
    assert choice.difference(choice.fraction).mean > 0.02


def test_images_with_wrong_labels_are_not_chosen(digits):
    train, (images, labels) = digits
    mislabelled = images, (labels + 1) % 10
    choice = choose_synthetic_fraction(
        train, lambda real, seed: mislabelled, fractions=(1.0,), splits=2, epochs=4, batch_size=32
    )
    assert choice.fraction == 0
    assert choice.difference(1.0).mean < -0.02


def test_held_out_images_are_not_passed_to_synthesise(digits):
    train, _ = digits
    training_sets, predicted_images = [], []

    def synthesise(real, seed):
        training_sets.append(real)
        return no_images(real, seed)

    def train_on(real, synthetic, fraction, seed):
        def predict(images):
            predicted_images.append(images)
            return torch.zeros(len(images), dtype=torch.long)

        return predict

    choice = choose_synthetic_fraction(train, synthesise, fractions=(0.5,), splits=2, train_on=train_on)
    # The classifier always predicts the first of ten classes, twice per split.
    assert choice.without == pytest.approx((0.1, 0.1))
    for real, held_out in zip(training_sets, predicted_images[::2], strict=True):
        all_images = torch.cat([real[0], held_out]).flatten(1)
        assert torch.equal(all_images.sort(dim=0)[0], train[0].flatten(1).sort(dim=0)[0])
    assert not torch.equal(predicted_images[0], predicted_images[2])


def test_score_is_the_balanced_accuracy(digits):
    train, _ = digits
    scores, expected = [], []

    def train_on(real, synthetic, fraction, seed):
        def predict(images):
            predicted = (10 * images.flatten(1).mean(dim=1)).long()
            _, held_out = hold_out(train, 0.2, seed)
            expected.append(balanced_accuracy_score(held_out[1].numpy(), predicted.numpy()))
            return predicted

        return predict

    choose_synthetic_fraction(
        train,
        no_images,
        fractions=(0.5,),
        splits=2,
        train_on=train_on,
        progress=lambda split, fraction, score: scores.append(score),
    )
    assert scores == pytest.approx(expected)


def test_hold_out_keeps_classes_of_two_images_whole():
    labels = torch.tensor([0] * 20 + [1] * 4 + [2] * 2)
    images = torch.arange(26.0).view(-1, 1, 1, 1)
    (train, train_labels), (held_out, held_out_labels) = hold_out((images, labels), 0.2, seed=1)
    assert held_out_labels.bincount(minlength=3).tolist() == [4, 1, 0]
    assert train_labels.bincount().tolist() == [16, 3, 2]
    assert torch.equal(torch.cat([train, held_out]).flatten().sort()[0], images.flatten())


def test_seed_fixes_the_choice_without_global_state(digits):
    train, missing = digits

    def choose(seed):
        return choose_synthetic_fraction(
            train, lambda real, seed: missing, fractions=(0.5,), splits=2, seed=seed, epochs=1
        )

    state = torch.get_rng_state()
    first = choose(3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    assert choose(3) == first != choose(4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": ()}, r"'fractions' is \(\), but must hold different numbers above 0 and at most 1"),
        ({"fractions": (0.5, 0.5)}, r"'fractions' is \(0\.5, 0\.5\), but must hold different numbers"),
        ({"fractions": (0.0,)}, r"'fractions' is \(0\.0,\), but must hold different numbers above 0"),
        ({"groups": [1, 2]}, "'groups' has 2 values, but must have one for each of"),
        ({"splits": 1}, "'splits' is 1, but must be at least 2"),
        ({"train_on": print, "epochs": 3}, r"\['epochs'\] apply only to the default classifier"),
    ],
    ids=str,
)
def test_invalid_arguments_raise(digits, options, message):
    def fail(real, seed):
        raise AssertionError

    with pytest.raises(ValueError, match=message):
        choose_synthetic_fraction(digits[0], fail, **options)


def test_classes_of_two_images_raise():
    with pytest.raises(ValueError, match="Every class has fewer than three images"):
        choose_synthetic_fraction((torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])), no_images)
