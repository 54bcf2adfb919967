r"""Training by the protocol of published tables on CIFAR-10-LT: a ResNet-32 for 200 epochs, in parts that are kept."""

__all__ = ["PUBLISHED", "SECONDS", "SETTINGS", "OnDevice", "learning_rate", "train_published"]

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from gae_augment import MixedSampler
from gae_augment._utils.devices import multiplies_bfloat16_fast, resolve_device
from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation.images import Labelled, to_unit

from ..imbalance.networks import build_resnet32
from .training import STRATEGIES, AdaptiveMover, Mover, transform_of

PUBLISHED = "published"
"""The name of the budget."""

EPOCHS, BATCH_SIZE = 200, 128

RATE, WARMUP, STEPS_DOWN, MOMENTUM, WEIGHT_DECAY = 0.1, 5, (160, 180), 0.9, 2e-4

SETTINGS = (
    f"{EPOCHS} epochs of batches of {BATCH_SIZE} images, SGD, learning rate {RATE:g}, weight decay {WEIGHT_DECAY:g}"
)

KEPT_EVERY = 5
"""The number of epochs after which a training is kept."""

SECONDS = 6500.0
"""The first estimate of a training's duration, on one core that multiplies bfloat16; four times as long on others."""


class OnDevice(nn.Module):
    r"""A network on the GPU if there is one, for images and logits in the CPU's memory.

    Its products are in bfloat16 if the device has instructions for them.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.device = resolve_device("auto")
        self.network = network.to(self.device)
        self.in_bfloat16 = multiplies_bfloat16_fast(self.device)

    def forward(self, x: Tensor) -> Tensor:
        r"""Returns the logits of images in [0, 1]."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.in_bfloat16):
            logits: Tensor = self.network(x.to(self.device, non_blocking=True))
        return logits.float().cpu()


def learning_rate(epoch: int) -> float:
    r"""Returns the learning rate of an epoch, from 0 on: five epochs of warm-up, then two steps down."""
    return RATE * min(1.0, (epoch + 1) / WARMUP) * 0.01 ** sum(epoch >= step for step in STEPS_DOWN)


def train_published(
    real: Labelled,
    *,
    classes: int,
    regime: str,
    seed: int,
    strategy: str,
    file: Path,
    mover: Mover | None = None,
    epochs: int = EPOCHS,
) -> nn.Module:
    r"""Returns a trained ResNet-32, in evaluation mode.

    The random numbers of an epoch depend on the seed and the epoch alone. A training that was killed therefore goes on
    from its file, and ends with the weights that it would have had.

    Args:
        real: The real images, uint8 with shape :math:`(N, C, H, W)`, and their labels.
        classes: The number of classes.
        regime: The user's transform of every image.
        seed: The seed.
        strategy: What is done about imbalance: the name of one of ``STRATEGIES``.
        file: The file that the training is kept in.
        mover: What moves real images. ``None`` leaves them unchanged.
        epochs: The number of epochs after which training ends.

    References:
        LDAM-DRW (Cao et al., 2019), https://arxiv.org/abs/1906.07413, section 4.2: this protocol.
    """
    images, labels = real
    trained_by, counts = STRATEGIES[strategy], labels.bincount(minlength=classes).float()
    sampler = MixedSampler(
        SimpleNamespace(targets=labels.tolist(), is_synthetic=[False] * len(labels)),
        synthetic_fraction=0.0,
        balance=trained_by.balance,
        seed=seed,
    )
    network = OnDevice(build_resnet32(images.shape[1], classes, seed))
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    transform = transform_of(regime, images.shape[2:])
    start = _resume(file, network, optimiser, mover)
    network.train()
    for epoch in range(start, epochs):
        motions, transforms = make_generator(seed, "motions", epoch), make_generator(seed, "regime", epoch)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch)
        with global_seed(derive_seed(seed, "transforms", epoch)):
            for rows in sampler.draw(epoch).split(BATCH_SIZE):
                x, targets = to_unit(images[rows]), labels[rows]
                if mover is not None:
                    x = mover.move(x, targets, motions)
                loss = trained_by.loss(network(transform(x, transforms)), targets, counts, epoch / EPOCHS)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
        if isinstance(mover, AdaptiveMover):
            mover.update(network, real, transform, derive_seed(seed, epoch))
        if not (epoch + 1) % KEPT_EVERY:
            _keep(file, epoch + 1, network, optimiser, mover)
    return network.eval()


def _keep(file: Path, epochs: int, network: nn.Module, optimiser: torch.optim.Optimizer, mover: Mover | None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {"epochs": epochs, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
    if isinstance(mover, AdaptiveMover):
        state["strengths"] = mover.strengths
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


def _resume(file: Path, network: nn.Module, optimiser: torch.optim.Optimizer, mover: Mover | None) -> int:
    r"""Restores a training from its file, and returns its number of finished epochs."""
    if not file.is_file():
        return 0
    state = torch.load(file, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    if isinstance(mover, AdaptiveMover):
        mover.strengths = state["strengths"]
    epochs: int = state["epochs"]
    print(f"{file.name}: {epochs} of {EPOCHS} epochs are done.", flush=True)
    return epochs
