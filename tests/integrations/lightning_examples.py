"""Data, a classifier and a data module that the tests of Lightning share."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

from gae_augment import GenerativeModel

LIGHTNING_WARNINGS = [
    # Advice on speed, which small tests do not need.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Lightning 2.6 uses names that torch 2.14 deprecates.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning"),
]

COUNTS = {0: 40, 1: 20, 2: 10}

QUICK = GenerativeModel(epochs=1, delta=100.0, latent_dim=2)


class Digits(Dataset):
    """Long-tailed digits; the two halves of the data are disjoint."""

    def __init__(self, half=0, transform=None, counts=COUNTS):
        digits = load_digits()
        rows = [np.flatnonzero(digits.target == label)[half::2][:n] for label, n in counts.items()]
        self.images = torch.tensor(digits.images[np.concatenate(rows)] / 16, dtype=torch.float32)[:, None]
        self.targets = np.repeat(list(counts), list(counts.values())).tolist()
        self.transform = transform

    def __getitem__(self, index):
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def __len__(self):
        return len(self.targets)


class Classifier(LightningModule):
    """Records its batches."""

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
    """Records the names of the hooks that were called."""

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


def ready(module):
    module.prepare_data()
    module.setup("fit")
    return module


def make_trainer(max_epochs=2, **parameters):
    defaults = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=max_epochs, **defaults | {"enable_checkpointing": False} | parameters)


def run_script(script, *arguments, folder):
    r"""Runs a script that can import this file, in another process."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, path, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
