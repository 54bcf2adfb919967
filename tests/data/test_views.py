r"""Datasets of classes that are not known: every item is right, or the dataset is refused before any training."""

import dataclasses
import functools
import shelve
import threading
from collections import Counter, namedtuple

import datasets
import numpy as np
import pytest
import torch
from checked import assert_augments_as_it_should
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets.vision import VisionDataset
from torchvision.transforms import v2

from gae_augment import AugmentedDataset
from gae_augment._utils.seeding import make_generator
from gae_augment.data import DatasetView, ImageDataset, class_names
from gae_augment.data.transforms import DIFFERENT_TRANSFORMS
from gae_augment.integrations.huggingface import HuggingFaceImages

N = 24
PIXELS = torch.randint(0, 256, (N, 1, 6, 6), dtype=torch.uint8, generator=make_generator("views"))
LABELS = [0] * 9 + [1] * 5 + [2] * 7 + [3] * 3


def halve(image):
    return image.float() / 2


class Base(Dataset):
    r"""Pairs of pixels and label, with a transform where the class or the object has one."""

    transform = None

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.image(index), LABELS[index]

    def image(self, index):
        return PIXELS[index].clone() if self.transform is None else self.transform(PIXELS[index].clone())


class Attribute(Base):
    def __init__(self, transform=halve):
        self.transform = transform


class Static(Base):
    transform = staticmethod(halve)


class Method(Base):
    factor = 0.5

    def transform(self, image):
        return image * self.factor


class Property(Base):
    @property
    def transform(self):
        return halve


@dataclasses.dataclass(frozen=True)
class Frozen(Base):
    transform: object = halve


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    transform: object = halve

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.transform(PIXELS[index]), LABELS[index]


class NormalisedAfterwards(Attribute):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image - 30) / 40, label


class ClonedAfterwards(Attribute):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image.clone(), label


class PreparedBefore(Attribute):
    def image(self, index):
        return self.transform(PIXELS[index].flip(-1))


class AppliedTwice(Attribute):
    def image(self, index):
        return self.transform(self.transform(PIXELS[index]))


class InPlace(Base):
    def __init__(self):
        self.transform = lambda image: image.floor_divide_(2)


class OnlyEvenItems(Attribute):
    def image(self, index):
        return self.transform(PIXELS[index]) if index % 2 else PIXELS[index].float()


class OfTheItem(Base):
    r"""A transform that depends on the item that is read."""

    def __init__(self):
        self.position, self.transform = 0, lambda image: image + self.position

    def image(self, index):
        self.position = index
        return self.transform(PIXELS[index])


class Keyword(Base):
    r"""As with albumentations."""

    def __init__(self):
        self.transform = lambda *, image: {"image": image.float() / 2}

    def image(self, index):
        return self.transform(image=PIXELS[index])["image"]


class Sample(Base):
    def __init__(self):
        self.transform = lambda sample: {**sample, "image": sample["image"].float() / 2}

    def __getitem__(self, index):
        sample = self.transform({"image": PIXELS[index], "label": LABELS[index]})
        return sample["image"], sample["label"]


class SampleWithPath(Sample):
    def __getitem__(self, index):
        sample = self.transform({"image": PIXELS[index], "label": LABELS[index], "path": f"{index}.png"})
        return sample["image"], sample["label"]


class Joint(Base):
    def __init__(self):
        self.transforms = lambda image, label: (image.float() / 2, label)

    def __getitem__(self, index):
        return self.transforms(PIXELS[index], LABELS[index])


class Standard(VisionDataset):
    def __init__(self):
        super().__init__("", transform=halve, target_transform=lambda label: label * 2)

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.transforms(PIXELS[index], LABELS[index])


class ListOfTransforms(Base):
    def __init__(self):
        self.transform = [halve, torch.Tensor.round]

    def image(self, index):
        return functools.reduce(lambda image, transform: transform(image), self.transform, PIXELS[index])


class Flag(Base):
    def __init__(self):
        self.transform = True

    def image(self, index):
        return halve(PIXELS[index]) if self.transform else PIXELS[index]


class Cached(Attribute):
    def __init__(self):
        super().__init__()
        self.cache = {}

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = super().__getitem__(index)
        return self.cache[index]


class CachedByTheClass(Cached):
    shared: dict = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        del self.cache

    @property
    def cache(self):
        return self.shared

    @cache.setter
    def cache(self, cache):
        pass

    @cache.deleter
    def cache(self):
        self.shared.clear()


class CachedBeforeTheTransform(Attribute):
    def __init__(self):
        super().__init__()
        self.cache = {}

    def image(self, index):
        return self.transform(self.cache.setdefault(index, PIXELS[index].clone()))


