import io
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision import tv_tensors
from torchvision.datasets import CIFAR10, MNIST, SVHN, FakeData, ImageFolder, wrap_dataset_for_transforms_v2
from torchvision.datasets.vision import StandardTransform
from torchvision.transforms import v2

from gae_augment import reading
from gae_augment._utils.seeding import make_generator
from gae_augment.data.reading import (
    ItemFormat,
    class_names,
    image_array,
    label_array,
    load_source,
    raw_view,
    read_classes,
    read_images,
    read_labels,
    transforms_of,
)

LABELS = [2, 0, 1, 1, 0, 2, 2]


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


class Items(Dataset):
    r"""A dataset of the items that it is given; whatever else is given becomes an attribute."""

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, label = self.items[index]
        if getattr(self, "transforms", None):
            return self.transforms(image, label)
        if getattr(self, "transform", None):
            image = self.transform(image)
        if getattr(self, "target_transform", None):
            label = self.target_transform(label)
        return image, label


class Wrapper(Items):
    r"""A dataset that keeps another in ``dataset``, and has transforms of its own."""

    def __init__(self, dataset, **attributes):
        super().__init__(dataset, dataset=dataset, **attributes)

    @property
    def items(self):
        return self.dataset

    @items.setter
    def items(self, dataset):
        pass


