import importlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    random_split,
)

from gae_augment import GAEAugmenter, GenerativeModel, MixedSampler

pytest.importorskip("lightning")

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities.model_helpers import is_overridden

from gae_augment import AugmentedDataset
from gae_augment.evaluation import choose_synthetic_fraction
from gae_augment.fitting.generator import Generator
from gae_augment.integrations.cache import AugmenterCache, cache_key
from gae_augment.integrations.lightning import GAEDataModule
from gae_augment.models.objectives import ModelDefinition, Reconstruction

pytestmark = [
    # Lightning's advice on speed; the tests are small on purpose.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Lightning 2.6 uses what torch 2.14 wants named otherwise.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning"),
]

COUNTS = {0: 40, 1: 20, 2: 10}


class Digits(Dataset):
    """Long-tailed digits, whose images hold their own position, so that a batch tells where it comes from."""

    def __init__(self, part=0, transform=None, counts=COUNTS):
        digits = load_digits()
        chosen = [np.flatnonzero(digits.target == label)[part::2][:n] for label, n in counts.items()]
        self.images = torch.tensor(digits.images[np.concatenate(chosen)] / 16, dtype=torch.float32)[:, None]
        self.targets = np.repeat(list(counts), list(counts.values())).tolist()
        self.transform = transform

    def __getitem__(self, index):
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def __len__(self):
        return len(self.targets)


class Unreadable(Digits):
    def __getitem__(self, index):
        raise AssertionError("The data were read.")

    __len__ = __getitem__


class Classifier(LightningModule):
    """Keeps the batches that it was given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.trained, self.validated = [], []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.trained.append((self.current_epoch, images.clone(), labels.clone()))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch)

    def test_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def epoch(self, number):
        images, labels = zip(*[(i, y) for epoch, i, y in self.trained if epoch == number], strict=True)
        return torch.cat(images), torch.cat(labels)


class Recording(LightningDataModule):
    """Keeps the names of the hooks that were called."""

    def __init__(self, **settings):
        super().__init__()
        self.calls = []
        self.settings = {"batch_size": 8, "shuffle": True} | settings
        self.num_classes = 3
        self.prepare_data_per_node = False

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append("setup fit" if stage == "fit" else "setup other")
        self.train_set, self.val_set = Digits(0), Digits(1)

    def train_dataloader(self):
        return DataLoader(self.train_set, **self.settings)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=16)

    def test_dataloader(self):
        return DataLoader(self.val_set, batch_size=16)

    def teardown(self, stage):
        self.calls.append("teardown fit" if stage == "fit" else "teardown other")

    def on_exception(self, exception):
        self.calls.append(f"on_exception {type(exception).__name__}")

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.calls.append(f"on_before_batch_transfer {self.trainer.global_rank}")
        return batch

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self.calls.append("transfer_batch_to_device")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.calls.append("on_after_batch_transfer")
        return batch

    def state_dict(self):
        return {"calls": len(self.calls)}

    def load_state_dict(self, state_dict):
        self.calls.append(f"load_state_dict {sorted(state_dict)}")


@pytest.fixture
def augmenter():
    return GAEAugmenter(GenerativeModel(epochs=1, delta=100.0, latent_dim=2), device="cpu", progress=False)


@pytest.fixture
def fits(monkeypatch):
    """One entry for each fit."""
    entries = []
    fit = GAEAugmenter.fit
    monkeypatch.setattr(
        GAEAugmenter, "fit", lambda self, *args, **options: (entries.append(self), fit(self, *args, **options))[1]
    )
    return entries


@pytest.fixture
def make(augmenter, tmp_path):
    """Returns a data module with a cache of this test's own."""

    def make(data=None, **parameters):
        parameters = {"augmenter": augmenter, "cache_dir": tmp_path / "cache"} | parameters
        return GAEDataModule(Digits() if data is None else data, **parameters)

    return make


class Linear(torch.nn.Sequential):
    def __init__(self, pixels):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(pixels, 10))


def ready(module):
    module.prepare_data()
    module.setup("fit")
    return module


def make_trainer(max_epochs=2, **parameters):
    defaults = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=max_epochs, **defaults | {"enable_checkpointing": False} | parameters)


