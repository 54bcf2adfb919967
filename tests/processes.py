"""Child processes that react to Ctrl+C, also where the test suite itself ignores it."""

import os
import sys

RESET = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def interruptible(command: list[str | os.PathLike]) -> list[str | os.PathLike]:
    r"""Returns the command for ``subprocess`` with the default handling of SIGINT, under the same process ID.

    A background job ignores SIGINT, its children inherit this, and Python then raises no ``KeyboardInterrupt``.
    The launcher replaces ``preexec_fn``, which is unsafe in a process with threads.

    Args:
        command: The absolute path of a program, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", RESET, *command]
