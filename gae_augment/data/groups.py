r"""Groups of images that show one object, read off the paths of their files."""

__all__ = ["FEW_OBJECTS", "groups_of"]

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

FEW_OBJECTS = 10
"""A class with fewer independent objects than this number gets a warning."""


def groups_of(
    paths: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str], pattern: str | None = None
) -> list[str]:
    r"""Returns the name of the object that each image shows. Images of one object have the same name.

    Args:
        paths: The paths of the images, in or below ``root``.
        root: The folder from which the pattern sees the paths, such as that of an image folder.
        pattern: A regular expression that is searched in each path below ``root``, written with ``/``. The text that
            it matches names the object. For example, ``[^/]+/tile\d+`` gives ``Fray/tile004_0.jpg`` and
            ``Fray/tile004_1.jpg`` the name ``Fray/tile004``. A path without a match is an object of its own.
            ``None`` makes every image an object of its own.

    Returns:
        One name per path, in the order of the paths.

    Raises:
        ValueError: If the pattern is no regular expression, or matches no path, or a path does not lie below ``root``.

    Warns:
        UserWarning: If the pattern does not match all paths.
    """
    below = [Path(path).relative_to(root).as_posix() for path in paths]
    if pattern is None:
        return below
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"The pattern of groups {pattern!r} is no regular expression: {error}. Correct it, such as "
            f"'[^/]+/[^/_]+' for files named CLASS/OBJECT_NUMBER.jpg."
        ) from error
    matches = [expression.search(path) for path in below]
    # An empty match would put all images into one group.
    names = [match.group() if match is not None else "" for match in matches]
    missing = [path for path, name in zip(below, names, strict=True) if not name]
    if len(missing) == len(below):
        example = f", such as {below[0]!r}" if below else ""
        raise ValueError(
            f"The pattern of groups {pattern!r} matches none of the {len(below)} paths{example}. Write one that "
            f"matches what names the object, such as '[^/]+/[^/_]+' for files named CLASS/OBJECT_NUMBER.jpg."
        )
    if missing:
        warnings.warn(
            f"The pattern of groups {pattern!r} does not match {len(missing)} of {len(below)} paths, such as "
            f"{missing[0]!r}. Each of them counts as an object of its own.",
            stacklevel=2,
        )
    return [name or path for path, name in zip(below, names, strict=True)]
