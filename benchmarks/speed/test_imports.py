r"""Importing, and files."""

import subprocess
import sys

import pytest
import torch

from gae_augment import GAEAugmenter, GenerativeModel

from .test_fit import noise


def run(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)


@pytest.mark.parametrize(
    ("statement", "aim"),
    [
        ("import gae_augment", 1.15),
        ("from gae_augment import AugmentedDataset, MixedSampler", 1.15),
        ("from gae_augment import GAEAugmenter", float("nan")),
    ],
    ids=["package", "dataset", "augmenter"],
)
def test_import(compare, statement, aim):
    compare(
        lambda: run(statement),
        lambda: run("import torch, torchvision"),
        what=f"`{statement}`",
        beside="`import torch, torchvision`",
        aim=aim,
    )


@pytest.mark.parametrize("what", ["save", "load"])
def test_file(compare, tmp_path, what):
    images = noise(2300)
    labels = torch.arange(11).repeat_interleave(200)
    labels = torch.cat([labels, torch.full((100,), 10)])
    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=10.0), random_state=0, progress=False).fit(images, labels)
    ours, plain = tmp_path / "ours.safetensors", tmp_path / "plain.pt"
    tensors = [fitted.state_dict()[1] for fitted in augmenter.models_.values()]
    augmenter.save(ours)
    torch.save(tensors, plain)
    functions = {
        "save": (lambda: augmenter.save(ours), lambda: torch.save(tensors, plain)),
        "load": (lambda: GAEAugmenter.load(ours), lambda: torch.load(plain)),
    }
    compare(
        *functions[what],
        what=f"`{what}` of an augmenter of {len(tensors)} classes, {ours.stat().st_size / 1e6:.0f} MB",
        beside=f"`torch.{what}` of its tensors",
    )
