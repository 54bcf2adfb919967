"""The README's Python runs as it stands, from top to bottom, and what it says of itself is true."""

import re
from pathlib import Path

import examples
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


# Lightning recommends worker processes; the README's example is too small for them.
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*number of training batches.*")
# Lightning 2.6 uses what torch 2.14 wants named otherwise.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning")
def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, *others = [block.code for block in examples.blocks(README)]
    names: dict = {}
    for example in others:
        exec(compile(example, "README.md", "exec"), names)

    augmented, batch = names["augmented"], next(iter(names["loader"]))
    assert batch[0].shape == (128, 1, 8, 8)
    assert augmented.is_synthetic.sum() == sum(names["augmenter"].sampling_strategy_.values()) > 0
    assert "PairedDifference(mean=" in capsys.readouterr().out

    # The line at the top is an example of its own: it takes over the name 'train'.
    exec(compile(first, "README.md", "exec"), names)
    assert len(names["train"]) == len(augmented)


def test_files_named_in_the_architecture_exist():
    section = README.split("## Architecture")[1]
    named = re.findall(r"^ {6}(\S+\.py(?:, \S+\.py)*|\S+/)", section, flags=re.MULTILINE)
    named = {name for entry in named for name in entry.split(", ")}
    present = {path.name + "/" * path.is_dir() for path in (ROOT / "gae_augment").iterdir()}
    assert named == {name for name in present if not name.startswith("_") and name != "py.typed"}


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "bench"} <= set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE)) <= targets
