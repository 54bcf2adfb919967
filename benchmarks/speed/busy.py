r"""Processes that keep the cores busy."""

__all__ = ["busy_machine"]

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def busy_machine() -> Iterator[None]:
    r"""Runs as many busy processes as there are cores."""
    with ExitStack() as others:
        for _ in range(os.cpu_count() or 1):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            # Killed before it is waited for.
            others.callback(other.kill)
        yield
