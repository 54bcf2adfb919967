r"""Converts Hugging Face datasets to torchvision datasets, and augmented datasets to Hugging Face datasets."""

__all__ = ["HuggingFaceImages", "to_dataset"]

from collections.abc import Callable
from typing import Any

import numpy as np
from torchvision.datasets import VisionDataset

from gae_augment import AugmentedDataset
from gae_augment.data import READ_AT_ONCE

try:
    import datasets
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.huggingface needs Hugging Face's datasets: pip install 'gae-augment[huggingface]'"
    ) from error

MARK = "is_synthetic"
"""The name of the column that is true for synthetic images and false for real ones."""


class HuggingFaceImages(VisionDataset):
    r"""A torchvision dataset of the (image, label) pairs of a Hugging Face dataset.

    Images are decoded on access. A format or transform that was set on the Hugging Face dataset is ignored; use the
    argument ``transform`` instead.

    Args:
        dataset: An indexed (not streamed) dataset, such as one split of ``datasets.load_dataset``.
        image: The name of the column of images; by default the only column of type ``Image``.
        label: The name of the column of integer labels; by default the only column of type ``ClassLabel``.
        transform: A transform for every image; by default images are returned as stored.
        target_transform: A transform for every label; by default labels are returned as stored.

    Attributes:
        targets: The label of each item, without ``target_transform``.
        classes: The names of the classes, or ``None`` if the labels have no names.
        class_to_idx: A mapping from class names to labels; empty if the labels have no names.

    Raises:
        TypeError: If ``dataset`` is not a ``datasets.Dataset``, for example a stream or a dictionary of splits.
        ValueError: If a column does not exist or has a wrong type, or a label is missing, negative or not an integer.

    Example:
        >>> from PIL import Image
        >>> features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
        >>> rows = {"image": [Image.new("L", (8, 8), 9), Image.new("L", (8, 8))], "label": [1, 0]}
        >>> images = HuggingFaceImages(datasets.Dataset.from_dict(rows, features=features))
        >>> images.classes, images.targets, images[0][0].size
        (['cat', 'dog'], [1, 0], (8, 8))
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        *,
        image: str | None = None,
        label: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(root="", transform=transform, target_transform=target_transform)
        if isinstance(dataset, datasets.DatasetDict):
            raise TypeError(
                f"'dataset' has the splits {list(dataset)}, but must be one split. Choose one: dataset['train']."
            )
        if not isinstance(dataset, datasets.Dataset):
            raise TypeError(
                f"'dataset' is of type {type(dataset).__name__}, but must be a datasets.Dataset. Load it without "
                f"streaming, and with a split: load_dataset(name, split='train')."
            )
        self.dataset = dataset.with_format(None)
        self.image = _column(dataset.features, image, datasets.Image, "image")
        if not dataset.features[self.image].decode:
            raise ValueError(
                f"Column {self.image!r} has decode=False, but its images must be decoded. Use "
                f"dataset.cast_column({self.image!r}, datasets.Image())."
            )
        self.label = _column(dataset.features, label, datasets.ClassLabel, "label")
        # Without this selection, images in other columns would be decoded with each item.
        self._pairs = self.dataset.select_columns([self.image, self.label])
        targets = self.dataset.select_columns(self.label)[:][self.label]
        for index, target in enumerate(targets):
            if type(target) is not int or target < 0:
                raise ValueError(
                    f"Row {index} has {target!r} in column {self.label!r}, but labels must be integers of at least 0. "
                    f"Remove rows without a label with dataset.filter, and number names with "
                    f"dataset.class_encode_column({self.label!r})."
                )
        self.targets: list[int] = targets
        feature = dataset.features[self.label]
        # Integer labels without names may have gaps, which a list of names cannot represent.
        self.classes: list[str] | None = feature.names if isinstance(feature, datasets.ClassLabel) else None
        self.class_to_idx = {name: index for index, name in enumerate(self.classes or ())}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._pairs[int(index)]
        image, label = row[self.image], row[self.label]
        if image is None:
            raise ValueError("this row has no image; remove it with dataset.filter")
        image = image if self.transform is None else self.transform(image)
        return image, label if self.target_transform is None else self.target_transform(label)

    def __len__(self) -> int:
        return len(self.targets)


def _column(features: datasets.Features, name: str | None, kind: type, argument: str) -> str:
    r"""Returns the name of a column, after checking that the column is valid.

    Args:
        features: The types of all columns, by column name.
        name: The name of the column. ``None`` means the only column of type ``kind``.
        kind: The type of the column: ``datasets.Image`` or ``datasets.ClassLabel``.
        argument: The name of the argument that the user passed, for error messages.

    Raises:
        ValueError: If no column has the name, if ``name`` is ``None`` and not exactly one column is of type ``kind``,
            or if ``kind`` is ``datasets.Image`` and the named column has another type.
    """
    if name is None:
        columns = [column for column, feature in features.items() if isinstance(feature, kind)]
        if len(columns) != 1:
            raise ValueError(
                f"{columns or 'None'} of the columns {list(features)} have the type {kind.__name__}, but {argument!r} "
                f"must be one column. Pass {argument}=…"
            )
        return columns[0]
    if name not in features:
        raise ValueError(f"{argument!r} is {name!r}, but must be a column of the dataset: one of {list(features)}.")
    if kind is datasets.Image and not isinstance(features[name], datasets.Image):
        raise ValueError(
            f"Column {name!r} holds {features[name]}, but must hold images. Convert it with "
            f"dataset.cast_column({name!r}, datasets.Image())."
        )
    return name


def to_dataset(augmented: AugmentedDataset) -> datasets.Dataset:
    r"""Returns a new Hugging Face dataset: the real rows, followed by one row per synthetic image.

    The new Boolean column ``is_synthetic`` is true for synthetic images. The real rows are otherwise unchanged. In the
    rows of synthetic images, columns other than image, label and ``is_synthetic`` are ``None``. Labels are integers,
    even after :meth:`gae_augment.AugmentedDataset.with_soft_labels`.

    Args:
        augmented: The augmented dataset of a :class:`HuggingFaceImages` without a ``target_transform``.

    Raises:
        TypeError: If the real images are not a :class:`HuggingFaceImages`, or have a ``target_transform``.
        ValueError: If the Hugging Face dataset already has a column ``is_synthetic``.
    """
    images = augmented.dataset
    if not isinstance(images, HuggingFaceImages):
        raise TypeError(
            f"The augmented dataset is of type {type(images).__name__}, but must be HuggingFaceImages. For other data, "
            f"gae_augment.export.write_shards writes Parquet files, which datasets.load_dataset reads."
        )
    if images.target_transform is not None:
        raise TypeError(
            "The images have a target_transform, which rows cannot have. Augment HuggingFaceImages without one."
        )
    real = images.dataset
    if MARK in real.features:
        raise ValueError(
            f"The dataset already has a column {MARK!r}, which is added here. Rename it with dataset.rename_column."
        )
    columns = {name: real.features[name] for name in (images.image, images.label)}
    features = datasets.Features(**columns, **{MARK: datasets.Value("bool")})
    pieces = [real.add_column(MARK, [False] * len(real))]
    # In batches, because decoded images take more memory than encoded ones.
    synthetic = np.flatnonzero(augmented.is_synthetic).tolist()
    for start in range(0, len(synthetic), READ_AT_ONCE):
        batch = synthetic[start : start + READ_AT_ONCE]
        rows = {
            images.image: list(map(augmented.raw_image, batch)),
            images.label: [augmented.targets[index] for index in batch],
            MARK: [True] * len(batch),
        }
        pieces.append(datasets.Dataset.from_dict(rows, features=features))
    return datasets.concatenate_datasets(pieces)
