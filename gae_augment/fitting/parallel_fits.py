r"""Fits the models of several classes in parallel, or loads them from a cache."""

__all__ = ["fit_classes", "fit_with_progress", "fits_at_a_time"]

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from threading import BoundedSemaphore, Event
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from tqdm.auto import tqdm

from .._utils.memory import return_freed_memory
from .._utils.parallel import Failure, attempt, run_jobs, runs_here
from .._utils.text import printable
from .._utils.threads import interrupted_by, use_threads
from ..data import Label, ValueScale
from ..models import CONVOLUTIONAL, ModelDefinition
from .cache import ClassFit, FitCache
from .fit import Progress, fit_class, no_progress
from .fitted import FittedModel
from .plan import Plan

Show = Callable[[Label, float, float | None], None]
"""The type of a function ``show(label, error, threshold)``. ``Progress`` explains ``error`` and ``threshold``."""


def fit_classes(
    fits: Mapping[Label, ClassFit],
    *,
    n_jobs: int | None = None,
    cache: FitCache | None = None,
    scratch_dir: str | os.PathLike[str] | None = None,
    show: Show = lambda label, error, delta: None,
) -> Generator[tuple[Label, FittedModel | Failure], None, None]:
    r"""Fits one model per class, and yields a pair (label, result) when a fit ends.

    The result is a fitted model, or a failure if the fit raised an exception. Cached results come first. Closing the
    iterator stops fits in threads of this process.

    Args:
        fits: The inputs of each class's fit, by label.
        n_jobs: The number of processes, as in joblib; -1 is one per core. ``None`` uses the active joblib context, or
            threads of this process if there is none.
        cache: The cache of fitted models; ``None`` uses no cache.
        scratch_dir: A folder for joblib's memory-mapped files. ``None`` lets joblib choose a folder.
        show: A function ``show(label, error, threshold)``. Fits in this process call it during training. ``error`` is
            the latest reconstruction error of the class, in nats per pixel. Training stops when ``error`` is below
            ``threshold``, which is ``None`` under another stopping rule.
    """
    if cache is not None:
        loaded = {label: cache.load(fit) for label, fit in fits.items()}
        hits = {label: result for label, result in loaded.items() if result is not None}
        for label, result in hits.items():
            yield label, _with_anchors(result, fits[label])
        fits = {label: fit for label, fit in fits.items() if label not in hits}
        if fits and cache.on_miss is not None:
            cache.on_miss(list(fits))

    def keep(label: Label, result: FittedModel | Failure) -> FittedModel | Failure:
        if cache is not None and isinstance(result, FittedModel):
            cache.save(fits[label], result)
        return _with_anchors(result, fits[label])

    def arguments(label: Label, progress: Progress) -> tuple[Any, ...]:
        fit = fits[label]
        # An array instead of a tensor: joblib maps arrays into its workers' memory, and clusters share arrays among
        # workers.
        return fit.images.numpy(), fit.plan, fit.definition, fit.values, fit.seed, progress

    if _uses_threads(n_jobs):
        threads, workers = torch.get_num_threads(), fits_at_a_time([fit.plan for fit in fits.values()], None)
        slots, interrupted = BoundedSemaphore(workers), Event()

        def fit_and_keep(label: Label) -> FittedModel | Failure:
            # The thread of the fit saves the model: after an interruption no other thread receives the result.
            with slots, interrupted_by(interrupted), use_threads(fits[label].plan.n_threads):
                return keep(label, attempt(_fit, *arguments(label, partial(show, label))))

        try:
            yield from run_jobs(fit_and_keep, {label: (label,) for label in fits}, workers, backend="threading")
        finally:
            # After an interruption the running fits end at their next step. A thread that runs while the interpreter
            # ends would crash it.
            interrupted.set()
            for _ in range(workers):
                slots.acquire()
            slots.release(workers)
            # New threads inherit the number set last by any thread, here by a fit.
            torch.set_num_threads(threads)
        return
    # Only this process can move the progress bar.
    in_process = runs_here(n_jobs)
    jobs = {label: arguments(label, partial(show, label) if in_process else no_progress) for label in fits}
    # Workers map images in mode "c" (copy on write), because torch warns of read-only memory.
    for label, result in run_jobs(_fit, jobs, n_jobs, temp_folder=scratch_dir, mmap_mode="c"):
        yield label, keep(label, result)


def fit_with_progress(
    fits: Mapping[Label, ClassFit], names: Mapping[Label, str], progress: bool, **options: Any
) -> Generator[tuple[Label, FittedModel | Failure], None, None]:
    r"""Yields the results of :func:`fit_classes`, and shows a progress bar.

    Args:
        fits: The inputs of each class's fit, by label.
        names: The name of each class, by label.
        progress: Whether to show the progress bar.
        **options: Keyword arguments of :func:`fit_classes`, except ``show``.
    """
    with tqdm(total=len(fits), unit="class", disable=not progress) as bar:

        def show(label: Label, error: float, delta: float | None) -> None:
            # If training stops when the error stops falling, the boundary is not known yet.
            boundary = "" if delta is None else f", delta {delta:.4f}"
            bar.set_description(printable(f"class {names[label]}: error {error:.4f}{boundary}"))

        with closing(fit_classes(fits, show=show, **options)) as results:
            for label, result in results:
                if isinstance(result, Failure):
                    bar.set_description(printable(f"class {names[label]}: failed"))
                else:
                    show(label, result.report.reconstruction_error, result.report.delta)
                yield label, result
                bar.update()


def _with_anchors(result: FittedModel | Failure, fit: ClassFit) -> FittedModel | Failure:
    r"""Adds the training images to a fitted model, if its plan keeps them, and returns ``result``."""
    if isinstance(result, FittedModel) and result.plan.keeps_images:
        result.anchors = fit.images
    return result


def _uses_threads(n_jobs: int | None) -> bool:
    # A joblib context takes over if the user gives no number.
    return n_jobs is None and runs_here(None)


def fits_at_a_time(plans: Sequence[Plan], n_jobs: int | None) -> int:
    r"""Returns the number of classes that :func:`fit_classes` fits at the same time.

    Args:
        plans: The plan of each class's fit.
        n_jobs: The number of processes, as in joblib. ``None`` uses the active joblib context, or threads of this
            process if there is none.
    """
    if not _uses_threads(n_jobs):
        return effective_n_jobs(n_jobs)
    if any(torch.device(plan.device).type != "cpu" for plan in plans):
        return 1
    return max(1, torch.get_num_threads() // max((plan.n_threads for plan in plans), default=1))


def _fit(
    images: np.ndarray, plan: Plan, definition: ModelDefinition, values: ValueScale, seed: int, progress: Progress
) -> FittedModel:
    r"""Fits the model of one class. Returns the model without its training images."""
    # Some backends map images read-only, and torch warns of such arrays.
    tensor = torch.from_numpy(images if images.flags.writeable else images.copy())
    fitted = fit_class(tensor, plan, definition, values, seed, progress)
    fitted.anchors = None
    if plan.architecture in CONVOLUTIONAL:
        # Trainings in two threads would leave half a gigabyte of freed memory in pieces.
        return_freed_memory()
    return fitted
