r"""Training objectives, with one module for each family of models."""

from .adversarial import AdversarialVariational
from .base import Losses, Objective
from .discrepancy import InfoVariational, Wasserstein
from .mixtures import GaussianMixtureVariational, VampPrior, VariationalDeepEmbedding
from .reconstruction import Reconstruction, RegularisedReconstruction, excess_error
from .variational import Variational

__all__ = [
    "AdversarialVariational",
    "GaussianMixtureVariational",
    "InfoVariational",
    "Losses",
    "Objective",
    "Reconstruction",
    "RegularisedReconstruction",
    "VampPrior",
    "Variational",
    "VariationalDeepEmbedding",
    "Wasserstein",
    "excess_error",
]
