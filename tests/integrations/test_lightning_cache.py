import importlib
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import random_split

pytest.importorskip("lightning")

from lightning_examples import LIGHTNING_WARNINGS, QUICK, Classifier, Digits, Recording, make_trainer, ready, run_script

from gae_augment.fitting import parallel_fits
from gae_augment.integrations.lightning import GAEDataModule
from gae_augment.models import ModelDefinition, Reconstruction

pytestmark = LIGHTNING_WARNINGS


def test_second_and_resumed_run_train_no_model_again(make, class_fits, tmp_path):
    for _ in range(2):
        trainer = make_trainer()
        trainer.fit(Classifier(), datamodule=make(Recording()))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    make_trainer(max_epochs=3).fit(Classifier(), datamodule=make(Recording()), ckpt_path=tmp_path / "end.ckpt")
    assert sorted(class_fits) == [10, 20]


@pytest.mark.parametrize(
    ("parameters", "trained"),
    [
        ({}, []),
        ({"n_jobs": 2, "progress": True}, []),
        ({"sampling_strategy": {1: 30, 2: 40}}, []),
        ({"model__latent_dim": 3}, [10, 20]),
        ({"model__definition": "rae_l2", "model__delta": "auto"}, [10, 20]),
        ({"random_state": 1}, [10, 20]),
        ({"model": {1: QUICK, 2: QUICK}}, []),
        ({"model": {1: QUICK, 2: clone(QUICK).set_params(latent_dim=3)}}, [10]),
    ],
    ids=str,
)
def test_changed_parameter_trains_the_classes_that_it_affects(make, augmenter, class_fits, parameters, trained):
    ready(make())
    class_fits.clear()
    ready(make(augmenter=clone(augmenter).set_params(**{"random_state": 0, **parameters})))
    assert sorted(class_fits) == trained


@pytest.mark.parametrize(
    ("label", "trained"),
    # Class 0 has no model, and its images do not change the value scale, which is that of [0, 1].
    [(0, []), (1, [20]), (2, [10])],
)
def test_changed_image_trains_its_class_again(make, class_fits, label, trained):
    ready(make())
    class_fits.clear()
    changed = Digits()
    changed.images[changed.targets.index(label), 0, 0, 0] = 0.5
    module = ready(make(changed))
    assert class_fits == trained
    assert module.augmented.images_to_add == {1: 20, 2: 30}


def test_image_that_changes_the_value_scale_trains_all_classes_again(make, class_fits):
    standardised = Digits()
    standardised.images -= 1
    ready(make(standardised))
    class_fits.clear()
    standardised.images[0, 0, 0, 0] = -0.5
    ready(make(standardised))
    assert sorted(class_fits) == [10, 20]


def test_changed_label_trains_both_classes_again(make, class_fits):
    ready(make())
    class_fits.clear()
    changed = Digits()
    changed.targets[changed.targets.index(2)] = 1
    ready(make(changed))
    assert sorted(class_fits) == [9, 21]


def test_transforms_train_nothing_again(make, class_fits):
    ready(make())
    class_fits.clear()
    ready(make(Digits(transform=torch.neg), transform=None))
    assert not class_fits


def custom_model():
    r"""Returns a model whose objective is a new function with each call, as in another process."""

    def objective(likelihood):
        return Reconstruction(likelihood)

    return ModelDefinition("custom", partial(objective), early_stopping=True)


class ObjectiveFactory:
    def __call__(self, likelihood):
        return Reconstruction(likelihood)


def factory_model():
    return ModelDefinition("custom", ObjectiveFactory(), early_stopping=True)


@pytest.mark.parametrize("define", [custom_model, factory_model])
def test_custom_model_is_fitted_once(make, augmenter, class_fits, define):
    images = [
        ready(make(augmenter=clone(augmenter).set_params(model__definition=define()))).augmented.synthetic_images(2)
        for _ in range(2)
    ]
    assert sorted(class_fits) == [10, 20]
    assert torch.equal(*images)


