r"""Files from strangers: whatever is in one, loading it gives an augmenter or says what is wrong."""

import json
import resource
from copy import deepcopy

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from gae_augment import GAEAugmenter
from gae_augment._utils.files import read_file, write_file
from gae_augment._utils.seeding import make_generator

# Each example writes a file.
FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = [pytest.param(150, id="some"), pytest.param(3_000, marks=pytest.mark.slow, id="many")]

KINDS = {
    "images": {},
    "vectors": {"starts": 1},
    "convolutional": {"architecture": "conv", "anchored": False},
    "ancestral": {"model": "gmvae", "delta": "auto"},
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    r"""A file, its header and its tensors."""
    y = torch.tensor([0] * 30 + [1] * 25 + [2] * 12)
    X = torch.randint(0, 256, (len(y), 6, 6), dtype=torch.uint8, generator=make_generator(0))
    if request.param == "vectors":
        X = X.flatten(1).double() * 3 - 7
    options = {"epochs": 2, "delta": 1000.0, "architecture": (5,), "latent_dim": 3, **KINDS[request.param]}
    augmenter = GAEAugmenter(random_state=0, progress=False, **options).fit(X, y)
    path = tmp_path_factory.mktemp("files") / "whole.safetensors"
    augmenter.save(path)
    return path, *read_file(path)


def outcome(path):
    r"""Loads a file and makes images with it; anything but a whole augmenter or a ValueError is a finding."""
    try:
        augmenter = GAEAugmenter.load(path)
    except ValueError as error:
        # It is ours, and none that comes from where the content is used.
        if str(path) not in str(error):
            raise
        return "refused"
    for label, generator in augmenter.models_.items():
        assert augmenter.sample(label, 2, seed=0).shape == (2, *generator.shape)
    assert repr(augmenter)
    assert augmenter.cache_dir is None
    json.dumps([vars(report) for report in augmenter.report_.values()])
    return "loaded"


def memory():
    r"""The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Tally:
    r"""Counts what came of the files, and sees that they took no memory to speak of."""

    def __init__(self):
        self.found, self.before = {"loaded": 0, "refused": 0}, memory()

    def add(self, path):
        self.found[outcome(path)] += 1

    def check(self):
        assert self.found["refused"], self.found
        assert memory() - self.before < 300
        print(self.found)


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", MANY)
def test_bytes_that_are_changed(whole, tmp_path, examples):
    content, tally = whole[0].read_bytes(), Tally()
    path = tmp_path / "changed.safetensors"
    head = 8 + int.from_bytes(content[:8], "little")

    @settings(FUZZ, max_examples=examples)
    @given(edits, st.floats(0, 1) | st.none(), st.booleans())
    def check(edits, cut, in_head):
        changed = bytearray(content)
        for place, new in edits:
            at = int(place * (head if in_head else len(changed)))
            changed[at : at + len(new)] = new
        path.write_bytes(changed if cut is None else changed[: int(cut * len(changed))])
        # Most changes would be caught by the checksum, or by safetensors.
        tally.add(path)

    check()
    tally.check()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../../etc", "/etc/passwd", "load", "Tensor", "conv", "float16", "cuda", "auto", "gae", "vade"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value, path=()):
    r"""Every place in nested mappings and lists."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize("examples", MANY)
def test_headers_that_are_changed(whole, tmp_path, examples):
    _, header, tensors = whole
    tally, path, everywhere = Tally(), tmp_path / "changed.safetensors", list(places(header))[1:]

    @settings(FUZZ, max_examples=examples)
    @given(st.lists(st.tuples(st.sampled_from(everywhere), plain), min_size=1, max_size=2), st.booleans())
    def check(changes, drop):
        changed = deepcopy(header)
        for place, new in changes:
            inside = changed
            try:
                for key in place[:-1]:
                    inside = inside[key]
                if drop:
                    del inside[place[-1]]
                else:
                    inside[place[-1]] = new
            except (KeyError, IndexError, TypeError):
                # The change before has taken the place away.
                continue
        write_file(path, changed, tensors)
        tally.add(path)

    check()
    tally.check()


shapes = st.lists(st.integers(0, 7), max_size=4)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.uint8, torch.bool, torch.int64, torch.bfloat16])


@pytest.mark.parametrize("examples", MANY)
def test_tensors_that_are_changed(whole, tmp_path, examples):
    _, header, tensors = whole
    tally, path = Tally(), tmp_path / "changed.safetensors"
    value = st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30])

    @settings(FUZZ, max_examples=examples)
    @given(
        st.sampled_from(sorted(tensors)),
        st.sampled_from(["drop", "rename", "cast", "fill", "reshape", "new"]),
        st.text(max_size=5) | st.sampled_from([f"0.{name}" for name in ("anchors.images", "codes.limits", "x", "")]),
        shapes,
        dtypes,
        value,
    )
    def check(name, change, other, shape, dtype, value):
        changed = dict(tensors)
        own = changed.pop(name)
        if change == "rename":
            changed[other] = own
        elif change == "cast":
            changed[name] = own.to(dtype)
        elif change == "fill":
            changed[name] = torch.full_like(own.double(), value).to(own.dtype)
        elif change == "reshape":
            changed[name] = torch.zeros(shape, dtype=own.dtype)
        elif change == "new":
            changed[name], changed[other] = own, torch.zeros(shape, dtype=dtype)
        write_file(path, header, changed)
        tally.add(path)

    check()
    tally.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", [1, 10**6, 10**6]), ("shape", [10**9]), ("latent_dim", 10**9), ("architecture", [10**6, 10**6])],
)
def test_sizes_that_would_fill_the_memory(whole, tmp_path, name, value):
    path, header, tensors = tmp_path / "large", deepcopy(whole[1]), whole[2]
    for _, own in header["generators"]:
        (own if name == "shape" else own["settings"])[name] = value
    write_file(path, header, tensors)
    before = memory()
    assert outcome(path) == "refused"
    assert memory() - before < 100


@pytest.mark.parametrize("header", ["[" * 100_000, "9" * 10_000, "[]", "null", '{"a": 1e999}', ""])
def test_headers_that_are_no_mapping(tmp_path, header):
    path = tmp_path / "file"
    for version in ("1", "2", "-1", "1e3", "", "9" * 5000):
        save_file({"x": torch.zeros(1)}, path, {"format": "gae-augment", "version": version, "header": header})
        assert outcome(path) == "refused"


def test_a_file_of_the_first_version_is_read(whole, tmp_path):
    path, header, tensors = whole
    first = tmp_path / "first"
    save_file(tensors, first, {"format": "gae-augment", "version": "1", "header": json.dumps(header)})
    one, other = GAEAugmenter.load(first), GAEAugmenter.load(path)
    assert torch.equal(one.sample(1, 3), other.sample(1, 3))
