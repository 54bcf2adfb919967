import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from gae_augment.evaluation import recalibrate

MEANS = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]], dtype=torch.float64)
SCARCE = torch.tensor([0.9, 0.08, 0.02], dtype=torch.float64)


def gaussians(n, frequencies, seed=0):
    r"""Returns points of three classes with unit normal densities, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = frequencies.multinomial(n, replacement=True, generator=generator)
    return MEANS[labels] + torch.randn(n, 2, dtype=torch.float64, generator=generator), labels


def posterior(points, frequencies):
    r"""Returns the true class probabilities of points, by Bayes' rule."""
    densities = torch.exp(-0.5 * (points[:, None] - MEANS).square().sum(dim=2)) / (2 * math.pi)
    joint = densities * frequencies
    return joint / joint.sum(dim=1, keepdim=True)


def classifier_logits(points, frequencies, scale):
    r"""Returns logits of a classifier that learned class frequencies perfectly, but not its confidence."""
    offset = torch.linspace(-3, 3, len(points), dtype=torch.float64)[:, None]
    return scale * (posterior(points, frequencies).log() + offset)


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("trained_on", [None, [0.2, 0.3, 0.5]])
def test_probabilities_approach_the_true_posterior(scale, trained_on):
    in_training = torch.tensor(trained_on or [1 / 3] * 3, dtype=torch.float64)
    points, labels = gaussians(40_000, SCARCE)
    result = recalibrate(classifier_logits(points, in_training, scale), labels, trained_on=trained_on)
    assert result.temperature == pytest.approx(scale, rel=0.05)

    new, _ = gaussians(2_000, SCARCE, seed=1)
    logits = classifier_logits(new, in_training, scale)
    truth = posterior(new, SCARCE)
    assert (result.probabilities(logits) - truth).abs().max() < 0.02
    assert (logits.softmax(dim=1) - truth).abs().max() > 0.2
    assert result.after.calibration_error < 0.01 < 0.05 < result.before.calibration_error
    assert result.after.log_loss == pytest.approx(log_loss(labels, posterior(points, SCARCE)), abs=1e-3)


def test_class_weights_replace_a_representative_held_out_set():
    r"""Held-out images with equal class frequencies give the correction for any known frequencies in use."""
    even = torch.ones(3, dtype=torch.float64) / 3
    points, labels = gaussians(60_000, even)
    logits = classifier_logits(points, even, 3.0)
    result = recalibrate(logits, labels, deployed_on=SCARCE)
    assert result.temperature == pytest.approx(3, rel=0.05)
    assert (result.probabilities(logits) - posterior(points, SCARCE)).abs().max() < 0.02

    in_use, labels_in_use = gaussians(60_000, SCARCE, seed=1)
    expected = recalibrate(classifier_logits(in_use, even, 3.0), labels_in_use)
    for name in ("calibration_error", "log_loss", "brier_score"):
        for ours, theirs in ((result.before, expected.before), (result.after, expected.after)):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=0.01)
    # Frequencies and counts are the same thing, also as arrays and lists.
    counts = recalibrate(logits, labels, deployed_on=(1000 * SCARCE).numpy(), trained_on=[7, 7, 7])
    assert counts.temperature == pytest.approx(result.temperature)
    torch.testing.assert_close(counts.shift, result.shift)


def test_figures_match_other_libraries_and_a_plain_loop():
    points, labels = gaussians(3_000, SCARCE)
    logits = classifier_logits(points, torch.ones(3) / 3, 2.0).float()
    result = recalibrate(logits, labels)
    for figures, probabilities in (
        (result.before, logits.double().softmax(dim=1)),
        (result.after, result.probabilities(logits.double())),
    ):
        expected = multiclass_calibration_error(probabilities, labels, num_classes=3, n_bins=15, norm="l1")
        assert figures.calibration_error == pytest.approx(expected.item(), abs=1e-6)
        assert figures.log_loss == pytest.approx(log_loss(labels, probabilities), abs=1e-9)
        brier = np.mean(
            [
                sum((probability - (c == label)) ** 2 for c, probability in enumerate(row))
                for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            ]
        )
        assert figures.brier_score == pytest.approx(brier, abs=1e-9)

        confidence, predicted = probabilities.max(dim=1)
        edges = [b / 15 for b in range(16)]
        for b, (low, high) in enumerate(pairwise(edges)):
            members = (confidence > low) & (confidence <= high)
            assert figures.count[b] == members.sum()
            if members.any():
                assert figures.confidence[b] == pytest.approx(confidence[members].mean().item())
                assert figures.accuracy[b] == pytest.approx((predicted == labels)[members].double().mean().item())
            else:
                assert math.isnan(figures.confidence[b])
                assert math.isnan(figures.accuracy[b])


def test_reliability_of_four_images_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
    before = recalibrate(probabilities.log(), torch.tensor([0, 1, 0, 1])).before
    # Bins: 0.9 (accuracy 1/2), 0.6 (accuracy 1) and 0.8 (accuracy 1).
    assert before.calibration_error == pytest.approx((2 * 0.4 + 0.4 + 0.2) / 4)
    assert before.log_loss == pytest.approx(-sum(map(math.log, (0.9, 0.1, 0.6, 0.8))) / 4)
    assert before.brier_score == pytest.approx((0.02 + 1.62 + 0.32 + 0.08) / 4)
    assert {b: n for b, n in enumerate(before.count) if n} == {8: 1, 11: 1, 13: 2}


