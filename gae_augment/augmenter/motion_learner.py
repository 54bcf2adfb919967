r"""What learns motions from parts of a training set, for :func:`gae_augment.evaluation.advise`."""

__all__ = ["motion_learner"]

import warnings
from collections.abc import Callable
from typing import Any

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from ..models import GenerativeModel
from ..motion import Motion
from .augmenter import GAEAugmenter


def motion_learner(
    model: GenerativeModel | None = None, device: str = "auto"
) -> Callable[[Any, int], Callable[..., Motion]]:
    r"""Returns a function ``learn_motions(part, seed)`` that fits an augmenter and returns its method ``motion``.

    Args:
        model: The model, whose images will be deformed; by default ``GenerativeModel()``.
        device: The device of the fits.
    """
    deformed = clone(model or GenerativeModel()).set_params(synthesis="deformed", max_similarity=None)

    def learn_motions(part: Any, seed: int) -> Callable[..., Motion]:
        augmenter = GAEAugmenter(deformed, device=device, random_state=seed, progress=False)
        with warnings.catch_warnings():
            # What its motions are worth is measured.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return augmenter.fit(part).motion

    return learn_motions
