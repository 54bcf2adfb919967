r"""The paper's experiments on small data: real fits, a table that is resumed, pictures."""

import csv
import math
import re
import tarfile
import time
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from sklearn.base import clone

from benchmarks.data import JPEG_ARCHIVE, load_images
from benchmarks.paper import boundary, cosine, published, rows, runs, tables
from benchmarks.paper.__main__ import main
from gae_augment import MODELS
from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import fit_model
from gae_augment.models import Bernoulli, GenerativeModel
from gae_augment.models.objectives.mixtures import VampPrior
from gae_augment.models.objectives.variational import Variational
from gae_augment.synthesis import draw_codes

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def run_paper(tmp_path, *arguments):
    main([*arguments, "--output", str(tmp_path / "output"), "--cache", str(tmp_path / "cache")])


def size_of(path):
    with Image.open(path) as image:
        return image.size


QUICK = ("--datasets", "digits", "--epochs", "2", "--train-size", "200")


def test_finished_runs_are_not_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "SAMPLES", 150)
    run_paper(tmp_path, "fid", *QUICK, "--models", "gae (paper)", "vae")
    table = capsys.readouterr().out
    assert "1. gae (paper)" in table or "2. gae (paper)" in table
    path = tmp_path / "output" / "runs.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["model"], line["train_images"], line["epochs_trained"]) for line in lines] == [
        ("gae (paper)", "200", "2"),
        ("vae", "200", "2"),
    ]
    assert all(0 < float(line["fid"]) < math.inf and float(line["seconds"]) > 0 for line in lines)
    report = (tmp_path / "output" / "REPORT.md").read_text()
    assert "## digits: 2 epochs of 200 images, measured on test images" in report

    # Runs that are in the table are not fitted again.
    def recorded(images, model, **options):
        fitted.append(model.resolved_definition)
        return fit_model(images, model, **options)

    fitted = []
    monkeypatch.setattr(runs, "fit_model", recorded)
    before = path.read_text()
    run_paper(tmp_path, "time", *QUICK, "--models", "vae", "wae", "gae (paper)")
    assert [definition.name for definition in fitted] == ["wae"]
    assert [line for line in path.read_text().splitlines() if ",wae," not in line] == before.splitlines()
    assert "seconds of one CPU thread" in capsys.readouterr().out

    run_paper(tmp_path, "figures", *QUICK, "--models", "gae (paper)", "vae")
    folder = tmp_path / "output" / "digits"
    # A hundred images of 8x8 with a line between.
    assert size_of(folder / "samples-vae.png") == (10 * 9 + 1, 10 * 9 + 1)
    assert size_of(folder / "reconstructions.png") == (20 * 9 + 1, 3 * 9 + 1)
    (tmp_path / "cache" / "fits").rename(tmp_path / "elsewhere")
    with pytest.raises(SystemExit, match="are missing in '--cache', but the figures need them"):
        run_paper(tmp_path, "figures", *QUICK, "--models", "vae")


def test_validation_images_are_not_trained_on(tmp_path):
    plan = runs.Plan("digits", "vae", 0, 1, None, "validation", tmp_path, tmp_path)
    assert plan.train_images(1000) == 800
    assert plan.train_images(60_000) == 50_000
    assert runs.Plan("digits", "vae", 0, 1, None, "test", tmp_path, tmp_path).train_images(1000) == 1000


def test_digest_depends_on_default_weights_and_not_on_modules(tmp_path, monkeypatch):
    def digest(model):
        return runs.Plan("digits", model, 0, 1, None, "test", tmp_path, tmp_path).digest()

    before = {model: digest(model) for model in rows.ROWS}
    assert before == {model: digest(model) for model in rows.ROWS}
    assert len(set(before.values())) == len(rows.ROWS)
    monkeypatch.setattr(Variational, "__module__", "elsewhere")
    assert before == {model: digest(model) for model in rows.ROWS}
    monkeypatch.setattr(VampPrior.__init__, "__defaults__", (0.5,))
    assert [model for model in rows.ROWS if digest(model) != before[model]] == ["vamp_vae"]


@pytest.mark.parametrize(
    ("model", "recorded"), [("gae", "8e768477"), ("gae (paper)", "bc375b60"), ("vae", "de11836b"), ("vade", "0a327fa8")]
)
def test_digest_is_that_of_recorded_runs(model, recorded, tmp_path):
    plan = runs.Plan("mnist", model, 0, 30, None, "test", tmp_path, tmp_path)
    assert plan.digest() == recorded


