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

from gae_augment import AugmentedDataset, GAEAugmenter, GenerativeModel, MixedSampler
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment._utils.threads import use_threads
from gae_augment.data import choose_images, profile_counts

SEED = 5


def digest(*arrays):
    sha256 = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        sha256.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return sha256.hexdigest()


def training_set():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(torch.tensor([150, 60, 45]))
    # Each class is a ramp in another direction, with noise.
    ramps = torch.stack(
        [torch.arange(64).view(8, 8), torch.arange(64).view(8, 8).T, torch.arange(64).view(8, 8).flip(1)]
    )
    images = ramps[labels] * 3 + torch.randint(0, 60, (len(labels), 8, 8), generator=generator)
    return TensorDataset(images[:, None].to(torch.uint8), labels)


def augmenter(**parameters):
    model = GenerativeModel(epochs=3, delta=1e6, n_components=2)
    return GAEAugmenter(model, **{"random_state": SEED, "progress": False, "n_jobs": 1} | parameters)


def digest_of_synthetic_images(fitted):
    data = training_set()
    augmented = AugmentedDataset(data, fitted)
    return digest(*(augmented[index][0].numpy() for index in range(len(data), len(augmented))))


def fit_and_digest(parameters=None):
    return digest_of_synthetic_images(augmenter(**(parameters or {})).fit(training_set()))


def rank_digest(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, group_name="repeat"
    )
    (Path(folder) / f"{rank}").write_text(fit_and_digest())
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def fitted():
    return augmenter().fit(training_set())


@pytest.fixture(scope="module")
def expected(fitted):
    return digest_of_synthetic_images(fitted)


def test_digest_sees_the_last_bit():
    images = np.ones(3, dtype=np.float32)
    assert digest(images) != digest(np.nextafter(images, 2, dtype=np.float32))
    assert digest(images) != digest(images.astype(">f4"))
    assert fit_and_digest({"random_state": SEED + 1}) != fit_and_digest({"random_state": SEED})


def test_second_fit_gives_the_same_images(expected):
    # Draws from global generators must not matter.
    torch.rand(3)
    assert fit_and_digest() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_matter(expected, threads):
    with use_threads(threads):
        assert fit_and_digest() == expected


@pytest.mark.parametrize(("n_jobs", "backend"), [(3, "loky"), (-1, "threading")])
def test_number_of_jobs_and_backend_do_not_matter(expected, n_jobs, backend):
    with joblib.parallel_config(backend=backend):
        assert fit_and_digest({"n_jobs": n_jobs}) == expected


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_method_of_the_process_does_not_matter(expected, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(fit_and_digest).get(timeout=200) == expected


def large_set():
    images = torch.rand(2000, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, (torch.arange(2000) > 1900).long())


def run_in_a_new_process(code, folder, **environment):
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
def test_forked_process_gives_the_same_images(tmp_path):
    # If PyTorch had several threads before the fork, large operations in the forked process wait for them forever.
    code = """if True:
        import multiprocessing
        import torch
        import test_repeatability as here

        def work():
            images, labels = here.augmenter().fit_resample(*data.tensors)
            return here.digest(images.numpy(), labels.numpy())

        data = here.large_set()
        torch.ones(1_000_000).exp()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.apply_async(work).get(timeout=100))
        print(work())
    """
    forked, parent = run_in_a_new_process(code, tmp_path, OMP_NUM_THREADS="2")
    assert forked == parent


def test_environment_of_the_process_does_not_matter(expected, tmp_path):
    code = "import test_repeatability as here; print(here.fit_and_digest())"
    environment = {
        "PYTHONHASHSEED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LC_ALL": "C",
        "TZ": "UTC+9",
    }
    assert run_in_a_new_process(code, tmp_path, **environment)[-1] == expected


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch was built without torch.distributed")
def test_ranks_get_the_same_images(expected, tmp_path):
    torch.multiprocessing.spawn(rank_digest, (str(tmp_path),), nprocs=2)
    assert [(tmp_path / f"{rank}").read_text() for rank in range(2)] == [expected] * 2


def test_saved_and_pickled_augmenters_give_the_same_images(expected, fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    loaded = GAEAugmenter.load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    loaded_twice = GAEAugmenter.load(tmp_path / "b.safetensors")
    unpickled = pickle.loads(pickle.dumps(fitted))
    assert [digest_of_synthetic_images(copy) for copy in (loaded, loaded_twice, unpickled)] == [expected] * 3


def test_cached_fits_give_the_same_images(expected, tmp_path):
    def fit_with_cache():
        return digest_of_synthetic_images(augmenter().fit(training_set(), checkpoint_dir=tmp_path))

    # The first is fitted, and the second is loaded.
    assert [fit_with_cache() for _ in range(2)] == [expected] * 2


def test_memory_mapped_images_give_the_same_images(expected, tmp_path):
    assert fit_and_digest({"cache_dir": tmp_path}) == expected


def test_class_does_not_depend_on_other_classes(fitted):
    data = training_set()
    rows = data.tensors[1] != 1
    alone = augmenter(sampling_strategy={2: 150}).fit(TensorDataset(*(tensor[rows] for tensor in data.tensors)))
    assert digest(alone.sample(2, 105)) == digest(fitted.sample(2, 105))


def test_workers_of_a_loader_give_the_same_batches(fitted):
    augmented = AugmentedDataset(training_set(), fitted)

    def batches(**workers):
        sampler = MixedSampler(augmented, seed=SEED)
        loader = DataLoader(augmented, batch_size=16, sampler=sampler, **workers)
        return digest(*(tensor.numpy() for batch in loader for tensor in batch))

    assert batches(num_workers=2) == batches()


class Counts:
    targets: tuple[int, ...] = (0,) * 50 + (1,) * 20 + (2,) * 6 + (1,) * 30 + (2,) * 44
    is_synthetic = np.arange(150) >= 76


# Integers from a Mersenne twister or a hash do not depend on the processor or the version of PyTorch. Weights, codes
# and images do, because they come from floating-point products.
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
    "unbalanced draws": (
        lambda: np.array([*MixedSampler(Counts, 0.5, balance=0, seed=1)]),
        "fdb7b2fa5a3872ff5db6e8b714e50d71d945c6f5ece5edf7de67640f0b4cab4a",
    ),
    "long tail": (
        lambda: choose_images(np.arange(500) % 5, dict(enumerate(profile_counts("lt-10", [100] * 5))), seed=0),
        "60754e607400a814f7de1cc8515e8d59b47c05a1e840ce5a1b61ca4632a082a9",
    ),
    "random pixels": (
        lambda: torch.randint(0, 256, (99,), generator=make_generator(3)).numpy(),
        "765ff4ce904fae369862384ab249595e72853a08f9c3f44fbc149e8a8fc3567b",
    ),
}


def test_order_of_training_images_is_the_same_on_every_machine(monkeypatch):
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
def test_integers_are_the_same_on_every_machine(step):
    make, pinned = PINNED[step]
    assert digest(make().astype("<i8")) == pinned