class LabelsOnly(Items):
    r"""A dataset of which only the first, the middle and the last image may be decoded."""

    def __getitem__(self, index):
        assert index in (0, len(self) // 2, len(self) - 1), "an image was decoded"
        return super().__getitem__(index)


def fail(*_):
    raise AssertionError("a transform was applied")


def grey(n=7):
    return [(Image.fromarray(image), label) for image, label in zip(pixels(n, 5, 4), LABELS, strict=False)]


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {1: 2049, 3: 2051}[array.ndim]
    path.write_bytes(struct.pack(f">{array.ndim + 1}i", kind, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-images-idx3-ubyte", pixels(7, 28, 28))
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-labels-idx1-ubyte", np.array(LABELS, dtype=np.uint8))
    return lambda **options: MNIST(tmp_path, **options)


@pytest.fixture
def image_folder(tmp_path):
    r"""Writes PNG files of one mode, four of one class and two of another, and reads them by Pillow's own mode."""

    def make(mode="RGB", **options):
        for place, name in enumerate(["ant/a", "ant/b", "ant/c", "ant/d", "bee/a", "bee/b"]):
            path = tmp_path / mode.replace(";", "") / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = np.random.default_rng(place)
            if mode == "I;16":
                image = Image.fromarray(generator.integers(0, 2**16, (6, 5), dtype=np.uint16))
            elif mode == "1":
                image = Image.fromarray(generator.random((6, 5)) > 0.5)
            elif mode == "P":
                image = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)).quantize(8)
            else:
                bands = len(Image.new(mode, (1, 1)).getbands())
                values = generator.integers(0, 256, (6, 5, bands), dtype=np.uint8)
                image = Image.frombytes(mode, (5, 6), values.tobytes())
            image.save(path)

        def load(path):
            with Image.open(path) as image:
                image.load()
                return image

        return ImageFolder(tmp_path / mode.replace(";", ""), loader=load, **options)

    return make


# Labels


def test_labels_of_mnist(mnist):
    assert read_labels(mnist(transform=fail)).tolist() == LABELS
    assert read_labels(mnist(target_transform=lambda label: label + 10)).tolist() == [label + 10 for label in LABELS]


def test_labels_of_image_folder(image_folder):
    assert read_labels(image_folder(transform=fail)).tolist() == [0, 0, 0, 0, 1, 1]
    assert class_names(Subset(image_folder(), [5, 0])) == {0: "ant", 1: "bee"}


def test_labels_of_fake_data():
    data = FakeData(size=9, image_size=(3, 4, 4), num_classes=3, transform=fail)
    expected = [data_label for _, data_label in (FakeData(9, (3, 4, 4), 3)[index] for index in range(9))]
    assert read_labels(data).tolist() == [int(label) for label in expected]


@pytest.mark.parametrize("name", ["targets", "labels"])
@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"])
def test_listed_labels_are_read_without_decoding_images(name, container):
    data = LabelsOnly(grey(), **{name: container(LABELS)})
    labels = read_labels(data)
    assert (labels.tolist(), labels.dtype) == (LABELS, np.int64)


def test_labels_of_cifar_and_svhn():
    # Made without their files, whose checksums torchvision compares; what is read is what they keep.
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
    # The three items that are compared are among those that may be decoded.
    assert read_labels(subset).tolist() == [2, 1, 2]
    assert read_labels(joined).tolist() == [1, 2, 2, 1, *LABELS, 2, 1, 2]


def test_listed_labels_with_a_target_transform_are_read_without_decoding_images():
    data = LabelsOnly(grey(), targets=LABELS, target_transform=lambda label: label + 5)
    assert read_labels(data).tolist() == [label + 5 for label in LABELS]


def test_labels_through_random_split():
    data = Items(grey(), targets=LABELS)
    part, _ = random_split(data, [5, 2], generator=make_generator(0))
    assert read_labels(part).tolist() == [LABELS[index] for index in part.indices]


def test_labels_of_tensors():
    images = torch.rand(7, 2, 2, generator=make_generator(0))
    assert read_labels(TensorDataset(images, torch.tensor(LABELS))).tolist() == LABELS
    assert read_labels(TensorDataset(images, torch.tensor(LABELS, dtype=torch.uint8))).tolist() == LABELS


def test_labels_of_a_joined_dataset_half_of_which_lists_them():
    joined = ConcatDataset([Items(grey(), targets=LABELS), Items(grey(3))])
    assert read_labels(joined).tolist() == LABELS + LABELS[:3]


@pytest.mark.parametrize(
    "wrong",
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
def test_labels_that_are_listed_wrongly_are_read_item_by_item(wrong):
    assert read_labels(Items(grey(), targets=wrong)).tolist() == LABELS


def test_target_transforms_are_part_of_the_label():
    data = Items(grey(), targets=LABELS, target_transform=lambda label: 5 - label)
    assert read_labels(data).tolist() == [5 - label for label in LABELS]
    # The wrapper's leaves the three items that are compared as they are, and joins 1 to 0.
    wrapped = Wrapper(Items(grey(), targets=LABELS), target_transform=lambda label: 0 if label == 0 else label)
    assert read_labels(wrapped).tolist() == LABELS
    labels = [0, 1, 0, 0, 1, 1, 0]
    data = Items([(image, label) for (image, _), label in zip(grey(), labels, strict=True)], targets=labels)
    assert read_labels(Wrapper(data, target_transform=lambda label: min(label, 0))).tolist() == [0] * 7


def test_target_transform_of_a_wrapper_that_the_compared_items_do_not_show():
    labels = [0, 3, 1, 0, 3, 2, 0]
    data = Items([(image, label) for (image, _), label in zip(grey(), labels, strict=True)], targets=labels)
    wrapped = Wrapper(data, target_transform=lambda label: {0: 0, 1: 1, 2: 1, 3: 1}[label])
    assert read_labels(wrapped).tolist() == [label for _, label in (wrapped[i] for i in range(7))]


@pytest.mark.parametrize("label", [np.int32(4), np.uint8(4), np.array(4), torch.tensor(4), 4, True, np.bool_(True)])
def test_integers_of_every_kind_are_labels(label):
    labels = read_labels(Items([(torch.zeros(2), label)]))
    assert (labels.tolist(), labels.dtype) == ([int(label)], np.int64)


@pytest.mark.parametrize("label", [1.0, "cat", None, torch.tensor(1.0), torch.tensor([1, 0]), np.float32(1), [1]])
def test_other_labels_are_refused(label):
    data = Items([(torch.zeros(2), 0), (torch.zeros(2), label)])
    with pytest.raises(ValueError, match=r"labels of a dataset are integers, and that of item 1 .*Number the classes"):
        read_labels(data)


def test_float_labels_of_tensors_are_refused():
    with pytest.raises(ValueError, match=r"that of item 0 is 1\.0"):
        read_labels(TensorDataset(torch.zeros(3, 2), torch.ones(3)))


# Raw items


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


# Formats


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [
        ("L", 1, torch.uint8),
        ("LA", 2, torch.uint8),
        ("RGB", 3, torch.uint8),
        ("RGBA", 4, torch.uint8),
        ("I;16", 1, torch.uint16),
        ("1", 1, torch.bool),
    ],
)
def test_png_files_survive_the_round_trip(image_folder, mode, channels, dtype):
    data = image_folder(mode)
    item_format = ItemFormat.of(data[0][0])
    assert (item_format.shape, item_format.dtype, item_format.mode) == ((channels, 6, 5), dtype, mode)
    images = read_images(data, range(6), item_format)
    assert (images.shape, images.dtype) == ((6, channels, 6, 5), dtype)
    for tensor, (original, _) in zip(images, (data[i] for i in range(6)), strict=True):
        returned = item_format.from_tensor(tensor)
        assert (returned.mode, returned.size, returned.tobytes()) == (mode, original.size, original.tobytes())
        # Pillow's own pixels, channels last, are the independent truth of the tensor.
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).squeeze(-1).numpy(), np.asarray(original))


