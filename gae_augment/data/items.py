r"""Reading of a dataset's items as pairs of image and label, with errors that state the index of the item."""

__all__ = ["ItemReader", "check_dataset", "loaded", "naming_item"]

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch.utils.data import IterableDataset

HUGGING_FACE = ", such as gae_augment.integrations.huggingface.HuggingFaceImages for data sets of Hugging Face"


def check_dataset(dataset: Any) -> None:
    r"""Checks that a dataset is map-style and not empty.

    Raises:
        TypeError: If the dataset is not a map-style dataset.
        ValueError: If the dataset is empty.
    """
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"The dataset is a {type(dataset).__name__}, an IterableDataset, but must be a map-style torch dataset. "
            f"Collect its items first: TensorDataset(torch.stack(images), torch.tensor(labels))."
        )
    if isinstance(dataset, str | os.PathLike):
        raise TypeError(
            f"The dataset is the path {os.fspath(dataset)!r}, but must be a map-style torch dataset. Open a folder of "
            f"images first, with torchvision's ImageFolder or gae_augment.data.open_folder."
        )
    if isinstance(dataset, type):
        raise TypeError(f"The dataset is the class {dataset.__name__}, but must be an object: {dataset.__name__}(…).")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"The dataset is a {type(dataset).__name__}, but must be a map-style torch dataset. "
            f"Pass arrays with their labels: fit(X, y)."
        )
    try:
        length = len(dataset)
    except Exception as error:
        raise TypeError(
            f"The dataset is a {type(dataset).__name__} without a length ({type(error).__name__}: {error}), but must "
            f"be a map-style torch dataset. Define its __len__."
        ) from error
    if not length:
        raise ValueError("The dataset is empty, but must have at least one image.")


@contextmanager
def naming_item(index: int) -> Iterator[None]:
    r"""Context manager: turns any error in reading an item into a ValueError that states the item's index."""
    try:
        yield
    except KeyboardInterrupt as error:
        # The item may be the one that blocks.
        error.add_note(f"Item {index} of the dataset was being read.")
        raise
    except Exception as error:
        raise ValueError(
            f"Item {index} of the dataset cannot be read: {type(error).__name__}: {str(error).rstrip('.')}. "
            f"Repair or remove it."
        ) from error


def loaded(image: Any) -> Any:
    r"""Returns an image after Pillow, if it is Pillow's, has decoded it.

    Pillow opens files lazily. A damaged file would otherwise raise an error later, without the index of the item.
    """
    if isinstance(image, Image.Image):
        image.load()
    return image


class ItemReader:
    r"""Reads the items of a dataset as pairs of image and label.

    The expression ``reader[index]`` returns a pair. It raises a ValueError if the item cannot be read or is not a
    pair.

    Args:
        dataset: A map-style dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        with naming_item(index):
            item = self._dataset[index]
            if isinstance(item, tuple | list) and item:
                loaded(item[0])
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"Item {index} of the dataset is a {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, tuple | list | dict) else ''}, but must be a pair of image "
                f"and label. Wrap the dataset in one that returns (image, label)"
                f"{HUGGING_FACE if isinstance(item, dict) else ''}."
            )
        return item[0], item[1]
