import io

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_examples import LIGHTNING_WARNINGS, Classifier, Digits, make_trainer
from PIL import Image
from sklearn.metrics import recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data import ImageDataset
from gae_augment.evaluation import fidelity
from gae_augment.integrations.callbacks import AugmentationLogger, ClassRecall, _picture
from gae_augment.integrations.lightning import GAEDataModule

pytestmark = [
    *LIGHTNING_WARNINGS,
    # TensorBoard uses deprecated functions.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
]


@pytest.fixture
def make(tmp_path):
    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=100.0, latent_dim=2), device="cpu", progress=False)

    def make(**parameters):
        parameters = {"cache_dir": tmp_path / "cache", "val_set": Digits(1), "motion": None, **parameters}
        return GAEDataModule(Digits(), augmenter=augmenter, **parameters)

    return make


class Model(Classifier):
    def forward(self, images):
        return self.layer(images.flatten(1))


class Pixels:
    name = "pixels"

    def __call__(self, images):
        return images.flatten(1).double()


def read_log(folder):
    log = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    log.Reload()
    return log


def scalars(log, tag):
    return [event.value for event in log.Scalars(tag)]


def decoded(event):
    return pil_to_tensor(Image.open(io.BytesIO(event.encoded_image_string)))


def test_logged_numbers_and_pictures_equal_those_of_the_augmenter(make, tmp_path):
    data = make(refresh=2)
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    make_trainer(4, log_every_n_steps=1, logger=logger, callbacks=[AugmentationLogger(images=5)]).fit(
        Model(), datamodule=data
    )
    log = read_log(tmp_path / "run")
    for label, report in data.augmenter_.report_.items():
        tag = f"augmentation/{label}"
        assert scalars(log, f"{tag}/real images") == [report.images] == [{1: 20, 2: 10}[label]]
        assert scalars(log, f"{tag}/synthetic images") == [40 - report.images]
        assert scalars(log, f"{tag}/reconstruction error") == pytest.approx([report.reconstruction_error])
        assert scalars(log, f"{tag}/delta") == [100.0]
        # One picture of the first images, and one of those from the third epoch on.
        first, second = log.Images(tag)
        picture = decoded(first)
        assert picture.shape == (3, 2 * 10 + 2, 5 * 10 + 2)
        assert first.encoded_image_string != second.encoded_image_string
        real = [image for image, target in zip(Digits().images, Digits().targets, strict=True) if target == label][:5]
        for column, image in enumerate(real):
            left = 2 + 10 * column
            shown = picture[0, 2:10, left : left + 8].float() / 255
            torch.testing.assert_close(shown, image[0], atol=1 / 255, rtol=0)
    data.augmented.set_epoch(1)
    shown = decoded(second)[0, 12:20, 2:10]
    torch.testing.assert_close(shown.float() / 255, data.augmented.synthetic_images(2)[0, 0], atol=1 / 255, rtol=0)


def test_logged_fidelity_equals_that_of_the_evaluation(make, tmp_path):
    held_out = {label: Digits(1, counts={label: 30}).images for label in (1, 2)}
    callback = AugmentationLogger(0, held_out=held_out, extractor=Pixels())
    data, logger = make(), TensorBoardLogger(tmp_path, name=None, version="run")
    make_trainer(1, log_every_n_steps=1, logger=[logger, CSVLogger(tmp_path)], callbacks=[callback]).fit(
        Model(), datamodule=data
    )
    synthetic = [data.augmented.synthetic_images(label)[:30] for label in (1, 2)]
    # Class 1 has only 20 synthetic images.
    real = torch.cat([held_out[1][:20], held_out[2]])
    expected = fidelity(real, torch.cat(synthetic), extractor=Pixels())
    log = read_log(tmp_path / "run")
    assert not log.Tags()["images"]
    assert {f"augmentation/{name}" for name in expected} <= set(log.Tags()["scalars"])
    assert scalars(log, "augmentation/FID (pixels)") == pytest.approx([expected["FID (pixels)"]], rel=1e-5)


def test_recall_equals_that_of_scikit_learn(make):
    model, callback, trainer = Model(), ClassRecall(), make_trainer(3)
    trainer.callbacks.append(callback)
    trainer.fit(model, datamodule=make())
    images, labels = (torch.cat(batches) for batches in zip(*DataLoader(Digits(1), 7), strict=True))
    expected = recall_score(
        labels.numpy(), model.layer(images.flatten(1)).argmax(dim=1).numpy(), average=None, labels=[0, 1, 2]
    )
    assert callback.recall_ == pytest.approx(dict(enumerate(expected)))
    assert trainer.callback_metrics["recall/mean"] == pytest.approx(expected.mean())
    gains = ClassRecall(baseline={0: 1.0, 2: 0.25, 9: 0.5})
    trainer = make_trainer(3)
    trainer.callbacks.append(gains)
    trainer.fit(Model(), datamodule=make())
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("recall gain")}
    assert logged == pytest.approx(
        {"recall gain/0": gains.recall_[0] - 1, "recall gain/2": gains.recall_[2] - 0.25}, abs=1e-6
    )


