import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gae_augment._utils.seeding import make_generator
from gae_augment.models import densities
from gae_augment.models.densities import (
    DENSITIES,
    AncestralMixture,
    GaussianMixture,
    StandardNormal,
)
from gae_augment.models.mixture_fit import component_numbers, fit_mixture

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 80.0]], dtype=torch.float64)
FACTORS = torch.tensor(
    [[[1.0, 0.0], [0.5, 5.0]], [[0.5, 0.0], [0.0, 3.0]], [[1.5, 0.0], [-1.0, 4.0]]], dtype=torch.float64
)


def planted_codes(n=3000):
    r"""Returns codes of a known mixture of three components; the scales of the two dimensions differ by ten."""
    generator = make_generator("planted")
    component = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    noise = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    return MEANS[component] + (FACTORS[component] @ noise[:, :, None]).squeeze(-1)


@pytest.fixture(scope="module")
def codes():
    return planted_codes()


@pytest.fixture(scope="module")
def mixture(codes):
    return GaussianMixture().fit(codes)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_fit_recovers_a_planted_mixture(codes):
    mixture = GaussianMixture().fit(codes)
    assert mixture.n_components == 3
    order = torch.cdist(MEANS, mixture.means).argmin(dim=1)
    assert order.unique().numel() == 3
    np.testing.assert_allclose(mixture.weights[order], WEIGHTS, atol=0.03)
    np.testing.assert_allclose(mixture.means[order] / torch.tensor([1, 10]), MEANS / torch.tensor([1, 10]), atol=0.1)
    covariances = mixture.cholesky @ mixture.cholesky.mT
    units = torch.tensor([1.0, 10.0]).outer(torch.tensor([1.0, 10.0]))
    np.testing.assert_allclose(covariances[order] / units, FACTORS @ FACTORS.mT / units, atol=0.2)


def standardised(codes):
    return ((codes - codes.mean(dim=0)) / codes.std(dim=0, correction=0)).numpy()


def bics(z, max_components):
    r"""Returns the BIC of scikit-learn's mixtures of 1 to a maximum number of components."""
    z = standardised(z)
    return [
        SklearnMixture(k, reg_covar=1e-3, max_iter=200, random_state=0).fit(z).bic(z)
        for k in range(1, max_components + 1)
    ]


