r"""Generative models: networks, likelihoods, densities and objectives, and the table of the ten built-in models.

Input: hyper-parameters, and tensors on the scale of a network's inputs. Output: networks, losses and densities. To add
a model, write its loss in ``objectives`` and its row in ``definitions``. Imports only ``_utils``, and does not depend
on the user's data.
"""

from .definitions import MODELS, ModelDefinition, custom_definition, resolve_definition
from .densities import DENSITIES, AncestralMixture, GaussianMixture, LatentDensity, StandardNormal
from .generative_model import LR_SCHEDULES, MAX_ANCHOR_STEP, PRECISIONS, GenerativeModel
from .likelihoods import Bernoulli, Gaussian, Likelihood
from .networks import Architecture, Autoencoder, build_autoencoder, check_architecture
from .objectives import Losses, Objective, Reconstruction, excess_error
from .per_class import (
    ModelChoice,
    choice_from_plain,
    choice_to_plain,
    choose_models,
    custom_definitions,
    settable_choice,
)

__all__ = [
    "DENSITIES",
    "LR_SCHEDULES",
    "MAX_ANCHOR_STEP",
    "MODELS",
    "PRECISIONS",
    "AncestralMixture",
    "Architecture",
    "Autoencoder",
    "Bernoulli",
    "Gaussian",
    "GaussianMixture",
    "GenerativeModel",
    "LatentDensity",
    "Likelihood",
    "Losses",
    "ModelChoice",
    "ModelDefinition",
    "Objective",
    "Reconstruction",
    "StandardNormal",
    "build_autoencoder",
    "check_architecture",
    "choice_from_plain",
    "choice_to_plain",
    "choose_models",
    "custom_definition",
    "custom_definitions",
    "excess_error",
    "resolve_definition",
    "settable_choice",
]
