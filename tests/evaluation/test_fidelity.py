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


def test_names_carry_the_extractor():
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


def test_fid_of_two_gaussians():
    generator = make_generator("gaussians")
    deviations = torch.tensor([[0.03, 0.05, 0.02, 0.04], [0.06, 0.03, 0.05, 0.04]]).double()
    means = torch.tensor([[0.5, 0.4, 0.5, 0.5], [0.5, 0.5, 0.45, 0.6]]).double()
    real, synthetic = (
        (mean + deviation * torch.randn(1000, 4, generator=generator, dtype=torch.float64)).view(-1, 1, 2, 2)
        for mean, deviation in zip(means, deviations, strict=True)
    )
    truth = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert figures(real, synthetic)["FID"] == pytest.approx(truth.item(), rel=0.05)


def test_fid_is_the_closed_form_of_the_sample_moments():
    real, synthetic = uniform(300, "a", size=3), uniform(200, "b", size=3).square()
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()
    cross = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    closed = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * cross)
    assert figures(real, synthetic)["FID"] == pytest.approx(closed, rel=1e-6)


def test_kid_is_the_unbiased_estimate_with_a_cubic_kernel():
    real, synthetic = uniform(30, "a"), uniform(30, "b").square()
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    within = sum(kernel(p[i], p[j]) for p in (a, b) for i in range(30) for j in range(30) if i != j) / (30 * 29)
    across = sum(kernel(x, y) for x in a for y in b) / 30**2
    found = figures(real, synthetic)
    assert found["KID"] == pytest.approx(within - 2 * across, rel=1e-8)
    assert found["KID standard deviation"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_neighbourhoods_match_a_brute_force(neighbours):
    real, synthetic = uniform(60, "a"), uniform(45, "b", low=0.3)
    a, b = real.flatten(1).double().numpy(), synthetic.flatten(1).double().numpy()
    across, radius_a, radius_b = distances(a, b), radii(a, neighbours), radii(b, neighbours)
    density = coverage = 0
    for i in range(60):
        held = [across[i, j] < radius_a[i] for j in range(45)]
        density += sum(held) / (neighbours * 45)
        coverage += any(held) / 60
    found = figures(real, synthetic, neighbours=neighbours)
    assert found["density"] == pytest.approx(density)
    assert found["coverage"] == pytest.approx(coverage)
    precision = np.mean([any(across[i, j] <= radius_a[i] for i in range(60)) for j in range(45)])
    recall = np.mean([any(across[i, j] <= radius_b[j] for j in range(45)) for i in range(60)])
    assert found["precision"] == pytest.approx(precision, abs=1e-6)
    assert found["recall"] == pytest.approx(recall, abs=1e-6)
    assert 0 < found["recall"] < 1


def test_density_and_coverage_do_not_depend_on_the_parts(monkeypatch):
    real, synthetic = uniform(50, "a"), uniform(50, "b")
    whole = figures(real, synthetic)
    # The package's attribute of this name is the function, not the module.
    monkeypatch.setattr(sys.modules[fidelity.__module__], "AT_ONCE", 7)
    assert figures(real, synthetic) == pytest.approx(whole, abs=1e-9)


def test_images_are_faithful_to_themselves():
    images = uniform(100, "a", size=3)
    found = figures(images, images)
    assert 0 <= found["FID"] < 1e-7
    assert found["KID"] < 0
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_fewer_images_than_features():
    found = figures(uniform(6, "a", size=8), uniform(7, "b", size=8))
    assert all(np.isfinite(value) for value in found.values())
    assert figures(uniform(6, "a", size=8), uniform(6, "a", size=8))["FID"] < 1e-6


def test_two_far_sides_share_nothing():
    found = figures(uniform(50, "a", high=0.1), uniform(50, "b", low=0.9))
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    assert found["FID"] > 2


def test_deterministic_in_the_seed_and_no_global_state_moves(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    real, synthetic = uniform(60, "a"), uniform(40, "b")

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before, threads = states(), torch.get_num_threads()
    first, again, other = (figures(real, synthetic, seed=seed) for seed in (1, 1, 2))
    assert states() == before
    assert torch.get_num_threads() == threads
    assert first == again
    assert first["KID"] != other["KID"]
    assert first["FID"] == other["FID"]
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_types_may_differ():
    levels = uniform(30, "a").mul(255).round().to(torch.uint8)

    class Unit(Pixels):
        def __call__(self, images):
            return images.float().flatten(1) / (255 if images.dtype == torch.uint8 else 1)

    named = fidelity(levels, levels.float() / 255, extractor=Unit())
    assert named["FID (pixels)"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("real", "synthetic", "options", "message"),
    [
        (uniform(5, 1), uniform(9, 2), {}, "'real' holds at least 6 images"),
        (uniform(9, 1), uniform(5, 2), {}, "'synthetic' holds at least 6 images"),
        (uniform(1, 1), uniform(9, 2), {"neighbours": 1}, "'real' holds at least 2 images"),
        (uniform(9, 1), uniform(9, 2), {"neighbours": 0}, "'neighbours' is at least 1"),
        (uniform(9, 1), uniform(9, 2, size=3), {}, "one shape"),
        (uniform(9, 1) * 2, uniform(9, 2), {}, r"lie in \[0"),
    ],
)
def test_bad_input_is_refused(real, synthetic, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity(real, synthetic, extractor=Pixels(), **options)


def test_bad_extractor_is_named():
    class Broken(Pixels):
        def __call__(self, images):
            return super().__call__(images) / 0

    with pytest.raises(ValueError, match="'pixels' returned"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=Broken())


def test_what_is_no_extractor_is_refused():
    with pytest.raises(TypeError, match="has a 'name' that its figures carry, and it is a function without one"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=lambda images: images.flatten(1))

    class Array(Pixels):
        def __call__(self, images):
            return super().__call__(images).numpy()

    with pytest.raises(TypeError, match=r"'pixels' returned a ndarray\. Make it one"):
        fidelity(uniform(9, 1), uniform(9, 2), extractor=Array())
