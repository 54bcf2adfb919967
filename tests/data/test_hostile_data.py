r"""Unusual data: a fit either works, or raises an error of the package before any training."""

import re
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision import tv_tensors

import gae_augment
from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import make_generator

HOME = Path(gae_augment.__file__).parent


def outcome(class_fits, *data):
    r"""Fits and samples; returns ``"works"``, or the message of an error that the package raises before training."""
    class_fits.clear()
    augmenter = GAEAugmenter(
        GenerativeModel(epochs=1, delta=1e6, architecture=(4,), latent_dim=2, n_init=1),
        random_state=0,
        progress=False,
        n_jobs=1,
    )
    try:
        augmenter.fit(*data)
    except (TypeError, ValueError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if HOME not in raised_in.parents or class_fits:
            raise
        return str(error)
    for label, images_to_add in augmenter.sampling_strategy_.items():
        if images_to_add:
            samples = augmenter.sample(label, 2, seed=0)
            assert len(samples) == 2
            # NumPy, because torch does not implement isfinite for wide unsigned types.
            assert np.isfinite(samples.numpy()).all()
    return "works"


def images(*shape, dtype=torch.uint8):
    values = torch.randint(0, 200, shape, generator=make_generator(0))
    return values.to(dtype) if dtype != torch.bool else values > 100


Y = torch.tensor([0] * 9 + [1] * 5)
X = images(14, 1, 6, 6)


class WithTransform(TensorDataset):
    r"""Applies a transform to its images, as the data sets of torchvision do."""

    def __init__(self, images, labels, transform):
        super().__init__(images, labels)
        self.transform = transform

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return self.transform(image), label


class Items(Dataset):
    r"""A dataset of given items; an item that is a function is called when it is read."""

    def __init__(self, items):
        self.items = items

    def __getitem__(self, index):
        item = self.items[index]
        return item() if callable(item) else item

    def __len__(self):
        return len(self.items)


def pictures(mode, size=(6, 6)):
    random = np.random.default_rng(0)

    def picture():
        if mode.startswith("I;16"):
            return Image.frombytes(mode, size, random.integers(0, 60000, size[::-1], dtype=np.uint16).tobytes())
        values = random.integers(0, 255, (*size[::-1], 4), dtype=np.uint8)
        return Image.fromarray(values, "RGBA").convert(mode if mode not in ("La", "PA") else "LA").convert(mode)

    return Items([(picture(), int(label)) for label in Y])


def failing(index, error):
    items = [(X[i], int(Y[i])) for i in range(14)]

    def fail():
        raise error

    items[index] = fail
    return Items(items)


def with_item(index, item):
    items = [(X[i], int(Y[i])) for i in range(14)]
    items[index] = item
    return Items(items)


def read_only(array):
    array.flags.writeable = False
    return array


WORKS = {
    "one pixel": lambda: (images(14, 1, 1, 1), Y),
    "one feature": lambda: (images(14, 1), Y),
    "very wide": lambda: (images(14, 1, 1, 500), Y),
    "very high": lambda: (images(14, 3, 300, 2), Y),
    "five channels": lambda: (images(14, 5, 6, 6), Y),
    "two images": lambda: (X[7:11], Y[7:11]),
    "constant images": lambda: (torch.full((14, 1, 6, 6), 7, dtype=torch.uint8), Y),
    "duplicates": lambda: (X[:1].expand(14, 1, 6, 6), Y),
    "one pixel that varies": lambda: (torch.eye(14, 36)[:1].expand(14, 36) * Y[:, None], Y),
    "huge values": lambda: (X.double() * 1e100, Y),
    "huge and constant": lambda: (torch.full((14, 3), -1e300, dtype=torch.float64), Y),
    "tiny values": lambda: (X.double() * 1e-200, Y),
    "huge and tiny": lambda: (torch.where(X > 100, 1e30, 1e-30), Y),
    "bool": lambda: (images(14, 6, 6, dtype=torch.bool), Y),
    "float16": lambda: (images(14, 6, 6, dtype=torch.float16) / 255, Y),
    "float64": lambda: (images(14, 6, 6, dtype=torch.float64) / 255, Y),
    "int16": lambda: (images(14, 6, 6, dtype=torch.int16) - 100, Y),
    "uint16": lambda: (images(14, 6, 6, dtype=torch.int32).to(torch.uint16), Y),
    "int64": lambda: (images(14, 6, 6, dtype=torch.int64), Y),
    "not contiguous": lambda: (images(6, 6, 14).permute(2, 0, 1), Y),
    "negative strides": lambda: (X.numpy()[:, :, ::-1], Y.numpy()),
    "Fortran order": lambda: (np.asfortranarray(X.numpy()), Y.numpy()),
    "read-only": lambda: (read_only(X.numpy().copy()), Y.numpy()),
    "big-endian": lambda: (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "requires grad": lambda: (X.float().requires_grad_(), Y),
    "nested lists": lambda: (X.tolist(), Y.tolist()),
    "data frame": lambda: (pd.DataFrame(X.flatten(1).numpy()), pd.Series(Y.numpy())),
    "labels as text": lambda: (X, np.array(["b", "a"])[Y]),
    "labels as objects": lambda: (X, np.array(["b", "a"], dtype=object)[Y]),
    "negative labels": lambda: (X, Y - 5),
    "sparse labels": lambda: (X, Y * 1_000_000_007),
    "uint8 labels": lambda: (X, Y.to(torch.uint8)),
    "Boolean labels": lambda: (X, Y.bool()),
    "labels as a column": lambda: (X.flatten(1), pd.DataFrame({"y": Y.numpy()})["y"]),
    **{f"{n} classes": lambda n=n: (images(2 * n + 10, 4), torch.arange(2 * n + 10) % n) for n in (200, 1000)},
    "tensor dataset": lambda: (TensorDataset(X, Y),),
    "subset": lambda: (Subset(TensorDataset(X, Y), [0, 2, 4, 9, 10]),),
    "joined datasets": lambda: (ConcatDataset([TensorDataset(X, Y), TensorDataset(X, Y)]),),
    "tv_tensors": lambda: (Items([(tv_tensors.Image(x), int(y)) for x, y in zip(X, Y, strict=True)]),),
    "arrays with channels last": lambda: (
        Items([(x.permute(1, 2, 0).expand(6, 6, 3).numpy(), int(y)) for x, y in zip(X, Y, strict=True)]),
    ),
    "items as lists": lambda: (Items([[x, int(y)] for x, y in zip(X, Y, strict=True)]),),
    "labels as tensors": lambda: (Items(list(zip(X, Y, strict=True))),),
    "NumPy labels": lambda: (Items([(x, np.int16(y)) for x, y in zip(X, Y, strict=True)]),),
    **{
        f"pictures in {mode}": lambda mode=mode: (pictures(mode),)
        for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F")
    },
    "a random transform": lambda: (WithTransform(X, Y, lambda x: x * torch.rand(())),),
    "random images": lambda: (
        Items([lambda x=x, y=y: (x + torch.rand_like(x), int(y)) for x, y in zip(X / 255, Y, strict=True)]),
    ),
    "pictures of one pixel": lambda: (pictures("RGB", (1, 1)),),
    "pictures of one row": lambda: (pictures("L", (90, 1)),),
}

REFUSED = {
    "no images": (lambda: (X[:0], Y[:0]), "empty|no image|0"),
    "one image": (lambda: (X[:1], Y[:1]), "class"),
    "one class": (lambda: (X, torch.zeros(14).long()), "class"),
    "a class of one image": (lambda: (X[:10], Y[:10]), "Class 1 has 1 image, but a model needs at least 2"),
    "no pixels": (lambda: (images(14, 1, 0, 6), Y), "shape"),
    "no features": (lambda: (images(14, 0), Y), "feature|shape"),
    "five dimensions": (lambda: (images(14, 1, 1, 6, 6), Y), "shape"),
    "a number": (lambda: (torch.tensor(3.0), Y), "shape|dimension|array"),
    "fewer labels": (lambda: (X, Y[:9]), "label"),
    "more labels": (lambda: (X[:9], Y), "label"),
    "no labels": (lambda: (X,), "fit"),
    "NaN": (lambda: (X.float().index_put_((torch.tensor(3),), torch.tensor(torch.nan)), Y), "NaN|finite"),
    "infinite": (lambda: (X.float().index_put_((torch.tensor(3),), torch.tensor(torch.inf)), Y), "inf|finite"),
    "minus infinity": (lambda: (X.float().index_put_((torch.tensor(3),), torch.tensor(-torch.inf)), Y), "inf|finite"),
    "bfloat16": (lambda: (X.bfloat16(), Y), r"bfloat16\. Convert it: X\.float\(\)"),
    "values whose squares overflow": (
        lambda: (X.double() * 1e200, Y),
        "their squares overflow float64. Divide them by a constant",
    ),
    "complex": (lambda: (X.to(torch.complex64), Y), "complex|real"),
    "text": (lambda: (np.array([["a", "b"]] * 14), Y), "number|numeric|string|float"),
    "objects": (lambda: (np.array([[{}, []]] * 14, dtype=object), Y), "number|numeric|float"),
    "ragged lists": (lambda: ([[1, 2], [3]] * 7, Y), "shape|inhomogeneous|length"),
    "a sparse matrix": (lambda: (scipy.sparse.csr_matrix(X.flatten(1).numpy()), Y), "parse"),
    "one-hot labels": (lambda: (X, torch.nn.functional.one_hot(Y)), "label|shape|1d"),
    "multi-label": (lambda: (X, torch.randint(0, 2, (14, 3))), "label|shape|1d"),
    "labels as fractions": (lambda: (X, Y + 0.5), "labels must be integers or strings"),
    "NaN labels": (lambda: (X, torch.where(Y > 0, torch.nan, 0.0)), "labels must be integers or strings"),
    "None as labels": (lambda: (X, np.array([None] * 14)), "label|None|NoneType"),
    "labels of two types": (lambda: (X, np.array([0, "a"] * 7, dtype=object)), "labels must be integers or strings"),
    "None": (lambda: (None, None), "X"),
    "a generator": (lambda: ((x for x in X), Y), "X"),
    "empty dataset": (lambda: (Items([]),), "empty"),
    "an error in an item": (lambda: (failing(3, KeyError("gone")),), "Item 3 .*KeyError.*gone"),
    "an error in the first item": (lambda: (failing(0, OSError("disk")),), "Item 0 .*OSError.*disk"),
    "an item as a mapping": (
        lambda: (with_item(3, {"image": X[3], "label": 0}),),
        "Item 3 .* is a dict of 2, but must be a pair",
    ),
    "an item of three": (lambda: (with_item(0, (X[0], 0, "name")),), "Item 0 .* is a tuple of 3, but must be a pair"),
    "an item as an image": (lambda: (with_item(2, X[2]),), "Item 2 .* is a Tensor, but must be a pair"),
    "an image with other channels": (lambda: (with_item(4, (X[4].expand(2, 6, 6), 0)),), "Item 4 has shape"),
    "an image without channels": (lambda: (with_item(4, (X[4, 0], 0)),), "Item 4 has shape"),
    "a picture without pixels": (
        lambda: (Items([*pictures("L").items, (Image.new("L", (0, 6)), 1)]),),
        r"An image has shape \(1, 6, 0\)",
    ),
    "an image of another type": (lambda: (with_item(4, (X[4].float(), 0)),), "Item 4 has type"),
    "an image of NaN": (
        lambda: (Items([(x.float().fill_(torch.nan), int(y)) for x, y in zip(X, Y, strict=True)]),),
        "item 0 holds NaN",
    ),
    "a picture of another mode": (
        lambda: (Items([*pictures("L").items, (Image.new("RGB", (6, 6)), 1)]),),
        "Item 14 has shape",
    ),
    "an image that is a path": (lambda: (with_item(0, ("image.png", 0)),), "is a str, but must be a PIL image"),
    "a text label": (lambda: (with_item(4, (X[4], "cat")),), "label of item 4 is 'cat'"),
    "a soft label": (
        lambda: (with_item(4, (X[4], torch.tensor([0.2, 0.8]))),),
        "label of item 4 is a vector of 2 numbers",
    ),
    "a fractional label": (lambda: (with_item(4, (X[4], 0.5)),), "label of item 4 is 0.5"),
    "None as a label": (lambda: (with_item(4, (X[4], None)),), "label of item 4 is None"),
    **{f"pictures in {mode}": (lambda mode=mode: (pictures(mode),), "mode") for mode in ("P", "PA", "I;16B")},
    "a path": (lambda: ("images",), "path 'images'"),
}


SLOW = {"1000 classes": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in WORKS])
def test_unusual_data_works(class_fits, name):
    assert outcome(class_fits, *WORKS[name]()) == "works"


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_data_is_refused_before_training(class_fits, name):
    make, pattern = REFUSED[name]
    message = outcome(class_fits, *make())
    assert message != "works"
    assert re.search(pattern, message), message


def arrays():
    r"""Returns a strategy for arrays of any shape, type and values."""
    dtypes = st.sampled_from([*"?bBhHiIqQefdg", "F", "D", ">f4", "<i8", "U3", "O", "M8[s]"])
    usual = st.tuples(st.integers(5, 9), st.lists(st.sampled_from([1, 2, 3, 6]), min_size=1, max_size=3))
    unusual = st.lists(st.sampled_from([0, 1, 2, 3, 5, 6, 9]), max_size=5).map(tuple)
    shapes = usual.map(lambda shape: (shape[0], *shape[1])) | unusual
    special = st.sampled_from([0.0, 1.0, -1.0, 0.5, 255.0, 1e30, -1e300, np.nan, np.inf])

    def make(dtype, shape, seed, special, fraction):
        random = np.random.default_rng(seed)
        values = random.normal(size=shape) * 100
        values = np.where(random.random(shape) < fraction, special, values)
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return values.astype(np.int64).astype(dtype) if dtype.startswith("M8") else values.astype(dtype)

    return st.builds(make, dtypes, shapes, st.integers(0, 99), special, st.sampled_from([0.0, 0.0, 0.05, 1.0]))


def labels():
    r"""Returns a strategy for lists of labels of any type."""
    values = (
        st.sampled_from([0, 1, 2, -3, 10**12]) | st.sampled_from(["a", "b", ""]) | st.sampled_from([0.0, 1.5, None])
    )
    return st.lists(values, max_size=10) | st.lists(st.sampled_from([0, 0, 1]), min_size=5, max_size=9)


@pytest.mark.parametrize("examples", [200, pytest.param(5_000, marks=pytest.mark.slow)])
def test_random_arrays_work_or_are_refused(class_fits, examples):
    outcomes = Counter()

    @settings(
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
    )
    @given(arrays(), st.none() | st.none() | labels(), st.sampled_from([list, np.array, torch.tensor]))
    def check(X, y, container):
        if y is None and X.ndim:
            # One label per image.
            y = [0 if index % 3 else 1 for index in range(len(X))]
        try:
            data = X if container is np.array else container(X.tolist()), None if y is None else container(y)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            # The container does not support the type.
            data = X, y
        outcomes["works" if outcome(class_fits, *data) == "works" else "refused"] += 1

    check()
    assert min(outcomes["works"], outcomes["refused"]) > examples / 20
