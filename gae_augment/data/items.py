r"""Single items of a dataset: reads them, and names one that cannot be read."""

__all__ = ["ItemReader", "check_dataset"]

import os
from typing import Any

from PIL import Image
from torch.utils.data import IterableDataset

HUGGING_FACE = ", as gae_augment.integrations.huggingface.HuggingFaceImages does with one of Hugging Face's"


def check_dataset(dataset: Any) -> None:
    r"""Raises an error unless a dataset has a length and can be indexed.

    Raises:
        TypeError: If it is not a map-style dataset.
        ValueError: If it is empty.
    """
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"The dataset can be indexed, and {type(dataset).__name__} is an IterableDataset, which can only be "
            f"iterated. Collect it first: TensorDataset(torch.stack(images), torch.tensor(labels))."
        )
    if isinstance(dataset, str | os.PathLike):
        raise TypeError(
            f"The dataset is a map-style torch dataset, and it is the text {os.fspath(dataset)!r}. Open a folder "
            f"of images first, with torchvision's ImageFolder, or gae_augment.data.folders.open_folder."
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"The dataset is a map-style torch dataset, and it is a {type(dataset).__name__}. "
            f"Arrays are passed with their labels: fit(X, y)."
        )
    if not len(dataset):
        raise ValueError("The dataset is empty: it has no image to learn from.")


class ItemReader:
    r"""Reads the items of a dataset as pairs of image and label, and names an item that cannot be read.

    Args:
        dataset: A map-style dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            item = self._dataset[index]
            if isinstance(item, tuple | list) and item and isinstance(item[0], Image.Image):
                # Pillow opens files lazily: without this, a damaged file would fail later and without its index.
                item[0].load()
        except Exception as error:
            raise ValueError(
                f"Item {index} of the dataset cannot be read: {type(error).__name__}: {str(error).rstrip('.')}. Mend "
                f"or remove it."
            ) from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"An item of the dataset is a pair of image and label, and item {index} is a {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, tuple | list | dict) else ''}. Wrap the dataset in one that "
                f"returns (image, label){HUGGING_FACE if isinstance(item, dict) else ''}."
            )
        return item[0], item[1]
