r"""Fits one generative model to the images of each class.

A :class:`Plan` holds the settings of one fit. :func:`fit_class` trains a model with these settings, and returns a
:class:`FittedModel`. A :class:`FitCache` stores fitted models in a folder.
"""

from .cache import ClassFit, FitCache, default_cache_dir, plan_fits
from .fit import fit_class, fit_model
from .fitted import FitReport, FittedModel
from .learned_from import MOTION_CLASSES, MOTION_IMAGES, images_to_learn_from
from .parallel_fits import fit_classes, fit_with_progress, fits_at_a_time
from .plan import MIN_IMAGES, Plan, check_classes, deformed_classes, make_plan
from .reports import report_failures, warn_of_training
from .saved_models import (
    check_definitions,
    models_from_state,
    models_to_state,
    parameters_from_plain,
    parameters_to_plain,
    upgrade_header,
)
from .timing import FitTime, time_fit

__all__ = [
    "MIN_IMAGES",
    "MOTION_CLASSES",
    "MOTION_IMAGES",
    "ClassFit",
    "FitCache",
    "FitReport",
    "FitTime",
    "FittedModel",
    "Plan",
    "check_classes",
    "check_definitions",
    "default_cache_dir",
    "deformed_classes",
    "fit_class",
    "fit_classes",
    "fit_model",
    "fit_with_progress",
    "fits_at_a_time",
    "images_to_learn_from",
    "make_plan",
    "models_from_state",
    "models_to_state",
    "parameters_from_plain",
    "parameters_to_plain",
    "plan_fits",
    "report_failures",
    "time_fit",
    "upgrade_header",
    "warn_of_training",
]
