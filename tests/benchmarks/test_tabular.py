import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression

from benchmarks import tabular


@pytest.fixture
def data_root(tmp_path):
    X, y = make_blobs([60, 12, 3], 4, cluster_std=0.1, center_box=(-5, 5), random_state=0)
    folder = tmp_path / "tabular"
    folder.mkdir()
    # The last rows are there twice.
    for name in ("ecoli", "yeast"):
        np.savetxt(folder / f"{name}.csv", np.column_stack([X, y])[[*range(75), 70, 74]], delimiter=",", fmt="%.5f")
    return tmp_path


def test_rows_are_taken_once_and_tiny_classes_left_out(data_root):
    X, y = tabular.load_table("ecoli", data_root)
    assert (X.shape, np.bincount(y).tolist()) == ((72, 4), [60, 12])


def test_every_sampler_meets_every_classifier_and_nothing_is_done_twice(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tabular, "CLASSIFIERS", {"logistic regression": LogisticRegression})
    samplers = [tabular.NOTHING, tabular.WEIGHTS, "SMOTE"]
    arguments = ["--datasets", "ecoli", "--samplers", *samplers, "--seeds", "2", "--data-root", str(data_root)]
    arguments += ["--output", str(tmp_path / "own")]
    tabular.main(arguments)
    assert "0 of 6 runs are in" in capsys.readouterr().out
    report = (tmp_path / "own" / "REPORT.md").read_text()
    assert report.count("| logistic regression |") == 3
    # Blobs far apart.
    assert report.count("| 100.00 |") == 6
    monkeypatch.setattr(tabular, "measure", lambda *_: pytest.fail("measured again"))
    tabular.main(arguments)
    assert "6 of 6 runs are in" in capsys.readouterr().out


def test_differences_are_paired_by_seed():
    def run(sampler, seed, accuracy):
        return tabular.Run("yeast", "random forest", sampler, seed, accuracy, accuracy / 2, 0.0, "9 5", "", "")

    runs = [run("SMOTE", 0, 50.0), run("SMOTE", 1, 70.0), run(tabular.OURS, 0, 51.0), run(tabular.OURS, 1, 73.0)]
    # Student's t for one degree of freedom is 12.706, and the standard error of 1 and 3 is 1.
    assert "| SMOTE | 60.00 | +2.00 (-10.71 to +14.71) |" in tabular.report(runs)
