r"""Generative models, with their networks, likelihoods, latent densities and training objectives.

All image tensors must be in [0, 1] or standardised. To add a model, write its training objective in ``objectives``.
Then add a :class:`ModelDefinition` to ``MODELS`` in ``definitions``.
"""

from .definitions import MODELS, ModelDefinition, custom_definition, resolve_definition
from .densities import DENSITIES, AncestralMixture, GaussianMixture, LatentDensity, StandardNormal
from .generative_model import LR_SCHEDULES, MAX_STEP, PRECISIONS, SYNTHESES, GenerativeModel
from .likelihoods import Bernoulli, Gaussian, Likelihood
from .mixture_fit import supported_components
from .networks import CONVOLUTIONAL, Architecture, Autoencoder, build_autoencoder, check_architecture
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
    "CONVOLUTIONAL",
    "DENSITIES",
    "LR_SCHEDULES",
    "MAX_STEP",
    "MODELS",
    "PRECISIONS",
    "SYNTHESES",
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
    "supported_components",
]
