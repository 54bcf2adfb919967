r"""The demonstration itself: a long-tailed data set, and a classifier with and without synthetic images."""

__all__ = ["DEFAULT_PROFILE", "MODEL_NAME", "DemoResult", "run_demo"]

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from joblib.externals.loky import get_reusable_executor
from torch import Tensor

from ..assessment import budget, promised_images
from ..augmenter import GAEAugmenter
from ..data import choose_images, profile_counts
from ..evaluation import (
    ClassifierFeatures,
    ClassifierGain,
    FeatureExtractor,
    InceptionFeatures,
    Memorisation,
    classifier_gain,
    epochs_of_a_thousand_steps,
    fidelity,
    memorisation,
)
from .data import LEAST_TEST, LabelledSet

DEFAULT_PROFILE = {"digits": "lt-20", "mnist": "deepsmote", "fashion_mnist": "deepsmote", "cifar10": "lt-100"}

MODEL_NAME = "GAE"


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
    memorisation: Memorisation
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
            "memorisation": self.memorisation.as_dict(),
            "fits": self.fits,
        }


def run_demo(
    data: LabelledSet,
    *,
    profile: str,
    seeds: int = 5,
    steps: int = 1500,
    affine: bool = True,
    synthetic_fraction: float = 0.5,
    inception: bool = False,
    device: str = "auto",
    n_jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    r"""Makes a data set long-tailed, fits an augmenter to it, and trains a classifier with and without; once per seed.

    Args:
        data: The data set.
        profile: How many images each class keeps; see :func:`gae_augment.data.long_tail.profile_counts`.
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
    training = budget(sum(counts), steps)

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
        say(f"seed {seed}: generators for {len(augmenters[seed].models_)} classes in {seconds[-1]:.1f} s")
    # The processes that fitted would wait for more, with their memory, while the classifiers train.
    get_reusable_executor().shutdown()

    gain = classifier_gain(
        lambda seed: (images[chosen[seed]], labels[chosen[seed]]),
        {MODEL_NAME: lambda seed: promised_images(augmenters[seed], seed)},
        data.test,
        synthetic_fraction=synthetic_fraction,
        seeds=range(seeds),
        affine=affine,
        classes=len(data.classes),
        device=device,
        **training,
        progress=lambda arm, seed, scores: say(f"seed {seed}: {arm}: {100 * scores['balanced accuracy']:.2f}"),
    )

    first, test_images, test_labels = augmenters[0], *data.test
    scarce = [int(label) for label in first.models_]
    held_out = test_images[torch.isin(test_labels, torch.tensor(scarce))]
    # As many of each class as the test set has, so that class frequencies do not count as a lack of fidelity.
    alike = {label: first.sample(label, int((test_labels == label).sum()), seed=0) for label in scarce}
    made = torch.cat(list(alike.values()))
    own = chosen[0][torch.isin(labels[chosen[0]], torch.tensor(scarce))]
    copied = memorisation(images[own], held_out, made)
    # The training images by their places in the whole data set.
    worst = tuple((place, int(own[nearest]), distance) for place, nearest, distance in copied.worst)
    copied = replace(copied, worst=worst)
    say("fidelity and memorisation")
    extractor: FeatureExtractor = ClassifierFeatures.train(
        images, labels, dataset_name=data.name, epochs=epochs_of_a_thousand_steps(len(labels)), device=device
    )
    return DemoResult(
        settings={
            "dataset": data.name,
            "profile": profile,
            "seeds": seeds,
            "steps": steps,
            "epochs": training["epochs"],
            "batch size": training["batch_size"],
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


def _check(data: LabelledSet) -> None:
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
