r"""``python -m benchmarks.photos``: a frozen ImageNet network, and images that learned motions have moved."""

import argparse
import os
from pathlib import Path

import torch

from gae_augment import GenerativeModel

from .arms import ARMS, REGIMES, parse_arm
from .finetuning import ARMS as FINETUNED_ARMS
from .finetuning import EPOCHS as FINETUNING_EPOCHS
from .finetuning import VIEWS, do_finetuned, finetuned_table
from .network import FeatureNetwork, LastBlocks, load_network, load_split_network
from .report import write
from .runs import ON, Experiment, do_runs, run_table
from .sets import COUNTS, load_photos

HERE = Path(__file__).resolve().parent.parent


def main(
    arguments: list[str] | None = None, network: FeatureNetwork | None = None, blocks: LastBlocks | None = None
) -> None:
    r"""Measures the arms, writes the report, or draws sheets of images.

    Args:
        arguments: The command line; ``None`` is that of the process.
        network: The frozen network, or its first blocks; ``None`` loads the pretrained one.
        blocks: What makes last blocks to train; ``None`` stands for those of the pretrained network.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("run", "finetune", "report", "sheets"), default="run")
    parser.add_argument(
        "--datasets", nargs="+", default=["leaves", "tiles"], help=f"{', '.join(COUNTS)}; for sheets mnist, bccd too"
    )
    parser.add_argument(
        "--arms", nargs="+", default=[], help="as in motion:bank=own,strength=0.5; all by default, in both regimes"
    )
    parser.add_argument("--regime", choices=REGIMES, default="standard", help="of the named arms")
    parser.add_argument("--seeds", type=int, default=6, help="how many")
    parser.add_argument("--on", choices=ON, default=ON[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the models of the classes")
    parser.add_argument("--finetuning-epochs", type=int, default=FINETUNING_EPOCHS, help="of the last blocks")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "photos")
    parser.add_argument("--cache", type=Path, default=HERE / "cache" / "photos", help="features and models")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = GenerativeModel(synthesis="residual", epochs=options.epochs or "auto")
    if options.action == "sheets":
        from .sheets import draw_sheets

        draw_sheets(options.datasets, options.data_root, options.cache, options.output, model)
        return
    table, finetuned = run_table(options.output / "runs.csv"), finetuned_table(options.output / "finetuned.csv")
    if options.action != "report":
        try:
            named = [parse_arm(text) for text in options.arms]
        except ValueError as error:
            parser.error(str(error))
        sets = {}
        for name in options.datasets:
            tested = None if options.on == ON[0] else load_photos(name, "test", options.data_root)
            sets[name] = load_photos(name, "train", options.data_root), tested
        places = [(sets[name], seed) for seed in range(options.seeds) for name in options.datasets]
    if options.action == "run":
        arms = [(options.regime, arm) for arm in named] or [(regime, parse_arm(text)) for regime, text in ARMS]
        network = network or load_network()
        do_runs([Experiment(*photos, seed, network, options.cache, model) for photos, seed in places], arms, table)
    elif options.action == "finetune":
        first, last = (network, blocks) if network and blocks else load_split_network()
        cache = options.cache / "first_blocks"
        experiments = [Experiment(*photos, seed, first, cache, model, *VIEWS) for photos, seed in places]
        own = [str(arm) for arm in named] or FINETUNED_ARMS
        do_finetuned(experiments, last, own, finetuned, options.finetuning_epochs)
    write(options.output, list(table.records.values()), list(finetuned.records.values()))


if __name__ == "__main__":
    main()
