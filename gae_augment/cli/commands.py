r"""One function for each command of the command line.

Each function takes the parsed arguments, and returns an ``Outcome``.
"""

__all__ = ["Outcome", "advise", "balance", "completion", "demo", "evaluate", "fit", "report", "sample"]

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import ImageFolder

from .. import evaluation
from .._utils.files import check_file_place
from ..augmenter import GAEAugmenter, motion_learner
from ..data import Label, check_output, count_known_objects, groups_of, open_folder
from ..evaluation import ClassifierFeatures, ClassifierGain, epochs_of_a_thousand_steps
from ..export import Selection, select_images, write_images, write_shards
from ..models import GenerativeModel
from ..report import assess, contact_sheet, forecast, gain_table, measure_gain, open_data, write_report
from .additions import Additions, plan_additions, plan_all, rejections
from .findings import recall, remember
from .previews import check_preview, save_preview
from .resuming import resumable

OUTPUT_OPTIONS = ("folder", "model", "size", "seed", "per_class", "tolerance", "format", "shard_size")
"""The options of ``balance`` that its files depend on."""

DRY_RUN_HEADERS = 1000
"""The maximum number of files whose headers a dry run reads."""


@dataclass(frozen=True)
class Outcome:
    r"""The result of a command.

    Attributes:
        text: The result as text to print.
        values: The result as values that JSON supports.
    """

    text: str
    values: dict[str, Any]


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _augmenter(arguments: Namespace) -> GAEAugmenter:
    return GAEAugmenter(
        arguments.model,
        working_size=arguments.size or "auto",
        device=arguments.device,
        n_jobs=arguments.jobs,
        random_state=arguments.seed,
        progress=True,
    )


def _open(arguments: Namespace, folder: str, mode: str | None = None) -> ImageFolder:
    headers = DRY_RUN_HEADERS if getattr(arguments, "dry_run", False) else None
    return open_folder(folder, skip_unreadable=arguments.skip_unreadable, headers=headers, mode=mode)


def _new_file(arguments: Namespace, example: str) -> Path:
    path = Path(arguments.output)
    if path.is_dir():
        raise ValueError(f"The output {str(path)!r} is a folder. Pass the name of a file, such as {example}.")
    if path.exists() and not arguments.force:
        raise ValueError(f"The file {str(path)!r} exists already. Pass --force to overwrite it.")
    check_file_place(path)
    check_output(path.parent, force=True)
    return path


def _dry_run(augmenter: GAEAugmenter, dataset: ImageFolder, additions: Additions) -> Outcome:
    estimate = forecast(augmenter, dataset)
    last = (
        f"fitting {estimate.n_models} classes: about {_duration(estimate.fit_seconds)}; "
        f"sampling {sum(estimate.added.values())} images: about {_duration(estimate.sample_seconds)}. Nothing was "
        f"written."
    )
    seconds = {"fit seconds": estimate.fit_seconds, "sample seconds": estimate.sample_seconds}
    return Outcome("\n".join([*additions.lines(), last]), {"dry run": True, **additions.values(), **seconds})


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def demo(arguments: Namespace) -> Outcome:
    r"""Trains a classifier on long-tailed data, with and without synthetic images, and writes results to a folder."""
    from ..demo import DEFAULT_PROFILE, load_data, picture, run_demo, table

    output = check_output(arguments.output, force=True)
    data = load_data(arguments.dataset, arguments.data_root, size=arguments.size)
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
        say=_print_progress,
    )
    values = result.as_dict()
    (output / "result.json").write_text(json.dumps(values, indent=2) + "\n")
    picture(result, output / "samples.png")
    title = f"{data.name}, {profile}, {arguments.seeds} seeds, random affine {'on' if arguments.affine else 'off'}"
    return Outcome(f"\n{title}\n\n{table(result)}\n\n{output / 'result.json'}, {output / 'samples.png'}", values)


