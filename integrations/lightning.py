r"""Synthetic images for scarce classes inside Lightning: a data module around a training set or another data module."""

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
from gae_augment.evaluation import FractionChoice
from gae_augment.fitting import FitCache, default_cache_dir
from gae_augment.mixing import Teacher

from .arguments import AUTO, check_arguments, check_data, check_loader_settings
from .fraction import choose_fraction
from .loaders import RefreshingSampler, ShuffledSampler, check_loader, rebuild_loader
from .wrapping import WrappingDataModule

try:
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.utilities import rank_zero_info
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.lightning needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error


class GAEDataModule(WrappingDataModule):
    r"""Adds synthetic images of the scarce classes to the training batches of a data module or a training set.

    ``prepare_data`` fits the models in one process and keeps each class in ``cache_dir``, under a hash of its images
    and hyper-parameters. ``setup`` loads them there. A second run, a resumed run and the other ranks train nothing;
    after a change, only the classes that it affects are trained. Failures are saved too, so that all ranks have the
    same classes; a warning names the file to remove for another attempt.

    Only training batches change: the loaders for validation, test and prediction are the wrapped module's, and so are
    all other attributes. With several ranks, each trains on its share of one common plan, whatever the trainer's
    ``use_distributed_sampler`` is. Hyper-parameters go to checkpoints, but not to loggers, where they could clash with
    those of the model.

    Args:
        data: A data module, or a map-style training set. The training loader of a data module keeps all its settings
            except dataset and sampler.
        augmenter: The augmenter; an unfitted copy of it is fitted. Without a ``random_state`` it gets ``seed``, because
            runs with random seeds cannot reuse each other's models. ``GAEAugmenter()`` by default.
        val_set: The validation set, if ``data`` is a training set.
        test_set: The test set, if ``data`` is a training set.
        synthetic_fraction: For ``"mix"``, the fraction of synthetic images, as in :class:`gae_augment.MixedSampler`.
            ``"auto"`` chooses it with a small classifier on held-out training images, and chooses 0 if no fraction is
            significantly better (:func:`gae_augment.evaluation.choose_synthetic_fraction`). This fits the models five
            more times, once per training set; ``fraction_choice_`` has the result and the reason.
        mode: ``"mix"`` draws class-balanced batches with a :class:`gae_augment.MixedSampler`. ``"fill"`` draws every
            real and every synthetic image once per epoch, in random order.
        real_last: For ``"mix"``, the fraction of the trainer's ``max_epochs``, at the end, that uses real images only.
        balance: For ``"mix"``, how far class frequencies are equalised, as in :class:`gae_augment.MixedSampler`. Below
            1 the loss should correct the rest: add :attr:`log_frequencies` to the logits in training.
        refresh: The number of epochs between fresh synthetic images; the same seed and epoch give the same images. 0
            keeps the first ones. Drawing takes time, on the augmenter's ``device``. Workers of the loader see the
            images in shared memory, or in a file in the augmenter's ``cache_dir``.
        transform: A transform of all training images that replaces the training set's transforms.
        teacher: A classifier, trained on the real images, whose predictions are mixed into the labels of synthetic
            ones. Labels in training batches are then probabilities
            (:meth:`gae_augment.AugmentedDataset.with_soft_labels`), as ``torch.nn.functional.cross_entropy`` without
            class weights accepts them.
        teacher_weight: The weight of the teacher's predictions, in [0, 1].
        batch_size: The number of images in a batch, if ``data`` is a training set; 32 by default.
        num_workers: The number of worker processes of each loader, if ``data`` is a training set; 0 by default.
        loader_settings: More arguments of the DataLoaders, such as ``pin_memory``, if ``data`` is a training set.
        cache_dir: The folder of the fitted classes, which may be emptied while no fit runs. By default ``gae-augment``
            in ``$XDG_CACHE_HOME`` or ``~/.cache``.
        seed: The seed of all draws, and of an augmenter without a seed.

    Raises:
        TypeError: If ``data`` or ``augmenter`` has another type.
        ValueError: If a value is not allowed, or settings of the loaders are passed with a data module.

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
        refresh: int = 0,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        # For a mere Callable, jsonargparse would expect a class whose instances a call returns.
        teacher: nn.Module | Teacher | None = None,
        teacher_weight: float = 0.5,
        batch_size: int | None = None,
        num_workers: int | None = None,
        loader_settings: Mapping[str, Any] | None = None,
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
        check_arguments(
            augmenter=augmenter,
            mode=mode,
            synthetic_fraction=synthetic_fraction,
            real_last=real_last,
            balance=balance,
            refresh=refresh,
            teacher=teacher,
            teacher_weight=teacher_weight,
        )

        super().__init__()
        # Checkpoints must hold plain values only, to be loaded with weights_only=True.
        cache_dir = None if cache_dir is None else os.fspath(cache_dir)
        synthetic_fraction = "auto" if isinstance(synthetic_fraction, str) else float(synthetic_fraction)
        real_last, balance, teacher_weight = float(real_last), float(balance), float(teacher_weight)
        refresh, seed = operator.index(refresh), operator.index(seed)
        self.save_hyperparameters(ignore=["data", "augmenter", "transform", "teacher", *loader_arguments], logger=False)
        self.data, self.synthetic_fraction, self.real_last = data, synthetic_fraction, real_last
        self.balance, self.refresh = balance, refresh
        # Private, so that these common names still reach the attributes of the wrapped module.
        self._teacher, self._teacher_weight = teacher, teacher_weight
        self._mode, self._transform, self._seed = mode, transform, seed
        self._cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.augmenter: GAEAugmenter = clone(GAEAugmenter() if augmenter is None else augmenter)
        random_state = self.augmenter.random_state
        self.augmenter.set_params(random_state=seed if random_state is None else resolve_random_state(random_state))
        self._prepared: tuple[Any, GAEAugmenter] | None = None
        self._augmented: AugmentedDataset | None = None
        self._key: str | None = None
        self.fraction_choice_: FractionChoice | None = None
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
        r"""The training set with its synthetic images, from ``setup``."""
        if self._augmented is None:
            raise RuntimeError(
                "The data module has no synthetic images before 'setup'. Pass it to Trainer.fit, or call "
                "prepare_data() and setup('fit')."
            )
        return self._augmented

    @property
    def augmenter_(self) -> GAEAugmenter:
        r"""The fitted augmenter, from ``setup``."""
        return self.augmented.augmenter  # type: ignore[return-value]

    @property
    def log_frequencies(self) -> Tensor:
        r"""The logarithms of the class frequencies in batches, for the loss, as in :class:`MixedSampler`."""
        return MixedSampler(self.augmented, balance=self.balance).log_frequencies

    def prepare_data(self) -> None:
        r"""Fits the models that are not in the cache; Lightning calls this in one process.

        ``Trainer.validate``, ``test`` and ``predict`` need no models and fit none.

        Raises:
            TypeError, ValueError, RuntimeError: As :meth:`gae_augment.GAEAugmenter.fit`, and if dataset and sampler of
                the training loader cannot be replaced.
            OSError: If ``cache_dir`` cannot be written to.
        """
        if self._inner is not None:
            self._inner.prepare_data()
        state = None if self.trainer is None else self.trainer.state
        if state is None or state.fn == "fit" or state.status != "running":
            # Kept for 'setup' in this process: the wrapped module is set up once, and images are read once.
            self._prepared = self._fit()

    def setup(self, stage: str) -> None:
        r"""Loads the fitted models and draws the synthetic images, if the stage is ``"fit"``.

        Raises:
            TypeError, ValueError, RuntimeError, OSError: As :meth:`prepare_data`.

        Warns:
            UserWarning: If models are not in the cache, so that this process has to fit them.
            RuntimeWarning, ConvergenceWarning: As :meth:`gae_augment.GAEAugmenter.fit`, on the first rank.
        """
        if stage != "fit":
            if self._inner is not None:
                self._inner.setup(stage)
            return
        with warnings.catch_warnings():
            if self.trainer is not None and self.trainer.global_rank:
                # The first rank warns of the same fits.
                warnings.filterwarnings("ignore", category=ConvergenceWarning)
                warnings.filterwarnings("ignore", "The fit failed for", RuntimeWarning)
            training_set, fitted = self._prepared or self._fit(self._warn_of_missing)
        self._prepared = None
        if self.fraction_choice_ is not None:
            rank_zero_info(self.fraction_choice_.reason)
        augmented = fitted.augment(training_set, transform=self._transform)
        if self._teacher is not None:
            augmented.with_soft_labels(self._teacher, self._teacher_weight)
        self._key, self._augmented = fitted.cache_key_, augmented

    def train_dataloader(self) -> DataLoader:
        r"""Returns the loader of real and synthetic images.

        Raises:
            RuntimeError: Before ``setup``.
            TypeError, ValueError: As :meth:`prepare_data`, and if workers would not see fresh images.
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
        if self.trainer is not None:
            epochs = self.trainer.max_epochs
            # Not current_epoch, which lags by one when a run is resumed from the end of an epoch.
            epoch = self.trainer.fit_loop.epoch_progress.current.processed
            rank = self.trainer.global_rank
        sampler: MixedSampler | ShuffledSampler | RefreshingSampler | DistributedSamplerWrapper
        if self._mode == "mix":
            sampler = MixedSampler(
                augmented,
                self._fraction(),
                # Lightning's -1 means no end.
                epochs=epochs if epochs and epochs > 0 else None,
                real_last=self.real_last,
                balance=self.balance,
                num_samples=None if loader is None else len(loader.sampler),  # type: ignore[arg-type]
                seed=self._seed,
            )
        else:
            sampler = ShuffledSampler(len(augmented), self._seed)
        if self.refresh:
            sampler = RefreshingSampler(sampler, augmented, self.refresh)
        sampler.set_epoch(epoch)
        if self.trainer is not None and (ranks := self.trainer.distributed_sampler_kwargs):
            # Lightning would do the same, but not with use_distributed_sampler=False: each rank gets its share.
            sampler = DistributedSamplerWrapper(sampler, shuffle=False, **ranks)
        if loader is not None:
            return rebuild_loader(loader, augmented, sampler)
        return DataLoader(
            augmented,
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            # Without a generator, the loader would draw the seed of its workers from the global one.
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
        r"""Returns the key of the fitted models and the state of the wrapped module."""
        state: dict[str, Any] = {} if self._key is None else {"key": self._key}
        if self._inner is not None and (inner := self._inner.state_dict()):
            state["data"] = inner
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores the wrapped module's state.

        Warns:
            UserWarning: If the resumed run had other models.
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
        if isinstance(self.synthetic_fraction, str):
            assert self.fraction_choice_ is not None
            return self.fraction_choice_.fraction
        return self.synthetic_fraction

    def _fit(self, on_miss: Callable[[list[Label]], None] | None = None) -> tuple[Any, GAEAugmenter]:
        if self._inner is None:
            training_set: Any = self.data
        else:
            self._inner.setup("fit")
            training_set = check_loader(self._inner.train_dataloader()).dataset
        # Failures are kept, so that all ranks have the same classes.
        cache = FitCache(self._cache_dir, keep_failures=True, on_miss=on_miss, name="cache_dir")
        fitted: GAEAugmenter = clone(self.augmenter).fit(training_set, checkpoint_dir=cache)
        if self.synthetic_fraction == AUTO:
            self.fraction_choice_ = choose_fraction(fitted, training_set, self._cache_dir, self._seed)
        return training_set, fitted

    def _warn_of_missing(self, labels: list[Label]) -> None:
        warnings.warn(
            f"The models of classes {labels} are not in {str(self._cache_dir)!r}, so this process fits them now. "
            f"Either prepare_data() has not run, or it wrote to a folder that this machine does not see, or the "
            f"training set was different there, as after an unseeded split. Split with "
            f"random_split(…, generator=torch.Generator().manual_seed(0)).",
            stacklevel=2,
        )
