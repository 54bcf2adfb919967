r"""What a network is trained for. The table of models names objective and latent density of each."""

__all__ = [
    "MODELS",
    "Bernoulli",
    "Gaussian",
    "Likelihood",
    "Losses",
    "ModelDefinition",
    "Objective",
    "Reconstruction",
    "custom_definition",
    "excess_error",
    "resolve_definition",
]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from ..likelihoods import Bernoulli, Gaussian, Likelihood
from .adversarial import AdversarialVariational
from .base import Losses, Objective
from .discrepancy import InfoVariational, Wasserstein
from .mixtures import GaussianMixtureVariational, VampPrior, VariationalDeepEmbedding
from .reconstruction import Reconstruction, RegularisedReconstruction, excess_error
from .variational import Variational


@dataclass(frozen=True)
class ModelDefinition:
    r"""A row of the table of models, or a model of the user's own.

    Attributes:
        name: What it is called in files and messages.
        objective: Makes the objective for a likelihood of the data.
        density: The latent density that new codes are drawn from by default, a key of
            :data:`gae_augment.models.DENSITIES`. Where the objective has a prior of its own, the kind of that one.
        stochastic: Whether the encoder gives means and log-variances of codes.
        early_stopping: Whether training ends when the reconstruction error is below a boundary; otherwise it takes all
            epochs.
    """

    name: str
    objective: Callable[[Likelihood], Objective]
    density: str = "mixture"
    stochastic: bool = False
    early_stopping: bool = False


_variational = partial(ModelDefinition, stochastic=True)

MODELS: Mapping[str, ModelDefinition] = MappingProxyType(
    {
        model.name: model
        for model in (
            ModelDefinition("gae", Reconstruction, early_stopping=True),
            _variational("vae", Variational, "standard_normal"),
            _variational("beta_vae", partial(Variational, beta=4.0), "standard_normal"),
            _variational("info_vae", InfoVariational, "standard_normal"),
            ModelDefinition("wae", Wasserstein, "standard_normal"),
            _variational("vae_gan", AdversarialVariational, "standard_normal"),
            _variational("vade", VariationalDeepEmbedding, "mixture"),
            _variational("gmvae", GaussianMixtureVariational, "ancestral"),
            _variational("vamp_vae", VampPrior, "mixture"),
            ModelDefinition("rae_l2", RegularisedReconstruction),
        )
    }
)
"""The generative models by name."""


def custom_definition(model: str | ModelDefinition) -> ModelDefinition | None:
    r"""Returns a model of the user's own, which a file does not hold, and None for one that is named."""
    return model if isinstance(model, ModelDefinition) else None


def resolve_definition(model: str | ModelDefinition) -> ModelDefinition:
    r"""Returns the row of the table with a name, or a model of the user's own as it is.

    Raises:
        ValueError: If there is no model of that name, or an own model has the name of one.
    """
    # By what they say, for copies of a partial function, as in worker processes, are not equal to it.
    if isinstance(model, ModelDefinition) and repr(MODELS.get(model.name, model)) == repr(model):
        return model
    if isinstance(model, str) and model in MODELS:
        return MODELS[model]
    raise ValueError(
        f"The model is {model!r}, but must be one of {', '.join(map(repr, MODELS))}, or a ModelDefinition with another "
        f"name."
    )
