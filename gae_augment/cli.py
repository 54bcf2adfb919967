r"""The command line: ``gae-augment demo | fit | sample | balance | report``."""

__all__ = ["main"]

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.exceptions import NotFittedError

from . import __version__
from .augmenter import GAEAugmenter
from .folders import check_output, open_folder, write_images
from .objectives import MODELS
from .reading import open_source

USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, NotFittedError, ModuleNotFoundError)


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, and it is {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gae-augment", description="Synthetic images for the scarce classes of an image classifier."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fitting = argparse.ArgumentParser(add_help=False)
    fitting.add_argument("--model", default="gae", choices=list(MODELS), help="the generative model (default: gae)")
    fitting.add_argument("--seed", type=int, default=0, help="what everything random depends on (default: 0)")
    fitting.add_argument("--device", default="auto", help="cpu, cuda or auto (default: a GPU if there is one)")
    fitting.add_argument("--jobs", type=int, help="classes fitted at the same time (default: one per core)")

    command = commands.add_parser("demo", help="a long-tailed data set, a classifier with and without synthetic images")
    command.set_defaults(run=_demo)
    command.add_argument(
        "--dataset", default="digits", help="digits, mnist, fashion_mnist, cifar10, or a folder (default: digits)"
    )
    command.add_argument("--data-root", help="where torchvision's data sets lie (default: $GAE_DATA_ROOT, or data)")
    command.add_argument(
        "--profile", help="natural, deepsmote or lt-R with a ratio R (default: one that suits the data set)"
    )
    command.add_argument("--seeds", type=_whole, default=5, help="how many repetitions (default: 5)")
    command.add_argument("--steps", type=_whole, help="training steps of a classifier (default: 1500; digits: 500)")
    command.add_argument(
        "--affine",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn, shift and scale training images at random (default: yes)",
    )
    command.add_argument("--device", default="auto", help="cpu, cuda or auto (default: a GPU if there is one)")
    command.add_argument("--jobs", type=int, help="classes fitted at the same time (default: one per core)")
    command.add_argument(
        "--inception",
        action="store_true",
        help="fidelity by Inception's features too, whose weights have to be at hand; slow on a CPU",
    )
    command.add_argument("--output", default="demo", help="folder for result.json and samples.png (default: demo)")

    command = commands.add_parser("fit", parents=[fitting], help="learn the scarce classes of a folder of images")
    command.set_defaults(run=_fit)
    command.add_argument("folder", help="a folder with one sub-folder of images per class")
    command.add_argument("--output", required=True, help="the file to write, such as augmenter.safetensors")
    command.add_argument("--force", action="store_true", help="write over an existing file")

    command = commands.add_parser("sample", help="write images of a class from a fitted augmenter")
    command.set_defaults(run=_sample)
    command.add_argument("file", help="what 'gae-augment fit' wrote")
    command.add_argument("--class", dest="label", required=True, help="the name of the class, or its number")
    command.add_argument("--number", type=_whole, default=16, help="how many images (default: 16)")
    command.add_argument("--seed", type=int, default=0, help="what the images depend on (default: 0)")
    command.add_argument("--output", required=True, help="the folder to write to")
    command.add_argument("--force", action="store_true", help="write into a folder that holds files")

    command = commands.add_parser(
        "balance", parents=[fitting], help="copy a folder of images, with synthetic ones where a class has few"
    )
    command.set_defaults(run=_balance)
    command.add_argument("folder", help="a folder with one sub-folder of images per class")
    command.add_argument("--output", required=True, help="the folder to write to")
    command.add_argument("--force", action="store_true", help="write into a folder that holds files")

    command = commands.add_parser("report", help="write a page to read about a fitted augmenter and its images")
    command.set_defaults(run=_report)
    command.add_argument("file", help="what 'gae-augment fit' wrote")
    command.add_argument("folder", help="the folder that it was fitted to")
    command.add_argument(
        "--held-out", help="a folder of the same classes, not fitted to: how faithful and original images are"
    )
    command.add_argument("--seed", type=int, default=0, help="what the images depend on (default: 0)")
    command.add_argument("--output", default="report.html", help="the file to write (default: report.html)")
    command.add_argument("--force", action="store_true", help="write over an existing file")
    return parser


def _augmenter(arguments: argparse.Namespace) -> GAEAugmenter:
    return GAEAugmenter(
        arguments.model, device=arguments.device, n_jobs=arguments.jobs, random_state=arguments.seed, progress=True
    )


def _demo(arguments: argparse.Namespace) -> None:
    from .demo import DEFAULT_PROFILE, load_data, picture, run_demo, table

    output = check_output(arguments.output, force=True)
    data = load_data(arguments.dataset, arguments.data_root)
    profile = arguments.profile or DEFAULT_PROFILE.get(arguments.dataset, "natural")
    result = run_demo(
        data,
        profile=profile,
        seeds=arguments.seeds,
        steps=arguments.steps or (500 if arguments.dataset == "digits" else 1500),
        affine=arguments.affine,
        inception=arguments.inception,
        device=arguments.device,
        n_jobs=arguments.jobs,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    (output / "result.json").write_text(json.dumps(result.as_dict(), indent=2) + "\n")
    print(f"\n{data.name}, {profile}, {arguments.seeds} seeds, random affine {'on' if arguments.affine else 'off'}\n")
    print(table(result))
    picture(result, output / "samples.png")
    print(f"\n{output / 'result.json'}, {output / 'samples.png'}")


def _new_file(arguments: argparse.Namespace, example: str) -> Path:
    path = Path(arguments.output)
    if path.is_dir():
        raise ValueError(f"The output is a file, such as {example}, and {str(path)!r} is a folder.")
    if path.exists() and not arguments.force:
        raise ValueError(f"The file to write is new, and {str(path)!r} exists. Pass --force to write over it.")
    check_output(path.parent, force=True)
    return path


def _fit(arguments: argparse.Namespace) -> None:
    path = _new_file(arguments, "augmenter.safetensors")
    augmenter = _augmenter(arguments).fit(open_folder(arguments.folder))
    augmenter.save(path)
    for label, report in augmenter.report_.items():
        boundary = "" if report.delta is None else f" (delta {report.delta:.4f})"
        print(
            f"{augmenter.class_names_[label]}: {report.images} images, {report.epochs} epochs, error "
            f"{report.reconstruction_error:.4f}{boundary}, {report.components} components"
        )
    print(path)


def _sample(arguments: argparse.Namespace) -> None:
    augmenter = GAEAugmenter.load(arguments.file)
    labels = {name: label for label, name in augmenter.class_names_.items()}
    labels |= {str(label): label for label in augmenter.counts_ if str(label) not in labels}
    if arguments.label not in labels:
        raise ValueError(f"The classes of {arguments.file!r} are {list(labels)}, and there is no {arguments.label!r}.")
    images = augmenter.sample(labels[arguments.label], arguments.number, seed=arguments.seed)
    folder = check_output(arguments.output, force=arguments.force)
    print(f"{len(write_images(images, folder, f'{arguments.label}_synthetic'))} images in {folder}")


def _balance(arguments: argparse.Namespace) -> None:
    dataset = open_folder(arguments.folder)
    if Path(arguments.output).resolve().is_relative_to(Path(arguments.folder).resolve()):
        raise ValueError(
            f"The balanced folder is another than the one that is read, and {arguments.output!r} is or lies in "
            f"{arguments.folder!r}. Choose another with --output."
        )
    folder = check_output(arguments.output, force=arguments.force)
    augmenter = _augmenter(arguments).fit(dataset)
    for path, _ in dataset.samples:
        # A class folder may have folders of its own.
        target = folder / Path(path).relative_to(dataset.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    for label, name in enumerate(dataset.classes):
        added = augmenter.sampling_strategy_.get(label, 0)
        if added:
            write_images(augmenter.sample(label, added, seed=arguments.seed), folder / name)
        print(f"{name}: {augmenter.counts_[label]} real, {added} synthetic")
    print(folder)


def _report(arguments: argparse.Namespace) -> None:
    from .evaluation.features import ClassifierFeatures, epochs_of_a_thousand_steps
    from .report import write_report

    path = _new_file(arguments, "report.html")
    augmenter, dataset = GAEAugmenter.load(arguments.file), open_folder(arguments.folder)
    held_out = None if arguments.held_out is None else open_folder(arguments.held_out)
    extractor = None
    if held_out is not None:
        if held_out.classes != dataset.classes:
            raise ValueError(
                f"Both folders have the same classes, and {arguments.held_out!r} has {held_out.classes} where "
                f"{arguments.folder!r} has {dataset.classes}."
            )
        labels, read = open_source(dataset)
        extractor = ClassifierFeatures.train(
            read(range(len(dataset))),
            torch.from_numpy(labels),
            dataset_name="/".join(Path(arguments.folder).resolve().parts[-2:]),
            epochs=epochs_of_a_thousand_steps(len(dataset)),
        )
    print(write_report(augmenter, dataset, path, held_out=held_out, extractor=extractor, seed=arguments.seed))


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command, and returns the exit status: 0, or 1 after an error that the user can mend."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except USER_ERRORS as error:
        print(f"gae-augment {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"gae-augment {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0
