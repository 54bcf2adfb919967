r"""The training of a classifier whose real images are moved, in one plain loop."""

__all__ = ["REGIMES", "Mover", "train"]

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from gae_augment import MixedSampler
from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation.classifier import one_cycle, random_affine
from gae_augment.evaluation.images import Labelled, to_unit
from gae_augment.motion.fields import displacement, move_images

from ..imbalance.cells import Budget
from ..imbalance.networks import build_classifier
from .banks import Motions

REGIMES = ("none", "affine", "flipcrop", "strong")
"""The user's transform, after any motion: none, a random affine map, crop and mirror, or these and TrivialAugment."""

PADDING = 4
"""The padding for random crops, in pixels."""

EPOCHS = 20
"""The number of parts of a training; the last parts may use unchanged real images alone."""


class Mover:
    r"""Moves the images of a batch, each by a field of its own.

    Args:
        motions: The motions: one pool per class, or one for all.
        probability: The probability that an image is moved, for each class.
    """

    def __init__(self, motions: Motions, probability: Tensor) -> None:
        self.maps = torch.stack([displacement(pool) for pool in motions.fields])
        self.colours = motions.colours if motions.colours.any() else None
        self.probability = probability

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


def train(
    real: Labelled,
    synthetic: Labelled,
    *,
    classes: int,
    regime: str,
    budget: Budget,
    seed: int,
    mover: Mover | None = None,
    synthetic_fraction: float = 0.0,
    real_last: float = 0.0,
) -> nn.Module:
    r"""Returns a classifier, trained on class-balanced batches, in evaluation mode.

    Everything random depends on the seed. All trainings with the same seed and without synthetic images see the same
    real images in the same order.

    Args:
        real: The real images, uint8 with shape :math:`(N, C, H, W)`, and their labels.
        synthetic: Synthetic images and their labels; may be empty.
        classes: The number of classes.
        regime: The user's transform of every image.
        budget: The training budget.
        seed: The seed.
        mover: What moves real images. ``None`` leaves them unchanged.
        synthetic_fraction: As in :class:`gae_augment.MixedSampler`.
        real_last: The fraction of the steps, at the end, with unchanged real images alone.
    """
    images, labels = torch.cat([real[0], synthetic[0]]), torch.cat([real[1], synthetic[1]])
    is_synthetic = [False] * len(real[1]) + [True] * len(synthetic[1])
    steps_per_epoch = -(-budget.steps // EPOCHS)
    sampler = MixedSampler(
        SimpleNamespace(targets=labels.tolist(), is_synthetic=is_synthetic),
        synthetic_fraction,
        epochs=EPOCHS,
        real_last=real_last,
        num_samples=steps_per_epoch * budget.batch_size,
        seed=seed,
    )
    network = build_classifier(tuple(images.shape[1:]), classes, seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay, fused=True
    )
    strong = v2.Compose(
        [v2.RandomCrop(images.shape[2:], padding=PADDING), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide()]
    )
    motions, transforms = make_generator(seed, "motions"), make_generator(seed, "regime")
    network.train()
    # torchvision's random transforms draw from the global generator.
    with global_seed(derive_seed(seed, "transforms")):
        for step in range(budget.steps):
            epoch, batch = divmod(step, steps_per_epoch)
            if not batch:
                batches = sampler.draw(epoch).split(budget.batch_size)
            x, targets = to_unit(images[batches[batch]]), labels[batches[batch]]
            if mover is not None and not sampler.draws_real_only(epoch):
                x = mover.move(x, targets, motions)
            if regime == "affine":
                x = random_affine(x, transforms)
            elif regime == "flipcrop":
                x = flip_and_crop(x, transforms)
            elif regime == "strong":
                x = to_unit(torch.stack([strong(image) for image in (255 * x).round().byte()]))
            loss = functional.cross_entropy(network(x), targets)
            for group in optimiser.param_groups:
                group["lr"] = budget.learning_rate * one_cycle(step, budget.steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return network.eval()
