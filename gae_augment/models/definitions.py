r"""The table of models: each definition names the objective and the latent density of a model."""

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
    r"""A row of the table of models, or a custom model.

    Attributes:
        name: The name of the model in files and messages.
        objective: A function that returns the objective for a likelihood.
        density: The default latent density, a key of :data:`gae_augment.models.DENSITIES`. If the objective learns
            a prior, this is the density of the learned prior.
        stochastic: Whether the encoder outputs means and log-variances of codes instead of codes.
        early_stopping: Whether training stops early, by the rule for ``delta`` in
            :class:`gae_augment.GenerativeModel`. If false, training runs for all epochs.
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


def custom_definition(definition: str | ModelDefinition) -> ModelDefinition | None:
    r"""Returns a custom definition unchanged, and ``None`` for the name of a model; files contain only names."""
    return definition if isinstance(definition, ModelDefinition) else None


def resolve_definition(definition: str | ModelDefinition) -> ModelDefinition:
    r"""Returns the definition of the model with a given name, or a custom definition unchanged.

    Raises:
        ValueError: If the name is unknown, or a custom definition has the name of a built-in model.
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
