"""Fits on local clusters of Ray, Dask and joblib, also with killed workers."""

import os
import signal
from collections import Counter

import joblib
import numpy as np
import pytest
import torch
from processes import isolated_ray

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.export import write_shards
from gae_augment.models import ModelDefinition, Objective

ray = pytest.importorskip("ray")
distributed = pytest.importorskip("distributed")

from ray.cluster_utils import Cluster  # noqa: E402

from gae_augment.integrations.ray import register_ray_tasks  # noqa: E402

COUNTS = {0: 400, 1: 160, 2: 150, 3: 140, 4: 130}
SETTINGS = {"random_state": 0, "progress": False, "device": "cpu"}


def make_augmenter(definition="gae", **options):
    return GAEAugmenter(GenerativeModel(definition, epochs=3, delta=1.0), **SETTINGS, **options)


# Both libraries leave resources open and give warnings about future changes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray_cluster():
    r"""Two nodes with one processor each."""
    with isolated_ray():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False)
            register_ray_tasks()
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="module")
def dask_cluster():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def images():
    r"""Noise in five classes of more than 100 KB each, so that Ray keeps the images in its object store."""
    labels = np.repeat(list(COUNTS), list(COUNTS.values()))
    return np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32), dtype=np.uint8), labels


def samples_of(augmenter):
    return {label: augmenter.sample(label, 3, seed=0) for label in augmenter.models_}


def assert_same_images(actual, expected):
    actual_samples, expected_samples = samples_of(actual), samples_of(expected)
    assert list(actual_samples) == list(expected_samples) == [1, 2, 3, 4]
    for label, samples in actual_samples.items():
        assert torch.equal(samples, expected_samples[label])


def recording_model(folder, *, killed=None):
    r"""Returns a model that records the process of each fit, and kills it in the middle of a class's first fit.

    The number of images identifies the class. The model is pickled by value, because the workers of a cluster cannot
    import the tests. It records how often this process pickles it, which is once per class unless images are resent.
    """
    sender = os.getpid()

    class Recorder(Objective):
        def prepare(self, network, x, *, n_components, generator):
            self.images = len(x)
            with open(folder / "fits", "a") as file:
                file.write(f"{self.images} {os.getpid()}\n")

        def advance(self, network, x, progress):
            if self.images == killed and 0 < progress < 1 and not (folder / "killed").exists():
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        def loss(self, network, x, noise):
            return self.likelihood.negative_log_likelihood(network.decode(network.encode(x)), x).mean()

    class PickledByValue(ModelDefinition):
        def __getstate__(self):
            if os.getpid() == sender:
                with open(folder / "sent", "a") as file:
                    file.write("1")
            return self.__dict__

    return PickledByValue("recorder", Recorder, density="mixture", early_stopping=True)


def fits_of(folder):
    r"""Returns the number of fits by the number of images of a class, and the processes of the fits."""
    lines = [line.split() for line in (folder / "fits").read_text().splitlines()]
    return Counter(int(images) for images, _ in lines), {int(process) for _, process in lines}


# The tests of a backend run one after another, so that its cluster starts once.
@pytest.fixture(scope="module", params=["ray_tasks", "dask", "loky"])
def backend(request):
    r"""A joblib backend, whose cluster starts on first use."""
    if request.param != "loky":
        request.getfixturevalue({"ray_tasks": "ray_cluster", "dask": "dask_cluster"}[request.param])
    with joblib.parallel_config(request.param, **({"n_jobs": 2} if request.param == "loky" else {})):
        yield request.param


def test_fits_equal_those_of_this_process(backend, images, tmp_path):
    model = recording_model(tmp_path)
    augmenter = make_augmenter(model).fit(*images)
    fits, processes = fits_of(tmp_path)
    assert fits == {160: 1, 150: 1, 140: 1, 130: 1}
    assert os.getpid() not in processes
    if backend != "dask":  # Dask pickles a task several times to measure its size.
        assert len((tmp_path / "sent").read_text()) == 4
    assert_same_images(augmenter, make_augmenter(model, n_jobs=1).fit(*images))


def test_class_is_fitted_again_after_its_worker_was_killed(backend, images, tmp_path, recwarn):
    model = recording_model(tmp_path, killed=150)
    augmenter = make_augmenter(model).fit(*images)
    assert (tmp_path / "killed").exists()
    fits, _ = fits_of(tmp_path)
    assert set(fits) == {160, 150, 140, 130}
    assert fits[150] >= 2
    if backend != "loky":  # With loky, a dead worker ends all others.
        assert fits == {160: 1, 150: 2, 140: 1, 130: 1}
    if backend == "ray_tasks":
        assert len((tmp_path / "sent").read_text()) == 4
    assert any("A worker was lost" in str(warning.message) for warning in recwarn) == (backend == "loky")
    assert_same_images(augmenter, make_augmenter(model, n_jobs=1).fit(*images))


def test_shards_equal_those_of_this_process(backend, images, tmp_path):
    small = images[0][:, None, :8, :8].copy(), images[1]
    with joblib.parallel_config("sequential"):
        augmenter = make_augmenter().fit(*small)
        alone = write_shards(augmenter, tmp_path / "alone", format="parquet", images_per_shard=300)
    together = write_shards(augmenter, tmp_path / "together", format="parquet", images_per_shard=300)
    assert [path.name for path in alone] == [f"shard-{number:05d}-of-00004.parquet" for number in range(4)]
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]
    if backend == "ray_tasks":
        # One pass over the files.
        rows = ray.data.read_parquet([str(path) for path in together]).take_all()
        assert Counter(row["label"] for row in rows) == {label: COUNTS[0] - COUNTS[label] for label in (1, 2, 3, 4)}