def test_fill_trains_on_every_image_once(make):
    model, module = Classifier(), make(mode="fill", val_set=Digits(1))
    make_trainer().fit(model, datamodule=module)
    assert Counter(model.epoch(0)[1].tolist()) == {0: 40, 1: 40, 2: 40}
    both = [model.epoch(epoch)[0].flatten(1).sort(dim=0).values for epoch in (0, 1)]
    torch.testing.assert_close(*both)
    assert not torch.equal(model.epoch(0)[1], model.epoch(1)[1])


@pytest.mark.parametrize("balance", [1.0, 0.5, 0.0])
def test_mix_trains_on_the_samplers_draw(make, balance):
    settings = {"real_last": 0.5, "seed": 3, "balance": balance}
    model, module = Classifier(), make(val_set=Digits(1), synthetic_fraction=0.7, **settings)
    make_trainer().fit(model, datamodule=module)
    assert module.augmenter_.seed_ == 3
    sampler = MixedSampler(module.augmented, 0.7, epochs=2, **settings)
    assert torch.equal(module.log_frequencies, sampler.log_frequencies)
    for epoch in (0, 1):
        indices = sampler.draw(epoch)
        expected = torch.stack([module.augmented[index][0] for index in indices.tolist()])
        torch.testing.assert_close(model.epoch(epoch)[0], expected)
        assert module.augmented.is_synthetic[indices.numpy()].any() == (epoch == 0)


def test_fraction_is_chosen_once_and_drawn_with(make, fits, tmp_path, monkeypatch):
    monkeypatch.setattr("gae_augment.integrations.fraction.STEPS", 4)
    module = make(synthetic_fraction="auto", seed=3, val_set=Digits(1))
    make_trainer(1).fit(Classifier(), datamodule=module)
    choice = module.fraction_choice_
    # For the images themselves, and for each of five splits.
    assert len(fits) == 6
    assert module.hparams["synthetic_fraction"] == "auto"
    assert module.train_dataloader().sampler.synthetic_fraction == choice.fraction in (0, 0.25, 0.5)
    images, labels = Digits().images, torch.tensor(Digits().targets)

    def synthesise(real, seed):
        X, y = clone(module.augmenter).set_params(random_state=seed).fit_resample(*real)
        return X[len(real[1]) :], y[len(real[1]) :]

    expected = choose_synthetic_fraction((images, labels), synthesise, seed=3, epochs=4)
    assert choice == expected

    fits.clear()
    again = ready(make(synthetic_fraction="auto", seed=3))
    assert again.fraction_choice_ == choice
    assert not fits
    (path,) = (tmp_path / "cache").glob("*-fraction-3.safetensors")
    path.write_bytes(b"damaged")
    assert ready(make(synthetic_fraction="auto", seed=3)).fraction_choice_ == choice
    assert len(fits) == 5


def test_fraction_is_not_chosen_for_what_no_classifier_sees(make):
    vectors = torch.utils.data.TensorDataset(torch.randn(30, 4), torch.tensor([0] * 20 + [1] * 10))
    with pytest.raises(ValueError, match=r"synthetic_fraction='auto' tries .* shape \(N, C, H, W\)"):
        make(vectors, synthetic_fraction="auto").prepare_data()


def test_teacher_labels_what_is_trained_on(make):
    teacher = Linear(64).requires_grad_(False)
    model, module = Classifier(), make(teacher=teacher, teacher_weight=0.3, real_last=0.0, val_set=Digits(1))
    make_trainer().fit(model, datamodule=module)
    images, labels = model.epoch(0)
    rows = {
        tuple(image.flatten().tolist()): label for image, label in zip(Digits().images, Digits().targets, strict=True)
    }
    own = [rows.get(tuple(image.flatten().tolist())) for image in images]
    synthetic = torch.tensor([label is None for label in own])
    assert 5 < synthetic.sum() < 65
    real = torch.nn.functional.one_hot(torch.tensor([label for label in own if label is not None]), 10)
    torch.testing.assert_close(labels[~synthetic], real.float())
    # All but the label itself is the teacher's.
    told = 0.3 * teacher(images[synthetic]).softmax(dim=1)
    difference = labels[synthetic] - told
    torch.testing.assert_close(difference.max(dim=1).values, torch.full((len(told),), 0.7))
    torch.testing.assert_close(difference.sum(dim=1), torch.full((len(told),), 0.7))
    assert set(difference.argmax(dim=1).tolist()) == {1, 2}


