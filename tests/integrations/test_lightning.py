import importlib
import json
import pickle
import sys
import textwrap
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

pytest.importorskip("lightning")

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning_examples import LIGHTNING_WARNINGS, Classifier, Digits, Recording, make_trainer, ready, run_script

from gae_augment import GenerativeModel, MixedSampler
from gae_augment.integrations.lightning import GAEDataModule
from gae_augment.mixing.synthetic import SyntheticImages
from gae_augment.models import choose_models

pytestmark = LIGHTNING_WARNINGS


class Unreadable(Digits):
    def __getitem__(self, index):
        raise AssertionError("The data were read.")

    __len__ = __getitem__


class Linear(torch.nn.Sequential):
    def __init__(self, pixels):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(pixels, 10))


def test_fill_trains_on_every_image_once(make):
    model, module = Classifier(), make(mode="fill", val_set=Digits(1))
    make_trainer().fit(model, datamodule=module)
    assert Counter(model.epoch(0)[1].tolist()) == {0: 40, 1: 40, 2: 40}
    both = [model.epoch(epoch)[0].flatten(1).sort(dim=0).values for epoch in (0, 1)]
    torch.testing.assert_close(*both)
    assert not torch.equal(model.epoch(0)[1], model.epoch(1)[1])


@pytest.mark.parametrize("balance", [1.0, 0.5, 0.0])
def test_mix_trains_on_the_draw_of_the_sampler(make, balance):
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


def test_labels_of_synthetic_images_are_mixed_with_those_of_the_teacher(make):
    teacher = Linear(64).requires_grad_(False)
    model, module = Classifier(), make(teacher=teacher, teacher_weight=0.3, real_last=0.0, val_set=Digits(1))
    make_trainer().fit(model, datamodule=module)
    images, labels = model.epoch(0)
    label_of = {
        tuple(image.flatten().tolist()): label for image, label in zip(Digits().images, Digits().targets, strict=True)
    }
    real_labels = [label_of.get(tuple(image.flatten().tolist())) for image in images]
    synthetic = torch.tensor([label is None for label in real_labels])
    assert 5 < synthetic.sum() < 65
    real = torch.nn.functional.one_hot(torch.tensor([label for label in real_labels if label is not None]), 10)
    torch.testing.assert_close(labels[~synthetic], real.float())
    # The rest of a label, 0.7, is on its class.
    predictions = 0.3 * teacher(images[synthetic]).softmax(dim=1)
    difference = labels[synthetic] - predictions
    torch.testing.assert_close(difference.max(dim=1).values, torch.full((len(predictions),), 0.7))
    torch.testing.assert_close(difference.sum(dim=1), torch.full((len(predictions),), 0.7))
    assert set(difference.argmax(dim=1).tolist()) == {1, 2}


def test_transform_replaces_that_of_the_training_set(make):
    module = ready(make(Digits(transform=torch.neg)))
    images, _ = next(iter(module.train_dataloader()))
    assert images.min() < 0
    assert images.max() <= 0
    images, _ = next(iter(ready(make(Digits(transform=torch.neg), transform=None)).train_dataloader()))
    assert images.min() >= 0


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # The resumed run saves nothing.
@pytest.mark.parametrize("saved", ["after training", "after validation"])
@pytest.mark.parametrize("settings", [{}, {"mode": "fill"}, {"num_workers": 1}, {"refresh": 1}], ids=str)
def test_resumed_run_equals_an_uninterrupted_one(make, tmp_path, settings, saved):
    settings = {"val_set": Digits(1), "real_last": 0.3, **settings}
    uninterrupted, resumed = Classifier(), Classifier()
    saving = ModelCheckpoint(
        tmp_path / "runs", filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=saved == "after training"
    )
    make_trainer(3, callbacks=[saving], enable_checkpointing=True).fit(uninterrupted, datamodule=make(**settings))
    make_trainer(3).fit(resumed, datamodule=make(**settings), ckpt_path=tmp_path / "runs" / "epoch=0.ckpt")
    assert {epoch for epoch, *_ in resumed.trained} == {1, 2}
    for epoch in (1, 2):
        for actual, expected in zip(resumed.epoch(epoch), uninterrupted.epoch(epoch), strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    torch.testing.assert_close(resumed.layer.weight, uninterrupted.layer.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_workers": 2, "loader_settings": {"persistent_workers": True}}, {"teacher": Linear(64)}],
    ids=["in this process", "in persistent workers", "with soft labels"],
)
def test_images_are_fresh_every_second_epoch(make, settings):
    model, module = Classifier(), make(mode="fill", refresh=2, val_set=Digits(1), **settings)
    make_trainer(5).fit(model, datamodule=module)
    reference, real = ready(make()), {tuple(image.flatten().tolist()) for image in Digits().images}
    drawn = []
    for epoch in range(5):
        images, _ = model.epoch(epoch)
        drawn.append({tuple(image.flatten().tolist()) for image in images} - real)
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3] != drawn[4]
    for images, number in ((drawn[0], 0), (drawn[2], 1), (drawn[4], 2)):
        reference.augmented.set_epoch(number)
        assert images == {tuple(image.flatten().tolist()) for image in reference.augmented._synthetic} - real


