r"""The rows of the tables: which model, with which hyper-parameters."""

__all__ = ["COST", "DATASETS", "LATENT_DIM", "PAPERS", "ROWS", "parse_row", "settings_for"]

from dataclasses import replace
from functools import partial
from typing import Any

from gae_augment.models import MODELS, Bernoulli, GenerativeModel, ModelDefinition

LATENT_DIM = {"mnist": 10, "fashion_mnist": 10, "cifar10": 32, "svhn": 32, "digits": 10}

DATASETS = tuple(LATENT_DIM)
"""The paper's four data sets, and scikit-learn's digits for quick trials."""

OURS, PAPERS = "gae", "gae (paper)"

ROWS = (PAPERS, OURS, *(name for name in MODELS if name != "gae"))
"""All rows: the generative autoencoder as in the paper and with our defaults, and the nine other models."""

TUNED = {"info_vae": {"alpha": 0.9, "scale": 100.0}, "gmvae": {"weight": 0.3}, "vae_gan": {"gamma": 0.99}}
"""Arguments of objectives that were chosen on validation images.

The paper tuned InfoVAE and GMVAE too, and VAE-GAN's own paper gives no weight. The runs behind these choices, of 20
epochs on 10 000 images of MNIST, are in the table of runs.
"""

TEXTS = ("architecture", "precision", "lr_schedule")
"""The hyper-parameters that can be changed and are not numbers."""

OLD_NAMES = {"steepness": "jacobian_weight"}
"""Names in committed results that have changed since."""

COST = {"vae_gan": 2.3, "gmvae": 1.2, "vamp_vae": 1.3, "rae_l2": 1.2, "vade": 1.1}
"""The rough cost of an epoch relative to the plain autoencoder's, where it is higher."""


def parse_row(text: str) -> tuple[str, ModelDefinition, dict[str, Any]]:
    r"""Returns name, definition and changed hyper-parameters of a row such as ``"vae"`` or ``"gae:delta=0.05"``.

    All other arguments are those of the objective, as in ``"beta_vae:beta=2"``.

    Raises:
        ValueError: If the row or an argument does not exist.
    """
    name, _, arguments = text.partition(":")
    if name not in ROWS:
        raise ValueError(f"{name!r} is not a row. Use '--models' with {', '.join(map(repr, ROWS))}.")
    definition = MODELS["gae" if name == PAPERS else name]
    hyper_parameters = GenerativeModel().get_params().keys() - {"definition"}
    try:
        pairs = dict(pair.split("=") for pair in arguments.split(",") if pair)
        numbers = {OLD_NAMES.get(key, key): float(value) for key, value in pairs.items() if key not in TEXTS}
    except ValueError as error:
        raise ValueError(f"The row is {text!r}, but its arguments must be numbers, as in 'beta_vae:beta=2'.") from error
    changed: dict[str, Any] = {
        key: int(value) if value.is_integer() else value for key, value in numbers.items() if key in hyper_parameters
    }
    changed |= {key: value for key, value in pairs.items() if key in TEXTS}
    weights = TUNED.get(name, {}) | {key: value for key, value in numbers.items() if key not in hyper_parameters}
    if weights:
        # A built-in name must not stand for another objective.
        definition = replace(
            definition, name=f"{name} in the benchmark", objective=partial(definition.objective, **weights)
        )
        try:
            definition.objective(Bernoulli())
        except TypeError as error:
            raise ValueError(f"The row is {text!r}, but {name!r} has no such argument: {error}.") from error
    return name, definition, changed


def settings_for(row: str, latent_dim: int, epochs: int) -> GenerativeModel:
    r"""Returns the model of a row under the paper's protocol.

    All rows share the paper's network, latent dimension, number of epochs, batch size and optimiser, Adam. The learning
    rate of ``gae (paper)`` is constant; in all other rows it falls along a cosine.

    Raises:
        ValueError: If the row or an argument does not exist, or a value is not allowed.
    """
    name, definition, changed = parse_row(row)
    model = GenerativeModel(
        definition, latent_dim=latent_dim, architecture="paper", epochs=epochs, batch_size=100, synthesis="decoded"
    )
    if name == PAPERS:
        # All epochs, ten components, and no schedule, since the paper mentions none.
        model.set_params(delta=1e-9, n_components=(10, 10), lr_schedule="constant", truncated=False)
    elif name != OURS:
        model.set_params(n_components=(10, 10), truncated=False)
    return model.set_params(**changed).validated()
