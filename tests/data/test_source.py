import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, grey
from scipy.sparse import csr_array

from gae_augment.data import ImageReader, load_source, read_classes


def test_sparse_matrix_is_refused():
    with pytest.raises(TypeError, match=r"'X' is sparse.*X\.toarray\(\)"):
        load_source(csr_array(np.eye(3)), [0, 1, 0])


def test_dataset_with_separate_labels_is_refused():
    with pytest.raises(ValueError, match=r"'y' was passed, but the dataset already has labels\. Use fit\(dataset\)"):
        load_source(Items(grey()), LABELS)


class Recorded:
    r"""A function that reads images, for ``ImageReader``, and the indices of each call."""

    def __init__(self, images):
        self.images, self.batches = images, []

    def __call__(self, indices):
        self.batches.append(list(indices))
        return self.images[self.batches[-1]]

    @property
    def reader(self):
        return ImageReader(self, tuple(self.images.shape[1:]), self.images.dtype, resized=False)

    @property
    def indices(self):
        return [index for batch in self.batches for index in batch]


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.bool])
def test_classes_are_read_in_batches(batch_size, dtype, monkeypatch):
    monkeypatch.setattr("gae_augment.data.source.READ_AT_ONCE", batch_size)
    images = torch.arange(10 * 4).view(10, 1, 2, 2).to(dtype)
    labels = np.array(["a", "b", "a", "c", "a", "b", "c", "a", "a", "b"])
    read = Recorded(images)
    classes, values = read_classes(read.reader, labels, ["b", "a"])
    assert list(classes) == ["b", "a"]
    for label, class_images in classes.items():
        assert torch.equal(class_images, images[torch.from_numpy(labels == label)])
    assert values.dtype == dtype
    if dtype in (torch.float32, torch.int16):
        # The scale covers all images, including those of class c.
        assert values.bounds.tolist() == [0, 39]
    # Each image is read once.
    assert read.indices == list(range(10))
    assert max(map(len, read.batches)) <= batch_size


def test_only_bytes_that_are_learned_from_are_read():
    r"""Besides, a hundred images of all classes are checked."""
    labels = np.repeat([0, 1, 2], [5000, 900, 40])
    images = torch.randint(0, 256, (len(labels), 1, 2, 3), dtype=torch.uint8)
    read = Recorded(images)
    classes, values = read_classes(read.reader, labels, [1, 2], most={1: 300})
    assert [len(part) for part in classes.values()] == [300, 40]
    assert torch.equal(classes[2], images[5900:])
    assert values.kind == "levels"
    assert len(read.indices) == len(set(read.indices)) <= 300 + 40 + 100
    assert len({labels[index] for index in read.indices}) == 3
    # The images of a class are spread over it.
    gaps = np.diff([index for index in read.indices if labels[index] == 1])
    assert gaps.max() <= 4

    read = Recorded(images.float())
    read_classes(read.reader, labels, [1, 2], most={1: 300})
    assert read.indices == list(range(len(labels)))
