r"""Measures the quality of a fitted augmenter's synthetic images."""

__all__ = [
    "Assessment",
    "assess",
    "gain_table",
    "measure_gain",
    "open_data",
    "open_training_data",
    "strategy_images",
    "training_budget",
    "working_size_of",
]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from .._utils.seeding import derive_seed, make_generator
from ..augmenter import GAEAugmenter
from ..data import Label, WorkingSize, class_names, count_labels, load_source
from ..evaluation import (
    NEIGHBOURS,
    ClassifierGain,
    FeatureExtractor,
    Memorisation,
    as_many_of_each,
    check_extractor,
    classifier_gain,
    fidelity,
    memorisation,
)
from ..mixing import AugmentedDataset

MAX_IMAGES = 1000
"""The maximum number of images of each class and kind (synthetic, training, held-out) that are compared."""

Read = Callable[[Iterable[int]], Tensor]
"""A function that returns the images at the given indices."""


@dataclass(frozen=True)
class Assessment:
    r"""Synthetic images and training images, with measurements of fidelity and memorisation.

    Attributes:
        synthetic: A mapping from each class with a generative model to at most 1000 synthetic images.
        training: A mapping from the same classes to at most 1000 training images.
        fidelity: The metrics of :func:`gae_augment.evaluation.fidelity`, by name; empty if not measured.
        memorisation: How close synthetic images are to training images; ``None`` if not measured.
    """

    synthetic: dict[Label, Tensor]
    training: dict[Label, Tensor]
    fidelity: dict[str, float] = field(default_factory=dict)
    memorisation: Memorisation | None = None


def open_training_data(augmenter: GAEAugmenter, data: Any) -> tuple[np.ndarray, Read]:
    r"""Returns the labels of an augmenter's training set, and a function from indices to images.

    The images have the working size of the augmenter's models.

    Args:
        augmenter: A fitted augmenter.
        data: The augmenter's training set, as a dataset or a pair of images and labels.

    Raises:
        ValueError: If ``data`` have other class sizes or class names than the training set.
    """
    labels, read = open_data(data, augmenter)
    counts = count_labels(labels)
    if counts != augmenter.counts_:
        raise ValueError(
            f"The data have {counts} images per class, but the augmenter was fitted to {dict(augmenter.counts_)}. "
            f"Pass the same training set."
        )
    names = class_names(data) if isinstance(data, Dataset) else None
    if names and (unknown := [name for label, name in names.items() if augmenter.class_names_.get(label) != name]):
        raise ValueError(
            f"The classes {unknown} have other names or labels than those that the augmenter was fitted to, "
            f"{list(augmenter.class_names_.values())}. Pass the same training set."
        )
    return labels, read


def open_data(data: Any, augmenter: GAEAugmenter | None = None) -> tuple[np.ndarray, Read]:
    r"""Returns the labels of labelled images, and a function from indices to images.

    Args:
        data: A dataset, or a pair of images and labels.
        augmenter: A fitted augmenter, whose models set the size of the images. ``None`` chooses a working size for the
            data.
    """
    # A TensorDataset is not a tuple.
    X, y = data if isinstance(data, tuple) else (data, None)
    return load_source(X, y, "auto" if augmenter is None else working_size_of(augmenter))


def working_size_of(augmenter: GAEAugmenter) -> WorkingSize:
    r"""Returns the height and width of the images that the models of a fitted augmenter see.

    Without models, and for vectors, returns the parameter ``working_size`` of the augmenter.
    """
    shapes = [fitted.shape for fitted in augmenter.models_.values()]
    # All classes are fitted in the same size.
    return (shapes[0][-2], shapes[0][-1]) if shapes and len(shapes[0]) > 1 else augmenter.working_size


