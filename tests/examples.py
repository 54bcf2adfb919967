"""Runs the examples of a Markdown page as a reader would: files are written, shell lines run, and output compared."""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# ```python, ```{code-block} python with options, ```bash, ```text
FENCE = re.compile(r"^```(?:\{code-block\} )?(\w+)\n((?::\w+:[^\n]*\n)*)(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    options: dict[str, str]
    code: str


def blocks(page: str) -> list[Block]:
    found = []
    for language, options, code in FENCE.findall(page):
        pairs = re.findall(r"^:(\w+): *(.*)$", options, flags=re.MULTILINE)
        found.append(Block(language, dict(pairs), code.lstrip("\n")))
    return found


def run(page: str, name: str, names: dict) -> None:
    r"""Runs a page in the current folder, from top to bottom, its Python with the names that are given."""
    output = ""
    for language, options, code in blocks(page):
        if "caption" in options:
            Path(options["caption"]).write_text(code)
        elif language == "python" and "class" not in options:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, name, "exec"), names)
            output = printed.getvalue()
        elif language == "bash":
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code],
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "PATH": path},
            )
            assert ran.returncode == 0, f"{code}\n{ran.stdout}\n{ran.stderr}"
            output = ran.stdout
        elif language == "text":
            checker = doctest.OutputChecker()
            # A line of three dots stands for any lines, and ends of lines do not count.
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(code, output, flags), f"{name} shows\n{code}\nand the example prints\n{output}"
