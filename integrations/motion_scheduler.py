r"""A Lightning callback that adapts the strength of motions to the classifier after each epoch."""

__all__ = ["MotionScheduler"]

from typing import Any

import torch
from torch import Tensor, nn

from gae_augment.motion import AdaptiveMotion

from .lightning import GAEDataModule

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities import rank_zero_info
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.motion_scheduler needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error


class MotionScheduler(Callback):
    r"""Moves training images by a :class:`gae_augment.motion.AdaptiveMotion`, whose strength follows the classifier.

    The trainer's data module must be a :class:`~gae_augment.integrations.lightning.GAEDataModule`; its argument
    ``motion`` has no effect then. The strength is 0 in the first epoch. After each epoch, the callback calls the model
    with some training images, unmoved and moved. The images pass through the hooks of batches and have the trainer's
    precision, as in training. The model must return logits. The callback logs ``motion/strength``,
    and the fractions of errors ``motion/unmoved errors`` and ``motion/moved errors``. A resumed run continues with the
    strength of its checkpoint.

    Args:
        p: The probability that a training image is moved.

    Attributes:
        motion_: The transform, available from the start of training.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[MotionScheduler()], logger=False)
        >>> # Call trainer.fit(model, datamodule=GAEDataModule(train)) here.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p
        self.motion_: AdaptiveMotion | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        r"""Gives the training set its motion, before workers start.

        Raises:
            TypeError: If the trainer's data module is not a ``GAEDataModule``.
            ValueError: If no model of images was fitted.
        """
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, GAEDataModule):
            raise TypeError(
                f"The trainer's data module is of type {type(data).__name__}, but MotionScheduler needs a "
                f"GAEDataModule. Use Trainer.fit(model, datamodule=GAEDataModule(…))."
            )
        self.motion_ = data.augmented.motion = data.augmenter_.motion("adaptive", self.p)
        rank_zero_info("Training images of all classes are moved with a strength that MotionScheduler adapts.")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Updates the strength, and logs it."""
        assert self.motion_ is not None
        strength = self.motion_.update(_AsInTraining(trainer, pl_module), trainer.datamodule.augmented)  # type: ignore[attr-defined]
        assert self.motion_.errors_ is not None
        unmoved, moved = self.motion_.errors_
        numbers = {"motion/strength": strength, "motion/unmoved errors": unmoved, "motion/moved errors": moved}
        # Ranks have the same numbers already, but Lightning warns without sync_dist.
        pl_module.log_dict(numbers, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        r"""Returns the strength and the number of updates, for a checkpoint."""
        return {} if self.motion_ is None else dict(self.motion_.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores the strength and the number of updates."""
        if self.motion_ is not None:
            self.motion_.load_state_dict(state_dict)


class _AsInTraining(nn.Module):
    r"""A model that gets images as in training: after the hooks of batches, in the trainer's precision."""

    def __init__(self, trainer: Trainer, model: LightningModule) -> None:
        super().__init__()
        self.trainer, self.model = trainer, model

    def forward(self, images: Tensor) -> Tensor:
        r"""Returns the logits of a batch of images."""
        # The hooks expect labels, which do not matter here.
        batch = images, torch.zeros(len(images), dtype=torch.int64, device=images.device)
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self.model._on_before_batch_transfer(batch)
        batch = self.trainer.strategy.batch_to_device(batch)
        with self.trainer.precision_plugin.forward_context():
            logits: Tensor = self.model(batch[0])
        return logits
