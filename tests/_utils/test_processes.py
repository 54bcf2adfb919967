import subprocess
import sys

from processes import interruptible


def test_interruptible_children_do_not_inherit_an_ignored_sigint():
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    command = [sys.executable, "-c", program]
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    printed = [
        subprocess.run([*ignoring, *child], check=True, capture_output=True, text=True, timeout=60).stdout
        for child in (command, interruptible(command))
    ]
    assert printed == ["False\n", "True\n"]
