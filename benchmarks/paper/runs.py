r"""Runs: a model fitted to a data set and measured. Each is done once, and kept in a table."""

__all__ = ["Plan", "Run", "do_runs", "run_table"]

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from gae_augment._utils.devices import resolve_device
from gae_augment._utils.files import write_file
from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import single_threaded_libraries
from gae_augment.evaluation import InceptionFeatures, fidelity, inception_weights, local_lipschitz
from gae_augment.fitting import fit_model
from gae_augment.models import Bernoulli, ModelDefinition

from ..data import load_images
from ..features import classifier_features
from ..machine import device_name, versions
from ..records import RecordTable
from .rows import COST, LATENT_DIM, settings_for

SAMPLES = 10_000
"""The images that are made for FID, and at most so many test images."""

CODES = 5000
"""The codes that their standard deviation is taken over."""

PROBES = 256
"""The codes at which the decoder's Lipschitz constant is measured."""


@dataclass(frozen=True)
class Run:
    r"""One line of the table: what was done, and what came out.

    ``nan`` is a figure that was not measured. ``cpu_seconds`` are of the one thread that a fit runs on: on a machine
    that is shared they are less disturbed than ``seconds``, by the clock.
    """

    dataset: str
    model: str
    seed: int
    epochs: int
    train_images: int
    on: str
    settings: str
    seconds: float
    cpu_seconds: float
    epochs_trained: int
    reconstruction_error: float
    components: int
    fid: float
    fid_reconstructions: float
    fid_inception: float
    precision: float
    recall: float
    density: float
    coverage: float
    lipschitz_samples: float
    lipschitz_training: float
    jobs: int
    threads: int
    device: str
    arithmetic: str
    versions: str


KEY = ("dataset", "model", "seed", "epochs", "train_images", "on", "settings")

REVISION = 2
"""Raised when the same settings come to mean other images, so that runs are done again."""


def run_table(path: Path) -> RecordTable[Run]:
    r"""Returns the table of runs in a file."""
    return RecordTable(path, Run, KEY)


