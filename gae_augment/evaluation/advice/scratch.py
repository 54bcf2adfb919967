r"""Compares small networks that are trained from scratch, for users without a pretrained network."""

__all__ = ["SMALL_NETWORK", "SMALL_SIDE", "compare_scratch", "small_images"]

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ..._utils.seeding import derive_seed, global_seed, make_generator
from ..._utils.threads import map_in_threads, use_threads
from ...mixing import MixedSampler
from ..classifier import train_classifier
from .compare import Arm, Comparison, SplitScores, score_split
from .heads import STRATEGIES
from .setting import FOLDS, Setting, Split
from .verdict import Decision, Rows, choose_base, decide
from .views import Pictures, View

SMALL_NETWORK = "a small network, trained on these images"

SMALL_SIDE = 64
"""The side of the images that a small network sees."""

EPOCHS, BATCH_SIZE = 20, 64

LEAST_STEPS, MOST_STEPS = 200, 1500
"""The training steps of a network lie between these, as the time allows."""

PILOT_STEPS = 20
"""The number of training steps that show how fast the machine is."""

SHARE_OF_TRAINING = 0.5
"""The part of the time that trainings may take. Learned motions and views take the rest."""

POOL_BYTES = 300_000_000
"""The maximum size of the views of a way of training. Below it, views hardly repeat in a training."""

ALIKE = 16
"""This number of random images get the same random transform, which is faster than one for each."""

FRACTION = 0.5
"""The probability of a motion, and the ``synthetic_fraction`` of synthetic images."""


def small_images(pictures: Pictures) -> Tensor:
    r"""Returns images of one size, uint8 with shape :math:`(N, C, S, S)`, grey if all are grey."""
    side = min(SMALL_SIDE, max(max(image.shape[-2:]) for image in pictures.images))
    images = torch.stack([functional.resize(image, [side, side], antialias=True) for image in pictures.images])
    grey = bool((images == images[:, :1]).all())
    return images[:, :1].contiguous() if grey else images


def compare_scratch(setting: Setting, images: Tensor) -> tuple[Comparison, Decision]:
    r"""Returns the comparison of the best training and ours on top of it, and the decision.

    One network is trained for each way of training, on fresh draws of its views. The remedies for imbalance are
    compared first, then standard views are added to the best one, then motions and synthetic images.
    """

    def score_splits(
        repetition: int, arms: Sequence[Arm], name: str, **options: Callable[[Split], None]
    ) -> list[SplitScores]:
        return setting.score_splits(
            repetition, f"{name}-{steps}", arms, lambda split: _score(setting, images, split, arms, steps), **options
        )

    plain = Arm("plain training")
    own = [Arm(name, bool(setting.standard_views)) for name in setting.strategies]
    first = list(dict.fromkeys([plain, *own]))
    decided = setting.strategy is not None and setting.standard_views is not None
    trainings = (1 if decided else len(first) + (setting.standard_views is None)) + len(setting.ours(plain))
    planned = setting.keep(
        f"steps-{setting.minutes:g}", lambda: {"steps": torch.tensor(_steps(setting, images, trainings))}
    )
    steps = int(planned["steps"])
    setting.progress(f"small networks of {steps} training steps")

    def compared(splits: list[SplitScores]) -> Comparison:
        return Comparison(setting.labels, setting.groups, [splits])

    known: list[SplitScores] = []
    base = first[-1]
    rows: Rows = {}
    if not decided:
        known = score_splits(0, first, "remedies")
        setting.progress(f"remedies for imbalance: {setting.seconds:.0f} s")
        base, rows = choose_base(compared(known), own, pretrained=False)
        if setting.standard_views is None:
            views = Arm(base.strategy, standard=True)
            added = score_splits(0, [views], f"views {_short(base)}")
            known = [old | new for old, new in zip(known, added, strict=True)]
            setting.progress(f"standard views: {setting.seconds:.0f} s")
            base, rows = choose_base(compared(known), [base, views], pretrained=False)
    ours = setting.ours(base)

    def repetition(number: int, done: Callable[[Split], None]) -> list[SplitScores]:
        if number or not known:
            return score_splits(number, [base, *ours], f"base {_short(base)}", done=done)
        added = score_splits(0, ours, f"ours {_short(base)}", done=done)
        return [old | new for old, new in zip(known, added, strict=True)]

    if not ours:
        comparison = compared(known or score_splits(0, [base], f"base {_short(base)}"))
    else:
        repetitions = setting.repeat(_short(base), repetition)
        comparison = Comparison(
            setting.labels, setting.groups, [[s.only([base, *ours]) for s in r] for r in repetitions]
        )
    return comparison, decide(comparison, base, ours, rows, pretrained=False)


