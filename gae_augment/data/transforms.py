r"""The transforms in a dataset's attributes, and copies of a dataset in which other functions take their place."""

__all__ = [
    "DIFFERENT_TRANSFORMS",
    "Form",
    "Skip",
    "StandIn",
    "TransformSlot",
    "attributes_of",
    "copy_with_transforms",
    "different",
    "has_trusted_type",
    "is_trusted",
    "known_transforms",
    "read_attribute",
    "slots_of",
    "source_datasets",
]

import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from torch.utils.data import ConcatDataset, Dataset
from torchvision.datasets import DatasetFolder
from torchvision.datasets.vision import StandardTransform

TRUSTED_MODULES = ("torch.utils.data.", "torchvision.datasets.", "gae_augment.data.", "gae_augment.integrations.")
"""The packages whose dataset classes apply transforms in a known way."""

READING = {
    *("__getitem__", "__getitems__", "__getattr__", "__getattribute__", "__len__", "dataset", "datasets", "imgs"),
    *(
        "indices",
        "labels",
        "loader",
        "samples",
        "target_transform",
        "targets",
        "tensors",
        "transform",
        "transforms",
        "__del__",
        "__slots__",
    ),
}
"""The names by which the items of a trusted class are read. A subclass that defines one of them is not trusted."""

NAMES = ("transform", "transforms")
"""The attributes that may hold transforms of images."""

Form = Literal["image", "image=", "pair", "sample"]
"""A dataset's way to call a transform: ``f(image)``, ``f(image=image)``, ``f(image, label)`` or ``f(mapping)``."""

DIFFERENT_TRANSFORMS = (
    "The joined datasets have different transforms, so that the one for synthetic images is ambiguous. "
    "Pass 'transform', one for all images."
)


def attributes_of(dataset: Any) -> dict[str, Any]:
    r"""Returns the attributes that a dataset object itself holds, without calling code of its class."""
    try:
        attributes = object.__getattribute__(dataset, "__dict__")
    except AttributeError:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def read_attribute(dataset: Any, name: str) -> Any:
    r"""Returns an attribute of a dataset of any class, or ``None`` if it is missing or cannot be read."""
    try:
        return getattr(dataset, name, None)
    except Exception:
        # User code, such as a property, or __getattr__ without an end.
        return None


def source_datasets(dataset: Any) -> list[Any]:
    r"""Returns the datasets directly inside a dataset: one in a Subset or wrapper, several in a ConcatDataset."""
    attributes = attributes_of(dataset)
    if isinstance(dataset, ConcatDataset):
        return list(attributes["datasets"])
    if _is_dataset(attributes.get("dataset")):
        return [attributes["dataset"]]
    inner = [] if has_trusted_type(dataset) else [value for value in attributes.values() if _is_dataset(value)]
    return inner if len(inner) == 1 else []


def is_trusted(dataset: Any) -> bool:
    r"""Returns whether the class of a dataset reads items, labels and transforms in a known way.

    This holds for the classes of torch, torchvision and this package, and for subclasses that do not change how items
    are read. Datasets inside the dataset must be trusted too.
    """
    return has_trusted_type(dataset) and all(map(is_trusted, source_datasets(dataset)))


def has_trusted_type(dataset: Any) -> bool:
    r"""Returns whether the class of a dataset itself is trusted, whatever the datasets inside it are."""
    reader = getattr(type(dataset), "__getitem__", None)
    if "__getitem__" in attributes_of(dataset) or not getattr(reader, "__module__", "").startswith(TRUSTED_MODULES):
        return False
    for cls in type(dataset).__mro__:
        if cls.__module__.startswith(TRUSTED_MODULES):
            return True
        if READING & vars(cls).keys():
            return False
    return False


def _is_dataset(value: Any) -> bool:
    r"""Returns whether an object is a dataset: of torch, or one that has items and a transform or a dataset inside."""
    if isinstance(value, Dataset):
        return True
    has_items = hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__")
    return has_items and bool({"dataset", *NAMES} & attributes_of(value).keys())


@dataclass(frozen=True)
class TransformSlot:
    r"""A transform in an attribute of a dataset, and the form in which the dataset calls it.

    A slot is a function of a raw image and its label, which returns the transformed image. If the attribute holds
    torchvision's ``StandardTransform``, the slot is the transform of images in it.

    Attributes:
        owner: The dataset.
        name: The name of the attribute.
        form: The form of the call.
    """

    owner: Any
    name: str
    form: Form = "image"

    @property
    def function(self) -> Any:
        r"""The transform that the attribute holds now, or ``None``."""
        value = getattr(self.owner, self.name)
        return value.transform if isinstance(value, StandardTransform) else value

    def __call__(self, image: Any, label: Any) -> Any:
        r"""Returns the transformed image."""
        function = self.function
        if function is None:
            return image
        if self.form == "pair":
            return function(image, label)[0]
        if self.form == "sample":
            return function({"image": image, "label": label})["image"]
        return function(image=image)["image"] if self.form == "image=" else function(image)

    def does_the_same_as(self, other: Self) -> bool:
        r"""Returns whether another slot holds an equal transform.

        Most transforms do not define equality, but equal ones are pickled alike.
        """
        first, second = self.function, other.function
        if first is second:
            return True
        try:
            return bool(first == second) or pickle.dumps(first) == pickle.dumps(second)
        except Exception:
            # User code may define equality in any way, and not all objects can be pickled.
            return False


