r"""The demonstration: a long-tailed data set, a classifier with and without synthetic images, a table and a picture."""

__all__ = ["DemoData", "DemoResult", "load_data", "picture", "run_demo", "table"]

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision import datasets

from .augmenter import GAEAugmenter
from .evaluation import (
    ClassifierFeatures,
    ClassifierGain,
    FeatureExtractor,
    InceptionFeatures,
    classifier_gain,
    fidelity,
    memorisation,
)
from .folders import open_folder
from .longtail import choose_images, profile_counts
from .reading import class_names, open_source

Labelled = tuple[Tensor, Tensor]

TORCHVISION = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
}

DEFAULT_PROFILE = {"digits": "lt-20", "mnist": "deepsmote", "fashion_mnist": "deepsmote", "cifar10": "lt-100"}

TEST_PER_DIGIT = 70
"""Of scikit-learn's digits, which come without a test set, so many of each class are the test set."""

LEAST_TEST = 6
"""The fewest test images of a class: fidelity looks at five neighbours of each."""

MODEL_NAME = "GAE"


@dataclass(frozen=True)
class DemoData:
    r"""A whole data set.

    Attributes:
        name: Its name.
        train: The training images, with shape :math:`(N, C, H, W)`, and their labels.
        test: The test images and their labels.
        classes: The names of the labels 0, 1, ...
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]


def _read(dataset: Any) -> Labelled:
    labels, read = open_source(dataset)
    images = read(range(len(labels)))
    # Black and white is 0 and 255.
    return (images.to(torch.uint8) * 255 if images.dtype == torch.bool else images), torch.from_numpy(labels)


def _split(images: Tensor, labels: Tensor, per_class: dict[int, int]) -> tuple[Labelled, Labelled]:
    test = torch.from_numpy(choose_images(labels.numpy(), per_class, seed=0))
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, test, False)
    return (images[rest], labels[rest]), (images[test], labels[test])


def load_data(dataset: str, data_root: str | os.PathLike[str] | None = None) -> DemoData:
    r"""Returns a data set by its name, or the images of a folder.

    Args:
        dataset: ``"digits"``, which scikit-learn brings along; ``"mnist"``, ``"fashion_mnist"`` or ``"cifar10"``, as
            torchvision keeps them under the data root; or the path of a folder with one sub-folder per class, or with
            such folders ``train`` and ``test`` in it. Without a test folder a quarter of each class, and
            six images at least, is the test set.
        data_root: Where torchvision's data sets lie. By default the environment variable ``GAE_DATA_ROOT``, or
            ``data``.

    Raises:
        ValueError: If there is no such data set or folder.
    """
    if dataset == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Sixteen grey levels become the 256 that other images have.
        images = torch.from_numpy(np.minimum(digits.images * 16, 255).astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target)
        train, test = _split(images, labels, dict.fromkeys(range(10), TEST_PER_DIGIT))
        return DemoData(dataset, train, test, tuple("0123456789"))
    if dataset in TORCHVISION:
        root = Path(data_root or os.environ.get("GAE_DATA_ROOT", "data"))
        try:
            sets = [TORCHVISION[dataset](str(root), train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            kind = TORCHVISION[dataset].__name__
            raise ValueError(
                f"'--data-root' is the folder that torchvision keeps {dataset!r} in, and {str(root)!r} does not hold "
                f"it. Download it in Python: torchvision.datasets.{kind}({str(root)!r}, download=True)."
            ) from error
        names = class_names(sets[0]) or {}
        return DemoData(dataset, _read(sets[0]), _read(sets[1]), tuple(names.values()))
    folder = Path(dataset)
    if not folder.is_dir():
        raise ValueError(
            f"A data set is 'digits', {', '.join(map(repr, TORCHVISION))} or a folder, and there is no {dataset!r}."
        )
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        parts = [open_folder(folder / part) for part in ("train", "test")]
        if parts[0].classes != parts[1].classes:
            raise ValueError(
                f"The folders 'train' and 'test' have the same classes, and they have {parts[0].classes} and "
                f"{parts[1].classes}."
            )
        return DemoData(folder.resolve().name, _read(parts[0]), _read(parts[1]), tuple(parts[0].classes))
    whole = open_folder(folder)
    images, labels = _read(whole)
    quarter = {label: max(LEAST_TEST, math.ceil(count / 4)) for label, count in enumerate(labels.bincount().tolist())}
    train, test = _split(images, labels, quarter)
    return DemoData(folder.resolve().name, train, test, tuple(whole.classes))


@dataclass(frozen=True)
class DemoResult:
    r"""What the demonstration came to.

    Attributes:
        settings: What it was run with.
        before: The training images of each class.
        after: The same with synthetic ones.
        gain: The classifier's scores.
        fidelity: The fidelity of the first seed's synthetic images, by the name of the figure.
        memorisation: The memorisation of the first seed's synthetic images.
        fits: The seconds of each seed's fit, and the first seed's report.
        real: Some real images of each class, for the picture.
        synthetic: Some synthetic images of each class that has any.
    """

    settings: dict[str, Any]
    before: list[int]
    after: list[int]
    gain: ClassifierGain
    fidelity: dict[str, float]
    memorisation: dict[str, Any]
    fits: dict[str, Any]
    real: list[Tensor]
    synthetic: dict[int, Tensor]
    classes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        r"""Returns all but the images, as plain values for JSON."""
        return {
            "settings": self.settings,
            "images before": dict(zip(self.classes, self.before, strict=True)),
            "images after": dict(zip(self.classes, self.after, strict=True)),
            "classifier": self.gain.as_dict(),
            "fidelity": self.fidelity,
            "memorisation": self.memorisation,
            "fits": self.fits,
        }


def run_demo(
    data: DemoData,
    *,
    profile: str,
    seeds: int = 5,
    steps: int = 1500,
    affine: bool = True,
    synthetic_fraction: float = 0.5,
    inception: bool = False,
    device: str = "auto",
    n_jobs: int | None = -1,
    say: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    r"""Makes a data set long-tailed, fits an augmenter to it, and trains a classifier with and without; once per seed.

    Args:
        data: The data set.
        profile: How many images each class keeps; see :func:`gae_augment.longtail.profile_counts`.
        seeds: How many seeds. Each chooses its own training images.
        steps: The optimiser's steps of each classifier, in batches of at most 128.
        affine: Whether training images, real and synthetic, are turned, shifted and scaled at random.
        synthetic_fraction: The fraction of :class:`gae_augment.MixedSampler`.
        inception: Whether fidelity is measured by Inception's features too.
        device: The device of generators and classifiers.
        n_jobs: The classes that are fitted at the same time.
        say: Called with a line of progress now and then.

    Raises:
        ValueError: If the images are not of 8 bits, or there are too few of a class.
        FileNotFoundError: If Inception's weights are asked for and are not at hand.
    """
    images, labels = data.train
    _check(data)
    more_extractors: list[FeatureExtractor] = [InceptionFeatures(device=device)] if inception else []
    counts = profile_counts(profile, labels.bincount(minlength=len(data.classes)).tolist())
    batch_size = min(128, max(16, sum(counts) // 5))
    epochs = max(7, round(steps * batch_size / sum(counts)))

    augmenters: dict[int, GAEAugmenter] = {}
    chosen: dict[int, Tensor] = {}
    seconds = []
    for seed in range(seeds):
        chosen[seed] = torch.from_numpy(choose_images(labels.numpy(), dict(enumerate(counts)), seed))
        start = time.perf_counter()
        augmenters[seed] = GAEAugmenter(device=device, n_jobs=n_jobs, random_state=seed, progress=False).fit(
            images[chosen[seed]], labels[chosen[seed]]
        )
        seconds.append(time.perf_counter() - start)
        say(f"seed {seed}: generators for {len(augmenters[seed].generators_)} classes in {seconds[-1]:.1f} s")

    def synthetic(seed: int) -> Labelled:
        augmenter = augmenters[seed]
        added = {int(label): n for label, n in augmenter.sampling_strategy_.items() if n}
        made = [augmenter.sample(label, n, seed=seed) for label, n in added.items()]
        return torch.cat(made), torch.cat([torch.full((n,), label) for label, n in added.items()])

    gain = classifier_gain(
        lambda seed: (images[chosen[seed]], labels[chosen[seed]]),
        {MODEL_NAME: synthetic},
        data.test,
        synthetic_fraction=synthetic_fraction,
        seeds=range(seeds),
        epochs=epochs,
        batch_size=batch_size,
        affine=affine,
        classes=len(data.classes),
        device=device,
        progress=lambda arm, seed, scores: say(f"seed {seed}: {arm}: {100 * scores['balanced accuracy']:.2f}"),
    )

    first, test_images, test_labels = augmenters[0], *data.test
    scarce = [int(label) for label in first.generators_]
    held_out = test_images[torch.isin(test_labels, torch.tensor(scarce))]
    # As many of each class as the test set has, so that class frequencies do not count as a lack of fidelity.
    alike = {label: first.sample(label, int((test_labels == label).sum()), seed=0) for label in scarce}
    made = torch.cat(list(alike.values()))
    own = chosen[0][torch.isin(labels[chosen[0]], torch.tensor(scarce))]
    copied = memorisation(images[own], held_out, made).as_dict()
    # The training images by their places in the whole data set.
    copied["worst"] = [[place, int(own[nearest]), distance] for place, nearest, distance in copied["worst"]]
    say("fidelity and memorisation")
    extractor: FeatureExtractor = ClassifierFeatures.train(
        images, labels, dataset_name=data.name, epochs=_epochs(labels), device=device
    )
    return DemoResult(
        settings={
            "dataset": data.name,
            "profile": profile,
            "seeds": seeds,
            "steps": steps,
            "epochs": epochs,
            "batch size": batch_size,
            "affine": affine,
            "synthetic fraction": synthetic_fraction,
        },
        before=counts,
        after=[count + first.sampling_strategy_.get(label, 0) for label, count in enumerate(counts)],
        gain=gain,
        fidelity={
            name: value
            for extract in [extractor, *more_extractors]
            for name, value in fidelity(held_out, made, extractor=extract).items()
        },
        memorisation=copied,
        fits={
            "seconds": seconds,
            "classes": {data.classes[int(label)]: asdict(report) for label, report in first.report_.items()},
        },
        real=[images[chosen[0]][labels[chosen[0]] == label] for label in range(len(data.classes))],
        synthetic=alike,
        classes=data.classes,
    )


def _check(data: DemoData) -> None:
    if data.train[0].dtype != torch.uint8 or data.test[0].dtype != torch.uint8:
        raise ValueError(
            f"The demonstration is for images of 8 bits, and those of {data.name!r} are of {data.train[0].dtype}. "
            f"Convert them; GAEAugmenter itself takes others."
        )
    for name, part, least in (("training", data.train, 2), ("test", data.test, LEAST_TEST)):
        counts = part[1].bincount(minlength=len(data.classes)).tolist()
        for label, count in enumerate(counts):
            if count < least:
                raise ValueError(
                    f"Each class needs at least {least} {name} images, and {data.classes[label]!r} of {data.name!r} "
                    f"has {count}. Leave the class out, or add images."
                )


def _epochs(labels: Tensor) -> int:
    r"""Returns the epochs that give the classifier of the features about a thousand steps."""
    return max(3, min(60, 128 * 1000 // len(labels)))


def table(result: DemoResult) -> str:
    r"""Returns the result as a table to read."""
    gain = result.gain
    arms = list(gain.scores)
    short = ["plain", "balanced", f"balanced+{MODEL_NAME}"]
    recall = {arm: np.mean([scores["recall"] for scores in gain.scores[arm]], axis=0) * 100 for arm in arms}
    width = max(5, *(len(name) for name in result.classes))
    lines = [
        f"{'':{width}}  {'training images':^17}  {'recall of a class, %':^36}",
        f"{'class':{width}}  {'before':>8} {'after':>8}  " + " ".join(f"{name:>12}" for name in short),
    ]
    for label, name in enumerate(result.classes):
        values = " ".join(f"{recall[arm][label]:12.1f}" for arm in arms)
        lines.append(f"{name:{width}}  {result.before[label]:8d} {result.after[label]:8d}  {values}")
    seeds = len(gain.seeds)
    lines += ["", f"balanced accuracy, % (mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''})"]
    widest = max(map(len, arms))
    for arm in arms:
        mean, deviation = gain.mean(arm, "balanced accuracy"), gain.deviation(arm, "balanced accuracy")
        line = f"  {arm:{widest}}  {100 * mean:6.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        if arm == arms[-1]:
            difference = gain.difference(arm, "balanced accuracy")
            line += f"   {100 * difference.mean:+.2f} to class-balanced sampling"
            if difference.low is not None and difference.high is not None:
                line += f", 95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
        lines.append(line)
    lines.append("")
    for name, value in result.fidelity.items():
        if name.startswith("FID"):
            lines.append(f"{name}: {value:.2f}")
    copied = result.memorisation
    lines.append(
        f"memorisation: {100 * copied['fraction']:.1f} % of the synthetic images are as close to a training image as "
        f"the closest {100 * copied['expected fraction']:.1f} % of unseen real ones"
    )
    seconds = result.fits["seconds"]
    lines.append(f"fit of {len(result.synthetic)} classes: {np.mean(seconds):.1f} s on average")
    return "\n".join(lines)


def picture(result: DemoResult, path: str | os.PathLike[str], *, columns: int = 10) -> None:
    r"""Writes a PNG with a row per class: real images at the left, synthetic ones at the right."""
    shape = result.real[0].shape[1:]
    scale = max(1, round(48 / max(shape[-2:])))
    height, width = shape[-2] * scale, shape[-1] * scale
    gap, margin, head = 6, 12 + 7 * max(len(name) for name in result.classes), 20
    block = columns * (width + gap)
    canvas = Image.new("RGB", (margin + 2 * block + 3 * gap + 12, head + len(result.classes) * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, 4), "real", fill="black")
    draw.text((margin + block + 12, 4), "synthetic", fill="black")
    for label, name in enumerate(result.classes):
        top = head + label * (height + gap)
        draw.text((6, top + height // 2 - 6), name, fill="black")
        for left, images in ((margin, result.real[label]), (margin + block + 12, result.synthetic.get(label))):
            for place, image in enumerate(() if images is None else images[:columns]):
                levels = image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]
                tile = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
                canvas.paste(
                    tile.resize((width, height), Image.Resampling.NEAREST), (left + place * (width + gap), top)
                )
    canvas.save(path)
