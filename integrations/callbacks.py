r"""Lightning callbacks: one logs results of fits and example images, the other logs the recall of each class."""

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
from gae_augment.data import DatasetView, ItemFormat, class_names, read_images
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
    r"""Logs the results of fitting the generative models, and pictures of real and synthetic images.

    At the start of training, every logger gets these numbers for each class with a generative model, under
    ``augmentation/<class>/``:

    - the numbers of real and synthetic images,
    - the reconstruction error, and the threshold ``delta`` below which training stops, both in nats per pixel,
    - the number of components of the latent density,
    - the duration of the fit in seconds.

    TensorBoard and Weights & Biases also get one picture per class, with real images in the upper row and synthetic
    images in the lower row, all in the working size. If ``held_out`` is given, every logger also gets the fidelity of
    the synthetic images, as computed by :func:`gae_augment.evaluation.fidelity`. Pictures and fidelity are logged again
    whenever new synthetic images are drawn.

    Args:
        images: The maximum number of images in each row of a picture; 0 logs no pictures.
        held_out: For each label, real images that are not used in training, before transforms, with shape
            :math:`(N, C, H, W)`. To measure fidelity, equal numbers of held-out and synthetic images of each class are
            compared, all in the size of the held-out ones. By default fidelity is not logged.
        extractor: The feature extractor for fidelity, required with ``held_out``. Its name is part of the names of the
            logged metrics.

    Raises:
        TypeError: If the extractor is not callable or has no name.
        ValueError: If only one of ``held_out`` and ``extractor`` is given, or held-out images are neither uint8 nor in
            [0, 1].

    Warns:
        UserWarning: In training, if there are too few images for fidelity.
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
        r"""Logs numbers that describe the fit of each class, such as the reconstruction error and the duration.

        Raises:
            TypeError: If the trainer's data module is not a :class:`GAEDataModule`.
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
        if self.images and trainer.is_global_zero and trainer.loggers:
            view = DatasetView(augmented.dataset)
            item_format = ItemFormat.of(view.raw_image(0))
            for label in augmented.images_to_add:
                rows = np.flatnonzero((np.array(augmented.targets) == label) & ~augmented.is_synthetic)
                if len(rows) and len(item_format.shape) > 1:
                    # All models see one size. A class without a model of its own has images too: real ones, moved.
                    height, width = next(iter(augmenter.models_.values())).shape[-2:]
                    self._real[int(label)] = read_images(view, rows[: self.images], item_format, (height, width))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        r"""Logs pictures and fidelity before the first batch, and again when new synthetic images have been drawn."""
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
            samples = {
                label: augmented.synthetic_images(label, size=(images.shape[-2], images.shape[-1]))
                for label, images in self.held_out.items()
            }
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
            real = self._real[int(label)]
            size = real.shape[-2], real.shape[-1]
            picture = _picture(real, augmented.synthetic_images(int(label), self.images, size), self.images)
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(tag, [picture], trainer.global_step)
                elif isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(tag, picture, trainer.global_step)


def _picture(real: Tensor, synthetic: Tensor, columns: int) -> Tensor:
    r"""Returns a picture with a row of real images above a row of synthetic images.

    The shape is :math:`(C, H, W)`. The same scale maps the values of all images to [0, 1]. Each row shows at most
    ``columns`` images.
    """
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
    r"""Logs the recall of each class as ``recall/<class>``, and the mean as ``recall/mean``, after every validation.

    If ``validation_step`` returns a mapping with the key ``"logits"``, the callback uses these logits. Otherwise it
    calls the model a second time with the images of each batch. If batches are not pairs of images and labels, the
    mapping must also have the key ``"labels"``. If there are several validation sets, their images are
    pooled.

    Args:
        baseline: The :attr:`recall_` of another ClassRecall, for example after training without synthetic images. The
            recall minus the baseline is logged as ``recall gain/<class>``. By default no gain is logged.

    Attributes:
        recall_: The recall of each class in the latest validation, by label. Classes without validation images are
            missing.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> without = ClassRecall()
        >>> trainer = Trainer(callbacks=[without], logger=False)
        >>> # Call trainer.fit(model, plain_data) here.
        >>> gains = ClassRecall(baseline=without.recall_)  # for Trainer(callbacks=[gains]).fit(model, augmented_data)
    """

    def __init__(self, baseline: Mapping[int, float] | None = None) -> None:
        self.baseline = dict(baseline or {})
        self.recall_: dict[int, float] = {}
        self._confusion: MulticlassConfusionMatrix | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        r"""Deletes the confusion matrix of the previous validation."""
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
        r"""Adds the predictions for a batch of :math:`B` images to the confusion matrix.

        Raises:
            ValueError: If the batch is no pair and ``validation_step`` does not return logits and labels, the logits do
                not have the shape :math:`(B, C)` for :math:`C \ge 2` classes, or the labels are not integers from 0 to
                :math:`C - 1` with the shape :math:`(B,)`.
        """
        given = outputs if isinstance(outputs, Mapping) else {}
        if "labels" in given and "logits" in given:
            labels, logits = given["labels"], given["logits"]
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            labels = batch[1]
            logits = given["logits"] if "logits" in given else pl_module(batch[0])
        else:
            keys = f" with the keys {list(batch)}" if isinstance(batch, Mapping) else ""
            raise ValueError(
                f"A validation batch is a {type(batch).__name__}{keys}, but ClassRecall needs a pair of images and "
                f"labels. Return both from validation_step: {{'logits': logits, 'labels': labels}}."
            )
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
        r"""Logs the recall of each class over the validation images of all ranks."""
        if self._confusion is None:
            return
        # Each row of the confusion matrix is a true class.
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
        # The recall is already equal on all ranks, but Lightning warns without sync_dist.
        pl_module.log_dict(numbers, sync_dist=True)
