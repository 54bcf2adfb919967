import ctypes
import platform
import subprocess
import sys

import pytest

# How often a page of memory had to be had from the system, for a block of 48 MB that is taken and freed twenty times.
PROGRAM = """
import resource, sys
import torch
from contextlib import nullcontext
from gae_augment.cli.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def taken_and_freed(context):
    with context:
        for _ in range(8):
            torch.ones(12_000_000)
        before = faults()
        for _ in range(20):
            torch.ones(12_000_000)
        return faults() - before

torch.set_num_threads(1)
found = [taken_and_freed(context) for context in (nullcontext(), keep_freed_memory)]
with keep_freed_memory, keep_freed_memory:
    blocks = [torch.ones(1_000_000) for _ in range(50)]
    del blocks
    inside = resident()
print(*found, inside - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")
def test_blocks_are_kept_inside_and_given_back_at_the_end():
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    before, inside, given_back = map(int, run.stdout.split())
    # Without it every page, of 4 KB or of 2 MB, is had anew each time.
    assert before >= 20 * 48_000_000 // 2**21
    assert inside < before / 10
    assert given_back > 150_000_000


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_is_left_alone(name, monkeypatch):
    from gae_augment import allocation

    monkeypatch.setenv(name, "")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the library was opened"))
    with allocation.keep_freed_memory:
        pass


def test_another_library_is_left_alone(monkeypatch):
    from gae_augment import allocation

    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with allocation.keep_freed_memory:
        pass
