import ctypes
import sys

import pytest
import torch

from gae_augment._utils.memory import return_freed_memory


def test_freed_memory_is_returned_and_memory_in_use_is_kept():
    kept = torch.arange(100_000)
    return_freed_memory()
    assert kept.tolist() == list(range(100_000))


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("a library was opened"))
    return_freed_memory()
