r"""Samples images from a fitted augmenter, and writes them in shards (batches of images)."""

__all__ = ["write_images", "write_shards"]

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, count, groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torchvision.datasets import ImageFolder
from tqdm.auto import tqdm

from .._utils.parallel import Failure, attempt, run_jobs, runs_here
from .._utils.seeding import balanced_draw, derive_seed, make_generator
from ..augmenter import GAEAugmenter
from ..data import Label, as_pictures, check_output
from ..models import ModelDefinition, custom_definitions
from .formats import FORMATS, Item, Shard
from .selection import Chosen

WORKERS_FOLDER = ".augmenter-"
"""The beginning of the name of a folder, in the output folder, that holds the augmenter for the workers."""


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
    resume: bool = False,
) -> list[Path]:
    r"""Writes synthetic images, and real images if given, in shards (batches of images).

    Each shard holds about the same fraction of every class, in random order. The synthetic images do not depend on the
    number of workers. If workers run on several machines, all machines must see the output folder under the same path.

    There are three formats:

    - ``"imagefolder"`` writes synthetic images as ``CLASS/synthetic_00000.png``, ``CLASS/synthetic_00001.png`` and so
      on, and copies real images under their original names. A deformed image has the size, format and quality of the
      real image that it was made from, so its file may be a ``.jpg``.
    - ``"webdataset"`` writes tar files. Each sample holds the image, the index of its class (``.cls``) and a ``.json``.
      The ``.json`` has the keys ``class`` (its name), ``synthetic`` (a Boolean) and ``path`` (in an image folder).
    - ``"parquet"`` writes Parquet files with the columns ``image`` (bytes and path), ``label`` and ``is_synthetic``.

    Args:
        augmenter: A fitted augmenter.
        output: The folder to write to.
        real: The image folder that the augmenter was fitted to. Its images are exported unchanged, in their original
            size. By default only synthetic images are exported, all in the working size.
        images_to_add: The number of synthetic images of each class, by label. By default the augmenter's
            ``sampling_strategy_``.
        format: One of the formats above.
        images_per_shard: The maximum number of images in a shard.
        n_jobs: The number of shards written at the same time, as in joblib. By default the joblib context sets the
            number. Without a context, shards are written one after another.
        seed: The seed of the synthetic images and of the order of all images.
        force: Whether the output folder may already hold other files.
        resume: Whether files that an interrupted call with the same arguments wrote are kept.

    Returns:
        The paths of the shards' files. For ``"imagefolder"``, the path of the output folder only.

    Raises:
        NotFittedError: If the augmenter is not fitted.
        ValueError: If an argument is invalid, a class has no model, PNG files cannot hold the images, or the output
            folder already holds shards of this format, or any file while ``force`` is false.
        ModuleNotFoundError: If the library of the format is missing.
        RuntimeError: If a shard could not be written. The other shards are kept.
    """
    augmenter.report_  # noqa: B018, raises NotFittedError
    _check_format(format, images_per_shard)
    class_names = _unique(augmenter.class_names_.values(), augmenter.class_names_)
    if real is not None and tuple(real.classes) != class_names:
        raise ValueError(
            f"The real images have the classes {real.classes}, but the augmenter was fitted to {list(class_names)}. "
            f"Pass the folder that it was fitted to."
        )
    images_to_add = augmenter.sampling_strategy_ if images_to_add is None else images_to_add
    for label, number in images_to_add.items():
        if number < 0:
            raise ValueError(f"'images_to_add' is {number} for class {label!r}, but must be 0 or more.")
        if number and not _is_moved(augmenter, label, real):
            # One test image shows, before any work, whether the class has a model and its images can be written.
            list(as_pictures(augmenter.sample(label, 1, seed=0)))
    folder = _open_target(output, format, force, resume)
    labels = augmenter.classes_.tolist()
    moved = [_is_moved(augmenter, label, real) for label in labels]
    items = _plan(folder, class_names, [images_to_add.get(label, 0) for label in labels], moved, real, seed, resume)
    shards = _divide(items, class_names, folder, format, images_per_shard, seed, resume)
    return _write_all(augmenter, shards, folder, format, n_jobs, augmenter.progress)