def test_no_images_are_drawn_for_epochs_of_real_images(make, monkeypatch):
    module, drawn = make(refresh=1, real_last=0.5, val_set=Digits(1)), []
    draw = SyntheticImages.draw
    monkeypatch.setattr(SyntheticImages, "draw", lambda self, epoch: (drawn.append(epoch), draw(self, epoch))[1])
    make_trainer(4).fit(Classifier(), datamodule=module)
    assert drawn == [0, 1]


def test_workers_without_enough_shared_memory_are_an_error(make, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert ready(make(num_workers=1)).train_dataloader().num_workers == 1
    assert ready(make(refresh=1)).train_dataloader().num_workers == 0
    with pytest.raises(ValueError, match=r"/dev/shm, is too small.*set num_workers=0 or refresh=0"):
        ready(make(refresh=1, num_workers=1)).train_dataloader()


def test_reloaded_loader_continues_the_draw(make):
    once, often = Classifier(), Classifier()
    make_trainer(3).fit(once, datamodule=make(val_set=Digits(1)))
    make_trainer(3, reload_dataloaders_every_n_epochs=1).fit(often, datamodule=make(val_set=Digits(1)))
    for (_, actual, _), (_, expected, _) in zip(often.trained, once.trained, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_validation_equals_that_of_the_wrapped_module(make):
    plain, wrapped = Classifier(), Classifier()
    make_trainer().fit(plain, datamodule=Recording())
    make_trainer().fit(wrapped, datamodule=make(Recording()))
    assert len(wrapped.validated) == len(plain.validated) > 0
    for actual, expected in zip(wrapped.validated, plain.validated, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


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


def test_wrapped_loader_of_a_custom_class_is_copied(make):
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
    with pytest.raises(TypeError, match=r"a Forgetful, could not be copied .*comment.*Use a torch DataLoader"):
        ready(make(inner)).train_dataloader()


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([DataLoader(Digits()), DataLoader(Digits())], TypeError, r"returned a list, .*Join several training sets"),
        (
            DataLoader(
                Digits(), batch_sampler=type("Pairs", (BatchSampler,), {})(SequentialSampler(Digits()), 2, False)
            ),
            ValueError,
            "The batch_sampler of the wrapped training loader is a Pairs",
        ),
        (
            DataLoader(Digits(), sampler=SubsetRandomSampler([0, 1])),
            ValueError,
            "is a SubsetRandomSampler, which may do more",
        ),
        (
            DataLoader(Digits(), batch_sampler=BatchSampler(SubsetRandomSampler([0, 1]), 2, False)),
            ValueError,
            "is a SubsetRandomSampler, which may do more",
        ),
        (
            DataLoader(Digits(), sampler=BatchSampler(RandomSampler(Digits()), 8, False), batch_size=None),
            ValueError,
            r"draws whole batches, .* Give the loader a 'batch_size' instead, with shuffle=True",
        ),
    ],
)
def test_wrapped_loader_that_cannot_be_copied_is_an_error(make, class_fits, loader, error, message):
    inner = Recording()
    inner.train_dataloader = lambda: loader
    with pytest.raises(error, match=message):
        make(inner).prepare_data()
    assert not class_fits


def test_loader_with_a_batch_sampler_keeps_its_batches(make):
    inner, data = Recording(), Digits()
    batches = BatchSampler(RandomSampler(data, num_samples=30), 8, drop_last=True)
    inner.train_dataloader = lambda: DataLoader(data, batch_sampler=batches)
    loader = ready(make(inner)).train_dataloader()
    assert (loader.batch_size, loader.drop_last) == (8, True)
    assert [len(labels) for _, labels in loader] == [8, 8, 8]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("data", "parameters", "error", "message"),
    [
        (
            Recording(),
            {"val_set": Digits()},
            ValueError,
            r"'val_set' is .*, but the Recording has its own sets and loaders\. Set it there",
        ),
        (Recording(), {"batch_size": 32}, ValueError, "'batch_size' is 32, but the Recording"),
        (Recording(), {"num_workers": 0}, ValueError, "'num_workers' is 0, but the Recording"),
        (DataLoader(Digits()), {}, TypeError, "is of type DataLoader, .*Pass the 'dataset'"),
        (Endless(), {}, TypeError, "'data' is of type Endless"),
        (torch.zeros(3, 1, 2, 2), {}, TypeError, "'data' is of type Tensor"),
        (Digits(), {"mode": "mixed"}, ValueError, "'mode' is 'mixed', but must be one of 'mix', 'fill'"),
        (Digits(), {"augmenter": "gae"}, TypeError, "'augmenter' is of type str, but must be a GAEAugmenter"),
        (Digits(), {"synthetic_fraction": 1.5}, ValueError, "'synthetic_fraction' is 1.5, but must be"),
        (Digits(), {"synthetic_fraction": "most"}, ValueError, "'synthetic_fraction' is 'most', but must be"),
        (
            Digits(),
            {"synthetic_fraction": "auto", "mode": "fill"},
            ValueError,
            "needs mode='mix', but the mode is 'fill'",
        ),
        (Digits(), {"loader_settings": {"shuffle": True}}, ValueError, r"'loader_settings' has \['shuffle'\]"),
        (Digits(), {"real_last": -1}, ValueError, "'real_last' is -1, but must be"),
        (Digits(), {"teacher": 3}, TypeError, "'teacher' is a int, but must be a module or function"),
        (
            Digits(),
            {"teacher_weight": 2},
            ValueError,
            "'teacher_weight' is 2, but the weight of the teacher must be a number between 0 and 1",
        ),
        (Digits(), {"refresh": -1}, ValueError, "'refresh' is -1, but must be a number of epochs"),
        (Digits(), {"refresh": 1.5}, ValueError, "'refresh' is 1.5, but must be"),
        (Digits(), {"refresh": True}, ValueError, "'refresh' is True, but must be"),
        (Digits(), {"balance": "no"}, ValueError, "'balance' is 'no', but must be a number between 0 and 1"),
    ],
)
def test_invalid_arguments_are_errors(data, parameters, error, message):
    with pytest.raises(error, match=message):
        GAEDataModule(data, **parameters)


