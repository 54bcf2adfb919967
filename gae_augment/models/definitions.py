r"""The definitions of the built-in generative models."""

__all__ = ["MODELS", "ModelDefinition", "custom_definition", "resolve_definition"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from .likelihoods import Likelihood
from .objectives import (
    AdversarialVariational,
    GaussianMixtureVariational,
    InfoVariational,
    Objective,
    Reconstruction,
    RegularisedReconstruction,
    VampPrior,
    Variational,
    VariationalDeepEmbedding,
    Wasserstein,
)


@dataclass(frozen=True)
class ModelDefinition:
    r"""The definition of a generative model.

    Attributes:
        name: The name of the model in files and messages. A custom model must not use the name of a built-in model.
        objective: A function that creates the training objective from a likelihood.
        density: The default distribution of new latent codes, a key of :data:`gae_augment.models.DENSITIES`. If the
            objective learns a prior, the key must name the type of this prior.
        stochastic: Whether the encoder outputs means and log-variances of codes instead of codes.
        early_stopping: Whether training may stop before the last epoch.
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
"""The definitions of the built-in generative models, by name."""


def custom_definition(definition: str | ModelDefinition) -> ModelDefinition | None:
    r"""Returns a :class:`ModelDefinition` unchanged, and ``None`` for the name of a model."""
    return definition if isinstance(definition, ModelDefinition) else None


def resolve_definition(definition: str | ModelDefinition) -> ModelDefinition:
    r"""Returns the definition of a built-in model by name, and a :class:`ModelDefinition` unchanged.

    Raises:
        ValueError: If the name is unknown, or if a custom definition has the name of a built-in model.
    """
    # Worker processes receive copies of partial functions, which are equal only in their representation.
    if isinstance(definition, ModelDefinition):
        if repr(MODELS.get(definition.name, definition)) == repr(definition):
            return definition
        raise ValueError(
            f"A custom ModelDefinition has the name {definition.name!r}, which is the name of a model in MODELS. "
            f"Choose another name."
        )
    if isinstance(definition, str) and definition in MODELS:
        return MODELS[definition]
    raise ValueError(
        f"'definition' is {definition!r}, but must be one of {', '.join(map(repr, MODELS))}, or a ModelDefinition."
    )
