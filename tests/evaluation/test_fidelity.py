import random
import sys

import numpy as np
import pytest
import torch
from scipy import linalg

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import fidelity


class Pixels:
    name = "pixels"

    def __call__(self, images):
        return images.flatten(start_dim=1)


def uniform(n, *parts, size=2, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(n, 1, size, size, generator=make_generator("fidelity", *parts))


def figures(real, synthetic, **options):
    named = fidelity(real, synthetic, extractor=Pixels(), **options)
    assert all(name.endswith(" (pixels)") for name in named)
    return {name.removesuffix(" (pixels)"): value for name, value in named.items()}


def distances(a, b):
    return np.array([[np.linalg.norm(x - y) for y in b] for x in a])


def radii(points, neighbours):
    return np.sort(distances(points, points), axis=1)[:, neighbours]


def test_figures_carry_the_name_of_the_extractor():
    images = uniform(20, "names")
    assert list(fidelity(images, images, extractor=Pixels())) == [
        "FID (pixels)",
        "KID (pixels)",
        "KID standard deviation (pixels)",
        "precision (pixels)",
        "recall (pixels)",
        "density (pixels)",
        "coverage (pixels)",
    ]


def test_fid_of_two_gaussians_matches_the_closed_form():
    generator = make_generator("gaussians")
    deviations = torch.tensor([[0.03, 0.05, 0.02, 0.04], [0.06, 0.03, 0.05, 0.04]]).double()
    means = torch.tensor([[0.5, 0.4, 0.5, 0.5], [0.5, 0.5, 0.45, 0.6]]).double()
    real, synthetic = (
        (mean + deviation * torch.randn(1000, 4, generator=generator, dtype=torch.float64)).view(-1, 1, 2, 2)
        for mean, deviation in zip(means, deviations, strict=True)
    )
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert figures(real, synthetic)["FID"] == pytest.approx(expected.item(), rel=0.05)


def test_fid_matches_the_closed_form_of_the_sample_moments():
    real, synthetic = uniform(300, "a", size=3), uniform(200, "b", size=3).square()
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()
    cross = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * cross)
    assert figures(real, synthetic)["FID"] == pytest.approx(expected, rel=1e-6)


def test_kid_matches_the_unbiased_estimate_with_a_cubic_kernel():
    real, synthetic = uniform(30, "a"), uniform(30, "b").square()
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    within = sum(kernel(p[i], p[j]) for p in (a, b) for i in range(30) for j in range(30) if i != j) / (30 * 29)
    across = sum(kernel(x, y) for x in a for y in b) / 30**2
    result = figures(real, synthetic)
    assert result["KID"] == pytest.approx(within - 2 * across, rel=1e-8)
    assert result["KID standard deviation"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_neighbourhood_figures_match_brute_force(neighbours):
    real, synthetic = uniform(60, "a"), uniform(45, "b", low=0.3)
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()
    across, radius_a, radius_b = distances(a, b), radii(a, neighbours), radii(b, neighbours)
    density = coverage = 0
    for i in range(60):
        is_inside = [across[i, j] < radius_a[i] for j in range(45)]
        density += sum(is_inside) / (neighbours * 45)
        coverage += any(is_inside) / 60
    result = figures(real, synthetic, neighbours=neighbours)
    assert result["density"] == pytest.approx(density)
    assert result["coverage"] == pytest.approx(coverage)
    precision = np.mean([any(across[i, j] <= radius_a[i] for i in range(60)) for j in range(45)])
    recall = np.mean([any(across[i, j] <= radius_b[j] for j in range(45)) for i in range(60)])
    assert result["precision"] == pytest.approx(precision, abs=1e-6)
    assert result["recall"] == pytest.approx(recall, abs=1e-6)
    assert 0 < result["recall"] < 1


def test_figures_do_not_depend_on_the_chunk_size(monkeypatch):
    real, synthetic = uniform(50, "a"), uniform(50, "b")
    expected = figures(real, synthetic)
    # The package's attribute of this name is the function, not the module.
    monkeypatch.setattr(sys.modules[fidelity.__module__], "CHUNK_SIZE", 7)
    assert figures(real, synthetic) == pytest.approx(expected, abs=1e-9)


def test_identical_images_have_perfect_fidelity():
    images = uniform(100, "a", size=3)
    result = figures(images, images)
    assert 0 <= result["FID"] < 1e-7
    assert result["KID"] < 0
    assert result["precision"] == result["recall"] == result["coverage"] == 1


def test_figures_are_finite_with_fewer_images_than_features():
    result = figures(uniform(6, "a", size=8), uniform(7, "b", size=8))
    assert all(np.isfinite(value) for value in result.values())
    assert figures(uniform(6, "a", size=8), uniform(6, "a", size=8))["FID"] < 1e-6


def test_disjoint_distributions_have_zero_precision_and_recall():
    result = figures(uniform(50, "a", high=0.1), uniform(50, "b", low=0.9))
    assert [result[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    assert result["FID"] > 2


def test_seed_fixes_the_figures_without_global_state(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    real, synthetic = uniform(60, "a"), uniform(40, "b")

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before, threads = states(), torch.get_num_threads()
    first, repeated, different = (figures(real, synthetic, seed=seed) for seed in (1, 1, 2))
    assert states() == before
    assert torch.get_num_threads() == threads
    assert first == repeated
    assert first["KID"] != different["KID"]
    assert first["FID"] == different["FID"]
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_real_and_synthetic_types_may_differ():
    levels = uniform(30, "a").mul(255).round().to(torch.uint8)

    class Unit(Pixels):
        def __call__(self, images):
            return images.float().flatten(1) / (255 if images.dtype == torch.uint8 else 1)

    named = fidelity(levels, levels.float() / 255, extractor=Unit())
    assert named["FID (pixels)"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("real", "synthetic", "options", "message"),
    [
        (uniform(5, 1), uniform(9, 2), {}, "'real' holds 5 images, but needs at least 6"),
        (uniform(9, 1), uniform(5, 2), {}, "'synthetic' holds 5 images, but needs at least 6"),
        (uniform(1, 1), uniform(9, 2), {"neighbours": 1}, "'real' holds 1 images, but needs at least 2"),
        (uniform(9, 1), uniform(9, 2), {"neighbours": 0}, "'neighbours' is 0, but must be at least 1"),
        (uniform(9, 1), uniform(9, 2, size=3), {}, r"have shape \(1, 3, 3\), but must have shape \(1, 2, 2\)"),
        (uniform(9, 1) * 2, uniform(9, 2), {}, r"those of 'real' lie in \[0"),
    ],
)
def test_invalid_input_raises(real, synthetic, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity(real, synthetic, extractor=Pixels(), **options)


def test_extractor_with_infinite_features_raises():
    class Broken(Pixels):
        def __call__(self, images):
            return super().__call__(images) / 0

    with pytest.raises(ValueError, match="'pixels' returned"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=Broken())


def test_extractor_with_one_feature_raises():
    class Mean(Pixels):
        def __call__(self, images):
            return super().__call__(images).mean(dim=1, keepdim=True)

    with pytest.raises(ValueError, match="'pixels' returned one feature per image, but the distances need at least 2"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=Mean())


def test_invalid_extractor_raises():
    with pytest.raises(TypeError, match="is a function, but must be a callable with a 'name' of type str"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=lambda images: images.flatten(1))

    class Array(Pixels):
        def __call__(self, images):
            return super().__call__(images).numpy()

    with pytest.raises(TypeError, match=r"'pixels' returned a ndarray, but must return a tensor"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=Array())
