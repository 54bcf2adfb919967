r"""Speed of fitting, sampling and mixing, each beside the least that it could cost: ``make bench``.

Two things are compared in one run, and the ratio is the figure: machines differ.
"""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gae_augment import GAEAugmenter, MixedSampler
from gae_augment.generator import Generator, single_threaded
from gae_augment.networks import build_autoencoder
from gae_augment.objectives import reconstruction_error
from gae_augment.seeding import make_generator
from gae_augment.settings import GeneratorSettings

SETTINGS = GeneratorSettings(delta=1e-9, epochs=20)


@pytest.fixture(scope="module")
def images():
    # Noise: a fit of so many epochs takes the same time whatever it sees.
    return torch.randint(0, 256, (1000, 1, 28, 28), dtype=torch.uint8, generator=make_generator(0))


@pytest.fixture(scope="module")
def generator(images):
    return Generator(GeneratorSettings(epochs=2)).fit(images, seed=0)


@pytest.mark.benchmark(group="fit of 1000 images, 20 epochs")
def test_fit(benchmark, images):
    benchmark.pedantic(lambda: Generator(SETTINGS).fit(images, seed=0), rounds=3)


@pytest.mark.benchmark(group="fit of 1000 images, 20 epochs")
def test_fit_by_a_bare_loop(benchmark, images):
    def loop():
        network = build_autoencoder((1, 28, 28), 10, "fc", generator=make_generator(0))
        optimiser = torch.optim.Adam(network.parameters(), lr=SETTINGS.learning_rate, fused=True)
        with single_threaded():
            for epoch in range(SETTINGS.epochs):
                for chosen in torch.randperm(len(images), generator=make_generator(epoch)).split(SETTINGS.batch_size):
                    x = images[chosen].float() / 255
                    loss = reconstruction_error(network.decode(network.encode(x)), x, "bernoulli").mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()

    benchmark.pedantic(loop, rounds=3)


@pytest.mark.benchmark(group="10 000 samples")
def test_sample(benchmark, generator):
    benchmark(lambda: generator.sample(10_000, seed=0))


@pytest.mark.benchmark(group="10 000 samples")
def test_sample_by_the_bare_decoder(benchmark, generator):
    z = torch.randn(10_000, 10, generator=make_generator(0))

    @torch.no_grad()
    def decode():
        with single_threaded():
            for batch in z.split(1000):
                (generator.network.decode(batch).sigmoid() * 255).round().to(torch.uint8)

    benchmark(decode)


@pytest.mark.benchmark(group="an epoch of 2000 images")
def test_mixed_epoch(benchmark, images):
    base = TensorDataset(torch.cat([images, images[:100]]), torch.tensor([0] * 1000 + [1] * 100))
    augmented = GAEAugmenter(epochs=2, delta=10.0, random_state=0, progress=False).fit(base).augment(base)
    loader = DataLoader(augmented, batch_size=128, sampler=MixedSampler(augmented, num_samples=2000))
    benchmark(lambda: sum(len(batch) for batch, _ in loader))


@pytest.mark.benchmark(group="an epoch of 2000 images")
def test_plain_epoch(benchmark, images):
    base = TensorDataset(torch.cat([images, images]), torch.tensor([0] * 1000 + [1] * 1000))
    loader = DataLoader(base, batch_size=128, shuffle=True, generator=make_generator(0))
    benchmark(lambda: sum(len(batch) for batch, _ in loader))