def write_images(
    real: ImageFolder,
    output: str | os.PathLike[str],
    synthetic: Mapping[int, Sequence[Chosen]] | None = None,
    *,
    format: str = "imagefolder",
    images_per_shard: int = 1000,
    n_jobs: int | None = None,
    seed: int = 0,
    force: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> list[Path]:
    r"""Writes the images of a folder, and synthetic images that were chosen before, in shards.

    Names and formats are those of :func:`write_shards`.

    Args:
        real: The image folder.
        output: The folder to write to.
        synthetic: The synthetic images of each class, by the index of the class, from :func:`select_images`.
        format: One of the formats of :func:`write_shards`.
        images_per_shard: The maximum number of images in a shard.
        n_jobs: The number of shards written at the same time, as in joblib.
        seed: The seed of the order of the images.
        force: Whether the output folder may already hold other files.
        resume: Whether files that an interrupted call with the same arguments wrote are kept.
        progress: Whether to show a progress bar.

    Returns:
        The paths of the shards' files. For ``"imagefolder"``, the path of the output folder only.

    Raises:
        ValueError, ModuleNotFoundError, RuntimeError: For the reasons listed in :func:`write_shards`.
    """
    _check_format(format, images_per_shard)
    folder = _open_target(output, format, force, resume)
    items = _real_items(real)
    taken = {item.path for item in items}
    for index, images in (synthetic or {}).items():
        new_path = _new_paths(folder, real.classes[index], taken, resume)
        for chosen in images:
            is_moved = isinstance(chosen.source, int)
            source = Path(real.samples[chosen.source][0]) if isinstance(chosen.source, int) else chosen.source
            path = new_path(source.suffix if isinstance(source, Path) else ".png")
            source = source.resolve() if isinstance(source, Path) else source
            items.append(Item(path, index, source, is_synthetic=True, motion=chosen.motion if is_moved else None))
    shards = _divide(items, tuple(real.classes), folder, format, images_per_shard, seed, resume)
    return _write_all(None, shards, folder, format, n_jobs, progress)


def _check_format(format: str, images_per_shard: int) -> None:
    if format not in FORMATS:
        raise ValueError(f"'format' is {format!r}, but must be one of {', '.join(map(repr, FORMATS))}.")
    if images_per_shard < 1:
        raise ValueError(f"'images_per_shard' is {images_per_shard}, but must be at least 1.")
    FORMATS[format].check_library()


def _open_target(output: str | os.PathLike[str], format: str, force: bool, resume: bool) -> Path:
    # Workers may have another working directory.
    folder = check_output(output, force=force or resume).resolve()
    suffix = FORMATS[format].suffix
    if suffix and not resume and (existing := sorted(folder.glob(f"shard-*{suffix}"))):
        raise ValueError(
            f"{str(folder)!r} already holds the shard {existing[0].name!r}, and readers would mix old and new shards. "
            f"Choose another folder, or remove the old shards."
        )
    return folder


def _divide(
    items: list[Item],
    class_names: tuple[str, ...],
    folder: Path,
    format: str,
    images_per_shard: int,
    seed: int,
    resume: bool,
) -> list[Shard]:
    r"""Divides all images into shards, and removes what a killed process left of them."""
    suffix = FORMATS[format].suffix
    total = math.ceil(len(items) / images_per_shard)
    # Every total-th image goes to the same shard, so that each shard gets the same fraction of each class.
    chunks = [tuple(items[number::total]) for number in range(total)]
    first = [0, *accumulate(map(len, chunks))]
    shards = [
        Shard(
            folder / f"shard-{number:05d}-of-{total:05d}{suffix}" if suffix else folder,
            resume,
            first[number],
            derive_seed(seed, "shard", number),
            chunk,
            class_names,
        )
        for number, chunk in enumerate(chunks)
    ]
    if resume:
        _remove_leftovers(folder, shards)
    return shards


def _write_all(
    augmenter: GAEAugmenter | None, shards: list[Shard], folder: Path, format: str, n_jobs: int | None, progress: bool
) -> list[Path]:
    r"""Writes all shards, and returns the paths of their files, or that of the image folder.

    Raises:
        RuntimeError: If a shard could not be written.
    """
    failures: dict[int, str] = {}
    with tqdm(total=len(shards), unit="shard", disable=not progress) as bar:
        for number, failure in _run(augmenter, shards, folder, format, n_jobs):
            bar.update()
            if failure:
                failures[number] = failure.reason
    if not runs_here(n_jobs):
        # Of lost workers, whose shards other workers have written.
        _remove_leftovers(folder, shards)
    if failures:
        number, reason = min(failures.items())
        raise RuntimeError(
            f"{len(failures)} of {len(shards)} shards could not be written; shard {number} failed with {reason}. The "
            f"other shards are in {str(folder)!r}."
        )
    return [shard.target for shard in shards] if FORMATS[format].suffix else [folder]


def _unique(names: Iterable[str], labels: Iterable[Label]) -> tuple[str, ...]:
    r"""Returns one name per class. A repeated name gets its label appended."""
    unique: list[str] = []
    for name, label in zip(names, labels, strict=True):
        while name in unique:
            name = f"{name}-{label}"
        unique.append(name)
    return tuple(unique)


def _is_moved(augmenter: GAEAugmenter, label: Label, real: ImageFolder | None) -> bool:
    r"""Returns whether new images of a class are the real images of a folder, moved."""
    return real is not None and augmenter.motions_for(label, 1, seed=0) is not None


def _plan(
    folder: Path,
    class_names: Sequence[str],
    images_to_add: Sequence[int],
    moved: Sequence[bool],
    real: ImageFolder | None,
    seed: int,
    resume: bool,
) -> list[Item]:
    r"""Lists the real images, then the synthetic images, class by class.

    Each synthetic image gets an unused path. A deformed one gets the real image that it is made from.
    """
    items = [] if real is None else _real_items(real)
    real_paths = {item.path for item in items}
    folders = class_names
    if real is None:
        # With real images, names are those of their folders. Otherwise they may be invalid, such as "T-shirt/top".
        folders = _unique((name.replace("/", "-").replace("..", "--") for name in class_names), range(len(class_names)))
    for index, (folder_name, number) in enumerate(zip(folders, images_to_add, strict=True)):
        originals: Sequence[Item | None] = [None] * number
        if moved[index] and number:
            of_class = [item for item in items if item.class_index == index]
            draw = balanced_draw(len(of_class), number, derive_seed(seed, "sources", index))
            originals = [of_class[position] for position in draw.tolist()]
        new_path = _new_paths(folder, folder_name, real_paths, resume)
        for original in originals:
            # The file itself may be a link to one without an ending.
            ending, source = (".png", None) if original is None else (original.path.suffix, original.source)
            items.append(Item(new_path(ending), index, source, is_synthetic=True))
    return items


def _real_items(real: ImageFolder) -> list[Item]:
    return [
        Item(Path(path).relative_to(real.root), index, Path(path).resolve(), is_synthetic=False)
        for path, index in real.samples
    ]


def _new_paths(folder: Path, class_folder: str, taken: Set[Path], resume: bool) -> Callable[[str], Path]:
    r"""Returns a function from the ending of a file to the next unused path, relative to the folder."""
    numbers = count()

    def new_path(ending: str) -> Path:
        paths = (Path(class_folder) / f"synthetic_{number:05d}{ending}" for number in numbers)
        return next(path for path in paths if path not in taken and (resume or not (folder / path).exists()))

    return new_path


def _remove_leftovers(folder: Path, shards: Iterable[Shard]) -> None:
    r"""Removes the temporary files that a killed process left beside the files that it was writing."""
    names: dict[Path, set[str]] = {}
    for shard in shards:
        targets = [folder / item.path for item in shard.items] if shard.target == folder else [shard.target]
        for target in targets:
            names.setdefault(target.parent, set()).add(target.name)
    for parent, of_parent in names.items():
        for leftover in parent.glob(".*"):
            if leftover.stem.removeprefix(".") in of_parent:
                leftover.unlink()
    for leftover in folder.glob(f"{WORKERS_FOLDER}*"):
        shutil.rmtree(leftover)


def _run(
    augmenter: GAEAugmenter | None, shards: list[Shard], folder: Path, format: str, n_jobs: int | None
) -> Iterator[tuple[int, Failure | None]]:
    r"""Runs one job for each shard. Yields each shard's number and its failure, which is ``None`` after success."""
    if runs_here(n_jobs):
        for number, shard in enumerate(shards):
            yield number, attempt(_write, shard, format, augmenter)
    elif augmenter is None:
        yield from run_jobs(_write, {number: (shard, format, None) for number, shard in enumerate(shards)}, n_jobs)
    else:
        # One file that all workers read is cheaper than sending a copy of the augmenter with each shard.
        definitions = custom_definitions(augmenter.model)
        with TemporaryDirectory(prefix=WORKERS_FOLDER, dir=folder) as temporary:
            file = Path(temporary) / "augmenter.safetensors"
            augmenter.save(file)
            jobs = {number: (shard, format, file, definitions) for number, shard in enumerate(shards)}
            yield from run_jobs(_load_and_write, jobs, n_jobs)


@lru_cache(maxsize=1)
def _load(file: Path, definitions: tuple[ModelDefinition, ...]) -> GAEAugmenter:
    return GAEAugmenter.load(file, definition=definitions)


def _load_and_write(shard: Shard, format: str, file: Path, definitions: tuple[ModelDefinition, ...]) -> None:
    _write(shard, format, _load(file, definitions))


def _write(shard: Shard, format: str, augmenter: GAEAugmenter | None) -> None:
    if shard.resumed and shard.target.is_file():
        return
    FORMATS[format].write(shard, _sample(shard, augmenter))


def _sample(shard: Shard, augmenter: GAEAugmenter | None) -> list[Item]:
    r"""Returns the real images and newly sampled synthetic images of a shard, in random order."""
    items = [item for item in shard.items if item.is_sampled]
    synthetic_items = (item for item in shard.items if not item.is_sampled)
    for index, group in groupby(synthetic_items, key=lambda item: item.class_index):
        assert augmenter is not None
        class_items, label = list(group), augmenter.classes_[index].item()
        if isinstance(class_items[0].source, Path):
            fields = augmenter.motions_for(label, len(class_items), seed=shard.seed)
            assert fields is not None
            items += [replace(item, motion=v) for item, v in zip(class_items, fields.split(1), strict=True)]
            continue
        images = augmenter.sample(label, len(class_items), seed=shard.seed)
        items += [replace(item, source=image) for item, image in zip(class_items, as_pictures(images), strict=True)]
    order = torch.randperm(len(items), generator=make_generator(shard.seed, "order"))
    return [items[position] for position in order.tolist()]
