import copy
import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.photos import finetuning
from benchmarks.photos.__main__ import main
from benchmarks.photos.finetuning import FinetunedRun, finetuned_table, settings_of, train_blocks
from benchmarks.photos.network import FirstBlocks, FrozenNetwork, TrainedBlocks
from benchmarks.photos.report import finetuned_report


class Fake(nn.Module):
    r"""A network with the parts that EfficientNet-Lite0 has, but smaller."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 4, 3, stride=16, bias=False), nn.BatchNorm2d(4)
        self._blocks = nn.ModuleList([Block() for _ in range(16)])
        self._conv_head, self._bn1 = nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)
        self._swish = nn.ReLU6()

    def extract_features(self, x):
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._swish(self._bn1(self._conv_head(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        for convolution, normalisation in (("depthwise_conv", "bn1"), ("project_conv", "bn2")):
            setattr(self, f"_{convolution}", nn.Conv2d(4, 4, 3, padding=1, bias=False))
            setattr(self, f"_{normalisation}", nn.BatchNorm2d(4))

    def forward(self, x):
        return x + self._bn2(self._project_conv(self._bn1(self._depthwise_conv(x)).relu()))


def test_first_and_last_blocks_together_are_the_network():
    torch.manual_seed(0)
    network = Fake()
    images = torch.randint(256, (5, 3, 224, 224), dtype=torch.uint8)
    # Statistics of normalisation other than 0 and 1.
    with torch.no_grad():
        network.extract_features((images.float() - 127) / 128)
    network.eval()
    features = FrozenNetwork(copy.deepcopy(network))(images)
    first = FirstBlocks(network)
    last, other = TrainedBlocks(first.network, 3), TrainedBlocks(first.network, 3)
    activations = first(images)
    assert activations.dtype == torch.bfloat16
    found = last.activation(last.convolution(last.blocks(activations.float()))).mean(dim=(2, 3))
    torch.testing.assert_close(found, features, rtol=0.05, atol=0.05)
    assert last(activations.float()).shape == (5, 3)
    assert all(parameter.requires_grad for parameter in last.parameters())
    before = last.convolution.weight.clone()
    with torch.no_grad():
        other.convolution.weight += 1
    assert torch.equal(last.convolution.weight, before)


class Watched(nn.Module):
    r"""Learns the frequency of each class alone, and counts the views that it is shown."""

    def __init__(self, views):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))
        self.shown = torch.zeros(views)

    def forward(self, x):
        self.shown += x.flatten().long().bincount(minlength=len(self.shown))
        return self.logits.expand(len(x), -1)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_each_epoch_shows_each_image_once_in_a_random_view():
    labels = torch.tensor([0] * 20 + [1] * 4)
    # All images have two views, and those of the second class four.
    positions = torch.cat([torch.arange(24), torch.arange(24), torch.arange(20, 24), torch.arange(20, 24)])
    network = Watched(len(positions))
    inputs = torch.arange(len(positions)).view(-1, 1, 1, 1)
    train_blocks(network, inputs, positions, labels, rate=1e-2, seed=0, epochs=400)
    assert torch.zeros(24).index_add(0, positions, network.shown).tolist() == [400] * 24
    expected = 400 / positions.bincount()[positions]
    torch.testing.assert_close(network.shown, expected, rtol=0, atol=60)
    # Balanced softmax: classes are equally probable on balanced data.
    torch.testing.assert_close(network.logits.softmax(dim=0), torch.full((2,), 0.5), atol=0.03, rtol=0)


@pytest.fixture
def data_root(tmp_path):
    generator = np.random.default_rng(0)
    for name, tiles in {"Crack": 5, "Free": 9}.items():
        folder = tmp_path / "photos" / "tiles" / "train" / name
        folder.mkdir(parents=True)
        for tile in range(tiles):
            pixels = generator.integers(0, 200, (24, 18), dtype=np.uint8)
            pixels[4:12, 6:10] += 50 * (name == "Crack")
            Image.fromarray(pixels).save(folder / f"tile{tile:03}_0.jpg")
    return tmp_path


def test_learning_rate_is_that_of_standard_views_and_nothing_is_measured_twice(
    data_root, tmp_path, capsys, monkeypatch
):
    def first(images):
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 4)

    def last(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))

    output = tmp_path / "own"
    arguments = ["finetune", "--datasets", "tiles", "--arms", "more_views:classes=all", "motion:classes=all"]
    arguments += ["--seeds", "1", "--epochs", "1", "--data-root", str(data_root), "--output", str(output)]
    monkeypatch.setattr(finetuning, "TRAININGS", 2)
    main([*arguments, "--cache", str(tmp_path / "cache")], first, last)
    with (output / "finetuned.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    plain = {
        float(line["rate"]): float(line["balanced_accuracy"])
        for line in lines
        if (line["arm"], line["training"]) == ("plain", "0")
    }
    assert sorted(plain) == sorted(finetuning.RATES)
    (rate,) = {float(line["rate"]) for line in lines if line["arm"] != "plain"}
    assert plain[rate] == max(plain.values())
    assert len(lines) == len(finetuning.RATES) + 2 + 3
    text = (output / "REPORT.md").read_text()
    assert text.count("\n| motion:classes=all |") == 1
    capsys.readouterr()
    main([*arguments, "--cache", str(tmp_path / "cache")], first, lambda _: pytest.fail("trained again"))
    assert capsys.readouterr().out.count("0 runs are missing") == 2
    main([*arguments, "--cache", str(tmp_path / "cache"), "--finetuning-epochs", "24"], first, last)
    printed = capsys.readouterr().out
    assert "0 runs are missing" in printed
    assert "3 runs are missing, about 6 minutes" in printed
    assert (output / "REPORT.md").read_text().count("\n| motion:classes=all |") == 2


def test_differences_are_paired_by_split(tmp_path):
    def runs(arm, values, rate=3e-4, training=0, epochs=12):
        settings = settings_of(epochs)
        return [
            FinetunedRun("tiles", "validation", arm, rate, seed, training, value, value / 2, "", settings, "", "")
            for seed, value in enumerate(values)
        ]

    measured = runs("plain", [50.0, 70.0, 64.0]) + runs("motion:classes=all", [51.0, 73.0, 66.0])
    # The second training of the first split is counted where all arms have it.
    measured += runs("plain", [52.0], training=1) + runs("motion:classes=all", [53.0], training=1)
    measured += runs("more_views:classes=all", [53.0], training=1) + runs("plain", [0.0, 0.0], training=2)
    measured += runs("more_views:classes=all", [51.0, 71.0, 65.0]) + runs("plain", [10.0, 20.0, 30.0], rate=1e-3)
    # Longer trainings have a table of their own, and do not choose the learning rate.
    measured += runs("plain", [80.0, 82.0, 84.0], epochs=48) + runs("motion:classes=all", [81.0, 84.0, 87.0], epochs=48)
    measured += runs("plain", [99.0, 99.0, 99.0], rate=1e-3, epochs=48)
    table = finetuned_table(tmp_path / "runs.csv")
    table.add(*measured)
    text = finetuned_report(list(finetuned_table(table.path).records.values()))
    assert "### tiles, validation, learning rate 0.0003" in text
    assert "61.33 with 0.0003, 20.00 with 0.001" in text
    assert "| motion:classes=all | 63.67 | +2.00 ± 0.58 | +1.00 ± 0.58 | 3 of 3 | 31.83 |" in text
    assert "| more_views:classes=all | 62.67 | +1.00 ± 0.00 |  | 3 of 3 | 31.33 |" in text
    assert text.index("12 epochs of") < text.index("48 epochs of")
    assert "| motion:classes=all | 84.00 | +2.00 ± 0.58 |  | 3 of 3 | 42.00 |" in text