@pytest.mark.parametrize("mode", ["F", "I", "CMYK", "YCbCr", "HSV"])
def test_other_modes_survive_the_round_trip(mode):
    image = Image.fromarray(pixels(4, 3, 3)).convert("CMYK" if mode == "CMYK" else "RGB")
    image = image.convert("L").convert(mode) if mode in "FI" else image.convert(mode)
    item_format = ItemFormat.of(image)
    returned = item_format.from_tensor(item_format.to_tensor(image))
    assert (returned.mode, returned.tobytes()) == (mode, image.tobytes())


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_one_pixel_wide_survive_the_round_trip(mode, size):
    image = Image.fromarray(pixels(8, 8)).convert(mode).resize(size)
    item_format = ItemFormat.of(image)
    assert item_format.shape == (len(mode), *size[::-1])
    assert item_format.from_tensor(item_format.to_tensor(image)).tobytes() == image.tobytes()


def test_palettes_are_refused(image_folder):
    data = image_folder("P")
    assert data[0][0].mode == "P"
    with pytest.raises(ValueError, match=r"mode 'P' has numbers of palette entries.*convert\('RGB'\)"):
        load_source(data)


def test_foreign_byte_order_is_refused():
    with pytest.raises(ValueError, match=r"mode 'I;16B'.*image\.convert\('I'\)"):
        ItemFormat.of(Image.new("I;16B", (3, 3)))


@pytest.mark.parametrize(
    ("image", "container", "shape", "channels_last"),
    [
        (pixels(5, 4), "array", (5, 4), False),
        (pixels(9), "array", (9,), False),
        (pixels(3, 5, 4), "array", (3, 5, 4), False),
        (pixels(5, 4, 3), "array", (3, 5, 4), True),
        (pixels(5, 7, 1), "array", (1, 5, 7), True),
        (pixels(3, 4, 3), "array", (3, 4, 3), False),
        (pixels(5, 4, dtype=np.float64), "array", (5, 4), False),
        (pixels(5, 4, dtype=np.float16), "array", (5, 4), False),
        (pixels(5, 4, dtype=np.int64), "array", (5, 4), False),
        (pixels(5, 4) > 100, "array", (5, 4), False),
        (np.asfortranarray(pixels(5, 4, 3)), "array", (3, 5, 4), True),
        (pixels(5, 4)[::-1], "array", (5, 4), False),
        (torch.from_numpy(pixels(3, 5, 4)), "tensor", (3, 5, 4), False),
        (torch.from_numpy(pixels(5, 4, 3)), "tensor", (5, 4, 3), False),
        (torch.from_numpy(pixels(9)).float(), "tensor", (9,), False),
        (torch.from_numpy(pixels(5, 4)).mT, "tensor", (4, 5), False),
        (tv_tensors.Image(torch.from_numpy(pixels(3, 5, 4))), "tv_tensor", (3, 5, 4), False),
    ],
)
def test_arrays_and_tensors_survive_the_round_trip(image, container, shape, channels_last):
    item_format = ItemFormat.of(image)
    assert (item_format.container, item_format.shape, item_format.channels_last) == (container, shape, channels_last)
    tensor = item_format.to_tensor(image)
    assert type(tensor) is torch.Tensor
    assert tuple(tensor.shape) == shape
    returned = item_format.from_tensor(tensor)
    assert type(returned) is type(image)
    assert returned.dtype == image.dtype
    np.testing.assert_array_equal(np.asarray(returned), np.asarray(image))
    # Whoever changes what he was given does not change what is kept.
    kept = tensor.clone()
    returned[...] = 0
    assert torch.equal(tensor, kept)