def test_transforms_are_the_users(make):
    module = ready(make(Digits(transform=torch.neg)))
    images, _ = next(iter(module.train_dataloader()))
    assert images.min() < 0
    assert images.max() <= 0
    images, _ = next(iter(ready(make(Digits(transform=torch.neg), transform=None)).train_dataloader()))
    assert images.min() >= 0


def test_fits_once_over_two_runs_and_a_resumed_one(make, fits, tmp_path):
    for _ in range(2):
        trainer = make_trainer()
        trainer.fit(Classifier(), datamodule=make(Recording()))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    make_trainer(max_epochs=3).fit(Classifier(), datamodule=make(Recording()), ckpt_path=tmp_path / "end.ckpt")
    assert len(fits) == 1


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # The resumed run saves nothing.
@pytest.mark.parametrize("saved", ["after training", "after validation"])
@pytest.mark.parametrize("settings", [{}, {"mode": "fill"}, {"num_workers": 1}, {"refresh": 1}], ids=str)
def test_resumed_run_goes_on_as_an_undisturbed_one(make, tmp_path, settings, saved):
    settings = {"val_set": Digits(1), "real_last": 0.3, **settings}
    undisturbed, resumed = Classifier(), Classifier()
    saving = ModelCheckpoint(
        tmp_path / "runs", filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=saved == "after training"
    )
    make_trainer(3, callbacks=[saving], enable_checkpointing=True).fit(undisturbed, datamodule=make(**settings))
    make_trainer(3).fit(resumed, datamodule=make(**settings), ckpt_path=tmp_path / "runs" / "epoch=0.ckpt")
    assert {epoch for epoch, *_ in resumed.trained} == {1, 2}
    for epoch in (1, 2):
        for ours, theirs in zip(resumed.epoch(epoch), undisturbed.epoch(epoch), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(resumed.layer.weight, undisturbed.layer.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_workers": 2, "loader_settings": {"persistent_workers": True}}, {"teacher": Linear(64)}],
    ids=["in this process", "in workers that stay", "with soft labels"],
)
def test_images_are_fresh_every_so_many_epochs(make, settings):
    model, module = Classifier(), make(mode="fill", refresh=2, val_set=Digits(1), **settings)
    make_trainer(5).fit(model, datamodule=module)
    once, real = ready(make()), {tuple(image.flatten().tolist()) for image in Digits().images}
    drawn = []
    for epoch in range(5):
        images, _ = model.epoch(epoch)
        drawn.append({tuple(image.flatten().tolist()) for image in images} - real)
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3] != drawn[4]
    for epochs, number in ((drawn[0], 0), (drawn[2], 1), (drawn[4], 2)):
        once.augmented.set_epoch(number)
        assert epochs == {tuple(image.flatten().tolist()) for image in once.augmented._synthetic} - real


def test_no_images_are_drawn_for_epochs_of_real_ones(make, monkeypatch):
    module, drawn = make(refresh=1, real_last=0.5, val_set=Digits(1)), []
    draw = AugmentedDataset._draw
    monkeypatch.setattr(AugmentedDataset, "_draw", lambda self, epoch: (drawn.append(epoch), draw(self, epoch))[1])
    make_trainer(4).fit(Classifier(), datamodule=module)
    assert drawn == [0, 1]


