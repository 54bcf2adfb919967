r"""Silence for libraries that talk much."""

__all__ = ["silence"]

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    r"""Lets pythae train without its bars and the lines that it logs for each epoch."""
    before = logging.root.manager.disable
    # Each of its loggers has a level and a handler of its own.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
