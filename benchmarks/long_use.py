r"""``python -m benchmarks.long_use``: memory, open files and threads of a process after many fits and samples."""

import argparse
import csv
import gc
import os
import resource
import warnings
from pathlib import Path

import torch
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import TensorDataset
from tqdm.auto import tqdm

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import make_generator

RESULTS = Path(__file__).resolve().parent / "results" / "long_use"

FITS, EPOCHS = 50, 1000


def held() -> dict[str, int]:
    r"""Returns the process's resident memory in kB, without mapped files, and its numbers of open files and threads."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["RssAnon"].split()[0]) + int(status["RssShmem"].split()[0]),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
    }


def measure() -> list[dict[str, int | str]]:
    r"""Repeats a fit, with images in memory and in files in turn, then draws new images for every epoch."""
    labels = torch.tensor([0] * 400 + [1] * 100 + [2] * 50)
    images = torch.randint(0, 256, (len(labels), 1, 28, 28), dtype=torch.uint8, generator=make_generator(0))
    dataset = TensorDataset(images, labels)
    rows: list[dict[str, int | str]] = []
    for number in tqdm(range(FITS), unit="fit"):
        folder = None if number % 2 else RESULTS / "scratch"
        model = GenerativeModel(epochs=20, delta=1e-9)
        augmenter = GAEAugmenter(model, random_state=number, progress=False, cache_dir=folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            augmented = augmenter.fit(dataset).augment(dataset)
        gc.collect()
        rows.append({"what": "fit", "number": number, **held()})
    for epoch in tqdm(range(EPOCHS), unit="epoch"):
        augmented.set_epoch(epoch)
        rows.append({"what": "epoch", "number": epoch, **held()})
    (RESULTS / "scratch").rmdir()
    return rows


def picture(rows: list[dict[str, int | str]], path: Path) -> None:
    r"""Draws memory over fits, and over epochs."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for axis, what in zip(axes, ("fit", "epoch"), strict=True):
        selected = [row for row in rows if row["what"] == what]
        axis.plot([int(row["number"]) for row in selected], [int(row["memory"]) / 1024 for row in selected])
        axis.set_xlabel(f"{what}s")
        axis.set_ylim(0, 1.2 * max(int(row["memory"]) for row in rows) / 1024)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("memory in MB")
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    r"""Measures this process, so that each call needs a new one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_use", description=__doc__)
    parser.parse_args(arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = measure()
    with (RESULTS / "held.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    picture(rows, RESULTS / "memory.png")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for what, number in (("fit", 9), ("fit", FITS - 1), ("epoch", 9), ("epoch", EPOCHS - 1)):
        row = next(row for row in rows if (row["what"], row["number"]) == (what, number))
        print(f"{what} {number + 1}: {int(row['memory']) // 1024} MB, {row['files']} files, {row['threads']} threads")
    print(f"most resident memory, with mapped files: {most} MB")


if __name__ == "__main__":
    main()
