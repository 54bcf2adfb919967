r"""Observation of a dataset of an unknown class: which transforms turn a raw image into the image of an item."""

__all__ = ["Observation", "observe"]

import copy
import random
import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset

from .._utils.seeding import global_seed
from .formats import ItemFormat
from .items import ItemReader, loaded
from .labels import ends_of_classes
from .transforms import Form, StandIn, TransformSlot, copy_with_transforms, different

MAX_CALLS = 100
"""The maximum number of calls in other threads that are kept while an item is read."""

READINGS = 8
"""The number of readings of an item that show whether it changes. A random flip shows in all but 1 of 128 cases."""

MAX_KEPT = 64
"""The maximum number of observed items that are kept in memory."""


@dataclass(frozen=True)
class _Call:
    r"""A call of a transform.

    Attributes:
        slot: The transform, with the form of this call.
        image: The image that was passed.
        label: The label that was passed, or ``None``.
        before: A copy of the image from before the call, since transforms may work in place.
        result: The image that was returned.
        after: A copy of it from the end of the call, since the dataset may change it afterwards.
        random_state: The states of the global random generators before the call.
        thread: The identifier of the thread of the call.
    """

    slot: TransformSlot
    image: Any
    label: Any
    before: Any
    result: Any
    after: Any
    random_state: tuple[Any, ...]
    thread: int

    def repeats(self, label: int) -> bool:
        r"""Returns whether the transform, called as for a synthetic image, gives the same image again.

        A synthetic image has the pixels and the type of a raw image, but no other attribute, and an integer as label.
        The random generators are in the state of the first call. If two such calls differ, the transform has random
        numbers of its own, and cannot be compared.
        """
        if self.label is not None and not _equal(_as_integer(self.label), label):
            return False
        try:
            item_format = ItemFormat.of(self.before)
            results = []
            for _ in range(2):
                image = item_format.from_tensor(item_format.to_tensor(self.before))
                with global_seed(0):
                    _set_random_state(self.random_state)
                    results.append(self.slot(image, label))
        except Exception:
            # User code, which may need what only real images have.
            return False
        first, second = results
        return _equal(first, self.after) if _equal(first, second) else type(first) is type(self.after)


class _Recorder(StandIn):
    r"""Calls the transform, and appends each call to a list."""

    def __init__(self, slot: TransformSlot, calls: list[_Call]) -> None:
        super().__init__(slot)
        self.calls = calls

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        form, image, label = _form_of(arguments, keywords)
        before, state = _copied(image), _random_state()
        result = self.slot.function(*arguments, **keywords)
        if form is not None:
            returned = _image_of(form, result)
            slot = replace(self.slot, form=form)
            thread = threading.get_ident()
            self.calls.append(_Call(slot, image, label, before, returned, _copied(returned), state, thread))
        return result


@dataclass(frozen=True)
class _Observed:
    r"""An item, and the calls of transforms that lead to its image."""

    image: Any
    label: Any
    chain: tuple[_Call, ...]

    @property
    def slots(self) -> list[TransformSlot]:
        return [call.slot for call in self.chain]

    @property
    def raw_image(self) -> Any:
        return self.chain[0].before if self.chain else self.image

    def repeats(self) -> bool:
        r"""Returns whether all calls give the same image again."""
        return all(call.repeats(_as_integer(self.label)) for call in self.chain)


