r"""Lightning callbacks that log fits and synthetic images, and the recall of each class."""

__all__ = ["AugmentationLogger", "ClassRecall"]

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.utils import make_grid

from gae_augment import AugmentedDataset
from gae_augment.data import ItemFormat, class_names, raw_view, read_images
from gae_augment.evaluation import (
    NEIGHBOURS,
    FeatureExtractor,
    as_many_of_each,
    check_extractor,
    checked_images,
    fidelity,
)

from .lightning import GAEDataModule

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.utilities import rank_zero_warn
    from torchmetrics.classification import MulticlassConfusionMatrix
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.callbacks needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error


class AugmentationLogger(Callback):
    r"""Logs the fit of each class in numbers, and pictures of its images.

    Numbers go to every logger, under ``augmentation/<class>/``: real and synthetic images, the reconstruction error and
    its boundary in nats per pixel, components and seconds. Pictures go to TensorBoard and to Weights & Biases, with
    real images in the upper row and synthetic ones in the lower. They are logged again after each draw of fresh images.

    Args:
        images: The number of images in each row of a picture; 0 for no pictures.
        held_out: Raw real images by class, not used in training, each with shape :math:`(N, C, H, W)`. They are
            compared with the same number of synthetic images by :func:`gae_augment.evaluation.fidelity`.
        extractor: The extractor of features for fidelity. Its name is part of the names of the logged numbers.

    Raises:
        TypeError: If the extractor has no name.
        ValueError: If only one of ``held_out`` and ``extractor`` is given, or held-out images are neither uint8 nor in
            [0, 1].

    Warns:
        UserWarning: If there are too few images for fidelity.
    """

    def __init__(
        self,
        images: int = 8,
        *,
        held_out: Mapping[int, Tensor] | None = None,
        extractor: FeatureExtractor | None = None,
    ) -> None:
        if (not held_out) != (extractor is None):
            missing = "extractor" if held_out else "held_out"
            raise ValueError(
                f"{missing!r} is missing, but fidelity needs held-out images and an extractor. Pass both, or neither."
            )
        if extractor is not None:
            check_extractor(extractor)
        self.images = images
        self.held_out = {
            label: checked_images(label_images, f"held_out[{label}]")
            for label, label_images in (held_out or {}).items()
        }
        self.extractor = extractor
        self._shown_epoch: int | None = None
        self._real: dict[int, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Logs the numbers.

        Raises:
            TypeError: If the trainer has no :class:`GAEDataModule`.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, GAEDataModule):
            raise TypeError(
                f"The trainer's data module is of type {type(data).__name__}, but AugmentationLogger needs a "
                f"GAEDataModule. Use Trainer.fit(model, datamodule=GAEDataModule(…))."
            )
        augmenter, augmented = data.augmenter_, data.augmented
        for label, report in augmenter.report_.items():
            numbers = {
                "real images": report.images,
                "synthetic images": augmented.images_to_add.get(label, 0),
                "reconstruction error": report.reconstruction_error,
                "components": report.n_components,
                "seconds": report.seconds,
            }
            if report.delta is not None:
                numbers["delta"] = report.delta
            self._log(trainer, {f"{augmenter.class_names_[label]}/{name}": value for name, value in numbers.items()})
        self._shown_epoch = None
        self._real = {}
        raw = raw_view(augmented.dataset)
        if self.images and trainer.is_global_zero and trainer.loggers:
            item_format = ItemFormat.of(raw[0][0])
            for label in augmented.images_to_add:
                rows = np.flatnonzero((np.array(augmented.targets) == label) & ~augmented.is_synthetic)
                if len(rows) and len(item_format.shape) > 1:
                    self._real[int(label)] = read_images(raw, rows[: self.images], item_format)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        r"""Logs pictures and fidelity of the current synthetic images, once per draw."""
        augmented = trainer.datamodule.augmented  # type: ignore[attr-defined]
        if augmented.epoch != self._shown_epoch:
            self._shown_epoch = augmented.epoch
            if trainer.is_global_zero and trainer.loggers:
                self._show(trainer, augmented)

    def _log(self, trainer: Trainer, numbers: Mapping[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"augmentation/{name}": value for name, value in numbers.items()}, trainer.global_step)

    def _show(self, trainer: Trainer, augmented: AugmentedDataset) -> None:
        if self.extractor is not None:
            samples = {label: augmented.synthetic_images(label) for label in self.held_out}
            real, synthetic = as_many_of_each(self.held_out, samples)
            if len(real) > NEIGHBOURS:
                self._log(trainer, fidelity(real, synthetic, extractor=self.extractor))
            else:
                rank_zero_warn(
                    f"Classes {list(self.held_out)} have {len(real)} pairs of held-out and synthetic images, but "
                    f"fidelity needs more than {NEIGHBOURS}, so it is not logged. Pass more held-out images."
                )
        for name, label in augmented.class_to_idx.items():
            if label not in self._real:
                continue
            tag = f"augmentation/{name}"
            picture = _picture(self._real[int(label)], augmented.synthetic_images(int(label)), self.images)
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(tag, [picture], trainer.global_step)
                elif isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(tag, picture, trainer.global_step)