def test_nothing_is_read_or_fitted_before_prepare_data(make, class_fits):
    module = make(Unreadable(), val_set=Digits(1))
    assert "Train dataloader: None" in str(module)
    assert "Validation dataloader: size=70" in str(module)
    repr(module)
    for use in (module.train_dataloader, lambda: module.augmented, lambda: module.augmenter_):
        with pytest.raises(RuntimeError, match=r"prepare_data\(\) and setup\('fit'\)"):
            use()
    assert not class_fits


def test_str_after_setup_does_not_fit(make, class_fits):
    module = ready(make(Recording()))
    assert "Train dataloader: size=120" in str(module)
    assert len(class_fits) == 2


def test_validation_and_test_fit_nothing(make, class_fits):
    module = make(Recording())
    make_trainer().validate(Classifier(), datamodule=module, verbose=False)
    make_trainer().test(Classifier(), datamodule=module, verbose=False)
    assert not class_fits
    ready(module)
    assert len(class_fits) == 2


def test_given_augmenter_is_not_changed(make, augmenter):
    module = ready(make(augmenter=augmenter, seed=5))
    assert augmenter.random_state is None
    assert not hasattr(augmenter, "models_")
    assert module.augmenter_.seed_ == 5
    generator = np.random.default_rng(1)
    ready(make(augmenter=clone(augmenter).set_params(random_state=generator)))
    assert generator.random() == np.random.default_rng(1).random()


def test_hooks_exist_only_with_their_data(make):
    module = make()
    hooks = ["val_dataloader", "test_dataloader", "predict_dataloader", "on_after_batch_transfer"]
    assert not any(is_overridden(hook, module) for hook in hooks)
    assert all(is_overridden(hook, make(val_set=Digits(1), test_set=Digits(1))) for hook in hooks[:2])
    wrapping = make(Recording())
    assert [is_overridden(hook, wrapping) for hook in hooks] == [True, True, False, True]


