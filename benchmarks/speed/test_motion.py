r"""What learned motions take: fits at the working size, fields, moved images, epochs, and a whole folder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.devices import multiplies_bfloat16_fast
from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import use_threads
from gae_augment.fitting import fit_model
from gae_augment.motion import Motion, MotionBank, learn_motions

PHOTOS = Path(os.environ.get("GAE_DATA_ROOT", "data")) / "photos"
TILES = PHOTOS / "tiles" / "train"

ROUNDS = 3


def photographs(n, side):
    r"""Random smooth colour images with an edge, uint8."""
    generator = make_generator(0, "photographs")
    coarse = torch.rand(n, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    disc = torch.linspace(-1, 1, side).square()[:, None] + torch.linspace(-1, 1, side).square()
    radius = 0.3 + 0.5 * torch.rand(n, 1, 1, 1, generator=generator)
    return ((disc < radius) * images * 255).round().byte()


@pytest.fixture(scope="module")
def fitted():
    return fit_model(photographs(60, 64), GenerativeModel(epochs=5), seed=0, device="cpu")


@pytest.fixture(scope="module")
def bank(fitted):
    return MotionBank({0: learn_motions(fitted, 100, seed=0)})


@pytest.fixture
def compare_bound(benchmark, record):
    r"""What measures the figure of a function in rounds, and records it beside a bound."""

    def run(measured, bound, *, unit, what):
        figures = []
        benchmark.pedantic(lambda: figures.append(measured()), rounds=ROUNDS, iterations=1)
        comparison = record(figures, [bound] * len(figures), unit=unit, what=what, beside=f"{bound:g} {unit}", aim=1.0)
        benchmark.extra_info |= {unit: comparison.ours}

    return run


@pytest.mark.benchmark(group="motions: fits at the working size")
@pytest.mark.parametrize(
    ("kind", "images", "bound"),
    [("leaves with black rot", 100, 5.0), ("random colours", 100, 5.0), ("random colours", 500, 20.0)],
)
def test_fit_at_working_size(compare_bound, kind, images, bound):
    r"""Random colours cannot be learned, so their fits take all steps. Of real classes, black rot takes the longest."""
    data = photographs(images, 64)
    if kind != "random colours":
        folder = PHOTOS / "leaves" / "train" / "Black_rot"
        if not folder.is_dir():
            pytest.skip("no photographs in GAE_DATA_ROOT")
        pictures = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())[:images]]
        data = torch.stack(
            [functional.resize(functional.pil_to_tensor(picture), [64, 64], antialias=True) for picture in pictures]
        )

    def measured():
        start = time.process_time()
        with use_threads(1):
            fit_model(data, GenerativeModel(synthesis="deformed"), seed=0, device="cpu")
        return time.process_time() - start

    compare_bound(measured, bound, unit="CPU s", what=f"fit of a class of {images} images of 64x64x3, {kind}")


@pytest.mark.benchmark(group="motions: fits at the working size")
@pytest.mark.parametrize("images", [20, *(pytest.param(number, marks=pytest.mark.slow) for number in (100, 500))])
def test_fit_beside_its_arithmetic(compare, images):
    r"""The limit of a fit is its arithmetic at the rate of matrix products in the same precision."""
    data = photographs(images, 64)
    dtype = torch.bfloat16 if multiplies_bfloat16_fast(torch.device("cpu")) else torch.float32
    matrix = torch.randn(1024, 1024, generator=make_generator(0)).to(dtype)

    def ours():
        with use_threads(1):
            fit_model(data, GenerativeModel(synthesis="deformed"), seed=0, device="cpu")

    with FlopCounterMode(display=False) as counter:
        ours()
    products = round(counter.get_total_flops() / (2 * 1024**3))

    def arithmetic():
        with use_threads(1):
            for _ in range(products):
                matrix @ matrix

    what = f"fit of a class of {images} images of 64x64x3, {counter.get_total_flops() / 1e9:.0f} GFLOP, one thread"
    compare(ours, arithmetic, what=what, beside=f"as much arithmetic in products of matrices, {dtype}", rounds=ROUNDS)


@pytest.mark.benchmark(group="motions: fields")
def test_thousand_fields(compare_bound, fitted):
    def measured():
        start = time.process_time()
        learn_motions(fitted, 1000, seed=0)
        return time.process_time() - start

    compare_bound(measured, 10.0, unit="CPU s", what="1000 velocity fields, decoded and registered")


@pytest.mark.benchmark(group="motions: moving images")
@pytest.mark.parametrize("kind", ["PIL image", "tensor"])
def test_move_one_image(compare_bound, bank, kind):
    transform = Motion(bank, p=1.0)
    image = photographs(1, 224)[0]
    image = Image.fromarray(image.permute(1, 2, 0).numpy()) if kind == "PIL image" else image

    def measured():
        with use_threads(1):
            start = time.process_time()
            for _ in range(100):
                transform(image)
            return (time.process_time() - start) * 10

    compare_bound(measured, 3.0, unit="CPU ms", what=f"moving a {kind} of 224x224x3, its motion included")


@pytest.mark.benchmark(group="motions: moving images")
def test_move_batch_on_gpu(compare_bound, bank):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    transform = Motion(bank, p=1.0, per_image=True)
    batch = photographs(256, 224).cuda().float()

    def measured():
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            transform(batch)
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 100

    compare_bound(measured, 2.0, unit="ms", what="moving a batch of 256 images of 224x224x3 on a GPU")


@pytest.mark.benchmark(group="motions: epochs")
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "read alone"])
def test_epoch_of_photographs(compare, tmp_path, trained):
    r"""An epoch of a folder of JPEG files with random crops, half of whose images are deformed."""
    random = np.random.default_rng(0)
    for label, count in (("a", 300), ("b", 60)):
        (tmp_path / label).mkdir()
        for number, image in enumerate(photographs(count, 224)):
            noisy = image.permute(1, 2, 0).numpy() // 2 + random.integers(0, 128, (224, 224, 3), dtype=np.uint8)
            Image.fromarray(noisy).save(tmp_path / label / f"{number}.jpg", quality=90)
    transform = v2.Compose(
        [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    plain = ImageFolder(str(tmp_path), transform=transform)
    model = GenerativeModel(synthesis="deformed", epochs=1, delta=10.0)
    augmented = GAEAugmenter(model, random_state=0, progress=False).fit(plain).augment(plain)
    rows = np.concatenate([np.arange(240), np.flatnonzero(augmented.is_synthetic)[:240]])
    network = mobilenet_v3_small(num_classes=2)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def epoch(dataset):
        for images, labels in DataLoader(dataset, batch_size=32, num_workers=2):
            if trained:
                loss = torch.nn.functional.cross_entropy(network(images), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    compare(
        lambda: epoch(torch.utils.data.Subset(augmented, rows.tolist())),
        lambda: epoch(torch.utils.data.Subset(plain, (rows % len(plain)).tolist())),
        what="epoch of 480 photographs of 224 pixels, half of them deformed, 2 workers, "
        + ("MobileNet V3 (small) trained" if trained else "read alone"),
        beside="the same number of real ones",
        aim=1.1,
        rounds=ROUNDS,
    )


@pytest.mark.slow
@pytest.mark.benchmark(group="motions: a folder of photographs")
def test_balance_tiles(benchmark, record, tmp_path):
    if not TILES.is_dir():
        pytest.skip("no photographs in GAE_DATA_ROOT")
    seconds, megabytes = [], []

    def measured():
        output = tmp_path / f"out{len(seconds)}"
        program = Path(sys.executable).with_name("gae-augment")
        command = [str(program), "balance", str(TILES), "--output", str(output)]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            # The usage of all children would hold those of other benchmarks.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(time.perf_counter() - start)
        megabytes.append(usage.ru_maxrss / 1000)

    benchmark.pedantic(measured, rounds=2, iterations=1)
    what = "`gae-augment balance` of 722 photographs of tiles, five scarce classes"
    record(seconds, [90.0] * len(seconds), unit="s", what=f"{what}, time", beside="90 s", aim=1.0)
    record(megabytes, [1500.0] * len(megabytes), unit="MB", what=f"{what}, memory", beside="1500 MB", aim=1.0)
