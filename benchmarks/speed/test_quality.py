r"""How soon images are as good as those of the paper's protocol, on MNIST."""

import os
import time
from pathlib import Path
from statistics import fmean

import pytest
import torch

from gae_augment.evaluation import fidelity
from gae_augment.fitting import fit_model
from gae_augment.models import GenerativeModel
from gae_augment.synthesis import sample

from ..data import load_images
from ..features import classifier_features
from ..paper.rows import PAPERS
from ..paper.runs import SAMPLES, run_table

RESULTS = Path(__file__).parents[1] / "results"

SEEDS = 3


@pytest.mark.slow
@pytest.mark.skipif("GAE_DATA_ROOT" not in os.environ, reason="GAE_DATA_ROOT names the folder that MNIST lies in")
def test_quality_of_the_protocol(benchmark, record, tmp_path):
    cache = RESULTS.parent / "cache" / "paper"
    data = load_images("mnist", Path(os.environ["GAE_DATA_ROOT"]), cache)
    features = classifier_features("mnist", data.train, cache, epochs=3)
    # Batch size and epochs were chosen on validation images.
    settings = GenerativeModel(
        architecture="fc",
        batch_size=256,
        epochs=4,
        n_components=20,
        synthesis="decoded",
        n_threads=torch.get_num_threads(),
    )
    seconds, fids = [], []

    def fit_and_sample() -> torch.Tensor:
        start = time.perf_counter()
        made = sample(fit_model(data.train[0], settings, seed=len(seconds)), SAMPLES, seed=len(seconds))
        seconds.append(time.perf_counter() - start)
        fids.append(fidelity(data.test[0], made, extractor=features)[f"FID ({features.name})"])
        return made

    benchmark.pedantic(fit_and_sample, rounds=SEEDS, iterations=1)
    protocol = [
        run.fid
        for run in run_table(RESULTS / "paper" / "runs.csv").records.values()
        if (run.dataset, run.model, run.on, run.train_images) == ("mnist", PAPERS, "test", 60_000)
    ]
    what = "MNIST, 60 000 images, `architecture='fc', batch_size=256, epochs=4, n_components=20`, seeds 0 to 2"
    record(seconds, [60.0] * SEEDS, unit="s", what=f"{what}: the time", beside="a minute", aim=1.0)
    beside = f"that of the 30 epochs of `{PAPERS}`, as the paper's benchmark has it"
    record(fids, [fmean(protocol)] * SEEDS, unit="FID", what=f"{what}: FID", beside=beside, aim=1.0)
