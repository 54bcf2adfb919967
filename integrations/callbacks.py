r"""Lightning callbacks: what the generators made, in the trainer's loggers, and what it did for each class."""

__all__ = ["AugmentationLogger", "ClassRecall"]

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

from gae_augment import AugmentedDataset
from gae_augment.evaluation import FeatureExtractor, fidelity
from gae_augment.reading import open_source

from .lightning import GAEDataModule

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
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
        ValueError: If only one of ``held_out`` and ``extractor`` is given.
    """

    def __init__(
        self,
        images: int = 8,
        *,
        held_out: Mapping[int, Tensor] | None = None,
        extractor: FeatureExtractor | None = None,
    ) -> None:
        if (held_out is None) != (extractor is None):
            missing = "held_out" if held_out is None else "extractor"
            raise ValueError(f"Fidelity takes real images and an extractor of features, and {missing!r} is missing.")
        self.images = images
        self.held_out, self.extractor = held_out, extractor
        self._drawn: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Writes the numbers, and the first pictures.

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
                "components": report.components,
                "seconds": report.seconds,
            }
            if report.delta is not None:
                numbers["delta"] = report.delta
            self._log(trainer, {f"{augmenter.class_names_[label]}/{name}": value for name, value in numbers.items()})
        self._show(trainer, augmented)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Writes pictures of fresh images, if there are any since the last."""
        augmented = trainer.datamodule.augmented  # type: ignore[attr-defined]
        if augmented.epoch != self._drawn:
            self._show(trainer, augmented)

    def _log(self, trainer: Trainer, numbers: Mapping[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"augmentation/{name}": value for name, value in numbers.items()}, trainer.global_step)

    def _show(self, trainer: Trainer, augmented: AugmentedDataset) -> None:
        self._drawn = augmented.epoch
        if not trainer.is_global_zero or not trainer.loggers:
            return
        if self.held_out is not None and self.extractor is not None:
            pairs = [(own, augmented.synthetic_images(label)) for label, own in self.held_out.items()]
            pairs = [(own[: len(made)], made[: len(own)]) for own, made in pairs]
            real, synthetic = (torch.cat(side) for side in zip(*pairs, strict=True))
            self._log(trainer, fidelity(real, synthetic, extractor=self.extractor))
        for name, label in augmented.class_to_idx.items():
            if not self.images or label not in augmented.images_to_add:
                continue
            places = np.flatnonzero((np.array(augmented.targets) == label) & ~augmented.is_synthetic)[: self.images]
            _, read = open_source(augmented.dataset)
            lines = [read(places.tolist()), augmented.synthetic_images(label)[: self.images]]
            if lines[0].ndim > 2:
                picture = make_grid(torch.cat([_shown(line, self.images) for line in lines]), nrow=self.images)
                for logger in trainer.loggers:
                    tag = f"augmentation/{name}"
                    if hasattr(logger, "log_image"):
                        logger.log_image(tag, [picture], trainer.global_step)
                    elif isinstance(logger, TensorBoardLogger):
                        logger.experiment.add_image(tag, picture, trainer.global_step)


def _shown(images: Tensor, places: int) -> Tensor:
    r"""Returns images as a line of so many places, with shape :math:`(n, C, H, W)`, C 1 or 3, in [0, 1]."""
    images = images[:, None] if images.ndim == 3 else images
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    if images.dtype == torch.uint8:
        images = images / 255
    images = images.float()
    if images.min() < 0 or images.max() > 1:
        images = (images - images.min()) / (images.max() - images.min())
    return torch.cat([images, images.new_ones(places - len(images), *images.shape[1:])])


class ClassRecall(Callback):
    r"""Logs the recall of each class after every validation, as ``recall/<class>``, and their mean.

    The model is called with the images of each batch, a second time, unless its ``validation_step`` returns a mapping
    with ``"logits"``. Given what another training came to, say one without synthetic images, the difference to it is
    logged as ``recall gain/<class>``.

    Args:
        baseline: The :attr:`recall_` of another training.

    Attributes:
        recall_: The recall of each class at the last validation, by the class's name; classes without images are
            missing.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> without = ClassRecall()
        >>> trainer = Trainer(callbacks=[without], logger=False)  # after trainer.fit(model, plain_data)
        >>> gains = ClassRecall(baseline=without.recall_)  # for Trainer(callbacks=[gains]).fit(model, augmented_data)
    """

    def __init__(self, baseline: Mapping[str, float] | None = None) -> None:
        self.baseline = dict(baseline or {})
        self.recall_: dict[str, float] = {}
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
        r"""Counts what is right in a batch of images and labels."""
        images, labels = batch
        logits = outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else pl_module(images)
        if self._confusion is None:
            self._confusion = MulticlassConfusionMatrix(logits.shape[1]).to(logits.device)
        self._confusion.update(logits, labels)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Logs the recalls of all ranks together."""
        if self._confusion is None:
            return
        # A row for each class.
        counts = self._confusion.compute()
        data = trainer.datamodule  # type: ignore[attr-defined]
        fitted = isinstance(data, GAEDataModule) and trainer.state.fn == "fit"
        names = {label: name for name, label in data.augmented.class_to_idx.items()} if fitted else {}
        rates = (counts.diagonal() / counts.sum(dim=1)).tolist()
        found = {names.get(label, str(label)): rate for label, rate in enumerate(rates) if not math.isnan(rate)}
        numbers = {f"recall/{name}": value for name, value in found.items()}
        numbers["recall/mean"] = fmean(found.values())
        numbers |= {f"recall gain/{name}": found[name] - self.baseline[name] for name in found if name in self.baseline}
        if not trainer.sanity_checking:
            self.recall_ = found
        pl_module.log_dict(numbers)
