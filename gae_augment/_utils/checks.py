r"""Checks of arguments: integers, numbers in a range, and tensors."""

__all__ = ["check_integer", "check_number", "check_tensor"]

from numbers import Integral, Real
from typing import Any

from torch import Tensor


def check_integer(value: Any, name: str, least: int | None = None) -> None:
    r"""Checks that an argument is an integer, and is not below a minimum.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is below ``least``.
    """
    rule = "an integer" if least is None else f"an integer of at least {least}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"'{name}' is {value!r}, but must be {rule}.")
    if least is not None and value < least:
        raise ValueError(f"'{name}' is {value}, but must be at least {least}.")


def check_number(value: Any, name: str, low: float, high: float) -> None:
    r"""Checks that an argument is a number from ``low`` to ``high``.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    if not isinstance(value, Real):
        raise TypeError(f"'{name}' is {value!r}, but must be a number between {low:g} and {high:g}.")
    if not low <= float(value) <= high:
        raise ValueError(f"'{name}' is {value}, but must be a number between {low:g} and {high:g}.")


def check_tensor(value: Any, name: str) -> None:
    r"""Checks that an argument is a tensor.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"'{name}' is of type {type(value).__name__}, but must be a tensor. Convert an array with torch.from_numpy."
        )
