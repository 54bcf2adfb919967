import math

import pytest
import torch
from torch import nn

from gae_augment._utils.seeding import make_generator
from gae_augment.models.likelihoods import Bernoulli, Gaussian
from gae_augment.models.networks import build_autoencoder, resolve_architecture


@pytest.mark.parametrize("architecture", ["fc", "paper", "conv"])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (3, 32, 32), (3, 7, 5), (1, 1, 1), (3, 1, 9), (2, 13, 1), (4, 33, 2), (8, 8), (5, 1), (1, 1)],
    ids=str,
)
def test_shapes(shape, architecture):
    network = build_autoencoder(shape, 3, architecture, generator=make_generator(0))
    x = torch.rand(2, *shape, generator=make_generator(1))
    z = network.encode(x)
    assert z.shape == (2, 3)
    assert network.decode(z).shape == x.shape


@pytest.mark.parametrize("architecture", ["fc", "paper"])
def test_vectors(architecture):
    network = build_autoencoder((6,), 2, architecture, generator=make_generator(0))
    assert network.decode(network.encode(torch.zeros(3, 6))).shape == (3, 6)


def widths(network):
    return [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_widths_of_the_paper():
    network = build_autoencoder((1, 28, 28), 10, "paper")
    assert widths(network.encoder) == [500, 500, 2000, 10]
    assert widths(network.decoder) == [2000, 500, 500, 784]
    # No activation after the last layer of either, and a ReLU after every other one.
    for part in (network.encoder, network.decoder):
        layers = [layer for layer in part if isinstance(layer, nn.Linear | nn.ReLU)]
        assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]


def test_widths_of_fc():
    network = build_autoencoder((28, 28), 10, "fc")
    assert (widths(network.encoder), widths(network.decoder)) == ([1000, 500, 10], [500, 1000, 784])


def test_convolutions_go_down_to_four_pixels():
    network = build_autoencoder((3, 64, 33), 5, "conv")
    strided = [layer for layer in network.encoder if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    (flat,) = [layer.in_features for layer in network.encoder if isinstance(layer, nn.Linear)]
    assert len(strided) == 4
    assert flat == strided[-1].out_channels * 4 * 3


def test_images_in_a_batch_do_not_mix():
    network = build_autoencoder((3, 9, 9), 4, "conv", generator=make_generator(0))
    x = torch.rand(3, 3, 9, 9, generator=make_generator(1))
    alone = torch.cat([network.decode(network.encode(one[None])) for one in x])
    torch.testing.assert_close(network.decode(network.encode(x)), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["fc", "conv"])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_weights_depend_on_the_generator_alone(architecture):
    def weights(seed):
        network = build_autoencoder((1, 9, 9), 4, architecture, generator=make_generator(seed))
        return nn.utils.parameters_to_vector(network.parameters())

    first = weights(0)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


@pytest.mark.parametrize("architecture", ["fc", "conv"])
def test_weights_have_he_variance(architecture):
    network = build_autoencoder((3, 16, 16), 64, architecture, generator=make_generator(0))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    # The decoder's last layer begins at 0, so that the first output is the mean image.
    *others, last = layers
    assert not last.weight.any()
    assert not last.bias.any()
    assert others
    for layer in others:
        fan_in = math.prod(layer.weight.shape[1:])
        # A uniform distribution's variance has a relative standard error of sqrt(0.8 / n).
        tolerance = 5 * math.sqrt(0.8 / layer.weight.numel())
        assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=tolerance)
        # Small ones, so that bends of first layers do not all lie in the origin.
        assert 0 < layer.bias.abs().max() <= 1 / fan_in


def centred(x, likelihood, architecture="fc"):
    network = build_autoencoder(tuple(x.shape[1:]), 3, architecture, generator=make_generator(0))
    network.fit_normalisation(x, likelihood)
    return network


@pytest.mark.parametrize("architecture", ["fc", "conv"])
def test_centred_network_has_the_mean_image_as_its_origin(architecture):
    x = torch.rand(20, 2, 5, 4, generator=make_generator("x")) * 0.3 + 0.1
    for likelihood, activation in ((Bernoulli(), torch.sigmoid), (Gaussian(), torch.clone)):
        network = centred(x, likelihood, architecture)
        for parameter in [*network.decoder.parameters()][-2:]:
            nn.init.zeros_(parameter)
        torch.testing.assert_close(activation(network.decode(torch.ones(1, 3))), x.mean(dim=0, keepdim=True))
        torch.testing.assert_close(
            network.encode(x.mean(dim=0, keepdim=True)), network.encoder(torch.zeros(1, 2, 5, 4))
        )


def test_centred_network_does_not_see_contrast_and_brightness():
    x = torch.rand(20, 6, generator=make_generator("x"))
    bright, dim = centred(x, Gaussian()), centred(0.1 * x + 5, Gaussian())
    z = bright.encode(x)
    torch.testing.assert_close(dim.encode(0.1 * x + 5), z, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dim.decode(z), 0.1 * bright.decode(z) + 5, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_centring_on_constant_images_is_finite(value):
    x = torch.full((4, 1, 3, 3), value)
    network = centred(x, Bernoulli())
    torch.testing.assert_close(network.encode(x), network.encoder(torch.zeros(4, 1, 3, 3)))
    # The decoder begins at the image itself, or within a thousandth of black and white.
    torch.testing.assert_close(network.decode(torch.zeros(4, 3)).sigmoid(), x, atol=1.01e-3, rtol=0)


def test_default_type_of_torch_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        network = build_autoencoder((1, 9, 9), 4, "conv", generator=make_generator(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 32, 32), "fc"), ((32, 32), "fc"), ((3, 32, 32), "conv"), ((33, 32), "conv"), ((5000,), "fc")],
    ids=str,
)
def test_auto(shape, expected):
    assert resolve_architecture("auto", shape) == expected


def test_unknown_architecture():
    with pytest.raises(ValueError, match=r"'auto', 'conv', 'fc', 'paper', or a tuple of widths .* and it is 'resnet'"):
        build_autoencoder((1, 8, 8), 2, "resnet")


def test_convolutions_need_images():
    with pytest.raises(ValueError, match=r"vectors of 12 features\. Use architecture='fc'"):
        build_autoencoder((12,), 2, "conv")
