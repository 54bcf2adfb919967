import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from gae_augment._utils.seeding import make_generator
from gae_augment.models.likelihoods import Bernoulli, Gaussian
from gae_augment.models.networks import Resize, build_autoencoder


@pytest.mark.parametrize("architecture", ["fc", "paper", "conv", "conv_half"])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (3, 32, 32), (3, 7, 5), (1, 1, 1), (3, 1, 9), (2, 13, 1), (4, 33, 2), (8, 8), (5, 1), (1, 1)],
    ids=str,
)
def test_codes_and_outputs_have_the_expected_shapes(shape, architecture):
    network = build_autoencoder(shape, 3, architecture, generator=make_generator(0))
    x = torch.rand(2, *shape, generator=make_generator(1))
    z = network.encode(x)
    assert z.shape == (2, 3)
    assert network.decode(z).shape == x.shape


@pytest.mark.parametrize("architecture", ["fc", "paper"])
def test_fully_connected_networks_accept_vectors(architecture):
    network = build_autoencoder((6,), 2, architecture, generator=make_generator(0))
    assert network.decode(network.encode(torch.zeros(3, 6))).shape == (3, 6)


def output_widths(network):
    return [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_paper_architecture_has_the_widths_of_the_paper():
    network = build_autoencoder((1, 28, 28), 10, "paper")
    assert output_widths(network.encoder) == [500, 500, 2000, 10]
    assert output_widths(network.decoder) == [2000, 500, 500, 784]
    # A ReLU follows each layer except the last.
    for module in (network.encoder, network.decoder):
        layers = [layer for layer in module if isinstance(layer, nn.Linear | nn.ReLU)]
        assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]


def test_fc_architecture_has_widths_1000_and_500():
    network = build_autoencoder((28, 28), 10, "fc")
    assert (output_widths(network.encoder), output_widths(network.decoder)) == ([1000, 500, 10], [500, 1000, 784])


