r"""The augmenter: one generative model for each scarce class of a training set."""

__all__ = ["GAEAugmenter"]

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import closing, nullcontext
from typing import Any, Literal, Self, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.utils.data import Dataset

from .._utils.parallel import Failure
from .._utils.seeding import RandomState, derive_seed, make_generator, resolve_random_state
from ..data import (
    Label,
    SamplingStrategy,
    WorkingSize,
    append_samples,
    class_names,
    count_labels,
    load_source,
    read_classes,
    resolve_strategy,
)
from ..fitting import (
    FitCache,
    FitReport,
    FittedModel,
    check_classes,
    deformed_classes,
    fit_with_progress,
    images_to_learn_from,
    plan_fits,
    report_failures,
    warn_of_training,
)
from ..mixing import AugmentedDataset
from ..models import ModelChoice, ModelDefinition, choose_models, settable_choice
from ..motion import AdaptiveMotion, Motion, MotionBank, learn_bank, sample_deformed
from ..synthesis import sample
from .checks import check_parameters, missing_model
from .files import load_augmenter, save_augmenter


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
        motions_: The motions of all classes. Without ``"deformed"`` models, :meth:`motion` sets this attribute.
        cache_key_: A hash of everything that ``models_`` depends on. A fit without ``checkpoint_dir`` does not set this
            attribute.
        n_features_in_: The length of the second axis of ``X``. A fit to a dataset does not set this attribute.

    References:
        | Generative autoencoder to prevent overregularization of variational autoencoder (Ko et al., 2024)
        | https://doi.org/10.4218/etrij.2023-0375

    Example:
        >>> import torch
        >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> y = torch.tensor([0] * 40 + [1] * 20)
        >>> augmenter = GAEAugmenter(random_state=0, progress=False).fit(X, y)
        >>> augmenter.sampling_strategy_
        {1: 20}
        >>> augmenter.sample(1, 5).shape
        torch.Size([5, 8, 8])
    """

    motions_: MotionBank

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

        Deformed images share motions, which are learned from at most 40 classes, scarce ones first. The other classes
        have no model, and :meth:`sample` needs their dataset.

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
        check_parameters(self)
        models = choose_models(self.model)
        if cache is not None and not isinstance(cache, FitCache):
            cache = FitCache(cache)
        labels, read = load_source(X, y, self.working_size, own_size=own_size)
        strategy = resolve_strategy(self.sampling_strategy, labels)
        counts = count_labels(labels)
        names: Mapping[Any, str] = (class_names(X, labels) if y is None else None) or {}
        class_names_ = {label: names.get(label, str(label)) for label in counts}
        scarce = [label for label, number in strategy.items() if number]
        deformed = deformed_classes(models, counts, read.shape, resized=read.resized)
        # Only a dataset's single image of a class can be moved, not a row of X.
        check_classes(models, counts, scarce, set() if own_size else deformed, class_names_)
        # Motions are shared: classes without a model of their own borrow those of the others.
        learned = images_to_learn_from(counts, scarce, deformed, each=own_size)
        # The value scale is that of all images, so that a class's model does not depend on which other classes are
        # scarce.
        images, values = read_classes(read, labels, learned, self.cache_dir, most=learned)
        seed = (cache.seed if cache is not None else resolve_random_state)(self.random_state)
        fits = plan_fits(images, models, values, seed, self.device, resized=read.resized)

        self.classes_ = np.array(list(counts))
        self.counts_, self.class_names_ = counts, class_names_
        self.sampling_strategy_, self.seed_ = strategy, seed
        for name in ("n_features_in_", "cache_key_", "motions_"):
            self.__dict__.pop(name, None)
        if y is not None:
            self.n_features_in_ = np.shape(X)[1]
        self._samplings = 0
        fitted: dict[Label, FittedModel] = {}
        failures: dict[Label, str] = {}
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
                        failures[label] = result.reason
                    else:
                        fitted[label] = result
            if deformed:
                teachers = {label: fitted[label] for label in learned if label in fitted and label in deformed}
                self.motions_ = learn_bank(teachers, seed=derive_seed(seed, "motions"))
                if not teachers:
                    failures |= dict.fromkeys((label for label in scarce if label not in fits), "no motion was learned")
            # The results arrive in the order in which the fits end.
            self.models_: dict[Label, FittedModel] = {label: fitted[label] for label in scarce if label in fitted}
            self.failures_ = {label: failures[label] for label in scarce if label in failures}
            self.sampling_strategy_ |= dict.fromkeys(self.failures_, 0)
            failures = dict(sorted(failures.items()))
            remedy = "" if cache is None else cache.remedy(fits[label] for label in failures if label in fits)
            report_failures(failures, list(fitted), raises=self.on_error == "raise", remedy=remedy)
            if cache is not None:
                cache.save_failures({fits[label]: reason for label, reason in failures.items() if label in fits})
        warn_of_training(self.report_)
        return self

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

    @overload
    def motion(self, strength: float = 1.0, p: float = 0.5, *, per_image: bool = False) -> Motion: ...
    @overload
    def motion(self, strength: Literal["adaptive"], p: float = 0.5, *, per_image: bool = False) -> AdaptiveMotion: ...
    def motion(self, strength: float | Literal["adaptive"] = 1.0, p: float = 0.5, *, per_image: bool = False) -> Motion:
        r"""Returns a torchvision transform that moves images of any class and size as the models have learned.

        Add it to the transforms of the training set, best before others. The motions of all classes are shared.

        Args:
            strength: The factor of every motion, from 0 to 3. ``"adaptive"`` returns a
                :class:`gae_augment.motion.AdaptiveMotion`, whose ``update`` sets the factor after each epoch.
            p: The probability that an image is moved.
            per_image: Whether each image of a batch gets a motion of its own.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            ValueError: If no model of images was fitted, or a number is out of range.
        """
        self._check_fitted()
        if not hasattr(self, "motions_"):
            self.motions_ = learn_bank(self.models_, seed=derive_seed(self.seed_, "motions"))
        if not len(self.motions_):
            raise ValueError(
                "No model of images was fitted, so there are no motions. With model=GenerativeModel("
                "synthesis='deformed'), fit learns motions from all classes, also from those that need no images."
            )
        if strength == "adaptive":
            return AdaptiveMotion(self.motions_, p, per_image=per_image, seed=self.seed_)
        return Motion(self.motions_, strength, p, per_image=per_image)

    def motions_for(self, label: Label, n: int, *, seed: int) -> Tensor | None:
        r"""Returns the motions of ``n`` deformed images of a class, with shape :math:`(n, 2, 8, 8)`.

        ``None`` if images of the class are not deformed, but decoded or residual.
        """
        self._check_fitted()
        has_motions = label not in self.models_ and self.sampling_strategy_.get(label, 0) > 0
        if not has_motions and not (label in self.models_ and self.models_[label].plan.synthesis == "deformed"):
            return None
        return self.motions_.draw(n, generator=make_generator(seed, "motions", label))

    def sample(
        self, label: Label, n: int, *, seed: int | None = None, out: Tensor | None = None, dataset: Any = None
    ) -> Any:
        r"""Returns new images of a class, in the working size, and the type and value range of the real images.

        Args:
            label: The label of the class.
            n: The number of images.
            seed: The seed of the images. With ``None``, each call takes the next seed of a fixed sequence. :meth:`fit`
                and :meth:`load` start the sequence again.
            out: A CPU tensor that the method fills and returns. ``None`` creates a new tensor.
            dataset: The dataset of the fit. If it is passed, the result is a list of images in the format of the
                dataset, before its transforms. Deformed images then have the size of real ones.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            ValueError: If the class has no model, ``n`` is not positive, or ``out`` has a wrong shape or type.
        """
        self._check_fitted()
        fitted = self._model(label) if dataset is None else None
        if seed is None:
            seed = derive_seed(self.seed_, "sampling", self._samplings)
            self._samplings += 1
        if fitted is None:
            items = AugmentedDataset(dataset, self, transform=None, images_to_add={label: n}, seed=seed)
            return [items[index][0] for index in range(len(items) - n, len(items))]
        seed = derive_seed(seed, "sample", label)
        if fitted.plan.synthesis == "deformed":
            return sample_deformed(fitted, self.motions_, n, seed=seed, out=out)
        return sample(fitted, n, seed=seed, out=out)

    def _model(self, label: Label) -> FittedModel:
        self._check_fitted()
        if isinstance(label, Hashable) and label in self.models_:
            return self.models_[label]
        raise missing_model(self, label)

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
        seed = derive_seed(self.seed_, "fit_resample")
        return append_samples(X, y, {label: self.sample(label, n, seed=seed) for label, n in added.items()})

    def augment(
        self,
        dataset: Any,
        *,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        motion: Motion | None = None,
    ) -> AugmentedDataset:
        r"""Returns a dataset with the items of ``dataset``, followed by synthetic items.

        Args:
            dataset: The dataset of the fit, or another one whose images have the same shape and type.
            transform: ``"same"`` keeps the dataset's transforms; ``None`` applies none; a callable replaces them.
            motion: A transform from :meth:`motion`, which moves images of all classes alike before other transforms.

        Raises:
            NotFittedError: If the augmenter is not fitted.
        """
        self._check_fitted()
        return AugmentedDataset(dataset, self, transform=transform, motion=motion, cache_dir=self.cache_dir)

    def save(self, path: str | os.PathLike[str]) -> None:
        r"""Writes the fitted augmenter into one safetensors file with a JSON header.

        The file holds the mean image of each fitted class. With ``"residual"`` or ``"deformed"`` synthesis, or with
        ``max_similarity``, the file holds the training images of the class, in the working size. In this case, the
        header's entry ``"holds training images"`` is true.

        Raises:
            NotFittedError: If the augmenter is not fitted.
            OSError: If the file cannot be written.
        """
        self._check_fitted()
        save_augmenter(self, path)

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
            FileNotFoundError, ValueError: If the file does not exist or is not a valid augmenter, or a definition is
                missing or unused.
        """
        return load_augmenter(cls, path, [definition] if isinstance(definition, ModelDefinition) else definition)
