"""Runs the examples of a Markdown page as a reader would: writes files, runs shell commands, compares output."""

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
    page_blocks = []
    for language, options, code in FENCE.findall(page):
        pairs = re.findall(r"^:(\w+): *(.*)$", options, flags=re.MULTILINE)
        page_blocks.append(Block(language, dict(pairs), code.lstrip("\n")))
    return page_blocks


def run(page: str, name: str, names: dict) -> None:
    r"""Runs a page in the current folder, from top to bottom; its Python code reads and sets ``names``."""
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
            process = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code],
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "PATH": path},
            )
            assert process.returncode == 0, f"{code}\n{process.stdout}\n{process.stderr}"
            output = process.stdout
        elif language == "text":
            checker = doctest.OutputChecker()
            # Three dots stand for any text, and differences in white space are ignored.
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(code, output, flags), f"{name} shows\n{code}\nbut the example printed\n{output}"