def test_attributes_are_those_of_the_wrapped_module(make):
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


def test_loader_settings_of_a_training_set(make):
    module = make(val_set=Digits(1), loader_settings={"drop_last": True, "pin_memory": False}, batch_size=16)
    assert len(ready(module).train_dataloader()) == 70 // 16
    assert len(module.val_dataloader()) == 70 // 16 + 1


def test_checkpoint_holds_plain_values(make, tmp_path):
    module = make(
        val_set=Digits(1), seed=np.int64(4), synthetic_fraction=np.float64(0.5), mode="fill", motion=np.float64(0.5)
    )
    trainer = make_trainer()
    trainer.fit(Classifier(), datamodule=module)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert checkpoint["GAEDataModule"] == module.state_dict()
    parameters = checkpoint["datamodule_hyper_parameters"]
    assert parameters == {
        "synthetic_fraction": 0.5,
        "motion": 0.5,
        "mode": "fill",
        "real_last": 0.15,
        "balance": 1.0,
        "num_classes": None,
        "refresh": 0,
        "teacher_weight": 0.5,
        "cache_dir": str(tmp_path / "cache"),
        "seed": 4,
    }
    loaded = GAEDataModule.load_from_checkpoint(tmp_path / "end.ckpt", data=Digits())
    assert loaded.hparams == module.hparams


def test_global_random_numbers_are_not_used(make, global_rngs_unmoved):
    for mode in ("mix", "fill"):
        module = ready(make(mode=mode, val_set=Digits(1)))
        for loader in (module.train_dataloader(), module.val_dataloader()):
            assert sum(len(labels) for _, labels in loader) == len(loader.sampler)


def test_pickled_module_can_be_fitted(make):
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
        trainer = make_trainer(default_root_dir=tmp_path)  # The tuner saves the model there.
        batch_size = Tuner(trainer).scale_batch_size(
            Classifier(), datamodule=module, mode="power", init_val=4, max_trials=2, steps_per_trial=1
        )
        assert batch_size == module.batch_size == module.train_dataloader().batch_size > 4


def test_subset_of_joined_training_sets(make):
    subset = Subset(ConcatDataset([Digits(0), Digits(1)]), range(0, 140, 2))
    assert ready(make(subset, mode="fill")).augmented.images_to_add == {1: 20, 2: 30}


def test_needs_lightning(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "gae_augment.integrations.lightning")
    with pytest.raises(ModuleNotFoundError, match=r"needs Lightning: pip install 'gae-augment\[lightning\]'"):
        importlib.import_module("gae_augment.integrations.lightning")


