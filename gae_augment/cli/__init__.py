r"""The command line: ``gae-augment demo | fit | sample | balance | evaluate | report | completion``."""

__all__ = ["main"]

import json
import sys
import warnings
from collections.abc import Sequence

from sklearn.exceptions import NotFittedError

from .parser import make_parser

USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError, NotFittedError, ModuleNotFoundError)


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command, and returns the exit status.

    It is 0; 1 after an error that the user can mend, which is one line; 2 where the command line itself is wrong; and
    130 after an interruption. With ``--json`` what a command came to is one JSON object on the standard output, an
    error too, as ``{"error": …}``; progress and warnings are on the error output.
    """
    arguments = make_parser().parse_args(argv)
    said = f"gae-augment {arguments.command}"
    as_json = getattr(arguments, "json", False)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"{said}: warning: {message}", file=sys.stderr)
        try:
            outcome = arguments.run(arguments)
        except USER_ERRORS as error:
            print(f"{said}: {error}", file=sys.stderr)
            if as_json:
                print(json.dumps({"error": str(error)}))
            return 1
        except KeyboardInterrupt:
            kept = getattr(arguments, "checkpoint_dir", None)
            told = (
                f". The classes that were fitted are in {kept!r}: the same command goes on from there" if kept else ""
            )
            print(f"{said}: interrupted{told}", file=sys.stderr)
            return 130
    print(json.dumps(outcome.values, indent=2) if as_json else outcome.text)
    return 0