def assess(
    augmenter: GAEAugmenter,
    data: Any,
    *,
    held_out: Any = None,
    extractor: FeatureExtractor | None = None,
    seed: int = 0,
) -> Assessment:
    r"""Measures the fidelity and the memorisation of an augmenter's synthetic images.

    Each class with a generative model contributes at most 1000 synthetic, 1000 training and 1000 held-out images.

    Args:
        augmenter: A fitted augmenter.
        data: The augmenter's training set, as a dataset or a pair of images and labels.
        held_out: Real images outside the training set, as a dataset or a pair of images and labels. Without them,
            nothing is measured.
        extractor: A callable that maps images to features, and has a ``name``. Fidelity is measured if there is an
            extractor and at least six held-out images are compared.
        seed: The seed for choosing real images and sampling synthetic images.

    Raises:
        TypeError: If the extractor is not callable or has no name.
        ValueError: If the augmenter was fitted to other data, or compared images are neither of 8 or 16 bits nor in
            [0, 1].
    """
    if extractor is not None:
        check_extractor(extractor)
    labels, read = open_training_data(augmenter, data)
    generator = make_generator(seed, "assessment")
    synthetic = {label: _synthetic_images(augmenter, label, seed) for label in augmenter.models_}
    training = {label: _real_images(read, labels, label, generator) for label in synthetic}
    if held_out is None or not synthetic:
        return Assessment(synthetic, training)
    test_labels, read_test = open_data(held_out, augmenter)
    test = {
        label: _real_images(read_test, test_labels, label, generator) for label in synthetic if label in test_labels
    }
    if not test:
        return Assessment(synthetic, training)
    test_images, synthetic_images = as_many_of_each(test, synthetic)
    copied = memorisation(torch.cat(list(training.values())), test_images, synthetic_images, worst=0)
    figures = {}
    if extractor is not None and len(test_images) > NEIGHBOURS:
        figures = fidelity(test_images, synthetic_images, extractor=extractor)
    return Assessment(synthetic, training, figures, copied)


def _synthetic_images(augmenter: GAEAugmenter, label: Label, seed: int) -> Tensor:
    number = max(1, min(augmenter.sampling_strategy_[label], MAX_IMAGES))
    return augmenter.sample(label, number, seed=derive_seed(seed, "assessment"))


def _real_images(read: Read, labels: np.ndarray, label: Label, generator: torch.Generator) -> Tensor:
    indices = torch.from_numpy(np.flatnonzero(labels == label))
    chosen = torch.randperm(len(indices), generator=generator)[:MAX_IMAGES].sort().values
    return read(indices[chosen].tolist())