def test_read_only_arrays_become_writable_ones():
    image = pixels(5, 4)
    image.setflags(write=False)
    item_format = ItemFormat.of(image)
    assert item_format.from_tensor(item_format.to_tensor(image)).flags.writeable


def test_tensors_that_require_a_gradient_are_detached():
    images = torch.rand(4, 3, 3, generator=make_generator(0)).requires_grad_()
    data = TensorDataset(images, torch.tensor([0, 1, 0, 1]))
    read = read_images(data, [1, 3], ItemFormat.of(data[0][0]))
    assert not read.requires_grad
    assert torch.equal(read, images[[1, 3]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("a.png", r"it is a str\. Wrap"),
        (None, "it is a NoneType"),
        ([[1, 2]], "it is a list"),
        (np.array([["a"]]), "its type is <U1.*astype"),
        (np.array([[None]]), "its type is object"),
        (pixels(3, 3).astype(">i4"), r"its type is >i4.*astype"),
        (np.ones((2, 2), dtype=complex), r"real numbers, and it has shape \(2, 2\) of torch\.complex128"),
        (torch.ones(2, 3, 4, 5), r"it has shape \(2, 3, 4, 5\)"),
        (torch.tensor(1.0), r"it has shape \(\)"),
        (torch.ones(3, 0, 4), r"it has shape \(3, 0, 4\)"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        ItemFormat.of(image)


# Errors of datasets


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


def test_sparse_matrix_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match=r"sparse.*X\.toarray\(\)"):
        load_source(csr_array(np.eye(3)), [0, 1, 0])


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset is empty"):
        read_labels(Items([]))


def test_labels_beside_a_dataset_are_refused():
    with pytest.raises(ValueError, match=r"brings its labels with it.*fit\(dataset\)"):
        load_source(Items(grey()), LABELS)


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


def read_all(items):
    labels, read = load_source(Items(items))
    return read(range(len(labels)))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Image.new("L", (9, 5)), r"one shape, and item 1 has shape \(1, 5, 9\) where item 0 has \(1, 5, 4\).*Resize"),
        (Image.new("1", (4, 5)), r"one mode, and item 1 has mode 1 where item 0 has L"),
        (np.zeros((1, 5, 4), dtype=np.uint8), r"one mode, and item 1 has mode None where item 0 has L"),
    ],
)
def test_images_that_differ_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        read_all([grey()[0], (second, 1)])


def test_types_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"one type, and item 1 has type array of torch\.float64 .*tensor of torch\.f"):
        read_all([(torch.zeros(1, 2, 2), 0), (np.zeros((1, 2, 2)), 1)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    images = torch.zeros(4, 3)
    images[2, 1] = value
    with pytest.raises(ValueError, match=r"finite, and item 2 holds NaN or infinity\. Remove"):
        read_all(list(zip(images, range(4), strict=True)))
    with pytest.raises(ValueError, match=r"finite, and image 2 of X holds NaN or infinity"):
        image_array(images)


def test_types_without_a_counterpart_in_numpy_are_refused():
    images = torch.zeros(2, 3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"X is of torch\.bfloat16\. Convert it: X\.float\(\)"):
        image_array(images)
    with pytest.raises(ValueError, match=r"item 0 is of torch\.bfloat16\. Convert it"):
        read_all(list(zip(images, range(2), strict=True)))


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


@pytest.mark.parametrize("read", [read_labels, lambda data: read_images(data, range(4), ItemFormat.of(data[0][0]))])
def test_item_that_does_not_come_is_named(read, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.05)

    class Waits(Items):
        def __getitem__(self, index):
            deadline = time.monotonic() + 20
            while index == 2 and not heard and time.monotonic() < deadline:
                time.sleep(0.01)
            return super().__getitem__(index)

    with pytest.warns(UserWarning, match=r"Item 2 of the dataset has not come for 0\.05 seconds") as heard:
        read(Waits([(torch.zeros(1, 2, 2), 0) for _ in range(4)]))
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(timeout=0.2)
    # Nothing more is said of what has come.
    assert {str(one.message)[:6] for one in heard} == {"Item 2"}


def test_class_names():
    assert class_names(SimpleNamespace(classes=("a", "b"))) == {0: "a", 1: "b"}
    assert class_names(Items(grey())) is None
    named, other = Items(grey(), classes=["a", "b"]), Items(grey(), classes=["b", "a"])
    assert class_names(ConcatDataset([named, Subset(named, [0])])) == {0: "a", 1: "b"}
    assert class_names(ConcatDataset([named, other])) is None


# Arrays


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int8, np.int64, np.float16, np.float32, np.float64, bool])
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (5, 4, 6), (5, 7)], ids=str)
def test_arrays_of_every_type(kind, shape):
    X = (pixels(*shape) % 2).astype(kind)
    images = image_array(X)
    assert images.numpy().dtype == X.dtype
    np.testing.assert_array_equal(images.numpy(), X)
    assert torch.equal(image_array(images), images)


