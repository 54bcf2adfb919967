import numpy as np
import pytest
import torch

from gae_augment._utils.checks import check_integer, check_number, check_tensor


@pytest.mark.parametrize("value", [3, np.int16(3), 10**30])
def test_integers_of_every_type_are_accepted(value):
    check_integer(value, "n", 3)


@pytest.mark.parametrize("value", [None, "3", 3.0, True, [], torch.tensor(3)])
def test_other_values_are_no_integers(value):
    with pytest.raises(TypeError, match=r"^'n' is .*, but must be an integer of at least 1\."):
        check_integer(value, "n", 1)


def test_small_integers_are_refused():
    with pytest.raises(ValueError, match=r"^'n' is 0, but must be at least 1\."):
        check_integer(0, "n", 1)
    check_integer(-5, "n")


def test_numbers_must_be_in_their_range():
    check_number(np.float32(0.5), "f", 0, 1)
    check_number(1, "f", 0, 1)
    for value, error in ((None, TypeError), ("0.5", TypeError), (1.1, ValueError), (float("nan"), ValueError)):
        with pytest.raises(error, match=r"^'f' is .*, but must be a number between 0 and 1\."):
            check_number(value, "f", 0, 1)


def test_arrays_are_no_tensors():
    check_tensor(torch.zeros(2), "images")
    with pytest.raises(TypeError, match=r"^'images' is of type ndarray, but must be a tensor\. .*from_numpy"):
        check_tensor(np.zeros(2), "images")