def test_changed_source_of_an_objective_trains_again(make, augmenter, class_fits, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from gae_augment.models import Reconstruction\n\n\nclass Custom(Reconstruction):\n    slope = 1\n"
    for text, fits in ((source, 2), (source, 0), (source.replace("1", "0.5"), 2)):
        (tmp_path / "custom_objective.py").write_text(text)
        monkeypatch.delitem(sys.modules, "custom_objective", raising=False)
        importlib.invalidate_caches()
        objective = importlib.import_module("custom_objective").Custom
        definition = ModelDefinition("custom", objective, early_stopping=True)
        class_fits.clear()
        ready(make(augmenter=clone(augmenter).set_params(model__definition=definition)))
        assert len(class_fits) == fits


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b""], ids=["truncated", "empty"])
def test_class_with_a_damaged_file_is_fitted_again(make, class_fits, tmp_path, damage):
    images = ready(make()).augmented.synthetic_images
    class_fits.clear()
    path = min((tmp_path / "cache").glob("*.safetensors"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged and will be fitted again") as record:
        again = ready(make()).augmented.synthetic_images
    assert len(record) == len(class_fits) == 1
    assert all(torch.equal(again(label), images(label)) for label in (1, 2))
    ready(make())
    assert len(class_fits) == 1


def test_failure_is_remembered_until_its_file_is_removed(make, tmp_path, monkeypatch, class_fits, plant_a_fault):
    plant_a_fault(10)
    with pytest.warns(RuntimeWarning, match="The fit failed for 1 of 2 classes: class 2: .*a planted fault") as record:
        ready(make())
    assert len(record) == 1
    monkeypatch.undo()
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"a planted fault\. .*To try again, remove '.*'\.") as record:
            module = ready(make())
        assert len(record) == 1
        message = str(record[0].message)
        assert message.count("remove") == 1
        assert set(module.augmented.images_to_add) == {1}
    other_rank = make()
    other_rank.trainer = SimpleNamespace(global_rank=1)
    # The first rank has warned of the failure.
    other_rank.setup("fit")
    assert other_rank.augmented.targets == module.augmented.targets
    (path,) = (path for path in (tmp_path / "cache").glob("*.safetensors") if f"'{path}'" in message)
    path.unlink()
    assert set(ready(make()).augmented.images_to_add) == {1, 2}


def test_failure_of_all_classes_is_an_error_and_not_remembered(make, tmp_path, monkeypatch):
    def fail(*_):
        raise FloatingPointError("a planted fault")

    with monkeypatch.context() as patch:
        patch.setattr("gae_augment.fitting.parallel_fits.fit_class", fail)
        with pytest.raises(RuntimeError, match="The fit failed for 2 of 2 classes"):
            make().prepare_data()
    assert set(ready(make()).augmented.images_to_add) == {1, 2}


def test_only_the_first_rank_warns_of_the_fits(make, augmenter):
    hard = clone(augmenter).set_params(model__delta=1e-6)
    with pytest.warns(ConvergenceWarning, match="did not fall below delta") as record:
        ready(make(augmenter=hard))
    assert len(record) == 1
    other_rank = make(augmenter=hard)
    other_rank.trainer = SimpleNamespace(global_rank=1)
    other_rank.setup("fit")
    other_rank.trainer = None
    with pytest.warns(ConvergenceWarning):
        other_rank.setup("fit")


def test_interrupted_fit_resumes_with_the_remaining_classes(make, augmenter, tmp_path, monkeypatch):
    entries, fit_class = [], parallel_fits.fit_class

    def interrupt(images, *arguments):
        entries.append(len(images))
        if len(entries) == 2:
            raise KeyboardInterrupt
        return fit_class(images, *arguments)

    sequential = clone(augmenter).set_params(n_jobs=1)
    with monkeypatch.context() as patch:
        patch.setattr(parallel_fits, "fit_class", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(augmenter=sequential).prepare_data()
        resumed = ready(make(augmenter=sequential))
        assert entries == [20, 10, 10]
    uninterrupted = ready(make(cache_dir=tmp_path / "uninterrupted"))
    for label in (1, 2):
        assert torch.equal(resumed.augmented.synthetic_images(label), uninterrupted.augmented.synthetic_images(label))


def test_killed_process_leaves_its_classes_to_other_processes(make, augmenter, class_fits, tmp_path):
    script = """
        import os, signal
        from lightning_examples import Digits, QUICK, ready
        from test_lightning_cache import custom_model
        from gae_augment import GAEAugmenter
        from gae_augment.fitting import parallel_fits
        from gae_augment.integrations.lightning import GAEDataModule

        entries, fit_class = [], parallel_fits.fit_class

        def killed(images, *arguments):
            entries.append(len(images))
            if len(entries) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return fit_class(images, *arguments)

        parallel_fits.fit_class = killed
        augmenter = GAEAugmenter(
            QUICK.set_params(definition=custom_model()), device="cpu", progress=False, n_jobs=1
        )
        ready(GAEDataModule(Digits(), augmenter=augmenter, cache_dir="cache"))
    """
    killed = run_script(script, folder=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    custom = clone(augmenter).set_params(model__definition=custom_model())
    resumed = ready(make(augmenter=custom))
    assert class_fits == [10]
    whole = ready(make(augmenter=custom, cache_dir=tmp_path / "another"))
    for label in (1, 2):
        assert torch.equal(resumed.augmented.synthetic_images(label), whole.augmented.synthetic_images(label))


def test_two_modules_at_the_same_time_fit_each_class_once(make, class_fits):
    modules = [make(), make()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(GAEDataModule.prepare_data, modules))
    assert sorted(class_fits) == [10, 20]


def test_unwritable_folder_is_an_error_before_the_fit(make, class_fits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Fitted classes cannot be written here; pass another 'cache_dir'"):
        make(cache_dir=tmp_path / "file").prepare_data()
    assert not class_fits


def test_default_folder_follows_xdg(augmenter, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ready(GAEDataModule(Digits(), augmenter=augmenter))
    assert len(list((tmp_path / "gae-augment").glob("*.safetensors"))) == 2
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    ready(GAEDataModule(Digits(), augmenter=augmenter))
    assert len(list((tmp_path / ".cache" / "gae-augment").glob("*.safetensors"))) == 2


def test_training_set_that_differs_in_setup_is_fitted_with_a_warning(make, class_fits):
    class Split(Recording):
        def setup(self, stage):
            self.train_set, _ = random_split(Digits(), [50, 20])

    module, elsewhere = make(Split()), make(Split())
    module.prepare_data()
    with pytest.warns(
        UserWarning, match=r"The models of classes \[1, 2\] .*unseeded split\. Split with random_split\(…, generator="
    ):
        elsewhere.setup("fit")
    module.setup("fit")
    assert len(class_fits) == 4
    assert Counter(elsewhere.augmented.targets) != Counter(Digits().targets)
    with pytest.warns(UserWarning, match="had models of another training set or with other hyper-parameters"):
        module.load_state_dict(elsewhere.state_dict())
