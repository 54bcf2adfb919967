"""The README's examples run as they stand, and its statements about the repository are true."""

import re
from pathlib import Path

import examples
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
WORD_LIMIT = 900


def write_photos(folder: Path) -> None:
    r"""Writes digits as colour pictures, with one sub-folder for each of three classes: 48, 20 and 12 images."""
    digits = load_digits(n_class=3)
    for label, count in enumerate((48, 20, 12)):
        (folder / str(label)).mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == label][:count]):
            picture = Image.fromarray((pixels * 15).astype("uint8")).convert("RGB")
            picture.save(folder / str(label) / f"{number}.png")


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_photos(tmp_path / "photos")
    names: dict = {}
    # A training with images of 224 pixels would take minutes.
    examples.run(README.replace("(224, 224)", "(32, 32)"), "README.md", names)

    augmented = names["augmented"]
    images, labels = next(iter(names["loader"]))
    assert images.shape == (64, 3, 32, 32)
    assert set(labels.tolist()) == {0, 1, 2}
    assert augmented.is_synthetic.sum() == 28 + 36
    assert names["images"].shape[0] == 16

    names["data"].prepare_data()
    names["data"].setup("fit")
    assert next(iter(names["data"].train_dataloader()))[0].shape == (64, 3, 32, 32)

    digits = load_digits(n_class=2)
    keep = (digits.target == 0) | (np.arange(len(digits.target)) < 100)
    pipeline = names["pipeline"].fit(digits.data[keep], digits.target[keep])
    assert pipeline.named_steps["gaesampler"].is_synthetic_.any()

    balanced = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "balanced").iterdir()}
    # At most three times the twelve real images of the smallest class.
    assert balanced == {"0": 48, "1": 48, "2": 36}


def test_first_examples_are_short():
    first, second, *_ = examples.blocks(README)
    assert [sum(1 for line in block.code.splitlines() if line.strip()) for block in (first, second)] == [7, 8]


def test_word_limit():
    assert len(README.split()) <= WORD_LIMIT


def test_sections_stand_in_order():
    assert re.findall(r"^## (.*)$", README, flags=re.MULTILINE) == [
        "Install",
        "Results",
        "Should you use it?",
        "When it will not help",
        "Three ways to use it",
        "The ten models",
        "What else people use",
        "Architecture",
        "Links",
    ]


def test_table_of_models_is_complete():
    from gae_augment import MODELS

    section = README.split("## The ten models")[1].split("\n## ")[0]
    assert set(re.findall(r"^`(\w+)` \|", section, flags=re.MULTILINE)) - {"model"} == set(MODELS)


def test_architecture_lists_exactly_the_rooms():
    section = README.split("## Architecture")[1].split("\n## ")[0]
    listed = re.findall(r"^ {6}(\S+)", section, flags=re.MULTILINE)
    present = [
        path.name + "/" * path.is_dir()
        for path in (ROOT / "gae_augment").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed") and not path.is_symlink()
    ]
    assert sorted(listed) == sorted(present)


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).is_file(), target


def test_linked_headings_exist():
    for page, heading in re.findall(r"\]\(([^)#:]+)#([^)]+)\)", README):
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
        assert heading in [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "bench"} <= set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE)) <= targets