def test_workers_that_would_not_see_fresh_images_are_refused(make, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert ready(make(num_workers=1)).train_dataloader().num_workers == 1
    assert ready(make(refresh=1)).train_dataloader().num_workers == 0
    with pytest.raises(ValueError, match=r"/dev/shm, is too small.*take num_workers=0, or refresh=0"):
        ready(make(refresh=1, num_workers=1)).train_dataloader()


def test_reloaded_loader_goes_on_with_the_draw(make):
    once, often = Classifier(), Classifier()
    make_trainer(3).fit(once, datamodule=make(val_set=Digits(1)))
    make_trainer(3, reload_dataloaders_every_n_epochs=1).fit(often, datamodule=make(val_set=Digits(1)))
    for (_, ours, _), (_, theirs, _) in zip(often.trained, once.trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_validation_is_that_of_the_wrapped_module(make):
    plain, wrapped = Classifier(), Classifier()
    make_trainer().fit(plain, datamodule=Recording())
    make_trainer().fit(wrapped, datamodule=make(Recording()))
    assert len(wrapped.validated) == len(plain.validated) > 0
    for ours, theirs in zip(wrapped.validated, plain.validated, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_hooks_are_called_as_without_wrapping(make, tmp_path):
    plain, wrapped = Recording(), Recording()
    for module, inner in ((plain, plain), (make(wrapped), wrapped)):
        trainer = make_trainer()
        trainer.fit(Classifier(), datamodule=module)
        path = tmp_path / f"{type(module).__name__}.ckpt"
        trainer.save_checkpoint(path)
        make_trainer().test(Classifier(), datamodule=module, verbose=False)
        make_trainer(3).fit(Classifier(), datamodule=module, ckpt_path=path)
        inner.on_exception(KeyboardInterrupt())
        assert module.prepare_data_per_node is False
    assert wrapped.calls == plain.calls
    assert {"prepare_data", "setup fit", "setup other", "teardown fit", "load_state_dict ['calls']"} < set(
        wrapped.calls
    )


def test_wrapped_loader_keeps_its_settings(make):
    def collate(items):
        return torch.utils.data.default_collate(items)

    settings = {
        "batch_size": 7,
        "num_workers": 1,
        "collate_fn": collate,
        "drop_last": True,
        "timeout": 9.0,
        "worker_init_fn": print,
        "multiprocessing_context": torch.multiprocessing.get_context("fork"),
        "generator": torch.Generator(),
        "prefetch_factor": 3,
        "persistent_workers": True,
    }
    inner = Recording(**settings)
    module = ready(make(inner))
    loader = module.train_dataloader()
    assert {name: getattr(loader, name) for name in settings} == settings
    assert loader.dataset is module.augmented
    assert isinstance(loader.sampler, MixedSampler)
    assert len(loader.sampler) == len(Digits())


def test_wrapped_loader_of_an_own_class_is_built_again(make):
    class Loader(DataLoader):
        def __init__(self, *args, comment, **kwargs):
            super().__init__(*args, **kwargs)
            self.comment = comment

    class Forgetful(DataLoader):
        def __init__(self, *args, comment, **kwargs):
            super().__init__(*args, **kwargs)

    inner = Recording()
    inner.train_dataloader = lambda: Loader(Digits(), batch_size=4, comment="kept")
    loader = ready(make(inner)).train_dataloader()
    assert (type(loader), loader.comment, loader.batch_size) == (Loader, "kept", 4)
    inner.train_dataloader = lambda: Forgetful(Digits(), comment="lost")
    with pytest.raises(TypeError, match=r"Forgetful: .*comment.*Use a torch DataLoader"):
        ready(make(inner)).train_dataloader()


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([DataLoader(Digits()), DataLoader(Digits())], TypeError, r"a list\. Join several sets"),
        (
            DataLoader(
                Digits(), batch_sampler=type("Pairs", (BatchSampler,), {})(SequentialSampler(Digits()), 2, False)
            ),
            ValueError,
            "its batch_sampler is a Pairs",
        ),
        (DataLoader(Digits(), sampler=SubsetRandomSampler([0, 1])), ValueError, "SubsetRandomSampler may do more"),
    ],
)
def test_wrapped_loaders_that_cannot_be_replaced(make, fits, loader, error, message):
    inner = Recording()
    inner.train_dataloader = lambda: loader
    with pytest.raises(error, match=message):
        make(inner).prepare_data()
    assert not fits


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("data", "parameters", "error", "message"),
    [
        (Recording(), {"val_set": Digits()}, ValueError, r"'val_set' was passed beside one.*Set it in the Recording"),
        (Recording(), {"batch_size": 32}, ValueError, "'batch_size' was passed beside one: 32"),
        (Recording(), {"num_workers": 0}, ValueError, "'num_workers' was passed"),
        (DataLoader(Digits()), {}, TypeError, "is a DataLoader. Pass the 'dataset'"),
        (Endless(), {}, TypeError, "it is a Endless"),
        (torch.zeros(3, 1, 2, 2), {}, TypeError, "it is a Tensor"),
        (Digits(), {"mode": "mixed"}, ValueError, "'mode' is one of 'mix', 'fill', and it is 'mixed'"),
        (Digits(), {"augmenter": "gae"}, TypeError, "'augmenter' is a GAEAugmenter, and it is a str"),
        (Digits(), {"synthetic_fraction": 1.5}, ValueError, "'synthetic_fraction' is 1.5, but must be"),
        (Digits(), {"synthetic_fraction": "most"}, ValueError, "between 0 and 1, or 'auto', and it is 'most'"),
        (Digits(), {"synthetic_fraction": "auto", "mode": "fill"}, ValueError, "is for mode='mix'"),
        (Digits(), {"loader_settings": {"shuffle": True}}, ValueError, r"\['shuffle'\] is not for it"),
        (Digits(), {"real_last": -1}, ValueError, "'real_last' is -1, but must be"),
        (Digits(), {"teacher": 3}, TypeError, "'teacher' is a int, but must be a module or function"),
        (
            Digits(),
            {"teacher_weight": 2},
            ValueError,
            "'teacher_weight' is 2, but the weight of the teacher must be a number between 0 and 1",
        ),
        (Digits(), {"refresh": -1}, ValueError, "'refresh' is a number of epochs.*and it is -1"),
        (Digits(), {"refresh": 1.5}, ValueError, "and it is 1.5"),
        (Digits(), {"refresh": True}, ValueError, "and it is True"),
        (Digits(), {"balance": "no"}, ValueError, "'balance' is 'no', but must be a number between 0 and 1"),
    ],
)
def test_mistakes_show_at_once(make, data, parameters, error, message):
    with pytest.raises(error, match=message):
        GAEDataModule(data, **parameters)


