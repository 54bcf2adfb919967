r"""What a command takes on a machine whose cores have other work."""

import resource
import subprocess
import sys

import pytest

from .busy import busy_machine

ROUNDS = 1


def processor_seconds(command):
    r"""Runs a command, and returns the seconds that it and its workers took of processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.benchmark(group="busy machine")
def test_demonstration_beside_busy_processes(benchmark, record, tmp_path):
    r"""The demonstration with one seed, beside as many busy processes as there are cores."""
    arguments = ["demo", "--seeds", "1", "--output", str(tmp_path / "demo")]
    command = [sys.executable, "-c", f"from gae_augment.cli import main; main({arguments})"]
    busy, alone = [], []

    def measured():
        alone.append(processor_seconds(command))
        with busy_machine():
            busy.append(processor_seconds(command))

    benchmark.pedantic(measured, rounds=ROUNDS, iterations=1)
    what = "the demonstration of one seed, beside as many busy processes as cores"
    record(busy, alone, unit="CPU s", what=what, beside="the same alone", aim=1.3)