class LeastRecentlyUsed(Attribute):
    @functools.cache  # noqa: B019
    def __getitem__(self, index):
        return super().__getitem__(index)


class Wrapper(Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


class InMemory(Wrapper):
    def __init__(self, dataset):
        super().__init__(dataset)
        self.items = [dataset[index] for index in range(len(dataset))]

    def __getitem__(self, index):
        return self.items[index]


class Merged(Wrapper):
    def __getitem__(self, index):
        image, label = self.dataset[index]
        return image, min(int(label), 2)


class Noisy(Wrapper):
    r"""One label is wrong, once and for all."""

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return image, 3 if index == 4 else label


class Reversed(Wrapper):
    def __getitem__(self, index):
        return self.dataset[len(self) - 1 - index]


class Delegating(Wrapper):
    def __getattr__(self, name):
        return getattr(self.dataset, name)


class DelegatingProperty(Wrapper):
    @property
    def transform(self):
        return self.dataset.transform

    @transform.setter
    def transform(self, transform):
        self.dataset.transform = transform


class TransformedAgain(Wrapper):
    def __init__(self, dataset):
        super().__init__(dataset)
        self.transform = lambda image: image + 1

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return self.transform(image), label


class BetweenTwoTransforms(TransformedAgain):
    def __getitem__(self, index):
        image, label = self.dataset[index]
        return self.transform(image.flip(-1)), label


class AnotherName(Dataset):
    def __init__(self, dataset):
        self.inner = dataset

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


class Closing(Attribute):
    r"""Its end closes what a copy would share."""

    def __init__(self):
        super().__init__()
        self.file = [True]

    def image(self, index):
        assert self.file[0], "the file is closed"
        return super().image(index)

    def __del__(self):
        self.file[0] = False


class Locked(Attribute):
    r"""Cannot be pickled or copied deeply."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def image(self, index):
        with self.lock:
            return super().image(index)


class SubclassOfTensors(TensorDataset):
    transform = staticmethod(halve)

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return self.transform(image), label


class Listed(Attribute):
    def __init__(self, targets):
        super().__init__()
        self.targets = targets


class ListOfPairs(list):
    pass


Pair = namedtuple("Pair", "image label")


class NamedPairs(Attribute):
    def __getitem__(self, index):
        return Pair(*super().__getitem__(index))


def hugging_face(transform=None, later=None):
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b", "c", "d"]))
    pictures = [Image.fromarray(pixels[0].numpy()) for pixels in PIXELS]
    rows = datasets.Dataset.from_dict({"image": pictures, "label": LABELS}, features=features)
    images = HuggingFaceImages(rows, transform=transform)
    if later is not None:
        images.transform = later
    return images


class Rows(Dataset):
    r"""Rows of Hugging Face, which its own transform changes as a batch."""

    def __init__(self):
        self.rows = hugging_face().dataset.with_transform(
            lambda rows: {**rows, "image": [v2.functional.to_image(image).float() / 2 for image in rows["image"]]}
        )

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]["image"], self.rows[index]["label"]


def tensors(transform=None):
    data = TensorDataset(PIXELS, torch.tensor(LABELS))
    if transform is not None:
        # Has no effect on the items.
        data.transform = transform
    return data


DATASETS = {
    **{
        cls.__name__: cls
        for cls in [
            *(Attribute, Static, Method, Property, Frozen, Slots, NormalisedAfterwards, ClonedAfterwards, Locked),
            *(PreparedBefore, AppliedTwice, InPlace, OnlyEvenItems, OfTheItem, Keyword, Sample, SampleWithPath, Joint),
            *(Standard, ListOfTransforms, Flag, Cached, CachedByTheClass, CachedBeforeTheTransform, LeastRecentlyUsed),
            *(Closing, NamedPairs),
        ]
    },
    **{
        f"{cls.__name__} around {inner.__name__}": lambda cls=cls, inner=inner: cls(inner())
        for cls in [
            *(Wrapper, InMemory, Merged, Noisy, Reversed, Delegating, DelegatingProperty, TransformedAgain),
            *(BetweenTwoTransforms, AnotherName),
        ]
        for inner in (Attribute, Cached)
    },
    "rows of Hugging Face": hugging_face,
    "rows of Hugging Face with a transform": lambda: hugging_face(v2.ToImage()),
    "rows of Hugging Face with a transform that was assigned": lambda: hugging_face(later=v2.ToImage()),
    "rows of Hugging Face that transform themselves": Rows,
    "a transform without effect": lambda: tensors(halve),
    "a subclass of TensorDataset": lambda: SubclassOfTensors(PIXELS, torch.tensor(LABELS)),
    "a list": lambda: ListOfPairs(zip(PIXELS, LABELS, strict=True)),
    "listed labels that are right": lambda: Listed(LABELS),
    "listed labels that are wrong": lambda: Listed(LABELS[::-1]),
    "listed labels as floats": lambda: Listed(np.array(LABELS, dtype=np.float32)),
    "listed labels as a column": lambda: Listed(torch.tensor(LABELS)[:, None]),
    "listed labels as text": lambda: Listed([f"class {label}" for label in LABELS]),
    "a subset": lambda: Subset(Merged(Attribute()), torch.tensor([3, 20, 3, 11, 0, 15])),
    "joined": lambda: ConcatDataset([Attribute(), Merged(Attribute()), Subset(Static(), [22, 1, 10])]),
    "a transform of torchvision": lambda: Attribute(v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.RGB()])),
    "separate arguments": lambda: ImageDataset(Noisy(Attribute()), transform=lambda image: image + 1),
}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_every_item_is_right(name):
    assert_augments_as_it_should(DATASETS[name]())


@pytest.mark.parametrize(
    ("dataset", "transforms"),
    [
        (Attribute, 1),
        (Static, 1),
        (Method, 1),
        (Frozen, 1),
        (AppliedTwice, 2),
        (Keyword, 1),
        (Sample, 1),
        (Joint, 1),
        (Standard, 1),
        (CachedBeforeTheTransform, 1),
        (lambda: TransformedAgain(Attribute()), 2),
        (lambda: BetweenTwoTransforms(Attribute()), 1),
        (lambda: AnotherName(Wrapper(Attribute())), 1),
        (NormalisedAfterwards, 0),
        (ClonedAfterwards, 0),
        (SampleWithPath, 0),
        (Cached, 0),
        (OfTheItem, 0),
        (OnlyEvenItems, 0),
        (lambda: Delegating(Attribute()), 1),
    ],
)
def test_transforms_are_found_where_they_give_the_image_of_the_item(dataset, transforms):
    assert len(DatasetView(dataset()).transforms) == transforms


def test_many_classes_are_observed_within_little_memory(monkeypatch):
    monkeypatch.setattr("gae_augment.data.observation.MAX_KEPT", 2)
    assert len(DatasetView(Attribute()).transforms) == 1
    assert DatasetView(OfTheItem()).transforms == []
    assert DatasetView(NormalisedAfterwards()).transforms == []


def test_random_transforms_are_drawn_anew():
    data = Attribute(v2.RandomErasing(p=1))
    augmented = assert_no_error(data)
    for index in (0, N):
        first, second = augmented[index][0], augmented[index][0]
        assert not torch.equal(first, second)
        assert (first == 0).sum() > (PIXELS[0] == 0).sum()


def assert_no_error(data):
    class Source:
        seed_, sampling_strategy = 0, "auto"

        def sample(self, label, n, *, seed=None, out=None):
            return PIXELS[: len(out)]

    return AugmentedDataset(data, Source(), images_to_add={1: 3})


def test_a_transform_that_is_assigned_later_counts():
    data = Attribute()
    augmented = assert_no_error(data)
    data.transform = lambda image: image + 1
    assert torch.equal(augmented[0][0], PIXELS[0] + 1)
    assert torch.equal(augmented[N][0], PIXELS[0] + 1)
    assert torch.equal(DatasetView(data).raw_image(3), PIXELS[3])


def test_label_that_changes_after_the_start_is_an_error():
    class Drifting(Base):
        labels = LABELS

        def __getitem__(self, index):
            return self.image(index), self.labels[index]

    data = Drifting()
    augmented = assert_no_error(data)
    data.labels = LABELS[::-1]
    with pytest.raises(ValueError, match=r"Item 0 of the dataset has label 3, but had or listed label 0"):
        augmented[0]


def test_item_that_is_not_transformed_like_the_observed_ones_is_an_error():
    class Seldom(Base):
        def __init__(self):
            self.transform = halve

        def __len__(self):
            return 100

        def __getitem__(self, index):
            image = PIXELS[index % N]
            return image if index == 7 else self.transform(image), index % 2

    view = DatasetView(Seldom())
    with pytest.raises(ValueError, match=r"Item 7 of the dataset is not transformed like other .*ImageDataset\(raw"):
        view.raw_image(7)


def test_caches_on_disk_receive_the_usual_items(tmp_path):
    class Shelved(Attribute):
        def __getitem__(self, index):
            with shelve.open(str(tmp_path / "cache")) as cache:
                if str(index) not in cache:
                    cache[str(index)] = super().__getitem__(index)
                return cache[str(index)]

    data = Shelved()
    view = DatasetView(data)
    for index in range(N):
        view.raw_image(index)
        assert torch.equal(data[index][0], halve(PIXELS[index]))


def test_reading_of_items_is_repeatable():
    r"""Random numbers of the dataset's own code depend on the item alone."""

    class Jittered(Base):
        def image(self, index):
            return PIXELS[index] + torch.rand(1, 6, 6)

    first, second = DatasetView(Jittered()), DatasetView(Jittered())
    assert torch.equal(first.raw_image(5), second.raw_image(5))
    assert not torch.equal(first.raw_image(5) - PIXELS[5], first.raw_image(6) - PIXELS[6])


def test_endless_getattr_is_no_obstacle():
    class Endless(Wrapper):
        def __getattr__(self, name):
            # Without an attribute 'dataset', as in an unpickled copy, this calls itself.
            return getattr(self.dataset, name)

    assert_augments_as_it_should(Endless(Attribute()))
    assert class_names(Endless(Attribute())) is None


# Separate arguments


def test_separate_arguments_switch_all_guesses_off():
    class Odd(Base):
        targets = LABELS[::-1]

        def __init__(self):
            self.transform = halve

    data = ImageDataset(Odd(), labels=[5 * label for label in LABELS], classes=["a"] * 16)
    view = DatasetView(data)
    assert view.trusted
    assert view.transforms == []
    assert view.labels.tolist() == [5 * label for label in LABELS]
    assert torch.equal(view.raw_image(2), halve(PIXELS[2]))
    assert class_names(data)[15] == "a (15)"
    assert ImageDataset(Base()).targets == LABELS
    assert ImageDataset(PIXELS, labels=LABELS)[3][1] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"raw": iter(())}, TypeError, "map-style"),
        ({"raw": PIXELS, "labels": LABELS[1:]}, ValueError, r"'y' has shape \(23,\)"),
        ({"raw": PIXELS, "labels": ["cat"] * N}, ValueError, r"'labels' begins with 'cat', but must be integers"),
        ({"raw": PIXELS[:0], "labels": []}, ValueError, "empty"),
    ],
)
def test_unsuitable_separate_arguments_are_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        ImageDataset(**arguments)


