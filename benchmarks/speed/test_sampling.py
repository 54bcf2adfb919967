r"""Sampling, beside the decoder's own forward pass."""

import pytest
import torch

from gae_augment._utils.devices import resolve_device
from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import fit_model
from gae_augment.models import GenerativeModel
from gae_augment.synthesis import sample

from .test_fit import noise

SAMPLES = 10_000


# Recorded rows have these names.
@pytest.mark.parametrize("synthesis", [pytest.param("decoded", id="False"), pytest.param("residual", id="True")])
@pytest.mark.parametrize("architecture", ["fc", "paper", "conv"])
def test_sample(compare, architecture, synthesis):
    settings = GenerativeModel(epochs=1, architecture=architecture, synthesis=synthesis, delta=10.0)
    fitted = fit_model(noise(1000), settings, seed=0)
    device = resolve_device("auto")
    z = torch.randn(SAMPLES, fitted.plan.latent_dim, generator=make_generator(0))

    @torch.no_grad()
    def decode() -> torch.Tensor:
        network = fitted.network.to(device)
        return torch.cat(
            [(network.decode(batch).sigmoid() * 255).round().byte().cpu() for batch in z.to(device).split(1000)]
        )

    compare(
        lambda: sample(fitted, SAMPLES, seed=0),
        decode,
        what=f"{SAMPLES} samples, architecture `{architecture}`, {synthesis}",
        beside="the bare decoder and the conversion to bytes",
        aim=1.11,
    )
