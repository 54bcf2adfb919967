r"""The motions of one training set, and the fields that an arm draws from them."""

__all__ = ["Bank", "Motions", "learned_bank", "pools"]

import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment.evaluation.images import Labelled
from gae_augment.fitting import FittedModel, fit_model
from gae_augment.motion import learn_motions
from gae_augment.motion.fields import displacement, invertible, move_images, roughness
from gae_augment.motion.learning import draw_pairs
from gae_augment.synthesis import sample

from ..kept import Content, kept
from .arms import Arm

FITTED_TO = 300
"""The maximum number of images of a class that its model is fitted to."""

MOTIONS = 100
"""The number of motions of each class."""

POOL = 1000
"""The number of fields that an arm draws before training, for each bank; a class's own bank draws a quarter."""

MATCHED_ON = 200
"""The number of random fields that the factor of all random fields is found on."""

COLOURS = 4
"""The number of values of a colour difference along each side of an image."""


class Motions(NamedTuple):
    r"""Motions, with velocity fields of shape :math:`(n, 2, 8, 8)` and colour differences of shape (n, C, 4, 4)."""

    fields: Tensor
    colours: Tensor


Bank = dict[int, Motions]
"""The motions of each class."""


def learned_bank(real: Labelled, seed: int, arm: Arm, file: Path) -> tuple[Bank, float]:
    r"""Returns the motions of all classes and the seconds that their models took, from the file if it exists.

    Args:
        real: The training images, uint8, and their labels.
        seed: The seed of the choice of images, of the models and of the motions.
        arm: The arm, of which only the smoothness and the pairs count.
        file: The file for the default smoothness and pairs.
    """
    images, labels = real

    def make() -> Content:
        start = time.process_time()
        tensors = {}
        for label in labels.unique().tolist():
            members = images[labels == label]
            order = torch.randperm(len(members), generator=make_generator(seed, "bank", label))[:FITTED_TO]
            fitted = fit_model(members[order], GenerativeModel(), seed=derive_seed(seed, label), device="cpu")
            seed_of_class, nearest = derive_seed(seed, label), arm.pairs == "nearest"
            pairs = draw_pairs(fitted, MOTIONS, seed=seed_of_class, nearest=nearest)
            fields = learn_motions(fitted, MOTIONS, seed=seed_of_class, smoothness=arm.smoothness, nearest=nearest)
            tensors[f"{label} fields"] = fields
            tensors[f"{label} colours"] = _colours(fitted, fields.float(), *pairs)
        return {"seconds": time.process_time() - start}, tensors

    default = arm.smoothness == Arm.smoothness and arm.pairs == Arm.pairs
    name = file.stem if default else f"{file.stem}-{arm.smoothness:g}-{arm.pairs}"
    header, tensors = kept(file.with_name(f"{name}.safetensors"), make)
    bank = {
        label: Motions(tensors[f"{label} fields"].float(), tensors[f"{label} colours"].float())
        for label in labels.unique().tolist()
    }
    return bank, header["seconds"]


@torch.no_grad()
def _colours(fitted: FittedModel, fields: Tensor, start: Tensor, target: Tensor) -> Tensor:
    r"""Returns what registration leaves of the difference between decoded images, weakened as the fields are."""
    a, b = (fitted.likelihood.mean(fitted.network.decode(z)) for z in (start, target))
    moved = move_images(a, displacement(fields / max(fitted.explained, 1e-3)))
    return (fitted.explained * functional.adaptive_avg_pool2d(b - moved, COLOURS)).half()


