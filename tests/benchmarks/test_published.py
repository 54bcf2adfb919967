r"""Trainings by the protocol of published tables: the network, the learning rate, and trainings that were killed."""

import pytest
import torch

from benchmarks.imbalance.networks import build_resnet32
from benchmarks.motion import banks, published, training
from benchmarks.motion.__main__ import main


def test_network_is_the_published_one():
    network = build_resnet32(3, 10, seed=0)
    # The number that https://github.com/akamaster/pytorch_resnet_cifar10 gives for its ResNet-32, which is this one.
    assert sum(weights.numel() for weights in network.parameters()) == 464_154
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == 31
    shapes = []
    network[-3].register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(2, 64, 8, 8)]


def test_shortcut_keeps_every_second_pixel_of_every_channel():
    x = torch.rand(2, 3, 6, 6)
    network = build_resnet32(3, 10, seed=0)
    shortcut = next(module for module in network.modules() if type(module).__name__ == "Padded")
    halved = shortcut(x)
    torch.testing.assert_close(halved[:, :3], x[:, :, ::2, ::2])
    assert halved.shape == (2, 6, 3, 3)
    assert not halved[:, 3:].any()


def test_learning_rate_warms_up_and_falls_twice():
    rates = [published.learning_rate(epoch) for epoch in (0, 1, 4, 159, 160, 179, 180, 199)]
    assert rates == pytest.approx([0.02, 0.04, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])


@pytest.mark.usefixtures("global_rngs_unmoved")
@pytest.mark.parametrize("strategy", ["balanced softmax", "square-root sampling"])
def test_killed_training_goes_on_to_the_same_weights(tmp_path, strategy, monkeypatch):
    monkeypatch.setattr(published, "KEPT_EVERY", 2)
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(40) // 30
    fields = 0.2 * torch.randn(1, 6, 2, 8, 8, generator=generator)
    motions = [banks.Motions(factor * fields, torch.zeros(1, 6, 1, 1, 1)) for factor in (0.25, 0.5, 0.75, 1, 1.25, 1.5)]

    def train(name, epochs):
        mover = training.AdaptiveMover(motions, torch.ones(2))
        network = published.train_published(
            real, classes=2, regime="flipcrop", seed=0, strategy=strategy, file=tmp_path / name, mover=mover,
            epochs=epochs,
        )  # fmt: skip
        return network.state_dict(), mover.strengths

    whole, strengths = train("whole", 5)
    assert len(strengths) == 6
    # Killed in the fourth epoch, after which nothing was kept.
    train("killed", 3)
    again, same_strengths = train("killed", 5)
    assert same_strengths == strengths
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_arms_without_a_published_training_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--budgets", "published", "--arms", "residual", "--output", str(tmp_path), "--cache", str(tmp_path)])
    assert "'residual' has synthetic images" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
