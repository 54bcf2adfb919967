import copy
import math

import pytest
import torch

from gae_augment._utils.seeding import make_generator
from gae_augment.data.values import ValueScale
from gae_augment.fitting.plan import RESOLUTION
from gae_augment.fitting.training import likelihood_for, mean_excess_error, mean_image_error, stopped_falling, train
from gae_augment.models import Reconstruction, excess_error
from gae_augment.models.likelihoods import Bernoulli, Gaussian
from gae_augment.models.networks import build_autoencoder


@pytest.fixture(scope="module")
def images(digits):
    return torch.from_numpy(digits[0][digits[1] == 0].copy())


@pytest.fixture
def network():
    return build_autoencoder((8, 8), 4, "fc", generator=make_generator("network"))


def run(network, images, **options):
    values = ValueScale.of(images)
    options = {
        "epochs": 5,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "delta": 1e-9,
        "resolution": RESOLUTION,
        "generator": make_generator("order"),
        **options,
    }
    return train(network, Reconstruction(likelihood_for(values)), images, values, **options)


def excess(network, images):
    r"""Returns the excess error by its formula in float64."""
    x = images.double() / 255
    p = network.double().decode(network.encode(x)).sigmoid().detach()
    network.float()
    return (torch.xlogy(x, x / p) + torch.xlogy(1 - x, (1 - x) / (1 - p))).mean().item()


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_error_falls_below_that_of_the_mean_image(network, images):
    log = run(network, images, epochs=60)
    assert log.errors[-1] < log.errors[0] / 2
    assert log.errors[-1] < mean_image_error(images, ValueScale.of(images))
    assert log.training_error == pytest.approx(excess(network, images), rel=1e-4)


def test_log_counts_epochs_and_steps(network, images):
    log = run(network, images, epochs=3, batch_size=16)
    assert (log.epochs, log.steps) == (3, 9)
    assert not log.reached


def test_training_stops_once_the_error_is_below_delta(network, images):
    # With three steps per epoch, the error is compared with delta every two epochs.
    twin = copy.deepcopy(network)
    errors = run(twin, images, epochs=40, learning_rate=1e-3, delta=1e-9).errors
    assert len(errors) == 20
    assert errors == sorted(errors, reverse=True)
    delta = (errors[1] + errors[2]) / 2
    log = run(network, images, epochs=40, delta=delta)
    assert (log.epochs, log.reached) == (6, True)
    assert log.errors == errors[:3]
    assert log.training_error < delta


def test_log_says_that_delta_was_not_reached(network, images):
    log = run(network, images, epochs=2, delta=1e-4)
    assert not log.reached
    assert log.training_error > 1e-4


def test_training_keeps_the_weights_with_the_smallest_held_out_error(network, images):
    # The held-out images are negatives of the training images, so that their error grows.
    held_out = 255 - images[:20]
    log = run(network, images[20:], held_out=held_out, epochs=100, delta=None)
    assert min(log.errors) < 0.9 * log.errors[-1]
    assert mean_excess_error(network, held_out, ValueScale.of(images)) == pytest.approx(min(log.errors), rel=1e-6)
    assert log.training_error == pytest.approx(excess(network, images[20:]), rel=1e-4)


def test_training_without_delta_stops_when_the_error_is_negligible(network, images):
    log = run(network, torch.full_like(images, 20), batch_size=40, epochs=500, delta=None, learning_rate=3e-4)
    assert log.reached
    assert log.epochs < 500
    assert log.errors[-1] < RESOLUTION <= min(log.errors[:-1])


def test_training_without_delta_stops_when_the_error_stops_falling(network, images):
    # With one step per epoch, the error is measured every 25 epochs. At least five measurements are needed to judge.
    log = run(network, images[20:], held_out=255 - images[:20], batch_size=20, epochs=1000, delta=None)
    assert (log.epochs, log.reached) == (25 * len(log.errors), True)
    assert len(log.errors) >= 5
    assert min(log.errors[-4:]) >= 0.995 * min(log.errors[:-4])
    assert min(log.errors[-5:-1]) < 0.995 * min([*log.errors[:-5], float("inf")])


def test_gradients_are_freed_after_training(network, images):
    run(network, images)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_progress_receives_every_error(network, images):
    errors = []
    log = run(network, images, epochs=5, progress=errors.append)
    assert errors == log.errors
    assert len(errors) == 3  # after epochs 2, 4 and 5


