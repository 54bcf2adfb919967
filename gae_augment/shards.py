r"""Many images, written by several workers at a time: a folder of files, WebDataset's tar files, or Parquet files."""

__all__ = ["FORMATS", "write_shards"]

import io
import json
import math
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, count, groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from tqdm.auto import tqdm

from ._utils.files import atomic_write
from ._utils.parallel import Failure, attempt, run_jobs, runs_here
from ._utils.seeding import derive_seed, make_generator
from .augmenter import GAEAugmenter
from .data import Label, as_pictures, check_output
from .models import ModelDefinition, custom_definition


@dataclass(frozen=True)
class Item:
    r"""An image that is written.

    Attributes:
        path: Where it lies in a folder of files, below that.
        place: The place of its class among all.
        source: The file of a real image; of one that is yet to be made ``None``, and then the picture.
    """

    path: Path
    place: int
    source: Path | Image.Image | None

    @property
    def is_synthetic(self) -> bool:
        r"""Whether the image is made."""
        return not isinstance(self.source, Path)

    @property
    def data(self) -> bytes:
        r"""The image as the content of a file."""
        if isinstance(self.source, Path):
            return self.source.read_bytes()
        if self.source is None:
            raise ValueError(f"{self.path} is yet to be made.")
        file = io.BytesIO()
        self.source.save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True)
class Shard:
    r"""What one worker writes at a time.

    Attributes:
        target: The file, or the folder of all files.
        first: The number of images in the shards before it.
        seed: What its images and their order depend on.
        planned: The images, class by class.
        classes: The names of all classes.
    """

    target: Path
    first: int
    seed: int
    planned: tuple[Item, ...]
    classes: tuple[str, ...]

    def items(self, augmenter: GAEAugmenter) -> list[Item]:
        r"""Returns the images, the synthetic ones made, in an order of chance."""
        items = [item for item in self.planned if not item.is_synthetic]
        missing = [item for item in self.planned if item.is_synthetic]
        for place, own in groupby(missing, key=lambda item: item.place):
            wanted = list(own)
            made = augmenter.sample(augmenter.classes_[place].item(), len(wanted), seed=self.seed)
            items += [replace(item, source=picture) for item, picture in zip(wanted, as_pictures(made), strict=True)]
        order = torch.randperm(len(items), generator=make_generator(self.seed, "order"))
        return [items[place] for place in order.tolist()]


def _write_files(shard: Shard, items: list[Item]) -> None:
    for item in items:
        path = shard.target / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item.source, Path):
            shutil.copy2(item.source, path)
        else:
            path.write_bytes(item.data)


def _write_tar(shard: Shard, items: list[Item]) -> None:
    with atomic_write(shard.target) as temporary, tarfile.open(temporary, "w") as tar:
        for number, item in enumerate(items, start=shard.first):
            about = {"class": shard.classes[item.place], "synthetic": item.is_synthetic, "path": item.path.as_posix()}
            parts = {item.path.suffix: item.data, ".cls": str(item.place).encode(), ".json": json.dumps(about).encode()}
            for ending, data in parts.items():
                # All that belong together have one name, which ends at its first dot.
                entry = tarfile.TarInfo(f"{number:08d}{ending.lower()}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def _write_parquet(shard: Shard, items: list[Item]) -> None:
    import pyarrow
    from pyarrow import parquet

    images = [{"bytes": item.data, "path": item.path.as_posix()} for item in items]
    columns = {
        "image": pyarrow.array(images, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})),
        "label": pyarrow.array([item.place for item in items], pyarrow.int64()),
        "is_synthetic": pyarrow.array([item.is_synthetic for item in items], pyarrow.bool_()),
    }
    # What Hugging Face's datasets take columns for.
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(shard.classes), "_type": "ClassLabel"},
        "is_synthetic": {"dtype": "bool", "_type": "Value"},
    }
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    with atomic_write(shard.target) as temporary:
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), temporary)


FORMATS: dict[str, tuple[str | None, Callable[[Shard, list[Item]], None]]] = {
    "imagefolder": (None, _write_files),
    "webdataset": (".tar", _write_tar),
    "parquet": (".parquet", _write_parquet),
}
"""The ending of a shard's file, if there is one, and what writes it."""