def fit(arguments: Namespace) -> Outcome:
    r"""Fits an augmenter to the scarce classes of an image folder, and saves the augmenter to a file."""
    dataset = _open(arguments, arguments.folder)
    if arguments.dry_run:
        return _dry_run(_augmenter(arguments), dataset, plan_all(dataset))
    path = _new_file(arguments, "augmenter.safetensors")
    augmenter = _augmenter(arguments).fit(dataset, checkpoint_dir=arguments.checkpoint_dir)
    augmenter.save(path)
    lines, classes = [], {}
    for label, report in augmenter.report_.items():
        delta = "" if report.delta is None else f" (delta {report.delta:.4f})"
        name = augmenter.class_names_[label]
        classes[name] = asdict(report)
        lines.append(
            f"{name}: {report.images} images, {report.epochs} epochs, error {report.reconstruction_error:.4f}{delta}, "
            f"{report.n_components} components"
        )
    return Outcome("\n".join([*lines, str(path)]), {"file": str(path), "classes": classes})


def sample(arguments: Namespace) -> Outcome:
    r"""Writes synthetic images from a saved augmenter, for one class or for every fitted class."""
    augmenter = GAEAugmenter.load(arguments.file)
    labels = {name: label for label, name in augmenter.class_names_.items()}
    labels |= {str(label): label for label in augmenter.counts_ if str(label) not in labels}
    if arguments.label is not None and arguments.label not in labels:
        raise ValueError(f"There is no class {arguments.label!r} in {arguments.file!r}. Choose one of {list(labels)}.")
    chosen = list(augmenter.models_) if arguments.label is None else [labels[arguments.label]]
    if not set(chosen) <= augmenter.models_.keys():
        raise ValueError(
            f"Class {arguments.label!r} has no model of its own. Choose one of "
            f"{[augmenter.class_names_[label] for label in augmenter.models_]}, or move its real images with "
            f"gae-augment balance."
        )
    paths = write_shards(
        augmenter,
        arguments.output,
        images_to_add=dict.fromkeys(chosen, arguments.number),
        format=arguments.format,
        images_per_shard=arguments.shard_size,
        n_jobs=arguments.jobs,
        seed=arguments.seed,
        force=arguments.force,
    )
    classes = {augmenter.class_names_[label]: arguments.number for label in chosen}
    lines = [f"{name}: {number} synthetic" for name, number in classes.items()]
    return Outcome("\n".join([*lines, arguments.output]), {"classes": classes, "paths": list(map(str, paths))})


def balance(arguments: Namespace) -> Outcome:
    r"""Copies an image folder, and adds synthetic images to the scarce classes of the copy."""
    dataset = _open(arguments, arguments.folder)
    if Path(arguments.output).resolve().is_relative_to(Path(arguments.folder).resolve()):
        raise ValueError(
            f"The output {arguments.output!r} is or lies inside the input folder {arguments.folder!r}. Choose another "
            f"folder with --output."
        )
    additions = plan_additions(
        dataset, per_class=arguments.per_class, tolerance=arguments.tolerance, groups=arguments.groups
    )
    found = recall(dataset)
    if found is not None:
        _print_progress(f"gae-augment advise, {found.day}: {found.sentence}")
    for warning in additions.warnings:
        _print_progress(f"gae-augment balance: warning: {warning}")
    augmenter = _augmenter(arguments).set_params(sampling_strategy=additions.totals)
    if arguments.dry_run:
        return _dry_run(augmenter, dataset, additions)
    if arguments.preview:
        if additions.nothing:
            raise ValueError(
                "No class needs images, so there is nothing to draw: all classes are about as large as the largest. "
                "Ask for more images with --per-class, or for equal classes with --tolerance 0."
            )
        check_preview(Path(arguments.preview), arguments.force)
    options = {name: getattr(arguments, name) for name in OUTPUT_OPTIONS}
    with resumable(arguments.output, options, [path for path, _ in dataset.samples], arguments.force) as run:
        selected: dict[Label, Selection] = {}
        # A fit would learn motions that no image needs.
        if not additions.nothing:
            kept = arguments.checkpoint_dir or run.folder
            if arguments.preview and not kept:
                _print_progress(
                    f"gae-augment balance: warning: the output folder {arguments.output!r} holds files, so the fits of "
                    f"this preview are not kept. To keep them, pass the same --checkpoint-dir here and in the next run."
                )
            augmenter.fit(dataset, checkpoint_dir=kept)
            if arguments.preview:
                save_preview(contact_sheet(augmenter, dataset, seed=arguments.seed), Path(arguments.preview))
                run.unfinished = True
                return Outcome(arguments.preview, {"file": arguments.preview})
            selected = select_images(augmenter, dataset, seed=arguments.seed)
            for warning in rejections(additions, selected):
                _print_progress(f"gae-augment balance: warning: {warning}")
        paths = write_images(
            dataset,
            arguments.output,
            {int(label): selection.chosen for label, selection in selected.items()},
            format=arguments.format,
            images_per_shard=arguments.shard_size,
            n_jobs=arguments.jobs,
            seed=arguments.seed,
            force=True,
            resume=run.resumes,
        )
    text = "\n".join([*additions.lines(selected), arguments.output])
    advice = None if found is None else asdict(found)
    return Outcome(text, {**additions.values(selected), "advice": advice, "paths": list(map(str, paths))})


