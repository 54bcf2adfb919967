r"""Hugging Face: images of a ``datasets.Dataset`` as torchvision has them, and a training set back as one."""

__all__ = ["HuggingFaceImages", "to_dataset"]

from collections.abc import Callable
from typing import Any

from torchvision.datasets import VisionDataset

from gae_augment import AugmentedDataset
from gae_augment.data import READ_AT_ONCE, ItemFormat, raw_view

try:
    import datasets
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.huggingface needs Hugging Face's datasets: pip install 'gae-augment[huggingface]'"
    ) from error

MARK = "is_synthetic"


class HuggingFaceImages(VisionDataset):
    r"""The images and labels of a Hugging Face dataset, as pairs.

    Images are decoded when they are asked for. The dataset's own format and transform are left aside, as these are for
    rows, which pairs are not: pass a ``transform`` for images.

    Args:
        dataset: A dataset that can be indexed, such as one split of ``datasets.load_dataset``.
        image: The column of images. ``None`` is the only one that holds such.
        label: The column of labels, integers. ``None`` is the only one of classes.
        transform: What every image is put through.
        target_transform: What every label is put through.

    Attributes:
        targets: The label of each item, before ``target_transform``.
        classes: The names of the classes, or ``None`` where labels are integers without names.
        class_to_idx: The label of each name.

    Raises:
        TypeError: If it is a stream, or several splits.
        ValueError: If there is no such column, or a label is missing or no integer.

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
                f"A training set is one split, and these are {list(dataset)}. Choose one: dataset['train']."
            )
        if not isinstance(dataset, datasets.Dataset):
            raise TypeError(
                f"Images are read from a datasets.Dataset, and it is a {type(dataset).__name__}. Load it without "
                f"streaming, and with a split: load_dataset(name, split='train')."
            )
        self.dataset = dataset.with_format(None)
        self.image = _column(dataset.features, image, datasets.Image, "image")
        if not dataset.features[self.image].decode:
            raise ValueError(
                f"Images are decoded when they are read, and column {self.image!r} is told not to: "
                f"dataset.cast_column({self.image!r}, datasets.Image())."
            )
        self.label = _column(dataset.features, label, datasets.ClassLabel, "label")
        # Other columns, which may hold images too, are not read with each item.
        self._pairs = self.dataset.select_columns([self.image, self.label])
        targets = self.dataset.select_columns(self.label)[:][self.label]
        for index, target in enumerate(targets):
            if type(target) is not int or target < 0:
                raise ValueError(
                    f"Labels are integers from 0 on, and in column {self.label!r} row {index} has {target!r}. Leave "
                    f"out rows without a label with dataset.filter, and number names with "
                    f"dataset.class_encode_column({self.label!r})."
                )
        self.targets: list[int] = targets
        feature = dataset.features[self.label]
        # A list of names goes by place, and integers without names may be anything.
        self.classes: list[str] | None = feature.names if isinstance(feature, datasets.ClassLabel) else None
        self.class_to_idx = {name: place for place, name in enumerate(self.classes or ())}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._pairs[int(index)]
        image, label = row[self.image], row[self.label]
        if image is None:
            raise ValueError("there is no image in this row; dataset.filter leaves it out")
        return (image, label) if self.transforms is None else self.transforms(image, label)

    def __len__(self) -> int:
        return len(self.targets)


def _column(features: datasets.Features, name: str | None, kind: type, argument: str) -> str:
    r"""Returns the name of a column, which is the only one of a kind unless it is named."""
    if name is None:
        found = [own for own, feature in features.items() if isinstance(feature, kind)]
        if len(found) != 1:
            raise ValueError(
                f"{argument!r} names a column where not just one is of type {kind.__name__}, and there are "
                f"{found or 'none'} of the columns {list(features)}. Pass {argument}=…"
            )
        return found[0]
    if name not in features:
        raise ValueError(f"{argument!r} is a column of the dataset, one of {list(features)}, and it is {name!r}.")
    if kind is datasets.Image and not isinstance(features[name], datasets.Image):
        raise ValueError(
            f"Column {name!r} is to hold images, and it holds {features[name]}. Turn it into such: "
            f"dataset.cast_column({name!r}, datasets.Image())."
        )
    return name


def to_dataset(augmented: AugmentedDataset) -> datasets.Dataset:
    r"""Returns a Hugging Face dataset of the real rows, as they are, and after them the synthetic images.

    A column ``is_synthetic`` tells them apart. Further columns are ``None`` for synthetic images. Labels are integers,
    also where :meth:`gae_augment.AugmentedDataset.with_soft_labels` made them soft, and the format is that of a new dataset.

    Args:
        augmented: What ``augment`` made of :class:`HuggingFaceImages`, without transforms of labels.

    Raises:
        TypeError: If it was made of another dataset.
        ValueError: If the dataset has a column of that name already.
    """
    images = augmented.dataset
    if not isinstance(images, HuggingFaceImages):
        raise TypeError(
            f"Rows are those of HuggingFaceImages, and the dataset is a {type(images).__name__}. "
            f"gae_augment.export.write_shards writes folders as Parquet files, which datasets.load_dataset reads."
        )
    if images.target_transform is not None:
        raise TypeError(
            "Rows have the labels of their column, and the images have a target_transform. Augment HuggingFaceImages "
            "without one."
        )
    real = images.dataset
    if MARK in real.features:
        raise ValueError(
            f"The column {MARK!r} is made here, and the dataset has one. Rename it: dataset.rename_column."
        )
    columns = {name: real.features[name] for name in (images.image, images.label)}
    features = datasets.Features(**columns, **{MARK: datasets.Value("bool")})
    parts = [real.add_column(MARK, [False] * len(real))]
    item_format = ItemFormat.of(raw_view(images)[0][0])
    for label in augmented.images_to_add:
        # A part at a time, as they are encoded.
        for made in augmented.synthetic_images(int(label)).split(READ_AT_ONCE):
            rows = {
                images.image: list(map(item_format.from_tensor, made)),
                images.label: [label] * len(made),
                MARK: [True] * len(made),
            }
            parts.append(datasets.Dataset.from_dict(rows, features=features))
    return datasets.concatenate_datasets(parts)
