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

from gae_augment._utils.seeding import make_generator
from gae_augment.data import DatasetView, class_names, read_labels


def test_raw_items_are_not_transformed(mnist):
    data, untransformed = mnist(transform=fail), mnist()
    view = DatasetView(data)
    for index in range(7):
        assert view.raw_image(index).tobytes() == untransformed[index][0].tobytes()
        assert view.labels[index] == untransformed[index][1]


@pytest.mark.parametrize("joint", [False, True], ids=["transform", "transforms"])
def test_transforms_inside_nested_datasets_are_removed(joint):
    def make(transform=None):
        attributes = {} if transform is None else {"transforms" if joint else "transform": transform}
        inner = Items(grey(), targets=LABELS, **attributes)
        wrapped = Wrapper(Subset(ConcatDataset([inner, inner]), [13, 0, 8, 1]), **attributes)
        return Subset(wrapped, [2, 0, 3])

    transform = (lambda image, label: (v2.functional.invert(image), label)) if joint else v2.functional.invert
    data, untransformed = make(transform), make()
    view = DatasetView(data)
    assert len(view.transforms) == 2
    for index in range(3):
        assert view.raw_image(index).tobytes() == untransformed[index][0].tobytes()
        assert view.labels[index] == untransformed[index][1]


def test_view_does_not_change_the_dataset(mnist):
    transform = v2.ToImage()
    data = mnist(transform=transform, target_transform=str)
    joined = ConcatDataset([Subset(data, [1, 2]), data])
    attributes, datasets = {**vars(data)}, joined.datasets.copy()
    view = DatasetView(joined)
    assert isinstance(view.raw_image(0), Image.Image)
    assert vars(data) == attributes
    assert joined.datasets == datasets
    assert isinstance(joined[0][0], tv_tensors.Image)


def test_images_of_a_dataset_without_transforms_are_raw():
    data = TensorDataset(torch.rand(2, 1, generator=make_generator(0)), torch.zeros(2))
    view = DatasetView(data)
    assert view.transforms == []
    assert torch.equal(view.raw_image(1), data[1][0])


def test_view_of_a_dataset_wrapped_for_transforms_v2(image_folder):
    data = wrap_dataset_for_transforms_v2(image_folder(transform=v2.ToImage()))
    untransformed = image_folder()
    assert isinstance(data[0][0], tv_tensors.Image)
    assert DatasetView(data).raw_image(4).tobytes() == untransformed[4][0].tobytes()
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


def test_transforms_are_listed_in_order_of_application(mnist):
    data = Subset(Wrapper(mnist(transform=add(1)), transform=Times(2)), [3, 4])
    view = DatasetView(data)
    image, label = view.raw_image(1), view.labels[1]
    for transform in view.transforms:
        image = transform(image, label)
    np.testing.assert_array_equal(image, data[1][0])
    np.testing.assert_array_equal(image, (np.asarray(mnist()[4][0]).astype(int) + 1) * 2)
    assert label == LABELS[4]


def test_joint_transforms_are_listed():
    joint = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1)])
    data = Items(grey(), transforms=joint)
    view = DatasetView(data)
    (transform,) = view.transforms
    flipped = transform(view.raw_image(0), LABELS[0])
    np.testing.assert_array_equal(flipped[0], np.asarray(grey()[0][0])[:, ::-1])


def test_standard_transform_applies_to_the_image_alone():
    data = Items(grey(), transforms=StandardTransform(add(1), int))
    (transform,) = DatasetView(data).transforms
    np.testing.assert_array_equal(transform(grey()[0][0], "label"), add(1)(grey()[0][0]))


def test_dataset_without_transforms_has_an_empty_list():
    assert DatasetView(Subset(TensorDataset(torch.zeros(2, 1), torch.zeros(2)), [0])).transforms == []


def test_joined_datasets_must_have_equal_transforms(mnist):
    assert len(DatasetView(ConcatDataset([mnist(transform=Times(2)), mnist(transform=Times(2))])).transforms) == 1
    with pytest.raises(ValueError, match=r"joined datasets have different transforms.*ambiguous\. Pass 'transform'"):
        _ = DatasetView(ConcatDataset([mnist(transform=Times(2)), mnist(transform=Times(3))])).transforms