# Compositions at random

INNER = [Base, Attribute, Static, Method, Cached, CachedBeforeTheTransform, Joint, Standard, tensors, Keyword]
INNER += [NormalisedAfterwards, OnlyEvenItems, InPlace, functools.partial(Listed, LABELS), Frozen, Property, Sample]
OUTER = [Wrapper, InMemory, Merged, Noisy, Reversed, Delegating, DelegatingProperty, TransformedAgain]
OUTER += [BetweenTwoTransforms, AnotherName]
OUTER += [lambda data: Subset(data, [*range(1, len(data), 2), 0]), lambda data: ConcatDataset([data, Reversed(data)])]
OUTER += [lambda data: ConcatDataset([data, data]), lambda data: ImageDataset(data, transform=lambda image: image * 2)]


@pytest.mark.parametrize("examples", [80, pytest.param(3000, marks=pytest.mark.slow)])
def test_compositions_are_right_or_refused(examples):
    outcomes = Counter()

    @settings(
        deadline=None, derandomize=True, database=None, max_examples=examples, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(INNER), st.lists(st.sampled_from(OUTER), max_size=4))
    def check(inner, outer):
        data = functools.reduce(lambda data, wrap: wrap(data), outer, inner())
        try:
            DatasetView(data).transforms  # noqa: B018
        except ValueError as error:
            outcomes[str(error)] += 1
            return
        assert_augments_as_it_should(data)
        outcomes["right"] += 1

    check()
    assert outcomes["right"] > 0.8 * examples
    assert set(outcomes) <= {"right", DIFFERENT_TRANSFORMS}


@pytest.mark.parametrize(
    "plant",
    [
        lambda augmented: augmented.targets.__setitem__(2, 3),
        lambda augmented: augmented.targets.__setitem__(N + 1, 3),
        lambda augmented: setattr(augmented, "_same_transforms", False),
        lambda augmented: augmented._view.dataset.__dict__.update(transform=lambda image: image + 1),
    ],
    ids=["real label", "synthetic label", "no transform", "another transform"],
)
def test_comparison_notices_planted_faults(monkeypatch, plant):
    initialise = AugmentedDataset.__init__

    def faulty(self, *arguments, **options):
        initialise(self, *arguments, **options)
        plant(self)

    monkeypatch.setattr(AugmentedDataset, "__init__", faulty)
    with pytest.raises((AssertionError, ValueError)):
        assert_augments_as_it_should(Attribute())
