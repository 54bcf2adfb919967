r"""Silence for verbose libraries."""

__all__ = ["silence"]

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    r"""Silences pythae's progress bars and its log lines of each epoch."""
    before = logging.root.manager.disable
    # Each of its loggers has its own level and handler.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
