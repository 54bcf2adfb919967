r"""A long-tailed folder of 1000 classes and 115 000 photographs of 224 pixels: a dry run, and a fit to train with."""

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
assert len(augmented) == {classes} * {largest}
augmented[len(augmented) - 1]
"""


def class_sizes():
    r"""Returns the number of images of each class, which falls as a power of its rank, with the right sum."""
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        sizes = (LARGEST * (1 + np.arange(CLASSES) / middle) ** -1.2).astype(int)
        low, high = (low, middle) if sizes.sum() > IMAGES else (middle, high)
    sizes = (LARGEST * (1 + np.arange(CLASSES) / low) ** -1.2).astype(int)
    sizes[1 : 1 + IMAGES - sizes.sum()] += 1
    return sizes.tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    r"""A folder of parts of the photographs, each at 224 pixels."""
    paths = sorted(PHOTOS.rglob("*.jpg"))
    if not paths:
        pytest.skip("no photographs in GAE_DATA_ROOT")
    draw, root = random.Random(0), tmp_path_factory.mktemp("large")
    (root / "files").mkdir()
    for number in range(DISTINCT):
        with Image.open(paths[number % len(paths)]) as stored:
            image = stored.convert("RGB")
        side = draw.uniform(0.8, 1) * min(image.size)
        left, top = (draw.uniform(0, length - side) for length in image.size)
        box = (left, top, left + side, top + side)
        image.resize((SIDE, SIDE), box=box).save(root / "files" / f"{number}.jpg", quality=90)
    number = 0
    for label, size in enumerate(class_sizes()):
        (root / "train" / f"class{label:04d}").mkdir(parents=True)
        for index in range(size):
            path = root / "train" / f"class{label:04d}" / f"{index:05d}.jpg"
            path.hardlink_to(root / "files" / f"{number * 7919 % DISTINCT}.jpg")
            number += 1
    return root / "train"


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
    program = MEASURED.format(work=work.format(folder=str(folder), classes=CLASSES, largest=LARGEST))
    figures = []

    def measured():
        printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        figures.append(tuple(map(float, printed.split())))

    benchmark.pedantic(measured, rounds=1, iterations=1)
    ((taken, cpu, memory),) = figures
    of = f"1000 classes, 115 000 JPEG files of 224 pixels, long-tailed: {what}"
    record([taken], [seconds], unit="s", what=f"{of}, time", beside="the aim", aim=1.0)
    record([cpu], [2 * seconds], unit="CPU s", what=f"{of}, CPU time", beside="two cores for that time", aim=1.0)
    record([memory], [2000.0], unit="MB", what=f"{of}, memory with the libraries", beside="the aim", aim=1.0)
