r"""Defines the commands and options of the command line."""

__all__ = ["make_parser"]

import argparse

from .._utils.version import __version__
from ..export import FORMATS
from ..models import MODELS
from . import commands

EPILOG = "Exit status: 0 success, 1 an error that you can correct, 2 wrong usage, 130 interrupted."


def _positive_integer(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0 and below 1")
    return value


def _jobs(text: str) -> int:
    return -1 if text == "-1" else _positive_integer(text)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64 or 48x64")
    return _positive_integer(sides[0]), _positive_integer(sides[-1])


def make_parser() -> argparse.ArgumentParser:
    r"""Returns the parser of the command line.

    For parsed ``arguments``, ``arguments.run(arguments)`` runs the chosen command.
    """
    parser = argparse.ArgumentParser(
        prog="gae-augment",
        description="Synthetic images for the scarce classes of an image classifier.",
        epilog=f"See 'gae-augment COMMAND --help' for the options of a command. {EPILOG}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    json_output = _options()
    json_output.add_argument("--json", action="store_true", help="print the result as one JSON object")
    device = _options()
    device.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto, a GPU if there is one)")
    seed = _options()
    seed.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    jobs = _options()
    jobs.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="classes to fit, or shards to write, in parallel (default: one class per core, one shard)",
    )
    model = _options()
    model.add_argument("--model", default="gae", choices=list(MODELS), help="generative model (default: gae)")
    dry_run = _options()
    dry_run.add_argument(
        "--dry-run", action="store_true", help="only print how many images would be added and how long it would take"
    )
    checkpoints = _options()
    checkpoints.add_argument(
        "--checkpoint-dir", metavar="FOLDER", help="save each fitted class here, so that an interrupted fit can resume"
    )
    shards = _options()
    shards.add_argument(
        "--format", default="imagefolder", choices=list(FORMATS), help="output format (default: imagefolder)"
    )
    shards.add_argument(
        "--shard-size", type=_positive_integer, default=1000, metavar="N", help="most images per shard (default: 1000)"
    )
    size = _options()
    size.add_argument(
        "--size",
        type=_size,
        help="networks see images of this height and width, such as 64 or 48x64 (default: at most 64 pixels)",
    )
    skip = _options()
    skip.add_argument("--skip-unreadable", action="store_true", help="skip files that cannot be read as images")
    groups = _options()
    groups.add_argument(
        "--groups",
        metavar="REGEX|CSV",
        help="regular expression, searched in the path of each image below the folder; what it matches names the "
        "object that the image shows, such as '[^/]+/tile\\d+'. Or a file NAME.csv with the columns path and group; "
        "with --held-out, paths are below what holds both folders (default: each image shows another object)",
    )
    folder = _options()
    folder.add_argument("folder", help="folder with one sub-folder of images per class")
    fitting = folder, size, skip, model, seed, device, jobs, checkpoints, dry_run
    fitted = _options()
    fitted.add_argument("file", help="augmenter that 'gae-augment fit' saved")
    fitted.add_argument("folder", help="folder of images that the augmenter was fitted to")

    def add(name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        description = f"{help[0].upper()}{help[1:]}."
        command = subparsers.add_parser(
            name, parents=[*parents, json_output], help=help, description=description, epilog=EPILOG
        )
        command.set_defaults(run=getattr(commands, name))
        return command

    command = add(
        "demo", "train a classifier on a long-tailed data set with and without synthetic images", device, jobs
    )
    command.add_argument(
        "--size",
        type=_size,
        help="resize images to this height and width, such as 64 or 48x64; needed if their sizes differ",
    )
    command.add_argument(
        "--dataset", default="digits", help="digits, mnist, fashion_mnist, cifar10, or a folder (default: digits)"
    )
    command.add_argument(
        "--data-root", metavar="FOLDER", help="folder of torchvision's data sets (default: $GAE_DATA_ROOT, or data)"
    )
    command.add_argument(
        "--profile",
        help="class sizes: natural, deepsmote, or lt-R with an imbalance ratio R (default: depends on the data set)",
    )
    _add_training(command, seeds=5, steps="1500; digits: 500")
    command.add_argument(
        "--inception",
        action="store_true",
        help="also measure fidelity with Inception features; needs their weights on disk, and is slow on a CPU",
    )
    command.add_argument(
        "--output", default="demo", metavar="FOLDER", help="folder for result.json and samples.png (default: demo)"
    )

    command = add("fit", "fit the scarce classes of a folder of images, and save the augmenter", *fitting)
    command.add_argument("--output", required=True, metavar="FILE", help="file to write, such as augmenter.safetensors")
    command.add_argument("--force", action="store_true", help="overwrite an existing file")

    command = add(
        "sample", "write synthetic images of a fitted augmenter as an image folder or shards", seed, jobs, shards
    )
    command.add_argument("file", help="augmenter that 'gae-augment fit' saved")
    command.add_argument(
        "--class", dest="label", metavar="CLASS", help="name or label of a class (default: every fitted class)"
    )
    command.add_argument(
        "--number", type=_positive_integer, default=16, metavar="N", help="images per class (default: 16)"
    )
    _add_output_folder(command)

    command = add(
        "balance", "copy a folder of images, and add synthetic images to its scarce classes", *fitting, groups, shards
    )
    command.add_argument(
        "--per-class",
        type=_positive_integer,
        metavar="N",
        help="images of each class in the end (default: as many as the largest class has, but at most three times the "
        "real ones)",
    )
    command.add_argument(
        "--tolerance",
        type=_fraction,
        default=0.1,
        metavar="F",
        help="classes that lack at most this fraction of the largest class get no images (default: 0.1)",
    )
    command.add_argument(
        "--preview",
        metavar="FILE",
        help="only draw some synthetic images of each class in this file; the same command without --preview goes on",
    )
    _add_output_folder(command)

    command = add(
        "advise",
        "say whether synthetic images help on a folder of images, and how to train on it",
        folder,
        skip,
        groups,
        seed,
        device,
        checkpoints,
    )
    command.add_argument(
        "--backbone",
        default="auto",
        metavar="NAME",
        help="network of torchvision with weights on disk, MODULE:FUNCTION, or none for small networks from scratch "
        "(default: auto, a network of torchvision if its weights are on disk, else none)",
    )
    command.add_argument(
        "--minutes", type=float, default=5.0, metavar="N", help="time that the comparison may take (default: 5)"
    )

    command = add(
        "evaluate",
        "measure the gain of a classifier, and the fidelity and memorisation of the synthetic images",
        fitted,
        skip,
        groups,
        seed,
        device,
    )
    command.add_argument(
        "--held-out", required=True, metavar="FOLDER", help="folder of the same classes, outside the training set"
    )
    _add_training(command, seeds=3, steps="1500")

    command = add(
        "report", "write an HTML page about a fitted augmenter and its images", fitted, skip, groups, seed, device
    )
    command.add_argument(
        "--held-out",
        metavar="FOLDER",
        help="folder of the same classes, outside the training set; needed for fidelity and memorisation",
    )
    command.add_argument(
        "--gain", action="store_true", help="also measure the gain of a classifier, as 'evaluate' does"
    )
    _add_training(command, seeds=3, steps="1500")
    command.add_argument("--output", default="report.html", metavar="FILE", help="file to write (default: report.html)")
    command.add_argument("--force", action="store_true", help="overwrite an existing file")

    command = subparsers.add_parser("completion", help="print a script for shell completion")
    command.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="shell that will load the script")
    command.set_defaults(run=lambda arguments: commands.completion(arguments, parser))
    return parser


def _options() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _add_output_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", required=True, metavar="FOLDER", help="folder to write to")
    command.add_argument("--force", action="store_true", help="write into a folder that is not empty")


def _add_training(command: argparse.ArgumentParser, *, seeds: int, steps: str) -> None:
    command.add_argument(
        "--seeds", type=_positive_integer, default=seeds, metavar="N", help=f"number of repetitions (default: {seeds})"
    )
    command.add_argument(
        "--steps", type=_positive_integer, metavar="N", help=f"training steps of a classifier (default: {steps})"
    )
    command.add_argument(
        "--affine",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="rotate, shift and scale training images at random (default: yes)",
    )