def advise(arguments: Namespace) -> Outcome:
    r"""Says whether motions or synthetic images help on an image folder, and how to train on it."""
    dataset = _open(arguments, arguments.folder)
    groups = groups_of([path for path, _ in dataset.samples], dataset.root, arguments.groups)

    advice = evaluation.advise(
        dataset,
        motion_learner(GenerativeModel(), arguments.device),
        groups=groups,
        backbone=arguments.backbone,
        minutes=arguments.minutes,
        class_names=dataset.classes,
        seed=arguments.seed,
        device=arguments.device,
        checkpoint_dir=arguments.checkpoint_dir,
        progress=_print_progress,
    )
    remember(dataset, advice)
    for warning in advice.warnings:
        _print_progress(f"gae-augment advise: warning: {warning}")
    text = f"{advice.table()}\n\n{advice.sentence}\n{advice.command}"
    return Outcome(text, advice.as_dict())


def _open_fitted(arguments: Namespace) -> tuple[GAEAugmenter, ImageFolder, ImageFolder | None]:
    augmenter = GAEAugmenter.load(arguments.file)
    dataset = _open(arguments, arguments.folder)
    if arguments.held_out is None:
        return augmenter, dataset, None
    # One coloured file would give all images of its folder three channels.
    held_out = _open(arguments, arguments.held_out, dataset.loader.mode)
    if held_out.classes != dataset.classes:
        raise ValueError(
            f"The folder {arguments.held_out!r} has the classes {held_out.classes}, but {arguments.folder!r} has "
            f"{dataset.classes}. Add images of the missing classes, or remove the extra ones."
        )
    return augmenter, dataset, held_out


def _extractor(arguments: Namespace, augmenter: GAEAugmenter, dataset: ImageFolder) -> ClassifierFeatures:
    labels, read = open_data(dataset, augmenter)
    return ClassifierFeatures.train(
        read(range(len(dataset))),
        torch.from_numpy(labels),
        dataset_name="/".join(Path(arguments.folder).resolve().parts[-2:]),
        epochs=epochs_of_a_thousand_steps(len(dataset)),
        device=arguments.device,
    )


def _shared_objects(arguments: Namespace, dataset: ImageFolder, held_out: ImageFolder | None) -> int | None:
    r"""Returns how many held-out images show an object of the training set; ``None`` without ``--groups``."""
    if arguments.groups is None or held_out is None:
        return None
    shared = count_known_objects(
        [path for path, _ in dataset.samples],
        [path for path, _ in held_out.samples],
        roots=(dataset.root, held_out.root),
        pattern=arguments.groups,
    )
    if shared:
        _print_progress(
            f"gae-augment: warning: {shared} of {len(held_out)} held-out images show objects of the training set, so "
            f"that their scores are too good. Move all images of an object to one of the two folders."
        )
    return shared


