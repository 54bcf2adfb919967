r"""Runs: a model fitted to a data set and measured. Each is done once, and kept in a table."""

__all__ = ["Plan", "Run", "do_runs", "run_table"]

import hashlib
import json
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
from gae_augment.fitting import FittedModel, fit_model
from gae_augment.models import Bernoulli
from gae_augment.synthesis import draw_codes, sample

from ..data import load_images
from ..features import classifier_features
from ..machine import device_name, versions
from ..records import RecordTable
from .rows import COST, LATENT_DIM, settings_for

SAMPLES = 10_000
"""The number of synthetic images for FID, and the maximum number of test images."""

CODES = 5000
"""The number of codes that their standard deviation is computed from."""

PROBES = 256
"""The number of codes at which the decoder's Lipschitz constant is measured."""


@dataclass(frozen=True)
class Run:
    r"""One line of the table: a run and its figures.

    A figure that was not measured is ``nan``. ``cpu_seconds`` are those of the fit's only thread: on a shared machine
    they vary less than ``seconds``, which are wall-clock time.
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
"""Raise it when the same settings give other images, so that all runs are repeated."""


def run_table(path: Path) -> RecordTable[Run]:
    r"""Returns the table of runs in a file."""
    return RecordTable(path, Run, KEY)


@dataclass(frozen=True)
class Plan:
    r"""A run to do.

    Attributes:
        on: The images to measure on: ``"test"``, or ``"validation"`` for the last 10 000 training images, which are
            then held out from training.
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
        r"""Returns the number of training images, of those that are available."""
        if self.on == "validation":
            available -= min(SAMPLES, available // 5)
        return min(self.train_size or available, available)

    def digest(self) -> str:
        r"""Returns a hash of the settings, by which runs with other settings are told apart.

        It depends on names and values, and not on the modules where classes are defined.
        """
        model = settings_for(self.model, LATENT_DIM[self.dataset], self.epochs)
        definition = model.resolved_definition
        objective = definition.objective(Bernoulli())
        # None switches an option off, so that a new option does not change the hash of old runs.
        parameters = {
            name: value
            for name, value in model.get_params(deep=False).items()
            if value is not None and name != "definition"
        }
        if parameters["synthesis"] == "decoded":
            # Recorded runs were hashed under the earlier name of these settings.
            del parameters["synthesis"], parameters["step"]
            parameters["anchored"] = False
        settings = {
            "revision": REVISION,
            "definition": [definition.name, definition.density, definition.stochastic, definition.early_stopping],
            "parameters": parameters,
            "objective": type(objective).__name__,
            # Default weights are stated only in the objective's class.
            "weights": {name: value for name, value in vars(objective).items() if isinstance(value, float)},
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def fit_path(self, train_images: int) -> Path:
        r"""Returns the file of the fitted model, which the figures are drawn from."""
        name = f"{self.dataset}-{self.model}-{self.seed}-{self.epochs}-{train_images}-{self.on}-{self.digest()}"
        return self.cache / "fits" / f"{name}.safetensors"


def lipschitz_constants(fitted: FittedModel, train: torch.Tensor, seed: int) -> tuple[float, float]:
    r"""Returns the decoder's median local Lipschitz constant at sampled codes, and at codes of training images.

    The unit of each dimension is the standard deviation of its codes, so that models can be compared.
    """
    codes = fitted.encode(train[:CODES])
    unit = codes.std(dim=0).clamp(min=1e-6)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return fitted.likelihood.mean(fitted.network.decode(unit * z))

    sampled = draw_codes(fitted, PROBES, make_generator(seed, "probes")).float()
    at_samples, at_codes = (local_lipschitz(decode, z / unit).median().item() for z in (sampled, codes[:PROBES]))
    return at_samples, at_codes


def do_run(plan: Plan, progress: tqdm | None = None) -> Run:
    r"""Fits one model to all classes together, as the paper does, and measures its images."""
    # With one thread, figures depend neither on the number of cores nor on parallel jobs.
    with single_threaded_libraries():
        data = load_images(plan.dataset, plan.data_root, plan.cache)
        epochs = 40 if plan.dataset == "digits" else 3
        features = classifier_features(plan.dataset, data.train, plan.cache, epochs=epochs)
        n = plan.train_images(len(data.train[0]))
        train = data.train[0][:n]
        reference = data.test[0] if plan.on == "test" else data.train[0][-min(SAMPLES, len(data.train[0]) // 5) :]
        samples = min(SAMPLES, len(reference))

        model = settings_for(plan.model, LATENT_DIM[plan.dataset], plan.epochs)

        def show(error: float, delta: float | None) -> None:
            if progress is not None:
                progress.set_description(f"{plan.dataset}, {plan.model}: error {error:.4f}")
                progress.update(COST.get(plan.model.partition(":")[0], 1.0))

        start = time.process_time()
        fitted = fit_model(train, model, seed=plan.seed, progress=show)
        cpu_seconds = time.process_time() - start
        path = plan.fit_path(n)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, *fitted.state_dict())

        synthetic = sample(fitted, samples, seed=plan.seed)
        figures = fidelity(reference[:samples], synthetic, extractor=features)
        reconstructed = fidelity(reference[:samples], fitted.reconstruct(reference[:samples]), extractor=features)
        inception = float("nan")
        if inception_weights() is not None:
            extractor = InceptionFeatures()
            inception = fidelity(reference[:samples], synthetic, extractor=extractor)[f"FID ({extractor.name})"]
        at_samples, at_codes = lipschitz_constants(fitted, train, plan.seed)

    def figure(name: str, values: dict[str, float] = figures) -> float:
        return round(values[f"{name} ({features.name})"], 4)

    return Run(
        dataset=plan.dataset,
        model=plan.model,
        seed=plan.seed,
        epochs=plan.epochs,
        train_images=n,
        on=plan.on,
        settings=plan.digest(),
        seconds=round(fitted.report.seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        epochs_trained=fitted.report.epochs,
        reconstruction_error=round(fitted.report.reconstruction_error, 5),
        components=fitted.report.n_components,
        fid=figure("FID"),
        fid_reconstructions=figure("FID", reconstructed),
        fid_inception=inception,
        precision=figure("precision"),
        recall=figure("recall"),
        density=figure("density"),
        coverage=figure("coverage"),
        lipschitz_samples=round(at_samples, 3),
        lipschitz_training=round(at_codes, 3),
        jobs=plan.jobs,
        threads=1,
        device=device_name(resolve_device("auto")),
        arithmetic=fitted.plan.precision,
        versions=versions("torch", "scikit-learn", "torch-fidelity"),
    )


def do_runs(plans: Sequence[Plan], table: RecordTable[Run], *, jobs: int) -> list[Run]:
    r"""Does the runs that are missing in the table, and returns all runs.

    An interrupted run starts again from the beginning; finished runs are kept.
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
