r"""Compares linear classifiers on the features of a fixed network."""

__all__ = ["compare_frozen"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from ..._utils.seeding import derive_seed
from ..._utils.threads import map_in_threads
from .backbones import Backbone
from .compare import Arm, Comparison, SplitScores, score_split
from .heads import STRATEGIES, Projection, train_heads
from .setting import Setting, Split
from .splits import near_duplicates
from .verdict import Decision, choose_base, decide
from .views import Pictures

CROSSING = 0.1
"""A warning is given if more than this fraction of the images have near-duplicates in other groups."""


@dataclass(frozen=True)
class _Treatment:
    r"""What training images show, whatever the strategy; an :class:`.Arm` adds one."""

    standard: bool
    ours: str = "none"
    strength: float = 0.0
    more_views: bool = False

    @property
    def arms(self) -> list[Arm]:
        r"""The arms of the treatment, one per strategy."""
        return [Arm(strategy, *astuple(self)) for strategy in STRATEGIES]


PLAIN_TREATMENTS = [_Treatment(standard=False), _Treatment(standard=True)]


def compare_frozen(setting: Setting, pictures: Pictures, network: Backbone) -> tuple[Comparison, Decision, list[str]]:
    r"""Returns the comparison, the decision, and warnings.

    Motions are added to what is best without them, and only there, which saves half of the time. With standard views,
    synthetic images must be better than as many more standard views of the same images.
    """

    def features(rows: np.ndarray, seed: int, *, standard: bool) -> Tensor:
        then = setting.view(network.size, standard=standard)
        return pictures.features(rows, network, moves=None, then=then, seed=seed)

    every = np.arange(len(setting.labels))
    views = setting.keep(
        "views",
        lambda: {
            "whole": features(every, setting.seed, standard=False),
            "standard": features(every, setting.seed, standard=True),
        },
    )
    setting.progress(f"features of images and standard views: {setting.seconds:.0f} s")

    def score_splits(repetition: int, standard: bool | None, **options: Callable[[Split], None]) -> list[SplitScores]:
        treatments = _treatments(setting, standard)

        def score(split: Split) -> SplitScores:
            moved = {} if standard is None else _moved_views(setting, pictures, network, split, standard)
            return _score(setting, split, treatments, {**views, **moved})

        arms = [arm for treatment in treatments for arm in treatment.arms]
        name = "alone" if standard is None else "standard" if standard else "whole"
        return setting.score_splits(repetition, name, arms, score, **options)

    standard = setting.standard_views
    if standard is None:
        alone = Comparison(setting.labels, setting.groups, [score_splits(0, None)])
        allowed = [arm for arm in alone.arms if arm.strategy in setting.strategies]
        standard = choose_base(alone, allowed, pretrained=True)[0].standard
    if _Treatment(True, more_views=True) in _treatments(setting, standard):
        seed = derive_seed(setting.seed, "more views")
        scarce = np.flatnonzero(setting.is_scarce)
        more = setting.keep("more views", lambda: {"more": features(scarce, seed, standard=True)})
        views = {**views, "more": views["standard"].index_copy(0, torch.from_numpy(scarce), more["more"])}
    repetitions = setting.repeat(
        "standard" if standard else "whole", lambda repetition, done: score_splits(repetition, standard, done=done)
    )
    comparison = Comparison(setting.labels, setting.groups, repetitions)
    allowed = [arm for arm in comparison.arms if arm.strategy in setting.strategies and arm.standard == standard]
    base, rows = choose_base(comparison, [arm for arm in allowed if arm.ours == "none"], pretrained=True)
    decision = decide(comparison, base, setting.ours(base), rows, pretrained=True)
    crossing = near_duplicates(views["whole"], setting.labels, setting.groups)
    warnings = []
    if crossing > CROSSING:
        warnings.append(
            f"{100 * crossing:.0f} % of the images have a near-duplicate that counts as another object, so that "
            f"held-out images are not new. Pass groups of images that show one object."
        )
    return comparison, decision, warnings


def _treatments(setting: Setting, standard: bool | None) -> list[_Treatment]:
    r"""Returns the treatments that are compared. ``standard`` is that of the motions; ``None`` has no motions."""
    if standard is None:
        return PLAIN_TREATMENTS
    ours = [_Treatment(standard, arm.ours, arm.strength) for arm in setting.ours(Arm("", standard))]
    adds_images = any(treatment.ours == "synthetic images" for treatment in ours)
    controls = [_Treatment(True, more_views=True)] if standard and adds_images else []
    return [*PLAIN_TREATMENTS, *controls, *dict.fromkeys(ours)]


def _moved(strength: float) -> str:
    return f"moved {strength:g}"


def _moved_views(
    setting: Setting, pictures: Pictures, network: Backbone, split: Split, standard: bool
) -> dict[str, Tensor]:
    r"""Learns motions from training images, and returns the features of moved views of these."""
    if not setting.ours(Arm("", standard)):
        return {}
    motion = setting.learned(pictures.images, split.in_training, split.seed)
    # With the seed of the standard views, the same crops follow.
    seed = setting.seed if standard else split.seed
    return {
        _moved(strength): pictures.features(
            split.in_training,
            network,
            moves=motion(strength=strength, p=1.0),
            then=setting.view(network.size, standard=standard),
            seed=seed,
        )
        for strength in setting.strengths
    }


def _score(
    setting: Setting, split: Split, treatments: Sequence[_Treatment], features: Mapping[str, Tensor]
) -> SplitScores:
    r"""Trains a classifier in each arm, and scores it on held-out images.

    Args:
        setting: The setting.
        split: The split.
        treatments: The treatments.
        features: The features of all views, by name. Those of moved views are of the training images, in order.
    """
    train, tested = split.in_training, features["whole"][split.held_out]
    # How many images of the user each image stands for.
    weights = torch.from_numpy(setting.counts / np.bincount(setting.labels))[setting.labels].float()
    # One projection for all treatments, so that they differ only in what they show.
    projection = Projection.of(
        torch.cat([features["whole"][train], features["standard"][train]]), weights[train].repeat(2)
    )

    def logits_of(treatment: _Treatment) -> dict[Arm, Tensor]:
        x, labels, weights_of_views = _training_views(setting, treatment, train, weights[train], features)
        x, unseen = projection(x), projection(tested)
        heads = train_heads(x, labels, weights_of_views, classes=setting.classes)
        return {arm: heads[k, :, :, :-1] @ unseen.t() + heads[k, :, :, -1:] for k, arm in enumerate(treatment.arms)}

    every: dict[Arm, Tensor] = {}
    for logits in map_in_threads(logits_of, treatments):
        every |= logits
    return score_split(split.held_out, torch.from_numpy(setting.labels[split.held_out]), every)


def _training_views(
    setting: Setting, treatment: _Treatment, train: np.ndarray, weights: Tensor, features: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Returns the features of all training views, their labels, and their weights."""
    labels = torch.from_numpy(setting.labels[train])
    moved = features[_moved(treatment.strength)] if treatment.ours != "none" else None
    views = [features["whole"][train]]
    if treatment.ours == "motions":
        assert moved is not None
        # Half of the views are moved, as with p = 0.5.
        views.append(moved)
    elif treatment.standard:
        # Moved images have the crops of "standard". Beside them stand other crops, as in their control.
        views.append(features["more" if treatment.ours == "synthetic images" else "standard"][train])
    x, all_labels = torch.cat(views), labels.repeat(len(views))
    all_weights = (weights / len(views)).repeat(len(views))
    if treatment.ours == "synthetic images" or treatment.more_views:
        added = moved if moved is not None else features["more"][train]
        scarce = torch.from_numpy(setting.is_scarce[train])
        x = torch.cat([x, added[scarce]])
        all_labels = torch.cat([all_labels, labels[scarce]])
        all_weights = torch.cat([all_weights, weights[scarce]])
    return x, all_labels, all_weights