def test_nothing_is_read_or_fitted_before_prepare_data(make, fits):
    module = make(Unreadable(), val_set=Digits(1))
    assert "Train dataloader: None" in str(module)
    assert "Validation dataloader: size=70" in str(module)
    repr(module)
    for use in (module.train_dataloader, lambda: module.augmented, lambda: module.augmenter_):
        with pytest.raises(RuntimeError, match=r"prepare_data\(\) and setup\('fit'\)"):
            use()
    assert not fits


def test_str_after_setup_does_not_fit(make, fits):
    module = ready(make(Recording()))
    assert "Train dataloader: size=120" in str(module)
    assert len(fits) == 1


def test_only_training_fits(make, fits):
    module = make(Recording())
    make_trainer().validate(Classifier(), datamodule=module, verbose=False)
    make_trainer().test(Classifier(), datamodule=module, verbose=False)
    assert not fits
    ready(module)
    assert len(fits) == 1


def test_the_augmenter_stays_as_it_is(make, augmenter):
    module = ready(make(augmenter=augmenter, seed=5))
    assert augmenter.random_state is None
    assert not hasattr(augmenter, "models_")
    assert module.augmenter_.seed_ == 5
    generator = np.random.default_rng(1)
    ready(make(augmenter=clone(augmenter).set_params(random_state=generator)))
    assert generator.random() == np.random.default_rng(1).random()


def test_the_key_changes_with_what_changes_the_fit(augmenter):
    base = clone(augmenter).set_params(random_state=0)
    key = cache_key(base, Digits())

    def key_with(**parameters):
        return cache_key(clone(base).set_params(**parameters), Digits())

    assert key == cache_key(base, Digits())
    assert key == cache_key(base, Digits(transform=torch.neg))
    assert key == key_with(n_jobs=2) == key_with(progress=True)
    assert key == key_with(sampling_strategy={2: 40, 1: 40}) == key_with(sampling_strategy="not majority")
    others = [
        key_with(epochs=2),
        key_with(model="vae"),
        key_with(random_state=1),
        key_with(device="auto"),
        key_with(sampling_strategy="minority"),
        cache_key(base, Digits(part=1)),
        cache_key(base, Digits(counts={0: 40, 1: 20, 2: 11})),
    ]
    changed = Digits()
    changed.images[-1, 0, 0, 0] = 0.5
    others.append(cache_key(base, changed))
    changed = Digits()
    changed.targets[0] = 1
    others.append(cache_key(base, changed))
    assert len({key, *others}) == 1 + len(others)
    # The scale of the values comes from all images, those of the largest class among them.
    changed = Digits()
    changed.images[0, 0, 0, 0] = 0.5
    assert cache_key(base, changed) not in {key, *others}


