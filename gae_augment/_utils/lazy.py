r"""Names of a package that are imported at their first use."""

__all__ = ["lazy_names"]

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    r"""Returns the ``__getattr__`` of a package. It imports the module of a name at the first use of the name.

    Args:
        package: The name of the package.
        homes: The module of each name, relative to the package.
    """

    def import_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name