def test_shuffled_labels_are_detected():
    r"""A planted fault: labels in the wrong order give the frequencies in use, whatever the logits are."""
    points, labels = gaussians(3_000, SCARCE)
    logits = classifier_logits(points, torch.ones(3) / 3, 1.0)
    shuffled = labels[torch.randperm(3_000, generator=torch.Generator().manual_seed(0))]
    right, wrong = recalibrate(logits, labels), recalibrate(logits, shuffled)
    assert wrong.temperature > 5 * right.temperature
    assert wrong.after.log_loss > 1.2 * right.after.log_loss
    assert (wrong.probabilities(logits).mean(dim=0) - SCARCE).abs().max() < 0.02


@pytest.mark.parametrize(
    ("factor", "labels", "temperature", "message"),
    [
        (1, [0, 1, 1], 1, "The temperature stays 1: all held-out images are classified correctly"),
        (1, [1, 0, 0], 1000, "The temperature 1e.03 is at the limit of its range: logits do not predict the labels"),
        (1e-9, [0, 1, 0], 0.001, "The temperature 0.001 is at the limit of its range: logits differ too little"),
    ],
)
def test_held_out_images_that_fix_no_temperature_are_reported(factor, labels, temperature, message):
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0]], dtype=torch.float64) * factor
    with pytest.warns(RuntimeWarning, match=message):
        result = recalibrate(logits, torch.tensor(labels))
    assert result.temperature == pytest.approx(temperature, rel=0.01)
    assert math.isfinite(result.after.log_loss)


def test_input_stays_and_any_shape_and_device_type_is_corrected():
    points, labels = gaussians(500, SCARCE)
    logits = classifier_logits(points, torch.ones(3) / 3, 1.0).float().requires_grad_()
    kept = logits.detach().clone()
    result = recalibrate(logits, labels.int())
    assert torch.equal(logits.detach(), kept)
    maps = result.probabilities(logits.view(5, 100, 3))
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.view(-1, 3), result.probabilities(logits))
    # The correction is differentiable.
    result.logits(logits).sum().backward()
    torch.testing.assert_close(logits.grad, torch.full_like(kept, 1 / result.temperature))
    assert recalibrate(logits, labels).temperature == result.temperature


def test_class_without_images_needs_the_frequencies_in_use():
    points, labels = gaussians(500, SCARCE)
    logits = classifier_logits(points, torch.ones(3) / 3, 1.0)
    keep = labels < 2
    with pytest.raises(ValueError, match=r"Classes \[2\] have no held-out image, .* as 'deployed_on'"):
        recalibrate(logits[keep], labels[keep])
    result = recalibrate(logits[keep], labels[keep], deployed_on=SCARCE)
    assert result.after.calibration_error < 0.1
    torch.testing.assert_close(result.shift, (3 * SCARCE).log())


def test_table_of_the_figures():
    points, labels = gaussians(500, SCARCE)
    result = recalibrate(classifier_logits(points, torch.ones(3) / 3, 1.0), labels)
    lines = str(result).splitlines()
    assert lines[0].split() == ["before", "after"]
    assert [line.split()[-2:] for line in lines[1:4]] == [
        [f"{getattr(figures, name):.3f}" for figures in (result.before, result.after)]
        for name in ("calibration_error", "log_loss", "brier_score")
    ]
    assert lines[4] == f"temperature {result.temperature:.3g}, 500 held-out images"


LOGITS, LABELS = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": LOGITS[:, :1]}, r"'logits' has shape \(3, 1\) and type torch\.float32, but must be floating-point"),
        ({"logits": LOGITS[0]}, r"'logits' has shape \(2,\)"),
        ({"logits": LOGITS[:0], "labels": LABELS[:0]}, r"'logits' has shape \(0, 2\)"),
        ({"logits": LOGITS.long()}, "type torch.int64, but must be floating-point"),
        ({"logits": LOGITS.log()}, r"Row 0 of 'logits' is not finite\. Leave the image out"),
        ({"labels": LABELS + 1}, "'labels' ranges from 1 to 2, but must lie in 0 to 1"),
        ({"labels": LABELS[:2]}, r"'labels' has shape \(2,\), but needs shape \(3,\)"),
        ({"labels": LABELS.float()}, "'labels' is of type torch.float32, but must be a tensor of integers"),
        ({"trained_on": [1.0]}, r"'trained_on' has shape \(1,\), but needs shape \(2,\), one frequency for each"),
        ({"trained_on": [0.0, -0.7]}, r"'trained_on' is \[0\.0, -0\.7\], but all frequencies must be positive"),
        ({"deployed_on": [1.0, 0.0]}, r"'deployed_on' is \[1\.0, 0\.0\], but all frequencies must be positive"),
        ({"deployed_on": [1.0, math.inf]}, "'deployed_on' is .* must be positive and finite"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    arguments = {"logits": LOGITS, "labels": LABELS} | arguments
    with pytest.raises(ValueError, match=message):
        recalibrate(arguments.pop("logits"), arguments.pop("labels"), **arguments)


def test_logits_of_another_classifier_are_refused():
    with pytest.raises(TypeError, match="'logits' is of type list, but must be a tensor"):
        recalibrate(LOGITS.tolist(), LABELS)
    result = recalibrate(LOGITS, LABELS)
    for logits in (torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"but must be floating-point with 2 columns\. Pass the outputs"):
            result.probabilities(logits)
