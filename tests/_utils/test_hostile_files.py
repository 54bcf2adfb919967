r"""Untrusted files: loading one gives a usable augmenter or a clear error, in bounded memory."""

import json
import resource
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.files import read_file, write_file
from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import Plan, make_plan
from gae_augment.fitting.saved_plans import plan_from_plain

# Each example writes a file.
FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EXAMPLES = [pytest.param(150, id="few"), pytest.param(3_000, marks=pytest.mark.slow, id="many")]

FORMAT_2 = Path(__file__).parents[1] / "fitting" / "format2"

KINDS = {
    "images": {},
    "vectors": {"n_init": 1},
    "convolutional": {"architecture": "conv", "synthesis": "decoded"},
    "ancestral": {"definition": "gmvae", "delta": "auto"},
    "limited similarity": {"max_similarity": 1.0},
    "models of single classes": {},
    "format 2": {},
}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    r"""A valid file, its header and its tensors."""
    if request.param == "format 2":
        path = FORMAT_2 / "gae.safetensors"
        return path, *read_file(path)
    y = torch.tensor([0] * 30 + [1] * 25 + [2] * 12)
    X = torch.randint(0, 256, (len(y), 6, 6), dtype=torch.uint8, generator=make_generator(0))
    if request.param == "vectors":
        X = X.flatten(1).double() * 3 - 7
    hyper = {"epochs": 2, "delta": 1000.0, "architecture": (5,), "latent_dim": 3, **KINDS[request.param]}
    model = GenerativeModel(**hyper)
    if request.param == "models of single classes":
        model = {1: model, 2: GenerativeModel("vade", **{**hyper, "delta": "auto"})}
    augmenter = GAEAugmenter(model, random_state=0, progress=False).fit(X, y)
    path = tmp_path_factory.mktemp("files") / "valid.safetensors"
    augmenter.save(path)
    return path, *read_file(path)


def load(path):
    r"""Loads a file and samples from it; any error but our own ValueError fails the test."""
    try:
        augmenter = GAEAugmenter.load(path)
    except ValueError as error:
        # An error of another library does not name the file.
        if str(path) not in str(error):
            raise
        return "refused"
    for label, fitted in augmenter.models_.items():
        assert plan_from_plain(asdict(fitted.plan)) == fitted.plan
        limit = fitted.plan.max_similarity
        try:
            assert augmenter.sample(label, 2, seed=0).shape == (2, *fitted.shape)
        except RuntimeError as error:
            # Random weights and limits may leave no image that is dissimilar enough.
            if limit is None or "Raise 'max_similarity'" not in str(error):
                raise
    assert repr(augmenter)
    assert augmenter.cache_dir is None
    json.dumps([report.as_dict() for report in augmenter.report_.values()])
    return "loaded"


def memory():
    r"""Returns the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Outcomes:
    r"""Counts loaded and refused files, and checks that memory stays bounded."""

    def __init__(self):
        self.counts, self.before = {"loaded": 0, "refused": 0}, memory()

    def add(self, path):
        self.counts[load(path)] += 1

    def check(self):
        assert self.counts["refused"], self.counts
        assert memory() - self.before < 300
        print(self.counts)


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_changed_bytes(saved, tmp_path, examples):
    content, outcomes = saved[0].read_bytes(), Outcomes()
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
        # The checksum and safetensors catch most changes.
        outcomes.add(path)

    check()
    outcomes.check()


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
    r"""Yields the path of keys to every value in nested mappings and lists."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_changed_headers(saved, tmp_path, examples):
    _, header, tensors = saved
    outcomes, path, everywhere = Outcomes(), tmp_path / "changed.safetensors", list(places(header))[1:]

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
                # The previous change removed this place.
                continue
        write_file(path, changed, tensors)
        outcomes.add(path)

    check()
    outcomes.check()


shapes = st.lists(st.integers(0, 7), max_size=4)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.uint8, torch.bool, torch.int64, torch.bfloat16])


