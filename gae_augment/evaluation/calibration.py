r"""Corrects a classifier's probabilities, which are those of the class-balanced batches that it was trained on."""

__all__ = ["Recalibration", "Reliability", "recalibrate"]

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._utils.checks import check_tensor
from .images import checked_labels

BINS = 15
"""The number of equal-width bins of a reliability diagram."""

LIMIT = 1e3
"""The greatest temperature of a fit; the smallest is its inverse."""

Frequencies = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class Reliability:
    r"""How well the probabilities of a classifier agree with its accuracy.

    The confidence of an image is the probability of its most probable class. The images are sorted by confidence into
    15 bins of equal width: bin :math:`b` holds confidences in :math:`(b / 15, (b + 1) / 15]`, for :math:`b` from 0 to
    14.

    Attributes:
        calibration_error: The expected calibration error, in [0, 1]: the mean over the images of the distance between
            confidence and accuracy of their bin.
        log_loss: The mean negative log-probability of the true class, in nats.
        brier_score: The mean squared distance between the probabilities and the one-hot label, in [0, 2].
        confidence: The mean confidence of each bin, NaN for bins without images.
        accuracy: The accuracy of each bin, NaN for bins without images.
        count: The number of images in each bin.
    """

    calibration_error: float
    log_loss: float
    brier_score: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Recalibration:
    r"""A correction of a classifier's logits :math:`z`, and the reliability before and after.

    The corrected logits are :math:`z / T + s`.

    Attributes:
        temperature: The temperature :math:`T`. Above 1, the classifier was too confident.
        shift: The logarithm :math:`s` of each class's frequency in use, divided by its frequency in training, with
            shape :math:`(C,)`.
        before: The reliability of the classifier's own probabilities on the held-out images.
        after: The reliability of the corrected probabilities on the same images. It is slightly optimistic, because the
            correction was fitted to them.
    """

    temperature: float
    shift: Tensor
    before: Reliability
    after: Reliability

    def logits(self, logits: Tensor) -> Tensor:
        r"""Returns the corrected logits of a classifier's logits, both with shape :math:`(*, C)`.

        Raises:
            TypeError: If ``logits`` is not a tensor.
            ValueError: If it is not a tensor of floating-point numbers with :math:`C` columns.
        """
        check_tensor(logits, "logits")
        if not logits.is_floating_point() or logits.shape[-1:] != self.shift.shape:
            raise ValueError(
                f"'logits' has shape {tuple(logits.shape)} and type {logits.dtype}, but must be floating-point with "
                f"{len(self.shift)} columns. Pass the outputs of the classifier whose logits were recalibrated."
            )
        return logits / self.temperature + self.shift.to(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        r"""Returns the corrected probabilities of a classifier's logits, both with shape :math:`(*, C)`.

        Raises:
            TypeError, ValueError: As in :meth:`logits`.
        """
        return self.logits(logits).softmax(dim=-1)

    def __str__(self) -> str:
        rows = [f"{'':<26}{'before':>8}{'after':>8}"]
        for name in ("calibration_error", "log_loss", "brier_score"):
            values = (getattr(self.before, name), getattr(self.after, name))
            rows.append(f"{name.replace('_', ' '):<26}" + "".join(f"{value:>8.3f}" for value in values))
        return "\n".join([*rows, f"temperature {self.temperature:.3g}, {sum(self.after.count)} held-out images"])


def recalibrate(
    logits: Tensor, labels: Tensor, *, trained_on: Frequencies | None = None, deployed_on: Frequencies | None = None
) -> Recalibration:
    r"""Corrects the probabilities of a classifier that was trained on batches with other class frequencies.

    Class-balanced batches teach a classifier that all classes are equally frequent, so it overrates scarce classes. For
    logits :math:`z`, let :math:`\pi` be the class frequencies in training, and :math:`\pi'` those in use. The corrected
    logits are :math:`z / T + \log(\pi' / \pi)`. The temperature :math:`T` corrects too much or too little confidence.
    It minimises the negative log-likelihood on held-out images.

    Within each class, held-out images must be as those that the classifier will see: real images that were not used in
    training, without augmentation. If ``deployed_on`` is given, each class has that weight in the fit and in the
    reliability, however many held-out images it has.

    The correction favours frequent classes. This suits probabilities and accuracy, but lowers balanced accuracy: for
    predictions of equally important classes, use the classifier's own logits.

    Args:
        logits: The classifier's logits of held-out real images, with shape :math:`(N, C)`.
        labels: Their labels, from 0 to :math:`C - 1`, with shape :math:`(N,)`.
        trained_on: The class frequencies :math:`\pi` in training, positive, with shape :math:`(C,)`. Only their ratios
            matter, so counts are allowed. By default all classes are equally frequent, as in batches of a
            :class:`gae_augment.MixedSampler`. If its ``balance`` is below 1, they are
            ``sampler.log_frequencies.exp()``. But if ``log_frequencies`` were added to the logits in training, the
            default is right.
        deployed_on: The class frequencies :math:`\pi'` in use, in the same format. By default those of ``labels``; the
            held-out images must then be a random sample of the images in use.

    Returns:
        The correction, and the reliability before and after it.

    Raises:
        TypeError: If ``logits`` is not a tensor.
        ValueError: If shapes, types or values are not as described, or a class has no held-out image and
            ``deployed_on`` is not given.

    Warns:
        RuntimeWarning: If no temperature from 0.001 to 1000 minimises the negative log-likelihood. If all held-out
            images are classified correctly, the temperature is 1 then.

    References:
        | Adjusting the outputs of a classifier to new a priori probabilities (Saerens et al., 2002),
          https://doi.org/10.1162/089976602753284446
        | On calibration of modern neural networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
        >>> result = recalibrate(logits, torch.tensor([0, 0, 0, 0, 0, 1]))
        >>> torch.tensor([[0.0, 0.0], [0.0, 1.0]]).softmax(dim=1)[:, 1]
        tensor([0.5000, 0.7311])
        >>> result.probabilities(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))[:, 1] < 0.5
        tensor([True, True])
    """
    check_tensor(logits, "logits")
    if logits.ndim != 2 or not len(logits) or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"'logits' has shape {tuple(logits.shape)} and type {logits.dtype}, but must be floating-point with one "
            f"row per image and one column per class, two at least. Pass the classifier's outputs before softmax."
        )
    if not logits.isfinite().all():
        row = int((~logits.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"Row {row} of 'logits' is not finite. Leave the image out, or look for NaN in the network.")
    n_classes = logits.shape[1]
    labels = checked_labels(labels, "labels", images=len(logits), classes=n_classes).cpu()
    logits = logits.detach().cpu().double()

    counts = labels.bincount(minlength=n_classes).double()
    if deployed_on is None and not counts.all():
        raise ValueError(
            f"Classes {(counts == 0).nonzero().flatten().tolist()} have no held-out image, so their frequencies in use "
            f"are unknown. Pass all frequencies as 'deployed_on'."
        )
    trained = torch.ones_like(counts) if trained_on is None else _frequencies(trained_on, "trained_on", n_classes)
    deployed = counts if deployed_on is None else _frequencies(deployed_on, "deployed_on", n_classes)
    shift = (deployed / deployed.sum()).log() - (trained / trained.sum()).log()
    weights = (deployed / counts)[labels]
    weights /= weights.sum()

    temperature = _fit_temperature(logits, labels, shift, weights)
    before, after = (_reliability(scores, labels, weights) for scores in (logits, logits / temperature + shift))
    return Recalibration(temperature, shift, before, after)


def _frequencies(values: Frequencies, name: str, n_classes: int) -> Tensor:
    frequencies = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if frequencies.shape != (n_classes,):
        raise ValueError(
            f"'{name}' has shape {tuple(frequencies.shape)}, but needs shape ({n_classes},), one frequency for each "
            f"column of 'logits'."
        )
    if not (frequencies.isfinite() & (frequencies > 0)).all():
        raise ValueError(
            f"'{name}' is {frequencies.tolist()}, but all frequencies must be positive and finite. Use the exponential "
            f"of logarithms, and a small number for a class that hardly occurs."
        )
    return frequencies


def _fit_temperature(logits: Tensor, labels: Tensor, shift: Tensor, weights: Tensor) -> float:
    from scipy.optimize import minimize_scalar

    margins = logits.scatter(1, labels[:, None], -torch.inf).max(dim=1).values
    if (logits.gather(1, labels[:, None])[:, 0] > margins).all():
        # The smaller the temperature, the smaller the loss: any small one would make all probabilities 0 or 1.
        warnings.warn(
            "The temperature stays 1: all held-out images are classified correctly, so nothing says how often the "
            "classifier errs. Use more held-out images.",
            RuntimeWarning,
            stacklevel=3,
        )
        return 1.0

    def loss(log_temperature: float) -> float:
        log_probabilities = (logits / np.exp(log_temperature) + shift).log_softmax(dim=1)
        return -(weights * log_probabilities.gather(1, labels[:, None])[:, 0]).sum().item()

    # The loss is convex in the inverse temperature, so it has one minimum on the logarithmic scale too.
    bound = np.log(LIMIT)
    fit = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    if abs(fit.x) > bound - 0.01:
        cause = "logits differ too little" if fit.x < 0 else "logits do not predict the labels"
        warnings.warn(
            f"The temperature {np.exp(fit.x):.3g} is at the limit of its range: {cause}. Check that labels and logits "
            f"belong together, and use more held-out images.",
            RuntimeWarning,
            stacklevel=3,
        )
    return float(np.exp(fit.x))


def _reliability(logits: Tensor, labels: Tensor, weights: Tensor) -> Reliability:
    log_probabilities = logits.log_softmax(dim=1)
    confidence, predicted = log_probabilities.exp().max(dim=1)
    is_correct = (predicted == labels).double()
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    bins = torch.bucketize(confidence, edges[1:-1])

    def total(values: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, values)

    weight, confidences, correct = total(weights), total(weights * confidence), total(weights * is_correct)
    one_hot = torch.nn.functional.one_hot(labels, logits.shape[1])
    return Reliability(
        calibration_error=(confidences - correct).abs().sum().item(),
        log_loss=-(weights * log_probabilities.gather(1, labels[:, None])[:, 0]).sum().item(),
        brier_score=(weights * (log_probabilities.exp() - one_hot).square().sum(dim=1)).sum().item(),
        confidence=tuple((confidences / weight).tolist()),
        accuracy=tuple((correct / weight).tolist()),
        count=tuple(bins.bincount(minlength=BINS).tolist()),
    )
