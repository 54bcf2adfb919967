r"""Tests with real images: MNIST and the blood cells of BCCD, in the folder ``GAE_DATA_ROOT``."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST, ImageFolder

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data.long_tail import choose_images
from gae_augment.evaluation import train_classifier

ROOT = Path(os.environ.get("GAE_DATA_ROOT", "missing"))


@pytest.mark.skipif(not (ROOT / "MNIST").is_dir(), reason="GAE_DATA_ROOT does not name a folder with MNIST")
def test_synthetic_digits_are_recognised():
    data = MNIST(str(ROOT))
    chosen = choose_images(data.targets.numpy(), dict.fromkeys(range(10), 400), seed=0)
    classifier = train_classifier(data.data[chosen].unsqueeze(1), data.targets[chosen], classes=10, epochs=4)

    scarce = {3: 300, 7: 100, 8: 40}
    train = torch.utils.data.Subset(data, choose_images(data.targets.numpy(), {0: 400, **scarce}, seed=1).tolist())
    augmenter = GAEAugmenter(random_state=0, progress=False).fit(train)
    for label in scarce:
        images = augmenter.sample(label, 200)
        assert images.shape == (200, 1, 28, 28)
        accuracy = (classifier.predict(images) == label).float().mean().item()
        # Chance gives a tenth.
        assert accuracy > 0.7, f"only {accuracy:.0%} of the synthetic images of {label} are recognised"


@pytest.mark.skipif(not (ROOT / "bccd").is_dir(), reason="GAE_DATA_ROOT does not name a folder with bccd")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning")
def test_lightning_trains_on_blood_cells(tmp_path):
    lightning = pytest.importorskip("lightning")
    from torchvision.transforms import v2

    from gae_augment.integrations.lightning import GAEDataModule

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
            self.labels_seen = torch.zeros(3)

        def training_step(self, batch, _):
            images, labels = batch
            assert images.dtype == torch.float32
            self.labels_seen += labels.bincount(minlength=3)
            return torch.nn.functional.cross_entropy(self.network(images), labels)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    train = ImageFolder(str(ROOT / "bccd" / "train"), transform)
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False)
    data = GAEDataModule(train, augmenter=augmenter, batch_size=128, cache_dir=tmp_path)
    trainer = lightning.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    model = Classifier()
    trainer.fit(model, datamodule=data)
    assert np.bincount(train.targets).tolist() == [209, 2381, 214]
    assert data.augmented.images_to_add == {0: 2172, 2: 2167}
    # A third of each class, within four standard deviations.
    fractions = model.labels_seen / model.labels_seen.sum()
    assert ((fractions - 1 / 3).abs() < 4 * (2 / 9 / model.labels_seen.sum()) ** 0.5).all()
