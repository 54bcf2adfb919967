r"""The programme: which arms are measured on which sets, in the order of their importance."""

__all__ = ["STAGES", "Stage", "plans_of"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .arms import parse_arm
from .runs import Place, Plan
from .training import BALANCED

FASHION = ("fashion_mnist", "deepsmote"), ("fashion_mnist", "lt-100")

MNIST = ("mnist", "deepsmote"), ("mnist", "lt-100")

CIFAR = (("cifar10", "lt-100"),)

DIGITS = (("digits", "lt-20"),)

OTHERS = MNIST[0], ("bccd", "natural"), MNIST[1]

CORE = ("base", "motion", "motion:classes=scarce", "motion:classes=scarce,bank=own", "elastic", "residual")

VARIANTS = (
    "base",
    "motion:strength=0.5",
    "motion:strength=1.5",
    "motion:compose=1,single=1",
    "motion:noaffine=1",
    "motion:single=1,even=1",
    "motion:single=1",
    "motion:gae=1",
    "motion:sign=1,single=1",
    "motion:classes=rich",
    "elastic:classes=scarce",
    "elastic:strength=1.5",
    "motion:p=1",
    "motion:real_last=0.15",
    "motion:classes=scarce,real_last=0",
    "motion:bank=own",
    "motion:single=1,rho=1",
    "decoded",
)

ALONE = ("base", "motion")

OTHER_STRATEGIES = ("balanced softmax", "square-root sampling")

REGISTRATIONS = ("base", "motion:pairs=random", "motion:smoothness=0.3", "motion:smoothness=3")


@dataclass(frozen=True)
class Stage:
    r"""Arms on sets, with one regime and one budget, and one or several strategies."""

    regime: str
    budget: str
    arms: Sequence[str]
    places: Sequence[tuple[str, str]]
    strategies: Sequence[str] = (BALANCED,)


STAGES = {
    "core": Stage("none", "short", CORE, FASHION),
    "core-colour": Stage("none", "short", CORE[:-1], CIFAR),
    "core-others": Stage("none", "short", CORE, OTHERS),
    "affine": Stage("affine", "short", CORE, FASHION),
    "affine-colour": Stage("affine", "short", CORE[:-1], CIFAR),
    "flipcrop": Stage("flipcrop", "short", CORE[:-1], CIFAR),
    "affine-others": Stage("affine", "short", CORE, OTHERS),
    "variants": Stage("none", "short", VARIANTS, FASHION[:1]),
    "variants-colour": Stage("none", "short", VARIANTS[:-1], CIFAR),
    "residual-colour": Stage("none", "short", ("base", "decoded", "residual"), CIFAR),
    "strong": Stage("strong", "short", CORE, CIFAR),
    "long": Stage("none", "long", CORE, FASHION),
    "long-colour": Stage("none", "long", CORE, CIFAR),
    "long-others": Stage("none", "long", CORE, OTHERS),
    "long-affine": Stage("affine", "long", CORE, FASHION),
    "registrations": Stage("none", "short", REGISTRATIONS, FASHION[:1]),
    "affine-variants": Stage("affine", "short", VARIANTS, FASHION[:1]),
    "digits": Stage("none", "short", CORE, DIGITS),
    "strategies": Stage("none", "short", ALONE, (*FASHION, *MNIST, *CIFAR, *DIGITS), OTHER_STRATEGIES),
    "strategies-affine": Stage("affine", "short", ALONE, (FASHION[0], MNIST[0]), OTHER_STRATEGIES),
    "strategies-flipcrop": Stage("flipcrop", "short", ALONE, CIFAR, OTHER_STRATEGIES),
}
"""The stages by name, the most important one first."""


def plans_of(stages: Iterable[Stage], *, seeds: int, on: str, data_root: Path, cache: Path) -> list[Plan]:
    r"""Returns the runs of stages, seed by seed within a stage, so that partial results compare all arms.

    Blood cells are so few that a tenth of the scarce classes is no measure. They are measured on a fifth instead.
    """
    return [
        Plan(
            Place(dataset, profile, "validation" if on == "development" and dataset == "bccd" else on),
            stage.regime,
            stage.budget,
            strategy,
            parse_arm(arm),
            seed,
            data_root,
            cache,
        )
        for stage in stages
        for seed in range(seeds)
        for dataset, profile in stage.places
        for strategy in stage.strategies
        for arm in stage.arms
    ]
