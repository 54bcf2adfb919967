r"""The rows of the tables: which model, with which settings."""

__all__ = ["DATASETS", "LATENT_DIM", "ROWS", "parse_row", "settings_for"]

import dataclasses
from functools import partial
from typing import Any

from gae_augment.models import MODELS, Bernoulli, GenerativeModel, ModelDefinition

LATENT_DIM = {"mnist": 10, "fashion_mnist": 10, "cifar10": 32, "svhn": 32, "digits": 10}

DATASETS = tuple(LATENT_DIM)
"""The paper's four, and scikit-learn's digits for trying things out."""

OURS, PAPERS = "gae", "gae (paper)"

ROWS = (PAPERS, OURS, *(name for name in MODELS if name != "gae"))
"""All rows: the generative autoencoder as the paper has it and with our defaults, and the nine others."""

TUNED = {"info_vae": {"alpha": 0.9, "scale": 100.0}, "gmvae": {"weight": 0.3}, "vae_gan": {"gamma": 0.99}}
"""Arguments of objectives that were chosen on validation images.

The paper says so of InfoVAE and GMVAE, and VAE-GAN's own paper names no weight. The runs they were chosen by, of 10 000
images of MNIST and 20 epochs, stand in the table of runs with the others.
"""

TEXTS = ("architecture", "precision", "schedule")
"""The settings that can be changed and are no numbers."""

COST = {"vae_gan": 2.3, "gmvae": 1.2, "vamp_vae": 1.3, "rae_l2": 1.2, "vade": 1.1}
"""What an epoch costs, roughly, where it costs more than the plain autoencoder's."""


def parse_row(text: str) -> tuple[str, ModelDefinition, dict[str, Any]]:
    r"""Returns name, model and changed settings of a row such as ``"vae"`` or ``"gae:delta=0.05,jacobian_weight=0.1"``.

    What is not the name of a setting is an argument of the objective.

    Raises:
        ValueError: If there is no such row.
    """
    name, _, arguments = text.partition(":")
    if name not in ROWS:
        raise ValueError(f"'--models' are {', '.join(map(repr, ROWS))}, and there is {name!r}.")
    model = MODELS["gae" if name == PAPERS else name]
    fields = {field.name for field in dataclasses.fields(GenerativeModel)}
    try:
        pairs = dict(pair.split("=") for pair in arguments.split(",") if pair)
        chosen = {key: float(value) for key, value in pairs.items() if key not in TEXTS}
    except ValueError as error:
        raise ValueError(
            f"Arguments of a model are numbers, as in 'beta_vae:beta=2', and they are {text!r}."
        ) from error
    changed: dict[str, float | str] = {
        key: int(value) if value.is_integer() else value for key, value in chosen.items() if key in fields
    }
    changed |= {key: value for key, value in pairs.items() if key in TEXTS}
    own = TUNED.get(name, {}) | {key: value for key, value in chosen.items() if key not in fields}
    if own:
        # A name of its own, for it is not the table's model any more.
        model = dataclasses.replace(model, name=f"{name} in the benchmark", objective=partial(model.objective, **own))
        try:
            model.objective(Bernoulli())
        except TypeError as error:
            raise ValueError(f"{text!r} has an argument that {name!r} does not know: {error}.") from error
    return name, model, changed


def settings_for(row: str, latent_dim: int, epochs: int) -> GenerativeModel:
    r"""Returns the settings of a row under the paper's protocol.

    Network, latent dimension, epochs and batch size are the paper's for all rows, and so is the optimiser, Adam. The
    learning rate of ``gae (paper)`` is constant; that of all others falls along a cosine.
    """
    name, model, changed = parse_row(row)
    settings = GenerativeModel(
        definition=model, latent_dim=latent_dim, architecture="paper", epochs=epochs, batch_size=100, anchored=False
    )
    if name == PAPERS:
        # All epochs, ten components, and no schedule, of which the paper does not speak.
        settings = dataclasses.replace(settings, delta=1e-9, components=(10, 10), schedule="constant", truncated=False)
    elif name != OURS:
        settings = dataclasses.replace(settings, components=(10, 10), truncated=False)
    return dataclasses.replace(settings, **changed)
