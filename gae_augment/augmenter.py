r"""The augmenter: one generator for each scarce class of a training set."""

__all__ = ["GAEAugmenter"]

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from .allocation import memory_kept
from .fitting.cache import Checkpoints
from .mixing.dataset import AugmentedDataset
from ._utils.devices import resolve_device
from .fitting.generator import LEAST_IMAGES, FitReport, Generator, Progress, silent
from ._utils.parallel import Failure, attempt, run_jobs, runs_here
from .models.networks import Architecture
from .models.objectives import MODELS, Model
from ._utils.files import MALFORMED, read_file, write_file
from .data.reading import class_names, open_source, read_classes
from ._utils.seeding import RandomState, derive_seed, resolve_random_state
from .models.generative_model import GeneratorSettings
from .data.strategy import Label, SamplingStrategy, count_labels, resolve_strategy
from ._utils.threads import map_in_threads, use_threads
from .data.values import ValueScale


class GAEAugmenter(BaseEstimator):
    r"""Learns one generative model for each class that has too few images, and makes more images of it.

    Args:
        model: The generative model: a key of :data:`gae_augment.MODELS`, or a
            :class:`gae_augment.models.objectives.Model` of your own.
        latent_dim: The latent dimension :math:`d`. ``"auto"`` is 10 for images of up to 1024 values and 32 for larger.
        architecture: ``"fc"`` and ``"paper"`` are fully connected (encoders 1000-500 and 500-500-2000), ``"conv"`` is
            convolutional, ``"auto"`` is ``"fc"`` for vectors and images of up to 1024 values and ``"conv"`` for larger.
            A tuple of widths is a fully connected encoder of one's own.
        density: What new codes are drawn from: a ``"mixture"`` of Gaussians or one ``"normal"`` that is fitted to the
            codes, ``"standard_normal"``, or the model's own with ``"auto"``.
        components: The most components of a mixture, or the least and the most. The number of one that is fitted to
            the codes is chosen by the Bayesian information criterion, with at least 20 codes for each. ``"auto"`` is
            up to 80 for these, and 10 for mixtures that are learned with the network.
        delta: The boundary :math:`\delta` that the reconstruction error has to come below, as the excess over that of
            a perfect reconstruction, in nats per pixel. ``"auto"`` trains until the error of images that are held out
            stops falling, and where there are fewer than 200, until three tenths of the mean image's error are left.
            It is for models whose row has ``bounded``; the others train for all epochs.
        epochs: The most epochs. ``"auto"`` provides for 600 steps of the optimiser.
        batch_size: The images in a batch.
        learning_rate: Adam's learning rate at the start.
        schedule: ``"cosine"``, along which the learning rate falls to 0, or ``"constant"``.
        precision: What the products of the training and of its error are computed in, ``"float32"`` or ``"bfloat16"``;
            all else is float32. ``"auto"`` takes the latter for images where it is faster: on a CUDA GPU that has it,
            and on a CPU that has it for fully connected networks.
        starts: How many first weights are tried. They share half of the epochs, and the best ones are trained for the
            other half. ``"auto"`` tries 8 for vectors that have more features than a code has dimensions, where first
            weights decide much, and 1 else.
        truncated: Whether codes from a fitted mixture that lie beyond all training codes are drawn anew; only where
            there are at least 20 images for each dimension of a code.
        anchored: Whether a new image keeps the detail of a real one, which the autoencoder cannot reproduce: the
            training image whose code is nearest is moved to the new code, :math:`x_i + f_d(z) - f_d(z_i)`. A number
            :math:`t` moves it only so far, or beyond: :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`. The training
            images are then kept, and saved with the augmenter, and new images lie nearer to them. ``"auto"`` does so
            for images, with :math:`t = 1.5`, and not for vectors.
        max_similarity: The largest similarity that a new image may have with a training image of its class: their
            correlation, in (0, 1], when they are brought to cover, as by
            :func:`gae_augment.synthesis.similarity.aligned_nearest`. Closer ones are drawn anew. The training images
            are then kept, and saved with the augmenter. ``None`` allows all.
        sampling_strategy: Which classes get how many images, as in imbalanced-learn: ``"auto"`` fills all classes up
            to the largest one, a mapping gives final totals.
        errors: What comes of a class that cannot be learned: with ``"warn"`` it stays without synthetic images, and a
            warning says so; with ``"raise"`` the fit ends with an error when the other classes are done. Where none
            can be learned, it does in any case.
        device: Where to train and sample: ``"auto"`` takes a CUDA GPU if there is one.
        n_jobs: How many classes are fitted at the same time. ``None`` is as many as PyTorch has threads for, inside of
            this process, or what a context of joblib's says; a number is as in joblib, in processes of their own, and
            -1 one per core. The images do not depend on it.
        n_threads: How many CPU threads the training of a class is shared among. The last bits of images depend on it.
            More than 1 pays for classes of thousands of images, where there are fewer such classes than cores.
        random_state: The seed of everything. ``None`` is a new one for every fit.
        progress: Whether to show a progress bar.
        cache_dir: A folder for images that do not fit in memory: those that are learned from, and the synthetic ones of
            :meth:`augment`, lie in files there that are mapped into memory and removed after use. ``None`` keeps them
            in memory, and from a dataset no more of them than those of scarce classes.

    Attributes:
        classes_: The labels, sorted.
        counts_: The real images of each class.
        class_names_: The name of each class: the dataset's, or the label as text.
        sampling_strategy_: The images to add to each class, as in imbalanced-learn; 0 for one that failed.
        generators_: The fitted generators of the classes that need images.
        failures_: Why classes have no generator that were to get one, in words.
        seed_: The seed that the fit used.
        n_features_in_: The features of a vector, or the channels or rows of an image, where it was fitted to an array.

    References:
        | Generative autoencoder to prevent overregularization of variational autoencoder (Ko et al., 2024)
        | https://doi.org/10.4218/etrij.2023-0375

    Example:
        >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> y = torch.tensor([0] * 40 + [1] * 20)
        >>> augmenter = GAEAugmenter(epochs=2, delta=1.0, random_state=0, progress=False).fit(X, y)
        >>> augmenter.sampling_strategy_
        {1: 20}
        >>> augmenter.sample(1, 5).shape
        torch.Size([5, 8, 8])
    """

    def __init__(
        self,
        model: str | Model = "gae",
        *,
        latent_dim: int | Literal["auto"] = "auto",
        architecture: Architecture = "auto",
        density: str = "auto",
        components: int | tuple[int, int] | Literal["auto"] = "auto",
        delta: float | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        precision: str = "auto",
        starts: int | Literal["auto"] = "auto",
        truncated: bool = True,
        anchored: bool | float | Literal["auto"] = "auto",
        max_similarity: float | None = None,
        sampling_strategy: SamplingStrategy = "auto",
        errors: Literal["warn", "raise"] = "warn",
        device: str = "auto",
        n_jobs: int | None = None,
        n_threads: int = 1,
        random_state: RandomState = None,
        progress: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.density = density
        self.components = components
        self.delta = delta
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.precision = precision
        self.starts = starts
        self.truncated = truncated
        self.anchored = anchored
        self.max_similarity = max_similarity
        self.sampling_strategy = sampling_strategy
        self.errors = errors
        self.device = device
        self.n_jobs = n_jobs
        self.n_threads = n_threads
        self.random_state = random_state
        self.progress = progress
        self.cache_dir = cache_dir

    def _settings(self) -> GeneratorSettings:
        return GeneratorSettings(
            model=self.model,
            latent_dim=self.latent_dim,
            architecture=self.architecture,
            density=self.density,
            components=self.components,
            delta=self.delta,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            precision=self.precision,
            starts=self.starts,
            truncated=self.truncated,
            anchored=self.anchored,
            max_similarity=self.max_similarity,
            device=self.device,
            n_threads=self.n_threads,
        )

    def fit(self, X: Any, y: Any = None, *, checkpoint_dir: str | os.PathLike[str] | None = None) -> Self:
        r"""Learns a generator for each class that the sampling strategy adds images to.

        Args:
            X: A map-style torch dataset of (image, label) pairs, whose images are read before its transforms; or an
                array or tensor of shape :math:`(N, C, H, W)`, :math:`(N, H, W)` or :math:`(N, F)`.
            y: The labels that go with an array, with shape :math:`(N,)`.
            checkpoint_dir: A folder in which the generator of each class is kept as soon as it is fitted. A fit that
                is broken off, however that came, and started again with the same data and parameters goes on there,
                and comes to the same images. A ``random_state`` of ``None`` is drawn once for the folder. Fits with
                one folder take turns. It may be emptied when no fit is on, and holds no training images.

        Raises:
            TypeError, ValueError: If data or parameters cannot be used; nothing has been trained then.
            RuntimeError: If no class could be learned, or with ``errors="raise"`` any could not. The generators of the
                others are kept.
            OSError: If ``cache_dir`` cannot be written to, or has no room, or ``checkpoint_dir`` cannot be written to.

        Warns:
            ConvergenceWarning: If the reconstruction error of a class did not come below :math:`\delta`, or its
                training diverged and was begun again with a smaller learning rate.
            RuntimeWarning: If a class could not be learned, or ``checkpoint_dir`` has no room for it.
        """
        settings = self._settings()
        checkpoints = None if checkpoint_dir is None else Checkpoints(checkpoint_dir)
        labels, read = open_source(X, y)
        strategy = resolve_strategy(self.sampling_strategy, labels)
        counts = count_labels(labels)
        scarce = [label for label, number in strategy.items() if number]
        names: Mapping[Any, str] = (isinstance(X, Dataset) and class_names(X)) or {}
        for label in scarce:
            if counts[label] < LEAST_IMAGES:
                name = f"{label!r} ({names[label]})" if names.get(label, str(label)) != str(label) else f"{label!r}"
                raise ValueError(
                    f"Class {name} has {counts[label]} image, and a generator needs at least {LEAST_IMAGES}. Give it "
                    f"more images, leave it out of 'sampling_strategy', or merge it with another class."
                )
        if self.errors not in ("warn", "raise"):
            raise ValueError(f"'errors' is 'warn' or 'raise', and it is {self.errors!r}.")
        if self.n_jobs is not None and (not isinstance(self.n_jobs, int | np.integer) or self.n_jobs == 0):
            raise ValueError(
                f"'n_jobs' is the number of classes fitted at the same time, and it is {self.n_jobs!r}. Use None or 1, "
                f"or -1 for one per core."
            )
        # All of them, although only scarce classes are learned: every image is checked, and the scale of the values,
        # with it a class's generator, does not depend on which other classes are scarce.
        images, values = read_classes(read, labels, scarce, self.cache_dir)
        for own in images.values():
            settings.check_shape(tuple(own.shape[1:]))

        with checkpoints.opened() if checkpoints else nullcontext():
            seed = (checkpoints.seed if checkpoints else resolve_random_state)(self.random_state)
            self.classes_ = np.array(list(counts))
            self.counts_ = counts
            self.class_names_ = {label: names.get(label, str(label)) for label in counts}
            self.sampling_strategy_ = strategy
            self.seed_ = seed
            if y is not None:
                self.n_features_in_ = np.shape(X)[1]
            elif hasattr(self, "n_features_in_"):
                del self.n_features_in_
            self._samplings = 0
            self.generators_: dict[Label, Generator] = {}
            self.failures_: dict[Label, str] = {}
            with tqdm(total=len(scarce), unit="class", disable=not self.progress) as bar:
                for label, result in self._fit_classes(images, settings, values, checkpoints, bar):
                    bar.set_description(f"class {self.class_names_[label]}")
                    if isinstance(result, Failure):
                        self.failures_[label] = result.reason
                    else:
                        self.generators_[label] = result
                        if settings.keeps_images_of(result.shape):
                            result.anchors = images[label]
                        report = result.report
                        _show(bar, self.class_names_[label], report.reconstruction_error, report.delta)
                    bar.update()
        # They come in the order in which they are ready.
        self.generators_ = {label: self.generators_[label] for label in scarce if label in self.generators_}
        self._tell_failures(len(scarce))
        self._warn_of_training()
        return self

    def _tell_failures(self, fitted: int) -> None:
        r"""Raises or warns of what failed, of so many classes that were to be fitted."""
        if not self.failures_:
            return
        self.sampling_strategy_ |= dict.fromkeys(self.failures_, 0)
        told = f"The fit failed for {len(self.failures_)} of {fitted} classes: " + "; ".join(
            f"class {label!r}: {reason}" for label, reason in self.failures_.items()
        )
        if self.errors == "raise" or not self.generators_:
            raise RuntimeError(
                f"{told}. The generators of the others, {list(self.generators_)}, are kept and can be used."
            )
        warnings.warn(
            f"{told}. They get no synthetic images; errors='raise' makes an error of it.", RuntimeWarning, stacklevel=3
        )

    def _fit_classes(
        self,
        images: Mapping[Label, Tensor],
        settings: GeneratorSettings,
        values: ValueScale,
        checkpoints: Checkpoints | None,
        bar: tqdm,
    ) -> Iterator[tuple[Label, Generator | Failure]]:
        r"""Yields each class with its generator, or with why it has none, in the order in which they are ready."""
        stopped = Event()
        # One seed for each label, so that a class comes out the same whichever other classes there are.
        seeds = {label: derive_seed(self.seed_, "fit", label) for label in images}
        paths: dict[Label, Path] = {}
        if checkpoints:
            paths = {label: checkpoints.path(own, settings, values, seeds[label]) for label, own in images.items()}
            found = {label: checkpoints.load(path, settings) for label, path in paths.items()}
            kept = {label: generator for label, generator in found.items() if generator is not None}
            yield from kept.items()
            images = {label: own for label, own in images.items() if label not in kept}

        def keep(label: Label, result: Generator | Failure) -> Generator | Failure:
            if checkpoints and isinstance(result, Generator):
                checkpoints.save(paths[label], result)
            return result

        def arguments(label: Label, progress: Progress) -> tuple[Any, ...]:
            # As an array, which joblib hands to its workers as a memory map, and to a cluster by its store.
            return images[label].numpy(), settings, values, seeds[label], progress

        def show(label: Label) -> Progress:
            def progress(error: float, delta: float | None) -> None:
                if stopped.is_set():
                    raise InterruptedError("the fit was broken off")
                _show(bar, self.class_names_[label], error, delta)

            return progress

        def fit_here(label: Label) -> Generator | Failure:
            # Kept at once: results are handed on in the order of the classes.
            return keep(label, attempt(_fit_class, *arguments(label, show(label))))

        # Without a number, not even one that a context of joblib's has set, it is threads, which need no start.
        if self.n_jobs is None and runs_here(None):
            on_cpu = resolve_device(settings.device).type == "cpu"
            try:
                results = map_in_threads(fit_here, images, settings.n_threads) if on_cpu else map(fit_here, images)
                # What one class takes the next one finds.
                with memory_kept:
                    yield from zip(images, results, strict=True)
            finally:
                # A fit that nobody waits for any more ends at its next check.
                stopped.set()
            return
        # A bar can be moved from this process only.
        inline = runs_here(self.n_jobs)
        jobs = {label: arguments(label, show(label) if inline else silent) for label in images}
        # Workers map the images of a file too, and could write to maps of their own: torch warns of others.
        options = {"temp_folder": self.cache_dir, "mmap_mode": "c"}
        for label, result in run_jobs(_fit_class, jobs, self.n_jobs, **options):
            yield label, keep(label, result)

    def _warn_of_training(self) -> None:
        r"""Warns of fits that diverged at first, and of those whose error stayed too large."""
        begun_again = {
            label: generator.settings.learning_rate
            for label, generator in self.generators_.items()
            if generator.report.retries
        }
        if begun_again:
            warnings.warn(
                f"The training of {len(begun_again)} of {len(self.generators_)} classes diverged with "
                f"learning_rate={self.learning_rate}, and was begun again in float32 with a smaller one ("
                + ", ".join(f"class {label!r}: {rate:g}" for label, rate in begun_again.items())
                + "). Lower 'learning_rate'.",
                ConvergenceWarning,
                stacklevel=3,
            )
        missed = {label: report for label, report in self.report_.items() if report.delta_reached is False}
        if not missed:
            return
        errors = ", ".join(
            f"class {label!r}: {report.reconstruction_error:.4f}, delta {report.delta:.4f}"
            for label, report in missed.items()
        )
        rule = f"come below delta={self.delta}" if self.delta != "auto" else "come below delta, or stop falling,"
        warnings.warn(
            f"The reconstruction error, in nats per pixel, did not {rule} before the epochs ended, for "
            f"{len(missed)} of {len(self.generators_)} classes ({errors}). Raise 'epochs' or 'latent_dim', or 'delta' "
            f"if it is good enough.",
            ConvergenceWarning,
            stacklevel=3,
        )

    def _check_fitted(self) -> None:
        if not hasattr(self, "generators_"):
            raise NotFittedError(
                "This GAEAugmenter is not fitted yet. Call 'fit' with a dataset, or with X and y, first."
            )

    @property
    def report_(self) -> dict[Label, FitReport]:
        r"""What the fit of each class came to."""
        self._check_fitted()
        return {label: generator.report for label, generator in self.generators_.items()}

    def sample(self, label: Label, n: int, *, seed: int | None = None, out: Tensor | None = None) -> Tensor:
        r"""Makes new images of a class.

        Args:
            label: The class.
            n: The number of images.
            seed: What the images depend on, besides the fit. Without it, each call gives new ones: the first call
                after a fit or a load gives the first images, the second the next.
            out: Where the images are written to, a tensor on the CPU of the shape and the type that they have; new
                memory by default.

        Returns:
            The images, with shape :math:`(n, *)`, in the type and the value range of the data.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: If the class has no generator, n is not a positive integer, or ``out`` is of another shape or
                type.
        """
        generator = self._generator(label)
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f"'n', the number of images to make, is an integer of at least 1, and it is {n!r}.")
        if out is not None:
            if tuple(out.shape[1:]) != generator.shape or out.dtype != generator.values.dtype:
                raise ValueError(
                    f"The images that are wanted have shape {tuple(out.shape[1:])} of {out.dtype}, and the augmenter "
                    f"was fitted to {generator.shape} of {generator.values.dtype}. Fit it to data like these."
                )
            if len(out) != n or out.device.type != "cpu":
                raise ValueError(f"'out' holds {n} images on the CPU, and it holds {len(out)} on {out.device}.")
        if seed is None:
            seed = derive_seed(self.seed_, "sampling", self._samplings)
            self._samplings += 1
        return generator.sample(int(n), seed=derive_seed(seed, "sample", label), out=out)

    def _generator(self, label: Label) -> Generator:
        self._check_fitted()
        if label not in self.generators_:
            known = f"has {self.counts_[label]} images and was to get none" if label in self.counts_ else "is unknown"
            if label in self.failures_:
                known = "could not be fitted"
            raise ValueError(
                f"There are generators for the classes {list(self.generators_)}, and class {label!r} {known}. "
                f"'sampling_strategy' says which classes get one."
            )
        return self.generators_[label]

    def reconstruct(self, label: Label, images: Tensor) -> Tensor:
        r"""Returns images of a class, with shape :math:`(N, *)`, as its autoencoder gives them back.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: If the class has no generator, or the images are not of the shape that it was fitted to.
        """
        generator = self._generator(label)
        if tuple(images.shape[1:]) != generator.shape:
            raise ValueError(
                f"The images have shape (N, {', '.join(map(str, generator.shape))}), as those that class {label!r} was "
                f"fitted to, and these have {tuple(images.shape)}."
            )
        return generator.reconstruct(images)

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        r"""Fits, and returns the data with the synthetic images that the strategy asks for.

        Args:
            X: An array or tensor, with shape :math:`(N, C, H, W)`, :math:`(N, H, W)` or :math:`(N, F)`.
            y: The labels, with shape :math:`(N,)`.

        Returns:
            Images and labels as tensors if ``X`` is one, and else as arrays: the originals first and untouched, then
            the synthetic ones class by class.

        Raises:
            TypeError, ValueError, RuntimeError: As :meth:`fit`.
        """
        if isinstance(X, Dataset):
            raise TypeError(
                "fit_resample works on arrays, and it was given a dataset. Use fit(dataset).augment(dataset)."
            )
        self.fit(X, y)
        seed = derive_seed(self.seed_, "fit_resample")
        added = {label: n for label, n in self.sampling_strategy_.items() if n}
        images = [self.sample(label, n, seed=seed) for label, n in added.items()]
        labels = np.repeat(np.array(list(added)), list(added.values()))
        with use_threads(1):
            return _append(X, torch.cat(images).numpy() if images else None), _append(y, labels if images else None)

    def augment(
        self, dataset: Any, *, transform: Callable[[Any], Any] | Literal["same"] | None = "same"
    ) -> AugmentedDataset:
        r"""Returns a dataset's items followed by synthetic ones; see :class:`gae_augment.AugmentedDataset`.

        Args:
            dataset: The dataset that the augmenter was fitted to, or one like it.
            transform: What all images are put through in place of the dataset's own transforms.

        Raises:
            NotFittedError: Before ``fit``.
        """
        self._check_fitted()
        return AugmentedDataset(dataset, self, transform=transform, cache_dir=self.cache_dir)

    def report(self, data: Any, path: str | os.PathLike[str], **options: Any) -> Path:
        r"""Writes an HTML page about the fits and their images; see :func:`gae_augment.report.write_report`.

        Args:
            data: What the augmenter was fitted to: a dataset, or a pair of images and labels.
            path: The file to write.
            options: More of the arguments of :func:`gae_augment.report.write_report`.

        Raises:
            NotFittedError: Before ``fit``.
            ModuleNotFoundError: If matplotlib or Jinja is missing.
        """
        self._check_fitted()
        # It needs more than the package does, and stands above this module.
        from .report import write_report

        return write_report(self, data, path, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        r"""Writes the fitted augmenter into one safetensors file with a JSON header.

        The file holds each class's mean image, and the training images of the classes whose new images are anchored
        in them; the entry ``"holds training images"`` of the header says whether there are any.

        A ``sampling_strategy`` that is a mapping or a function is kept as the totals that it came to, and a
        ``random_state`` that is not an integer as the seed that the fit drew from it.

        Raises:
            NotFittedError: Before ``fit``.
            OSError: If the file cannot be written.
        """
        self._check_fitted()
        parameters = self.get_params(deep=False)
        if isinstance(self.model, Model):
            parameters["model"] = self.model.name
        # It is a place of this machine.
        parameters.pop("cache_dir", None)
        if not isinstance(self.sampling_strategy, str | float | int):
            parameters["sampling_strategy"] = None
        if not isinstance(self.random_state, int):
            parameters["random_state"] = self.seed_
        header: dict[str, Any] = {
            "parameters": parameters,
            "seed": self.seed_,
            "counts": list(self.counts_.items()),
            "names": list(self.class_names_.items()),
            "strategy": list(self.sampling_strategy_.items()),
            "failures": list(self.failures_.items()),
            "holds training images": any(generator.anchors is not None for generator in self.generators_.values()),
            "generators": [],
        }
        tensors: dict[str, Tensor] = {}
        for place, (label, generator) in enumerate(self.generators_.items()):
            own_header, own_tensors = generator.state_dict()
            header["generators"].append([label, own_header])
            tensors |= {f"{place}.{name}": tensor for name, tensor in own_tensors.items()}
        write_file(path, header, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Model | None = None) -> Self:
        r"""Returns the fitted augmenter that :meth:`save` wrote; it makes the same images.

        Where the device that it was fitted on is missing, the augmenter's device is ``"auto"``.

        Args:
            path: The file.
            model: The model that it was fitted with, if that was one of your own: files hold no code.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is truncated, of another kind, or of a newer version.
        """
        header, tensors = read_file(path)
        try:
            parameters = dict(header["parameters"])
            # It would be a place of another machine, which images are written to.
            parameters.pop("cache_dir", None)
            parameters["model"] = _own_model(parameters["model"], model)
            counts = {_label(label): int(number) for label, number in header["counts"]}
            strategy = {_label(label): int(number) for label, number in header["strategy"]}
            if parameters["sampling_strategy"] is None:
                parameters["sampling_strategy"] = {label: counts[label] + n for label, n in strategy.items()}
            for name in ("architecture", "components"):
                if isinstance(parameters.get(name), list):
                    parameters[name] = tuple(parameters[name])
            try:
                GeneratorSettings(device=parameters["device"])
            except ValueError:
                parameters["device"] = "auto"
            self = cls(**parameters)
            # What cannot be used would show when it is used.
            self._settings()
            self.classes_ = np.array(list(counts))
            self.counts_, self.sampling_strategy_, self.seed_ = counts, strategy, int(header["seed"])
            self.class_names_ = {label: str(dict(header["names"])[label]) for label in counts}
            # Files of the first versions have none.
            self.failures_ = {_label(label): str(reason) for label, reason in header.get("failures", ())}
            self._samplings = 0
            self.generators_ = {}
            for place, (label, own_header) in enumerate(header["generators"]):
                prefix = f"{place}."
                own = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
                own_header["settings"]["device"] = self.device
                if _label(label) not in counts:
                    raise ValueError(f"there is a generator for class {label!r}, and no such class")
                generator = Generator.from_state_dict(own_header, own, model)
                if generator.settings.keeps_images_of(generator.shape) and generator.anchors is None:
                    raise ValueError(f"the training images of class {label!r} are missing")
                self.generators_[label] = generator
        except MALFORMED as error:
            raise ValueError(
                f"{os.fspath(path)!r} does not hold a whole augmenter: {type(error).__name__}: {error}. Save it again."
            ) from error
        return self


def _label(label: Any) -> Label:
    r"""Returns a label of a file.

    Raises:
        ValueError: If it is neither an integer nor text.
    """
    if not isinstance(label, int | str):
        raise ValueError(f"labels are integers or text, and there is {label!r}")
    return label


def _own_model(name: str, model: Model | None) -> str | Model:
    if (model.name if model else None) != (None if name in MODELS else name):
        raise ValueError(
            f"it was fitted with the model {name!r}, and 'model' is {model!r}; give load the model of one's own that "
            f"a file was fitted with, and none for those of the table"
        )
    return model or name


def _append(original: Any, new: np.ndarray | None) -> Any:
    r"""Returns an array or tensor with rows appended in its own type; anything else becomes an array."""
    if isinstance(original, Tensor):
        return original if new is None else torch.cat([original, torch.from_numpy(new).to(original)])
    array = np.asarray(original)
    return array if new is None else np.concatenate([array, new.astype(array.dtype)])


def _show(bar: tqdm, name: str, error: float, delta: float | None) -> None:
    # There is no boundary yet where it is the point at which the error of held-out images stops falling.
    boundary = "" if delta is None else f", delta {delta:.4f}"
    bar.set_description(f"class {name}: error {error:.4f}{boundary}")


def _fit_class(
    images: np.ndarray,
    settings: GeneratorSettings,
    values: ValueScale,
    seed: int,
    progress: Progress,
) -> Generator:
    r"""Returns a class's generator.

    The images that new ones are anchored in are left to the caller, who has them, so that no process sends them back.
    """
    # Some backends' memory maps cannot be written to, and torch warns of such arrays.
    tensor = torch.from_numpy(images if images.flags.writeable else images.copy())
    generator = Generator(settings).fit(tensor, seed=seed, values=values, progress=progress)
    generator.anchors = None
    return generator