def own_model():
    r"""Returns a model whose objective is made anew, at another address, as in another process."""

    def objective(likelihood):
        return Reconstruction(likelihood)

    return ModelDefinition("own", partial(objective), early_stopping=True)


def other_model():
    return ModelDefinition("own", lambda likelihood: Reconstruction(likelihood), early_stopping=True)


class Maker:
    def __call__(self, likelihood):
        return Reconstruction(likelihood)


def test_an_objective_may_be_made_by_an_object(augmenter):
    key, again = (
        cache_key(clone(augmenter).set_params(model=ModelDefinition("own", Maker(), early_stopping=True)), Digits())
        for _ in range(2)
    )
    assert key == again


def test_generators_of_an_own_model_are_fitted_once(make, augmenter, fits):
    images = [
        ready(make(augmenter=clone(augmenter).set_params(model=model))).augmented.synthetic_images(2)
        for model in (own_model(), own_model())
    ]
    assert len(fits) == 1
    assert torch.equal(*images)
    ready(make(augmenter=clone(augmenter).set_params(model=other_model())))
    assert len(fits) == 2


def test_a_damaged_file_is_fitted_again(make, fits, tmp_path):
    images = ready(make()).augmented.synthetic_images(2)
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"damaged, and are fitted again\..*truncated"):
        again = ready(make())
    assert len(fits) == 2
    assert torch.equal(again.augmented.synthetic_images(2), images)
    ready(make())
    assert len(fits) == 2


def test_a_class_that_failed_is_told_until_it_is_tried_again(make, tmp_path, monkeypatch, plant_a_fault):
    plant_a_fault(10)
    with pytest.warns(RuntimeWarning, match="The fit failed for 1 of 2 classes"):
        make().prepare_data()
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"Classes \[2\] have no generators.* Remove '(.*)' to have it") as told:
        data = ready(make())
    assert set(data.augmented.images_to_add) == {1}
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    assert str(file) in str(told[0].message)
    file.unlink()
    assert set(ready(make()).augmented.images_to_add) == {1, 2}


def test_a_fit_that_is_broken_off_goes_on_with_what_is_left(make, augmenter, tmp_path, monkeypatch):
    classes, fit = [], Generator.fit

    def broken_off(self, images, **options):
        classes.append(len(images))
        if len(classes) == 2:
            raise KeyboardInterrupt
        return fit(self, images, **options)

    monkeypatch.setattr(Generator, "fit", broken_off)
    with pytest.raises(KeyboardInterrupt):
        make(augmenter=clone(augmenter).set_params(n_jobs=1)).prepare_data()
    again = ready(make(augmenter=clone(augmenter).set_params(n_jobs=1)))
    assert classes == [20, 10, 10]
    monkeypatch.undo()
    assert not list((tmp_path / "cache").glob("*-classes"))
    whole = ready(make(cache_dir=tmp_path / "whole"))
    assert torch.equal(again.augmented.synthetic_images(1), whole.augmented.synthetic_images(1))


def test_of_two_that_fit_at_the_same_time_one_does(make, fits):
    modules = [make(), make()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(GAEDataModule.prepare_data, modules))
    assert len(fits) == 1


def test_a_folder_that_cannot_be_written_to_shows_before_the_fit(make, fits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="'cache_dir'"):
        make(cache_dir=tmp_path / "file").prepare_data()
    assert not fits


def test_the_default_folder_honours_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert AugmenterCache().folder == tmp_path / "gae-augment"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert AugmenterCache().folder == tmp_path / ".cache" / "gae-augment"


