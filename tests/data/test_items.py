import io
from pathlib import Path

import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, grey
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from gae_augment.data import (
    ItemFormat,
    load_source,
    read_images,
    read_labels,
)


@pytest.mark.parametrize("text", ["photos", Path("photos")])
def test_a_path_is_refused_with_what_opens_it(text):
    with pytest.raises(TypeError, match=r"it is the text 'photos'.*ImageFolder"):
        read_labels(text)


def test_iterable_dataset_is_refused_with_the_line_to_type():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match=r"Stream is an IterableDataset.*TensorDataset\(torch\.stack"):
        read_labels(Stream())


@pytest.mark.parametrize("wrong", [5, {1, 2}, iter([]), object()], ids=lambda one: type(one).__name__)
def test_what_is_no_dataset_is_refused(wrong):
    with pytest.raises(TypeError, match=rf"map-style torch dataset, and it is a {type(wrong).__name__}.*fit\(X, y\)"):
        load_source(wrong)


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset is empty"):
        read_labels(Items([]))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(2), "item 0 is a Tensor"),
        ((torch.zeros(2), 1, 2), r"item 0 is a tuple of 3\. Wrap"),
        ((torch.zeros(2),), "item 0 is a tuple of 1"),
        ({"image": 0, "label": 1}, "item 0 is a dict of 2"),
    ],
)
def test_item_that_is_no_pair_is_refused(item, message):
    class Single(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return item

    with pytest.raises(ValueError, match=rf"pair of image and label, and {message}"):
        read_labels(Single())


def test_lists_are_pairs():
    class Lists(Items):
        def __getitem__(self, index):
            return list(super().__getitem__(index))

    labels, read = load_source(Lists(grey()))
    assert labels.tolist() == LABELS
    assert read([0, 2]).shape == (2, 1, 5, 4)


def test_item_that_cannot_be_read_is_named(image_folder):
    data = image_folder()
    Path(data.samples[3][0]).write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"Item 3 of the dataset cannot be read: UnidentifiedImageError.*Mend or remove"
    ):
        read_labels(data)
    data = image_folder()
    Path(data.samples[1][0]).write_bytes(b"no image")
    labels, read = load_source(data)
    with pytest.raises(ValueError, match="Item 1 of the dataset cannot be read"):
        read(np.flatnonzero(labels == 0))


def test_picture_that_is_read_late_is_named(image_folder):
    data = image_folder()
    path = Path(data.samples[3][0])
    path.write_bytes(path.read_bytes()[:-40])
    # Pillow reads the pixels of what such a loader opens later.
    data.loader = lambda path: Image.open(io.BytesIO(Path(path).read_bytes()))
    with pytest.raises(ValueError, match="Item 3 of the dataset cannot be read: OSError"):
        read_images(data, range(4), ItemFormat.of(data[0][0]))
