r"""What can be typed: the commands and their options."""

__all__ = ["make_parser"]

import argparse

from .. import __version__
from ..export import FORMATS
from ..models import MODELS
from . import commands

EPILOG = "Status 0: done; 1: something that you can mend, told in a line; 2: wrong usage; 130: interrupted."


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, and it is {text}")
    return int(text)


def _jobs(text: str) -> int:
    return -1 if text == "-1" else _whole(text)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2:
        raise argparse.ArgumentTypeError(f"a size is a number or two, as 64 or 48x64, and it is {text}")
    return _whole(parts[0]), _whole(parts[-1])


def make_parser() -> argparse.ArgumentParser:
    r"""Returns the parser; what it parses has the function to call as ``run``."""
    parser = argparse.ArgumentParser(
        prog="gae-augment",
        description="Synthetic images for the scarce classes of an image classifier.",
        epilog=f"'gae-augment COMMAND --help' tells more. {EPILOG}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    telling = _options()
    telling.add_argument("--json", action="store_true", help="tell the outcome as one JSON object")
    device = _options()
    device.add_argument("--device", default="auto", help="cpu, cuda or auto (default: a GPU if there is one)")
    seed = _options()
    seed.add_argument("--seed", type=int, default=0, help="what everything random depends on (default: 0)")
    jobs = _options()
    jobs.add_argument(
        "--jobs", type=_jobs, help="classes, or shards, that are worked on at a time (default: one per core)"
    )
    model = _options()
    model.add_argument("--model", default="gae", choices=list(MODELS), help="the generative model (default: gae)")
    dry = _options()
    dry.add_argument("--dry-run", action="store_true", help="say what would be made and how long it would take")
    kept = _options()
    kept.add_argument(
        "--checkpoint-dir", help="a folder in which fitted classes are kept, so that a fit that is broken off goes on"
    )
    shards = _options()
    shards.add_argument(
        "--format", default="imagefolder", choices=list(FORMATS), help="what is written (default: imagefolder)"
    )
    shards.add_argument("--shard-size", type=_whole, default=1000, help="the most images of a shard (default: 1000)")
    size = _options()
    size.add_argument(
        "--size",
        type=_size,
        help="bring images to this size, as 64 or 48x64 (height x width); needed where they have several",
    )
    skipping = _options()
    skipping.add_argument(
        "--skip-unreadable", action="store_true", help="leave out files that cannot be read as images"
    )
    folder = _options()
    folder.add_argument("folder", help="a folder with one sub-folder of images per class")
    learning = folder, size, skipping, model, seed, device, jobs, kept, dry
    fitted = _options()
    fitted.add_argument("file", help="what 'gae-augment fit' wrote")
    fitted.add_argument("folder", help="the folder that it was fitted to")

    def add(name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = names.add_parser(name, parents=[*parents, telling], help=help, description=help, epilog=EPILOG)
        command.set_defaults(run=getattr(commands, name))
        return command

    command = add("demo", "a long-tailed data set, a classifier with and without synthetic images", device, jobs, size)
    command.add_argument(
        "--dataset", default="digits", help="digits, mnist, fashion_mnist, cifar10, or a folder (default: digits)"
    )
    command.add_argument("--data-root", help="where torchvision's data sets lie (default: $GAE_DATA_ROOT, or data)")
    command.add_argument(
        "--profile", help="natural, deepsmote or lt-R with a ratio R (default: one that suits the data set)"
    )
    _training(command, seeds=5, steps="1500; digits: 500")
    command.add_argument(
        "--inception",
        action="store_true",
        help="fidelity by Inception's features too, whose weights have to be at hand; slow on a CPU",
    )
    command.add_argument("--output", default="demo", help="folder for result.json and samples.png (default: demo)")

    command = add("fit", "learn the scarce classes of a folder of images", *learning)
    command.add_argument("--output", required=True, help="the file to write, such as augmenter.safetensors")
    command.add_argument("--force", action="store_true", help="write over an existing file")

    command = add(
        "sample", "write images of a fitted augmenter, in a folder for each class or in shards", seed, jobs, shards
    )
    command.add_argument("file", help="what 'gae-augment fit' wrote")
    command.add_argument(
        "--class", dest="label", help="the name or the number of a class (default: all that have a model)"
    )
    command.add_argument("--number", type=_whole, default=16, help="how many images of a class (default: 16)")
    command.add_argument("--output", required=True, help="the folder to write to")
    command.add_argument("--force", action="store_true", help="write into a folder that holds files")

    command = add(
        "balance",
        "copy a folder of images, with synthetic ones where a class has few",
        *learning,
        shards,
    )
    command.add_argument("--output", required=True, help="the folder to write to")
    command.add_argument("--force", action="store_true", help="write into a folder that holds files")

    command = add(
        "evaluate",
        "train a classifier with and without synthetic images; tell how faithful and original they are",
        fitted,
        skipping,
        seed,
        device,
    )
    command.add_argument("--held-out", required=True, help="a folder of the same classes that was not fitted to")
    _training(command, seeds=3, steps="1500")

    command = add(
        "report", "write a page to read about a fitted augmenter and its images", fitted, skipping, seed, device
    )
    command.add_argument(
        "--held-out", help="a folder of the same classes, not fitted to: how faithful and original images are"
    )
    command.add_argument(
        "--gain", action="store_true", help="train classifiers as 'evaluate' does, for a table of what they gain"
    )
    _training(command, seeds=3, steps="1500")
    command.add_argument("--output", default="report.html", help="the file to write (default: report.html)")
    command.add_argument("--force", action="store_true", help="write over an existing file")

    command = names.add_parser("completion", help="print what makes a shell complete these commands")
    command.add_argument(
        "shell", choices=["bash", "zsh", "tcsh"], help="put the output where your shell looks for such"
    )
    command.set_defaults(run=lambda arguments: commands.completion(arguments, parser))
    return parser


def _options() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _training(command: argparse.ArgumentParser, *, seeds: int, steps: str) -> None:
    command.add_argument("--seeds", type=_whole, default=seeds, help=f"how many repetitions (default: {seeds})")
    command.add_argument("--steps", type=_whole, help=f"training steps of a classifier (default: {steps})")
    command.add_argument(
        "--affine",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn, shift and scale training images at random (default: yes)",
    )