@dataclass(frozen=True)
class Plan:
    r"""A run that is to be done.

    Attributes:
        on: ``"test"``, or ``"validation"`` for the last 10 000 training images, which are then not trained on.
    """

    dataset: str
    model: str
    seed: int
    epochs: int
    train_size: int | None
    on: str
    data_root: Path
    cache: Path
    jobs: int = 1

    def train_images(self, available: int) -> int:
        r"""Returns how many images are trained on, of so many."""
        if self.on == "validation":
            available -= min(SAMPLES, available // 5)
        return min(self.train_size or available, available)

    def digest(self) -> str:
        r"""Returns a short name for the settings, so that runs of other ones are not taken for these."""
        settings = settings_for(self.model, LATENT_DIM[self.dataset], self.epochs)
        assert isinstance(settings.model, ModelDefinition)
        # The weights of an objective that stand in its class alone do not show in the settings.
        objective = settings.model.objective(Bernoulli())
        weights = {name: value for name, value in vars(objective).items() if isinstance(value, float)}
        return hashlib.sha256(repr((REVISION, settings, weights)).encode()).hexdigest()[:8]

    def fit_path(self, train_images: int) -> Path:
        r"""Returns where the fitted generator is kept, for the figures."""
        name = f"{self.dataset}-{self.model}-{self.seed}-{self.epochs}-{train_images}-{self.on}-{self.digest()}"
        return self.cache / "fits" / f"{name}.safetensors"


def steepness(generator: Generator, train: torch.Tensor, seed: int) -> tuple[float, float]:
    r"""Returns the median local Lipschitz constant of a decoder at sampled codes, and that at codes of training images.

    Codes are taken in units of their standard deviation in each dimension, so that models compare.
    """
    codes = generator.encode(train[:CODES])
    unit = codes.std(dim=0).clamp(min=1e-6)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return generator.likelihood.mean(generator.network.decode(unit * z))

    sampled = generator.draw_codes(PROBES, make_generator(seed, "probes")).float()
    at_samples, at_codes = (local_lipschitz(decode, z / unit).median().item() for z in (sampled, codes[:PROBES]))
    return at_samples, at_codes


def do_run(plan: Plan, progress: tqdm | None = None) -> Run:
    r"""Fits a generator to all classes together, as the paper does, and measures its images."""
    # One thread for everything: figures depend neither on the machine's cores nor on the jobs beside.
    with single_threaded_libraries():
        data = load_images(plan.dataset, plan.data_root, plan.cache)
        epochs = 40 if plan.dataset == "digits" else 3
        features = classifier_features(plan.dataset, data.train, plan.cache, epochs=epochs)
        n = plan.train_images(len(data.train[0]))
        train = data.train[0][:n]
        reference = data.test[0] if plan.on == "test" else data.train[0][-min(SAMPLES, len(data.train[0]) // 5) :]
        samples = min(SAMPLES, len(reference))

        settings = settings_for(plan.model, LATENT_DIM[plan.dataset], plan.epochs)
        device = resolve_device(settings.device)

        def tell(error: float, delta: float | None) -> None:
            if progress is not None:
                progress.set_description(f"{plan.dataset}, {plan.model}: error {error:.4f}")
                progress.update(COST.get(plan.model.partition(":")[0], 1.0))

        start = time.process_time()
        generator = fit_model(train, settings, seed=plan.seed, progress=tell)
        cpu_seconds = time.process_time() - start
        path = plan.fit_path(n)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, *generator.state_dict())

        made = generator.sample(samples, seed=plan.seed)
        figures = fidelity(reference[:samples], made, extractor=features)
        rebuilt = fidelity(reference[:samples], generator.reconstruct(reference[:samples]), extractor=features)
        inception = float("nan")
        if inception_weights() is not None:
            extractor = InceptionFeatures()
            inception = fidelity(reference[:samples], made, extractor=extractor)[f"FID ({extractor.name})"]
        at_samples, at_codes = steepness(generator, train, plan.seed)

    def figure(name: str, of: dict[str, float] = figures) -> float:
        return round(of[f"{name} ({features.name})"], 4)

    return Run(
        dataset=plan.dataset,
        model=plan.model,
        seed=plan.seed,
        epochs=plan.epochs,
        train_images=n,
        on=plan.on,
        settings=plan.digest(),
        seconds=round(generator.report.seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        epochs_trained=generator.report.epochs,
        reconstruction_error=round(generator.report.reconstruction_error, 5),
        components=generator.report.components,
        fid=figure("FID"),
        fid_reconstructions=figure("FID", rebuilt),
        fid_inception=inception,
        precision=figure("precision"),
        recall=figure("recall"),
        density=figure("density"),
        coverage=figure("coverage"),
        lipschitz_samples=round(at_samples, 3),
        lipschitz_training=round(at_codes, 3),
        jobs=plan.jobs,
        threads=1,
        device=device_name(device),
        arithmetic=str(settings.precision_for(generator.shape, device)).removeprefix("torch."),
        versions=versions("torch", "scikit-learn", "torch-fidelity"),
    )


def do_runs(plans: Sequence[Plan], table: RecordTable[Run], *, jobs: int) -> list[Run]:
    r"""Does the runs that the table does not hold yet, and returns all.

    A run that is cut off is done again from its beginning; those that ended are kept.
    """
    sizes: dict[str, int] = {}
    for plan in plans:
        if plan.dataset not in sizes:
            sizes[plan.dataset] = len(load_images(plan.dataset, plan.data_root, plan.cache).train[0])

    def key(plan: Plan) -> tuple[str, ...]:
        n = plan.train_images(sizes[plan.dataset])
        return tuple(map(str, (plan.dataset, plan.model, plan.seed, plan.epochs, n, plan.on, plan.digest())))

    missing = [plan for plan in plans if key(plan) not in table.records]
    work = sum(plan.epochs * COST.get(plan.model.partition(":")[0], 1.0) for plan in missing)
    with tqdm(total=round(work), unit="epoch", disable=not missing) as bar:
        bar.write(f"{len(plans) - len(missing)} of {len(plans)} runs are in {table.path}.")
        for plan, run in zip(missing, _results(missing, jobs, bar), strict=True):
            table.add(run)
            bar.write(
                f"{run.dataset}, {run.model}, seed {run.seed}: FID {run.fid:.2f} ({run.fid_reconstructions:.2f} of "
                f"reconstructions), {run.seconds:.0f} s, {run.components} components"
            )
            if jobs > 1:
                bar.update(plan.epochs * COST.get(plan.model.partition(":")[0], 1.0))
    return [table.records[key(plan)] for plan in plans]


def _results(plans: Sequence[Plan], jobs: int, bar: tqdm) -> Iterator[Run]:
    if jobs == 1:
        return (do_run(plan, bar) for plan in plans)
    return iter(Parallel(n_jobs=jobs, return_as="generator")(delayed(do_run)(plan) for plan in plans))