def test_arrays_wherever_their_values_lie(tmp_path):
    X = pixels(6, 5, 4)
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.setflags(write=False)
    for same in (
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        read_only,
        np.asfortranarray(X),
        X[::-1][::-1],
        X.tolist(),
        list(X),
        list(torch.from_numpy(X)),
        torch.from_numpy(X.copy()).mT.contiguous().mT,
        torch.from_numpy(X.copy()).double().requires_grad_(),
    ):
        images = image_array(same)
        assert not images.requires_grad
        np.testing.assert_array_equal(images.numpy(), X)
    labels, read = load_source(read_only, [0] * 4 + [1] * 2)
    np.testing.assert_array_equal(read(np.flatnonzero(labels)).numpy(), X[4:])


def test_arrays_that_can_be_written_to_are_not_copied(tmp_path):
    X = pixels(6, 5, 4)
    assert np.shares_memory(image_array(X).numpy(), X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    assert np.shares_memory(image_array(mapped).numpy(), mapped)
    backwards, read_only = X[::-1], np.load(tmp_path / "X.npy", mmap_mode="r")
    assert torch.equal(image_array(backwards), torch.from_numpy(backwards.copy()))
    assert torch.equal(image_array(read_only), torch.from_numpy(X))


def test_arrays_of_objects_are_those_of_their_numbers():
    X = np.array([[1, 2.5], [True, -3]], dtype=object)
    assert torch.equal(image_array(X), torch.tensor([[1, 2.5], [1, -3]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((4, 8, 8, 3)), r"\(4, 8, 8, 3\) the channels seem to be last.*X\.transpose\(0, 3, 1, 2\)"),
        (torch.zeros(4, 8, 8, 1), r"X\.permute\(0, 3, 1, 2\)"),
        (np.array([["a"]]), "cannot be read as one"),
        (np.array([["a", 1]], dtype=object), "cannot be read as one: could not convert string to float: 'a'"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "all images of one size, and it cannot be read as one"),
        (np.zeros((2, 3), dtype=complex), "Complex data not supported"),
        (np.zeros((0, 3)), r"empty: its shape is \(0, 3\)"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\)"),
        ([], r"shape \(0,\)"),
        (np.zeros(5), r"\(N, F\), and it has shape \(5,\).*Add the missing axis"),
        (np.zeros((1, 1, 1, 1, 1)), r"shape \(1, 1, 1, 1, 1\)"),
        (np.float64(3), r"shape \(\)"),
    ],
)
def test_other_arrays_are_refused(X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        load_source(X, [0])


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
        ([0, 1], r"shape \(3,\), and it has shape \(2,\)"),
        (np.eye(3), r"shape \(3, 3\)\. One-hot labels become such by y\.argmax\(1\)"),
        ([0.5, 1, 2], r"of float64, beginning with \[0\.5"),
        ([float("nan"), 1, 2], "of float64"),
        ([1e300, 1, 2], "of float64"),
        ([None, 1, 2], "of object.*LabelEncoder"),
        ([b"a", b"b", b"c"], r"of \|S1"),
        ([1j, 1, 2], "of complex128"),
    ],
)
def test_other_labels_of_arrays_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        label_array(y, 3)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_classes_are_read_in_parts(at_once, monkeypatch):
    monkeypatch.setattr("gae_augment.data.reading.READ_AT_ONCE", at_once)
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
