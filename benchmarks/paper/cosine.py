r"""Table 2 and Figure 4: a cosine curve, and codes of one dimension."""

__all__ = ["ROWS", "Trial", "do_trials", "draw_figure"]

import csv
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from sklearn.base import clone
from torch import Tensor
from tqdm.auto import tqdm

from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import fit_model
from gae_augment.models import GenerativeModel
from gae_augment.models.objectives.variational import gaussian_kl
from gae_augment.synthesis import draw_codes

POINTS, SAMPLES, TRIALS, NEAR = 50, 10_000, 5, 0.1

SETTINGS = GenerativeModel(architecture=(256,), latent_dim=1, epochs=2000, batch_size=POINTS)
"""The paper's settings: one hidden layer of 256 units and 2000 epochs, here of one batch each."""

PAPERS = clone(SETTINGS).set_params(density="normal", delta=1e-12, lr_schedule="constant", n_init=1, truncated=False)

ROWS = {
    "gae": SETTINGS,
    "gae (paper)": PAPERS,
    "vae": clone(SETTINGS).set_params(definition="vae", n_init=1),
    "gae (paper), rate 0.003": clone(PAPERS).set_params(learning_rate=0.003),
}
"""The generative autoencoder with our defaults and as in the paper, and the variational one.

The paper gives no learning rate; all rows except the last use Adam's default, 0.001.
"""

PUBLISHED = {"gae (paper)": (0.0101, 0.0106), "vae": (0.5131, 0.0041)}
"""Mean and standard deviation of the reconstruction error in the paper's Table 2."""


@dataclass(frozen=True)
class Trial:
    r"""The figures of one fit.

    Attributes:
        reconstruction_error: The mean squared error of a coordinate.
        regularisation_error: The divergence of the variational autoencoder, in nats.
        near: The fraction of samples within 0.1 of the curve.
    """

    model: str
    seed: int
    reconstruction_error: float
    regularisation_error: float
    near: float
    components: int
    seconds: float


def curve(points: int, beyond: float = 0.0) -> Tensor:
    r"""Returns equally spaced points of one period of the cosine, with shape :math:`(N, 2)`; ``beyond`` extends it."""
    x = torch.linspace(-beyond, 2 * math.pi + beyond, points, dtype=torch.float64)
    return torch.stack([x, x.cos()], dim=1)


def do_trial(row: str, seed: int) -> tuple[Trial, Tensor, Tensor]:
    r"""Returns the figures of a fit, the reconstructed points and the samples."""
    points = curve(POINTS)
    fitted = fit_model(points, ROWS[row], seed=seed)
    reconstructed = fitted.reconstruct(points)
    # Raw outputs of the decoder: clipping to the range of each feature would move stray samples to the corners of that
    # range, two of which lie on the curve.
    with torch.no_grad():
        outputs = fitted.network.decode(draw_codes(fitted, SAMPLES, make_generator(seed, "samples")).float())
    samples = outputs.double() * points.std(dim=0, correction=0) + points.mean(dim=0)
    divergence = math.nan
    if fitted.definition.stochastic:
        with torch.no_grad():
            divergence = gaussian_kl(*fitted.network.posterior(fitted.values.to_network(points))).mean().item()
    # Samples slightly beyond the end points count as near too.
    near = (torch.cdist(samples, curve(20_001, beyond=NEAR)).amin(dim=1) < NEAR).double().mean().item()
    report = fitted.report
    error = (reconstructed - points).square().mean().item()
    trial = Trial(row, seed, error, divergence, near, report.n_components, round(report.seconds, 2))
    return trial, reconstructed, samples


def do_trials(output: Path) -> list[Trial]:
    r"""Runs five trials of each row, and writes ``cosine.csv`` and ``cosine.png``."""
    trials, pictures = [], {}
    for row in ROWS:
        for seed in tqdm(range(TRIALS), desc=f"cosine, {row}", unit="trial"):
            trial, reconstructed, samples = do_trial(row, seed)
            trials.append(trial)
            pictures[row, seed] = reconstructed, samples
    output.mkdir(parents=True, exist_ok=True)
    with (output / "cosine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Trial)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(trial) for trial in trials)
    draw_figure(pictures, output / "cosine.png")
    return trials


def draw_figure(pictures: dict[tuple[str, int], tuple[Tensor, Tensor]], path: Path) -> None:
    r"""Draws the points, and reconstructions and samples of each trial, as the paper's Figure 4 does."""
    from matplotlib.figure import Figure

    points = curve(POINTS)
    figure = Figure(figsize=(13, 11), layout="constrained")
    axes = figure.subplots(2 * len(ROWS), TRIALS + 1, sharex=True, sharey=True)
    for number, row in enumerate(ROWS):
        for place, what in enumerate(("reconstructions", "samples")):
            line = axes[2 * number + place]
            line[0].plot(*points.T, ".", color="black", markersize=3)
            line[0].set_ylabel(f"{row}\n{what}".replace(", ", "\n"))
            for seed in range(TRIALS):
                line[seed + 1].plot(*points.T, color="0.8", linewidth=1)
                line[seed + 1].plot(*pictures[row, seed][place].T, ".", markersize=2, alpha=0.5)
    for column, axis in enumerate(axes[0]):
        axis.set_title("data" if column == 0 else f"trial {column}")
    axes[0, 0].set(xlim=(-1.5, 2 * math.pi + 1.5), ylim=(-2.2, 2.2))
    figure.savefig(path, dpi=80)
