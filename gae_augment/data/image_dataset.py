r"""A dataset whose images, labels and transform are passed separately."""

__all__ = ["ImageDataset"]

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from .items import check_dataset
from .labels import label_array, read_labels


class ImageDataset(Dataset):
    r"""Images with labels and a transform, for data whose labels or transform cannot be found in another way.

    An item is the pair (``transform(image)``, label). Nothing about the images is guessed: models learn from the images
    of ``raw``, and the transform is applied to real and synthetic images.

    Args:
        raw: The images before the transform: an array, a sequence of images, or a dataset of images or of pairs of
            image and label.
        labels: One integer per image. ``None`` takes the labels from the pairs of ``raw``.
        transform: A function from an image to the image of an item; ``None`` leaves images unchanged.
        classes: The name of each label, from label 0 on; ``None`` names classes by their labels.

    Attributes:
        targets: The labels, a list of integers.
        transform: The transform.
        classes: The names of the classes, or ``None``.

    Raises:
        TypeError: If ``raw`` is no map-style dataset.
        ValueError: If there are no images, or not as many labels as images, or a label is not an integer.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
        >>> data = ImageDataset(images, labels=[0, 1, 1], transform=lambda image: image / 255)
        >>> bool(data[2][0].max() <= 1), data[2][1]
        (True, 1)
    """

    def __init__(
        self,
        raw: Any,
        *,
        labels: Any = None,
        transform: Callable[[Any], Any] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        # A column of a table is indexed by its index, not by position.
        raw = raw.tolist() if hasattr(raw, "iloc") else raw
        check_dataset(raw)
        labels = read_labels(raw) if labels is None else label_array(labels, len(raw))
        if labels.dtype.kind == "U":
            raise ValueError(
                f"'labels' begins with {str(labels[0])!r}, but must be integers. Number the classes, for instance with "
                f"sklearn.preprocessing.LabelEncoder, and pass their names as 'classes'."
            )
        # Not an attribute that holds the dataset, whose own transforms belong to the raw images.
        self._item = raw.__getitem__
        self.targets: list[int] = labels.tolist()
        self.transform = transform
        self.classes = None if classes is None else list(classes)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item = self._item(index)
        image = item[0] if isinstance(item, tuple | list) and len(item) == 2 else item
        return image if self.transform is None else self.transform(image), self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)
