r"""Which transforms move pixels at random, compared with what each transform of torchvision does to a bright dot."""

import inspect
import random
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.models import ResNet18_Weights
from torchvision.transforms import functional, v2

from gae_augment._utils.seeding import global_seed
from gae_augment.data import geometric_transform, image_views

SIDE = 32

ARGUMENTS = {
    "AugMix": (10, 1, 3, 0.1),
    "CenterCrop": (24,),
    "ColorJitter": (0.4, 0.4, 0.4, 0.2),
    "ConvertBoundingBoxFormat": ("XYWH",),
    "ConvertImageDtype": (torch.float32,),
    "ElasticTransform": (300.0,),
    "FiveCrop": (24,),
    "GaussianBlur": (3, (0.1, 2.0)),
    "Grayscale": (3,),
    "JPEG": ((60, 100),),
    "Lambda": (lambda image: image,),
    "LinearTransformation": (torch.eye(3 * SIDE**2), torch.zeros(3 * SIDE**2)),
    "Normalize": ([0.2] * 3, [0.5] * 3),
    "Pad": (3,),
    "RandomAdjustSharpness": (2.0,),
    "RandomAffine": (40, (0.3, 0.3)),
    "RandomCrop": (24,),
    "RandomErasing": (1.0, (0.001, 0.0012)),
    "RandomPosterize": (4,),
    "RandomResize": (16, 40),
    "RandomResizedCrop": (24,),
    "RandomRotation": (40,),
    "RandomShortestSize": ([16, 24, 40],),
    "RandomSolarize": (128,),
    "Resize": (16,),
    "ScaleJitter": ((SIDE, SIDE),),
    "SetClampingMode": ("soft",),
    "TenCrop": (24,),
    "ToDtype": (torch.float32,),
    "UniformTemporalSubsample": (1,),
}
"""The arguments of transforms that need some."""

CONTAINERS = ("Compose", "RandomApply", "RandomChoice", "RandomOrder")

OF_BATCHES = ("CutMix", "MixUp")
"""Transforms of batches, which no dataset can apply to its items."""


def transform_classes():
    r"""Yields the classes of both versions of torchvision's transforms, except containers and those of batches."""
    others = {*CONTAINERS, *OF_BATCHES, "AutoAugmentPolicy", "InterpolationMode", "Transform"}
    for version, module in (("v1", v1), ("v2", v2)):
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and name not in others:
                yield pytest.param(cls, id=f"{version}.{name}")


def dot():
    r"""Returns a dark image with a bright dot, away from the centre."""
    pixels = np.full((SIDE, SIDE, 3), 90, dtype=np.uint8)
    pixels[11, 19] = 255
    return pixels


def inputs(cls):
    r"""Yields forms of the image with the dot, of which a transform accepts at least one."""
    image = torch.from_numpy(dot()).permute(2, 0, 1).contiguous()
    if cls.__module__.startswith("torchvision.transforms.v2"):
        boxes = tv_tensors.BoundingBoxes([[2.0, 2, 28, 28]], format="XYXY", canvas_size=(SIDE, SIDE))
        sample = {"image": tv_tensors.Image(image), "boxes": boxes, "labels": torch.tensor([1])}
        yield sample
        yield {**sample, "image": tv_tensors.Image(image / 255)}
        if hasattr(tv_tensors, "KeyPoints"):
            points = tv_tensors.KeyPoints([[4.0, 4]], canvas_size=(SIDE, SIDE))
            yield {"image": tv_tensors.Image(image), "points": points, "labels": torch.tensor([1])}
    yield Image.fromarray(dot())
    yield image
    yield image / 255


def place(result):
    r"""Returns the size of an image and the place of its dot, for each image if there are several."""
    if isinstance(result, dict):
        return place(result["image"])
    if isinstance(result, tuple):
        return tuple(map(place, result))
    image = functional.pil_to_tensor(result) if isinstance(result, Image.Image) else torch.as_tensor(result)
    grey = image.double().mean(dim=0) if image.shape[0] <= 3 else image.double().mean(dim=-1)
    return (*grey.shape, int((grey - grey.median()).abs().argmax()))


def moves_pixels(transform, image):
    places = set()
    for seed in range(16):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        places.add(place(transform(image)))
        if len(places) > 1:
            return True
    return False


@pytest.fixture
def random_state_restored():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("cls", list(transform_classes()))
def test_transform_counts_as_moving_if_it_moves_a_dot(cls, random_state_restored):
    try:
        transform = cls(*ARGUMENTS.get(cls.__name__, ()))
    except TypeError:
        pytest.skip("a class of a later torchvision needs arguments")
    if cls.__name__ == "Lambda":
        assert geometric_transform([transform]) == "Lambda"
        return
    errors = []
    for image in inputs(cls):
        try:
            moves = moves_pixels(transform, image)
            break
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            errors.append(error)
    else:
        raise ExceptionGroup("no form of the image is accepted", errors)
    assert geometric_transform([transform]) == (cls.__name__ if moves else None)


