r"""One split of the images: views, classifiers on their features, and scores on the held-out images."""

__all__ = ["LearnMotions", "Treatment", "Trial", "arms_of"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._utils.threads import map_in_threads
from ...data import ImageDataset
from .backbones import Backbone
from .compare import Arm, SplitScores, score_split
from .heads import STRATEGIES, Projection, train_heads
from .views import Pictures

LearnMotions = Callable[[Any, int], Callable[..., Any]]
"""From a dataset and a seed to a function ``(strength=…, p=…)`` that returns a transform.

The method ``motion`` of a fitted augmenter is such a function.
"""

FITTED_CLASSES, FITTED_IMAGES = 10, 100
"""Motions are learned from this number of the largest classes, and of images of each."""

SCARCE = 0.9
"""Classes with fewer images than this fraction of the largest class are scarce."""


def _moved(strength: float) -> str:
    return f"moved {strength:g}"


@dataclass(frozen=True)
class Treatment:
    r"""What training images show, whatever the strategy; an :class:`.Arm` adds one."""

    standard: bool
    ours: str = "none"
    strength: float = 0.0


def arms_of(treatment: Treatment) -> list[Arm]:
    r"""Returns the arms of a treatment, one per strategy."""
    return [Arm(strategy, treatment.standard, treatment.ours, treatment.strength) for strategy in STRATEGIES]


@dataclass(frozen=True)
class Trial:
    r"""The images of a comparison, and what is learned from a part of them.

    Attributes:
        pictures: The images.
        labels: Their labels, 0 to :math:`C - 1`.
        weights: How many images of the user each image stands for.
        strengths: The strengths of the motions.
        learn_motions: The function that learns motions; ``None`` for no motions.
        seed: The seed.
        standard: Whether motions are added to standard views or to the images as they are; ``None`` for no motions.
    """

    pictures: Pictures
    labels: np.ndarray
    weights: Tensor
    strengths: tuple[float, ...]
    learn_motions: LearnMotions | None
    seed: int
    standard: bool | None = None

    @property
    def treatments(self) -> list[Treatment]:
        r"""The treatments that are compared."""
        treatments = [Treatment(standard=False), Treatment(standard=True)]
        if self.learn_motions is not None and self.standard is not None and self.strengths:
            treatments += [Treatment(self.standard, "motions", strength) for strength in self.strengths]
            treatments.append(Treatment(self.standard, "synthetic images", max(self.strengths)))
        return treatments

    @property
    def arms(self) -> list[Arm]:
        r"""The arms, in the order of their scores."""
        return [arm for treatment in self.treatments for arm in arms_of(treatment)]

    def views(self, rows: np.ndarray, backbone: Backbone) -> dict[str, Tensor]:
        r"""Returns the features of the views that need no motions, with shape :math:`(n, F)`."""
        whole = self.pictures.features(rows, backbone, moves=None, standard=False, seed=self.seed)
        standard = self.pictures.features(rows, backbone, moves=None, standard=True, seed=self.seed)
        return {"whole": whole, "standard": standard}

    def moved_views(self, rows: np.ndarray, backbone: Backbone, seed: int) -> dict[str, Tensor]:
        r"""Learns motions from training images, and returns the features of moved views of these."""
        if self.learn_motions is None or self.standard is None or not self.strengths:
            return {}
        motion = self.learn_motions(self._to_learn_from(rows), seed)
        # With the seed of the standard views, the same crops follow.
        seed_of_view = self.seed if self.standard else seed
        return {
            _moved(strength): self.pictures.features(
                rows, backbone, moves=motion(strength=strength, p=1.0), standard=self.standard, seed=seed_of_view
            )
            for strength in self.strengths
        }

    def _to_learn_from(self, rows: np.ndarray) -> ImageDataset:
        labels = self.labels[rows]
        classes = np.argsort(-np.bincount(labels), kind="stable")[:FITTED_CLASSES]
        chosen: list[int] = []
        for label in np.sort(classes):
            own = rows[labels == label]
            chosen += own[np.linspace(0, len(own) - 1, min(len(own), FITTED_IMAGES)).round().astype(int)].tolist()
        return ImageDataset([self.pictures.images[row] for row in chosen], labels=self.labels[chosen])

    def score(self, train: np.ndarray, held_out: np.ndarray, features: Mapping[str, Tensor]) -> SplitScores:
        r"""Trains a classifier in each arm, and scores it on held-out images.

        Args:
            train: The training images.
            held_out: The held-out images.
            features: The features of all views, by name. Those of moved views are of the training images, in order.
        """
        tested, true = features["whole"][held_out], torch.from_numpy(self.labels[held_out])
        classes = int(self.labels.max()) + 1
        # One projection for all treatments, so that they differ only in what they show.
        projection = Projection.of(
            torch.cat([features["whole"][train], features["standard"][train]]), self.weights[train].repeat(2)
        )

        def logits_of(treatment: Treatment) -> dict[Arm, Tensor]:
            x, labels, weights = self._training_views(treatment, train, features)
            x, unseen = projection(x), projection(tested)
            heads = train_heads(x, labels, weights, classes=classes)
            arms = arms_of(treatment)
            return {arm: heads[k, :, :, :-1] @ unseen.t() + heads[k, :, :, -1:] for k, arm in enumerate(arms)}

        every: dict[Arm, Tensor] = {}
        for logits in map_in_threads(logits_of, self.treatments):
            every |= logits
        return score_split(held_out, true, every)

    def _training_views(
        self, treatment: Treatment, train: np.ndarray, features: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Returns the features of all training views, their labels, and their weights."""
        labels, weights = torch.from_numpy(self.labels[train]), self.weights[train]
        moved = features[_moved(treatment.strength)] if treatment.ours != "none" else None
        views = [features["whole"][train]]
        if treatment.ours == "motions":
            assert moved is not None
            # Half of the views are moved, as with p = 0.5.
            views.append(moved)
        elif treatment.standard:
            views.append(features["standard"][train])
        x, all_labels = torch.cat(views), labels.repeat(len(views))
        all_weights = (weights / len(views)).repeat(len(views))
        if treatment.ours == "synthetic images":
            assert moved is not None
            counts = torch.zeros(int(self.labels.max()) + 1).index_add(0, labels, weights)
            scarce = (counts < SCARCE * counts.max())[labels]
            x = torch.cat([x, moved[scarce]])
            all_labels = torch.cat([all_labels, labels[scarce]])
            all_weights = torch.cat([all_weights, weights[scarce]])
        return x, all_labels, all_weights