@pytest.mark.parametrize("learning_rate", [1e30, 1e38])
def test_divergence_is_an_error_with_a_remedy(network, images, learning_rate):
    with pytest.raises(FloatingPointError, match=r"Training diverged: .* Lower 'learning_rate', which is 1e\+3"):
        run(network, images, learning_rate=learning_rate)


def test_learning_rate_falls_to_zero_along_a_cosine(network, images, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    run(network, images, epochs=4, learning_rate=0.01)
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * done / 12)) for done in range(12)])


def test_order_of_the_images_depends_only_on_the_generator(images):
    def trained(seed):
        network = build_autoencoder((8, 8), 4, "fc", generator=make_generator("network"))
        run(network, images, generator=make_generator(seed))
        return torch.nn.utils.parameters_to_vector(network.parameters())

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_every_image_is_used_once_per_epoch(network, images):
    seen = []

    class Watching(Reconstruction):
        def loss(self, network, x, noise):
            seen.append(x)
            return super().loss(network, x, noise)

    values = ValueScale.of(images)
    train(
        network,
        Watching(Bernoulli()),
        images,
        values,
        epochs=1,
        batch_size=7,
        learning_rate=1e-3,
        delta=None,
        resolution=RESOLUTION,
        generator=make_generator(0),
    )
    assert [len(x) for x in seen] == [7, 7, 7, 7, 7, 5]
    expected = {tuple(x.flatten().tolist()) for x in values.to_network(images)}
    assert {tuple(x.flatten().tolist()) for x in torch.cat(seen)} == expected
    assert not torch.equal(torch.cat(seen), values.to_network(images))


def test_training_works_under_no_grad(network, images):
    before = excess(network, images)
    with torch.no_grad():
        run(network, images, epochs=10)
        assert not torch.is_grad_enabled()
    assert excess(network, images) < before / 2


@pytest.mark.parametrize(
    ("kind", "likelihood"), [("levels", Bernoulli()), ("unit", Bernoulli()), ("standardised", Gaussian())]
)
def test_likelihood_follows_from_the_kind_of_values(images, kind, likelihood):
    images = {"levels": images, "unit": images / 255, "standardised": images.double() * 3 - 100}[kind]
    values = ValueScale.of(images)
    assert (values.kind, likelihood_for(values)) == (kind, likelihood)
    # The outputs of a perfect decoder become the images.
    returned = values.from_network(likelihood.mean(likelihood.outputs_for(values.to_network(images))))
    torch.testing.assert_close(returned, images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["levels", "standardised"])
def test_mean_image_error_is_the_error_of_the_mean_image(images, kind):
    images = images if kind == "levels" else images.double() * 3 - 100
    values = ValueScale.of(images)
    x = values.to_network(images)
    mean = x.mean(dim=0).expand_as(x)
    outputs = mean.clamp(1e-6, 1 - 1e-6).logit() if kind == "levels" else mean
    expected = excess_error(outputs, x, likelihood_for(values)).mean().item()
    assert mean_image_error(images, values) == pytest.approx(expected, rel=1e-4)
    if kind == "standardised":
        # Half of the variance, which is 1 except for constant pixels.
        varying = (images.std(dim=0) > 0).double().mean().item()
        assert mean_image_error(images, values) == pytest.approx(varying / 2, rel=1e-4)


def test_mean_excess_does_not_depend_on_the_batches(network, images):
    values = ValueScale.of(images)
    expected = mean_excess_error(network, images, values)
    assert mean_excess_error(network, images, values, batch_size=3) == pytest.approx(expected, rel=1e-5)
    x = values.to_network(images)
    whole = Bernoulli().negative_log_likelihood(network.decode(network.encode(x)), x).mean().item() / 64
    assert 0 < expected < whole


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([1.0, 0.9, 0.8, 0.7], False),  # four errors are too few to judge
        ([1.0, 0.5, 0.5, 0.5, 0.5], False),  # the last four are below the first
        ([1.0, 0.5, 0.5, 0.5, 0.5, 0.5], True),
        ([1.0, 0.5, 0.6, 0.7, 0.6, 0.498], True),  # by less than the tolerance
        ([1.0, 0.5, 0.6, 0.7, 0.6, 0.49], False),
        ([0.5] + [0.6] * 6 + [0.4], False),
        ([1.0] * 3 + [0.4] + [0.5] * 12 + [0.3] + [0.5] * 3, False),
        ([1.0] * 3 + [0.4] + [0.5] * 12 + [0.3] + [0.5] * 6, True),
    ],
)
def test_stopped_falling(errors, expected):
    assert stopped_falling(errors, tolerance=0.005) is expected