def test_a_training_set_that_setup_finds_changed_is_fitted_with_a_warning(make, fits):
    class Split(Recording):
        def setup(self, stage):
            self.train_set, _ = random_split(Digits(), [50, 20])

    module, elsewhere = make(Split()), make(Split())
    module.prepare_data()
    with pytest.warns(UserWarning, match=r"unseeded split: random_split\(…, generator="):
        elsewhere.setup("fit")
    module.setup("fit")
    assert len(fits) == 2
    assert Counter(elsewhere.augmented.targets) != Counter(Digits().targets)
    with pytest.warns(UserWarning, match="another training set or with other parameters"):
        module.load_state_dict(elsewhere.state_dict())


def test_a_model_that_validates_is_not_validated_without_a_set(make):
    module = make()
    hooks = ["val_dataloader", "test_dataloader", "predict_dataloader", "on_after_batch_transfer"]
    assert not any(is_overridden(hook, module) for hook in hooks)
    assert all(is_overridden(hook, make(val_set=Digits(1), test_set=Digits(1))) for hook in hooks[:2])
    wrapping = make(Recording())
    assert [is_overridden(hook, wrapping) for hook in hooks] == [True, True, False, True]


def test_attributes_are_the_wrapped_modules(make):
    inner = Recording()
    module = make(inner)
    assert module.num_classes == 3
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = module.nothing_like_it
    with pytest.raises(AttributeError, match="'GAEDataModule' object has no attribute 'num_classes'"):
        _ = make().num_classes
    module.prepare_data_per_node = True
    module.trainer = trainer = make_trainer()
    assert (inner.prepare_data_per_node, inner.trainer) == (True, trainer)
    module.trainer = None
    ready(module)
    inner.batch_size = 16
    module.batch_size = 24
    assert inner.batch_size == 24


def test_settings_beside_a_training_set(make):
    module = make(val_set=Digits(1), loader_settings={"drop_last": True, "pin_memory": False}, batch_size=16)
    assert len(ready(module).train_dataloader()) == 70 // 16
    assert len(module.val_dataloader()) == 70 // 16 + 1


def test_checkpoint_is_plain(make, tmp_path):
    module = make(val_set=Digits(1), seed=np.int64(4), synthetic_fraction=np.float64(0.5), mode="fill")
    trainer = make_trainer()
    trainer.fit(Classifier(), datamodule=module)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert checkpoint["GAEDataModule"] == module.state_dict()
    parameters = checkpoint["datamodule_hyper_parameters"]
    assert parameters == {
        "synthetic_fraction": 0.5,
        "mode": "fill",
        "real_last": 0.15,
        "balance": 1.0,
        "refresh": 0,
        "teacher_weight": 0.5,
        "cache_dir": str(tmp_path / "cache"),
        "seed": 4,
    }
    loaded = GAEDataModule.load_from_checkpoint(tmp_path / "end.ckpt", data=Digits())
    assert loaded.hparams == module.hparams


def test_global_random_numbers_are_left_alone(make, global_rngs_unmoved):
    for mode in ("mix", "fill"):
        module = ready(make(mode=mode, val_set=Digits(1)))
        for loader in (module.train_dataloader(), module.val_dataloader()):
            assert sum(len(labels) for _, labels in loader) == len(loader.sampler)


def test_a_pickled_module_is_ready_to_be_fitted(make):
    for module in (make(Recording()), make(val_set=Digits(1))):
        copy = ready(pickle.loads(pickle.dumps(module)))
        assert copy.augmented.images_to_add == {1: 20, 2: 30}
        assert len(copy.val_dataloader().dataset) == 70


def test_batch_size_finder_reaches_the_wrapped_loader(make, tmp_path):
    class Sized(Recording):
        batch_size = 4

        def train_dataloader(self):
            return DataLoader(self.train_set, batch_size=self.batch_size)

    for module in (make(Sized()), make(val_set=Digits(1))):
        trainer = make_trainer(default_root_dir=tmp_path)  # It saves the model there meanwhile.
        found = Tuner(trainer).scale_batch_size(
            Classifier(), datamodule=module, mode="power", init_val=4, max_trials=2, steps_per_trial=1
        )
        assert found == module.batch_size == module.train_dataloader().batch_size > 4