def _picture(real: Tensor, synthetic: Tensor, columns: int) -> Tensor:
    r"""Returns a row of real and a row of synthetic images, on one scale, with shape :math:`(C, H, W)`, in [0, 1]."""
    rows = [images[:columns].float() for images in (real, synthetic)]
    rows = [images[:, None] if images.ndim == 3 else images for images in rows]
    rows = [images if images.shape[1] in (1, 3) else images[:, :1] for images in rows]
    low, high = torch.cat(rows).aminmax()
    if real.dtype == torch.uint8:
        low, high = torch.zeros(()), torch.tensor(255.0)
    elif low >= 0 and high <= 1:
        low, high = torch.zeros(()), torch.ones(())
    rows = [(images - low) / (high - low).clamp(min=1e-12) for images in rows]
    # Missing images are white.
    rows = [torch.cat([images, images.new_ones(columns - len(images), *images.shape[1:])]) for images in rows]
    return make_grid(torch.cat(rows), nrow=columns)


class ClassRecall(Callback):
    r"""Logs the recall of each class after every validation, as ``recall/<class>``, and the mean recall.

    The callback calls the model once more with the images of each batch, unless ``validation_step`` returns a mapping
    with ``"logits"``. With a baseline, such as a training without synthetic images, the gain over it is logged as
    ``recall gain/<class>``. Several validation sets count as one.

    Args:
        baseline: The :attr:`recall_` of another training.

    Attributes:
        recall_: The recall of each class at the last validation, by label; classes without images are missing.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> without = ClassRecall()
        >>> trainer = Trainer(callbacks=[without], logger=False)  # after trainer.fit(model, plain_data)
        >>> gains = ClassRecall(baseline=without.recall_)  # for Trainer(callbacks=[gains]).fit(model, augmented_data)
    """

    def __init__(self, baseline: Mapping[int, float] | None = None) -> None:
        self.baseline = dict(baseline or {})
        self.recall_: dict[int, float] = {}
        self._confusion: MulticlassConfusionMatrix | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Resets the counts."""
        self._confusion = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        r"""Counts the predictions of a batch.

        Raises:
            ValueError: If there are no logits with shape :math:`(B, C)`, for two classes or more, or labels are not
                integers from 0 to :math:`C - 1`.
        """
        images, labels = batch
        logits = outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else pl_module(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            output = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"type {type(logits).__name__}"
            raise ValueError(
                f"The output of the model has {output}, but ClassRecall needs logits with shape (B, C), one column for "
                f"each of at least two classes. Return them from validation_step: {{'logits': logits}}."
            )
        if labels.ndim != 1 or labels.is_floating_point() or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
            raise ValueError(
                f"The labels of the validation set have shape {tuple(labels.shape)} and dtype {labels.dtype}, from "
                f"{labels.min().item()} to {labels.max().item()}, but must be integers from 0 to "
                f"{logits.shape[1] - 1} with shape (B,). Validate without soft labels, and with one logit per class."
            )
        if self._confusion is None:
            self._confusion = MulticlassConfusionMatrix(logits.shape[1]).to(logits.device)
        self._confusion.update(logits, labels)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Logs the recall over all ranks."""
        if self._confusion is None:
            return
        # Each row is a true class.
        counts = self._confusion.compute()
        rates = (counts.diagonal() / counts.sum(dim=1)).tolist()
        recall = {label: rate for label, rate in enumerate(rates) if not math.isnan(rate)}
        loaders = trainer.val_dataloaders
        names = (class_names(loaders.dataset) if isinstance(loaders, DataLoader) else None) or {}
        tags = {label: names.get(label, str(label)) for label in recall}
        numbers = {f"recall/{tags[label]}": rate for label, rate in recall.items()}
        numbers["recall/mean"] = fmean(recall.values())
        for label in recall.keys() & self.baseline.keys():
            numbers[f"recall gain/{tags[label]}"] = recall[label] - self.baseline[label]
        if not trainer.sanity_checking:
            self.recall_ = recall
        # The numbers are already equal on all ranks; Lightning expects sync_dist anyway.
        pl_module.log_dict(numbers, sync_dist=True)
