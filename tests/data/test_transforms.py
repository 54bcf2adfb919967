from dataclasses import dataclass

import numpy as np
import pytest
import torch
from example_datasets import LABELS, Items, Wrapper, fail, grey
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import wrap_dataset_for_transforms_v2
from torchvision.datasets.vision import StandardTransform
from torchvision.transforms import v2

from gae_augment.data import class_names, raw_view, read_labels, transforms_of


def test_raw_items_are_the_untransformed_ones(mnist):
    data, plain = mnist(transform=fail), mnist()
    raw = raw_view(data)
    for index in range(7):
        assert raw[index][0].tobytes() == plain[index][0].tobytes()
        assert raw[index][1] == plain[index][1]


@pytest.mark.parametrize("joint", [False, True], ids=["transform", "transforms"])
def test_raw_items_through_every_wrapping(joint):
    def data(own=None):
        switched = {} if own is None else {"transforms": own} if joint else {"transform": own}
        inner = Items(grey(), targets=LABELS, **switched)
        wrapped = Wrapper(Subset(ConcatDataset([inner, inner]), [13, 0, 8, 1]), **switched)
        return Subset(wrapped, [2, 0, 3])

    user, plain = data(fail), data()
    raw = raw_view(user)
    assert [(image.tobytes(), label) for image, label in (raw[i] for i in range(3))] == [
        (image.tobytes(), label) for image, label in (plain[i] for i in range(3))
    ]
    with pytest.raises(AssertionError, match="a transform was applied"):
        user[0]


def test_raw_view_leaves_the_dataset_untouched(mnist):
    transform = v2.ToImage()
    data = mnist(transform=transform, target_transform=str)
    joined = ConcatDataset([Subset(data, [1, 2]), data])
    before = {**vars(data)}, joined.datasets.copy()
    raw = raw_view(joined)
    image, label = raw[0]
    assert isinstance(image, Image.Image)
    assert label == str(LABELS[1])
    assert vars(data) == before[0]
    assert joined.datasets == before[1]
    assert isinstance(joined[0][0], tv_tensors.Image)


def test_dataset_without_transforms_is_its_own_raw_view():
    data = TensorDataset(torch.zeros(2, 1), torch.zeros(2))
    assert raw_view(data) is data


def test_raw_view_of_a_dataset_that_is_wrapped_for_v2(image_folder):
    data = wrap_dataset_for_transforms_v2(image_folder(transform=v2.ToImage()))
    plain = image_folder()
    assert isinstance(data[0][0], tv_tensors.Image)
    assert raw_view(data)[4][0].tobytes() == plain[4][0].tobytes()
    assert read_labels(data).tolist() == [0, 0, 0, 0, 1, 1]
    assert class_names(data) == {0: "ant", 1: "bee"}
    assert isinstance(data[0][0], tv_tensors.Image)


def add(number):
    return lambda image: np.asarray(image).astype(int) + number


@dataclass(frozen=True)
class Times:
    factor: int

    def __call__(self, image):
        return image * self.factor


def test_transforms_are_applied_in_their_order(mnist):
    data = Subset(Wrapper(mnist(transform=add(1)), transform=Times(2)), [3, 4])
    image, label = raw_view(data)[1]
    for transform in transforms_of(data):
        image, label = transform(image, label)
    np.testing.assert_array_equal(image, data[1][0])
    np.testing.assert_array_equal(image, (np.asarray(mnist()[4][0]).astype(int) + 1) * 2)
    assert label == LABELS[4]


def test_joint_transforms_are_found():
    joint = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1)])
    data = Items(grey(), transforms=joint)
    image, label = raw_view(data)[0]
    (transform,) = transforms_of(data)
    flipped, label = transform(image, label)
    np.testing.assert_array_equal(flipped[0], np.asarray(grey()[0][0])[:, ::-1])
    assert label == LABELS[0]


def test_standard_transform_is_of_the_image_alone():
    data = Items(grey(), transforms=StandardTransform(add(1), fail))
    (transform,) = transforms_of(data)
    np.testing.assert_array_equal(transform(grey()[0][0], "label")[0], add(1)(grey()[0][0]))


def test_no_transforms():
    assert transforms_of(Subset(TensorDataset(torch.zeros(2, 1), torch.zeros(2)), [0])) == []


def test_joined_datasets_share_their_transform(mnist):
    assert len(transforms_of(ConcatDataset([mnist(transform=Times(2)), mnist(transform=Times(2))]))) == 1
    with pytest.raises(ValueError, match=r"joined datasets have different transforms.*Pass 'transform'"):
        transforms_of(ConcatDataset([mnist(transform=Times(2)), mnist(transform=Times(3))]))