def pools(arm: Arm, bank: Bank, seed: int) -> Motions:
    r"""Returns the motions of an arm, at their strength; their maps are invertible.

    There is one more axis in front, :math:`K`, with one pool per class if each class has its own bank, else one pool.
    """
    if arm.bank == "own":
        drawn = [_pool(arm, bank[label], POOL // 4, derive_seed(seed, label)) for label in sorted(bank)]
    else:
        drawn = [_pool(arm, Motions(*map(torch.cat, zip(*bank.values(), strict=True))), POOL, seed)]
    return Motions(*map(torch.stack, zip(*drawn, strict=True)))


def _pool(arm: Arm, motions: Motions, n: int, seed: int) -> Motions:
    fields = without_affine(motions.fields) if arm.noaffine else motions.fields
    if arm.even:
        squares = fields.square().mean(dim=(1, 2, 3), keepdim=True)
        fields = fields * (squares.mean() / squares.clamp(min=1e-12)).sqrt()
    generator = make_generator(seed, "pool")
    if arm.rho:
        index = torch.randint(len(fields), (n,), generator=generator)
        return Motions(invertible(arm.strength * fields[index]), arm.rho * motions.colours[index])
    v = _drawn(arm, fields, n, generator, seed)
    if arm.compose:
        angle = torch.rand(n, 1, 1, 1, generator=generator) * torch.pi / 2
        v = angle.cos() * v + angle.sin() * _drawn(arm, fields, n, generator, derive_seed(seed, "second"))
    if arm.sign:
        v = v * (2 * torch.randint(2, (n, 1, 1, 1), generator=generator) - 1)
    return Motions(invertible(arm.strength * v), motions.colours.new_zeros(n, 1, 1, 1))


def _drawn(arm: Arm, fields: Tensor, n: int, generator: torch.Generator, seed: int) -> Tensor:
    if arm.kind == "elastic":
        return elastic(fields, n, generator)
    if arm.gae:
        fitted = fit_model(fields.flatten(1), GenerativeModel(), seed=seed, device="cpu")
        return sample(fitted, n, seed=seed).view(n, *fields.shape[1:])
    if not arm.single:
        mean = fields.mean(dim=0)
        # A random combination of the centred fields has their covariance.
        weights = torch.randn(n, len(fields), generator=generator) / len(fields) ** 0.5
        return mean + torch.einsum("nk,kcyx->ncyx", weights, fields - mean)
    return fields[torch.randint(len(fields), (n,), generator=generator)]


def without_affine(fields: Tensor) -> Tensor:
    r"""Returns velocity fields without their affine parts: what is left of a least-squares fit of affine fields."""
    side = torch.linspace(-1, 1, fields.shape[-1])
    y, x = torch.meshgrid(side, side, indexing="ij")
    basis = torch.linalg.qr(torch.stack([torch.ones_like(x), x, y], dim=-1).flatten(0, 1)).Q
    flat = fields.flatten(2)
    return (flat - flat @ basis @ basis.T).view_as(fields)


def elastic(fields: Tensor, n: int, generator: torch.Generator) -> Tensor:
    r"""Returns ``n`` random fields of smoothed white noise that match other fields on average.

    The ratio of roughness to mean square is the same, and so is the root mean square of the maps' displacements.
    """
    noise = torch.randn(n, *fields.shape[1:], generator=generator)
    ratio = roughness(fields).mean() / fields.square().mean()
    low, high = 0.01, 2.0 * fields.shape[-1]
    for _ in range(40):
        width = (low * high) ** 0.5
        smoothed = _smoothed(noise, width)
        if roughness(smoothed).mean() / smoothed.square().mean() > ratio:
            low = width
        else:
            high = width
    v = smoothed * (fields.square().mean() / smoothed.square().mean()).sqrt()
    target = displacement(fields).square().mean()
    # Fields that would fold an image are weakened, so the factor is found by repetition.
    for _ in range(4):
        v = v * (target / displacement(invertible(v[:MATCHED_ON])).square().mean()).sqrt()
    return v


def _smoothed(noise: Tensor, width: float) -> Tensor:
    nodes = torch.arange(noise.shape[-1], dtype=torch.float32)
    kernel = (-((nodes[:, None] - nodes) ** 2) / (2 * width**2)).exp()
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    return kernel @ noise @ kernel.T