def test_convolutions_reduce_images_to_at_most_4x4_pixels():
    network = build_autoencoder((3, 64, 33), 5, "conv")
    strided = [layer for layer in network.encoder if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    (flat,) = [layer.in_features for layer in network.encoder if isinstance(layer, nn.Linear)]
    assert len(strided) == 4
    assert flat == strided[-1].out_channels * 4 * 3


def test_weights_of_conv_keep_the_names_of_saved_files():
    weights = build_autoencoder((3, 16, 16), 5, "conv").state_dict()
    assert {name: tuple(weights[name].shape) for name in weights if name.endswith("weight")} == {
        "encoder.1.weight": (16, 3, 3, 3),
        "encoder.3.weight": (32, 16, 3, 3),
        "encoder.5.weight": (64, 32, 3, 3),
        "encoder.8.weight": (5, 64 * 4 * 4),
        "decoder.0.weight": (64 * 4 * 4, 5),
        "decoder.3.convolution.weight": (32, 64, 3, 3),
        "decoder.4.convolution.weight": (16, 32, 3, 3),
        "decoder.5.weight": (3, 16, 3, 3),
    }


@pytest.mark.parametrize("shape", [(3, 64, 33), (1, 9, 9), (33, 64)], ids=str)
def test_conv_half_has_maps_of_half_the_size(shape):
    network = build_autoencoder(shape, 4, "conv_half", generator=make_generator(0))
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, maps: sizes.append(tuple(maps.shape[-2:])))
    decoded = network.decode(network.encode(torch.rand(2, *shape)))
    assert decoded.shape == (2, *shape)
    assert sizes[0] == sizes[-1] == tuple(-(-size // 2) for size in shape[-2:]) == max(sizes)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 33, 46), (1, 1, 9), (4, 7)], ids=str)
def test_conv_half_enlarges_maps_as_pytorch_interpolates(shape):
    decoder = build_autoencoder(shape, 3, "conv_half", generator=make_generator(0)).decoder
    height, width = shape[-2:]
    maps = torch.randn(2, *shape[:-2], -(-height // 2), -(-width // 2), generator=make_generator(1))
    maps = maps.reshape(2, -1, *maps.shape[-2:])
    expected = functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    resize = next(layer for layer in decoder if isinstance(layer, Resize))
    # In bfloat16, they would differ by a hundredth.
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(resize(maps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["conv", "conv_half"])
def test_outputs_do_not_depend_on_the_rest_of_the_batch(architecture):
    network = build_autoencoder((3, 9, 9), 4, architecture, generator=make_generator(0))
    x = torch.rand(3, 3, 9, 9, generator=make_generator(1))
    separate = torch.cat([network.decode(network.encode(image[None])) for image in x])
    torch.testing.assert_close(network.decode(network.encode(x)), separate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_weights_depend_only_on_the_given_generator(architecture):
    def weights(seed):
        network = build_autoencoder((1, 9, 9), 4, architecture, generator=make_generator(seed))
        return nn.utils.parameters_to_vector(network.parameters())

    first = weights(0)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_weights_have_he_variance(architecture):
    network = build_autoencoder((3, 16, 16), 64, architecture, generator=make_generator(0))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    # The decoder's last layer starts at 0, so that the first output is the mean image.
    *hidden, last = layers
    assert not last.weight.any()
    assert not last.bias.any()
    assert hidden
    for layer in hidden:
        fan_in = math.prod(layer.weight.shape[1:])
        # The sample variance of a uniform distribution has a relative standard error of sqrt(0.8 / n).
        tolerance = 5 * math.sqrt(0.8 / layer.weight.numel())
        assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=tolerance)
        # Biases are small but not 0, so that the units of the first layer do not all bend at the origin.
        assert 0 < layer.bias.abs().max() <= 1 / fan_in


def normalised_network(x, likelihood, architecture="fc"):
    network = build_autoencoder(tuple(x.shape[1:]), 3, architecture, generator=make_generator(0))
    network.fit_normalisation(x, likelihood)
    return network


@pytest.mark.parametrize("architecture", ["fc", "conv", "conv_half"])
def test_normalised_network_maps_the_origin_to_the_mean_image(architecture):
    x = torch.rand(20, 2, 5, 4, generator=make_generator("x")) * 0.3 + 0.1
    for likelihood, activation in ((Bernoulli(), torch.sigmoid), (Gaussian(), torch.clone)):
        network = normalised_network(x, likelihood, architecture)
        for parameter in [*network.decoder.parameters()][-2:]:
            nn.init.zeros_(parameter)
        torch.testing.assert_close(activation(network.decode(torch.ones(1, 3))), x.mean(dim=0, keepdim=True))
        torch.testing.assert_close(
            network.encode(x.mean(dim=0, keepdim=True)), network.encoder(torch.zeros(1, 2, 5, 4))
        )


def test_codes_do_not_depend_on_contrast_and_brightness():
    x = torch.rand(20, 6, generator=make_generator("x"))
    bright, dim = normalised_network(x, Gaussian()), normalised_network(0.1 * x + 5, Gaussian())
    z = bright.encode(x)
    torch.testing.assert_close(dim.encode(0.1 * x + 5), z, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dim.decode(z), 0.1 * bright.decode(z) + 5, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_normalisation_of_constant_images_is_finite(value):
    x = torch.full((4, 1, 3, 3), value)
    network = normalised_network(x, Bernoulli())
    torch.testing.assert_close(network.encode(x), network.encoder(torch.zeros(4, 1, 3, 3)))
    # The first output is the image itself, up to a thousandth for black and white.
    torch.testing.assert_close(network.decode(torch.zeros(4, 3)).sigmoid(), x, atol=1.01e-3, rtol=0)


def test_weights_are_float32_for_any_default_type_of_torch():
    torch.set_default_dtype(torch.float64)
    try:
        network = build_autoencoder((1, 9, 9), 4, "conv", generator=make_generator(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}


def test_unknown_architecture_is_refused():
    with pytest.raises(
        ValueError,
        match=r"is 'resnet', but must be one of 'auto', 'conv', 'conv_half', 'fc', 'paper', or a tuple of widths",
    ):
        build_autoencoder((1, 8, 8), 2, "resnet")


def test_convolutions_for_vectors_are_refused():
    with pytest.raises(ValueError, match=r"'conv', but the data are vectors of 12 features\. Use architecture='fc'"):
        build_autoencoder((12,), 2, "conv")
