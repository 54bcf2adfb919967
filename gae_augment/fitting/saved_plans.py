r"""Checks the plan of a fit that was read from a file."""

__all__ = ["plan_from_plain"]

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from ..models import DENSITIES, LR_SCHEDULES, MAX_STEP, PRECISIONS, SYNTHESES, check_architecture
from .plan import MIN_IMAGES, STOPPING_RULES, Plan

HIGHEST = {"step": MAX_STEP, "max_similarity": 1.0}
"""The largest valid values of a plan's ``step`` and ``max_similarity``."""


def plan_from_plain(values: Mapping[str, Any]) -> Plan:
    r"""Returns the plan that plain values describe.

    Args:
        values: The values of ``dataclasses.asdict(plan)``, possibly converted to JSON and back.

    Raises:
        KeyError, TypeError, ValueError: If the values do not describe a plan.
    """
    plain = dict(values)
    for name in ("shape", "architecture"):
        if isinstance(plain[name], list):
            plain[name] = tuple(plain[name])
    plan = Plan(**plain)
    for field in fields(Plan):
        _check(field.name, getattr(plan, field.name))
    check_architecture(plan.architecture, plan.shape)
    _check_together(plan)
    return plan


def _check(name: str, value: Any) -> None:
    r"""Raises a ValueError if ``value`` is not valid for the field ``name`` of a plan."""
    match name:
        case "model":
            allowed = isinstance(value, str)
        case "device":
            allowed = _is_device(value)
        case "shape":
            allowed = isinstance(value, tuple) and 1 <= len(value) <= 3 and all(map(_is_positive, value))
        case "architecture":
            check_architecture(value, (1, 1, 1))
            allowed = True
        case "density":
            allowed = value in DENSITIES
        case "stopping":
            allowed = value in STOPPING_RULES
        case "lr_schedule":
            allowed = value in LR_SCHEDULES
        case "precision":
            allowed = value in PRECISIONS
        case "truncated" | "learned_prior":
            allowed = value is True or value is False
        case "held_out":
            allowed = type(value) is int and value >= 0
        case "delta" | "learning_rate" | "resolution":
            allowed = (name == "delta" and value is None) or (_is_number(value) and value < math.inf)
        case "synthesis":
            allowed = value in SYNTHESES
        case "max_similarity" | "step":
            allowed = (name != "step" and value is None) or (_is_number(value) and value <= HIGHEST[name])
        case _:
            allowed = _is_positive(value)
    if not allowed:
        raise ValueError(f"a plan has no {name!r} of {value!r}")


def _check_together(plan: Plan) -> None:
    r"""Raises a ValueError if the fields of a plan contradict each other."""
    rules = {
        f"fewer than {MIN_IMAGES} images": plan.images < MIN_IMAGES,
        "more held-out images than images": plan.held_out >= plan.images,
        "'min_components' above 'max_components'": plan.min_components > plan.max_components,
        "a stopping rule that does not suit 'delta'": (plan.stopping == "delta") != (plan.delta is not None),
        "a 'max_similarity' of vectors": len(plan.shape) == 1 and plan.max_similarity is not None,
        "vectors that are deformed": len(plan.shape) == 1 and plan.synthesis == "deformed",
    }
    for fault, is_broken in rules.items():
        if is_broken:
            raise ValueError(f"a plan has {fault}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _is_device(value: Any) -> bool:
    r"""Returns whether a value is the name of a torch device, of this or another machine."""
    try:
        return isinstance(value, str) and bool(torch.device(value))
    except RuntimeError:
        return False


def _is_positive(value: Any) -> bool:
    return type(value) is int and value > 0