FLIPS = {v1: v1.RandomHorizontalFlip(), v2: v2.RandomHorizontalFlip()}


@pytest.mark.parametrize("module", [v1, v2], ids=["v1", "v2"])
def test_nested_transforms_are_found(module):
    flip, still = FLIPS[module], module.ColorJitter(0.5)
    assert geometric_transform([module.Compose([still, flip])]) == "RandomHorizontalFlip"
    assert geometric_transform([module.Compose([still, still])]) is None
    for container in (module.RandomApply, module.RandomChoice, module.RandomOrder):
        assert geometric_transform([container([still, flip])]) == "RandomHorizontalFlip"
        assert geometric_transform([container([still])]) is None
    assert geometric_transform([module.RandomApply(nn.ModuleList([flip]))]) == "RandomHorizontalFlip"
    deep = module.Compose([still, module.RandomApply([module.Compose([nn.Sequential(still, flip)])])])
    assert geometric_transform([deep]) == "RandomHorizontalFlip"
    assert geometric_transform([nn.Sequential(still)]) is None
    # Versions can be mixed.
    other = v2 if module is v1 else v1
    assert geometric_transform([module.Compose([other.Compose([FLIPS[other]])])]) == "RandomHorizontalFlip"


def test_first_of_several_transforms_is_named():
    chain = [v2.ToImage(), None, v2.RandomRotation(5), v2.RandomCrop(4)]
    assert geometric_transform(chain) == "RandomRotation"
    assert geometric_transform(chain[:2]) is None
    assert geometric_transform([]) is None
    assert geometric_transform([None]) is None


def turn(image):
    return image.rotate(random.uniform(-5, 5))


class Resize:
    r"""Has the name of one of torchvision's transforms, but may do anything."""

    def __call__(self, image):
        return image


class Flipping(v2.Resize):
    r"""Changes one of torchvision's transforms."""


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (turn, "turn"),
        (partial(turn), "partial"),
        (lambda image: image, "<lambda>"),
        (functional.hflip, "hflip"),
        (Resize(), "Resize"),
        (Flipping(4), "Flipping"),
        (nn.Sequential(nn.Identity()), "Identity"),
        (v1.Compose([v1.ToTensor(), turn]), "turn"),
        (v1.Lambda(turn), "Lambda"),
        (v2.Lambda(turn), "Lambda"),
    ],
)
def test_unknown_functions_count_as_moving(function, name):
    assert geometric_transform([v1.ToTensor(), function]) == name


def test_transforms_of_pretrained_models_do_not_count():
    assert geometric_transform([ResNet18_Weights.DEFAULT.transforms()]) is None


@pytest.mark.skipif(not hasattr(v2, "SanitizeKeyPoints"), reason="an earlier torchvision lacks some of the names")
def test_names_of_still_transforms_exist():
    r"""A misspelt name would silently count as moving."""
    module = import_module("gae_augment.data.geometry")
    names = {name for transforms in (v1, v2) for name in vars(transforms)} | {"ImageClassification"}
    assert names >= module.STILL | set(module.CONTAINERS)


MOVES = {v1: v1.RandomAffine(30, (0.1, 0.1)), v2: v2.RandomAffine(30, (0.1, 0.1))}
NORMALIZE = v1.Normalize([0.5] * 3, [0.2] * 3)


@pytest.mark.usefixtures("global_rngs_unmoved")
@pytest.mark.parametrize(
    "functions",
    [
        [v1.Compose([MOVES[v1], v1.ToTensor(), NORMALIZE])],
        [v2.Compose([MOVES[v2], v2.ToImage(), v2.ToDtype(torch.float32, scale=True), NORMALIZE])],
        [None, v2.PILToTensor(), nn.Sequential(MOVES[v2], NORMALIZE)],
    ],
    ids=["v1", "v2", "several"],
)
def test_views_are_the_transforms_without_conversions(functions):
    views = image_views(functions)
    image = torch.arange(4800, dtype=torch.int32).view(3, 40, 40).remainder(251).to(torch.uint8)
    with global_seed(1):
        expected = MOVES[v2](image)
    for batch in (image, torch.stack([image, image])):
        with global_seed(1):
            assert torch.equal(views(batch), expected.expand_as(batch))


@pytest.mark.parametrize(
    "functions",
    [
        [],
        [v1.ToTensor(), NORMALIZE],
        [v2.RandomHorizontalFlip(), lambda image: image],
        [v2.RandomHorizontalFlip(), v2.Grayscale(3)],  # changes the number of channels
        [v2.FiveCrop(24)],
        [v2.RandomCrop(96)],  # of smaller images
        [v2.RandomHorizontalFlip(), v2.Lambda(lambda image: image.float())],
    ],
)
def test_transforms_without_views(functions):
    assert image_views(functions) is None
