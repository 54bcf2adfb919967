from types import SimpleNamespace

import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, Wrapper, fail, grey, pixels
from torch.utils.data import ConcatDataset, Subset, TensorDataset, random_split
from torchvision.datasets import CIFAR10, SVHN, FakeData

from gae_augment._utils.seeding import make_generator
from gae_augment.data import ItemFormat, class_names, label_array, raw_view, read_labels


class LabelsOnly(Items):
    r"""A dataset that fails if an image other than the first, the middle and the last is decoded."""

    def __getitem__(self, index):
        assert index in (0, len(self) // 2, len(self) - 1), "an image was decoded"
        return super().__getitem__(index)


def test_labels_of_mnist(mnist):
    assert read_labels(mnist(transform=fail)).tolist() == LABELS
    assert read_labels(mnist(target_transform=lambda label: label + 10)).tolist() == [label + 10 for label in LABELS]


def test_labels_of_image_folder(image_folder):
    assert read_labels(image_folder(transform=fail)).tolist() == [0, 0, 0, 0, 1, 1]
    assert class_names(Subset(image_folder(), [5, 0])) == {0: "ant", 1: "bee"}


def test_labels_of_fake_data():
    data = FakeData(size=9, image_size=(3, 4, 4), num_classes=3, transform=fail)
    items = FakeData(size=9, image_size=(3, 4, 4), num_classes=3)
    assert read_labels(data).tolist() == [int(items[index][1]) for index in range(9)]


@pytest.mark.parametrize("name", ["targets", "labels"])
@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"])
def test_listed_labels_are_read_without_decoding_images(name, container):
    data = LabelsOnly(grey(), **{name: container(LABELS)})
    labels = read_labels(data)
    assert (labels.tolist(), labels.dtype) == (LABELS, np.int64)


def test_labels_of_cifar_and_svhn():
    # Created without files, since torchvision compares their checksums.
    cifar, svhn = CIFAR10.__new__(CIFAR10), SVHN.__new__(SVHN)
    vars(cifar).update(data=pixels(7, 32, 32, 3), targets=LABELS, transform=fail, target_transform=None)
    vars(svhn).update(data=pixels(7, 3, 32, 32), labels=np.array(LABELS), transform=fail, target_transform=None)
    for data in (cifar, svhn):
        assert read_labels(data).tolist() == LABELS
        assert ItemFormat.of(raw_view(data)[0][0]).shape == (3, 32, 32)


def test_labels_through_subsets_and_joined_datasets_without_decoding():
    data = LabelsOnly(grey(), targets=LABELS)
    subset = Subset(data, [6, 3, 0])
    joined = ConcatDataset([Subset(data, torch.tensor([3, 6, 0, 3])), ConcatDataset([data, subset])])
    # The three items that are compared may be decoded in the innermost dataset too.
    assert read_labels(subset).tolist() == [2, 1, 2]
    assert read_labels(joined).tolist() == [1, 2, 2, 1, *LABELS, 2, 1, 2]


def test_listed_labels_with_a_target_transform_are_read_without_decoding_images():
    data = LabelsOnly(grey(), targets=LABELS, target_transform=lambda label: label + 5)
    assert read_labels(data).tolist() == [label + 5 for label in LABELS]


def test_labels_through_random_split():
    data = Items(grey(), targets=LABELS)
    subset, _ = random_split(data, [5, 2], generator=make_generator(0))
    assert read_labels(subset).tolist() == [LABELS[index] for index in subset.indices]


def test_labels_of_tensors():
    images = torch.rand(7, 2, 2, generator=make_generator(0))
    assert read_labels(TensorDataset(images, torch.tensor(LABELS))).tolist() == LABELS
    assert read_labels(TensorDataset(images, torch.tensor(LABELS, dtype=torch.uint8))).tolist() == LABELS


def test_labels_of_joined_datasets_with_and_without_listed_labels():
    joined = ConcatDataset([Items(grey(), targets=LABELS), Items(grey(3))])
    assert read_labels(joined).tolist() == LABELS + LABELS[:3]


@pytest.mark.parametrize(
    "targets",
    [
        [0] * 7,
        ["cat"] * 7,
        LABELS[:-1],
        [[2, 0]] * 7,
        [np.array([2, 0])] * 7,
        np.eye(3)[LABELS],
        torch.eye(3)[LABELS],
        [None] * 7,
        "labels",
        None,
    ],
    ids=repr,
)
def test_items_decide_if_listed_labels_are_wrong(targets):
    assert read_labels(Items(grey(), targets=targets)).tolist() == LABELS


def test_target_transforms_apply_to_labels():
    data = Items(grey(), targets=LABELS, target_transform=lambda label: 5 - label)
    assert read_labels(data).tolist() == [5 - label for label in LABELS]
    wrapped = Wrapper(Items(grey(), targets=LABELS), target_transform=lambda label: label)
    assert read_labels(wrapped).tolist() == LABELS
    # The three items that are compared have label 0 with and without this transform.
    labels = [0, 1, 0, 0, 1, 1, 0]
    data = Items([(image, label) for (image, _), label in zip(grey(), labels, strict=True)], targets=labels)
    assert read_labels(Wrapper(data, target_transform=lambda label: min(label, 0))).tolist() == [0] * 7


def test_wrapper_whose_target_transform_leaves_the_compared_items_unchanged():
    labels = [0, 3, 1, 0, 3, 2, 0]
    data = Items([(image, label) for (image, _), label in zip(grey(), labels, strict=True)], targets=labels)
    wrapped = Wrapper(data, target_transform=lambda label: {0: 0, 1: 1, 2: 1, 3: 1}[label])
    assert read_labels(wrapped).tolist() == [label for _, label in (wrapped[i] for i in range(7))]


@pytest.mark.parametrize("label", [np.int32(4), np.uint8(4), np.array(4), torch.tensor(4), 4, True, np.bool_(True)])
def test_integers_of_every_type_are_labels(label):
    labels = read_labels(Items([(torch.zeros(2), label)]))
    assert (labels.tolist(), labels.dtype) == ([int(label)], np.int64)


@pytest.mark.parametrize("label", [1.0, "cat", None, torch.tensor(1.0), torch.tensor([1, 0]), np.float32(1), [1]])
def test_labels_other_than_integers_are_refused(label):
    data = Items([(torch.zeros(2), 0), (torch.zeros(2), label)])
    with pytest.raises(ValueError, match=r"label of item 1 is .*, but must be an integer\. Number the classes"):
        read_labels(data)


def test_float_labels_of_tensors_are_refused():
    with pytest.raises(ValueError, match=r"The label of item 0 is 1\.0, a float, but must be an integer"):
        read_labels(TensorDataset(torch.zeros(3, 2), torch.ones(3)))


def test_class_names_of_wrapped_and_joined_datasets():
    assert class_names(SimpleNamespace(classes=("a", "b"))) == {0: "a", 1: "b"}
    assert class_names(Items(grey())) is None
    data, swapped = Items(grey(), classes=["a", "b"]), Items(grey(), classes=["b", "a"])
    assert class_names(ConcatDataset([data, Subset(data, [0])])) == {0: "a", 1: "b"}
    assert class_names(ConcatDataset([data, swapped])) is None


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (LABELS, LABELS),
        (np.array(LABELS, dtype=np.uint8), LABELS),
        (torch.tensor(LABELS), LABELS),
        (torch.tensor(LABELS, dtype=torch.bfloat16), LABELS),
        (np.array(LABELS, dtype=np.float32), LABELS),
        (np.array(LABELS) > 1, [1, 0, 0, 0, 0, 1, 1]),
        (["b", "a", "b", "a", "a", "a", "c"], ["b", "a", "b", "a", "a", "a", "c"]),
        (np.array(["b", "a"] * 3 + ["c"], dtype=object), ["b", "a"] * 3 + ["c"]),
    ],
)
def test_labels_of_arrays(y, expected):
    labels = label_array(y, 7)
    assert labels.tolist() == expected
    assert labels.dtype.kind in "iU"


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"'y' is missing: fit\(X, y\)"),
        ([0, 1], r"'y' has shape \(2,\), but must have one label per image, with shape \(3,\)"),
        (np.eye(3), r"shape \(3, 3\).*Convert one-hot labels with y\.argmax\(1\)"),
        ([0.5, 1, 2], r"'y' begins with \[0\.5, 1\.0, 2\.0\], of type float64, but labels must be integers or strings"),
        ([float("nan"), 1, 2], "of type float64"),
        ([1e300, 1, 2], "of type float64"),
        ([None, 1, 2], "of type object.*LabelEncoder"),
        ([b"a", b"b", b"c"], r"of type \|S1"),
        ([1j, 1, 2], "of type complex128"),
    ],
)
def test_unsuitable_labels_of_arrays_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        label_array(y, 3)
