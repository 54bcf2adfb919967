import json

import pytest
import torch
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

from gae_augment.evaluation import FractionChoice, choose_synthetic_fraction
from gae_augment.evaluation.fraction import CERTAINTY, hold_out


@pytest.fixture(scope="module")
def digits():
    r"""Digits of which the last five are scarce, and the images that they lack."""
    data = load_digits()
    images, labels = torch.from_numpy(data.images).float().div(16).unsqueeze(1), torch.from_numpy(data.target)
    kept = (labels < 5) | (torch.arange(len(labels)) % 12 == 0)
    return (images[kept], labels[kept]), (images[~kept], labels[~kept])


def scripted(scores):
    r"""A classifier that is right about so many of ten images of class 1, by split and fraction, and about class 0."""
    splits = iter(range(10**6))

    def train_on(real, synthetic, fraction, seed):
        right = scores[next(splits)]

        def predict(images):
            truth = (images.flatten(1)[:, 0] > 0.5).long()
            wrong = torch.cumsum(truth, dim=0) > right
            return torch.where(wrong & (truth == 1), 0, truth)

        return predict

    return train_on


@pytest.fixture
def dark_and_bright():
    r"""50 images of each of two classes, so that ten of each are held out."""
    labels = torch.arange(2).repeat(50)
    return labels.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels


def nothing(real, seed):
    return real[0][:0], real[1][:0]


@pytest.mark.parametrize("gains", [(1, 1, 2), (3, 0, 0), (1, 0, 1), (2, 1, 2), (-1, -2, -1), (0, 0, 0)], ids=str)
def test_fraction_is_used_where_students_t_is_sure_of_a_gain(dark_and_bright, gains):
    without = 5
    scores = [right for gain in gains for right in (without, without + gain, without - 4)]
    choice = choose_synthetic_fraction(
        dark_and_bright,
        nothing,
        fractions=(0.3, 0.6),
        splits=3,
        train_on=scripted(scores),
    )
    sure = any(gains) and ttest_1samp(gains, 0, alternative="greater").pvalue < 1 - CERTAINTY
    assert choice.fraction == (0.3 if sure else 0.0)
    assert choice.best == 0.3
    # One of ten images of one class of two is 0.05.
    assert choice.without == pytest.approx([0.75] * 3)
    assert choice.difference(0.3).mean == pytest.approx(0.05 * sum(gains) / 3)
    assert ("is used" if sure else "No synthetic images are used") in choice.reason
    values = json.loads(json.dumps(choice.as_dict()))
    assert values["reason"] == choice.reason
    assert FractionChoice.from_dict(values) == choice


def test_images_that_the_scarce_classes_lack_are_used(digits):
    train, missing = digits
    choice = choose_synthetic_fraction(train, lambda real, seed: missing, splits=3, epochs=4, batch_size=32)
    assert choice.fraction > 0
    assert choice.difference(choice.fraction).mean > 0.02


def test_images_under_wrong_labels_are_not_used(digits):
    train, (images, labels) = digits
    wrong = images, (labels + 1) % 10
    choice = choose_synthetic_fraction(
        train, lambda real, seed: wrong, fractions=(1.0,), splits=2, epochs=4, batch_size=32
    )
    assert choice.fraction == 0
    assert choice.difference(1.0).mean < -0.02


def test_synthetic_images_are_made_without_the_images_that_judge_them(digits):
    train, _ = digits
    seen, judged = [], []

    def synthesise(real, seed):
        seen.append(real)
        return nothing(real, seed)

    def train_on(real, synthetic, fraction, seed):
        def predict(images):
            judged.append(images)
            return torch.zeros(len(images), dtype=torch.long)

        return predict

    choice = choose_synthetic_fraction(train, synthesise, fractions=(0.5,), splits=2, train_on=train_on)
    # Each split judges twice, and always guesses the first class of ten.
    assert choice.without == pytest.approx((0.1, 0.1))
    for real, held_out in zip(seen, judged[::2], strict=True):
        both = torch.cat([real[0], held_out]).flatten(1)
        assert torch.equal(both.sort(dim=0)[0], train[0].flatten(1).sort(dim=0)[0])
    assert not torch.equal(judged[0], judged[2])


def test_score_is_the_balanced_accuracy(digits):
    train, _ = digits
    found, expected = [], []

    def train_on(real, synthetic, fraction, seed):
        def predict(images):
            guessed = (10 * images.flatten(1).mean(dim=1)).long()
            _, held_out = hold_out(train, 0.2, seed)
            expected.append(balanced_accuracy_score(held_out[1].numpy(), guessed.numpy()))
            return guessed

        return predict

    choose_synthetic_fraction(
        train,
        nothing,
        fractions=(0.5,),
        splits=2,
        train_on=train_on,
        progress=lambda split, fraction, score: found.append(score),
    )
    assert found == pytest.approx(expected)


def test_hold_out_takes_a_part_of_each_class_and_spares_pairs():
    labels = torch.tensor([0] * 20 + [1] * 4 + [2] * 2)
    images = torch.arange(26.0).view(-1, 1, 1, 1)
    (kept, kept_labels), (out, out_labels) = hold_out((images, labels), 0.2, seed=1)
    assert out_labels.bincount(minlength=3).tolist() == [4, 1, 0]
    assert kept_labels.bincount().tolist() == [16, 3, 2]
    assert torch.equal(torch.cat([kept, out]).flatten().sort()[0], images.flatten())


def test_seed_fixes_the_choice_and_no_global_state_moves(digits):
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
        ({"fractions": ()}, "above 0 and at most 1"),
        ({"fractions": (0.5, 0.5)}, "none twice"),
        ({"fractions": (0.0,)}, "above 0"),
        ({"splits": 1}, "'splits' is at least 2"),
        ({"train_on": print, "epochs": 3}, r"\['epochs'\] are arguments of the default classifier"),
    ],
    ids=str,
)
def test_bad_arguments(digits, options, message):
    def never(real, seed):
        raise AssertionError

    with pytest.raises(ValueError, match=message):
        choose_synthetic_fraction(digits[0], never, **options)


def test_classes_too_small_to_choose_by():
    with pytest.raises(ValueError, match="at least three images"):
        choose_synthetic_fraction((torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])), nothing)
