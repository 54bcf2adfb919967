r"""A Lightning data module that adds synthetic images of scarce classes to training batches."""

__all__ = ["GAEDataModule"]

import operator
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gae_augment import AugmentedDataset, GAEAugmenter, MixedSampler
from gae_augment._utils.seeding import make_generator, resolve_random_state
from gae_augment.data import Label
from gae_augment.evaluation import Advice
from gae_augment.fitting import FitCache, default_cache_dir
from gae_augment.mixing import Teacher

from .advice import advice_for, check_advise_options, check_can_advise
from .arguments import AUTO, check_arguments, check_data, check_loader_settings
from .loaders import RefreshingSampler, ShuffledSampler, check_loader, draws_per_epoch, rebuild_loader
from .motion import choose_motion
from .wrapping import WrappingDataModule

try:
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.utilities import rank_zero_info
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.lightning needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error


class GAEDataModule(WrappingDataModule):
    r"""Adds synthetic images of the scarce classes to the training batches of a data module or a training set.

    ``prepare_data`` fits one generative model per scarce class, and saves it in ``cache_dir``. ``setup`` loads the
    models. Later runs and other ranks load a saved model if images and hyper-parameters of the class are the same.
    Failed fits are saved too. A warning names the file to remove for another attempt.

    Only training batches change. The other loaders and attributes of a wrapped data module remain available. With
    several ranks, each rank trains on its share of the images.

    Args:
        data: A data module to wrap, or a map-style training set. A wrapped training loader keeps all its settings
            except dataset and sampler.
        augmenter: The augmenter, by default ``GAEAugmenter()``. A copy of it is fitted.
        val_set: The validation set, if ``data`` is a training set.
        test_set: The test set, if ``data`` is a training set.
        synthetic_fraction: For the mode ``"mix"``, the ``synthetic_fraction`` of :class:`gae_augment.MixedSampler`, in
            [0, 1]. ``"auto"`` asks :func:`gae_augment.evaluation.advise` whether training images should be moved, or
            deformed images be added, or neither, on top of your ``balance``, and of standard views if your transforms
            may move pixels. It takes about five minutes, and decides ``motion`` too, which must be ``"auto"``.
        mode: ``"mix"`` draws class-balanced batches with a :class:`gae_augment.MixedSampler`. ``"fill"`` draws every
            real and every synthetic image once per epoch.
        real_last: For the mode ``"mix"``, the fraction of the epochs, in [0, 1], that draw only real images. These
            epochs come last.
        balance: For the mode ``"mix"``, a number in [0, 1]. At 1 all classes are equally frequent. At 0 their
            frequencies are proportional to their numbers of real images. Below 1, add ``log_frequencies`` to the logits
            in training.
        num_classes: The number of the classifier's logits, for ``log_frequencies``. By default the largest label plus
            1.
        refresh: The number of epochs between draws of fresh synthetic images. 0 keeps the images of the first draw.
        transform: The transform of training images. ``"same"`` keeps the transforms of the training set. ``None``
            applies no transform. A callable replaces them.
        motion: How strongly training images of all classes are moved by the motions that the models have learned, with
            probability 0.5 and before all transforms: a number from 0 to 3, as in
            :meth:`gae_augment.GAEAugmenter.motion`, or ``None`` for no motion. ``"auto"`` is 1 for images whose
            training transforms move no pixels, such as none, ``Resize`` or ``ColorJitter``, and ``None`` for other
            data. Lightning's log says which. The callback ``MotionScheduler`` adapts the strength instead.
        teacher: A classifier, trained on the real images. Its predictions are mixed into the labels of synthetic
            images. All labels in training batches are then class probabilities. Use
            ``torch.nn.functional.cross_entropy`` without class weights as loss. By default labels are integers.
        teacher_weight: The weight of the teacher's predictions in the labels, in [0, 1].
        batch_size: If ``data`` is a training set, the number of images in a batch; 32 by default.
        num_workers: If ``data`` is a training set, the number of worker processes of each loader; 0 by default.
        loader_settings: If ``data`` is a training set, further arguments of the DataLoaders.
        advise_options: For ``synthetic_fraction="auto"``, further arguments of ``advise``: ``groups`` with the object
            that each training image shows, ``backbone`` with your network, ``minutes``, and others.
        cache_dir: The folder of the saved models. By default the folder ``gae-augment`` in ``$XDG_CACHE_HOME``, or in
            ``~/.cache`` if the variable is not set.
        seed: The seed of all draws. If the augmenter's ``random_state`` is ``None``, it is the seed of the fits too.

    Attributes:
        advice_: The :class:`gae_augment.evaluation.Advice` with ``synthetic_fraction="auto"``. It is ``None`` before
            the comparison, or if ``synthetic_fraction`` is a number.

    Raises:
        TypeError: If ``data``, ``augmenter`` or ``teacher`` has a wrong type.
        ValueError: If a value is not allowed, or an argument that needs a training set is passed with a data module.

    Example:
        >>> import torch
        >>> from gae_augment import GenerativeModel
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.data import TensorDataset
        >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> training_set = TensorDataset(X, torch.tensor([0] * 40 + [1] * 20))
        >>> model = GenerativeModel(epochs=2, delta=1.0)
        >>> augmenter = GAEAugmenter(model, progress=False)
        >>> with TemporaryDirectory() as folder:
        ...     data = GAEDataModule(training_set, augmenter=augmenter, cache_dir=folder)
        ...     data.prepare_data()  # Trainer.fit(model, datamodule=data) calls this
        ...     data.setup("fit")  # and this
        >>> data.augmented.images_to_add
        {1: 20}
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape
        torch.Size([32, 8, 8])
    """

    def __init__(
        self,
        data: LightningDataModule | Dataset,
        *,
        augmenter: GAEAugmenter | None = None,
        val_set: Dataset | None = None,
        test_set: Dataset | None = None,
        synthetic_fraction: float | Literal["auto"] = 0.5,
        mode: Literal["mix", "fill"] = "mix",
        real_last: float = 0.15,
        balance: float = 1.0,
        num_classes: int | None = None,
        refresh: int = 0,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        motion: float | Literal["auto"] | None = "auto",
        # For a mere Callable, jsonargparse would expect a class whose instances a call returns.
        teacher: nn.Module | Teacher | None = None,
        teacher_weight: float = 0.5,
        batch_size: int | None = None,
        num_workers: int | None = None,
        loader_settings: Mapping[str, Any] | None = None,
        advise_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        loader_arguments = {
            "val_set": val_set,
            "test_set": test_set,
            "batch_size": batch_size,
            "num_workers": num_workers,
            "loader_settings": loader_settings,
        }
        check_data(data, loader_arguments)
        check_loader_settings(loader_settings)
        check_advise_options(advise_options)
        check_arguments(
            augmenter=augmenter,
            mode=mode,
            synthetic_fraction=synthetic_fraction,
            real_last=real_last,
            balance=balance,
            refresh=refresh,
            teacher=teacher,
            teacher_weight=teacher_weight,
            motion=motion,
        )

        super().__init__()
        # Checkpoints must hold plain values only, to be loaded with weights_only=True.
        cache_dir = None if cache_dir is None else os.fspath(cache_dir)
        synthetic_fraction = "auto" if isinstance(synthetic_fraction, str) else float(synthetic_fraction)
        real_last, balance, teacher_weight = float(real_last), float(balance), float(teacher_weight)
        refresh, seed = operator.index(refresh), operator.index(seed)
        motion = motion if motion is None or isinstance(motion, str) else float(motion)
        self.save_hyperparameters(
            ignore=["data", "augmenter", "transform", "teacher", "advise_options", *loader_arguments], logger=False
        )
        self.data, self.synthetic_fraction, self.real_last = data, synthetic_fraction, real_last
        self.balance, self.refresh = balance, refresh
        # Private, so that these common names still reach the attributes of the wrapped module.
        self._teacher, self._teacher_weight = teacher, teacher_weight
        self._mode, self._transform, self._motion, self._seed = mode, transform, motion, seed
        self._num_classes, self._advise_options = num_classes, dict(advise_options or {})
        self._cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.augmenter: GAEAugmenter = clone(GAEAugmenter() if augmenter is None else augmenter)
        random_state = self.augmenter.random_state
        self.augmenter.set_params(random_state=seed if random_state is None else resolve_random_state(random_state))
        self._prepared: tuple[Any, GAEAugmenter] | None = None
        self._augmented: AugmentedDataset | None = None
        self._key: str | None = None
        self.advice_: Advice | None = None
        if isinstance(data, LightningDataModule):
            self.wrap(data)
        else:
            self.batch_size = 32 if batch_size is None else batch_size
            self.num_workers = 0 if num_workers is None else num_workers
            self.loader_settings = dict(loader_settings or {})
            for name, dataset in (("val_dataloader", val_set), ("test_dataloader", test_set)):
                if dataset is not None:
                    setattr(self, name, partial(self._evaluation_loader, dataset))

    @property
    def augmented(self) -> AugmentedDataset:
        r"""The training set with its synthetic images, available after ``setup("fit")``."""
        if self._augmented is None:
            raise RuntimeError(
                "The data module has no synthetic images before 'setup'. Pass it to Trainer.fit, or call "
                "prepare_data() and setup('fit')."
            )
        return self._augmented

    @property
    def augmenter_(self) -> GAEAugmenter:
        r"""The fitted augmenter, available after ``setup("fit")``."""
        return self.augmented.augmenter  # type: ignore[return-value]

    @property
    def log_frequencies(self) -> Tensor:
        r"""The logarithm of each class's frequency in the mode ``"mix"``, with shape :math:`(C,)` as the logits.

        If ``balance`` is below 1, add the logarithms to the logits in training, but not in evaluation.
        """
        return MixedSampler(self.augmented, balance=self.balance, num_classes=self._num_classes).log_frequencies

    def prepare_data(self) -> None:
        r"""Fits the models that are not yet in ``cache_dir``, and saves them there.

        During ``Trainer.validate``, ``Trainer.test`` and ``Trainer.predict``, this method fits no models.

        Raises:
            TypeError, ValueError, RuntimeError: If :meth:`gae_augment.GAEAugmenter.fit` raises one of these, or the
                dataset and the sampler of a wrapped training loader cannot be replaced.
            OSError: If ``cache_dir`` is not writable.
        """
        if self._inner is not None:
            self._inner.prepare_data()
        state = None if self.trainer is None else self.trainer.state
        if state is None or state.fn == "fit" or state.status != "running":
            # Kept for 'setup' in this process, so that the wrapped module is set up once and images are read once.
            self._prepared = self._fit()

    def setup(self, stage: str) -> None:
        r"""Loads the fitted models and draws the synthetic images, if the stage is ``"fit"``.

        In other stages, this method only sets up the wrapped data module, if there is one.

        Raises:
            TypeError, ValueError, RuntimeError, OSError: For the reasons given in ``prepare_data``.

        Warns:
            UserWarning: If this process has to fit models that are not in ``cache_dir``.
            RuntimeWarning, ConvergenceWarning: If :meth:`gae_augment.GAEAugmenter.fit` warns; on the first rank only.
        """
        if stage != "fit":
            if self._inner is not None:
                self._inner.setup(stage)
            return
        with warnings.catch_warnings():
            if self.trainer is not None and self.trainer.global_rank:
                # The first rank already warns about these fits.
                warnings.filterwarnings("ignore", category=ConvergenceWarning)
                warnings.filterwarnings("ignore", "The fit failed for", RuntimeWarning)
            training_set, fitted = self._prepared or self._fit(self._warn_of_missing)
        self._prepared = None
        augmented = fitted.augment(training_set, transform=self._transform)
        augmented.motion, reason = choose_motion(fitted, augmented, self._motion, self.advice_)
        rank_zero_info(reason)
        if self._teacher is not None:
            augmented.with_soft_labels(self._teacher, self._teacher_weight)
        self._key, self._augmented = fitted.cache_key_, augmented

    def train_dataloader(self) -> DataLoader:
        r"""Returns the training loader, which draws real and synthetic images.

        Raises:
            RuntimeError: If ``setup("fit")`` has not been called.
            TypeError, ValueError: If the dataset and the sampler of a wrapped training loader cannot be replaced.
            ValueError: If shared memory is too small to pass fresh images to worker processes.
        """
        augmented = self.augmented
        loader = None if self._inner is None else check_loader(self._inner.train_dataloader())
        workers = self.num_workers if loader is None else loader.num_workers
        if self.refresh and workers and not augmented.shares_images:
            raise ValueError(
                f"The shared memory of this machine, /dev/shm, is too small for the fresh images of "
                f"{len(augmented.targets)} items, which workers see there. Give the augmenter a 'cache_dir', enlarge "
                f"/dev/shm (docker run --shm-size), or set num_workers=0 or refresh=0."
            )
        epochs, epoch, rank = None, 0, 0
        ranks: dict[str, int] = {}
        if self.trainer is not None:
            epochs = self.trainer.max_epochs
            # Not current_epoch, which lags by one when a run is resumed from the end of an epoch.
            epoch = self.trainer.fit_loop.epoch_progress.current.processed
            rank = self.trainer.global_rank
            # Our samplers share the indices with use_distributed_sampler on or off. Lightning does not do so again.
            ranks = self.trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        sampler: MixedSampler | ShuffledSampler | RefreshingSampler
        if self._mode == "mix":
            sampler = MixedSampler(
                augmented,
                self._fraction(),
                # Lightning's -1 means no end.
                epochs=epochs if epochs and epochs > 0 else None,
                real_last=self.real_last,
                balance=self.balance,
                num_samples=None if loader is None else draws_per_epoch(loader),
                seed=self._seed,
                **ranks,
            )
        else:
            sampler = ShuffledSampler(len(augmented), self._seed, **ranks)
        if self.refresh:
            sampler = RefreshingSampler(sampler, augmented, self.refresh, **ranks)
        sampler.set_epoch(epoch)
        if loader is not None:
            return rebuild_loader(loader, augmented, sampler)
        return DataLoader(
            augmented,
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            # Without a generator, the loader would draw its workers' seed from PyTorch's global generator.
            generator=make_generator(self._seed, "train loader", epoch, rank),
            **self.loader_settings,
        )

    def _evaluation_loader(self, dataset: Dataset) -> DataLoader:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            generator=make_generator(self._seed, "evaluation loader"),
            **{**self.loader_settings, "drop_last": False},
        )

    def state_dict(self) -> dict[str, Any]:
        r"""Returns the state for a checkpoint.

        The state identifies the fitted models, and includes the state of the wrapped data module if there is one.
        """
        state: dict[str, Any] = {} if self._key is None else {"key": self._key}
        if self._inner is not None and (inner := self._inner.state_dict()):
            state["data"] = inner
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores the state of the wrapped data module, if there is one.

        Warns:
            UserWarning: If the state comes from a run with other fitted models.
        """
        if self._key is not None and state_dict.get("key", self._key) != self._key:
            warnings.warn(
                "The resumed run had models of another training set or with other hyper-parameters, and continues with "
                "different synthetic images. Resume with the same data, augmenter and seed, and with a seeded split.",
                stacklevel=2,
            )
        if self._inner is not None and "data" in state_dict:
            self._inner.load_state_dict(state_dict["data"])

    def _fraction(self) -> float:
        if not isinstance(self.synthetic_fraction, str):
            return self.synthetic_fraction
        assert self.advice_ is not None
        return 0.5 if self.advice_.use and self.advice_.ours == "synthetic images" else 0.0

    def _fit(self, on_miss: Callable[[list[Label]], None] | None = None) -> tuple[Any, GAEAugmenter]:
        if self._inner is None:
            training_set: Any = self.data
        else:
            self._inner.setup("fit")
            training_set = check_loader(self._inner.train_dataloader()).dataset
        if self.synthetic_fraction == AUTO:
            check_can_advise(training_set)
        # Failed fits are saved too, so that all ranks have the same classes.
        cache = FitCache(self._cache_dir, keep_failures=True, on_miss=on_miss, name="cache_dir")
        fitted: GAEAugmenter = clone(self.augmenter).fit(training_set, checkpoint_dir=cache)
        if self.synthetic_fraction == AUTO:
            minutes = self._advise_options.get("minutes", 5)
            rank_zero_info(f"Comparing ways of training takes about {minutes:g} minutes. Later runs read the results.")
            self.advice_ = advice_for(
                fitted,
                AugmentedDataset(training_set, fitted, transform=self._transform, images_to_add={}),
                training_set,
                self._advise_options,
                balance=self.balance,
                cache_dir=self._cache_dir,
                seed=self._seed,
                progress=rank_zero_info,
            )
            for warning in self.advice_.warnings:
                rank_zero_info(warning)
        return training_set, fitted

    def _warn_of_missing(self, labels: list[Label]) -> None:
        warnings.warn(
            f"The models of classes {labels} are not in {str(self._cache_dir)!r}, so this process fits them now. "
            f"Either prepare_data() has not run, or it wrote to a folder that this machine does not see, or the "
            f"training set was different there, as after an unseeded split. Split with "
            f"random_split(…, generator=torch.Generator().manual_seed(0)).",
            stacklevel=2,
        )
