r"""The file formats for exported images."""

__all__ = ["FORMATS", "Format", "Item", "Shard"]

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from PIL import Image
from torch import Tensor

from .._utils.files import atomic_write
from .._utils.text import printable
from .._utils.threads import SharedContext, map_in_threads
from ..data import upright_bytes
from .moved_files import moved_bytes


@dataclass(frozen=True)
class Item:
    r"""One image to export.

    Attributes:
        path: The path of the image's file, relative to an image folder.
        class_index: The index of the image's class.
        source: The path of a real image's file, or of the real image that a deformed image is made from. For another
            synthetic image, ``None`` before sampling, and the image afterwards.
        is_synthetic: Whether the image is synthetic.
        motion: The velocity field of a deformed image, with shape :math:`(1, 2, 8, 8)`. ``None`` before sampling, and
            for other images.
    """

    path: Path
    class_index: int
    source: Path | Image.Image | None
    is_synthetic: bool
    motion: Tensor | None = None

    @property
    def is_sampled(self) -> bool:
        r"""Whether the image is real, or synthetic and sampled already."""
        return not self.is_synthetic or self.motion is not None or isinstance(self.source, Image.Image)

    @property
    def data(self) -> bytes:
        r"""The bytes of the image's file: the real one, a deformed one in the same format, or a PNG.

        Raises:
            ValueError: If the image is synthetic and not sampled yet.
        """
        if isinstance(self.source, Path) and self.motion is not None:
            return moved_bytes(self.source, self.motion)
        if isinstance(self.source, Path) and not self.is_synthetic:
            return upright_bytes(self.source) or self.source.read_bytes()
        if not isinstance(self.source, Image.Image):
            raise ValueError(f"{self.path} is not sampled yet.")
        file = io.BytesIO()
        self.source.save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True)
class Shard:
    r"""A batch of real and synthetic images that one job writes to files.

    Attributes:
        target: The path of the shard's file, or of the image folder.
        resumed: Whether files that exist already are kept, because an interrupted run wrote them.
        first: The total number of images in the preceding shards.
        seed: The seed of the synthetic images and of the order of all images.
        items: The real images, followed by synthetic images that are not sampled yet.
        class_names: The names of all classes, ordered by class index.
    """

    target: Path
    resumed: bool
    first: int
    seed: int
    items: tuple[Item, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    r"""A file format for shards (batches of exported images).

    Attributes:
        write: A function that writes a shard. Its arguments are the ``Shard`` and its images, all sampled and in order.
        suffix: The suffix of a shard's file; ``None`` for an image folder.
        library: The optional library that the format needs; ``None`` if it needs none.
        extra: The dependency group of gae-augment that installs the library; ``None`` without a library.
    """

    write: Callable[[Shard, list[Item]], None]
    suffix: str | None = None
    library: str | None = None
    extra: str | None = None

    def check_library(self) -> None:
        r"""Raises a ModuleNotFoundError if the format's optional library is missing."""
        if self.library is None:
            return
        try:
            import_module(self.library)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"This format needs the library {self.library!r}: pip install 'gae-augment[{self.extra}]'"
            ) from error


def _with_data(items: list[Item]) -> Iterator[tuple[Item, bytes]]:
    r"""Yields pairs of an image and the bytes of its file. Threads prepare them, one image each."""
    yield from zip(items, map_in_threads(lambda item: item.data, items), strict=True)


def _write_image_folder(shard: Shard, items: list[Item]) -> None:
    def write(item: Item) -> None:
        path = shard.target / item.path
        if shard.resumed and path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            if item.is_synthetic or not isinstance(item.source, Path):
                temporary.write_bytes(item.data)
            elif (turned := upright_bytes(item.source)) is not None:
                temporary.write_bytes(turned)
            else:
                shutil.copy2(item.source, temporary)

    for _ in map_in_threads(write, items):
        pass


def _write_tar(shard: Shard, items: list[Item]) -> None:
    from webdataset import TarWriter

    # Constant metadata, so that the same images give the same bytes.
    metadata = {"user": "", "group": "", "mode": 0o644, "mtime": 0}
    with (
        atomic_write(shard.target) as temporary,
        temporary.open("wb") as file,
        TarWriter(file, encoder=False, **metadata) as tar,
    ):
        for number, (item, data) in enumerate(_with_data(items), start=shard.first):
            description = {
                "class": shard.class_names[item.class_index],
                "synthetic": item.is_synthetic,
                "path": item.path.as_posix(),
            }
            tar.write(
                {
                    "__key__": f"{number:08d}",
                    item.path.suffix.removeprefix(".").lower(): data,
                    "cls": str(item.class_index).encode(),
                    "json": json.dumps(description).encode(),
                }
            )


@contextmanager
def _progress_bars_disabled() -> Iterator[None]:
    import datasets

    # If the environment variable is set, it wins, and these calls only warn.
    unchanged = datasets.are_progress_bars_disabled() or datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is not None
    if not unchanged:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not unchanged:
            datasets.enable_progress_bars()


# Shared, because several threads may write shards while the setting of the progress bars is global.
_no_progress_bars = SharedContext(_progress_bars_disabled)


def _write_parquet(shard: Shard, items: list[Item]) -> None:
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    columns = {
        "image": [{"bytes": data, "path": printable(item.path.as_posix())} for item, data in _with_data(items)],
        "label": [item.class_index for item in items],
        "is_synthetic": [item.is_synthetic for item in items],
    }
    features = Features(
        image={"bytes": Value("binary"), "path": Value("string")},
        label=ClassLabel(names=list(map(printable, shard.class_names))),
        is_synthetic=Value("bool"),
    )
    # An Image column would drop the bytes of an image whose path exists in the working directory, so cast afterwards.
    table = Dataset.from_dict(columns, features=features).cast_column("image", ImageFeature())
    with atomic_write(shard.target) as temporary, temporary.open("wb") as file, _no_progress_bars:
        table.to_parquet(file)


FORMATS: dict[str, Format] = {
    "imagefolder": Format(_write_image_folder),
    "webdataset": Format(_write_tar, ".tar", "webdataset", "webdataset"),
    "parquet": Format(_write_parquet, ".parquet", "datasets", "huggingface"),
}
"""The file formats, by the name that ``write_shards`` accepts."""
