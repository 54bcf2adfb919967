r"""One seed gives the same images, to the last bit, however the work is done on one machine."""

import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gae_augment import AugmentedDataset, GAEAugmenter, MixedSampler
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment._utils.threads import use_threads
from gae_augment.data.long_tail import choose_images, profile_counts

SEED = 5


def digest(*arrays):
    together = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        together.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return together.hexdigest()


def training_set():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(torch.tensor([150, 60, 45]))
    # A ramp in another direction for each class, and noise.
    ramps = torch.stack(
        [torch.arange(64).view(8, 8), torch.arange(64).view(8, 8).T, torch.arange(64).view(8, 8).flip(1)]
    )
    images = ramps[labels] * 3 + torch.randint(0, 60, (len(labels), 8, 8), generator=generator)
    return TensorDataset(images[:, None].to(torch.uint8), labels)


def augmenter(**settings):
    return GAEAugmenter(
        **{"epochs": 3, "delta": 1e6, "components": 2, "random_state": SEED, "progress": False, "n_jobs": 1} | settings
    )


def images_of(fitted):
    data = training_set()
    augmented = AugmentedDataset(data, fitted)
    return digest(*(augmented[place][0].numpy() for place in range(len(data), len(augmented))))


def fit_and_digest(settings=None):
    return images_of(augmenter(**(settings or {})).fit(training_set()))


def rank_digest(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, group_name="repeat"
    )
    found = fit_and_digest()
    (Path(folder) / f"{rank}").write_text(found)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def fitted():
    return augmenter().fit(training_set())


@pytest.fixture(scope="module")
def expected(fitted):
    return images_of(fitted)


def test_digest_sees_the_last_bit():
    images = np.ones(3, dtype=np.float32)
    assert digest(images) != digest(np.nextafter(images, 2, dtype=np.float32))
    assert digest(images) != digest(images.astype(">f4"))
    assert fit_and_digest({"random_state": SEED + 1}) != fit_and_digest({"random_state": SEED})


def test_a_second_time(expected):
    # Whatever was drawn from global generators in between.
    torch.rand(3)
    assert fit_and_digest() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_of_pytorch(expected, threads):
    with use_threads(threads):
        assert fit_and_digest() == expected