def test_rows_follow_the_protocol():
    assert set(rows.ROWS) == {*MODELS, "gae (paper)"}
    for row in rows.ROWS:
        settings = rows.settings_for(row, 10, 30)
        assert (settings.architecture, settings.latent_dim, settings.epochs, settings.batch_size) == (
            "paper",
            10,
            30,
            100,
        )
    paper = rows.settings_for("gae (paper)", 10, 30)
    assert (paper.n_components, paper.lr_schedule, paper.density) == ((10, 10), "constant", "auto")

    def objective(row):
        return rows.settings_for(row, 10, 30).resolved_definition.objective(Bernoulli())

    assert objective("beta_vae:beta=2").beta == 2
    changed = rows.settings_for("gae:delta=0.05,n_components=7,jacobian_weight=0.5", 10, 30)
    assert (changed.delta, changed.n_components) == (0.05, 7)
    # "steepness" is the name in committed results.
    assert objective("gae:jacobian_weight=0.5").jacobian_weight == objective("gae:steepness=0.5").jacobian_weight == 0.5
    assert rows.settings_for("vae:precision=float32", 10, 30).precision == "float32"
    assert objective("info_vae:scale=5").alpha == 0.9
    assert objective("info_vae").scale == 100


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("gan", "'gan' is not a row. Use '--models' with 'gae \\(paper\\)', 'gae', "),
        ("vae:beta", "The row is 'vae:beta', but its arguments must be numbers, as in"),
        ("vae:precision=half", "'precision' is 'half', but must be one of 'auto', 'float32', 'bfloat16'"),
        ("gae:detla=1", "The row is 'gae:detla=1', but 'gae' has no such argument"),
    ],
)
def test_unknown_rows_are_refused(row, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run_paper(tmp_path, "fid", "--models", row)
    assert re.search(message, capsys.readouterr().err)


def test_rank_correlation_is_that_of_the_ranks():
    values = dict.fromkeys((field for field in runs.Run.__dataclass_fields__), 0.0)
    order = sorted(published.FID["mnist"], key=published.FID["mnist"].get)

    def made(fids):
        return [
            runs.Run(**{**values, "model": model, "fid": fid, "components": 1, "device": "a CPU"})
            for model, fid in zip(order, fids, strict=True)
        ]

    assert "over 10 models: 1.00" in tables.fid_table("mnist", made(range(10)))
    assert "over 10 models: -1.00" in tables.fid_table("mnist", made(range(10, 0, -1)))
    swapped = [1, 0, *range(2, 10)]
    # Spearman: 1 - 6 * sum of squared differences of ranks / (n (n^2 - 1)).
    assert f"over 10 models: {1 - 6 * 2 / 990:.2f}" in tables.fid_table("mnist", made(swapped))


def test_times_of_two_machines_are_not_divided():
    values = dict.fromkeys((field for field in runs.Run.__dataclass_fields__), 0.0)
    made = [
        runs.Run(**{**values, "model": model, "cpu_seconds": seconds, "device": device})
        for model, seconds, device in [
            ("gae (paper)", 100.0, "one CPU"),
            ("vae", 150.0, "one CPU"),
            ("wae", 75.0, "another CPU"),
        ]
    ]
    lines = [[cell.strip() for cell in line.split("|")] for line in tables.time_table("mnist", made).splitlines()]
    ratios = {line[1]: line[4] for line in lines if len(line) > 2 and line[-2].endswith("CPU")}
    assert ratios == {"wae": "", "gae (paper)": "1.00", "vae": "1.50"}


def test_published_tables_are_those_of_the_paper():
    assert published.FID["mnist"]["gae (paper)"] == 44.30
    assert published.SECONDS["cifar10"]["vae"] == 143.58
    assert min(published.FID["cifar10"], key=published.FID["cifar10"].get) == "beta_vae"


def test_svhn_is_read_from_its_own_format(tmp_path):
    generator = np.random.default_rng(0)
    images = {
        split: generator.integers(0, 256, (32, 32, 3, n), dtype=np.uint8) for split, n in (("train", 12), ("test", 5))
    }
    for split, x in images.items():
        # SVHN calls the digit 0 class 10.
        labels = (np.arange(x.shape[3]) % 10 + 1).reshape(-1, 1)
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": x, "y": labels})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
        data = load_images("svhn", tmp_path, tmp_path)
    assert (data.train[0].shape, data.test[0].shape) == ((12, 3, 32, 32), (5, 3, 32, 32))
    assert data.train[0].dtype == torch.uint8
    np.testing.assert_array_equal(data.test[0], images["test"].transpose(3, 2, 0, 1))
    assert sorted(data.train[1].tolist()) == sorted((np.arange(12) + 1) % 10)
    with pytest.raises(ValueError, match=r"does not hold torchvision's SVHN.*split='test'"):
        load_images("svhn", tmp_path / "nowhere", tmp_path)


def test_archive_is_unpacked_once_by_runs_beside_each_other(tmp_path, monkeypatch):
    for split in ("train", "test"):
        for number, name in enumerate(("ape", "bee")):
            folder = tmp_path / "made" / "cifar" / split / name
            folder.mkdir(parents=True)
            for place in range(3):
                Image.new("RGB", (32, 32), (60 * number, 80 * place, 0)).save(folder / f"{place}.jpg")
    with tarfile.open(tmp_path / JPEG_ARCHIVE, "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar", "cifar")
    unpack, unpacked = tarfile.TarFile.extractall, []

    def slowly(archive, path, **options):
        unpacked.append(path)
        unpack(archive, path, **options)
        time.sleep(0.3)

    monkeypatch.setattr(tarfile.TarFile, "extractall", slowly)
    with ThreadPool(3) as pool:
        sets = pool.map(lambda _: load_images.__wrapped__("cifar10", tmp_path, tmp_path / "cache"), range(3))
    assert len(unpacked) == 1
    assert [(len(one.train[0]), len(one.test[0]), one.classes) for one in sets] == [(6, 6, ("ape", "bee"))] * 3


def test_cosine_error_and_share_near_the_curve(tmp_path, monkeypatch):
    quick = GenerativeModel(architecture=(16,), latent_dim=1, epochs=40, batch_size=50)
    monkeypatch.setattr(cosine, "ROWS", {"gae": quick, "vae": clone(quick).set_params(definition="vae")})
    monkeypatch.setattr(cosine, "TRIALS", 2)
    monkeypatch.setattr(cosine, "SAMPLES", 500)
    run_paper(tmp_path, "cosine")
    with (tmp_path / "output" / "cosine.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [(trial["model"], trial["seed"]) for trial in trials] == [
        ("gae", "0"),
        ("gae", "1"),
        ("vae", "0"),
        ("vae", "1"),
    ]
    fitted = fit_model(cosine.curve(50), quick, seed=1)
    x, y = (fitted.reconstruct(cosine.curve(50)) - cosine.curve(50)).T
    assert float(trials[1]["reconstruction_error"]) == pytest.approx(((x**2).mean() + (y**2).mean()).item() / 2)
    # The nearest point of the curve, searched for sample by sample, and samples as the decoder gives them.
    codes = draw_codes(fitted, 500, make_generator(1, "samples")).float()
    values = fitted.network.decode(codes).detach().double() * fitted.values.deviation + fitted.values.mean
    near = 0
    for sample in values.tolist():
        t = np.linspace(sample[0] - 0.1, sample[0] + 0.1, 400).clip(-0.1, 2 * math.pi + 0.1)
        near += bool((np.hypot(t - sample[0], np.cos(t) - sample[1]) < 0.1).any())
    assert float(trials[1]["near"]) == pytest.approx(near / 500, abs=0.005)
    assert trials[0]["regularisation_error"] == "nan"
    assert float(trials[2]["regularisation_error"]) > 0
    assert "| gae |" in (tmp_path / "output" / "REPORT.md").read_text()
    assert (tmp_path / "output" / "cosine.png").stat().st_size > 10_000


def test_delta_is_measured_once_for_each_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(boundary, "DELTAS", ("auto", "0.2"))
    monkeypatch.setattr(boundary, "STEPS", 20)
    run_paper(tmp_path, "delta", "--datasets", "digits", "--seeds", "1")
    path = tmp_path / "output" / "delta.csv"
    points = {point.delta: point for point in boundary.point_table(path).records.values()}
    auto, coarse = points["auto"], points["0.2"]
    assert [(point.dataset, point.seed, point.delta) for point in (auto, coarse)] == [
        ("digits", 1, "auto"),
        ("digits", 1, "0.2"),
    ]
    # Every class comes below so wide a boundary, at once, and worse than by default.
    assert coarse.reached == 1
    assert auto.reconstruction_error < coarse.reconstruction_error < 0.2
    assert coarse.epochs < auto.epochs
    assert coarse.fid > auto.fid
    before = path.read_text()
    monkeypatch.setattr(boundary, "GAEAugmenter", lambda **_: pytest.fail("it is measured again"))
    run_paper(tmp_path, "delta", "--datasets", "digits", "--seeds", "1")
    assert path.read_text() == before
    assert "| digits | 0.2 | 100% |" in (tmp_path / "output" / "REPORT.md").read_text()
    assert (tmp_path / "output" / "delta.png").stat().st_size > 10_000
