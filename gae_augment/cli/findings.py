r"""What ``gae-augment advise`` found on a folder, kept for ``gae-augment balance``."""

__all__ = ["Finding", "recall", "remember"]

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from torchvision.datasets import ImageFolder

from ..evaluation import Advice
from ..fitting import default_cache_dir


@dataclass(frozen=True)
class Finding:
    r"""The verdict on a folder.

    Attributes:
        day: When it was found, such as ``"2026-01-31"``.
        sentence: The verdict in one sentence.
        use: Whether motions or synthetic images should be used.
    """

    day: str
    sentence: str
    use: bool


def remember(dataset: ImageFolder, advice: Advice) -> None:
    r"""Keeps the verdict on a folder in the user's cache, until files are added, removed or renamed."""
    path, finding = _file(dataset), Finding(date.today().isoformat(), advice.sentence, advice.use)
    # The advice itself was printed, so that a cache that cannot be written is no failure.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(finding)), encoding="utf-8")


def recall(dataset: ImageFolder) -> Finding | None:
    r"""Returns the last verdict on a folder with the same files, or ``None``."""
    try:
        return Finding(**json.loads(_file(dataset).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Missing, or of another version.
        return None


def _file(dataset: ImageFolder) -> Path:
    files = sorted(Path(path).relative_to(dataset.root).as_posix() for path, _ in dataset.samples)
    text = "\n".join([str(Path(dataset.root).resolve()), *files])
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return default_cache_dir() / "advice" / f"{digest}.json"
