r"""Lets a command that was interrupted go on where it stopped."""

__all__ = ["Run", "resumable", "unfinished"]

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._utils.files import atomic_write
from .._utils.version import __version__
from ..data import check_output

FOLDER = ".gae-augment"
"""The hidden folder, in the output folder, that holds unfinished work."""


@dataclass
class Run:
    r"""A run that can be resumed.

    Attributes:
        folder: The folder of unfinished work, in the output folder; ``None`` for a run that cannot be resumed.
        resumes: Whether an earlier run with the same options and files was interrupted.
        unfinished: Whether the folder stays at the end, for a later run.
    """

    folder: Path | None
    resumes: bool = False
    unfinished: bool = False


@contextmanager
def resumable(
    output: str | os.PathLike[str], options: Mapping[str, Any], files: Iterable[str], force: bool
) -> Iterator[Run]:
    r"""Context manager: yields a run, which goes on where an interrupted one stopped.

    Its folder is removed at the end, and stays after an error or an interruption.

    Args:
        output: The output folder, which is created if it does not exist.
        options: The options that the output depends on, as values that JSON supports.
        files: The paths of the input files. Their sizes and times of change are part of what identifies a run.
        force: Whether the output folder may hold other files. Then the run cannot be resumed.

    Raises:
        ValueError: If the output folder cannot be written to, holds other files while ``force`` is false, or holds an
            unfinished run with other options or files.
    """
    folder = unfinished(output)
    key, state = _digest(options, files), folder / "run"
    run = Run(folder, resumes=state.exists())
    if run.resumes and state.read_text() != key:
        raise ValueError(
            f"The output folder {str(output)!r} holds an unfinished run with other images or options. Repeat the "
            f"command of that run, or remove the folder."
        )
    if not run.resumes:
        if folder.is_dir():
            # The process of that run was killed before any work.
            shutil.rmtree(folder)
        check_output(output, force=force)
        if any(Path(output).iterdir()):
            # Names of new files depend on the files that are there, and an interruption would change them.
            yield Run(None)
            return
        folder.mkdir()
        with atomic_write(state) as temporary:
            temporary.write_text(key)
    yield run
    if not run.unfinished:
        shutil.rmtree(folder)


def unfinished(output: str | os.PathLike[str]) -> Path:
    r"""Returns the path of the folder of unfinished work in an output folder, which may not exist."""
    return Path(output) / FOLDER


def _digest(options: Mapping[str, Any], files: Iterable[str]) -> str:
    digest = hashlib.sha256(json.dumps([__version__, dict(options)], sort_keys=True, default=str).encode())
    for file in files:
        status = os.stat(file)
        # A name need not be UTF-8.
        digest.update(os.fsencode(f"{file} {status.st_size} {status.st_mtime_ns}"))
    return digest.hexdigest()
