r"""The training of a classifier, by Lightning."""

__all__ = ["logits_of", "train"]

import logging
import math
import warnings
from types import SimpleNamespace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torchvision.transforms import v2

from gae_augment import MixedSampler
from gae_augment._utils.devices import resolve_device
from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation.classifier import one_cycle, random_affine
from gae_augment.evaluation.images import Labelled, to_unit
from gae_augment.mixing import soft_labels as as_soft

from .cells import Budget
from .networks import build_classifier
from .strategies import Strategy

MIXUP, CUTMIX = 0.2, 1.0
"""The parameters of the papers' Beta distributions of mixing weights (1710.09412, 1905.04899)."""

AT_ONCE = 1000
"""The number of images that pass through a network together outside training."""

SIDE, PADDING = 32, 4
"""The side of a colour image, and the padding for random crops, in pixels."""


class Batches(Dataset[Labelled]):
    r"""Batches of images with labels, or with probabilities in place of labels, by a list of indices."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __getitem__(self, indices: list[int]) -> Labelled:
        return self.images[indices], self.labels[indices]


class Training(LightningModule):
    r"""One training of a network.

    Args:
        network: The classifier, from images in [0, 1] to logits.
        strategy: The remedy for imbalance.
        counts: The number of real images of each class.
        regime: The transform of every image.
        budget: The training budget.
        seed: The seed of random transforms of images.
    """

    counts: Tensor

    def __init__(
        self,
        network: nn.Module,
        strategy: Strategy,
        counts: Tensor,
        regime: str,
        budget: Budget,
        seed: int,
    ) -> None:
        super().__init__()
        self.network, self.strategy, self.regime = network, strategy, regime
        self.budget = budget
        self.register_buffer("counts", counts.float())
        self.generator = make_generator(seed, "regime")
        self.strong = v2.Compose(
            [
                v2.RandomCrop(SIDE, padding=PADDING),
                v2.RandomHorizontalFlip(),
                v2.TrivialAugmentWide(),
            ]
        )
        self.mix: Any = {
            "nothing": None,
            "mixup": v2.MixUp(alpha=MIXUP, num_classes=len(counts)),
            "cutmix": v2.CutMix(alpha=CUTMIX, num_classes=len(counts)),
        }[strategy.mix]

    def on_before_batch_transfer(self, batch: Labelled, _: int) -> Labelled:
        r"""Returns a batch, in the strong regime with a random transform of each image.

        torchvision draws one transform for a whole batch; single images are faster on the CPU than on a GPU.
        """
        images, labels = batch
        return (torch.stack([self.strong(image) for image in images]) if self.regime == "strong" else images), labels

    def training_step(self, batch: Labelled, _: int) -> Tensor:
        r"""Returns the loss of a batch, in nats."""
        images, labels = batch
        x, targets = to_unit(images), labels
        if self.regime == "affine":
            x = random_affine(x, self.generator)
        if self.mix is not None and torch.rand(()) < self.strategy.mixed_part:
            x, targets = self.mix(x, targets)
        return self.strategy.loss(self.network(x).float(), targets, self.counts, self.global_step / self.budget.steps)

    def configure_optimizers(self) -> Any:
        r"""Returns AdamW, and the one-cycle schedule."""
        budget = self.budget
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay, fused=True
        )
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: one_cycle(min(step, budget.steps), budget.steps)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    r"""Returns the logits of uint8 images, with shape :math:`(N, C)`, on the CPU.

    The network is moved to a GPU if there is one.
    """
    device = resolve_device("auto")
    network.to(device)
    return torch.cat([network(to_unit(batch.to(device))).cpu() for batch in images.split(AT_ONCE)])


def train(
    real: Labelled,
    synthetic: Labelled,
    *,
    classes: int,
    strategy: Strategy,
    regime: str,
    budget: Budget,
    seed: int,
    synthetic_fraction: float = 0.5,
    real_last: float = 0.15,
    soft_labels: float = 0.0,
    teacher: nn.Module | None = None,
) -> nn.Module:
    r"""Returns a trained classifier, in evaluation mode, on the CPU.

    Everything random depends on the seed, and global random generators keep their state.

    Args:
        real: The real images, uint8 with shape :math:`(N, C, H, W)`, and their labels.
        synthetic: Synthetic images and their labels; may be empty.
        classes: The number of classes.
        strategy: The remedy for imbalance.
        regime: The transform of every image: ``"plain"``, ``"affine"`` or ``"strong"``.
        budget: The training budget.
        seed: The seed.
        synthetic_fraction: As in :class:`gae_augment.MixedSampler`.
        real_last: As in :class:`gae_augment.MixedSampler`.
        soft_labels: The weight of the teacher in the labels of synthetic images.
        teacher: A classifier of the real images alone.
    """
    images, labels = torch.cat([real[0], synthetic[0]]), torch.cat([real[1], synthetic[1]])
    is_synthetic = [False] * len(real[1]) + [True] * len(synthetic[1])
    batches = max(1, round(len(real[1]) / budget.batch_size))
    epochs = math.ceil(budget.steps / batches)
    sampler = MixedSampler(
        SimpleNamespace(targets=labels.tolist(), is_synthetic=is_synthetic),
        synthetic_fraction,
        epochs=epochs,
        real_last=real_last,
        balance=strategy.balance,
        num_samples=batches * budget.batch_size,
        seed=seed,
    )
    targets = labels
    if teacher is not None and len(synthetic[1]):
        logits = logits_of(teacher, synthetic[0])
        targets = torch.cat([functional.one_hot(real[1], classes).float(), as_soft(synthetic[1], logits, soft_labels)])
    loader = DataLoader(
        Batches(images, targets), sampler=BatchSampler(sampler, budget.batch_size, drop_last=False), batch_size=None
    )
    network = build_classifier(tuple(images.shape[1:]), classes, seed)
    counts = real[1].bincount(minlength=classes)
    training = Training(network, strategy, counts, regime, budget, seed)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # torchvision's random transforms draw from the global generator.
    with warnings.catch_warnings(), global_seed(derive_seed(seed, "transforms")):
        # The images are in memory, and workers would only copy them.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Lightning causes it itself.
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        trainer = Trainer(
            max_steps=budget.steps,
            accelerator="auto",
            devices=1,
            precision=budget.precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(training, loader)
    return network.cpu().eval()
