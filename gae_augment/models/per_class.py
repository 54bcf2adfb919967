r"""The choice of one model for all classes, or of a model for each class."""

__all__ = [
    "ModelChoice",
    "choice_from_plain",
    "choice_to_plain",
    "choose_models",
    "custom_definitions",
    "settable_choice",
]

from collections.abc import Mapping
from typing import Any

from .definitions import MODELS, ModelDefinition, custom_definition
from .generative_model import GenerativeModel

ModelChoice = str | ModelDefinition | GenerativeModel
"""A model with hyper-parameters, or the name or definition of a model with default hyper-parameters."""

Choices = ModelChoice | Mapping[Any, ModelChoice]
"""One model choice for all classes, or a mapping from labels to model choices."""


def choose_models(choice: Choices) -> dict[Any, GenerativeModel]:
    r"""Returns the validated models by class label.

    Args:
        choice: A model name, a :class:`ModelDefinition` or a :class:`GenerativeModel` for all classes, or a mapping
            from labels to any of these.

    Returns:
        The models by label. The key ``None`` holds the model of all other labels. For a mapping, this is the default
        model.

    Raises:
        TypeError, ValueError: If a choice is not a model, a hyper-parameter is not valid, or two custom definitions
            have the same name.
    """
    if not isinstance(choice, Mapping):
        return {None: _validated(choice)}
    if None in choice:
        raise ValueError("'model' maps the label None, but labels are integers or text. Leave it out.")
    models = {None: GenerativeModel(), **{label: _validated(model) for label, model in choice.items()}}
    definitions: dict[str, ModelDefinition] = {}
    for model in models.values():
        definition = model.resolved_definition
        # A file holds only names, which would not distinguish the definitions. Copies of partial functions are equal
        # only in their representation.
        if repr(definitions.setdefault(definition.name, definition)) != repr(definition):
            raise ValueError(
                f"'model' has two different definitions with the name {definition.name!r}. Give each a unique name."
            )
    return models


def _validated(model: Any) -> GenerativeModel:
    if isinstance(model, str) and model not in MODELS:
        raise ValueError(
            f"'model' is {model!r}, but must be one of {', '.join(map(repr, MODELS))}, or a GenerativeModel."
        )
    if isinstance(model, str | ModelDefinition):
        model = GenerativeModel(model)
    if not isinstance(model, GenerativeModel):
        raise TypeError(
            f"'model' is {model!r}, but must be a name, one of {', '.join(map(repr, MODELS))}, or a GenerativeModel, "
            f"or a mapping from labels to these."
        )
    return model.validated()


def choice_to_plain(choice: Choices) -> Any:
    r"""Converts a model to a dictionary of hyper-parameters that JSON can store.

    The name of the model definition replaces the definition. A mapping becomes a list of pairs (label, dictionary).
    """
    if isinstance(choice, Mapping):
        return [[label, choice_to_plain(model)] for label, model in choice.items()]
    if not isinstance(choice, GenerativeModel):
        choice = GenerativeModel(choice)
        return {"definition": choice.resolved_definition.name}
    return {**choice.get_params(deep=False), "definition": choice.resolved_definition.name}


def choice_from_plain(plain: Any, definitions: Mapping[str, ModelDefinition]) -> Choices:
    r"""Converts the result of :func:`choice_to_plain` back to a choice of models.

    Args:
        plain: The result of :func:`choice_to_plain`.
        definitions: The custom model definitions, by name.

    Raises:
        KeyError, TypeError, ValueError: If ``plain`` is malformed, or a custom definition is missing.
    """
    if isinstance(plain, list):
        return {label: _model_from_plain(model, definitions) for label, model in plain}
    return _model_from_plain(plain, definitions)


def _model_from_plain(plain: Mapping[str, Any], definitions: Mapping[str, ModelDefinition]) -> ModelChoice:
    name = plain["definition"]
    if name not in MODELS and name not in definitions:
        raise ValueError(f"it was fitted with the custom model {name!r}; pass its definition to load: definition=…")
    if plain.keys() == {"definition"} and name in MODELS:
        return name
    return GenerativeModel(**{**plain, "definition": definitions.get(name, name)}).validated()


def custom_definitions(choice: Choices) -> tuple[ModelDefinition, ...]:
    r"""Returns all custom model definitions in a choice of models."""
    definitions = (custom_definition(model.definition) for model in choose_models(choice).values())
    return tuple(definition for definition in definitions if definition is not None)


def settable_choice(choice: Choices) -> GenerativeModel:
    r"""Returns a :class:`GenerativeModel` for a model name or definition, and a :class:`GenerativeModel` unchanged.

    Raises:
        ValueError: If the choice is a mapping from labels to models.
    """
    if isinstance(choice, Mapping):
        raise ValueError(
            "'model' is a mapping, but a parameter such as 'model__latent_dim' needs a single model. Use "
            "set_params(model={label: GenerativeModel(...)})."
        )
    return choice if isinstance(choice, GenerativeModel) else GenerativeModel(choice)
