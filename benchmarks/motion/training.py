r"""The training of a classifier whose real images are moved, in one plain loop."""

__all__ = [
    "BALANCED",
    "POST_HOC",
    "REGIMES",
    "STRATEGIES",
    "AdaptiveMover",
    "Mover",
    "Transform",
    "train",
    "transform_of",
]

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from gae_augment import MixedSampler
from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation.classifier import one_cycle, random_affine
from gae_augment.evaluation.images import Labelled, to_unit
from gae_augment.motion import adapted_strength
from gae_augment.motion.adaptive import PROBES, STEP
from gae_augment.motion.fields import displacement, move_images

from ..imbalance.cells import Budget
from ..imbalance.networks import build_classifier
from ..imbalance.strategies import STRATEGIES as EVERY_STRATEGY
from ..imbalance.strategies import Strategy, balanced_softmax
from .banks import Motions

REGIMES = ("none", "affine", "flipcrop", "strong")
"""The user's transform, after any motion: none, a random affine map, crop and mirror, or these and TrivialAugment."""

BALANCED = "class-balanced sampling"
"""What is done about imbalance unless a run says otherwise."""

STRATEGIES = {name: strategy for name, strategy in EVERY_STRATEGY.items() if strategy.mix == "nothing"}
STRATEGIES["balanced softmax, τ = 1.5"] = Strategy(0, partial(balanced_softmax, balance=0.0, tau=1.5))
POST_HOC = "post-hoc logit adjustment"
STRATEGIES[POST_HOC] = STRATEGIES["plain"]
"""What can be done about imbalance: the strategies of the benchmark of imbalance that mix no images, and two more.

Post-hoc logit adjustment (Menon et al., 2021, https://arxiv.org/abs/2007.07314) is plain training, after which the
logarithms of the classes' frequencies are subtracted from the logits.
"""

Transform = Callable[[Tensor, torch.Generator], Tensor]
"""What is done with a batch of images; some transforms draw from the global generator, the others from the given."""

PADDING = 4
"""The padding for random crops, in pixels."""

EPOCHS = 20
"""The number of parts of a training; the last parts may use unchanged real images alone."""


def _maps(motions: Motions) -> Tensor:
    return torch.stack([displacement(pool) for pool in motions.fields])


def _percent(maps: Tensor) -> float:
    # Coordinates run from -1 to 1, so that a side has length 2.
    return 50 * float(maps.square().sum(dim=2).mean().sqrt())


