import copy
import pickle

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical, ContinuousBernoulli, Normal, kl_divergence
from torch.nn import functional

from gae_augment._utils.seeding import make_generator
from gae_augment.models import Reconstruction, excess_error
from gae_augment.models.likelihoods import Bernoulli, Gaussian
from gae_augment.models.networks import build_autoencoder


@pytest.fixture
def outputs():
    return torch.randn(6, 3, 4, 5, generator=make_generator("outputs")) * 3


@pytest.fixture
def x():
    return torch.rand(6, 3, 4, 5, generator=make_generator("x"))


def test_bernoulli_of_binary_images_matches_torch(outputs, x):
    binary = x.round()
    expected = -TorchBernoulli(logits=outputs).log_prob(binary).flatten(1).sum(dim=1)
    torch.testing.assert_close(Bernoulli().negative_log_likelihood(outputs, binary), expected)


def test_bernoulli_of_grey_images_matches_the_continuous_bernoulli(outputs, x):
    # They differ by the normalising constant of the continuous Bernoulli: its log-density at x = 0 plus the BCE there.
    continuous = ContinuousBernoulli(logits=outputs)
    constant = continuous.log_prob(torch.zeros_like(x)) - TorchBernoulli(logits=outputs).log_prob(torch.zeros_like(x))
    expected = (constant - continuous.log_prob(x)).flatten(1).sum(dim=1)
    torch.testing.assert_close(Bernoulli().negative_log_likelihood(outputs, x), expected, rtol=1e-4, atol=1e-3)


def test_bernoulli_matches_the_cross_entropy_formula(outputs, x):
    p = outputs.double().sigmoid()
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(dim=1)
    torch.testing.assert_close(Bernoulli().negative_log_likelihood(outputs, x).double(), expected, rtol=1e-5, atol=1e-4)


def test_gaussian_matches_torch(outputs, x):
    constant = Normal(0.0, 1.0).log_prob(torch.tensor(0.0)) * x[0].numel()
    expected = constant - Normal(outputs, 1.0).log_prob(x).flatten(1).sum(dim=1)
    torch.testing.assert_close(Gaussian().negative_log_likelihood(outputs, x), expected, rtol=1e-4, atol=1e-3)


def test_excess_error_is_the_divergence_per_pixel(outputs, x):
    expected = kl_divergence(TorchBernoulli(probs=x), TorchBernoulli(logits=outputs)).flatten(1).mean(dim=1)
    torch.testing.assert_close(excess_error(outputs, x, Bernoulli()), expected, rtol=1e-4, atol=1e-5)


def test_excess_error_of_a_black_and_white_image_is_its_error(outputs, x):
    binary = x.round()
    expected = Bernoulli().negative_log_likelihood(outputs, binary) / 60
    torch.testing.assert_close(excess_error(outputs, binary, Bernoulli()), expected)


@pytest.mark.parametrize("shape", [(4, 7), (4, 5, 6), (4, 3, 5, 6)], ids=str)
def test_excess_error_of_a_perfect_reconstruction_is_zero(shape):
    x = torch.rand(shape, generator=make_generator("perfect"))
    torch.testing.assert_close(excess_error(x.logit(), x, Bernoulli()), torch.zeros(4), atol=1e-6, rtol=0)
    assert torch.equal(excess_error(x, x, Gaussian()), torch.zeros(4))


def test_excess_error_grows_with_blur(x):
    errors = torch.stack([excess_error(x.lerp(x.mean(), blur).logit(), x, Bernoulli()) for blur in (0.0, 0.2, 0.6)])
    assert (errors.diff(dim=0) > 0).all()


def test_gradient_points_from_reconstruction_to_image(outputs, x):
    outputs.requires_grad_()
    Bernoulli().negative_log_likelihood(outputs, x).sum().backward()
    torch.testing.assert_close(outputs.grad, outputs.detach().sigmoid() - x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bernoulli_is_exact_for_extreme_logits(dtype):
    outputs = (
        torch.tensor([-1e4, -90.0, -20.0, -7.0, 0.0, 5.0, 20.0, 90.0, 1e4]).repeat(3, 1).to(dtype).requires_grad_()
    )
    x = torch.tensor([[0.0], [0.25], [1.0]]).repeat(1, 9)
    exact = outputs.detach().double().clone().requires_grad_()
    expected = functional.softplus(exact, threshold=100) - x * exact
    errors = Bernoulli().negative_log_likelihood(outputs.flatten()[:, None], x.flatten()[:, None])
    torch.testing.assert_close(errors.double(), expected.flatten())
    errors.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(outputs.grad, exact.grad.to(dtype))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=lambda likelihood: likelihood.name)
def test_reconstruction_loss_is_the_mean_error_in_nats_per_image(likelihood, x):
    network = build_autoencoder((3, 4, 5), 2, "fc", generator=make_generator(0))
    outputs = network.decode(network.encode(x))
    expected = torch.stack(
        [likelihood.negative_log_likelihood(outputs[i : i + 1], x[i : i + 1])[0] for i in range(6)]
    ).mean()
    loss = Reconstruction(likelihood).loss(network, x, torch.Generator())
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)


def test_entropy_matches_torch_and_the_error_of_a_perfect_reconstruction(x):
    # A Bernoulli pixel is a categorical with two values.
    entropy = Categorical(probs=torch.stack([x, 1 - x], dim=-1)).entropy().flatten(1).sum(dim=1)
    torch.testing.assert_close(Bernoulli().entropy(x), entropy)
    torch.testing.assert_close(Bernoulli().negative_log_likelihood(x.logit(), x), entropy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=lambda likelihood: likelihood.name)
def test_outputs_for_a_mean_image_have_that_mean(likelihood, x):
    torch.testing.assert_close(likelihood.mean(likelihood.outputs_for(x)), x)


def test_logits_of_black_and_white_are_finite():
    logits = Bernoulli().outputs_for(torch.tensor([0.0, 1.0]))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.sigmoid(), torch.tensor([0.0, 1.0]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=lambda likelihood: likelihood.name)
def test_copied_likelihoods_are_equal(likelihood):
    assert copy.deepcopy(likelihood) == pickle.loads(pickle.dumps(likelihood)) == likelihood
    assert Bernoulli() != Gaussian()