@pytest.mark.parametrize("examples", EXAMPLES)
def test_changed_tensors(saved, tmp_path, examples):
    _, header, tensors = saved
    outcomes, path = Outcomes(), tmp_path / "changed.safetensors"
    value = st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30])

    @settings(FUZZ, max_examples=examples)
    @given(
        st.sampled_from(sorted(tensors)),
        st.sampled_from(["drop", "rename", "cast", "fill", "reshape", "new"]),
        st.text(max_size=5)
        | st.sampled_from([f"0.{name}" for name in ("anchors.images", "codes.limits", "codes.training", "x", "")]),
        shapes,
        dtypes,
        value,
    )
    def check(name, change, new_name, shape, dtype, value):
        changed = dict(tensors)
        tensor = changed.pop(name)
        if change == "rename":
            changed[new_name] = tensor
        elif change == "cast":
            changed[name] = tensor.to(dtype)
        elif change == "fill":
            changed[name] = torch.full_like(tensor.double(), value).to(tensor.dtype)
        elif change == "reshape":
            changed[name] = torch.zeros(shape, dtype=tensor.dtype)
        elif change == "new":
            changed[name], changed[new_name] = tensor, torch.zeros(shape, dtype=dtype)
        write_file(path, header, changed)
        outcomes.add(path)

    check()
    outcomes.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", [1, 10**6, 10**6]), ("shape", [10**9]), ("latent_dim", 10**9), ("architecture", [10**6, 10**6])],
)
def test_sizes_beyond_the_memory_are_refused(saved, tmp_path, name, value):
    path, header, tensors = tmp_path / "large", deepcopy(saved[1]), saved[2]
    for _, model in header.get("models", []):
        model["plan"][name] = value
    for _, generator in header.get("generators", []):
        (generator if name == "shape" else generator["settings"])[name] = value
    write_file(path, header, tensors)
    before = memory()
    assert load(path) == "refused"
    assert memory() - before < 100


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    r"""The header and the tensors of a valid file of images."""
    y = torch.tensor([0] * 8 + [1] * 6)
    X = torch.randint(0, 256, (len(y), 6, 6), dtype=torch.uint8, generator=make_generator(0))
    model = GenerativeModel(epochs=2, delta=1000.0, architecture=(5,), latent_dim=3)
    path = tmp_path_factory.mktemp("files") / "valid.safetensors"
    GAEAugmenter(model, random_state=0, progress=False).fit(X, y).save(path)
    return read_file(path)


@pytest.mark.parametrize("value", [None, True, "0.5", [0.5], {}, -0.1, 1.1, 10**400, float("nan"), float("inf")])
def test_explained_fraction_must_be_a_number_between_0_and_1(of_images, tmp_path, value):
    path, header = tmp_path / "file", deepcopy(of_images[0])
    header["models"][0][1]["explained"] = value
    write_file(path, header, of_images[1])
    with pytest.raises(ValueError, match="the explained fraction of the variance must be a number between 0 and 1"):
        GAEAugmenter.load(path)


@pytest.mark.parametrize("shape", [(), (3,), (6,), (0, 3), (5, 3), (7, 3), (6, 2), (6, 4), (6, 3, 1)])
def test_each_training_image_must_have_one_code(of_images, tmp_path, shape):
    header, tensors = of_images
    assert tensors["0.codes.training"].shape == (6, 3)
    write_file(tmp_path / "file", header, {**tensors, "0.codes.training": torch.zeros(shape)})
    with pytest.raises(ValueError, match=r"codes of training images must have shape \(6, 3\)"):
        GAEAugmenter.load(tmp_path / "file")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
def test_codes_of_training_images_must_be_float32(of_images, tmp_path, dtype):
    header, tensors = of_images
    write_file(tmp_path / "file", header, {**tensors, "0.codes.training": torch.zeros(6, 3, dtype=dtype)})
    with pytest.raises(ValueError, match="codes of training images must be float32"):
        GAEAugmenter.load(tmp_path / "file")


def test_codes_of_training_images_need_not_be_finite(of_images, tmp_path):
    header, tensors = of_images
    write_file(tmp_path / "file", header, {**tensors, "0.codes.training": torch.full((6, 3), float("nan"))})
    assert load(tmp_path / "file") == "loaded"


@pytest.mark.parametrize("header", ["[" * 100_000, "9" * 10_000, "[]", "null", '{"a": 1e999}', ""])
def test_headers_must_be_mappings(tmp_path, header):
    path = tmp_path / "file"
    for version in ("1", "2", "-1", "1e3", "", "9" * 5000):
        save_file({"x": torch.zeros(1)}, path, {"format": "gae-augment", "version": version, "header": header})
        assert load(path) == "refused"


def test_file_of_format_1_without_a_checksum_is_read(saved, tmp_path):
    path, header, tensors = saved
    first = tmp_path / "first"
    save_file(tensors, first, {"format": "gae-augment", "version": "1", "header": json.dumps(header)})
    assert torch.equal(GAEAugmenter.load(first).sample(1, 3), GAEAugmenter.load(path).sample(1, 3))


# Plans

VALID_PLANS = [
    make_plan(GenerativeModel(model, **hyper), shape, images, "cpu")
    for model, hyper, shape, images in [
        ("gae", {}, (1, 8, 8), 300),
        ("gae", {"delta": 0.1, "max_similarity": 0.9, "n_components": (2, 7)}, (3, 32, 40), 2),
        ("vae", {"architecture": (16, 8), "density": "mixture", "n_init": 4}, (20,), 40),
    ]
]

