r"""Data sets in files: MNIST and image folders."""

import struct

import numpy as np
import pytest
from example_datasets import LABELS, pixels
from PIL import Image
from torchvision.datasets import MNIST, ImageFolder


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {1: 2049, 3: 2051}[array.ndim]
    path.write_bytes(struct.pack(f">{array.ndim + 1}i", kind, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
    r"""Writes seven images in the files of MNIST, and opens them with torchvision."""
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-images-idx3-ubyte", pixels(7, 28, 28))
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-labels-idx1-ubyte", np.array(LABELS, dtype=np.uint8))
    return lambda **options: MNIST(tmp_path, **options)


@pytest.fixture
def image_folder(tmp_path):
    r"""Writes PNG files of one mode, four of one class and two of another, and opens them without conversion."""

    def make(mode="RGB", **options):
        for seed, name in enumerate(["ant/a", "ant/b", "ant/c", "ant/d", "bee/a", "bee/b"]):
            path = tmp_path / mode.replace(";", "") / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = np.random.default_rng(seed)
            if mode == "I;16":
                image = Image.fromarray(generator.integers(0, 2**16, (6, 5), dtype=np.uint16))
            elif mode == "1":
                image = Image.fromarray(generator.random((6, 5)) > 0.5)
            elif mode == "P":
                image = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)).quantize(8)
            else:
                bands = len(Image.new(mode, (1, 1)).getbands())
                values = generator.integers(0, 256, (6, 5, bands), dtype=np.uint8)
                image = Image.frombytes(mode, (5, 6), values.tobytes())
            image.save(path)

        def load(path):
            with Image.open(path) as image:
                image.load()
                return image

        return ImageFolder(tmp_path / mode.replace(";", ""), loader=load, **options)

    return make