def test_joined_and_chosen_training_sets(make):
    chosen = Subset(ConcatDataset([Digits(0), Digits(1)]), range(0, 140, 2))
    assert ready(make(chosen, mode="fill")).augmented.images_to_add == {1: 20, 2: 30}


def test_needs_lightning(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "gae_augment.integrations.lightning")
    with pytest.raises(ModuleNotFoundError, match=r"needs Lightning: pip install 'gae-augment\[lightning\]'"):
        importlib.import_module("gae_augment.integrations.lightning")


def test_ranks_share_one_plan(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, os, pathlib
            from itertools import product
            from test_lightning import Classifier, Digits, make_trainer
            from gae_augment import AugmentedDataset, GAEAugmenter
            from gae_augment.integrations.lightning import GAEDataModule

            seen, fits = [], []
            get, fit = AugmentedDataset.__getitems__, GAEAugmenter.fit
            AugmentedDataset.__getitems__ = lambda self, chosen: (seen.extend(chosen), get(self, chosen))[1]
            GAEAugmenter.fit = lambda self, *args, **options: (fits.append(1), fit(self, *args, **options))[1]

            augmenter = GAEAugmenter(epochs=1, delta=100.0, latent_dim=2, device="cpu", progress=False)
            result = {}
            for mode, own_sampler in product(("mix", "fill"), (True, False)):
                seen.clear()
                data = GAEDataModule(
                    Digits(), mode=mode, refresh=1, real_last=0.0, augmenter=augmenter, cache_dir="cache", batch_size=10
                )
                trainer = make_trainer(2, strategy="ddp", devices=2, use_distributed_sampler=own_sampler)
                trainer.fit(Classifier(), datamodule=data)
                sampler = data.train_dataloader().sampler.dataset._sampler.sampler
                result[f"{mode} {own_sampler}"] = {
                    "seen": list(seen),
                    "plan": sampler.draw(0).tolist() if mode == "mix" else list(range(120)),
                    "fits": len(fits),
                    "images": [data.augmented.synthetic_images(label).double().sum().item() for label in (1, 2)],
                    "epoch": data.augmented.epoch,
                }
            pathlib.Path(f"rank{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(result))
            """
        )
    )
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert list(ranks[0]) == ["mix True", "mix False", "fill True", "fill False"]
    for first, second in zip(ranks[0].values(), ranks[1].values(), strict=True):
        assert (first["fits"], second["fits"]) == (1, 0)
        assert first["plan"] == second["plan"]
        assert first["images"] == second["images"]
        assert first["epoch"] == second["epoch"] == 1
        half = len(first["plan"]) // 2
        assert len(first["seen"]) == len(second["seen"]) == 2 * half
        # Each index of the plan went to one rank, as often as it is in the plan.
        assert Counter(first["seen"][:half]) + Counter(second["seen"][:half]) == Counter(first["plan"])
        assert first["seen"][:half] != first["seen"][half:]


def test_command_line_reads_it_from_yaml(monkeypatch, tmp_path):
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    (tmp_path / "config.yaml").write_text(
        f"""
        trainer:
          accelerator: cpu
          max_epochs: 1
          logger: false
          enable_progress_bar: false
          enable_checkpointing: false
          enable_model_summary: false
        data:
          data: {{class_path: {__name__}.Recording}}
          augmenter:
            class_path: gae_augment.GAEAugmenter
            init_args: {{epochs: 1, delta: 100.0, latent_dim: 2, device: cpu, progress: false}}
          mode: fill
          teacher:
            class_path: {__name__}.Linear
            init_args: {{pixels: 64}}
          cache_dir: {tmp_path}
        """
    )
    # Lightning 2.6 still calls jsonargparse by its old names.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--config", str(tmp_path / "config.yaml")])
    cli = LightningCLI(Classifier, GAEDataModule, seed_everything_default=False, save_config_callback=None)
    assert isinstance(cli.datamodule.data, Recording)
    assert isinstance(cli.datamodule.augmented[0][1], torch.Tensor)
    # The teacher has half of the say, and never all of it.
    assert Counter(cli.model.epoch(0)[1].argmax(dim=1).tolist()) == {0: 40, 1: 40, 2: 40}