NONSENSE = {
    "model": [None, 3, ["gae"]],
    "shape": [None, 8, "88", [], [0, 8], [8, -1], [8.0, 8], [True, 8], [1, 1, 8, 8], {"C": 1}, [[8]]],
    "images": [None, 0, 1, -3, 2.0, "2", True],
    "latent_dim": [None, 0, -1, 1.5, "10", "auto", True, [10]],
    "architecture": [None, "auto", "resnet", [], [0], [16, -8], [16.0], ["fc"], 16, True, {}],
    "density": [None, "auto", "normal ", 1, ["normal"], {}],
    "learned_prior": [None, 0, 1, "true", []],
    "min_components": [None, 0, -1, 1.0, "auto", True, 81],
    "max_components": [None, 0, -1, 1.0, "auto", True],
    "learned_components": [None, 0, -1, 1.0, "auto", True],
    "stopping": [None, "auto", "never", 0, ["delta"]],
    "delta": ["auto", 0, 0.0, -0.1, float("nan"), float("inf"), True, "0.1", [0.1]],
    "resolution": [None, "auto", 0, -0.1, float("nan"), float("inf"), True, "0.1"],
    "held_out": [None, "auto", -1, 0.0, False, 300, "0"],
    "epochs": [None, "auto", 0, -1, 1.0, True],
    "n_init": [None, "auto", 0, -1, 1.0, True],
    "batch_size": [None, "auto", 0, -1, 64.0, True],
    "learning_rate": [None, "auto", 0, -1e-3, float("nan"), float("inf"), True, "1e-3"],
    "lr_schedule": [None, "linear", 0, ["cosine"]],
    "precision": [None, "auto", "float64", 32, ["float32"]],
    "truncated": [None, 0, 1, "true", []],
    "synthesis": [None, "auto", "anchored", 1, True, ["residual"], {}],
    "step": [None, "auto", 0, 0.0, -1, 3.1, float("nan"), float("inf"), True, False, "1", [1.5]],
    "max_similarity": ["auto", 0, -1, 1.1, float("nan"), float("inf"), True, "0.9"],
    "device": [None, "", "auto", "gpu", "../../etc", 0, ["cpu"]],
    "n_threads": [None, "auto", 0, -1, 1.0, True],
}


def test_nonsense_covers_every_field_of_a_plan():
    assert NONSENSE.keys() == {field.name for field in fields(Plan)}


@pytest.mark.parametrize("plan", VALID_PLANS, ids=lambda plan: plan.stopping)
def test_valid_plans_survive_json(plan):
    assert plan_from_plain(json.loads(json.dumps(asdict(plan)))) == plan
    assert plan_from_plain({**asdict(plan), "device": "cuda:77"}).device == "cuda:77"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NONSENSE for value in NONSENSE[name]])
def test_every_nonsense_field_of_a_plan_is_refused(name, value):
    plain = json.loads(json.dumps(asdict(VALID_PLANS[0])))
    assert plan_from_plain(plain) == VALID_PLANS[0]
    with pytest.raises((TypeError, ValueError)):
        plan_from_plain({**plain, name: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"stopping": "delta"},
        {"delta": 0.1},
        {"min_components": 81},
        {"shape": [64], "architecture": "conv"},
        {"shape": [64], "max_similarity": 0.9},
        {"shape": [64], "synthesis": "deformed"},
    ],
)
def test_contradicting_fields_of_a_plan_are_refused(changes):
    with pytest.raises(ValueError, match=r"a plan has|'architecture' is 'conv', but the data are vectors"):
        plan_from_plain({**asdict(VALID_PLANS[0]), **changes})


@pytest.mark.parametrize("values", [None, 7, "plan", [], {}, [["model", "gae"]], {"model": "gae", "shape": [8, 8]}])
def test_incomplete_plans_are_refused(values):
    with pytest.raises((KeyError, TypeError, ValueError)):
        plan_from_plain(values)
    with pytest.raises(TypeError):
        plan_from_plain({**asdict(VALID_PLANS[0]), "colour": "red"})


@pytest.mark.parametrize("examples", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_changed_plans_are_refused_or_valid(examples):
    @settings(FUZZ, max_examples=examples)
    @given(
        st.sampled_from(VALID_PLANS),
        st.lists(st.tuples(st.sampled_from(sorted(NONSENSE)), plain), min_size=1, max_size=3),
    )
    def check(valid, changes):
        try:
            plan = plan_from_plain({**json.loads(json.dumps(asdict(valid))), **dict(changes)})
        except (KeyError, TypeError, ValueError):
            return
        assert {type(value) for value in asdict(plan).values()} <= {str, int, float, bool, tuple, type(None)}
        assert plan_from_plain(json.loads(json.dumps(asdict(plan), allow_nan=False))) == plan

    check()
