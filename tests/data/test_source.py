import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, grey
from scipy.sparse import csr_array

from gae_augment.data import load_source, read_classes


def test_sparse_matrix_is_refused():

    with pytest.raises(TypeError, match=r"sparse.*X\.toarray\(\)"):
        load_source(csr_array(np.eye(3)), [0, 1, 0])


def test_labels_beside_a_dataset_are_refused():
    with pytest.raises(ValueError, match=r"brings its labels with it.*fit\(dataset\)"):
        load_source(Items(grey()), LABELS)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_classes_are_read_in_parts(at_once, monkeypatch):
    monkeypatch.setattr("gae_augment.data.source.READ_AT_ONCE", at_once)
    images = torch.arange(10 * 4).view(10, 1, 2, 2).float()
    labels = np.array(["a", "b", "a", "c", "a", "b", "c", "a", "a", "b"])
    asked = []

    def read(indices):
        asked.append(list(indices))
        return images[list(indices)]

    classes, values = read_classes(read, labels, ["b", "a"])
    assert list(classes) == ["b", "a"]
    for label, own in classes.items():
        assert torch.equal(own, images[torch.from_numpy(labels == label)])
    # The scale is that of all images, and each is read once.
    assert values.bounds.tolist() == [0, 39]
    assert [index for part in asked for index in part] == list(range(10))
    assert max(map(len, asked)) <= at_once