def training_budget(images: int, steps: int) -> dict[str, int]:
    r"""Returns a batch size and a number of epochs for training a classifier in about ``steps`` steps.

    Args:
        images: The number of training images.
        steps: The approximate number of training steps.

    Returns:
        ``"batch_size"``, from 16 to 128, and ``"epochs"``, at least 7.
    """
    batch_size = min(128, max(16, images // 5))
    return {"batch_size": batch_size, "epochs": max(7, round(steps * batch_size / images))}


def strategy_images(augmenter: GAEAugmenter, data: Any, seed: int) -> tuple[Tensor, Tensor]:
    r"""Samples the synthetic images that an augmenter adds to its training set, in the working size.

    Args:
        augmenter: A fitted augmenter with integer labels that adds images to at least one class.
        data: The augmenter's training set. Classes without a model of their own move its images.
        seed: The seed of the images.

    Returns:
        The images, class by class, and their labels.
    """
    images_to_add = _images_to_add(augmenter)
    images = []
    for label, number in images_to_add.items():
        if label in augmenter.models_:
            images.append(augmenter.sample(label, number, seed=seed))
        else:
            # After the real images.
            dataset = TensorDataset(*map(torch.as_tensor, data)) if isinstance(data, tuple) else data
            items = AugmentedDataset(dataset, augmenter, transform=None, images_to_add={label: number}, seed=seed)
            images.append(open_data(items, augmenter)[1](range(len(items) - number, len(items))))
    return torch.cat(images), torch.from_numpy(np.repeat(list(images_to_add), list(images_to_add.values())))


def _images_to_add(augmenter: GAEAugmenter) -> dict[Label, int]:
    images_to_add = {
        label: number
        for label, number in augmenter.sampling_strategy_.items()
        if number and label not in augmenter.failures_
    }
    if not images_to_add:
        raise ValueError(
            "No class gets synthetic images, so there is nothing to compare: all classes have as many images as "
            "'sampling_strategy' asks for, or their fits failed. Ask for more images with 'sampling_strategy'."
        )
    return images_to_add


def measure_gain(
    augmenter: GAEAugmenter,
    data: Any,
    held_out: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1500,
    affine: bool = False,
    device: str = "auto",
    progress: Callable[[str, int, dict[str, Any]], None] = lambda arm, seed, scores: None,
) -> ClassifierGain:
    r"""Measures how much synthetic images improve the test scores of a small classifier.

    The classifier is trained in three ways, called arms. The first arm uses real images, without class balance. The
    second arm uses class-balanced batches of real images. The third arm uses class-balanced batches of real and
    synthetic images.

    Args:
        augmenter: A fitted augmenter, whose labels are the integers from 0.
        data: The augmenter's training set, as a dataset or a pair of images and labels.
        held_out: Real test images of all classes, as a dataset or a pair of images and labels.
        seeds: The seeds of the classifiers and of the synthetic images. Each arm is trained once per seed.
        steps: The approximate number of training steps of each classifier.
        affine: Whether training images are slightly rotated, shifted and scaled, at random.
        device: The device of the classifier. ``"auto"`` is a CUDA GPU if there is one, else the CPU.
        progress: A function that is called after each training with the name of the arm, the seed and the scores.

    Raises:
        ValueError: If the augmenter was fitted to other data or adds no images, images are neither of 8 or 16 bits nor
            in [0, 1], or a class has no test image.
        FloatingPointError: If the loss of a classifier becomes NaN or infinite.
    """
    _images_to_add(augmenter)
    labels, read = open_training_data(augmenter, data)
    test_labels, read_test = open_data(held_out, augmenter)

    return classifier_gain(
        (read(range(len(labels))), torch.from_numpy(labels)),
        lambda seed: strategy_images(augmenter, data, seed),
        (read_test(range(len(test_labels))), torch.from_numpy(test_labels)),
        seeds=seeds,
        affine=affine,
        device=device,
        progress=progress,
        **training_budget(len(labels), steps),
    )


def gain_table(
    classes: Sequence[str],
    before: Sequence[int],
    after: Sequence[int],
    gain: ClassifierGain,
    figures: Mapping[str, float],
    copied: Memorisation | None,
) -> str:
    r"""Returns a plain-text table of image counts, recall, balanced accuracy, FID and memorisation.

    Args:
        classes: The names of the classes, ordered by label.
        before: The number of real training images of each class, ordered by label.
        after: The number of real plus synthetic training images of each class, ordered by label.
        gain: A classifier's test scores, as returned by :func:`measure_gain`.
        figures: The fidelity metrics, by name. The table shows only FID.
        copied: How close synthetic images are to training images; ``None`` if not measured.
    """
    arms = list(gain.scores)
    recall = {arm: np.mean([scores["recall"] for scores in gain.scores[arm]], axis=0) * 100 for arm in arms}
    width = max(5, *(len(name) for name in classes))
    column_names = ["plain", "balanced", "balanced+GAE"]
    lines = [
        f"{'':{width}}  {'training images':^17}  {'recall of a class, %':^36}",
        f"{'class':{width}}  {'before':>8} {'after':>8}  " + " ".join(f"{name:>12}" for name in column_names),
    ]
    for label, name in enumerate(classes):
        values = " ".join(f"{recall[arm][label]:12.1f}" for arm in arms)
        lines.append(f"{name:{width}}  {before[label]:8d} {after[label]:8d}  {values}")
    seeds = len(gain.seeds)
    lines += ["", f"balanced accuracy, % (mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''})"]
    arm_width = max(map(len, arms))
    for arm in arms:
        mean, deviation = gain.mean(arm, "balanced accuracy"), gain.deviation(arm, "balanced accuracy")
        line = f"  {arm:{arm_width}}  {100 * mean:6.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        if arm == arms[-1]:
            difference = gain.difference(arm, "balanced accuracy")
            line += f"   {100 * difference.mean:+.2f} compared with class-balanced sampling"
            if difference.low is not None and difference.high is not None:
                line += f", 95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
        lines.append(line)
    lines.append("")
    lines += [f"{name}: {value:.2f}" for name, value in figures.items() if name.startswith("FID")]
    if copied is not None:
        lines.append(
            f"memorisation: {100 * copied.fraction:.1f} % of the synthetic images are as close to a training image as "
            f"the closest {100 * copied.expected_fraction:.1f} % of unseen real ones"
        )
    return "\n".join(lines)
