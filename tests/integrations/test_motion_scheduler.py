r"""The callback that adapts the strength of motions: in a real training, with workers, and resumed."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_examples import LIGHTNING_WARNINGS, Classifier, Digits, make_trainer
from torch.utils.data import DataLoader

from gae_augment.augmenter import augmenter as augmenter_module
from gae_augment.integrations.motion_scheduler import MotionScheduler
from gae_augment.motion import AdaptiveMotion, MotionBank, adaptive

pytestmark = LIGHTNING_WARNINGS


class Model(Classifier):
    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    r"""Plants motions that shift digits by a pixel, which a linear classifier mistakes."""
    field = torch.tensor([-0.25, 0.0]).view(1, 2, 1, 1).expand(20, 2, 8, 8)
    bank = MotionBank({0: field.half()})
    monkeypatch.setattr(augmenter_module, "learn_bank", lambda models, *, seed: bank if models else MotionBank({}))
    monkeypatch.setattr(adaptive, "PROBES", 60)


def fit(data, epochs, *, ckpt_path=None, **parameters):
    callback, model = MotionScheduler(), Model()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.layer.reset_parameters()
        trainer = make_trainer(epochs, callbacks=[callback, *parameters.pop("callbacks", ())], **parameters)
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return callback, model, trainer


def is_moved(images):
    r"""Returns which images of a batch are no real images."""
    real = Digits().images
    return torch.tensor([not (image == real).flatten(1).all(dim=1).any() for image in images])


def settings(**parameters):
    # Real images only, so that each image that is not a real one was moved.
    return {"synthetic_fraction": 0.0, "val_set": Digits(1)} | parameters


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_images_pass_through_hooks_and_precision_as_in_training(make):
    r"""The truth is what the model gets in its training steps."""

    class Hooked(Model):
        def __init__(self):
            super().__init__()
            self.seen = {"training": [], "update": []}

        def on_after_batch_transfer(self, batch, dataloader_idx):
            images, labels = batch
            return images * 100 - 3, labels

        def record(self, images, stage):
            self.seen[stage].append((images.dtype, round(images.float().min().item(), 1)))

        def training_step(self, batch, batch_idx):
            self.record(batch[0], "training")
            return super().training_step(batch, batch_idx)

        def forward(self, images):
            self.record(images, "update")
            return super().forward(images)

    model = Hooked()
    callback = MotionScheduler()
    data = make(**settings())
    make_trainer(1, callbacks=[callback], precision="bf16-true").fit(model, datamodule=data)
    assert callback.motion_.updates == 1
    assert set(model.seen["update"]) == set(model.seen["training"]) == {(torch.bfloat16, -3.0)}


def test_strength_is_that_of_the_rule_and_moves_the_training_images(make):
    data = make(**settings())
    callback, model, trainer = fit(data, 3)
    motion = callback.motion_
    assert data.augmented.motion is motion
    assert motion.updates == 3
    unmoved, moved = motion.errors_
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    expected = {"motion/strength": motion.strength, "motion/unmoved errors": unmoved, "motion/moved errors": moved}
    assert logged == pytest.approx(expected)
    # Each epoch's images are moved if the strength was above 0.
    again = AdaptiveMotion(motion.bank, seed=motion.seed)
    assert not is_moved(model.epoch(0)[0]).any()
    assert motion.strength > 0
    assert 0.2 < is_moved(model.epoch(2)[0]).float().mean() < 0.8
    # The last update is repeatable with the trained model.
    again.load_state_dict({"_strength": torch.tensor(0.5), "updates": torch.tensor(2)})
    data.augmented.motion = again
    again.update(model, data.augmented)
    assert again.errors_ == motion.errors_


def test_running_workers_move_images_with_the_new_strength(make):
    data = make(**settings(num_workers=1, loader_settings={"persistent_workers": True}))
    callback, model, _ = fit(data, 3)
    assert callback.motion_.strength > 0
    assert not is_moved(model.epoch(0)[0]).any()
    assert 0.2 < is_moved(model.epoch(2)[0]).float().mean() < 0.8


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resumed_run_continues_with_its_strength(make, tmp_path):
    saving = ModelCheckpoint(tmp_path / "runs", filename="{epoch}", save_top_k=-1)
    whole, _, _ = fit(make(**settings()), 4, callbacks=[saving], enable_checkpointing=True)
    resumed, _, _ = fit(make(**settings()), 4, ckpt_path=tmp_path / "runs" / "epoch=1.ckpt")
    assert resumed.motion_.updates == whole.motion_.updates == 4
    assert whole.motion_.strength == resumed.motion_.strength > 0


def test_other_data_modules_are_refused():
    trainer = make_trainer(1, callbacks=[MotionScheduler()])
    with pytest.raises(TypeError, match="is of type NoneType, but MotionScheduler needs a GAEDataModule"):
        trainer.fit(Model(), DataLoader(Digits()), DataLoader(Digits(1)))


def test_nothing_happens_outside_training(make):
    callback = MotionScheduler()
    make_trainer(1, callbacks=[callback]).validate(Model(), DataLoader(Digits(1), 16), verbose=False)
    assert callback.motion_ is None
    assert callback.state_dict() == {}
