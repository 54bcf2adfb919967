r"""The augmenter: one generative model for each scarce class of a training set."""

__all__ = ["GAEAugmenter"]

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import closing, nullcontext
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.utils.data import Dataset

from ._utils.devices import check_device
from ._utils.files import MALFORMED, read_file, write_file
from ._utils.parallel import Failure, check_n_jobs
from ._utils.seeding import RandomState, derive_seed, resolve_random_state
from ._utils.threads import use_threads
from .data import (
    Label,
    SamplingStrategy,
    WorkingSize,
    append_rows,
    check_working_size,
    checked_label,
    class_names,
    count_labels,
    load_source,
    read_classes,
    resolve_strategy,
)
from .fitting import (
    FitCache,
    FitReport,
    FittedModel,
    check_classes,
    check_definitions,
    fit_with_progress,
    models_from_state,
    models_to_state,
    parameters_from_plain,
    parameters_to_plain,
    plan_fits,
    report_failures,
    upgrade_header,
    warn_of_training,
)
from .mixing import AugmentedDataset
from .models import (
    ModelChoice,
    ModelDefinition,
    choose_models,
    settable_choice,
)
from .synthesis import sample


class GAEAugmenter(BaseEstimator):
    r"""Learns one generative model for each class that has too few images, and samples new images from these models.

    Args:
        model: A key of :data:`gae_augment.MODELS`, or a :class:`gae_augment.GenerativeModel`. A mapping from labels to
            models sets the model of each listed class; other classes use ``"gae"``.
        sampling_strategy: How many images to add to each class, as in imbalanced-learn. ``"auto"`` makes all classes as
            large as the largest one. A mapping gives the final size of each listed class.
        working_size: The height and width to which images are resized for the networks. ``"auto"`` keeps images that
            all have the same size and sides of at most 64 pixels. Else it is the median height and width, scaled down
            until both are at most 64. An integer replaces 64. A pair is the height and width.
        on_error: What :meth:`fit` does if the fit of a class fails. ``"warn"`` warns, and the class gets no synthetic
            images. ``"raise"`` raises an error after the other fits.
        device: The device of training and sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.
        n_jobs: The number of processes that fit classes in parallel, as in joblib; -1 is one per core. ``None`` uses
            the active joblib context, or threads of this process if there is none.
        random_state: The seed of all random numbers, or a NumPy generator. ``None`` draws a new seed in every fit.
        progress: Whether to show a progress bar.
        cache_dir: A folder for memory-mapped files of training images and synthetic images. ``None`` keeps the images
            in memory.

    Attributes:
        classes_: The labels, sorted.
        counts_: The number of real images of each class, by label.
        class_names_: The name of each class, by label. A class without a name has its label as text.
        sampling_strategy_: The number of images to add, by label; 0 if the fit of the class failed.
        models_: The fitted models, by label.
        failures_: The reason of each failed fit, by label.
        seed_: The seed of the fit.
        cache_key_: A hash of everything that ``models_`` depends on. A fit without ``checkpoint_dir`` does not set this
            attribute.
        n_features_in_: The length of the second axis of ``X``. A fit to a dataset does not set this attribute.

    References:
        | Generative autoencoder to prevent overregularization of variational autoencoder (Ko et al., 2024)
        | https://doi.org/10.4218/etrij.2023-0375

    Example:
        >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> y = torch.tensor([0] * 40 + [1] * 20)
        >>> augmenter = GAEAugmenter(random_state=0, progress=False).fit(X, y)
        >>> augmenter.sampling_strategy_
        {1: 20}
        >>> augmenter.sample(1, 5).shape
        torch.Size([5, 8, 8])
    """

    def __init__(
        self,
        model: ModelChoice | Mapping[Any, ModelChoice] = "gae",
        *,
        sampling_strategy: SamplingStrategy = "auto",
        working_size: WorkingSize = "auto",
        on_error: Literal["warn", "raise"] = "warn",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = None,
        progress: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.sampling_strategy = sampling_strategy
        self.working_size = working_size
        self.on_error = on_error
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.progress = progress
        self.cache_dir = cache_dir

    def set_params(self, **params: Any) -> Self:
        r"""Sets parameters by name, for example ``model__latent_dim=8`` for the ``latent_dim`` of the model.

        Raises:
            ValueError: If a parameter does not exist, or a ``model__`` parameter is set while ``model`` is a mapping.
        """
        if any(name.startswith("model__") for name in params):
            params["model"] = settable_choice(params.get("model", self.model))
        return super().set_params(**params)

    def fit(self, X: Any, y: Any = None, *, checkpoint_dir: str | os.PathLike[str] | FitCache | None = None) -> Self:
        r"""Learns a generative model for each class that the sampling strategy adds images to.

        Args:
            X: An array or tensor with shape :math:`(N, C, H, W)`, :math:`(N, H, W)` or :math:`(N, F)`, or a map-style
                torch dataset of (image, label) pairs, whose images may differ in size. The fit does not apply the
                dataset's transforms.
            y: The labels, with shape :math:`(N,)`. ``None`` if ``X`` is a dataset.
            checkpoint_dir: A folder, or its ``FitCache``, for the fitted models without training images. A later fit
                with the same data and parameters reuses the stored models. With ``random_state=None``, later fits reuse
                the seed of the first fit. You may empty the folder while no fit runs. ``None`` stores nothing.

        Raises:
            TypeError, ValueError: If data or parameters are invalid.
            RuntimeError: If all fits failed, or a fit failed and ``on_error`` is ``"raise"``. ``models_`` keeps the
                models of the other classes.
            OSError: If ``cache_dir`` or ``checkpoint_dir`` is not writable, or ``cache_dir`` has no space.

        Warns:
            ConvergenceWarning: If training of a class diverged and restarted, or never met its stopping rule.
            RuntimeWarning: If the fit of a class failed, or its model could not be written to ``checkpoint_dir``.
        """
        return self._fit(X, y, checkpoint_dir)

    def _fit(self, X: Any, y: Any, cache: Any = None, *, own_size: bool = False) -> Self:
        self._check_parameters()
        models = choose_models(self.model)
        if cache is not None and not isinstance(cache, FitCache):
            cache = FitCache(cache)
        labels, read = load_source(X, y, self.working_size, own_size=own_size)
        strategy = resolve_strategy(self.sampling_strategy, labels)
        counts = count_labels(labels)
        names: Mapping[Any, str] = (class_names(X, labels) if y is None else None) or {}
        class_names_ = {label: names.get(label, str(label)) for label in counts}
        scarce = [label for label, number in strategy.items() if number]
        check_classes(models, counts, scarce, class_names_)
        # All images are checked and define the value scale, so that a class's model does not depend on which other
        # classes are scarce.
        images, values = read_classes(read, labels, scarce, self.cache_dir)
        seed = (cache.seed if cache is not None else resolve_random_state)(self.random_state)
        fits = plan_fits(images, models, values, seed, self.device)

        self.classes_ = np.array(list(counts))
        self.counts_, self.class_names_ = counts, class_names_
        self.sampling_strategy_, self.seed_ = strategy, seed
        for name in ("n_features_in_", "cache_key_"):
            self.__dict__.pop(name, None)
        if y is not None:
            self.n_features_in_ = np.shape(X)[1]
        self._samplings = 0
        self.models_: dict[Label, FittedModel] = {}
        self.failures_: dict[Label, str] = {}
        with nullcontext() if cache is None else cache.open(fits.values()) as cache_key:
            if cache is not None:
                self.cache_key_ = cache_key
            results = fit_with_progress(
                fits, class_names_, self.progress, n_jobs=self.n_jobs, cache=cache, scratch_dir=self.cache_dir
            )
            # Closed now: the traceback of an interruption would keep the fits, and their threads, alive.
            with closing(results):
                for label, result in results:
                    if isinstance(result, Failure):
                        self.failures_[label] = result.reason
                    else:
                        self.models_[label] = result
            # The results arrive in the order in which the fits end.
            self.models_ = {label: self.models_[label] for label in scarce if label in self.models_}
            self.failures_ = dict(sorted(self.failures_.items()))
            self.sampling_strategy_ |= dict.fromkeys(self.failures_, 0)
            remedy = "" if cache is None else cache.remedy(fits[label] for label in self.failures_)
            report_failures(self.failures_, list(self.models_), raises=self.on_error == "raise", remedy=remedy)
            if cache is not None:
                cache.save_failures({fits[label]: reason for label, reason in self.failures_.items()})
        warn_of_training(self.report_)
        return self

    def _check_parameters(self) -> None:
        check_device(self.device)
        check_working_size(self.working_size)
        if self.on_error not in ("warn", "raise"):
            raise ValueError(f"'on_error' is {self.on_error!r}, but must be 'warn' or 'raise'.")
        check_n_jobs(self.n_jobs)

    def _check_fitted(self) -> None:
        if not hasattr(self, "models_"):
            raise NotFittedError(
                "This GAEAugmenter is not fitted yet. Call 'fit' with a dataset, or with X and y, first."
            )

    @property
    def report_(self) -> dict[Label, FitReport]:
        r"""The reports on the successful fits, by label."""
        self._check_fitted()
        return {label: fitted.report for label, fitted in self.models_.items()}

    def sample(self, label: Label, n: int, *, seed: int | None = None, out: Tensor | None = None) -> Tensor:
        r"""Returns new images of a class, in the working size, and the type and value range of the real images.

        Args:
            label: The label of the class.
            n: The number of images.
            seed: The seed of the images. With ``None``, each call takes the next seed of a fixed sequence. :meth:`fit`
                and :meth:`load` start the sequence again.
            out: A CPU tensor that the method fills and returns. ``None`` creates a new tensor.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            ValueError: If the class has no model, ``n`` is not positive, or ``out`` has a wrong shape or type.
        """
        fitted = self._model(label)
        if seed is None:
            seed = derive_seed(self.seed_, "sampling", self._samplings)
            self._samplings += 1
        return sample(fitted, n, seed=derive_seed(seed, "sample", label), out=out)

    def _model(self, label: Label) -> FittedModel:
        self._check_fitted()
        if isinstance(label, Hashable) and label in self.models_:
            return self.models_[label]
        reason = "is unknown"
        if label in self.failures_:
            reason = "could not be fitted"
        elif label in self.counts_:
            reason = f"has {self.counts_[label]} images and needs no more"
        raise ValueError(
            f"Class {label!r} {reason}, so it has no model. Choose one of {list(self.models_)}, or "
            f"change 'sampling_strategy'."
        )

    def reconstruct(self, label: Label, images: Tensor) -> Tensor:
        r"""Returns the reconstructions of images by the model of a class, with shape :math:`(N, *)`.

        Images and reconstructions have the type and the value range of the training images.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            ValueError: If the class has no model, or the images do not have the working size.
        """
        return self._model(label).reconstruct(images)

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        r"""Fits the augmenter, and returns real and synthetic images with their labels.

        Args:
            X: An array or tensor, with shape :math:`(N, C, H, W)`, :math:`(N, H, W)` or :math:`(N, F)`. No image is
                resized: the networks see the size of ``X``.
            y: The labels, with shape :math:`(N,)`.

        Returns:
            The images and the labels. ``X`` and ``y`` come first, then the synthetic images and their labels, class by
            class. The images are a tensor if ``X`` is one, else an array. The labels are a tensor if ``y`` is one.

        Raises:
            TypeError, ValueError, RuntimeError: For the reasons listed in :meth:`fit`, or if ``X`` is a dataset.
        """
        if isinstance(X, Dataset):
            raise TypeError("'X' is a dataset, but fit_resample needs arrays. Use fit(dataset).augment(dataset).")
        self._fit(X, y, own_size=True)
        added = {label: n for label, n in self.sampling_strategy_.items() if n}
        samples = [self.sample(label, n, seed=derive_seed(self.seed_, "fit_resample")) for label, n in added.items()]
        labels = np.repeat(np.array(list(added)), list(added.values()))
        with use_threads(1):
            rows = torch.cat(samples).numpy() if samples else None
            return append_rows(X, rows), append_rows(y, labels if samples else None)

    def augment(
        self, dataset: Any, *, transform: Callable[[Any], Any] | Literal["same"] | None = "same"
    ) -> AugmentedDataset:
        r"""Returns a dataset with the items of ``dataset``, followed by synthetic items.

        Args:
            dataset: The dataset of the fit, or another one whose images have the same shape and type.
            transform: ``"same"`` keeps the dataset's transforms; ``None`` applies none; a callable replaces them.

        Raises:
            NotFittedError: If the augmenter is not fitted.
        """
        self._check_fitted()
        return AugmentedDataset(dataset, self, transform=transform, cache_dir=self.cache_dir)

    def save(self, path: str | os.PathLike[str]) -> None:
        r"""Writes the fitted augmenter into one safetensors file with a JSON header.

        The file holds the mean image of each fitted class. With ``anchored`` (the default for images) or
        ``max_similarity``, the file holds all training images of the class. In this case, the header's entry
        ``"holds training images"`` is true.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            OSError: If the file cannot be written.
        """
        self._check_fitted()
        model_headers, tensors = models_to_state(self.models_)
        header: dict[str, Any] = {
            "parameters": parameters_to_plain(self.get_params(deep=False), self.seed_),
            "seed": self.seed_,
            "counts": list(self.counts_.items()),
            "names": list(self.class_names_.items()),
            "strategy": list(self.sampling_strategy_.items()),
            "failures": list(self.failures_.items()),
            "holds training images": any(fitted.anchors is not None for fitted in self.models_.values()),
            "models": model_headers,
        }
        write_file(path, header, tensors)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        definition: ModelDefinition | Iterable[ModelDefinition] = (),
    ) -> Self:
        r"""Returns the augmenter that :meth:`save` wrote to a file.

        If this machine lacks the device of the saved augmenter, ``device`` becomes ``"auto"``.

        Args:
            path: The path of the file.
            definition: The definitions of the augmenter's custom models.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is not a valid augmenter, or a definition is missing or unused.
        """
        header, tensors = read_file(path)
        custom = [definition] if isinstance(definition, ModelDefinition) else definition
        definitions = {model.name: model for model in custom}
        check_definitions(path, header, definitions)
        try:
            return cls._from_state(header, tensors, definitions)
        except MALFORMED as error:
            raise ValueError(
                f"{os.fspath(path)!r} does not hold a complete augmenter: {type(error).__name__}: "
                f"{str(error).rstrip('.')}. Save it again."
            ) from error

    @classmethod
    def _from_state(
        cls, header: dict[str, Any], tensors: Mapping[str, Tensor], definitions: Mapping[str, ModelDefinition]
    ) -> Self:
        header = upgrade_header(header, definitions)
        counts = {checked_label(label): int(number) for label, number in header["counts"]}
        strategy = {checked_label(label): int(number) for label, number in header["strategy"]}
        totals = {label: counts[label] + n for label, n in strategy.items()}
        self = cls(**parameters_from_plain(header["parameters"], definitions, totals))
        # An invalid parameter would otherwise fail only at its first use.
        self._check_parameters()
        self.classes_ = np.array(list(counts))
        self.counts_, self.sampling_strategy_, self.seed_ = counts, strategy, int(header["seed"])
        self.class_names_ = {label: str(dict(header["names"])[label]) for label in counts}
        self.failures_ = {checked_label(label): str(reason) for label, reason in header["failures"]}
        self._samplings = 0
        self.models_ = models_from_state(header["models"], tensors, counts, definitions, self.device)
        return self
