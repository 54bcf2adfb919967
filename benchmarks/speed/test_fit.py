r"""Fitting, beside a loop in plain PyTorch and beside pythae."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.devices import multiplies_bfloat16_fast, resolve_device
from gae_augment._utils.seeding import make_generator
from gae_augment.cli.memory import keep_freed_memory
from gae_augment.fitting import fit_model
from gae_augment.fitting.plan import BATCH, STEPS
from gae_augment.models.networks import HIDDEN

from .references import BareFit, bare_objective, fit_pythae

DEVICE = resolve_device("auto")

PRECISION = torch.bfloat16 if multiplies_bfloat16_fast(DEVICE) else torch.float32
"""What ``precision="auto"`` comes to for fully connected networks."""

PAPER = {"architecture": "paper", "batch_size": 100, "latent_dim": 10, "learning_rate": 1e-3, "lr_schedule": "constant"}


def noise(n: int) -> torch.Tensor:
    # A fit of so many epochs takes the same time whatever it sees.
    return torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=make_generator(0))


def paper_settings(model: str, epochs: int, components: int) -> GenerativeModel:
    bounded = {"delta": 1e-9} if model == "gae" else {}
    return GenerativeModel(
        definition=model,
        epochs=epochs,
        n_components=(components, components),
        synthesis="decoded",
        n_threads=torch.get_num_threads(),
        **PAPER,
        **bounded,
    )


def compare_with_bare_loop(compare, model, n, epochs, **options):
    images = noise(n)
    compare(
        lambda: fit_model(images, paper_settings(model, epochs, 1), seed=0),
        lambda: BareFit(model, HIDDEN["paper"], epochs, precision=PRECISION)(images.to(DEVICE)),
        beside="a bare loop at the same precision, and the codes",
        aim=1.05,
        **options,
    )


@pytest.mark.parametrize("model", bare_objective)
def test_epoch_by_the_paper(compare, model):
    what = f"an epoch of `{model}` by the paper's protocol, 20 000 images"
    compare_with_bare_loop(compare, model, 20_000, 1, what=what)


@pytest.mark.slow
@pytest.mark.parametrize("model", bare_objective)
def test_fit_by_the_paper(compare, model):
    what = f"the paper's fit of `{model}`, 60 000 images, 30 epochs"
    compare_with_bare_loop(compare, model, 60_000, 30, what=what, rounds=1, warmup=False)


def compare_with_pythae(compare, n, epochs, **options):
    pytest.importorskip("pythae", reason="pip install '.[benchmarks]'")
    images = noise(n)
    compare(
        lambda: fit_model(images, paper_settings("gae", epochs, 10), seed=0),
        lambda: fit_pythae(images, HIDDEN["paper"], epochs, 10),
        beside="pythae's `AE` and `GaussianMixtureSampler`, same network and batch, float32",
        **options,
    )


def test_epoch_beside_pythae(compare):
    what = "an epoch of `gae` by the paper's protocol and a mixture of ten, 20 000 images"
    compare_with_pythae(compare, 20_000, 1, what=what, rounds=3)


@pytest.mark.slow
def test_fit_beside_pythae(compare):
    what = "the paper's fit of `gae` and a mixture of ten, 60 000 images, 30 epochs"
    compare_with_pythae(compare, 60_000, 30, what=what, aim=0.28, rounds=1, warmup=False)


@pytest.mark.parametrize("n_jobs", [None, -1])
def test_fit_of_40_classes(compare, n_jobs):
    classes, each, epochs = 40, 100, 20
    images = noise(classes * each + each + 1)
    labels = torch.arange(classes).repeat_interleave(each)
    # Of a larger class, so that the others are scarce.
    labels = torch.cat([labels, torch.full((each + 1,), classes)])

    def ours():
        model = GenerativeModel(epochs=epochs, delta=1e-9)
        GAEAugmenter(model, progress=False, random_state=0, n_jobs=n_jobs).fit(images, labels)

    def bare():
        fit = BareFit("gae", HIDDEN["fc"], epochs, BATCH, precision=PRECISION)
        for own in images[: classes * each].split(each):
            fit(own.to(DEVICE))

    with pytest.warns(UserWarning, match="did not fall below"):
        compare(
            ours,
            bare,
            what=f"{classes} classes of {each} images, {epochs} epochs each, `n_jobs={n_jobs}`",
            beside="a bare loop at the same precision and the codes, one class after another",
            aim=0.35,
            rounds=3,
        )


@pytest.mark.slow
def test_fit_of_40_classes_until_the_boundary(compare):
    each = 100
    data = load_digits()
    # Four draws of each digit, which overlap.
    chosen = [
        torch.from_numpy(data.target == digit)
        .nonzero()
        .flatten()[torch.randperm(int((data.target == digit).sum()), generator=make_generator(digit, draw))[:each]]
        for digit in range(10)
        for draw in range(4)
    ]
    scarce = torch.from_numpy(data.images).float()[torch.cat(chosen), None] / 16
    scarce = (functional.interpolate(scarce, size=(28, 28), mode="bilinear") * 255).round().byte()
    labels = torch.arange(len(chosen)).repeat_interleave(each)
    images = torch.cat([scarce, noise(each + 1)])
    labels = torch.cat([labels, torch.full((each + 1,), len(chosen))])
    epochs = STEPS // math.ceil(each / BATCH)

    def bare():
        for own in scarce.split(each):
            BareFit("gae", HIDDEN["fc"], epochs, BATCH, precision=PRECISION)(own.to(DEVICE))

    compare(
        lambda: GAEAugmenter(progress=False, random_state=0).fit(images, labels),
        bare,
        what=f"{len(chosen)} classes of {each} digits, until three tenths of the mean image's error are left",
        beside=f"a bare loop of {STEPS} steps, which `epochs='auto'` provides for, one class after another",
        aim=0.35,
        rounds=1,
        warmup=False,
    )


def test_fit_that_keeps_its_memory(compare):
    images = torch.randint(0, 256, (601, 3, 64, 64), dtype=torch.uint8, generator=make_generator(0))
    labels = (torch.arange(len(images)) // 200).clamp(max=2)

    def fit():
        GAEAugmenter(GenerativeModel(epochs=5, delta=1e-9), progress=False, random_state=0).fit(images, labels)

    def fit_with_freed_memory_kept():
        with keep_freed_memory():
            fit()

    with pytest.warns(UserWarning, match="did not fall below"):
        compare(
            fit_with_freed_memory_kept,
            fit,
            what="two classes of 200 colour images of 64x64, five epochs each, with freed memory kept, as on the "
            "command line",
            beside="the same fit as in Python, where glibc returns large blocks to the system at every step",
            rounds=5,
        )


@pytest.mark.parametrize("codes", [100, 6000])
def test_mixture(compare, codes):
    from gae_augment.models import GaussianMixture as Ours

    generator = make_generator(0)
    z = torch.randn(codes, 10, generator=generator) + 3 * torch.randn(10, 10, generator=generator).repeat(
        codes // 10, 1
    )
    compare(
        lambda: Ours(10, min_components=10).fit(z),
        lambda: GaussianMixture(10, random_state=0).fit(z.numpy()),
        what=f"a mixture of ten Gaussians, fitted to {codes} codes",
        beside="scikit-learn's `GaussianMixture`",
    )