def write_shards(
    augmenter: GAEAugmenter,
    output: str | os.PathLike[str],
    *,
    real: ImageFolder | None = None,
    images_to_add: Mapping[Label, int] | None = None,
    format: str = "imagefolder",
    images_per_shard: int = 1000,
    n_jobs: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> list[Path]:
    r"""Writes synthetic images, and with them real ones if wished, in shards that are made side by side.

    Each shard has its part of every class, in an order of chance. The images depend on ``seed`` and the sizes alone,
    not on the number of workers or on where these are; a shard whose worker died is made again. On a cluster, inside of
    ``joblib.parallel_config``, all workers see the output folder under the same path.

    - ``"imagefolder"``: files ``CLASS/synthetic_00000.png``, and real files under their own names.
    - ``"webdataset"``: files ``shard-00000-of-00010.tar``, whose samples have an image, the number of the class
      (``.cls``), and ``.json`` with the name of the class, whether the image is synthetic, and the name that its file
      would have.
    - ``"parquet"``: files ``shard-00000-of-00010.parquet`` with the columns ``image`` (its bytes and its name),
      ``label`` and ``is_synthetic``, as Hugging Face's ``datasets`` and Ray Data read them.

    Args:
        augmenter: A fitted augmenter.
        output: The folder to write to.
        real: The folder that the augmenter was fitted to, to have its files in the output, as they are: where images
            were brought to one size, synthetic ones have that size, and real ones their own.
        images_to_add: The synthetic images of each class. By default the augmenter's strategy.
        format: One of the formats above.
        images_per_shard: The most images of a shard, real and synthetic ones together.
        n_jobs: How many shards are written at a time, as in joblib; with ``None`` one after another, unless a context
            of joblib's says otherwise.
        seed: What the images depend on.
        force: Whether the output may hold files. Shards of the same format it may not hold.

    Returns:
        The files of the shards; of a folder of files the folder.

    Raises:
        NotFittedError: Before ``fit``.
        ValueError: If a number or name is not as above, a class has no generator, images cannot be had in PNG files, or
            the output holds what it may not.
        ModuleNotFoundError: If Parquet files are wished for and pyarrow is missing.
        RuntimeError: If shards could not be written; the others are kept.
    """
    augmenter.report_  # noqa: B018, says whether it is fitted
    if format not in FORMATS:
        raise ValueError(f"'format' is one of {', '.join(map(repr, FORMATS))}, and it is {format!r}.")
    if images_per_shard < 1:
        raise ValueError(f"'images_per_shard' is at least 1, and it is {images_per_shard}.")
    ending, _ = FORMATS[format]
    if format == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Parquet files need pyarrow: pip install 'gae-augment[parquet]'") from error
    classes = _names(augmenter)
    if real is not None and tuple(real.classes) != classes:
        raise ValueError(
            f"The real images are of the classes that the augmenter was fitted to, {list(classes)}, and they are of "
            f"{real.classes}."
        )
    added = augmenter.sampling_strategy_ if images_to_add is None else images_to_add
    for label, number in added.items():
        if number < 0:
            raise ValueError(f"The images to add to a class are 0 or more, and for class {label!r} they are {number}.")
        if number:
            # It says what is wrong with a class or with its images before any work.
            list(as_pictures(augmenter.sample(label, 1, seed=0)))
    # Workers may be at home elsewhere.
    folder = check_output(output, force=force).resolve()
    if ending and (there := sorted(folder.glob(f"shard-*{ending}"))):
        raise ValueError(
            f"Shards are written to a folder without others, which would be read with them, and {str(folder)!r} holds "
            f"{there[0].name!r}. Choose another, or remove them."
        )

    items = _plan(folder, classes, [added.get(label, 0) for label in augmenter.classes_.tolist()], real)
    total = math.ceil(len(items) / images_per_shard)
    # Every so-many-th image, so that each shard has its part of each class.
    parts = [tuple(items[number::total]) for number in range(total)]
    starts = [0, *accumulate(map(len, parts))]
    shards = [
        Shard(
            folder / f"shard-{number:05d}-of-{total:05d}{ending}" if ending else folder,
            starts[number],
            derive_seed(seed, "shard", number),
            part,
            classes,
        )
        for number, part in enumerate(parts)
    ]
    failures: dict[int, str] = {}
    with tqdm(total=total, unit="shard", disable=not augmenter.progress) as bar:
        for number, failure in _write_all(augmenter, shards, folder, format, n_jobs):
            bar.update()
            if failure:
                failures[number] = failure.reason
    if failures:
        number, reason = min(failures.items())
        raise RuntimeError(
            f"{len(failures)} of {total} shards could not be written, the first of them number {number}: {reason}. The "
            f"others are kept in {str(folder)!r}."
        )
    return [shard.target for shard in shards] if ending else [folder]


def _names(augmenter: GAEAugmenter) -> tuple[str, ...]:
    r"""Returns the name of each class, with its label behind it where an earlier one is called the same."""
    names: list[str] = []
    for label, name in augmenter.class_names_.items():
        names.append(f"{name}-{label}" if name in names else name)
    return tuple(names)


def _plan(folder: Path, classes: Sequence[str], added: Sequence[int], real: ImageFolder | None) -> list[Item]:
    r"""Returns all images, class by class. Synthetic files take names that neither real nor present ones have."""
    items: list[Item] = []
    if real is not None:
        items = [Item(Path(path).relative_to(real.root), place, Path(path).resolve()) for path, place in real.samples]
    taken = {item.path for item in items}
    for place, (name, number) in enumerate(zip(classes, added, strict=True)):
        # A class may be called T-shirt/top, and real images lie in the folder that their class is named after.
        folder_name = name if real else name.replace("/", "-").replace("..", "--")
        paths = (Path(folder_name) / f"synthetic_{nth:05d}.png" for nth in count())
        free = (path for path in paths if path not in taken and not (folder / path).exists())
        items += [Item(path, place, None) for path in islice(free, number)]
    return items


def _write_all(
    augmenter: GAEAugmenter, shards: list[Shard], folder: Path, format: str, n_jobs: int | None
) -> Iterator[tuple[int, Failure | None]]:
    r"""Yields the number of each shard that is done with, and what went wrong with it, if anything did."""
    if runs_here(n_jobs):
        for number, shard in enumerate(shards):
            yield number, attempt(_write, shard, format, augmenter)
        return
    # As a file for all workers, and once, and not with each shard.
    model = custom_definition(augmenter.model)
    with TemporaryDirectory(prefix=".augmenter-", dir=folder) as lent:
        file = Path(lent) / "augmenter.safetensors"
        augmenter.save(file)
        jobs = {number: (shard, format, file, model) for number, shard in enumerate(shards)}
        yield from run_jobs(_load_and_write, jobs, n_jobs)


@lru_cache(maxsize=1)
def _load(file: Path, model: ModelDefinition | None) -> GAEAugmenter:
    return GAEAugmenter.load(file, model=model)


def _load_and_write(shard: Shard, format: str, file: Path, model: ModelDefinition | None) -> None:
    _write(shard, format, _load(file, model))


def _write(shard: Shard, format: str, augmenter: GAEAugmenter) -> None:
    FORMATS[format][1](shard, shard.items(augmenter))
