r"""The import graph of the package. ``python tests/imports.py`` draws it, room by room."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = {"gae_augment": ROOT / "gae_augment", "gae_augment.integrations": ROOT / "integrations"}

ROWS = (
    ("_utils",),
    ("data", "models"),
    ("fitting",),
    ("synthesis",),
    ("motion",),
    ("mixing",),
    ("augmenter",),
    ("evaluation",),
    ("report", "export"),
    ("demo", "integrations"),
    ("cli",),
)
"""The rooms from the bottom up. A module imports from its own room and from rows below it."""


class Import(NamedTuple):
    r"""An import of a name from a module of the package; the name is empty for the module itself."""

    importer: str
    module: str
    name: str


def modules() -> dict[str, Path]:
    r"""Returns the file of each module, by its whole name; a package stands for its ``__init__``."""
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for package, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
    }


MODULES = modules()


@cache
def parse(path: Path) -> ast.Module:
    r"""Returns the syntax tree of a file."""
    text = path.read_text(encoding="utf-8")
    try:
        return ast.parse(text)
    except SystemError:
        # CPython 3.11 can confuse the depths of two trees that are made at the same time, by two threads or by the
        # garbage collector (https://github.com/python/cpython/issues/106905).
        return ast.parse(text)


def imports_of(importer: str) -> Iterator[Import]:
    r"""Yields what a module imports from the package, at its top, in functions and for type checkers."""
    path = MODULES[importer]
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (Import(importer, alias.name, "") for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                # A function may have the name of its module.
                if f"{module}.{alias.name}" in MODULES and alias.name not in surface(module):
                    yield Import(importer, f"{module}.{alias.name}", "")
                elif module in MODULES:
                    yield Import(importer, module, alias.name)


def surface(module: str) -> set[str]:
    r"""Returns the names in ``__all__`` of a module."""
    for node in parse(MODULES[module]).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if getattr(target, "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def room(module: str) -> str:
    r"""Returns the room of a module; the package itself, with the public names, is a room of its own."""
    return module.split(".")[1] if "." in module else "gae_augment"


def row(name: str) -> float:
    r"""Returns the number of a room's row, from the bottom; the public names stand right above the augmenter."""
    if name == "gae_augment":
        return row("augmenter") + 0.5
    (number,) = [number for number, rooms in enumerate(ROWS) if name in rooms]
    return number


def circle_free_order() -> list[str]:
    r"""Returns the modules so that each comes after those that it imports.

    Raises:
        graphlib.CycleError: If there is a circle.
    """
    return list(
        TopologicalSorter({name: {imported.module for imported in imports_of(name)} for name in MODULES}).static_order()
    )


def draw() -> str:
    r"""Returns the rooms from the top down, each with the rooms that it imports from."""
    rooms: dict[str, set[str]] = {}
    for name in MODULES:
        rooms.setdefault(room(name), set()).update(room(imported.module) for imported in imports_of(name))
    lines = []
    for row_of_rooms in reversed(ROWS):
        for name in row_of_rooms:
            others = sorted(rooms[name] - {name}, key=row, reverse=True)
            lines.append(f"{name:12} -> {', '.join(others) or '(nothing)'}")
    return "\n".join(lines)


if __name__ == "__main__":
    circle_free_order()
    print(draw())
