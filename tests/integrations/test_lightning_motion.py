r"""When ``GAEDataModule`` moves training images, and what it says about it."""

import logging
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

pytest.importorskip("lightning")

from lightning.pytorch import LightningDataModule
from lightning_examples import LIGHTNING_WARNINGS, Classifier, Digits, Recording, make_trainer, ready

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.augmenter import augmenter as augmenter_module
from gae_augment.integrations.lightning import GAEDataModule
from gae_augment.motion import Motion, MotionBank
from gae_augment.motion.fields import invertible

pytestmark = LIGHTNING_WARNINGS


@pytest.fixture
def planted(monkeypatch):
    r"""Plants strong motions, since models of one epoch teach weak ones."""
    fields = 0.15 * torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    bank = MotionBank({0: (0.9 * invertible(fields)).half()})
    monkeypatch.setattr(augmenter_module, "learn_bank", lambda models, *, seed: bank if models else MotionBank({}))
    return bank


@pytest.fixture
def log(caplog):
    r"""Returns the lines about motion in Lightning's log."""
    caplog.set_level(logging.INFO)
    return lambda: [message for message in caplog.messages if "Training images" in message]


def real_images(module):
    augmented = module.augmented
    return [augmented[index][0] for index in np.flatnonzero(~augmented.is_synthetic)]


def count_originals(images, dataset):
    originals = {image.numpy().tobytes() for image in dataset.images}
    return sum(image.numpy().tobytes() in originals for image in images)


def invert(image):
    return 1 - image


STILL = [
    None,
    v2.Compose([v2.GaussianNoise(0.0, 0.1), v2.Normalize([0.5], [0.5])]),
    v2.Resize(10),
    v2.RandomApply([v2.GaussianBlur(3)]),
]

MOVING = [
    (v2.RandomHorizontalFlip(), "RandomHorizontalFlip"),
    (v2.Compose([v2.Normalize([0.5], [0.5]), v2.RandomApply([v2.RandomCrop(8, 1)])]), "RandomCrop"),
    (v2.RandomAffine(10), "RandomAffine"),
    (invert, "invert"),
]


@pytest.mark.parametrize("transform", STILL)
def test_images_are_moved_if_no_transform_moves_pixels(transform, make, planted, log):
    module = ready(make(Digits(transform=transform), motion="auto"))
    motion = module.augmented.motion
    assert isinstance(motion, Motion)
    assert (motion.strength, motion.p) == (1.0, 0.5)
    assert motion.bank is planted
    assert log() == ["Training images of all classes are moved, because their transforms move no pixels."]


@pytest.mark.parametrize(("transform", "name"), MOVING)
def test_images_are_not_moved_twice(transform, name, make, planted, log):
    module = ready(make(Digits(transform=transform), motion="auto"))
    assert module.augmented.motion is None
    assert log() == [f"Training images are not moved: their transforms hold {name}, which may move pixels itself."]


def test_auto_is_the_default(augmenter, tmp_path, planted):
    module = ready(GAEDataModule(Digits(), augmenter=augmenter, cache_dir=tmp_path))
    assert isinstance(module.augmented.motion, Motion)


def test_transform_of_the_module_decides_in_place_of_that_of_the_dataset(make, planted):
    flip = v2.RandomHorizontalFlip()
    assert ready(make(Digits(), transform=flip, motion="auto")).augmented.motion is None
    assert isinstance(ready(make(Digits(transform=flip), transform=None, motion="auto")).augmented.motion, Motion)
    assert isinstance(
        ready(make(Digits(transform=flip), transform=v2.Resize(9), motion="auto")).augmented.motion, Motion
    )