@pytest.mark.parametrize(("n_jobs", "backend"), [(2, "loky"), (3, "loky"), (-1, "loky"), (2, "threading")])
def test_jobs(expected, n_jobs, backend):
    with joblib.parallel_config(backend=backend):
        assert fit_and_digest({"n_jobs": n_jobs}) == expected


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_methods(expected, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(fit_and_digest).get(timeout=200) == expected


def large_set():
    images = torch.rand(2000, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, (torch.arange(2000) > 1900).long())


def in_a_new_process(code, folder, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout.splitlines()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_process_that_was_forked(tmp_path):
    # Where PyTorch had several threads before, it waits for them in the forked process, as soon as it has enough to do.
    code = """if True:
        import multiprocessing
        import torch
        import test_repeatability as here

        def work():
            made = here.augmenter().fit_resample(*data.tensors)
            return here.digest(*(part.numpy() for part in made))

        data = here.large_set()
        torch.ones(1_000_000).exp()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.apply_async(work).get(timeout=100))
        print(work())
    """
    forked, here = in_a_new_process(code, tmp_path, OMP_NUM_THREADS="2")
    assert forked == here


def test_a_process_with_other_settings(expected, tmp_path):
    code = "import test_repeatability as here; print(here.fit_and_digest())"
    settings = {
        "PYTHONHASHSEED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LC_ALL": "C",
        "TZ": "UTC+9",
    }
    assert in_a_new_process(code, tmp_path, **settings)[-1] == expected


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch was built without torch.distributed")
def test_ranks(expected, tmp_path):
    torch.multiprocessing.spawn(rank_digest, (str(tmp_path),), nprocs=2)
    assert [(tmp_path / f"{rank}").read_text() for rank in range(2)] == [expected] * 2


def test_files(expected, fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    loaded = GAEAugmenter.load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    again = GAEAugmenter.load(tmp_path / "b.safetensors")
    assert [images_of(one) for one in (loaded, again, pickle.loads(pickle.dumps(fitted)))] == [expected] * 3


def test_checkpoints(expected, tmp_path):
    def digest_with_checkpoints():
        return images_of(augmenter().fit(training_set(), checkpoint_dir=tmp_path))

    # Fitted, and taken from the checkpoints.
    assert [digest_with_checkpoints() for _ in range(2)] == [expected] * 2


def test_files_that_are_mapped(expected, tmp_path):
    assert fit_and_digest({"cache_dir": tmp_path}) == expected


def test_classes_do_not_depend_on_each_other(fitted):
    data = training_set()
    keep = data.tensors[1] != 1
    alone = augmenter(sampling_strategy={2: 150}).fit(TensorDataset(*(part[keep] for part in data.tensors)))
    assert digest(alone.sample(2, 105)) == digest(fitted.sample(2, 105))


def test_workers_of_a_loader(fitted):
    augmented = AugmentedDataset(training_set(), fitted)

    def batches(**workers):
        sampler = MixedSampler(augmented, seed=SEED)
        loader = DataLoader(augmented, batch_size=16, sampler=sampler, **workers)
        return digest(*(part.numpy() for batch in loader for part in batch))

    assert batches(num_workers=2) == batches()


class Counts:
    targets: tuple[int, ...] = (0,) * 50 + (1,) * 20 + (2,) * 6 + (1,) * 30 + (2,) * 44
    is_synthetic = np.arange(150) >= 76


# Neither the processor nor the version of PyTorch has a say in these: they are whole numbers from a Mersenne twister
# or a hash. Weights, codes and images come of floating-point products, which both have a say in.
PINNED = {
    "derived seeds": (
        lambda: np.array([derive_seed(0, "fit", 3), derive_seed(7, "sample", "cat")]),
        "7fec5512b4427b2c3b35f6e461a1048484ce7dad4c197bfa57e8f15520ce19bf",
    ),
    "order of batches": (
        lambda: torch.randperm(1000, generator=make_generator(0, "order")).numpy(),
        "4a42da5dc1e2194fe37a0259dade4d722e243590af983c25067ee519c16bb7be",
    ),
    "balanced draws": (
        lambda: np.array([*MixedSampler(Counts, 0.5, seed=1)]),
        "fe17770801e7ffcc8969511980adce83c3da1a365f65eaf816accd9e573451cc",
    ),
    "draws as they are": (
        lambda: np.array([*MixedSampler(Counts, 0.5, balance=0, seed=1)]),
        "fdb7b2fa5a3872ff5db6e8b714e50d71d945c6f5ece5edf7de67640f0b4cab4a",
    ),
    "long tail": (
        lambda: choose_images(np.arange(500) % 5, dict(enumerate(profile_counts("lt-10", [100] * 5))), seed=0),
        "60754e607400a814f7de1cc8515e8d59b47c05a1e840ce5a1b61ca4632a082a9",
    ),
    "noise and labels to start from": (
        lambda: torch.randint(0, 256, (99,), generator=make_generator(3)).numpy(),
        "765ff4ce904fae369862384ab249595e72853a08f9c3f44fbc149e8a8fc3567b",
    ),
}


def test_order_of_a_fit_is_the_same_everywhere(monkeypatch):
    orders, randperm = [], torch.randperm

    def recorded(*arguments, **options):
        orders.append(randperm(*arguments, **options))
        return orders[-1]

    monkeypatch.setattr(torch, "randperm", recorded)
    augmenter().fit(training_set())
    # Three epochs of two classes.
    assert [len(order) for order in orders] == [60] * 3 + [45] * 3
    assert digest(*(order.numpy().astype("<i8") for order in orders)) == (
        "3f041c3c213d0297a9044b7060195e687977c694bece97fa6e8b710ce77297a4"
    )


@pytest.mark.parametrize("step", PINNED)
def test_whole_numbers_are_the_same_everywhere(step):
    make, pinned = PINNED[step]
    assert digest(make().astype("<i8")) == pinned