def test_ranks_share_one_plan(tmp_path):
    run = run_script(
        """
        import json, os, pathlib
        from itertools import product
        from lightning_examples import Classifier, Digits, make_trainer
        from torch.utils.data import DataLoader
        from gae_augment import AugmentedDataset, GAEAugmenter, GenerativeModel, MixedSampler
        from gae_augment.fitting import parallel_fits
        from gae_augment.integrations.lightning import GAEDataModule

        seen, fits = [], []
        get, fit = AugmentedDataset.__getitems__, parallel_fits.fit_class
        AugmentedDataset.__getitems__ = lambda self, indices: (seen.extend(indices), get(self, indices))[1]
        parallel_fits.fit_class = lambda *arguments: (fits.append(1), fit(*arguments))[1]

        # The fit ends above delta, and only the first rank may warn of it.
        model = GenerativeModel(epochs=1, delta=1e-6, latent_dim=2)
        augmenter = GAEAugmenter(model, device="cpu", progress=False)
        result = {}
        for mode, lightning_distributes in product(("mix", "fill", "loader"), (True, False)):
            seen.clear()
            trainer = make_trainer(2, strategy="ddp", devices=2, use_distributed_sampler=lightning_distributes)
            if mode == "loader":
                # A sampler of the user's own, without a data module.
                sampler = MixedSampler(data.augmented)
                trainer.fit(Classifier(), DataLoader(data.augmented, 10, sampler=sampler))
                run, plan = f"{mode} {lightning_distributes}", sampler.draw(0).tolist()
                result[run] = result["fill False"] | {"seen": list(seen), "plan": plan}
                continue
            settings = {"mode": mode, "refresh": 1, "real_last": 0.0, "batch_size": 10, "motion": None}
            data = GAEDataModule(Digits(), augmenter=augmenter, cache_dir="cache", **settings)
            trainer.fit(Classifier(), datamodule=data)
            sampler = data.train_dataloader().sampler
            result[f"{mode} {lightning_distributes}"] = {
                "seen": list(seen),
                "plan": sampler.draw(0).tolist() if mode == "mix" else list(range(120)),
                "fits": len(fits),
                "images": [data.augmented.synthetic_images(label).double().sum().item() for label in (1, 2)],
                "epoch": data.augmented.epoch,
            }
        pathlib.Path(f"rank{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(result))
        """,
        folder=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    # One warning for each of the four data modules.
    assert run.stderr.count("did not fall below delta") == 4
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert list(ranks[0]) == ["mix True", "mix False", "fill True", "fill False", "loader True", "loader False"]
    for first, second in zip(ranks[0].values(), ranks[1].values(), strict=True):
        assert (first["fits"], second["fits"]) == (2, 0)
        assert first["plan"] == second["plan"]
        assert first["images"] == second["images"]
        assert first["epoch"] == second["epoch"] == 1
        half = len(first["plan"]) // 2
        assert len(first["seen"]) == len(second["seen"]) == 2 * half
        # Each index of the plan went to exactly one rank.
        assert Counter(first["seen"][:half]) + Counter(second["seen"][:half]) == Counter(first["plan"])
        assert first["seen"][:half] != first["seen"][half:]


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Returns LightningCLI for a YAML configuration of the data."""
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    # Lightning 2.6 still calls jsonargparse by its old names.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Lightning warns of arguments in both places.
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def make(data, *command):
        trainer = {"accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_progress_bar": False}
        trainer |= {"enable_checkpointing": False, "enable_model_summary": False}
        lines = [f"  {name}: {json.dumps(value)}" for name, value in trainer.items()]
        (tmp_path / "config.yaml").write_text("\n".join(["trainer:", *lines, "data:", textwrap.indent(data, "  ")]))
        options = {"seed_everything_default": False, "save_config_callback": None, "run": bool(command)}
        return LightningCLI(
            Classifier, GAEDataModule, args=[*command, "--config", str(tmp_path / "config.yaml")], **options
        )

    return make


def test_command_line_trains_from_yaml(cli, tmp_path):
    data = textwrap.dedent(
        f"""
        data: {{class_path: lightning_examples.Recording}}
        augmenter:
          class_path: gae_augment.GAEAugmenter
          init_args:
            model:
              class_path: gae_augment.GenerativeModel
              init_args: {{epochs: 1, delta: 100.0, latent_dim: 2}}
            device: cpu
            progress: false
        mode: fill
        teacher:
          class_path: {__name__}.Linear
          init_args: {{pixels: 64}}
        cache_dir: {tmp_path}
        """
    )
    trained = cli(data, "fit")
    assert isinstance(trained.datamodule.data, Recording)
    assert trained.datamodule.augmenter_.report_[1].plan.latent_dim == 2
    assert isinstance(trained.datamodule.augmented[0][1], torch.Tensor)
    # The teacher has half of the weight, so the class of a label remains the most probable one.
    assert Counter(trained.model.epoch(0)[1].argmax(dim=1).tolist()) == {0: 40, 1: 40, 2: 40}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vae", "vae"),
        ("{class_path: gae_augment.GenerativeModel}", GenerativeModel()),
        (
            "{class_path: gae_augment.GenerativeModel, init_args: "
            "{definition: vae, latent_dim: 3, architecture: [30, 20], n_components: [2, 5]}}",
            GenerativeModel("vae", latent_dim=3, architecture=(30, 20), n_components=(2, 5)),
        ),
        (
            "{1: rae_l2, 2: {class_path: gae_augment.GenerativeModel, init_args: {latent_dim: 3}}}",
            {1: "rae_l2", 2: GenerativeModel(latent_dim=3)},
        ),
    ],
)
def test_command_line_reads_models_from_yaml(cli, model, expected):
    data = "data: {class_path: lightning_examples.Recording}\n" + (
        f"augmenter: {{class_path: gae_augment.GAEAugmenter, init_args: {{model: {model}}}}}"
    )
    chosen = cli(data).datamodule.augmenter.model
    assert type(chosen) is type(expected)
    assert repr(choose_models(chosen)) == repr(choose_models(expected))
