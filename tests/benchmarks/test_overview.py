r"""The README's figure and table, from the committed tables of runs."""

import csv
import re
from statistics import fmean

import pytest
from PIL import Image

from benchmarks import overview
from gae_augment import MODELS


@pytest.fixture(scope="module")
def results():
    return overview.read_results()


def test_added_points_are_those_of_the_imbalance_report(results):
    report = (overview.RESULTS / "imbalance" / "REPORT.md").read_text()
    for row in results.added:
        line = f"| {row.strategy} | {row.source} | {overview.signed(row.difference)} | {row.cells} | {row.seeds} |"
        assert line in report
    assert len(results.added) == 10


def test_fid_and_seconds_are_means_over_the_seeds(results):
    with (overview.RESULTS / "paper" / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(results.models) == sorted(MODELS)
    for dataset in ("mnist", "fashion_mnist"):
        for model in MODELS:
            key = (dataset, model, "test", "60000")
            fits = [line for line in lines if (line["dataset"], line["model"], line["on"], line["train_images"]) == key]
            assert results.fid[dataset][model] == pytest.approx(fmean(float(line["fid"]) for line in fits))
            assert results.seconds[dataset][model] == pytest.approx(fmean(float(line["cpu_seconds"]) for line in fits))


def test_table_has_at_most_twelve_lines_and_one_row_for_each_model(results):
    lines = overview.overview_table(results).splitlines()
    assert len(lines) <= 12
    assert {line.count("|") for line in lines} == {7}
    assert re.findall(r"`(\w+)`", "\n".join(lines)) == results.models
    first = results.models[0]
    assert f"| {results.fid['mnist'][first]:.2f} | {results.fid['fashion_mnist'][first]:.2f} |" in lines[2]


@pytest.mark.parametrize(
    ("draw", "name"), [(overview.draw_overview, "overview.png"), (overview.draw_models, "paper/models.png")]
)
def test_figures_are_drawn_from_the_committed_tables(results, tmp_path, draw, name):
    draw(results, tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open(overview.RESULTS / name) as committed:
        assert drawn.size == committed.size
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(2**20)}
    assert ((0xE0, 0x82, 0x2D) in colours) == (name == "overview.png")