@pytest.mark.parametrize("n", [60, 300, 1000])
def test_number_of_components_minimises_the_bic(codes, n):
    expected = 1 + int(np.argmin(bics(codes[:n], min(6, n // 20))))
    assert GaussianMixture(6).fit(codes[:n]).n_components == expected


def test_search_continues_after_one_number_without_improvement():
    # For the corners of a square in five dimensions, two components are no better than one, but three are.
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(40, 1)
    z = torch.cat([corners, torch.zeros(160, 3)], dim=1) + 0.2 * torch.randn(160, 5, generator=make_generator("square"))
    bic_1, bic_2, bic_3, *further = bics(z.double(), 5)
    assert bic_3 < bic_1 < bic_2
    assert GaussianMixture(5).fit(z).n_components == 1 + int(np.argmin([bic_1, bic_2, bic_3, *further])) >= 3


def test_number_of_components_is_judged_on_all_codes(monkeypatch):
    # Two Gaussians so close that 5000 codes distinguish them, but 200 do not.
    noise = torch.randn(5000, 2, dtype=torch.float64, generator=make_generator("near"))
    z = noise + 2.2 * torch.tensor([[1.0, 0.0], [0.0, 0.0]]).repeat(2500, 1)
    assert GaussianMixture(2).fit(z[:200]).n_components == 1
    monkeypatch.setattr("gae_augment.models.densities.SEARCHED_ON", 200)
    assert GaussianMixture(2).fit(z).n_components == 2


def test_components_are_limited_by_maximum_and_number_of_codes(codes):
    assert GaussianMixture(2).fit(codes).n_components == 2
    assert GaussianMixture(codes_per_component=1000).fit(codes[:2500]).n_components <= 2
    assert GaussianMixture().fit(codes[:39]).n_components == 1
    assert DENSITIES["normal"]().fit(codes).n_components == 1


def test_normal_has_the_mean_and_covariance_of_the_codes(codes):
    normal = DENSITIES["normal"]().fit(codes)
    np.testing.assert_allclose(normal.means[0], codes.mean(dim=0), rtol=1e-9)
    expected = np.cov(codes.T, bias=True) + 1e-3 * np.diag(codes.numpy().var(axis=0))
    np.testing.assert_allclose((normal.cholesky[0] @ normal.cholesky[0].T).numpy(), expected, rtol=1e-6)


def test_log_prob_matches_scikit_learn(codes, mixture):
    reference = SklearnMixture(3, reg_covar=1e-3, max_iter=200, random_state=0).fit(standardised(codes))
    # The density of codes is that of standardised codes divided by the product of the deviations.
    expected = reference.score_samples(standardised(codes)) - codes.std(dim=0, correction=0).log().sum().item()
    np.testing.assert_allclose(mixture.log_prob(codes), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(mixture.log_prob(codes[:5].float()), expected[:5], rtol=1e-4)


def test_density_integrates_to_one():
    generator = make_generator("line")
    z = torch.cat([torch.randn(200, 1, generator=generator), 3 + 0.2 * torch.randn(100, 1, generator=generator)])
    mixture = GaussianMixture().fit(z)
    grid = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    assert mixture.n_components > 1
    assert torch.trapezoid(mixture.log_prob(grid[:, None]).exp(), grid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_samples_have_the_mean_and_covariance_of_the_mixture(mixture):
    z = mixture.sample(40000, make_generator("sample"))
    assert (z.shape, z.dtype) == ((40000, 2), torch.float64)
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean
    covariance = torch.einsum(
        "k,kij->ij", mixture.weights, mixture.cholesky @ mixture.cholesky.mT + centred[:, :, None] * centred[:, None]
    )
    # Five standard errors of a mean, and 5 % for the covariances.
    np.testing.assert_array_less((z.mean(dim=0) - mean).abs(), 5 * (covariance.diagonal() / 40000).sqrt())
    scale = covariance.diagonal().sqrt()
    np.testing.assert_allclose(z.T.cov() / scale.outer(scale), covariance / scale.outer(scale), atol=0.05)


def test_samples_are_in_random_order_of_components(mixture):
    z = mixture.sample(2000, make_generator("order"))
    component = torch.cdist(z / torch.tensor([1, 10]), MEANS / torch.tensor([1, 10])).argmin(dim=1)
    # In random order, successive components agree as often as the sum of the squared weights; sorted, nearly always.
    expected, agree = WEIGHTS.square().sum().item(), (component[1:] == component[:-1]).double().mean().item()
    assert agree == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / 1999))


def test_successive_draws_differ_and_a_seed_repeats_them(mixture):
    generator = make_generator(1)
    first, second = mixture.sample(10, generator), mixture.sample(10, generator)
    assert not torch.isclose(first, second).any()
    assert torch.equal(mixture.sample(10, make_generator(1)), first)


def test_fit_does_not_depend_on_the_scale_of_the_codes(codes):
    small = GaussianMixture().fit(codes * 1e-4 + 7)
    large = GaussianMixture().fit(codes * 1e4)
    np.testing.assert_allclose((small.means - 7) * 1e4, large.means * 1e-4, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(small.cholesky * 1e4, large.cholesky * 1e-4, rtol=1e-5, atol=1e-6)


def test_constant_dimension_stays_constant(codes):
    z = torch.cat([codes, torch.full((len(codes), 1), 0.1)], dim=1)
    mixture = GaussianMixture().fit(z)
    sampled = mixture.sample(100, make_generator(0))
    np.testing.assert_allclose(sampled[:, 2], 0.1, rtol=1e-6)
    assert (sampled[:, :2].std(dim=0) > 1).all()
    # The log-density is that of the varying dimensions.
    np.testing.assert_allclose(mixture.log_prob(z), GaussianMixture().fit(codes).log_prob(codes), rtol=1e-2)


def test_samples_of_identical_codes_equal_them():
    z = torch.tensor([[1.0, -2.0, 3.0]]).repeat(50, 1)
    mixture = GaussianMixture().fit(z)
    torch.testing.assert_close(mixture.sample(5, make_generator(0)).float(), z[:5])
    assert mixture.log_prob(z).tolist() == [0.0] * 50


def test_samples_of_two_repeated_codes_are_close_to_them():
    z = torch.tensor([[0.0, 0.0], [1.0, 3.0]]).repeat(50, 1)
    sampled = GaussianMixture().fit(z).sample(200, make_generator(0)).float()
    distances = torch.cdist(sampled, z[:2])
    assert (distances.amin(dim=1) < 0.5).all()
    assert set(distances.argmin(dim=1).tolist()) == {0, 1}


def test_samples_of_two_codes_lie_on_the_line_between_them():
    z = torch.tensor([[0.0, 0.0, 5.0], [2.0, 4.0, 5.0]])
    sampled = GaussianMixture().fit(z).sample(5000, make_generator(0)).float()
    np.testing.assert_allclose(sampled.mean(dim=0), [1, 2, 5], atol=0.2)
    np.testing.assert_allclose(np.corrcoef(sampled[:, :2].T)[0, 1], 1, atol=2e-3)
    np.testing.assert_allclose(sampled.std(dim=0), [1, 2, 0], rtol=0.05, atol=1e-6)


def test_fit_to_fewer_codes_than_dimensions():
    z = torch.randn(5, 30, generator=make_generator("few"))
    sampled = GaussianMixture().fit(z).sample(1000, make_generator(0))
    np.testing.assert_allclose(sampled.mean(dim=0), z.mean(dim=0), atol=0.25)


def test_codes_may_require_gradients(codes, mixture):
    assert torch.equal(GaussianMixture().fit(codes.clone().requires_grad_()).means, mixture.means)


def test_loaded_mixture_is_the_same_density(codes, mixture):
    loaded = GaussianMixture().load_state_dict(mixture.state_dict())
    assert loaded.n_components == 3
    assert torch.equal(loaded.sample(20, make_generator(0)), mixture.sample(20, make_generator(0)))
    assert torch.equal(loaded.log_prob(codes), mixture.log_prob(codes))


def test_criterion_that_is_nan_is_an_error(codes, monkeypatch):
    monkeypatch.setattr(SklearnMixture, "bic", lambda self, z: float("nan"))
    with pytest.raises(FloatingPointError, match="likelihood is not a number"):
        GaussianMixture().fit(codes)


def test_infinite_codes_are_an_error(codes):
    with pytest.raises(FloatingPointError, match="not finite numbers: training diverged"):
        fit_mixture(codes.where(codes < codes.max(), torch.nan).numpy(), 2, "diag", 1e-3, 0)


def test_search_skips_mixtures_that_cannot_be_fitted(codes, monkeypatch):
    fit = SklearnMixture.fit

    def failing(self, z):
        if self.n_components > 2:
            raise ValueError("ill-defined empirical covariance")
        return fit(self, z)

    monkeypatch.setattr(SklearnMixture, "fit", failing)
    assert GaussianMixture().fit(codes).n_components == 2
    with pytest.raises(FloatingPointError, match="No mixture could be fitted"):
        GaussianMixture(3, min_components=3).fit(codes)


def test_unfitted_mixture_has_no_components():
    assert GaussianMixture().n_components == 0


def test_search_doubles_the_number_of_components_above_10():
    assert component_numbers(1, 12) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert component_numbers(1, 100)[9:] == [10, 20, 40, 80, 100]
    assert component_numbers(10, 10) == [10]
    assert component_numbers(1, 1) == [1]


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_large_data_are_searched_on_a_subset_and_the_best_mixture_is_refined_on_all(codes, mixture, monkeypatch):
    sizes = []

    def fit(z, n_components, *arguments, start=None):
        sizes.append((len(z), n_components, start is not None))
        return original(z, n_components, *arguments, start=start)

    original = densities.fit_mixture
    monkeypatch.setattr(densities, "fit_mixture", fit)
    monkeypatch.setattr(densities, "SEARCHED_ON", 500)
    refined = GaussianMixture(6).fit(codes)
    assert [size for size, *_ in sizes[:-1]] == [500] * (len(sizes) - 1)
    assert sizes[-1] == (3000, 3, True)
    # A search on all codes ends with the same mixture.
    assert refined.log_prob(codes).mean().item() == pytest.approx(mixture.log_prob(codes).mean().item(), abs=1e-3)


def test_equal_minimum_and_maximum_fix_the_number_of_components(codes):
    assert GaussianMixture(7, min_components=7).fit(codes).n_components == 7
    assert GaussianMixture(7, min_components=7).fit(codes[:60]).n_components == 3


def test_density_of_a_mixture_of_given_components_matches_torch():
    variances = FACTORS.diagonal(dim1=1, dim2=2).square()
    given = GaussianMixture.of(WEIGHTS, MEANS, variances)
    z = planted_codes(20)
    components = MixtureSameFamily(Categorical(WEIGHTS), Independent(Normal(MEANS, variances.sqrt()), 1))
    torch.testing.assert_close(given.log_prob(z), components.log_prob(z))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_standard_normal_matches_torch_and_survives_loading():
    density = StandardNormal().fit(torch.ones(4, 3))
    z = density.sample(40000, make_generator("standard"))
    assert (z.shape, z.dtype, density.n_components) == ((40000, 3), torch.float64, 1)
    np.testing.assert_allclose(z.mean(dim=0), 0, atol=0.025)
    np.testing.assert_allclose(z.T.cov(), np.eye(3), atol=0.04)
    torch.testing.assert_close(density.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))
    loaded = StandardNormal().load_state_dict(density.state_dict())
    assert torch.equal(loaded.sample(5, make_generator(0)), density.sample(5, make_generator(0)))


@pytest.fixture
def ancestral():
    density = AncestralMixture(3, 1, make_generator("ancestral"))
    torch.nn.init.normal_(density.network[-1].weight, std=0.1, generator=make_generator("last"))
    torch.nn.init.normal_(density.network[-1].bias, std=0.5, generator=make_generator("bias"))
    return density.requires_grad_(False)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_ancestral_density_matches_its_samples(ancestral):
    z = ancestral.sample(100_000, make_generator("sample"))
    assert (z.shape, z.dtype) == ((100_000, 1), torch.float64)
    grid = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    density = ancestral.log_prob(grid[:, None]).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=5e-3)
    for low, high in ((-1.0, 0.0), (0.0, 1.0), (1.0, 3.0)):
        inside = (grid >= low) & (grid <= high)
        expected = torch.trapezoid(density[inside], grid[inside]).item()
        # The density is itself an estimate from a thousand draws.
        assert ((z >= low) & (z <= high)).double().mean().item() == pytest.approx(expected, abs=0.03)


def test_loaded_ancestral_density_is_the_same_and_not_trainable(ancestral):
    loaded = AncestralMixture().load_state_dict(ancestral.state_dict())
    assert (loaded.n_components, loaded.latent_dim) == (3, 1)
    assert torch.equal(loaded.sample(9, make_generator(0)), ancestral.sample(9, make_generator(0)))
    assert loaded.fit(torch.zeros(4, 1)) is loaded
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
