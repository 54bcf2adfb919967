r"""Errors and warnings about the fits of several classes."""

__all__ = ["report_failures", "warn_of_training"]

import warnings
from collections.abc import Mapping, Sequence

from sklearn.exceptions import ConvergenceWarning

from ..data import Label
from .fitted import FitReport


def report_failures(failures: Mapping[Label, str], fitted: Sequence[Label], *, raises: bool, remedy: str = "") -> None:
    r"""Raises an error or issues a warning if the fit of any class failed.

    Args:
        failures: The reason of each failed fit, by label.
        fitted: The labels of the classes that were fitted.
        raises: Whether to raise an error even if other classes were fitted.
        remedy: The last sentence of the warning, with a space before it.

    Raises:
        RuntimeError: If a fit failed, and ``raises`` is true or no class was fitted.

    Warns:
        RuntimeWarning: If a fit failed, and the function raises no error.
    """
    if not failures:
        return
    total = len(failures) + len(fitted)
    summary = f"The fit failed for {len(failures)} of {total} classes: " + "; ".join(
        f"class {label!r}: {reason.rstrip('.')}" for label, reason in failures.items()
    )
    if raises or not fitted:
        remaining = f" The models of the other classes, {list(fitted)}, are kept and can be used." if fitted else ""
        raise RuntimeError(f"{summary}.{remaining}")
    warnings.warn(
        f"{summary}. These classes get no synthetic images; on_error='raise' makes this an error.{remedy}",
        RuntimeWarning,
        stacklevel=4,
    )


def warn_of_training(reports: Mapping[Label, FitReport]) -> None:
    r"""Warns of training that diverged and restarted, and of training that never met its stopping rule.

    Warns:
        ConvergenceWarning: Once for all classes that diverged, and once for all classes that never met the rule.
    """
    rates = {label: report.plan.learning_rate for label, report in reports.items() if report.retries}
    if rates:
        warnings.warn(
            f"Training diverged for {len(rates)} of {len(reports)} classes, and was retried in float32 with a smaller "
            f"learning rate (" + ", ".join(f"class {label!r}: {rate:g}" for label, rate in rates.items()) + "). "
            "Lower 'learning_rate'.",
            ConvergenceWarning,
            stacklevel=4,
        )
    missed = {label: report for label, report in reports.items() if report.delta_reached is False}
    if missed:
        errors = ", ".join(
            f"class {label!r}: {report.reconstruction_error:.4f}, delta {report.delta:.4g}"
            for label, report in missed.items()
        )
        warnings.warn(
            f"The reconstruction error of {len(missed)} of {len(reports)} classes did not fall below delta, or did not "
            f"stop falling, before the epochs ended (in nats per pixel: {errors}). Raise 'epochs' or 'latent_dim', or "
            f"'delta' if the error is small enough.",
            ConvergenceWarning,
            stacklevel=4,
        )
