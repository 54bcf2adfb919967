r"""Runs one command, and prints its result or its error."""

__all__ = ["run"]

import json
import sys
import warnings
from collections.abc import Sequence

from sklearn.exceptions import NotFittedError

from .._utils.text import printable
from .memory import keep_freed_memory
from .parser import make_parser
from .resuming import unfinished

USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError, NotFittedError, ModuleNotFoundError)


def run(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command of the command line, and returns the exit status, as :func:`gae_augment.cli.main` says.

    Args:
        argv: The arguments after the program's name. ``None`` uses the arguments of this process.
    """
    arguments = make_parser().parse_args(argv)
    prefix = f"gae-augment {arguments.command}"
    as_json = getattr(arguments, "json", False)
    with warnings.catch_warnings(), keep_freed_memory():
        warnings.showwarning = lambda message, *_, **__: print(f"{prefix}: warning: {message}", file=sys.stderr)
        try:
            outcome = arguments.run(arguments)
        except USER_ERRORS as error:
            print(f"{prefix}: {error}", file=sys.stderr)
            if as_json:
                print(json.dumps({"error": str(error)}))
            return 1
        except KeyboardInterrupt:
            folder = getattr(arguments, "checkpoint_dir", None)
            if folder is None and arguments.command == "balance" and unfinished(arguments.output).is_dir():
                folder = str(unfinished(arguments.output))
            hint = f". The fitted classes are in {folder!r}; run the same command again to resume" if folder else ""
            print(f"{prefix}: interrupted{hint}", file=sys.stderr)
            return 130
    print(printable(json.dumps(outcome.values, indent=2) if as_json else outcome.text, sys.stdout.encoding))
    return 0
