r"""Groups of images that show one object, read off the paths of their files, or from a table."""

__all__ = ["FEW_OBJECTS", "count_known_objects", "groups_of"]

import csv
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
            ``Fray/tile004_1.jpg`` the name ``Fray/tile004``. A text that ends with ``.csv`` is the path of a CSV file
            with the columns ``path``, below ``root``, and ``group``. An image without a match or without a row is an
            object of its own. ``None`` makes every image an object of its own.

    Returns:
        One name per path, in the order of the paths.

    Raises:
        ValueError: If the pattern is no regular expression, or matches no path, or a path does not lie below ``root``.
            If the CSV file lacks a column, names an image twice, or names none of the images.
        OSError: If the CSV file cannot be read.

    Warns:
        UserWarning: If the pattern does not match all paths, or the CSV file does not have all.
    """
    below = [Path(path).relative_to(root).as_posix() for path in paths]
    if pattern is None:
        return below
    if pattern.lower().endswith(".csv"):
        names, source = _names_in_file(pattern, below), f"The file of groups {pattern!r} does not name"
    else:
        names, source = _names_in_paths(pattern, below), f"The pattern of groups {pattern!r} does not match"
    missing = [path for path, name in zip(below, names, strict=True) if not name]
    if missing:
        warnings.warn(
            f"{source} {len(missing)} of {len(below)} paths, such as {missing[0]!r}. Each of them counts as an object "
            f"of its own.",
            stacklevel=2,
        )
    return [name or path for path, name in zip(below, names, strict=True)]


def count_known_objects(
    paths: Sequence[str], unseen_paths: Sequence[str], *, roots: tuple[str, str], pattern: str
) -> int:
    r"""Returns how many images of a second folder show objects that images of a first folder show.

    Args:
        paths: The paths of the images in the first folder.
        unseen_paths: The paths of those in the second one.
        roots: Both folders.
        pattern: As for :func:`groups_of`. The paths in a CSV file are below the folder that holds both folders, because
            both may hold files of the same names.

    Raises:
        ValueError: As for :func:`groups_of`.
        OSError: If the CSV file cannot be read.
    """
    if pattern.lower().endswith(".csv"):
        everything = list(map(os.path.abspath, [*paths, *unseen_paths]))
        root = os.path.commonpath(list(map(os.path.abspath, roots)))
        names, own = groups_of(everything, root, pattern), groups_of(everything, root)
        known, unseen, unnamed = names[: len(paths)], names[len(paths) :], own[len(paths) :]
    else:
        known, unseen = groups_of(paths, roots[0], pattern), groups_of(unseen_paths, roots[1], pattern)
        unnamed = groups_of(unseen_paths, roots[1])
    # A path without an object of its own says nothing.
    objects = set(known) - set(unnamed)
    return sum(name in objects for name in unseen)


def _names_in_paths(pattern: str, below: Sequence[str]) -> list[str]:
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
    if not any(names):
        example = f", such as {below[0]!r}" if below else ""
        raise ValueError(
            f"The pattern of groups {pattern!r} matches none of the {len(below)} paths{example}. Write one that "
            f"matches what names the object, such as '[^/]+/[^/_]+' for files named CLASS/OBJECT_NUMBER.jpg."
        )
    return names


def _names_in_file(file: str, below: Sequence[str]) -> list[str]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"The file of groups {file!r} is no CSV file in UTF-8: {error}. Export it again.") from error
    if not {"path", "group"} <= set(columns):
        raise ValueError(
            f"The file of groups {file!r} has the columns {columns}, but must have 'path' and 'group'. Write them into "
            f"its first line."
        )
    group_of: dict[str, str] = {}
    for row in rows:
        path, group = Path((row["path"] or "").replace("\\", "/")).as_posix(), row["group"] or ""
        if group_of.setdefault(path, group) != group:
            raise ValueError(f"The file of groups {file!r} gives {path!r} two groups. Remove one of the lines.")
    names = [group_of.get(path, "") for path in below]
    if below and not any(names):
        raise ValueError(
            f"The file of groups {file!r} names none of the {len(below)} images, such as {below[0]!r}. Write paths "
            f"below the folder of the images."
        )
    return names
