r"""Each objective compared with an independent computation."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from gae_augment._utils.seeding import make_generator
from gae_augment.models.likelihoods import Bernoulli, Gaussian
from gae_augment.models.networks import build_autoencoder
from gae_augment.models.objectives.adversarial import AdversarialVariational
from gae_augment.models.objectives.discrepancy import SCALES, InfoVariational, Wasserstein, maximum_mean_discrepancy
from gae_augment.models.objectives.mixtures import GaussianMixtureVariational, VampPrior, VariationalDeepEmbedding
from gae_augment.models.objectives.reconstruction import Reconstruction, RegularisedReconstruction
from gae_augment.models.objectives.variational import Variational, gaussian_kl, reparameterise


def draw(*shape, of):
    return torch.randn(*shape, generator=make_generator(of))


@pytest.fixture
def x():
    return torch.rand(6, 1, 4, 4, generator=make_generator("x"))


@pytest.fixture
def network():
    network = build_autoencoder((1, 4, 4), 2, "fc", stochastic=True, generator=make_generator("network"))
    # Layers that start at 0 would hide faults.
    for layer in (network.encoder[-1], network.decoder[-2]):
        torch.nn.init.normal_(layer.weight, std=0.1, generator=make_generator("layer"))
    return network


def normal(mean, log_var):
    return Independent(Normal(mean, (log_var / 2).exp()), 1)


def test_gaussian_kl_matches_torch():
    mean, log_var = draw(7, 3, of="mean"), draw(7, 3, of="log_var")
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(dim=-1)
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected)


def test_reparameterised_draws_have_mean_and_variance():
    mean, log_var = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, -3.0]])
    z = reparameterise(mean.expand(50000, -1), log_var.expand(50000, -1), torch.Generator().manual_seed(0))
    deviation = (log_var / 2).exp()[0]
    assert ((z.mean(dim=0) - mean[0]).abs() < 5 * deviation / 50000**0.5).all()
    torch.testing.assert_close(z.std(dim=0), deviation, rtol=0.02, atol=0)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_variational_loss_is_the_evidence_bound_of_the_same_draw(network, x, beta):
    loss = Variational(Bernoulli(), beta).loss(network, x, torch.Generator().manual_seed(3))
    mean, log_var = network.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn(6, 2, generator=torch.Generator().manual_seed(3))
    error = Bernoulli().negative_log_likelihood(network.decode(z), x)
    divergence = kl_divergence(normal(mean, log_var), normal(torch.zeros(2), torch.zeros(2)))
    torch.testing.assert_close(loss, (error + beta * divergence).mean())


def kernel(a, b):
    r"""Returns the inverse multi-quadratic kernel of two codes, by its formula."""
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return sum(c * 2 * len(a) / (c * 2 * len(a) + squared) for c in (0.1, 0.2, 0.5, 1, 2, 5, 10))


def test_discrepancy_matches_explicit_sums():
    a, b = draw(5, 3, of="a").double(), draw(5, 3, of="b").double() + 1
    within = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(kernel(p, q) for p, q in itertools.product(a, b)) / 25
    torch.testing.assert_close(maximum_mean_discrepancy(a, b), within - 2 * between)


def test_discrepancy_of_a_sample_with_itself_is_negative():
    # The unbiased estimate omits the diagonals within a sample, but the cross term includes them.
    a = draw(9, 2, of="itself").double()
    off_diagonal = sum(kernel(a[i], a[j]) for i in range(9) for j in range(9) if i != j)
    expected = 2 * off_diagonal / 72 - 2 * (off_diagonal + 9 * len(SCALES)) / 81
    torch.testing.assert_close(maximum_mean_discrepancy(a, a), expected)
    assert expected < 0


def test_discrepancy_matches_a_monte_carlo_value():
    generator = np.random.default_rng(0)
    shift = np.array([1.0, 0.0])

    def expectation(mean_a, mean_b, n=400_000):
        a = generator.standard_normal((n, 2)) + mean_a
        b = generator.standard_normal((n, 2)) + mean_b
        values = kernel(a.T, b.T)
        return values.mean(), values.std() / n**0.5

    terms = [expectation(0, 0), expectation(shift, shift), expectation(0, shift)]
    expected = terms[0][0] + terms[1][0] - 2 * terms[2][0]
    estimates = torch.stack(
        [
            maximum_mean_discrepancy(
                torch.from_numpy(generator.standard_normal((400, 2))),
                torch.from_numpy(generator.standard_normal((400, 2)) + shift),
            )
            for _ in range(60)
        ]
    )
    error = math.hypot(estimates.std().item() / 60**0.5, terms[0][1], terms[1][1], 2 * terms[2][1])
    assert abs(estimates.mean().item() - expected) < 4 * error
    assert error < expected / 20


def test_discrepancy_of_one_code_is_zero():
    z = torch.ones(1, 3, requires_grad=True)
    discrepancy = maximum_mean_discrepancy(z, torch.zeros(1, 3))
    discrepancy.backward()
    assert discrepancy == 0
    assert not z.grad.any()


@pytest.mark.parametrize(("alpha", "scale"), [(0.0, 1000.0), (0.5, 10.0), (1.0, 0.0)])
def test_info_variational_is_the_sum_of_its_terms(network, x, alpha, scale):
    loss = InfoVariational(Gaussian(), alpha, scale).loss(network, x, torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(3)
    mean, log_var = network.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn(6, 2, generator=noise)
    prior = torch.randn(6, 2, generator=noise)
    expected = (
        0.5 * (network.decode(z) - x).square().sum() / 6
        + (1 - alpha) * kl_divergence(normal(mean, log_var), normal(torch.zeros(2), torch.zeros(2))).mean()
        + (alpha + scale - 1) * maximum_mean_discrepancy(z, prior)
    )
    torch.testing.assert_close(loss, expected)


def test_info_variational_refuses_a_negative_discrepancy():
    with pytest.raises(
        ValueError, match=r"is -0\.5, but must be at least 0\. Raise 'scale', which is 0\.5, or 'alpha'"
    ):
        InfoVariational(Bernoulli(), alpha=0.0, scale=0.5)


def test_wasserstein_is_the_sum_of_its_terms(x):
    network = build_autoencoder((1, 4, 4), 3, "fc", generator=make_generator("plain"))
    loss = Wasserstein(Gaussian(), 7.0).loss(network, x, torch.Generator().manual_seed(3))
    z = network.encode(x)
    prior = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    error = 0.5 * (network.decode(z) - x).square().sum() / 6
    torch.testing.assert_close(loss, error + 7.0 * maximum_mean_discrepancy(z, prior))


def test_regularised_reconstruction_is_the_sum_of_its_terms(x):
    network = build_autoencoder((1, 4, 4), 3, "fc", generator=make_generator("plain"))
    loss = RegularisedReconstruction(Gaussian(), code_weight=0.3, decay=0.2).loss(network, x, torch.Generator())
    z = network.encode(x)
    weights = torch.nn.utils.parameters_to_vector(network.decoder.parameters())
    expected = 0.5 * (network.decode(z) - x).norm() ** 2 / 6 + 0.3 * 0.5 * z.norm() ** 2 / 6 + 0.2 * weights.norm() ** 2
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=lambda likelihood: likelihood.name)
def test_jacobian_penalty_is_the_squared_norm_of_the_jacobian(x, likelihood):
    network = build_autoencoder((1, 4, 4), 3, "fc", generator=make_generator("plain"))
    torch.nn.init.normal_(network.decoder[-2].weight, std=0.1, generator=make_generator("layer"))
    network.requires_grad_(False)
    z = network.encode(x)
    deviation = z.std(dim=0, correction=0)

    def decode(u):
        outputs = network.decode((u * deviation)[None]).flatten()
        return outputs.sigmoid() if likelihood == Bernoulli() else outputs

    # The mean of |J v|^2 over directions v of N(0, I) is the squared Frobenius norm of J.
    jacobians = [torch.autograd.functional.jacobian(decode, code / deviation) for code in z]
    expected = torch.stack([jacobian.square().sum() for jacobian in jacobians]).mean()
    noise = torch.Generator().manual_seed(0)
    plain = Reconstruction(likelihood).loss(network, x, noise)
    losses = torch.stack([Reconstruction(likelihood, jacobian_weight=2.0).loss(network, x, noise) for _ in range(2000)])
    penalties = (losses - plain) / 2
    assert (penalties.mean() - expected).abs() < 4 * penalties.std() / 2000**0.5 + 0.03 * expected


def test_jacobian_penalty_is_computed_in_full_precision(x):
    network = build_autoencoder((1, 4, 4), 3, "fc", generator=make_generator("plain"))
    torch.nn.init.normal_(network.decoder[-2].weight, std=0.1, generator=make_generator("layer"))

    def penalty():
        noise = torch.Generator().manual_seed(0)
        return Reconstruction(Gaussian(), 1.0).loss(network, x, noise) - Reconstruction(Gaussian()).loss(
            network, x, noise
        )

    full = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(penalty(), full, rtol=0.05, atol=0)


@pytest.fixture
def vade(network):
    r"""Returns a VaDE objective with a mixture of three components in two dimensions."""
    objective = VariationalDeepEmbedding(Gaussian())
    objective.prepare(network, torch.zeros(60, 1, 4, 4), n_components=3, generator=make_generator(0))
    with torch.no_grad():
        objective.logits.copy_(torch.tensor([0.0, 1.0, -0.5]))
        objective.means.copy_(draw(3, 2, of="means"))
        objective.log_variances.copy_(0.5 * draw(3, 2, of="variances"))
    objective.pretrained = True
    return objective


def test_vade_divergence_matches_a_monte_carlo_estimate(vade):
    mean, log_var = draw(1, 2, of="mean"), 0.3 * draw(1, 2, of="log_var")
    z = draw(1, 2, of="z")
    weights = vade.logits.softmax(dim=0).detach()
    components = normal(vade.means.detach(), vade.log_variances.detach())
    joint = weights.log() + components.log_prob(z)
    gamma = joint.exp() / joint.exp().sum()
    # KL(q(z) gamma(c) || p(z, c)), the mean over many draws of z and the sum over all c.
    draws = normal(mean, log_var).sample((200_000,))[:, 0]
    log_ratio = (
        normal(mean, log_var).log_prob(draws)[:, None]
        + gamma.log()
        - weights.log()
        - components.log_prob(draws[:, None])
    )
    values = (gamma * log_ratio).sum(dim=1)
    error = values.std() / len(values) ** 0.5
    assert (vade.divergence(mean, log_var, z) - values.mean()).abs() < 4 * error + 1e-4
    assert error < 0.02


def curved_network():
    r"""Returns a network with one latent dimension, two features and a decoder that is not linear."""
    network = build_autoencoder((2,), 1, (8,), stochastic=True, generator=make_generator("line"))
    torch.nn.init.normal_(network.decoder[-2].weight, generator=make_generator("last"))
    torch.nn.init.normal_(network.encoder[-1].weight, std=0.3, generator=make_generator("first"))
    return network.requires_grad_(False)


def mean_loss(objective, network, x, draws=4000):
    return objective.loss(network, x.expand(draws, -1), torch.Generator().manual_seed(0)).item()


def test_vade_loss_is_a_bound_on_the_evidence():
    network = curved_network()
    objective = VariationalDeepEmbedding(Gaussian())
    objective.prepare(network, torch.zeros(60, 2), n_components=2, generator=make_generator(0))
    objective.pretrained = True
    with torch.no_grad():
        objective.means.copy_(torch.tensor([[-1.5], [1.0]]))
        objective.log_variances.copy_(torch.tensor([[-1.0], [0.2]]))
        objective.logits.copy_(torch.tensor([0.3, -0.3]))
    grid = torch.linspace(-12, 12, 24001)[:, None]
    prior = objective.prior(network).log_prob(grid)
    for index in range(5):
        x = draw(1, 2, of=f"x{index}")
        log_likelihood = -0.5 * (network.decode(grid) - x).square().sum(dim=1)
        evidence = torch.trapezoid((prior + log_likelihood).exp(), grid[:, 0].double()).log().item()
        assert mean_loss(objective, network, x) > -evidence - 0.02


def test_gmvae_loss_is_a_bound_on_the_evidence():
    network = curved_network()
    objective = GaussianMixtureVariational(Gaussian(), free_bits=0.0)
    objective.prepare(network, torch.zeros(60, 2), n_components=2, generator=make_generator(0))
    for module in (objective.mixture.network, objective.context):
        torch.nn.init.normal_(module[-1].weight, std=0.2, generator=make_generator("part"))
    objective.requires_grad_(False)
    grid = torch.linspace(-10, 10, 1001)[:, None]
    # The prior of z as a sum over w and the components.
    w = torch.linspace(-6, 6, 601)
    means, log_variances = objective.mixture.conditional(w[:, None])
    weights = Normal(0.0, 1.0).log_prob(w).softmax(dim=0)[:, None].expand(-1, 2).flatten() / 2
    components = Normal(means.flatten(), (log_variances.flatten() / 2).exp())
    prior = MixtureSameFamily(Categorical(weights), components).log_prob(grid[:, 0])
    torch.testing.assert_close(torch.trapezoid(prior.exp(), grid[:, 0]), torch.ones(()), rtol=1e-2, atol=0)
    for index in range(5):
        x = draw(1, 2, of=f"x{index}")
        log_likelihood = -0.5 * (network.decode(grid) - x).square().sum(dim=1)
        evidence = torch.trapezoid((prior + log_likelihood).exp(), grid[:, 0]).log().item()
        assert mean_loss(objective, network, x) > -evidence - 0.02


def test_gmvae_divergences_match_torch(network):
    objective = GaussianMixtureVariational(Gaussian())
    objective.prepare(network, torch.zeros(80, 1, 4, 4), n_components=4, generator=make_generator(0))
    torch.nn.init.normal_(objective.mixture.network[-1].weight, std=0.2, generator=make_generator("part"))
    mean, log_var, z, w_mean, w_log_var, w = (draw(5, 2, of=f"d{index}") for index in range(6))
    code_kl, context_kl, component_kl = objective.divergences(mean, log_var, z, w_mean, w_log_var, w)
    means, log_variances = objective.mixture.conditional(w)
    for i in range(5):
        components = normal(means[i], log_variances[i])
        posterior = components.log_prob(z[i]).softmax(dim=0)
        component_divergences = torch.stack(
            [kl_divergence(normal(mean[i], log_var[i]), normal(means[i, k], log_variances[i, k])) for k in range(4)]
        )
        torch.testing.assert_close(code_kl[i], (posterior * component_divergences).sum(), rtol=1e-4, atol=1e-4)
        context = kl_divergence(normal(w_mean[i], w_log_var[i]), normal(torch.zeros(2), torch.zeros(2)))
        torch.testing.assert_close(context_kl[i], context)
        uniform = kl_divergence(Categorical(posterior), Categorical(torch.ones(4)))
        torch.testing.assert_close(component_kl[i], uniform, rtol=1e-4, atol=1e-5)


def test_free_bits_are_the_smallest_counted_divergence_of_components(network, x):
    losses = {}
    for free_bits in (0.0, 5.0):
        objective = GaussianMixtureVariational(Gaussian(), free_bits=free_bits)
        objective.prepare(network, torch.zeros(80, 1, 4, 4), n_components=4, generator=make_generator(0))
        losses[free_bits] = objective.loss(network, x, torch.Generator().manual_seed(0))
    # The divergence of four components is at most log 4.
    assert 5 - math.log(4) <= (losses[5.0] - losses[0.0]).item() <= 5


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=lambda likelihood: likelihood.name)
def test_vamp_prior_matches_a_direct_mixture(network, x, likelihood):
    objective = VampPrior(likelihood)
    objective.prepare(network, x, n_components=4, generator=make_generator(0))
    with torch.no_grad():
        objective.pseudo_inputs += 0.5 * draw(4, 1, 4, 4, of="move")
    inputs = objective.pseudo_inputs.detach()
    inputs = inputs.clamp(0, 1) if likelihood == Bernoulli() else inputs
    mean, log_var = network.posterior(inputs)
    direct = MixtureSameFamily(Categorical(torch.ones(4)), MultivariateNormal(mean, torch.diag_embed(log_var.exp())))
    z = 2 * draw(50, 2, of="z")
    torch.testing.assert_close(objective.log_prior(network, z), direct.log_prob(z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(objective.prior(network).log_prob(z), direct.log_prob(z).double(), rtol=1e-4, atol=1e-4)


def test_vamp_prior_loss_is_the_weighted_evidence_bound_of_the_same_draw(network, x):
    objective = VampPrior(Gaussian(), warm_up=0.2)
    objective.prepare(network, x, n_components=4, generator=make_generator(0))
    mean, log_var = network.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn(6, 2, generator=torch.Generator().manual_seed(3))
    error = 0.5 * (network.decode(z) - x).square().flatten(1).sum(dim=1)
    divergence = normal(mean, log_var).log_prob(z) - objective.log_prior(network, z)
    for progress, weight in ((0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.9, 1.0)):
        objective.advance(network, x, progress)
        loss = objective.loss(network, x, torch.Generator().manual_seed(3))
        torch.testing.assert_close(loss, (error + weight * divergence).mean())
    # Without a warm-up, the default, the weight is 1 from the start.
    objective.warm_up = VampPrior(Gaussian()).warm_up
    objective.advance(network, x, 0.0)
    loss = objective.loss(network, x, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss, (error + divergence).mean())


def test_pseudo_inputs_start_as_training_images_and_are_at_most_all_of_them(network, x):
    objective = VampPrior(Bernoulli())
    objective.prepare(network, x, n_components=10, generator=make_generator(0))
    pseudo_inputs = {tuple(image.flatten().tolist()) for image in objective.pseudo_inputs.detach()}
    assert pseudo_inputs == {tuple(image.flatten().tolist()) for image in x}


def test_vade_starts_with_the_mixture_of_the_codes(network):
    codes = torch.cat([draw(200, 2, of="one") * 0.1 + 3, draw(100, 2, of="two") * 0.2 - 3])
    network.encode = lambda images: codes
    objective = VariationalDeepEmbedding(Bernoulli(), pretraining=0.5)
    objective.prepare(network, torch.zeros(300, 1, 4, 4), n_components=2, generator=make_generator(0))
    objective.advance(network, torch.zeros(300, 1, 4, 4), 0.4)
    assert not objective.means.any()
    objective.advance(network, torch.zeros(300, 1, 4, 4), 0.5)
    order = objective.means[:, 0].argsort()
    torch.testing.assert_close(objective.means[order, 0], torch.tensor([-3.0, 3.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(objective.logits.softmax(dim=0)[order], torch.tensor([1 / 3, 2 / 3]), atol=1e-3, rtol=0)
    deviations = (objective.log_variances[order] / 2).exp()
    torch.testing.assert_close(deviations, torch.tensor([[0.2] * 2, [0.1] * 2]), rtol=0.3, atol=0.1)


@pytest.fixture
def adversary(network, x):
    # This margin never skips a step.
    objective = AdversarialVariational(Bernoulli(), gamma=0.3, margin=100.0)
    objective.prepare(network, x, n_components=1, generator=make_generator(0))
    return objective


def test_each_vae_gan_loss_reaches_only_its_parameters(adversary, network, x):
    modules = {"encoder": network.encoder, "decoder": network.decoder, "critic": adversary.critic}
    losses = adversary.losses(network, x, torch.Generator().manual_seed(0))
    for (loss, parameters), name in zip(losses, modules, strict=True):
        assert {id(parameter) for parameter in parameters} == {
            id(parameter) for parameter in modules[name].parameters()
        }
        network.zero_grad()
        adversary.zero_grad()
        torch.autograd.backward(loss, inputs=parameters, retain_graph=True)
        reached = {
            name
            for name, module in modules.items()
            if any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
        }
        assert reached == {name}


def test_vae_gan_losses_match_the_formulas_of_the_paper(adversary, network, x):
    losses = [loss for loss, _ in adversary.losses(network, x, torch.Generator().manual_seed(3))]
    noise = torch.Generator().manual_seed(3)
    mean, log_var = network.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn(6, 2, generator=noise)
    reconstructed = network.decode(z).sigmoid()
    generated = network.decode(torch.randn(6, 2, generator=noise)).sigmoid()

    def features(images):
        return adversary.critic.features((images - network.mean) / network.deviation)

    def probability_real(images):
        return adversary.critic.head(features(images)).sigmoid()

    feature_matching = 0.5 * (features(x) - features(reconstructed)).norm(dim=1).square().mean()
    adversarial = -(probability_real(x).log().mean() + (1 - probability_real(generated)).log().mean())
    divergence = kl_divergence(normal(mean, log_var), normal(torch.zeros(2), torch.zeros(2))).mean()
    expected = [divergence + feature_matching, 0.3 * feature_matching - 0.7 * adversarial, adversarial]
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("equilibrium", "margin", "trained"),
    [
        (10.0, 1.0, {"encoder", "decoder"}),  # both cross-entropies are low: the critic is far better
        (0.01, 0.001, {"encoder", "critic"}),  # both are high: the critic is far worse
        (0.68, 100.0, {"encoder", "decoder", "critic"}),
        (0.68, -100.0, {"encoder", "decoder", "critic"}),  # both would be skipped, so neither is
    ],
)
def test_critic_or_decoder_pauses_when_far_better(adversary, network, x, equilibrium, margin, trained):
    adversary.equilibrium, adversary.margin = equilibrium, margin
    owners = {id(p): name for name in ("encoder", "decoder") for p in getattr(network, name).parameters()}
    owners |= {id(p): "critic" for p in adversary.critic.parameters()}
    losses = adversary.losses(network, x, torch.Generator())
    assert {owners[id(parameters[0])] for _, parameters in losses} == trained


def test_one_optimiser_leaves_parameters_without_a_loss_unchanged(adversary, network, x):
    adversary.equilibrium, adversary.margin = 10.0, 1.0
    before = copy.deepcopy(adversary.critic.state_dict())
    optimiser = torch.optim.Adam([*network.parameters(), *adversary.parameters()], fused=True)
    for _ in range(3):
        optimiser.zero_grad()
        losses = adversary.losses(network, x, torch.Generator())
        for loss, parameters in losses:
            torch.autograd.backward(loss, inputs=parameters, retain_graph=True)
        optimiser.step()
    for name, value in adversary.critic.state_dict().items():
        assert torch.equal(value, before[name])
