import ctypes
import os
import platform
import subprocess
import sys

import pytest

from gae_augment.cli import main
from gae_augment.cli.memory import VARIABLES, keep_freed_memory

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds belong to glibc")

# Counts page faults while a block of 48 MB is allocated and freed 20 times: outside, inside, and in a worker.
PROGRAM = """
import resource, subprocess, sys
import torch
from contextlib import nullcontext
from gae_augment.cli.memory import keep_freed_memory

def count_faults():
    for _ in range(8):
        torch.ones(12_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

torch.set_num_threads(1)
# The least of three: a busy system takes idle pages away, which are faults too when they come back.
if "worker" in sys.argv:
    print(min(count_faults() for _ in range(3)))
    sys.exit()
outside = count_faults()
with keep_freed_memory():
    inside = min(count_faults() for _ in range(3))
    worker = subprocess.run([sys.executable, *sys.argv, "worker"], check=True, capture_output=True, text=True).stdout
    blocks = [torch.ones(1_000_000) for _ in range(50)]
    del blocks
    kept = resident()
print(outside, inside, worker.strip(), kept - resident())
"""


@on_glibc
def test_freed_memory_is_kept_inside_and_returned_at_the_end(tmp_path, monkeypatch):
    for name in (*VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True, timeout=600)
    outside, inside, worker, returned = map(int, run.stdout.split())
    # Outside the system provides every page anew each time, whether pages have 4 KB or 2 MB.
    assert outside >= 20 * 48_000_000 // 2**21
    assert inside < outside / 10
    assert worker < outside / 10
    assert returned > 150_000_000


@on_glibc
def test_command_line_runs_a_command_inside_and_restores_the_environment(monkeypatch):
    for name in (*VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    thresholds = []

    def record_and_fail(*_, **__):
        thresholds.extend(map(os.environ.get, VARIABLES))
        raise ValueError("no folder")

    monkeypatch.setattr("gae_augment.cli.commands.check_output", record_and_fail)
    assert main(["demo"]) == 1
    assert thresholds == [str(2**30)] * 2
    assert not {*VARIABLES} & {*os.environ}


@pytest.mark.parametrize("name", [*VARIABLES, "GLIBC_TUNABLES"])
def test_settings_of_the_user_stay(name, monkeypatch):
    monkeypatch.setenv(name, "")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was opened"))
    with keep_freed_memory():
        assert os.environ[name] == ""
    assert os.environ[name] == ""


def test_other_c_libraries_stay_unchanged(monkeypatch):
    for name in (*VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with keep_freed_memory():
        assert not {*VARIABLES} & {*os.environ}