def _gain(arguments: Namespace, augmenter: GAEAugmenter, dataset: ImageFolder, held_out: ImageFolder) -> ClassifierGain:
    trainings, start, done = 3 * arguments.seeds, time.monotonic(), 0

    def progress(arm: str, seed: int, scores: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - start) / done * (trainings - done)
        _print_progress(
            f"training {done} of {trainings}, seed {seed}, {arm}: balanced accuracy "
            f"{100 * scores['balanced accuracy']:.1f} %"
            + (f"; about {_duration(left)} left" if done < trainings else "")
        )

    return measure_gain(
        augmenter,
        dataset,
        held_out,
        seeds=range(arguments.seed, arguments.seed + arguments.seeds),
        steps=arguments.steps or 1500,
        affine=arguments.affine,
        device=arguments.device,
        progress=progress,
    )


def evaluate(arguments: Namespace) -> Outcome:
    r"""Assesses the synthetic images of a saved augmenter, with held-out real images.

    The command measures a classifier's gain, the fidelity of the synthetic images, and memorisation of training images.
    """
    augmenter, dataset, held_out = _open_fitted(arguments)
    assert held_out is not None
    shared = _shared_objects(arguments, dataset, held_out)
    gain = _gain(arguments, augmenter, dataset, held_out)
    extractor = _extractor(arguments, augmenter, dataset)
    assessment = assess(augmenter, dataset, held_out=held_out, extractor=extractor, seed=arguments.seed)
    before = [augmenter.counts_[label] for label in range(len(dataset.classes))]
    after = [number + augmenter.sampling_strategy_.get(label, 0) for label, number in enumerate(before)]
    values = {
        "images before": dict(zip(dataset.classes, before, strict=True)),
        "images after": dict(zip(dataset.classes, after, strict=True)),
        "classifier": gain.as_dict(),
        "fidelity": assessment.fidelity,
        "memorisation": None if assessment.memorisation is None else assessment.memorisation.as_dict(),
        "held-out images of training objects": shared,
    }
    table = gain_table(dataset.classes, before, after, gain, assessment.fidelity, assessment.memorisation)
    return Outcome(f"{gain.verdict()}\n\n{table}", {"verdict": gain.verdict(), **values})


def report(arguments: Namespace) -> Outcome:
    r"""Writes an HTML page about a saved augmenter and its synthetic images."""
    # A missing Jinja or matplotlib is reported before any work.
    import_module("gae_augment.report.page")
    path = _new_file(arguments, "report.html")
    if arguments.gain and arguments.held_out is None:
        raise ValueError("--gain needs images outside the training set. Pass their folder with --held-out.")
    augmenter, dataset, held_out = _open_fitted(arguments)
    shared = _shared_objects(arguments, dataset, held_out)
    gain = _gain(arguments, augmenter, dataset, held_out) if arguments.gain and held_out is not None else None
    write_report(
        augmenter,
        dataset,
        path,
        held_out=held_out,
        extractor=None if held_out is None else _extractor(arguments, augmenter, dataset),
        gain=gain,
        seed=arguments.seed,
    )
    verdict = [] if gain is None else [gain.verdict()]
    values = {"classifier": None if gain is None else gain.as_dict(), "held-out images of training objects": shared}
    return Outcome("\n".join([*verdict, str(path)]), {"file": str(path), **values})


def completion(arguments: Namespace, parser: ArgumentParser) -> Outcome:
    r"""Returns a shell script that enables tab completion of the commands and options."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Completion needs shtab: pip install 'gae-augment[completion]'") from error
    return Outcome(shtab.complete(parser, arguments.shell), {})
