r"""Lightning callbacks: what the generators made, in the trainer's loggers, and what it did for each class."""

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
    r"""Writes to the trainer's loggers what the fit of each class came to, and what its images look like.

    Numbers go to every logger, under ``augmentation/<class>/``: real and synthetic images, the reconstruction error
    and its boundary in nats per pixel, components and seconds. Pictures go to TensorBoard and to Weights & Biases: real
    images in the upper line, synthetic ones in the lower, again whenever there are fresh ones.

    Args:
        images: How many images of each kind a picture shows, 0 for no pictures.
        held_out: Real images of some classes, raw, that no generator was trained on, each with shape
            :math:`(N, C, H, W)`. With an extractor the synthetic images of these classes, as many of each as there are
            real ones, are compared with them by :func:`gae_augment.evaluation.fidelity`.
        extractor: What turns images into features; it is part of the figures' names.

    Raises:
        TypeError: If the extractor has no name.
        ValueError: If only one of ``held_out`` and ``extractor`` is given, or held-out images are neither of 8 bits nor
            in [0, 1].

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
            raise ValueError(f"Fidelity takes real images and an extractor of features, and {missing!r} is missing.")
        if extractor is not None:
            check_extractor(extractor)
        self.images = images
        self.held_out = {label: checked_images(own, f"held_out[{label}]") for label, own in (held_out or {}).items()}
        self.extractor = extractor
        self._drawn: int | None = None
        self._real: dict[int, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Writes the numbers.

        Raises:
            TypeError: If the trainer was not given a :class:`GAEDataModule`.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, GAEDataModule):
            raise TypeError(
                f"AugmentationLogger writes what a GAEDataModule made, and the trainer has a {type(data).__name__}. "
                f"Pass one: Trainer.fit(model, datamodule=GAEDataModule(…))."
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
        self._drawn = None
        self._real = {}
        raw = raw_view(augmented.dataset)
        if self.images and trainer.is_global_zero and trainer.loggers:
            item_format = ItemFormat.of(raw[0][0])
            for label in augmented.images_to_add:
                places = np.flatnonzero((np.array(augmented.targets) == label) & ~augmented.is_synthetic)
                if len(places) and len(item_format.shape) > 1:
                    self._real[int(label)] = read_images(raw, places[: self.images], item_format)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        r"""Writes pictures and fidelity of the synthetic images that there are now, once for each draw of them."""
        augmented = trainer.datamodule.augmented  # type: ignore[attr-defined]
        if augmented.epoch != self._drawn:
            self._drawn = augmented.epoch
            if trainer.is_global_zero and trainer.loggers:
                self._show(trainer, augmented)

    def _log(self, trainer: Trainer, numbers: Mapping[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"augmentation/{name}": value for name, value in numbers.items()}, trainer.global_step)

    def _show(self, trainer: Trainer, augmented: AugmentedDataset) -> None:
        if self.extractor is not None:
            made = {label: augmented.synthetic_images(label) for label in self.held_out}
            real, synthetic = as_many_of_each(self.held_out, made)
            if len(real) > NEIGHBOURS:
                self._log(trainer, fidelity(real, synthetic, extractor=self.extractor))
            else:
                rank_zero_warn(
                    f"Fidelity takes more than {NEIGHBOURS} real images and as many synthetic ones of their classes, "
                    f"and of {list(self.held_out)} there are {len(real)}. It is not logged."
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


def _picture(real: Tensor, synthetic: Tensor, places: int) -> Tensor:
    r"""Returns two lines of so many images, one scale for both, with shape :math:`(C, H, W)` in [0, 1]."""
    lines = [own[:places].float() for own in (real, synthetic)]
    lines = [own[:, None] if own.ndim == 3 else own for own in lines]
    lines = [own if own.shape[1] in (1, 3) else own[:, :1] for own in lines]
    low, high = torch.cat(lines).aminmax()
    if real.dtype == torch.uint8:
        low, high = torch.zeros(()), torch.tensor(255.0)
    elif low >= 0 and high <= 1:
        low, high = torch.zeros(()), torch.ones(())
    lines = [(own - low) / (high - low).clamp(min=1e-12) for own in lines]
    # White where there are fewer.
    lines = [torch.cat([own, own.new_ones(places - len(own), *own.shape[1:])]) for own in lines]
    return make_grid(torch.cat(lines), nrow=places)


class ClassRecall(Callback):
    r"""Logs the recall of each class after every validation, as ``recall/<class>``, and their mean.

    The model is called with the images of each batch, a second time, unless its ``validation_step`` returns a mapping
    with ``"logits"``. Given what another training came to, say one without synthetic images, the difference to it is
    logged as ``recall gain/<class>``. Several validation sets are counted as one.

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
        r"""Begins anew."""
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
        r"""Counts what is right in a batch of images and labels.

        Raises:
            ValueError: If there are no logits of shape :math:`(B, C)`, with two classes or more, or labels are not
                whole numbers below :math:`C`.
        """
        images, labels = batch
        logits = outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else pl_module(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ValueError(
                f"ClassRecall takes logits of shape (B, C), a column for each of at least two classes, and the model "
                f"gave {found}. Return them from validation_step: {{'logits': logits}}."
            )
        if labels.ndim != 1 or labels.is_floating_point() or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
            raise ValueError(
                f"ClassRecall takes labels from 0 to {logits.shape[1] - 1}, with shape (B,), and those of the "
                f"validation set have shape {tuple(labels.shape)} of {labels.dtype}, from {labels.min().item()} to "
                f"{labels.max().item()}. Validate on the labels as they are."
            )
        if self._confusion is None:
            self._confusion = MulticlassConfusionMatrix(logits.shape[1]).to(logits.device)
        self._confusion.update(logits, labels)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Logs the recalls of all ranks together."""
        if self._confusion is None:
            return
        # A row for each class.
        counts = self._confusion.compute()
        rates = (counts.diagonal() / counts.sum(dim=1)).tolist()
        found = {label: rate for label, rate in enumerate(rates) if not math.isnan(rate)}
        loaders = trainer.val_dataloaders
        names = (class_names(loaders.dataset) if isinstance(loaders, DataLoader) else None) or {}
        tags = {label: names.get(label, str(label)) for label in found}
        numbers = {f"recall/{tags[label]}": rate for label, rate in found.items()}
        numbers["recall/mean"] = fmean(found.values())
        for label in found.keys() & self.baseline.keys():
            numbers[f"recall gain/{tags[label]}"] = found[label] - self.baseline[label]
        if not trainer.sanity_checking:
            self.recall_ = found
        # They are the same on all ranks already.
        pl_module.log_dict(numbers, sync_dist=True)
