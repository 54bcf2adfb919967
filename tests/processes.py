"""Child processes that react to Ctrl+C, also where the test suite ignores it; and a Ray cluster of the tests' own."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

RESET = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def interruptible(command: list[str | os.PathLike]) -> list[str | os.PathLike]:
    r"""Returns the command for ``subprocess`` with the default handling of SIGINT, under the same process ID.

    A background job ignores SIGINT, its children inherit this, and Python then raises no ``KeyboardInterrupt``.
    The launcher replaces ``preexec_fn``, which is unsafe in a process with threads.

    Args:
        command: The absolute path of a program, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", RESET, *command]


@contextmanager
def isolated_ray() -> Iterator[None]:
    r"""Hides Ray clusters of the user from the tests, and those of the tests from the user.

    Ray notes the address of the newest cluster in its temporary folder. The paths of its sockets must be short. Each
    test process has a folder of its own, so that several clusters can run side by side.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", folder)
        yield
        # A test that fails does not stop its cluster.
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