def different(chains: list[list[TransformSlot]]) -> bool:
    r"""Returns whether lists of transforms differ."""
    return any(
        len(chain) != len(chains[0])
        or any(a.form != b.form or not a.does_the_same_as(b) for a, b in zip(chain, chains[0], strict=True))
        for chain in chains[1:]
    )


def _slot_at(dataset: Any, name: str) -> TransformSlot | None:
    r"""Returns the transform in an attribute, or ``None`` if there is none that a copy of the dataset can replace."""
    if name not in attributes_of(dataset):
        static = inspect.getattr_static(type(dataset), name, None)
        # A property would run code of the class, and takes precedence over an attribute of the copy.
        if not isinstance(static, staticmethod | classmethod) and (
            hasattr(type(static), "__get__") and not inspect.isfunction(static)
        ):
            return None
    elif hasattr(type(inspect.getattr_static(type(dataset), name, None)), "__set__"):
        return None
    slot = TransformSlot(dataset, name)
    if not callable(read_attribute(dataset, name)) or not callable(slot.function):
        return None
    joint = name == "transforms" and not isinstance(getattr(dataset, name), StandardTransform)
    return TransformSlot(dataset, name, "pair") if joint else slot


def _is_list_of_datasets(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_dataset, value))


def copy_with_transforms(
    dataset: Any,
    stand_in: Callable[[TransformSlot], Any],
    parents: tuple[Any, ...] = (),
    *,
    load_with: Callable[[Any], Any] | None = None,
) -> Any:
    r"""Returns a shallow copy of a dataset, and of the datasets inside it, in which transforms are replaced.

    No code of the dataset's class runs. Without anything to replace, or if objects of the class cannot be copied, the
    dataset itself is returned.

    Args:
        dataset: The dataset.
        stand_in: A function that maps a transform to its replacement; ``None`` keeps the transform.
        parents: The datasets around this one.
        load_with: A function that maps the loader of a folder's files to its replacement; ``None`` keeps loaders.
    """
    if any(dataset is parent for parent in parents):
        return dataset
    attributes = attributes_of(dataset)
    changes: dict[str, Any] = {}
    for name in NAMES:
        slot = _slot_at(dataset, name)
        if slot is not None and (function := stand_in(slot)) is not None:
            value = getattr(dataset, name)
            standard = isinstance(value, StandardTransform)
            changes[name] = StandardTransform(function, value.target_transform) if standard else function
    if load_with is not None and isinstance(dataset, DatasetFolder):
        changes["loader"] = load_with(dataset.loader)
    inside = partial(copy_with_transforms, stand_in=stand_in, parents=(*parents, dataset), load_with=load_with)
    for name, value in attributes.items():
        if _is_dataset(value):
            changes[name] = inside(value)
        elif _is_list_of_datasets(value):
            changes[name] = list(map(inside, value))
    if not any(_differ(value, attributes.get(name)) for name, value in changes.items()):
        return dataset
    cls = type(dataset)
    # The end of a copy must not close the files of the dataset, and slots would have to be copied one by one.
    if hasattr(cls, "__del__") or any(vars(base).get("__slots__") for base in cls.__mro__):
        return dataset
    try:
        copied = object.__new__(cls)
    except TypeError:
        # Objects of a class that is implemented in C need its own constructor.
        return dataset
    attributes_of(copied).update({**attributes, **changes})
    return copied


def _differ(value: Any, original: Any) -> bool:
    if _is_list_of_datasets(value):
        return any(map(_differ, value, original))
    return value is not original


def slots_of(dataset: Any) -> list[TransformSlot]:
    r"""Returns the transforms that the attributes of a trusted dataset hold, without those of datasets inside it."""
    code = getattr(type(dataset).__getitem__, "__code__", None)
    # Torchvision's data sets have both attributes, and apply one of them.
    names = [name for name in NAMES if code is None or name in code.co_names]
    return [slot for slot in (_slot_at(dataset, name) for name in names) if slot is not None][:1]


def known_transforms(dataset: Any) -> list[TransformSlot]:
    r"""Returns the transforms that a trusted dataset applies, in the order in which they are applied."""
    chains = [known_transforms(child) for child in source_datasets(dataset)]
    if different(chains):
        raise ValueError(DIFFERENT_TRANSFORMS)
    return (chains[0] if chains else []) + slots_of(dataset)


class StandIn:
    r"""Stands in for a transform, whose attributes it has."""

    def __init__(self, slot: TransformSlot) -> None:
        self.slot = slot

    def __getattr__(self, name: str) -> Any:
        # While a copy is unpickled, it has no slot yet.
        if name == "slot" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.slot.function, name)


class Skip(StandIn):
    r"""Returns the image, or the pair of image and label, unchanged."""

    def __call__(self, *arguments: Any) -> Any:
        r"""Returns the arguments."""
        return arguments if len(arguments) > 1 else arguments[0]
