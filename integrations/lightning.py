r"""Synthetic images for scarce classes inside Lightning: a data module around a training set or another data module."""

__all__ = ["GAEDataModule"]

import operator
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gae_augment import AugmentedDataset, GAEAugmenter, MixedSampler
from gae_augment._utils.seeding import make_generator, resolve_random_state
from gae_augment.data import Label
from gae_augment.evaluation import FractionChoice
from gae_augment.fitting import FitCache, default_cache_dir
from gae_augment.mixing import Teacher, check_teacher, check_weight

from .fraction import AUTO, choose_fraction
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

MODES = ("mix", "fill")

OWN_SETTINGS = {"dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "generator"}


class GAEDataModule(WrappingDataModule):
    r"""Adds synthetic images of the scarce classes to the training batches of a data module or a training set.

    The generators are fitted in ``prepare_data``, by one process, into a file that is named after the training set
    and the augmenter's parameters, and ``setup`` loads it: a second run, a resumed run and the other ranks do not fit
    again. Only training batches change; the loaders for validation, test and prediction are the wrapped module's own.
    Of several ranks each trains on a share of one plan, with the trainer's ``use_distributed_sampler`` and without.

    Other attributes are those of the wrapped module. Hyperparameters go to checkpoints, and not to loggers, where they
    would clash with the model's own of the same name.

    Args:
        data: A data module, or a map-style training set. Of the data module's training loader all settings are kept,
            and dataset and sampler are replaced.
        augmenter: What makes the images. It is copied, without what it was fitted to, and stays as it is. One without
            ``random_state`` gets ``seed``, because a random seed would find no file. ``GAEAugmenter()`` by default.
        val_set: A set to validate on, beside a training set.
        test_set: A set to test on, beside a training set.
        synthetic_fraction: For ``"mix"``, as in :class:`gae_augment.MixedSampler`. ``"auto"`` chooses it on held-out
            images of the training set, with a small classifier, and uses none if none is surely of use
            (:func:`gae_augment.evaluation.choose_synthetic_fraction`). The generators are fitted six times for that,
            once; ``fraction_choice_`` tells what was chosen and why.
        mode: ``"mix"`` draws class-balanced batches with a :class:`gae_augment.MixedSampler`; ``"fill"`` goes through
            all real and all synthetic images once an epoch, in random order.
        real_last: For ``"mix"``, the part of the trainer's ``max_epochs`` at the end that is drawn from real images
            only.
        balance: For ``"mix"``, how much alike all classes are drawn, as in :class:`gae_augment.MixedSampler`. Below 1
            the loss is to make up for the rest: add :attr:`log_frequencies` to the logits in training.
        refresh: After how many epochs there are fresh synthetic images, the same ones for the same seed and epoch. 0
            keeps the first ones. Drawing them takes time, and a GPU's where the augmenter's ``device`` is one. Workers
            of the loader see them in shared memory, or in a file of the augmenter's ``cache_dir``.
        transform: What all training images are put through in place of the training set's own transforms.
        teacher: A classifier, trained on the real images alone, that has a say in the labels of synthetic ones. Labels
            in training batches are then probabilities (:meth:`gae_augment.AugmentedDataset.with_soft_labels`), which
            ``torch.nn.functional.cross_entropy`` without class weights takes as they are.
        teacher_weight: The teacher's say, in [0, 1].
        batch_size: The images in a batch, beside a training set; 32 by default.
        num_workers: The worker processes of each loader, beside a training set; 0 by default.
        loader_settings: More arguments of the DataLoaders, such as ``pin_memory``, beside a training set.
        cache_dir: The folder of the files, which may be emptied at any time. By default ``gae-augment`` in
            ``$XDG_CACHE_HOME`` or ``~/.cache``.
        seed: The seed of all draws, and of an augmenter that has none.

    Raises:
        TypeError: If ``data`` or ``augmenter`` is something else.
        ValueError: If a number is out of its range, or settings of the loaders are passed beside a data module.

    Example:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.data import TensorDataset
        >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> training_set = TensorDataset(X, torch.tensor([0] * 40 + [1] * 20))
        >>> augmenter = GAEAugmenter(epochs=2, delta=1.0, progress=False)
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
        # Of a callable alone jsonargparse would make what the callable returns.
        teacher: nn.Module | Teacher | None = None,
        teacher_weight: float = 0.5,
        batch_size: int | None = None,
        num_workers: int | None = None,
        loader_settings: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        own = {
            "val_set": val_set,
            "test_set": test_set,
            "batch_size": batch_size,
            "num_workers": num_workers,
            "loader_settings": loader_settings,
        }
        wrapped = data if isinstance(data, LightningDataModule) else None
        for name in own if wrapped is not None else ():
            if own[name] is not None:
                raise ValueError(
                    f"A data module brings its own sets and loaders, and {name!r} was passed beside one: "
                    f"{own[name]!r}. Set it in the {type(data).__name__}, or pass a training set in its place."
                )
        arrays = Tensor | np.ndarray | list | tuple
        if wrapped is None and (isinstance(data, IterableDataset | arrays) or not hasattr(data, "__getitem__")):
            raise TypeError(
                f"'data' is a LightningDataModule of lightning.pytorch or a map-style training set, and it is a "
                f"{type(data).__name__}. Pass the 'dataset' of a DataLoader, and arrays as "
                f"TensorDataset(torch.as_tensor(X), torch.as_tensor(y))."
            )
        if augmenter is not None and not isinstance(augmenter, GAEAugmenter):
            raise TypeError(f"'augmenter' is a GAEAugmenter, and it is a {type(augmenter).__name__}.")
        if taken := OWN_SETTINGS.intersection(loader_settings or ()):
            raise ValueError(
                f"'loader_settings' holds what else the DataLoaders are told, and {sorted(taken)} is not for it. "
                f"Batch size and workers are arguments of their own; 'mode' says how images are drawn."
            )
        if mode not in MODES:
            raise ValueError(f"'mode' is one of {', '.join(map(repr, MODES))}, and it is {mode!r}.")
        if isinstance(refresh, bool) or not isinstance(refresh, int | np.integer) or refresh < 0:
            raise ValueError(
                f"'refresh' is a number of epochs, 1 for fresh images in each and 0 for none, and it is {refresh!r}."
            )
        if teacher is not None:
            check_teacher(teacher)
        check_weight(teacher_weight, "teacher_weight")
        # The sampler's own checks, now and not after a long fit.
        pair = SimpleNamespace(targets=[0], is_synthetic=[False])
        chosen = synthetic_fraction == AUTO
        if chosen and mode != "mix":
            raise ValueError(
                f"synthetic_fraction='auto' is for mode='mix', and the mode is {mode!r}, in which every image comes "
                f"once. Leave the mode out."
            )
        if isinstance(synthetic_fraction, str) and not chosen:
            raise ValueError(
                f"'synthetic_fraction' is a part between 0 and 1, or 'auto', and it is {synthetic_fraction!r}."
            )
        fixed = 0.5 if isinstance(synthetic_fraction, str) else synthetic_fraction
        MixedSampler(pair, fixed, real_last=real_last, balance=balance)

        super().__init__()
        # As plain values, because a checkpoint that holds others cannot be loaded with weights_only=True.
        cache_dir = None if cache_dir is None else os.fspath(cache_dir)
        synthetic_fraction = "auto" if chosen else float(fixed)
        real_last, seed, balance = float(real_last), operator.index(seed), float(balance)
        refresh = operator.index(refresh)
        teacher_weight = float(teacher_weight)
        self.save_hyperparameters(ignore=["data", "augmenter", "transform", "teacher", *own], logger=False)
        self.data, self.synthetic_fraction, self.real_last = data, synthetic_fraction, real_last
        self.balance, self.refresh = balance, refresh
        # Under common names user code finds the wrapped module's own.
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
        if wrapped is not None:
            self.wrap(wrapped)
        else:
            self.batch_size = 32 if batch_size is None else batch_size
            self.num_workers = 0 if num_workers is None else num_workers
            self.loader_settings = dict(loader_settings or {})
            for name, dataset in (("val_dataloader", val_set), ("test_dataloader", test_set)):
                if dataset is not None:
                    setattr(self, name, partial(self._evaluation_loader, dataset))

    @property
    def augmented(self) -> AugmentedDataset:
        r"""The training set with its synthetic images, which ``setup`` makes."""
        if self._augmented is None:
            raise RuntimeError(
                "The training set gets its synthetic images in 'setup', which has not run. Pass the data module to "
                "Trainer.fit, or call prepare_data() and setup('fit')."
            )
        return self._augmented

    @property
    def augmenter_(self) -> GAEAugmenter:
        r"""The fitted augmenter, which ``setup`` loads."""
        return self.augmented.augmenter  # type: ignore[return-value]

    @property
    def log_frequencies(self) -> Tensor:
        r"""The logarithm of the classes' frequencies in batches, for the loss: those of :class:`MixedSampler`."""
        return MixedSampler(self.augmented, balance=self.balance).log_frequencies

    def prepare_data(self) -> None:
        r"""Fits the generators into a file, unless it is there; Lightning calls this in one process.

        Only training needs them: within ``Trainer.validate``, ``test`` and ``predict`` nothing is fitted.

        Raises:
            TypeError, ValueError, RuntimeError: As :meth:`gae_augment.GAEAugmenter.fit`, and for a training loader
                whose dataset and sampler cannot be replaced.
            OSError: If the folder of the files cannot be written to.
        """
        if self._inner is not None:
            self._inner.prepare_data()
        state = None if self.trainer is None else self.trainer.state
        if state is None or state.fn == "fit" or state.status != "running":
            training_set = self._load_training_set()
            fitted = self._fit(training_set)
            self._choose_fraction(fitted, training_set)
            # For 'setup', which must neither set up the wrapped module a second time nor read all images again.
            self._prepared = training_set, fitted

    def setup(self, stage: str) -> None:
        r"""Loads the fitted generators and makes the synthetic images, if the stage is ``"fit"``.

        Raises:
            TypeError, ValueError, RuntimeError, OSError: As :meth:`prepare_data`.

        Warns:
            UserWarning: If there are no generators for this training set, so that they have to be fitted here, or
                none of some classes, as their fit failed.
        """
        if stage != "fit":
            if self._inner is not None:
                self._inner.setup(stage)
            return
        training_set, fitted = self._prepared or (self._load_training_set(), None)
        self._prepared = None
        if fitted is None:
            fitted = self._fit(training_set, self._warn_of_missing)
        self._choose_fraction(fitted, training_set)
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
                f"Workers see fresh images in shared memory, and that of this machine, /dev/shm, is too small for "
                f"those of {len(augmented.targets)} items. Give the augmenter a 'cache_dir', enlarge it (docker run "
                f"--shm-size), take num_workers=0, or refresh=0."
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
                # Lightning's -1 is for no end.
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
            # As Lightning does by itself, unless it was told not to: each rank has a share of the one plan.
            sampler = DistributedSamplerWrapper(sampler, shuffle=False, **ranks)
        if loader is not None:
            return rebuild_loader(loader, augmented, sampler)
        return DataLoader(
            augmented,
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            # Without one of its own a loader takes the seed of its workers from the global generator.
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
        r"""Returns which generators were used, and the state of the wrapped module."""
        state: dict[str, Any] = {} if self._key is None else {"key": self._key}
        if self._inner is not None and (inner := self._inner.state_dict()):
            state["data"] = inner
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores the wrapped module's state.

        Warns:
            UserWarning: If the run that is resumed had other generators.
        """
        if self._key is not None and state_dict.get("key", self._key) != self._key:
            warnings.warn(
                "The run that is resumed had generators of another training set or with other parameters, and goes on "
                "with new synthetic images. Resume with the same data, augmenter and seed, and with a seeded split.",
                stacklevel=2,
            )
        if self._inner is not None and "data" in state_dict:
            self._inner.load_state_dict(state_dict["data"])

    def _fraction(self) -> float:
        if isinstance(self.synthetic_fraction, str):
            assert self.fraction_choice_ is not None
            return self.fraction_choice_.fraction
        return self.synthetic_fraction

    def _fit(self, training_set: Any, on_miss: Callable[[list[Label]], None] | None = None) -> GAEAugmenter:
        # Failures are kept, so that all ranks have the same classes.
        cache = FitCache(self._cache_dir, keep_failures=True, on_miss=on_miss, name="cache_dir")
        fitted: GAEAugmenter = clone(self.augmenter)
        return fitted.fit(training_set, checkpoint_dir=cache)

    def _warn_of_missing(self, labels: list[Label]) -> None:
        warnings.warn(
            f"The models of classes {labels} are not in {str(self._cache_dir)!r}, so each process fits them now. Either "
            f"prepare_data() has not run, or it wrote to a folder that this machine does not see, or the training set "
            f"was different there, as after an unseeded split. Split with "
            f"random_split(…, generator=torch.Generator().manual_seed(0)).",
            stacklevel=2,
        )

    def _choose_fraction(self, fitted: GAEAugmenter, training_set: Any) -> None:
        if self.synthetic_fraction == AUTO:
            self.fraction_choice_ = choose_fraction(fitted, training_set, self._cache_dir, self._seed)

    def _load_training_set(self) -> Any:
        if self._inner is None:
            return self.data
        self._inner.setup("fit")
        return check_loader(self._inner.train_dataloader()).dataset