class Observation:
    r"""The transforms of a dataset of an unknown class, found by reading some items.

    Items are read through a shallow copy of the dataset that records all calls of its attributes ``transform`` and
    ``transforms``. The recorded transforms return what those of the dataset return, so that caches receive the usual
    items. A call counts if its result is the image of the item, or goes straight into a call that counts, and if the
    same call with a synthetic image in place of the real one would give the same result. If calls that count differ
    between items, none counts.

    Args:
        dataset: A map-style dataset.
        indices: The indices of the items to observe.

    Attributes:
        chains: The transforms of each observed item, in the order in which they are applied. They differ only between
            joined datasets.

    Raises:
        ValueError: If an item cannot be read.
    """

    def __init__(self, dataset: Any, indices: Iterable[int]) -> None:
        self._calls: list[_Call] = []
        self._items = ItemReader(copy_with_transforms(dataset, lambda slot: _Recorder(slot, self._calls)))
        self.chains = self._common_transforms(dataset, list(indices))
        if self.chains == [[]]:
            # The items themselves are read from now on.
            self._items = ItemReader(dataset)

    def _common_transforms(self, dataset: Any, indices: list[int]) -> list[list[TransformSlot]]:
        none: list[list[TransformSlot]] = [[]]
        original = ItemReader(dataset)
        kept: list[_Observed] = []
        chains: list[list[TransformSlot]] = []
        for index in indices:
            with global_seed(index):
                expected = original[index]
            try:
                item = self.read(index)
            except ValueError:
                return none
            if not _equal(expected, (item.image, item.label)):
                with global_seed(index):
                    again = original[index]
                # Items that differ every time cannot be compared.
                if _equal(expected, again):
                    return none
            chains.append(item.slots)
            if len(kept) < MAX_KEPT:
                kept.append(item)
            elif not item.repeats():
                return none
        # Only now, since a transform may depend on the item that was read last.
        if not all(item.repeats() for item in kept):
            return none
        # A cache may return an item without any call when it is read again.
        cached = different([chains[0], self.read(indices[0]).slots])
        joined = isinstance(dataset, ConcatDataset)
        return none if cached or (different(chains) and not joined) else chains

    def read(self, index: int, *, seeded: bool = True) -> _Observed:
        r"""Reads an item, with its index as the seed of random numbers, or with those of the global generators."""
        thread = threading.get_ident()
        # A dataset may read other items in threads of its own.
        self._calls[:] = [call for call in self._calls if call.thread != thread][-MAX_CALLS:]
        with global_seed(index) if seeded else nullcontext():
            image, label = self._items[index]
        calls = [call for call in self._calls if call.thread == thread]
        return _Observed(image, label, tuple(_chain(calls, image)))

    def repeats(self, index: int) -> bool:
        r"""Returns whether the raw image of an item is the same in several readings with different random numbers."""
        images = []
        for seed in range(READINGS):
            with global_seed(seed):
                images.append(_copied(self.read(index, seeded=False).raw_image))
        return all(_equal(images[0], image) for image in images[1:])

    def fits(self, item: _Observed) -> bool:
        r"""Returns whether an item is transformed like one of the observed items."""
        return any(not different([chain, item.slots]) for chain in self.chains)


def observe(dataset: Any, labels: np.ndarray) -> Observation:
    r"""Observes the first and the last item of each class, and the first one of each joined dataset."""
    indices = ends_of_classes(labels) | set(np.linspace(0, len(labels) - 1, 8).astype(int).tolist())
    if isinstance(dataset, ConcatDataset):
        indices |= {start for start in (0, *dataset.cumulative_sizes[:-1]) if start < len(dataset)}
    return Observation(dataset, sorted(indices))


def _form_of(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Form | None, Any, Any]:
    r"""Returns the form of a transform's call, its image and its label."""
    if not arguments and keywords.keys() == {"image"}:
        return "image=", keywords["image"], None
    if keywords or not 1 <= len(arguments) <= 2:
        return None, None, None
    first = arguments[0]
    if len(arguments) == 2:
        return "pair", first, arguments[1]
    if isinstance(first, Mapping):
        complete = first.keys() == {"image", "label"}
        return ("sample", first["image"], first["label"]) if complete else (None, None, None)
    return "image", first, None


def _image_of(form: Form, result: Any) -> Any:
    r"""Returns the image in a transform's result, or ``None`` if the result is not of the form."""
    if form == "image":
        return result
    if form == "pair":
        return result[0] if isinstance(result, tuple | list) and len(result) == 2 else None
    return result.get("image") if isinstance(result, Mapping) else None


def _chain(calls: list[_Call], image: Any) -> list[_Call]:
    r"""Returns the calls that lead to the image of an item, each of which gets what the call before returned."""
    chain: list[_Call] = []
    current = image
    for call in reversed(calls):
        if call.result is image and _equal(call.after, current):
            chain.insert(0, call)
            image, current = call.image, call.before
    return chain


def _as_integer(label: Any) -> Any:
    r"""Returns a label as an integer, or unchanged if it is none."""
    if isinstance(label, Tensor | np.ndarray | np.generic) and np.ndim(label) == 0:
        label = label.item()
    return int(label) if isinstance(label, bool | int) else label


def _copied(image: Any) -> Any:
    if isinstance(image, Image.Image):
        return loaded(image).copy()
    try:
        return copy.deepcopy(image)
    except Exception:
        # An object of the user's that cannot be copied is no image.
        return image


def _random_state() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _set_random_state(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])


def _equal(first: Any, second: Any) -> bool:
    r"""Returns whether two items, images or labels are equal. Objects that cannot be compared differ."""
    if type(first) is not type(second):
        return False
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    try:
        if isinstance(first, Tensor):
            if first.dtype != second.dtype or first.shape != second.shape:
                return False
            return bool(((first == second) | ((first != first) & (second != second))).all())
        if isinstance(first, np.ndarray):
            return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
        return bool(first == second)
    except Exception:
        return False
