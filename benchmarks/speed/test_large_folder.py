r"""A long-tailed folder of 1000 classes and 115 000 photographs of 224 pixels: a dry run, and a fit to train with.

Smaller folders show how the time grows with images, classes and pixels.
"""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PHOTOS = Path(os.environ.get("GAE_DATA_ROOT", "data")) / "photos"

CLASSES, IMAGES, LARGEST = 1000, 115_000, 1280
"""The numbers of classes, of images, and of images of the largest class, as those of ImageNet-LT."""

DISTINCT = 3000
"""The number of different files. The others are links to them."""

SIDE = 224
"""The height and width of a photograph in pixels."""

SMALL = {"classes": 20, "images": 1000, "side": 112}
LARGER = {
    "images": {"images": 4000},
    "classes": {"classes": 80, "images": 4000},
    "pixels": {"side": 224},
}
"""A small folder, and what is larger in others: four times the images of a class, the classes, or the pixels."""

TIMES = 4

MEASURED = """
import resource, sys, time
start, code = time.perf_counter(), 0
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)
"""
"""Prints the seconds, the CPU seconds and the memory in MB that some work takes, with the imports."""

DRY_RUN = """
import contextlib, io
from gae_augment.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["balance", {folder!r}, "--output", {folder!r} + "-balanced", "--dry-run"]) == 0
"""

FIT = """
import warnings
warnings.simplefilter("ignore")
from torchvision.datasets import ImageFolder
from gae_augment import GAEAugmenter
train = ImageFolder({folder!r})
augmented = GAEAugmenter(random_state=0, progress=False).fit(train).augment(train)
assert len(augmented) > len(train)
augmented[len(augmented) - 1]
"""


def class_sizes(classes, images):
    r"""Returns the number of images of each class, which falls as a power of its rank, with the right sum."""
    # With as many images in a class, on average, the largest has the same part of them.
    largest = LARGEST * images * CLASSES // (IMAGES * classes)
    low, high = classes / 1e5, float(classes)
    for _ in range(60):
        middle = (low * high) ** 0.5
        sizes = (largest * (1 + np.arange(classes) / middle) ** -1.2).astype(int)
        low, high = (low, middle) if sizes.sum() > images else (middle, high)
    sizes = (largest * (1 + np.arange(classes) / low) ** -1.2).astype(int)
    sizes[1 : 1 + images - sizes.sum()] += 1
    return sizes.tolist()


def make_folder(root, *, classes, images, side):
    r"""Makes a folder of parts of the photographs, with a folder for each class."""
    paths = sorted(PHOTOS.rglob("*.jpg"))
    if not paths:
        pytest.skip("no photographs in GAE_DATA_ROOT")
    draw = random.Random(0)
    (root / "files").mkdir()
    for number in range(min(DISTINCT, images)):
        with Image.open(paths[number % len(paths)]) as stored:
            image = stored.convert("RGB")
        part = draw.uniform(0.8, 1) * min(image.size)
        left, top = (draw.uniform(0, length - part) for length in image.size)
        box = (left, top, left + part, top + part)
        image.resize((side, side), box=box).save(root / "files" / f"{number}.jpg", quality=90)
    number = 0
    for label, size in enumerate(class_sizes(classes, images)):
        (root / "train" / f"class{label:04d}").mkdir(parents=True)
        for index in range(size):
            path = root / "train" / f"class{label:04d}" / f"{index:05d}.jpg"
            path.hardlink_to(root / "files" / f"{number * 7919 % min(DISTINCT, images)}.jpg")
            number += 1
    return root / "train"


def measured(work):
    r"""Returns the seconds, the CPU seconds and the memory in MB that some work takes in a new process."""
    command = [sys.executable, "-c", MEASURED.format(work=work)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(map(float, printed.split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    r"""The folder of 1000 classes."""
    return make_folder(tmp_path_factory.mktemp("large"), classes=CLASSES, images=IMAGES, side=SIDE)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    r"""The CPU seconds of a dry run and of a fit of the small folder."""
    folder = make_folder(tmp_path_factory.mktemp("small"), **SMALL)
    return [measured(work.format(folder=str(folder)))[1] for work in (DRY_RUN, FIT)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "seconds", "what"),
    [
        (DRY_RUN, 10, "`gae-augment balance --dry-run`"),
        (FIT, 600, "a fit of the scarce classes, and `augment`"),
    ],
    ids=["dry run", "fit"],
)
def test_large_folder(benchmark, record, folder, work, seconds, what):
    figures = []
    benchmark.pedantic(lambda: figures.append(measured(work.format(folder=str(folder)))), rounds=1, iterations=1)
    ((taken, cpu, memory),) = figures
    of = f"1000 classes, 115 000 JPEG files of 224 pixels, long-tailed: {what}"
    record([taken], [seconds], unit="s", what=f"{of}, time", beside="the aim", aim=1.0)
    record([cpu], [2 * seconds], unit="CPU s", what=f"{of}, CPU time", beside="two cores for that time", aim=1.0)
    record([memory], [2000.0], unit="MB", what=f"{of}, memory with the libraries", beside="the aim", aim=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("larger", LARGER)
def test_growth_of_folders(benchmark, record, small, tmp_path, larger):
    folder = make_folder(tmp_path, **SMALL | LARGER[larger])
    figures = []

    def run():
        figures.extend(measured(work.format(folder=str(folder)))[1] for work in (DRY_RUN, FIT))

    benchmark.pedantic(run, rounds=1, iterations=1)
    for what, ours, before in zip(("dry run", "fit"), figures, small, strict=True):
        slope = math.log(ours / before) / math.log(TIMES)
        record(
            [ours], [TIMES * before], unit=f"CPU s of a {what}",
            what=f"a {what} of a folder of photographs, four times the {larger}: slope {slope:.2f} on logarithmic axes",
            beside="four times the CPU time of 20 classes, 1000 images of 112 pixels", aim=1.0,
        )  # fmt: skip