def test_recall_has_labels_as_keys_and_is_logged_by_name(make):
    class Named(Digits):
        classes = ("zero", "one", "two")

    without, trainer = ClassRecall(), make_trainer(1)
    trainer.callbacks.append(without)
    trainer.fit(Model(), DataLoader(Named(), 16), DataLoader(Digits(1), 16))
    assert set(without.recall_) == {0, 1, 2}
    gains, trainer = ClassRecall(baseline=without.recall_), make_trainer(1)
    trainer.callbacks.append(gains)
    trainer.fit(model := Model(), datamodule=make(val_set=Named(1)))
    assert {f"recall gain/{name}" for name in Named.classes} <= set(trainer.callback_metrics)
    fitted = dict(gains.recall_)
    trainer.validate(model, DataLoader(Named(1), 16), verbose=False)
    assert gains.recall_ == pytest.approx(fitted)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(16, 1), None, r"has shape \(16, 1\), but .* at least two classes"),
        (None, None, "has type NoneType, but ClassRecall needs logits"),
        (torch.zeros(16, 2), torch.full((16,), 2), "from 2 to 2, but must be integers from 0 to 1 with"),
        (torch.zeros(16, 2), torch.full((16,), -1), "from -1 to -1"),
        (torch.zeros(16, 2), torch.rand(16, 2), r"have shape \(16, 2\) and dtype torch.float32"),
    ],
    ids=["one column", "none", "label above", "label below", "soft labels"],
)
def test_recall_of_unsuitable_batches_is_an_error(logits, labels, message):
    labels = torch.zeros(16, dtype=torch.long) if labels is None else labels
    with pytest.raises(ValueError, match=message):
        ClassRecall().on_validation_batch_end(None, None, {"logits": logits}, (torch.zeros(16, 3), labels), 0)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_pictures_show_the_images_of_the_epoch(make, tmp_path):
    saving = ModelCheckpoint(tmp_path / "runs", filename="{epoch}", save_top_k=-1)
    settings = {"refresh": 1, "real_last": 0.0}
    make_trainer(3, callbacks=[saving], enable_checkpointing=True).fit(Model(), datamodule=make(**settings))
    shown = []

    class Recorder(AugmentationLogger):
        def _show(self, trainer, augmented):
            shown.append((trainer.current_epoch, augmented.epoch))

    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    trainer = make_trainer(4, log_every_n_steps=1, logger=logger, callbacks=[Recorder()])
    trainer.fit(Model(), datamodule=make(**settings), ckpt_path=tmp_path / "runs" / "epoch=1.ckpt")
    assert shown == [(2, 2), (3, 3)]


def test_too_few_images_for_fidelity_are_a_warning(make, tmp_path):
    callback = AugmentationLogger(0, held_out={1: Digits(1, counts={1: 5}).images}, extractor=Pixels())
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    trainer = make_trainer(1, log_every_n_steps=1, logger=logger, callbacks=[callback])
    with pytest.warns(UserWarning, match=r"Classes \[1\] have 5 pairs .* so it is not logged"):
        trainer.fit(Model(), datamodule=make())
    assert "augmentation/1/delta" in read_log(tmp_path / "run").Tags()["scalars"]


@pytest.mark.parametrize("low", [-3.0, 0.5])
def test_both_rows_of_a_picture_have_one_scale(low):
    real = torch.full((2, 1, 3, 3), low + 1)
    real[1] += 1
    shown = _picture(real, torch.full((1, 1, 3, 3), low), columns=2)[0]
    first, second, synthetic, white = (shown[pixel].item() for pixel in ((3, 3), (3, 8), (8, 3), (8, 8)))
    assert (synthetic, first, second, white) == pytest.approx((0, 0.5, 1, 1))
    assert _picture(real[:1], real[:1], columns=1).isfinite().all()


def test_recall_uses_logits_from_the_validation_step(make):
    class WithLogits(Model):
        def validation_step(self, batch, batch_idx):
            # Wrong for class 1 only.
            return {"logits": torch.nn.functional.one_hot(batch[1] - (batch[1] == 1).long(), 10).float()}

    callback, trainer = ClassRecall(), make_trainer(1)
    trainer.callbacks.append(callback)
    trainer.fit(WithLogits(), datamodule=make())
    assert callback.recall_ == {0: 1.0, 1: 0.0, 2: 1.0}


