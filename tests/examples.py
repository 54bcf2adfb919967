"""Runs the examples of a Markdown page as a reader would: writes files, runs shell commands, compares output."""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from gae_augment.cli import main

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


def _run_command(command: str) -> str:
    r"""Runs a line of the shell, and returns its output.

    Commands of gae-augment run in this process. A process of their own would import PyTorch each time.
    """
    program, *arguments = shlex.split(command)
    if program == "gae-augment":
        with (
            contextlib.redirect_stdout(io.StringIO()) as printed,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            status = main(arguments)
        output, messages = printed.getvalue(), errors.getvalue()
    else:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        options = ["-euo", "pipefail", "-c", command]
        process = subprocess.run(["bash", *options], capture_output=True, text=True, timeout=300, env=environment)
        status, output, messages = process.returncode, process.stdout, process.stderr
    assert status == 0, f"{command}\n{output}\n{messages}"
    return output


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
            output = "".join(_run_command(command) for command in code.replace("\\\n", " ").splitlines())
        elif language == "text":
            checker = doctest.OutputChecker()
            # Three dots stand for any text, and differences in white space are ignored.
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(code, output, flags), f"{name} shows\n{code}\nbut the example printed\n{output}"
