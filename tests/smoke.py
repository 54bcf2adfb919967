"""What an installed wheel has to do: run by itself, outside the repository."""

from pathlib import Path

import torch

import gae_augment
from gae_augment.integrations.lightning import GAEDataModule
from gae_augment.report import write_report


def main() -> None:
    assert Path.cwd() not in Path(gae_augment.__file__).parents or "site-packages" in gae_augment.__file__
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 20 + [1] * 10)
    model = gae_augment.GenerativeModel(epochs=2, delta=10.0)
    augmenter = gae_augment.GAEAugmenter(model, random_state=0, progress=False).fit(images, labels)
    augmented = augmenter.augment(torch.utils.data.TensorDataset(images, labels))
    assert len(augmented) == 40, len(augmented)
    assert "Synthetic images for 1 of 2 classes" in write_report(augmenter, (images, labels), "report.html").read_text()
    print(f"gae-augment {gae_augment.__version__}: {augmenter.sampling_strategy_}, {GAEDataModule.__name__}")


if __name__ == "__main__":
    main()