def test_recall_of_batches_that_are_mappings():
    class Mappings(Model):
        returns = ("logits", "labels")

        def validation_step(self, batch, batch_idx):
            logits = torch.nn.functional.one_hot(batch["label"], 10).float()
            return {key: {"logits": logits, "labels": batch["label"]}[key] for key in self.returns}

    data = [{"image": image, "label": label} for image, label in (Digits(1)[index] for index in range(len(Digits(1))))]
    callback, trainer = ClassRecall(), make_trainer(1)
    trainer.callbacks.append(callback)
    trainer.validate(Mappings(), DataLoader(data, 16), verbose=False)
    assert callback.recall_ == {0: 1.0, 1: 1.0, 2: 1.0}
    model = Mappings()
    model.returns = ("logits",)
    with pytest.raises(ValueError, match=r"batch is a dict with the keys \['image', 'label'\], .*'labels': labels"):
        trainer.validate(model, DataLoader(data, 16), verbose=False)


def test_recall_without_training_and_data_module():
    callback, trainer = ClassRecall(), make_trainer(1)
    trainer.callbacks.append(callback)
    trainer.validate(Model(), DataLoader(Digits(1), 16), verbose=False)
    assert set(callback.recall_) == {0, 1, 2}


def test_invalid_arguments_are_errors():
    with pytest.raises(ValueError, match="'extractor' is missing"):
        AugmentationLogger(held_out={0: torch.zeros(1, 1, 8, 8)})
    with pytest.raises(ValueError, match="'held_out' is missing"):
        AugmentationLogger(held_out={}, extractor=Pixels())
    with pytest.raises(ValueError, match=r"those of 'held_out\[3\]' lie in \[-1, -1\]"):
        AugmentationLogger(held_out={3: torch.full((1, 1, 8, 8), -1.0)}, extractor=Pixels())
    trainer = make_trainer(1)
    trainer.callbacks.append(AugmentationLogger())
    with pytest.raises(TypeError, match="is of type NoneType, but AugmentationLogger needs a GAEDataModule"):
        trainer.fit(Model(), DataLoader(Digits()), DataLoader(Digits(1)))


def test_photographs_of_several_sizes_are_logged_in_the_working_size(tmp_path):
    generator = torch.Generator().manual_seed(0)
    photos = [torch.rand(1, 12, 9 + number % 3, generator=generator) for number in range(20)]
    # The last class has no model of its own.
    labels = [0] * 14 + [1] * 5 + [2]
    dataset = ImageDataset(photos, labels=labels, transform=v2.Resize((8, 8)))
    augmenter = GAEAugmenter(
        GenerativeModel(epochs=1, delta=100.0, latent_dim=2), working_size=8, device="cpu", progress=False
    )
    data = GAEDataModule(dataset, augmenter=augmenter, cache_dir=tmp_path / "cache", motion=None, val_set=Digits(1))
    held_out = torch.rand(7, 1, 12, 10, generator=generator)
    logged = {}

    class Recorder(AugmentationLogger):
        def _log(self, trainer, numbers):
            logged.update(numbers)

    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    callback = Recorder(3, held_out={1: held_out}, extractor=Pixels())
    make_trainer(1, log_every_n_steps=1, logger=logger, callbacks=[callback]).fit(Model(), datamodule=data)
    log = read_log(tmp_path / "run")
    for label in (1, 2):
        (event,) = log.Images(f"augmentation/{label}")
        picture = decoded(event)
        assert picture.shape == (3, 2 * 10 + 2, 3 * 10 + 2)
        expected = data.augmented.synthetic_images(label, 1, (8, 8))[0, 0]
        torch.testing.assert_close(picture[0, 12:20, 2:10].float() / 255, expected, atol=1 / 255, rtol=0)
    expected = fidelity(held_out, data.augmented.synthetic_images(1, 7, (12, 10)), extractor=Pixels())
    assert {name: logged[name] for name in expected} == pytest.approx(expected)


def test_training_set_without_scarce_classes_is_trained_and_logs_no_pictures(tmp_path):
    dataset = Digits(counts={0: 10, 1: 10})
    augmenter = GAEAugmenter(GenerativeModel(epochs=1, delta=100.0, latent_dim=2), device="cpu", progress=False)
    data = GAEDataModule(dataset, augmenter=augmenter, cache_dir=tmp_path / "cache", motion=None, val_set=Digits(1))
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    trainer = make_trainer(1, log_every_n_steps=1, logger=logger, callbacks=[AugmentationLogger()])
    trainer.fit(Model(), datamodule=data)
    assert data.augmenter_.models_ == {}
    assert trainer.global_step > 0
    assert read_log(tmp_path / "run").Tags()["images"] == []
