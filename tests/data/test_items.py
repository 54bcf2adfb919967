import io
from pathlib import Path

import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, grey
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from gae_augment.data import DatasetView, ItemFormat, load_source, read_images, read_labels


@pytest.mark.parametrize("path", ["photos", Path("photos")])
def test_path_is_refused_with_a_remedy(path):
    with pytest.raises(TypeError, match=r"is the path 'photos', but must be a map-style torch dataset.*ImageFolder"):
        read_labels(path)


def test_iterable_dataset_is_refused_with_a_remedy():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match=r"is a Stream, an IterableDataset.*TensorDataset\(torch\.stack"):
        read_labels(Stream())


@pytest.mark.parametrize("value", [5, {1, 2}, iter([]), object()], ids=lambda value: type(value).__name__)
def test_other_types_than_datasets_are_refused(value):
    name = type(value).__name__
    with pytest.raises(TypeError, match=rf"is a {name}, but must be a map-style torch dataset.*fit\(X, y\)"):
        load_source(value)


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset is empty, but must have at least one image"):
        read_labels(Items([]))


@pytest.mark.parametrize(
    ("item", "description"),
    [
        (torch.zeros(2), "a Tensor"),
        ((torch.zeros(2), 1, 2), "a tuple of 3"),
        ((torch.zeros(2),), "a tuple of 1"),
        ({"image": 0, "label": 1}, "a dict of 2"),
    ],
)
def test_items_other_than_pairs_are_refused(item, description):
    class Constant(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return item

    with pytest.raises(ValueError, match=rf"Item 0 .* is {description}, but must be a pair .*Wrap the dataset"):
        read_labels(Constant())


def test_items_may_be_lists():
    class Lists(Items):
        def __getitem__(self, index):
            return list(super().__getitem__(index))

    labels, read = load_source(Lists(grey()))
    assert labels.tolist() == LABELS
    assert read([0, 2]).shape == (2, 1, 5, 4)


def test_unreadable_item_is_named(image_folder):
    data = image_folder()
    labels, read = load_source(data)
    Path(data.samples[1][0]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"Item 1 of the dataset cannot be read: UnidentifiedImageError.*Repair or"):
        read(np.flatnonzero(labels == 0))


def test_damaged_image_that_is_opened_lazily_is_named(image_folder):
    data = image_folder()
    path = Path(data.samples[3][0])
    path.write_bytes(path.read_bytes()[:-40])
    # With such a loader, Pillow reads the pixels only when they are used.
    data.loader = lambda path: Image.open(io.BytesIO(Path(path).read_bytes()))
    with pytest.raises(ValueError, match="Item 3 of the dataset cannot be read: OSError"):
        read_images(DatasetView(data), range(4), ItemFormat.of(data[0][0]))


def test_item_that_was_interrupted_is_named():
    class Blocking(Items):
        def __getitem__(self, index):
            if index == 2:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt) as interrupted:
        load_source(Blocking(grey()))
    assert interrupted.value.__notes__ == ["Item 2 of the dataset was being read."]
