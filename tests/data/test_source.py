import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, grey
from scipy.sparse import csr_array

from gae_augment.data import load_source, read_classes


def test_sparse_matrix_is_refused():
    with pytest.raises(TypeError, match=r"'X' is sparse.*X\.toarray\(\)"):
        load_source(csr_array(np.eye(3)), [0, 1, 0])


def test_dataset_with_separate_labels_is_refused():
    with pytest.raises(ValueError, match=r"'y' was passed, but the dataset already has labels\. Use fit\(dataset\)"):
        load_source(Items(grey()), LABELS)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_classes_are_read_in_batches(batch_size, monkeypatch):
    monkeypatch.setattr("gae_augment.data.source.READ_AT_ONCE", batch_size)
    images = torch.arange(10 * 4).view(10, 1, 2, 2).float()
    labels = np.array(["a", "b", "a", "c", "a", "b", "c", "a", "a", "b"])
    batches = []

    def read(indices):
        batches.append(list(indices))
        return images[list(indices)]

    classes, values = read_classes(read, labels, ["b", "a"])
    assert list(classes) == ["b", "a"]
    for label, class_images in classes.items():
        assert torch.equal(class_images, images[torch.from_numpy(labels == label)])
    # The scale covers all images, including those of class c.
    assert values.bounds.tolist() == [0, 39]
    # Each image is read once.
    assert [index for batch in batches for index in batch] == list(range(10))
    assert max(map(len, batches)) <= batch_size