class HiddenFlip(Digits):
    r"""Flips images at random, out of sight of the package."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image.flip(-1) if torch.rand(()) < 0.5 else image, label


def test_images_that_the_dataset_changes_at_random_are_not_moved(make, planted, log):
    module = ready(make(HiddenFlip(), motion="auto"))
    assert module.augmented.motion is None
    (line,) = log()
    assert line == "Training images are not moved: their dataset changes them at random, and may move pixels itself."
    assert isinstance(ready(make(HiddenFlip(), motion=1)).augmented.motion, Motion)


class Flipping(Recording):
    def setup(self, stage):
        super().setup(stage)
        self.train_set.transform = v2.RandomHorizontalFlip()


@pytest.mark.parametrize(("data", "moves"), [(Recording, True), (Flipping, False)])
def test_training_set_of_a_wrapped_module_decides(data, moves, make, planted, log):
    module = ready(make(data(), motion="auto"))
    assert isinstance(module.augmented.motion, Motion) == moves
    assert ("because their transforms move no pixels" in log()[-1]) == moves
    batch, _ = next(iter(module.train_dataloader()))
    assert batch.shape == (8, 1, 8, 8)


@pytest.mark.parametrize("strength", [2, 0.5, np.float32(1.5), 3, 0])
def test_number_is_the_strength_whatever_the_transforms(strength, make, planted, log):
    module = ready(make(Digits(transform=v2.RandomHorizontalFlip()), motion=strength))
    assert module.augmented.motion.strength == float(strength)
    assert log() == [f"Training images of all classes are moved with strength {float(strength):g}."]


def test_none_moves_no_image(make, planted, log):
    module = ready(make(motion=None))
    assert module.augmented.motion is None
    assert log() == ["Training images are not moved: 'motion' is None."]
    assert count_originals(real_images(module), Digits()) == len(Digits())


@pytest.mark.parametrize("motion", [True, "on", "Auto", -0.1, 3.01, float("nan"), float("inf"), [1.0], {}, np.ones(2)])
def test_bad_values_are_refused_before_any_work(motion, make, no_training):
    with pytest.raises(ValueError, match=r"'motion' is .*, but must be a number from 0 to 3, 'auto' or None"):
        make(motion=motion)


def vectors(counts=(30, 10)):
    X = torch.rand(sum(counts), 6, generator=torch.Generator().manual_seed(0))
    return TensorDataset(X, torch.repeat_interleave(torch.arange(2), torch.tensor(counts)))


@pytest.mark.parametrize("synthesis", ["auto", "residual"])
def test_vectors_are_not_moved(synthesis, tmp_path, log):
    model = GenerativeModel(epochs=1, delta=100.0, latent_dim=2, synthesis=synthesis)
    options = {"augmenter": GAEAugmenter(model, device="cpu", progress=False), "cache_dir": tmp_path}
    module = ready(GAEDataModule(vectors(), **options))
    assert module.augmented.motion is None
    assert log() == ["Training images are not moved: no class has a model of images."]
    assert torch.equal(module.augmented[3][0], vectors()[3][0])
    with pytest.raises(ValueError, match="No model of images was fitted"):
        ready(GAEDataModule(vectors(), motion=1.0, **options))


def test_balanced_training_set_is_moved_if_models_are_deformed(tmp_path, planted):
    balanced = Digits(counts={0: 10, 1: 10})
    for synthesis, moves in (("auto", False), ("deformed", True)):
        model = GenerativeModel(epochs=1, delta=100.0, latent_dim=2, synthesis=synthesis)
        augmenter = GAEAugmenter(model, device="cpu", progress=False)
        module = ready(GAEDataModule(balanced, augmenter=augmenter, cache_dir=tmp_path))
        assert isinstance(module.augmented.motion, Motion) == moves


@pytest.mark.parametrize("mode", ["mix", "fill"])
def test_trainer_sees_moved_and_unmoved_real_images_of_all_classes(mode, make, planted):
    training_set = Digits()
    model, module = (
        Classifier(),
        make(training_set, mode=mode, motion="auto", val_set=Digits(1), synthetic_fraction=0.0),
    )
    make_trainer(2).fit(model, datamodule=module)
    originals = {image.numpy().tobytes() for image in training_set.images}
    n_real = 70 if mode == "mix" else 120
    seen = []
    for epoch in (0, 1):
        images, labels = model.epoch(epoch)
        assert len(images) == n_real
        unmoved = [image.numpy().tobytes() in originals for image in images]
        # Half of the 70 real images of an epoch, on average, with a standard deviation of 4.
        assert 15 <= sum(unmoved) <= 55
        for label in range(3):
            assert len({still for still, of in zip(unmoved, labels.tolist(), strict=True) if of == label}) == 2
        seen.append({image.numpy().tobytes() for image in images} - originals)
    # Images move differently in each epoch. Synthetic images stay as they are.
    assert len(seen[0] - seen[1]) > 10
    # Validation images are not moved.
    validated = torch.cat([images for images, _ in model.validated])
    held_out = Digits(1)
    assert count_originals(validated, held_out) == len(validated) >= len(held_out)


def test_workers_move_images_differently_in_each_epoch(make, planted):
    dataset = Digits(counts={0: 12, 1: 11})
    loader = ready(make(dataset, mode="fill", motion=1.0, num_workers=2, batch_size=6)).train_dataloader()
    epochs = [torch.cat([images for images, _ in loader]) for _ in range(2)]
    for images in epochs:
        assert 3 <= count_originals(images, dataset) <= 20
    first, second = ({image.numpy().tobytes() for image in images} for images in epochs)
    # The one synthetic image does not change.
    assert len(first - second) > 5


@pytest.fixture
def cli(monkeypatch, tmp_path):
    r"""Returns LightningCLI for a value of 'motion' in YAML."""
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    # Lightning 2.6 still calls jsonargparse by its old names.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Lightning warns of arguments in both places.
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def make(*lines):
        text = "\n".join(["data:", "  data: {class_path: lightning_examples.Recording}", *lines])
        (tmp_path / "config.yaml").write_text(text)
        options = {"seed_everything_default": False, "save_config_callback": None, "run": False}
        return LightningCLI(Classifier, GAEDataModule, args=["--config", str(tmp_path / "config.yaml")], **options)

    return make


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "auto"), ("auto", "auto"), ("null", None), ("1.5", 1.5), ("2", 2.0), ("0", 0.0)],
)
def test_yaml_sets_motion(text, expected, cli):
    module = cli(*[f"  motion: {text}"] * bool(text)).datamodule
    assert isinstance(module, LightningDataModule)
    assert module.hparams.motion == expected
    assert type(module.hparams.motion) is type(expected)


def test_yaml_with_another_word_is_refused(cli, capsys):
    with pytest.raises(SystemExit):
        cli("  motion: sometimes")
    assert "motion" in capsys.readouterr().err
