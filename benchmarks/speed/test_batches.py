r"""What mixing adds to an epoch of training batches."""

import statistics
import time

import lightning
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from gae_augment import GAEAugmenter, GenerativeModel, MixedSampler
from gae_augment._utils.seeding import make_generator
from gae_augment.integrations.lightning import GAEDataModule

from .test_fit import noise

LARGE, SMALL = 9000, 1000

EPOCHS = 20


class Images(torch.utils.data.Dataset):
    r"""A set of images and labels with a transform, as torchvision's sets are: tensors, or PIL images."""

    def __init__(self, images, labels, transform=None, as_pil=False):
        self.images, self.targets, self.transform, self.as_pil = images, labels.tolist(), transform, as_pil

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = self.images[index]
        if self.as_pil:
            image = Image.fromarray(image[0].numpy())
        return (image if self.transform is None else self.transform(image)), self.targets[index]


TRANSFORM = v2.Compose(
    [v2.ToImage(), v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), v2.ToDtype(torch.float32, scale=True)]
)

SETS = {
    "tensors without a transform": {},
    "tensors and a transform": {"transform": TRANSFORM},
    "PIL images and a transform": {"transform": TRANSFORM, "as_pil": True},
}


def base(**options):
    labels = torch.tensor([0] * LARGE + [1] * SMALL)
    return Images(noise(len(labels)), labels, **options)


def augmenter():
    return GAEAugmenter(GenerativeModel(epochs=1, delta=10.0), random_state=0, progress=False)


@pytest.mark.parametrize("form", SETS)
@pytest.mark.parametrize("workers", [0, 2])
def test_epoch(compare, workers, form):
    plain = base(**SETS[form])
    mixed = augmenter().fit(plain).augment(plain)
    settings = {"batch_size": 128, "num_workers": workers}
    ours = DataLoader(mixed, sampler=MixedSampler(mixed), **settings)
    reference = DataLoader(plain, shuffle=True, generator=make_generator(0), **settings)
    compare(
        lambda: sum(len(images) for images, _ in ours),
        lambda: sum(len(images) for images, _ in reference),
        what=f"an epoch of {len(plain)} images, {workers} workers, {form}",
        beside="the same loader on the base data set",
        aim=1.05,
        rounds=5,
    )


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 100), torch.nn.Linear(100, 2))

    def training_step(self, batch, _):
        return torch.nn.functional.cross_entropy(self.network(batch[0] / 255), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


# Lightning's own.
@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")
@pytest.mark.parametrize(("motion", "aim"), [(None, 1.05), ("auto", float("nan"))], ids=["unmoved", "moved"])
def test_lightning_epoch(compare, tmp_path, motion, aim):
    plain = TensorDataset(*(lambda one: (one.images, torch.tensor(one.targets)))(base()))
    module = GAEDataModule(plain, augmenter=augmenter(), batch_size=128, cache_dir=tmp_path, motion=motion)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_):
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_):
            epochs.append(time.perf_counter() - self.start)

    epochs = []

    def train(**data):
        epochs.clear()
        trainer = lightning.Trainer(
            callbacks=[Clock()],
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="auto",
            devices=1,
        )
        trainer.fit(Classifier(), **data)
        # The first ones warm up.
        return statistics.median(epochs)

    loader = DataLoader(plain, batch_size=128, shuffle=True, generator=make_generator(0))
    compare(
        lambda: train(datamodule=module),
        lambda: train(train_dataloaders=loader),
        what=f"an epoch of Lightning's, the median of {EPOCHS}, of {len(plain)} images"
        + (", half of them moved" if motion else ""),
        beside="the same with a plain loader",
        aim=aim,
        rounds=3,
        figures=True,
    )