class Mover:
    r"""Moves the images of a batch, each by a field of its own.

    Args:
        motions: The motions: one pool per class, or one for all.
        probability: The probability that an image is moved, for each class.
    """

    def __init__(self, motions: Motions, probability: Tensor) -> None:
        self.maps = _maps(motions)
        self.colours = motions.colours if motions.colours.any() else None
        self.probability = probability

    @property
    def displacement(self) -> float:
        r"""The root mean square displacement of the maps, in percent of the image's side."""
        return _percent(self.maps)

    def move(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        r"""Returns the images, of a floating-point type, some of them moved."""
        moves, choice = torch.rand(2, len(x), generator=generator)
        rows = (moves < self.probability[labels]).nonzero().flatten()
        if not len(rows):
            return x
        pool = labels[rows] if len(self.maps) > 1 else torch.zeros_like(rows)
        index = (choice[rows] * self.maps.shape[1]).long()
        moved = move_images(x[rows], self.maps[pool, index])
        if self.colours is not None:
            change = functional.interpolate(self.colours[pool, index], x.shape[2:], mode="bilinear")
            moved = (moved + change).clamp(0, 1)
        x = x.clone()
        x[rows] = moved
        return x


class AdaptiveMover(Mover):
    r"""Moves images with a strength that is adapted after every epoch, as :class:`gae_augment.motion.AdaptiveMotion`.

    Args:
        motions: The motions of each strength: 0.25, 0.5, and so on.
        probability: The probability that an image is moved, for each class.
    """

    def __init__(self, motions: Sequence[Motions], probability: Tensor) -> None:
        super().__init__(motions[0], probability)
        self.of_strength = [
            displacement(one.fields.flatten(0, 1)).unflatten(0, one.fields.shape[:2]) for one in motions
        ]
        self.strengths = [0.0]

    @property
    def displacement(self) -> float:
        r"""The root mean square displacement of the maps of all epochs so far, in percent of the image's side."""
        percents = [0.0, *map(_percent, self.of_strength)]
        # The last strength is that of an epoch to come.
        used = [percents[round(strength / STEP)] ** 2 for strength in self.strengths[:-1]]
        return fmean(used) ** 0.5 if used else 0.0

    def move(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        r"""Returns the images, of a floating-point type, some of them moved."""
        level = round(self.strengths[-1] / STEP)
        if not level:
            # Arms draw the same random numbers.
            torch.rand(2, len(x), generator=generator)
            return x
        self.maps = self.of_strength[level - 1]
        return super().move(x, labels, generator)

    @torch.no_grad()
    def update(self, network: nn.Module, real: Labelled, transform: Transform, seed: int) -> None:
        r"""Adapts the strength to a classifier's errors on real images, unmoved and moved with strength 1.

        Args:
            network: The classifier, in training mode.
            real: The real images, uint8, and their labels.
            transform: The user's transform.
            seed: The seed of the choice of images, of their motions and of the transform.
        """
        images, labels = real
        generator = make_generator(seed, "probe")
        present = labels.unique().tolist()
        members = [(labels == label).nonzero().flatten() for label in present]
        number = PROBES // len(present)
        rows = torch.cat([one[torch.randint(len(one), (number,), generator=generator)] for one in members])
        maps = self.of_strength[round(1 / STEP) - 1][0]
        x = to_unit(images[rows])
        moved = move_images(x, maps[torch.randint(len(maps), (len(rows),), generator=generator)])
        errors = []
        network.eval()
        for batch in (x, moved):
            with global_seed(derive_seed(seed, "transform")):
                shown = transform(batch, torch.default_generator)
            errors.append(int((network(shown).argmax(dim=1) != labels[rows]).sum()))
        network.train()
        self.strengths.append(adapted_strength(self.strengths[-1], *errors))


def flip_and_crop(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Returns images that are shifted by up to four pixels, with zeros from outside, and mirrored half of the time."""
    height, width = x.shape[2:]
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    down, right = torch.randint(2 * PADDING + 1, (2, len(x)), generator=generator)
    x = functional.pad(x, [PADDING] * 4)
    rows = down[:, None] + torch.arange(height)
    columns = torch.arange(width).expand(len(x), -1)
    columns = right[:, None] + torch.where(mirrored[:, None], columns.flip(1), columns)
    images = torch.arange(len(x))[:, None, None]
    return x.movedim(1, -1)[images, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def transform_of(regime: str, size: Sequence[int]) -> Transform:
    r"""Returns the user's transform of a batch, of images of a height and width."""
    if regime == "affine":
        return random_affine
    if regime == "flipcrop":
        return flip_and_crop
    if regime == "none":
        return lambda x, generator: x
    strong = v2.Compose([v2.RandomCrop(size, padding=PADDING), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide()])
    # torchvision's random transforms draw from the global generator.
    return lambda x, generator: to_unit(torch.stack([strong(image) for image in (255 * x).round().byte()]))


def train(
    real: Labelled,
    synthetic: Labelled,
    *,
    classes: int,
    regime: str,
    budget: Budget,
    seed: int,
    strategy: str = BALANCED,
    mover: Mover | None = None,
    synthetic_fraction: float = 0.0,
    real_last: float = 0.0,
) -> nn.Module:
    r"""Returns a trained classifier, in evaluation mode.

    Everything random depends on the seed. All trainings with the same seed and strategy, and without synthetic images,
    see the same real images in the same order.

    Args:
        real: The real images, uint8 with shape :math:`(N, C, H, W)`, and their labels.
        synthetic: Synthetic images and their labels; may be empty.
        classes: The number of classes.
        regime: The user's transform of every image.
        budget: The training budget.
        seed: The seed.
        strategy: What is done about imbalance: the name of one of ``STRATEGIES``.
        mover: What moves real images. ``None`` leaves them unchanged.
        synthetic_fraction: As in :class:`gae_augment.MixedSampler`.
        real_last: The fraction of the steps, at the end, with unchanged real images alone.
    """
    trained_by, counts = STRATEGIES[strategy], real[1].bincount(minlength=classes).float()
    images, labels = torch.cat([real[0], synthetic[0]]), torch.cat([real[1], synthetic[1]])
    is_synthetic = [False] * len(real[1]) + [True] * len(synthetic[1])
    steps_per_epoch = -(-budget.steps // EPOCHS)
    sampler = MixedSampler(
        SimpleNamespace(targets=labels.tolist(), is_synthetic=is_synthetic),
        synthetic_fraction,
        epochs=EPOCHS,
        real_last=real_last,
        balance=trained_by.balance,
        num_samples=steps_per_epoch * budget.batch_size,
        seed=seed,
    )
    network = build_classifier(tuple(images.shape[1:]), classes, seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay, fused=True
    )
    motions, transforms = make_generator(seed, "motions"), make_generator(seed, "regime")
    transform = transform_of(regime, images.shape[2:])
    network.train()
    with global_seed(derive_seed(seed, "transforms")):
        for step in range(budget.steps):
            epoch, batch = divmod(step, steps_per_epoch)
            if not batch:
                batches = sampler.draw(epoch).split(budget.batch_size)
            x, targets = to_unit(images[batches[batch]]), labels[batches[batch]]
            if mover is not None and not sampler.draws_real_only(epoch):
                x = mover.move(x, targets, motions)
            x = transform(x, transforms)
            loss = trained_by.loss(network(x), targets, counts, step / budget.steps)
            for group in optimiser.param_groups:
                group["lr"] = budget.learning_rate * one_cycle(step, budget.steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if isinstance(mover, AdaptiveMover) and batch == len(batches) - 1:
                mover.update(network, real, transform, derive_seed(seed, epoch))
    return network.eval()
