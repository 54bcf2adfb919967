r"""Converts fitted models to the content of a file, and back."""

__all__ = [
    "check_definitions",
    "models_from_state",
    "models_to_state",
    "parameters_from_plain",
    "parameters_to_plain",
    "upgrade_header",
]

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from .._utils.devices import check_device
from .._utils.files import MALFORMED
from ..data import Label, checked_label
from ..models import MODELS, GenerativeModel, ModelDefinition, choice_from_plain, choice_to_plain
from .fitted import FittedModel
from .plan import STEP, make_plan

RENAMED = {"components": "n_components", "schedule": "lr_schedule", "starts": "n_init"}


def parameters_to_plain(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    r"""Converts the parameters of an augmenter to plain values, which JSON supports.

    Args:
        parameters: The parameters by name.
        seed: The seed of the fit.
    """
    plain = {**parameters, "model": choice_to_plain(parameters["model"])}
    # A folder of this machine.
    del plain["cache_dir"]
    if not isinstance(plain["sampling_strategy"], str | float | int):
        plain["sampling_strategy"] = None
    if not isinstance(plain["random_state"], int):
        plain["random_state"] = seed
    return plain


def parameters_from_plain(
    plain: Mapping[str, Any], definitions: Mapping[str, ModelDefinition], totals: Mapping[Label, int]
) -> dict[str, Any]:
    r"""Returns the parameters of an augmenter from the output of :func:`parameters_to_plain`.

    If this machine lacks the device of the saved augmenter, ``device`` becomes ``"auto"``.

    Args:
        plain: The plain values, by name.
        definitions: All model definitions that the values may name, by name.
        totals: The size of each augmented class, in place of a sampling strategy that files do not hold.

    Raises:
        KeyError, TypeError, ValueError: If the values are malformed.
    """
    parameters = {**plain, "model": choice_from_plain(plain["model"], definitions)}
    if parameters["sampling_strategy"] is None:
        parameters["sampling_strategy"] = dict(totals)
    # Files of earlier versions have no working size.
    if isinstance(parameters.get("working_size"), list):
        parameters["working_size"] = tuple(parameters["working_size"])
    try:
        check_device(parameters["device"])
    except ValueError:
        parameters["device"] = "auto"
    return parameters


def models_to_state(models: Mapping[Label, FittedModel]) -> tuple[list[Any], dict[str, Tensor]]:
    r"""Converts the fitted models of an augmenter to plain values and tensors.

    Returns:
        A list of pairs (label, header), one per model, and the tensors of all models by name. JSON supports the list.
    """
    headers: list[Any] = []
    tensors: dict[str, Tensor] = {}
    for index, (label, fitted) in enumerate(models.items()):
        header, model_tensors = fitted.state_dict()
        headers.append([label, header])
        tensors |= {f"{index}.{name}": tensor for name, tensor in model_tensors.items()}
    return headers, tensors


def models_from_state(
    headers: Sequence[Any],
    tensors: Mapping[str, Tensor],
    labels: Container[Label],
    definitions: Mapping[str, ModelDefinition],
    device: torch.device | str,
) -> dict[Label, FittedModel]:
    r"""Returns the fitted models, by label, from the output of :func:`models_to_state`.

    Args:
        headers: The pairs (label, header).
        tensors: The tensors by name.
        labels: The labels of all classes, with or without a model.
        definitions: All model definitions that a header may name, by name.
        device: The device of sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: If ``headers`` and ``tensors`` do not describe fitted models.
    """
    models: dict[Label, FittedModel] = {}
    for index, (label, header) in enumerate(headers):
        prefix = f"{index}."
        model_tensors = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        if checked_label(label) not in labels:
            raise ValueError(f"there is a model of class {label!r}, but no such class")
        fitted = FittedModel.from_state_dict(header, model_tensors, definitions, device)
        if fitted.plan.keeps_images and fitted.anchors is None:
            raise ValueError(f"the training images of class {label!r} are missing")
        models[label] = fitted
    return models


def check_definitions(
    path: str | os.PathLike[str], header: Mapping[str, Any], definitions: Mapping[str, ModelDefinition]
) -> None:
    r"""Checks that ``definitions`` has every custom model that a file needs, and no other custom model.

    Args:
        path: The path of the file, for error messages.
        header: The header of the file, in any version of the format. A malformed header is not checked.
        definitions: The model definitions by name.

    Raises:
        ValueError: If a custom definition is missing or unused.
    """
    try:
        needed = _definition_names(header) - MODELS.keys()
    except MALFORMED:
        return
    if missing := sorted(needed - definitions.keys()):
        raise ValueError(
            f"{os.fspath(path)!r} was fitted with the custom model {missing[0]!r}, which files do not hold. Pass its "
            f"definition: load(path, definition=…)."
        )
    if unused := sorted(definitions.keys() - needed - MODELS.keys()):
        raise ValueError(
            f"'definition' has {unused[0]!r}, but {os.fspath(path)!r} has no such model. Leave it out. The file's "
            f"custom models are {sorted(needed)}."
        )


def _definition_names(header: Mapping[str, Any]) -> set[str]:
    if "generators" in header:
        return {
            str(header["parameters"]["model"]),
            *(str(model["settings"]["model"]) for _, model in header["generators"]),
        }
    choice = header["parameters"]["model"]
    choices = [model for _, model in choice] if isinstance(choice, list) else [choice]
    fitted = (model["plan"]["model"] for _, model in header["models"])
    return {*(str(model["definition"]) for model in choices), *map(str, fitted)}


def upgrade_header(header: Mapping[str, Any], definitions: Mapping[str, ModelDefinition]) -> dict[str, Any]:
    r"""Returns the header of a saved augmenter in file format 4, the current one.

    Args:
        header: The header of a file, in any format.
        definitions: All model definitions that a header may name, by name.

    Raises:
        KeyError, TypeError, ValueError: If the header is malformed.
    """
    if "generators" not in header:
        return _from_format_3(header)
    parameters = dict(header["parameters"])
    names = {*GenerativeModel().get_params(), "anchored"} - {"definition"}
    model = _renamed({name: parameters.pop(name) for name in list(parameters) if RENAMED.get(name, name) in names})
    parameters["on_error"] = parameters.pop("errors", "warn")
    # The first files hold a folder of another machine.
    parameters.pop("cache_dir", None)
    parameters["model"] = {"definition": parameters["model"], **model}
    return {
        **{name: value for name, value in header.items() if name not in ("generators", "parameters")},
        "parameters": parameters,
        # The first files have no failures.
        "failures": header.get("failures", []),
        "motions": None,
        "models": [[label, _model(model_header, definitions)] for label, model_header in header["generators"]],
    }


def _from_format_3(header: Mapping[str, Any]) -> dict[str, Any]:
    r"""Converts ``anchored`` and ``anchor_step`` to ``synthesis`` and ``step``. A header of format 4 is not changed."""
    parameters = dict(header["parameters"])
    choice = parameters["model"]
    if isinstance(choice, list):
        parameters["model"] = [[label, _renamed(model)] for label, model in choice]
    else:
        parameters["model"] = _renamed(choice)
    models = []
    for label, model in header["models"]:
        plan = dict(model["plan"])
        if "anchor_step" in plan:
            step = plan.pop("anchor_step")
            plan |= {"synthesis": "decoded" if step is None else "residual", "step": STEP if step is None else step}
            model = {**model, "plan": plan, "explained": 1.0}
        models.append([label, model])
    return {"motions": None, **header, "parameters": parameters, "models": models}


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Returns the settings of a model under their present names."""
    renamed = {RENAMED.get(name, name): value for name, value in settings.items()}
    anchored = renamed.pop("anchored", "auto")
    if anchored != "auto":
        renamed |= {"synthesis": "residual", "step": float(anchored)} if anchored else {"synthesis": "decoded"}
    return renamed


def _model(header: Mapping[str, Any], definitions: Mapping[str, ModelDefinition]) -> dict[str, Any]:
    settings = _renamed(header["settings"])
    name = settings.pop("model")
    # This machine may lack the device of the fit, so the device of the augmenter is used.
    settings.pop("device", None)
    report = {"retries": 0, "curve": [], **header["report"]}
    report["n_components"] = report.pop("components")
    shape = tuple(int(size) for size in header["shape"])
    if len(shape) > 1:
        # Early versions kept the detail of training images of every size.
        settings.setdefault("synthesis", "residual")
    model = GenerativeModel(definitions.get(name, name), **settings)
    plan = make_plan(model, shape, int(report["images"]))
    if model.architecture == "auto" and plan.architecture == "conv_half":
        # Version 0.1 had no other convolutional network.
        plan = replace(plan, architecture="conv")
    return {"plan": asdict(plan), "values": header["values"], "report": report, "explained": 1.0}
