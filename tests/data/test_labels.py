import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, Wrapper, fail, grey, pixels
from torch.utils.data import ConcatDataset, Subset, TensorDataset, random_split
from torchvision.datasets import CIFAR10, SVHN, FakeData

from gae_augment._utils.seeding import make_generator
from gae_augment.data import DatasetView, ItemFormat, class_names, label_array, read_labels


class Counting(Items):
    r"""A dataset that counts the items that are read, which takes a time as decoding does."""

    def __getitem__(self, index):
        vars(self).setdefault("read", []).append(index)
        time.sleep(0.001)
        return super().__getitem__(index)


@pytest.fixture
def no_time(monkeypatch):
    r"""Leaves no time to read all items."""
    monkeypatch.setattr("gae_augment.data.labels.SECONDS", 0.0)
    monkeypatch.setattr("gae_augment.data.labels.PROBES", 20)


def many(n=400):
    r"""Returns pairs of a small image and a label; three of four labels are 0."""
    return [(torch.full((1, 2, 2), index), max(0, index % 8 - 5)) for index in range(n)]


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


@pytest.mark.parametrize("name", ["targets", "labels", "_labels"])
@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"])
@pytest.mark.usefixtures("no_time")
def test_listed_labels_are_read_without_reading_all_items(name, container):
    items = many()
    data = Counting(items, **{name: container([label for _, label in items])})
    labels = read_labels(data)
    assert (labels.tolist(), labels.dtype) == ([label for _, label in items], np.int64)
    assert len(data.read) < 40


def test_labels_of_cifar_and_svhn():
    # Created without files, since torchvision compares their checksums.
    cifar, svhn = CIFAR10.__new__(CIFAR10), SVHN.__new__(SVHN)
    vars(cifar).update(data=pixels(7, 32, 32, 3), targets=LABELS, transform=fail, target_transform=None)
    vars(svhn).update(data=pixels(7, 3, 32, 32), labels=np.array(LABELS), transform=fail, target_transform=None)
    for data in (cifar, svhn):
        assert read_labels(data).tolist() == LABELS
        assert ItemFormat.of(DatasetView(data).raw_image(0)).shape == (3, 32, 32)


@pytest.mark.usefixtures("no_time")
def test_labels_through_subsets_and_joined_datasets_without_reading_all_items():
    items = many()
    labels = [label for _, label in items]
    data = Counting(items, targets=labels, target_transform=lambda label: label + 5)
    joined = ConcatDataset([Subset(data, torch.tensor([3, 6, 0, 3])), ConcatDataset([data, Subset(data, range(300))])])
    expected = [*(labels[i] for i in (3, 6, 0, 3)), *labels, *labels[:300]]
    assert read_labels(joined).tolist() == [label + 5 for label in expected]
    assert len(data.read) < 40


@pytest.mark.usefixtures("no_time")
def test_one_relabelled_class_is_always_noticed():
    r"""Two items of each class are compared, even of a class with few images."""
    items = [*many(), *[(torch.zeros(1, 2, 2), 9)] * 2]
    data = Items([(image, 1 if label == 9 else label) for image, label in items], targets=[label for _, label in items])
    assert read_labels(data).tolist() == [1 if label == 9 else label for _, label in items]


def test_every_wrong_label_is_noticed_where_items_are_read_quickly():
    items = many(3000)
    listed = [label for _, label in items]
    items[1234] = (items[1234][0], 7)
    assert read_labels(Items(items, targets=listed))[1234] == 7


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


@pytest.mark.parametrize("label", [1.0, "cat", None, torch.tensor(1.0), np.float32(1), [1], torch.tensor([1])])
def test_labels_other_than_integers_are_refused(label):
    data = Items([(torch.zeros(2), 0), (torch.zeros(2), label)])
    with pytest.raises(ValueError, match=r"label of item 1 is .*, but must be an integer\. Number the classes"):
        read_labels(data)


@pytest.mark.parametrize("label", [torch.tensor([1, 0]), np.array([1, 0, 1]), [0, 1], torch.tensor([0.5, 0.5])])
def test_labels_of_several_classes_are_refused(label):
    with pytest.raises(ValueError, match=r"label of item 1 is a vector of \d numbers.* several classes at once"):
        read_labels(Items([(torch.zeros(2), 0), (torch.zeros(2), label)]))


def test_float_labels_of_tensors_are_refused():
    with pytest.raises(ValueError, match=r"The label of item 0 is 1\.0, a float, but must be an integer"):
        read_labels(TensorDataset(torch.zeros(3, 2), torch.ones(3)))


def test_class_names_of_wrapped_and_joined_datasets():
    assert class_names(SimpleNamespace(classes=("a", "b"))) == {0: "a", 1: "b"}
    assert class_names(Items(grey())) is None
    data, swapped = Items(grey(), classes=["a", "b"]), Items(grey(), classes=["b", "a"])
    assert class_names(ConcatDataset([data, Subset(data, [0])])) == {0: "a", 1: "b"}
    with pytest.raises(ValueError, match=r"Label 0 is 'a' in .* and 'b' in another\. .*\['a', 'b'\] and \['b', 'a'\]"):
        class_names(ConcatDataset([data, swapped]))
    longer = Items(grey(), classes=["a", "b", "c"])
    assert class_names(ConcatDataset([data, longer])) == {0: "a", 1: "b", 2: "c"}
    assert class_names(ConcatDataset([data, Items(grey())])) is None


def test_class_names_follow_labels_and_not_positions():
    items = [(image, label) for (image, _), label in zip(grey(4), (0, 2, 5, 5), strict=True)]
    gaps = Items(items, classes=["a", "b", "c"])
    assert class_names(gaps, read_labels(gaps)) is None
    gaps.class_to_idx = {"a": 0, "b": 2, "c": 5}
    assert class_names(gaps, read_labels(gaps)) == {0: "a", 2: "b", 5: "c"}


def test_class_names_are_unknown_if_a_wrapper_changes_labels():
    class Merged(Wrapper):
        def __getitem__(self, index):
            image, label = self.dataset[index]
            return image, min(label, 1)

    data = Items(grey(), targets=LABELS, classes=["a", "b", "c"])
    assert class_names(Wrapper(data)) == {0: "a", 1: "b", 2: "c"}
    assert class_names(Merged(data)) is None


def test_classes_of_one_name_are_told_apart():
    assert class_names(SimpleNamespace(classes=("a", "b", "a"))) == {0: "a (0)", 1: "b", 2: "a (2)"}


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
