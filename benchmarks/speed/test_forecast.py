r"""Forecasts of dry runs, beside what the commands then take."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from gae_augment.data import choose_images, profile_counts

from .busy import busy_machine

DATA_ROOT = Path(os.environ.get("GAE_DATA_ROOT", "data"))

SETS = {
    "MNIST": ("mnist", ()),
    "leaves at 32 pixels": ("leaves", ("--size", "32")),
    "leaves at 64 pixels": ("leaves", ()),
    "tiles at 64 pixels": ("tiles", ()),
    "tiles at 64 pixels, beside as many busy processes as cores": ("tiles", ()),
}
"""The folder and the options of each benchmark."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    r"""Returns the folders by name: photographs, and a tenth of MNIST with a long tail."""
    try:
        mnist = MNIST(DATA_ROOT)
    except RuntimeError:
        pytest.skip("no MNIST in GAE_DATA_ROOT")
    root = tmp_path_factory.mktemp("mnist")
    labels = mnist.targets.numpy()[:6000]
    counts = profile_counts("lt-10", [int((labels == label).sum()) for label in range(10)])
    for number in choose_images(labels, dict(enumerate(counts)), seed=0):
        image, label = mnist[number]
        (root / str(label)).mkdir(exist_ok=True)
        image.save(root / str(label) / f"{number}.png")
    return {"mnist": root, **{name: DATA_ROOT / "photos" / name / "train" for name in ("leaves", "tiles")}}


def run(*arguments):
    r"""Runs the program, and returns its seconds and what it printed as JSON."""
    command = [str(Path(sys.executable).with_name("gae-augment")), *map(str, arguments), "--json"]
    start = time.perf_counter()
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - start, json.loads(printed)


@pytest.mark.slow
@pytest.mark.parametrize("what", SETS)
def test_forecast(benchmark, record, folders, tmp_path, what):
    name, options = SETS[what]
    if not folders[name].is_dir():
        pytest.skip("no photographs in GAE_DATA_ROOT")
    balance = "balance", folders[name], "--output", tmp_path / "balanced", *options
    figures = []

    def measured():
        with busy_machine() if "busy" in what else nullcontext():
            dry, told = run(*balance, "--dry-run")
            taken, _ = run(*balance)
        figures.append((dry, told["fit seconds"] + told["sample seconds"], taken))

    benchmark.pedantic(measured, rounds=1, iterations=1)
    ((dry, forecast, taken),) = figures
    beside = "what `gae-augment balance` then took, imports and copies included"
    record([forecast], [taken], unit="s", what=f"forecast of {what}", beside=beside, aim=2.0)
    record([dry], [taken], unit="s of the dry run", what=f"dry run of {what}", beside=beside, aim=float("nan"))


@pytest.mark.parametrize(("size", "before"), [(64, 19.0), (128, 123.0), (224, 300.0)])
def test_dry_run(benchmark, record, tmp_path, size, before):
    folder, figures = DATA_ROOT / "photos" / "tiles" / "train", []
    if not folder.is_dir():
        pytest.skip("no photographs in GAE_DATA_ROOT")
    command = "balance", folder, "--output", tmp_path / "balanced", "--size", size, "--dry-run"
    benchmark.pedantic(lambda: figures.append(run(*command)[0]), rounds=1, iterations=1)
    what = f"dry run of a folder of photographs at {size} pixels"
    record(figures, [before], unit="s", what=what, beside="another such folder with an earlier state of 0.2", aim=1.0)
