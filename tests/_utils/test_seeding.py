import hashlib

import numpy as np
import pytest
import torch

from gae_augment._utils.seeding import derive_seed, make_generator, resolve_random_state


def test_seed_is_the_start_of_a_sha256_hash():
    expected = int.from_bytes(hashlib.sha256(b"int:7\x1fstr:fit\x1fint:3").digest()[:8], "big") // 2
    assert derive_seed(7, "fit", 3) == expected


def test_seed_depends_on_every_part_and_their_order():
    parts = [(0,), (1,), ("1",), (0, "a"), (0, "a", 1), (0, "a", "1"), (0, "b"), ("a", 0), (-1,), (0, ""), (0, 0)]
    assert len({derive_seed(*part) for part in parts}) == len(parts)
    assert all(0 <= derive_seed(*part) < 2**63 for part in parts)


def test_numpy_and_torch_scalars_give_the_same_seed():
    expected = derive_seed(3, "cat")
    assert derive_seed(np.int64(3), np.str_("cat")) == expected
    assert derive_seed(np.uint8(3), "cat") == expected
    assert derive_seed(torch.tensor(3), "cat") == expected


def test_floating_point_parts_are_refused():
    with pytest.raises(TypeError, match="float"):
        derive_seed(0.5)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_generator_is_reproducible():
    first = torch.rand(5, generator=make_generator(0, "use"))
    assert torch.equal(torch.rand(5, generator=make_generator(0, "use")), first)
    assert not torch.equal(torch.rand(5, generator=make_generator(0, "other use")), first)


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_random_state_gives_a_seed():
    assert resolve_random_state(5) == 5
    assert resolve_random_state(np.int64(5)) == 5
    assert resolve_random_state(None) != resolve_random_state(None)
    legacy = np.random.RandomState(0)
    assert resolve_random_state(legacy) != resolve_random_state(legacy)
    assert resolve_random_state(np.random.default_rng(0)) == resolve_random_state(np.random.default_rng(0))


@pytest.mark.parametrize("random_state", [True, 1.5, "0", [1]])
def test_random_states_of_other_types_are_refused(random_state):
    with pytest.raises(
        ValueError,
        match=r"'random_state' is .*, but must be None, an integer, or a NumPy RandomState .*Pass an integer",
    ):
        resolve_random_state(random_state)
