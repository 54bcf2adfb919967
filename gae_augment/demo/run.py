r"""Trains a classifier on a long-tailed data set, with and without synthetic images."""

__all__ = ["DEFAULT_PROFILE", "MODEL_NAME", "DemoResult", "run_demo"]

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from joblib.externals.loky import get_reusable_executor
from torch import Tensor

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
from ..report import strategy_images, training_budget
from .data import MIN_TEST_IMAGES, LabelledSet

DEFAULT_PROFILE = {"digits": "lt-20", "mnist": "deepsmote", "fashion_mnist": "deepsmote", "cifar10": "lt-100"}

MODEL_NAME = "GAE"


@dataclass(frozen=True)
class DemoResult:
    r"""The results of the demonstration.

    Attributes:
        settings: The settings of the demonstration, by name.
        before: The number of real training images of each class, ordered by label.
        after: The number of real plus synthetic training images of each class, ordered by label.
        gain: The classifier's test scores with and without synthetic images, for every seed.
        fidelity: The fidelity metrics of the first seed's synthetic images, by name.
        memorisation: How close the first seed's synthetic images are to the training images.
        fits: ``"seconds"`` lists the duration of each seed's fit. ``"classes"`` maps class names to the first seed's
            fit reports.
        real: The first seed's real training images of each class, ordered by label.
        synthetic: The first seed's synthetic images of each scarce class, by label.
        classes: The names of the classes, ordered by label.
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
        r"""Returns everything except the images, as values that JSON can represent."""
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
    r"""Trains a classifier on a long-tailed subset of a data set, with and without synthetic images.

    Each seed has its own subset, augmenter and classifiers.

    Args:
        data: The data set.
        profile: The class sizes of the subset. ``"natural"`` keeps all images. ``"lt-R"``, for example ``"lt-20"``,
            makes the sizes decrease exponentially. The largest class is then about R times as large as the smallest.
            ``"deepsmote"`` has the class sizes of the DeepSMOTE paper and needs ten classes.
        seeds: The number of seeds.
        steps: The approximate number of training steps of each classifier.
        affine: Whether training images are slightly rotated, shifted and scaled, at random.
        synthetic_fraction: The ``synthetic_fraction`` of :class:`gae_augment.MixedSampler`, in [0, 1].
        inception: Whether the result includes fidelity metrics with features of an Inception network.
        device: The device of all models. ``"auto"`` is a CUDA GPU if there is one, else the CPU.
        n_jobs: The number of processes that fit classes. By default threads of this process fit them.
        say: A function that receives each line of progress. By default progress is not shown.

    Raises:
        ValueError: If the images are not uint8, a class has too few images, or the profile does not suit the data set.
        FileNotFoundError: If ``inception`` is true, but the weights of the Inception network are missing.
    """
    images, labels = data.train
    _check(data)
    inception_extractors: list[FeatureExtractor] = [InceptionFeatures(device=device)] if inception else []
    counts = profile_counts(profile, labels.bincount(minlength=len(data.classes)).tolist())
    training = training_budget(sum(counts), steps)

    augmenters: dict[int, GAEAugmenter] = {}
    train_indices: dict[int, Tensor] = {}
    seconds = []
    for seed in range(seeds):
        train_indices[seed] = torch.from_numpy(choose_images(labels.numpy(), dict(enumerate(counts)), seed))
        start = time.perf_counter()
        augmenters[seed] = GAEAugmenter(
            # The classifiers see real and synthetic images in one size.
            working_size=(images.shape[-2], images.shape[-1]),
            device=device,
            n_jobs=n_jobs,
            random_state=seed,
            progress=False,
        ).fit(images[train_indices[seed]], labels[train_indices[seed]])
        seconds.append(time.perf_counter() - start)
        say(f"seed {seed}: models for {len(augmenters[seed].models_)} classes in {seconds[-1]:.1f} s")
    # Idle worker processes would keep their memory while the classifiers train.
    get_reusable_executor().shutdown()

    gain = classifier_gain(
        lambda seed: (images[train_indices[seed]], labels[train_indices[seed]]),
        {MODEL_NAME: lambda seed: strategy_images(augmenters[seed], data.train, seed)},
        data.test,
        synthetic_fraction=synthetic_fraction,
        seeds=range(seeds),
        affine=affine,
        classes=len(data.classes),
        device=device,
        **training,
        progress=lambda arm, seed, scores: say(f"seed {seed}: {arm}: {100 * scores['balanced accuracy']:.2f}"),
    )

    augmenter, (test_images, test_labels) = augmenters[0], data.test
    scarce = [int(label) for label in augmenter.models_]
    held_out = test_images[torch.isin(test_labels, torch.tensor(scarce))]
    # As many images of each class as in the test set, so that class frequencies do not affect fidelity.
    samples = {label: augmenter.sample(label, int((test_labels == label).sum()), seed=0) for label in scarce}
    synthetic = torch.cat(list(samples.values()))
    scarce_indices = train_indices[0][torch.isin(labels[train_indices[0]], torch.tensor(scarce))]
    originality = memorisation(images[scarce_indices], held_out, synthetic)
    # The indices of training images must refer to the whole data set, not to the scarce images.
    worst = tuple((sample, int(scarce_indices[nearest]), distance) for sample, nearest, distance in originality.worst)
    originality = replace(originality, worst=worst)
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
        after=[count + augmenter.sampling_strategy_.get(label, 0) for label, count in enumerate(counts)],
        gain=gain,
        fidelity={
            name: value
            for features in [extractor, *inception_extractors]
            for name, value in fidelity(held_out, synthetic, extractor=features).items()
        },
        memorisation=originality,
        fits={
            "seconds": seconds,
            "classes": {data.classes[int(label)]: asdict(report) for label, report in augmenter.report_.items()},
        },
        real=[images[train_indices[0]][labels[train_indices[0]] == label] for label in range(len(data.classes))],
        synthetic=samples,
        classes=data.classes,
    )


def _check(data: LabelledSet) -> None:
    if data.train[0].dtype != torch.uint8 or data.test[0].dtype != torch.uint8:
        raise ValueError(
            f"The images of {data.name!r} have dtypes {data.train[0].dtype} and {data.test[0].dtype}, but the "
            f"demonstration needs 8 bits. Convert them to uint8, or use GAEAugmenter itself."
        )
    for name, labels, minimum in (("training", data.train[1], 2), ("test", data.test[1], MIN_TEST_IMAGES)):
        counts = labels.bincount(minlength=len(data.classes)).tolist()
        for label, count in enumerate(counts):
            if count < minimum:
                raise ValueError(
                    f"Class {data.classes[label]!r} of {data.name!r} has {count} {name} images, but needs at least "
                    f"{minimum}. Add images, or leave the class out."
                )
