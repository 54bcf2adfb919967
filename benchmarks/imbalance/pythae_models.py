r"""Variational autoencoders of pythae, one for each class."""

__all__ = ["fit_pythae"]

import tempfile

import torch
from torch import Tensor

from gae_augment._utils.seeding import global_seed
from gae_augment.evaluation.images import Labelled, to_unit

from ..silence import silence

LATENT_DIM = 10

STEPS = 600
"""The optimiser steps for each class, the same as for our models."""


def fit_pythae(train: Labelled, missing: dict[int, int], seed: int, *, kind: str) -> dict[int, Tensor]:
    r"""Returns new images of each class, from a model of that class alone.

    Args:
        train: The training images, uint8 with shape :math:`(N, C, H, W)`, and their labels.
        missing: The number of images to make of each class.
        seed: The seed of everything random.
        kind: ``"vae"``, sampled from N(0, I), or ``"rhvae"``, sampled from its metric.

    Raises:
        ModuleNotFoundError: If pythae is not installed.
    """
    try:
        from pythae.models import RHVAE, VAE, RHVAEConfig, VAEConfig
        from pythae.pipelines import TrainingPipeline
        from pythae.samplers import NormalSampler, RHVAESampler, RHVAESamplerConfig
        from pythae.trainers import BaseTrainerConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("This source needs pythae: pip install 'gae-augment[benchmarks]'") from error

    images, labels = train
    made = {}
    for label, number in missing.items():
        with global_seed(seed), tempfile.TemporaryDirectory() as folder:
            x = to_unit(images[labels == label])
            batch_size = min(64, len(x))
            shape = {"input_dim": tuple(x.shape[1:]), "latent_dim": LATENT_DIM, "reconstruction_loss": "bce"}
            model = VAE(VAEConfig(**shape)) if kind == "vae" else RHVAE(RHVAEConfig(**shape))
            settings = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=max(1, STEPS // -(-len(x) // batch_size)),
                per_device_train_batch_size=batch_size,
                learning_rate=1e-3,
                no_cuda=not torch.cuda.is_available(),
                seed=seed,
            )
            with silence():
                TrainingPipeline(model=model, training_config=settings)(train_data=x)
            sampler = (
                NormalSampler(model)
                if kind == "vae"
                else RHVAESampler(model, RHVAESamplerConfig(mcmc_steps_nbr=100, n_lf=10))
            )
            new = sampler.sample(num_samples=number, batch_size=min(number, 500), return_gen=True)
            made[label] = new.detach().cpu().clamp(0, 1).mul(255).round().byte().view(number, *images.shape[1:])
    return made
