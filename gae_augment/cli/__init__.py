r"""The command line: ``gae-augment advise | demo | fit | sample | balance | evaluate | report | completion``."""

__all__ = ["main"]

import os
from collections.abc import Sequence

WAIT_POLICY = "OMP_WAIT_POLICY"
"""The environment variable by which the threads of a new process sleep while they wait for work, or spin."""


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command of the command line, and returns the exit status.

    The status is 0 after success, 1 after an error that the user can correct, and 130 after Ctrl+C. Wrong usage ends
    the process with status 2. With ``--json``, the command prints its result as one JSON object, or ``{"error": …}``
    with status 1.

    Threads of PyTorch sleep while they wait, unless PyTorch was imported before or ``OMP_WAIT_POLICY`` is set. Spinning
    threads would wait for cores that other processes have: beside two of these, the demonstration would take six times
    the processor seconds.

    Args:
        argv: The arguments after the program's name. ``None`` uses the arguments of this process.
    """
    is_set = WAIT_POLICY in os.environ
    # PyTorch's library of threads reads it once, when it is loaded. Worker processes inherit it.
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
    try:
        from .run import run

        return run(argv)
    finally:
        if not is_set:
            del os.environ[WAIT_POLICY]
