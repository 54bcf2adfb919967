import pytest
import torch

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import local_lipschitz
from gae_augment.models.networks import build_autoencoder


def test_linear_map_has_its_largest_singular_value():
    matrix = torch.randn(7, 3, generator=make_generator("matrix"), dtype=torch.float64)
    z = torch.randn(4, 3, generator=make_generator("z"), dtype=torch.float64)
    expected = torch.linalg.svdvals(matrix)[0].expand(4)
    torch.testing.assert_close(local_lipschitz(lambda codes: codes @ matrix.T, z, iterations=100), expected)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_decoder_matches_the_norm_of_its_jacobian():
    network = build_autoencoder((1, 6, 6), 3, "fc", generator=make_generator(0))
    torch.nn.init.normal_(network.decoder[-2].weight, std=0.1, generator=make_generator("last"))
    z = torch.randn(5, 3, generator=make_generator("z"))

    def decode(codes):
        return network.decode(codes).sigmoid()

    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda code: decode(code[None]).flatten(), code) for code in z]
    )
    expected = torch.linalg.matrix_norm(jacobians, ord=2)
    torch.testing.assert_close(local_lipschitz(decode, z, iterations=100), expected, rtol=1e-3, atol=0)


def test_constant_decoder_has_zero():
    assert not local_lipschitz(lambda codes: 0 * codes, torch.ones(2, 3)).any()


@pytest.mark.parametrize(
    ("z", "iterations", "message"),
    [
        (torch.zeros(3), 5, r"'z' has shape \(3,\) and 'iterations' is 5, but they need shape \(N, d\)"),
        (torch.zeros(2, 3), 0, r"'z' has shape \(2, 3\) and 'iterations' is 0, but they need shape \(N, d\)"),
    ],
)
def test_invalid_input_raises(z, iterations, message):
    with pytest.raises(ValueError, match=message):
        local_lipschitz(lambda codes: codes, z, iterations=iterations)