def _short(base: Arm) -> str:
    return f"{list(STRATEGIES).index(base.strategy)}{'s' if base.standard else 'w'}"


def _steps(setting: Setting, images: Tensor, trainings: int) -> int:
    r"""Returns the number of training steps for which there is time."""
    rows = torch.arange(min(len(images), PILOT_STEPS * BATCH_SIZE))
    labels = torch.from_numpy(setting.labels)[rows]
    passes = -(-PILOT_STEPS * BATCH_SIZE // len(rows))
    with use_threads(1):
        # The first training prepares the libraries.
        for _ in range(2):
            start = time.perf_counter()
            train_classifier(
                images[rows], labels, classes=setting.classes, epochs=passes, batch_size=BATCH_SIZE, device="cpu"
            )
            seconds = (time.perf_counter() - start) / (passes * -(-len(rows) // BATCH_SIZE))
    seconds_of_all = SHARE_OF_TRAINING * (60 * setting.minutes - setting.seconds) * torch.get_num_threads()
    return min(MOST_STEPS, max(LEAST_STEPS, int(seconds_of_all / (seconds * FOLDS * trainings))))


@dataclass(frozen=True)
class _Pool:
    r"""Views of images; those of image :math:`i` are the ``counts[i]`` ones from ``starts[i]`` on."""

    views: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "_Pool":
        r"""Returns the images themselves."""
        return cls(images, torch.arange(len(images)), torch.ones(len(images), dtype=torch.long))

    @classmethod
    def make(cls, images: Tensor, labels: Tensor, view: View, seed: int, n: int) -> "_Pool":
        r"""Draws views of images: at least one of each, and as many of each class, about ``n`` in all."""
        of_class = labels.bincount().clamp(min=1)
        least = min(n, POOL_BYTES // images[0].numel()) / len(of_class)
        counts = (least / of_class).ceil().long().clamp(min=1)[labels]
        rows = torch.arange(len(images)).repeat_interleave(counts)
        views = torch.empty(len(rows), *images.shape[1:], dtype=torch.uint8)
        order = torch.randperm(len(rows), generator=make_generator(seed, "views"))
        # Several threads would wait for each other at each small step.
        with global_seed(seed), use_threads(1):
            for chosen in order.split(ALIKE):
                views[chosen] = view(images[rows[chosen]])
        return cls(views, counts.cumsum(0) - counts, counts)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        r"""Returns the index of a random view of each image."""
        offsets = torch.rand(len(rows), dtype=torch.float64, generator=generator) * self.counts[rows]
        return self.starts[rows] + offsets.long()

    @property
    def images(self) -> Tensor:
        r"""The index of each view's image."""
        return torch.arange(len(self.counts)).repeat_interleave(self.counts)


class _Draws:
    r"""A sampler of views: a :class:`gae_augment.MixedSampler` draws an image, whose view is random.

    Views are those of ``plain`` and, behind them, those of ``moved``.
    """

    def __init__(self, sampler: MixedSampler, images: Tensor, moves: Tensor, plain: _Pool, moved: _Pool | None) -> None:
        self.sampler, self.images, self.moves, self.plain, self.moved = sampler, images, moves, plain, moved
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        r"""Sets the epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        drawn = self.sampler.draw(self.epoch)
        rows = self.images[drawn]
        generator = make_generator(self.sampler.seed, "draws of views", self.epoch)
        views = self.plain.draw(rows, generator)
        if self.moved is not None:
            is_moved = torch.rand(len(rows), generator=generator) < self.moves[drawn]
            views = torch.where(is_moved, len(self.plain.views) + self.moved.draw(rows, generator), views)
        return iter(views.tolist())


def _score(setting: Setting, images: Tensor, split: Split, arms: Sequence[Arm], steps: int) -> SplitScores:
    r"""Trains a network in each arm, and scores it on held-out images."""
    own, labels = images[split.in_training], torch.from_numpy(setting.labels[split.in_training])
    moves = any(arm.ours != "none" for arm in arms)
    motion = setting.learned(list(images), split.in_training, split.seed) if moves else None

    @cache
    def pool(standard: bool, strength: float) -> _Pool:
        parts: list[View] = []
        if strength:
            assert motion is not None
            parts.append(motion(strength=strength, p=1.0))
        if standard:
            parts.append(setting.view(images.shape[-1], standard=True))
        seed = derive_seed(split.seed, "pool", str(standard), str(strength))
        return _Pool.make(own, labels, v2.Compose(parts), seed, steps * BATCH_SIZE) if parts else _Pool.of(own)

    def logits_of(item: tuple[Arm, _Pool, _Pool | None]) -> Tensor:
        return _logits(setting, split, *item, labels, images[split.held_out], steps)

    # Views are drawn one after the other, because torchvision's transforms draw from the global generator.
    items = [
        (arm, pool(arm.standard, 0.0), pool(arm.standard, arm.strength) if arm.ours != "none" else None) for arm in arms
    ]
    logits = dict(zip(arms, map_in_threads(logits_of, items), strict=True))
    return score_split(split.held_out, torch.from_numpy(setting.labels[split.held_out]), logits)


def _logits(
    setting: Setting,
    split: Split,
    arm: Arm,
    plain: _Pool,
    moved: _Pool | None,
    labels: Tensor,
    unseen: Tensor,
    steps: int,
) -> Tensor:
    r"""Returns the logits of a network for unseen images, with shape :math:`(1, C, n)`."""
    # An image stands for as many images of the user as its class has more of.
    copies = (setting.counts / np.bincount(setting.labels)).round().astype(int)[labels]
    rows = torch.arange(len(labels)).repeat_interleave(torch.from_numpy(copies))
    drawn, is_synthetic = rows, torch.zeros(len(rows), dtype=torch.bool)
    moves = torch.full((len(rows),), FRACTION if arm.ours == "motions" else 0.0)
    if arm.ours == "synthetic images":
        drawn = torch.cat([rows, torch.arange(len(labels))])
        is_synthetic = torch.arange(len(drawn)) >= len(rows)
        moves = is_synthetic.float()
    strategy = STRATEGIES[arm.strategy]
    sampler = MixedSampler(
        SimpleNamespace(targets=labels[drawn].tolist(), is_synthetic=is_synthetic.tolist()),
        FRACTION if arm.ours == "synthetic images" else 0.0,
        epochs=EPOCHS,
        balance=strategy.balance,
        num_samples=-(-steps // EPOCHS) * BATCH_SIZE,
        num_classes=setting.classes,
        seed=split.seed,
        num_replicas=1,
        rank=0,
    )
    views, view_labels = plain.views, labels[plain.images]
    if moved is not None:
        views, view_labels = torch.cat([views, moved.views]), torch.cat([view_labels, labels[moved.images]])
    network = train_classifier(
        views,
        view_labels,
        classes=setting.classes,
        sampler=_Draws(sampler, drawn, moves, plain, moved),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        log_frequencies=strategy.shift * sampler.log_frequencies if strategy.shift else None,
        seed=split.seed,
        device=setting.device,
    )
    return network.logits(unseen).t()[None]
