import builtins
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from scipy.optimize import minimize
from scipy.special import logsumexp

from benchmarks.photos import sheets
from benchmarks.photos.__main__ import main
from benchmarks.photos.arms import ADDED_VIEWS, ARMS, STANDARD_VIEWS, Arm, make_view, parse_arm
from benchmarks.photos.heads import train_head
from benchmarks.photos.motions import elastic_fields, evidence_of_motion
from benchmarks.photos.network import load_network
from benchmarks.photos.report import paired, report
from benchmarks.photos.runs import Experiment, Run, run_table
from benchmarks.photos.sets import PhotoSet, load_photos, training_rows
from gae_augment import GenerativeModel

FILES = {"Crack": [(0, 2), (1, 3), (2, 1), (3, 2)], "Free": [(n, 1 + n % 3) for n in range(12)]}
"""The photographed tiles of each class, and the number of their exposures."""

MODEL = GenerativeModel(synthesis="residual", epochs=1)


def features_of(images):
    r"""Returns the means of colours in a few places, as a network would return features."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, tiles in FILES.items():
            folder = root / "photos" / "tiles" / part / name
            folder.mkdir(parents=True)
            for tile, exposures in tiles:
                for exposure in range(exposures):
                    pixels = generator.integers(0, 200, (24, 18), dtype=np.uint8)
                    pixels[4:12, 6:10] += 50 * (name == "Crack")
                    Image.fromarray(pixels).save(folder / f"tile{tile:03}_{exposure}.jpg")
    return root


@pytest.fixture(scope="module")
def photos(data_root):
    return load_photos("tiles", "train", data_root)


@pytest.fixture(scope="module")
def experiment(photos, tmp_path_factory):
    return Experiment(photos, None, 0, features_of, tmp_path_factory.mktemp("cache"), MODEL)


def test_groups_are_never_split(photos):
    assert photos.images.shape == (32, 3, 256, 256)
    for seed in range(6):
        chosen = torch.zeros(32, dtype=torch.bool)
        chosen[training_rows(photos, seed, validated=True)] = True
        sides = [{photos.groups[row] for row in range(32) if chosen[row] == side} for side in (True, False)]
        assert not sides[0] & sides[1]
        # Every class is on both sides.
        assert all({group.split("/")[0] for group in side} == set(FILES) for side in sides)
    assert training_rows(photos, 0, validated=False).tolist() == list(range(32))


def test_paired_seeds_exchange_most_training_images(photos):
    rows = [set(training_rows(photos, seed, validated=True).tolist()) for seed in (0, 1)]
    # At most the last group of each class is in both.
    assert len({photos.groups[row] for row in rows[0] & rows[1]}) <= len(FILES)


def test_cells_of_a_slide_are_never_split(tmp_path):
    slides = {"Platelets": 12, "RBC": 20, "WBC": 16}
    generator = np.random.default_rng(0)
    for name, number in slides.items():
        folder = tmp_path / "bccd" / "train" / name
        folder.mkdir(parents=True)
        for slide in range(number):
            for cell in range(9):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{10 * slide + cell:04}-slide{slide:03}.png")
    cells = load_photos("bccd", "train", tmp_path)
    assert cells.images.shape == (9 * 48, 3, 146, 146)
    assert make_view(cells.images[:2], "plain", "standard").shape == (2, 3, 128, 128)
    experiment = Experiment(cells, None, 0, features_of, tmp_path, MODEL)
    # The slides that give the scarce 30 platelets and 60 white cells are whole.
    assert experiment.labels.bincount().tolist() == [36, 90, 63]
    trained = {cells.groups[row] for row in experiment.rows.tolist()}
    validated = sum(group not in trained for group in cells.groups)
    assert {group[:5] for group in cells.groups} == {"slide"}
    assert len(trained) < 20
    assert len(experiment.tested_features()[1]) == validated > 0


@pytest.mark.parametrize(
    ("name", "counts"), [("leaves", [60, 12, 60]), ("leaves-few", [20, 5, 60]), ("leaves-many", [60, 60, 60])]
)
def test_leaves_are_made_scarce_by_rule(name, counts):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([90, 90, 90]))
    classes = ("Apple_scab", "Cedar_apple_rust", "healthy")
    leaves = PhotoSet(name, torch.empty(270, 0), labels, tuple(map(str, range(270))), classes)
    chosen = [training_rows(leaves, seed, validated=True) for seed in (0, 2)]
    assert [labels[rows].bincount().tolist() for rows in chosen] == [counts] * 2
    assert chosen[0].tolist() != chosen[1].tolist()


def test_all_arms_have_the_same_budget_of_views(experiment):
    n, scarce = len(experiment.rows), int((experiment.labels == 0).sum())
    numbers = {}
    for regime, text in ARMS:
        features, positions = experiment.training_views(parse_arm(text), regime)
        assert len(features) == len(positions)
        numbers.setdefault(regime, {})[text] = positions.bincount(minlength=n)
    for regime, base in (("standard", STANDARD_VIEWS), ("centre", 1)):
        for text, views in numbers[regime].items():
            added = 0 if text == "plain" else ADDED_VIEWS
            assert views[experiment.labels == 0].tolist() == [base + added] * scarce
            others = added if "classes=all" in text else 0
            assert views[experiment.labels == 1].tolist() == [base + others] * (n - scarce)


def test_interrupted_features_are_not_computed_again(photos, tmp_path):
    calls = []

    def failing(images):
        calls.append(len(images))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return features_of(images)

    arm = Arm("more_views")
    experiment = Experiment(photos, None, 0, failing, tmp_path, MODEL)
    with pytest.raises(KeyboardInterrupt):
        experiment.training_views(arm, "standard")
    resumed = Experiment(photos, None, 0, features_of, tmp_path, MODEL)
    missing = (STANDARD_VIEWS - 2) * len(resumed.rows) + ADDED_VIEWS * len(resumed.augmented(arm))
    assert resumed.missing_images([("standard", arm)]) == missing
    first = resumed.training_views(arm, "standard")[0]
    fresh = Experiment(photos, None, 0, features_of, tmp_path / "other", MODEL)
    torch.testing.assert_close(first, fresh.training_views(arm, "standard")[0], rtol=0, atol=0)


def test_finished_runs_are_not_repeated(data_root, tmp_path, capsys):
    arguments = ["--datasets", "tiles", "--arms", "plain", "motion", "--seeds", "2", "--epochs", "1"]
    arguments += ["--data-root", str(data_root), "--output", str(tmp_path / "own"), "--cache", str(tmp_path)]
    main(arguments, features_of)
    assert "0 of 4 runs are in" in capsys.readouterr().out
    text = (tmp_path / "own" / "REPORT.md").read_text()
    assert text.count("| standard, motion |") == 4
    assert str(tmp_path) not in text
    main(arguments, lambda images: pytest.fail("measured again"))
    assert "4 of 4 runs are in" in capsys.readouterr().out


def test_on_test_all_training_images_are_used(photos, data_root, tmp_path):
    tested = load_photos("tiles", "test", data_root)
    experiment = Experiment(photos, tested, 0, features_of, tmp_path, MODEL)
    runs = experiment.measure(Arm("plain"), "standard", [0.1])
    assert {run.on for run in runs} == {"test"}
    assert runs[0].classes == "Crack:8 Free:24"


def run(arm, seed, accuracy):
    return Run(
        "tiles", "validation", "standard", arm, "balanced softmax", 0.1, seed, accuracy, accuracy / 2, "", "", 9, "", ""
    )


def test_differences_are_paired_by_split():
    before, after = [50.0, 70.0, 64.0], [51.0, 73.0, 66.0]
    runs = [run("plain", seed, value) for seed, value in enumerate(before)]
    runs += [run("motion", seed, value) for seed, value in enumerate(after)]
    runs += [run("more_views", seed, value + 1) for seed, value in enumerate(before)]
    # The differences are 1, 3 and 2: their mean is 2 and their standard error 1 / sqrt(3).
    assert paired([1.0, 3.0, 2.0]) == f"+2.00 ± {statistics.stdev([1, 3, 2]) / 3**0.5:.2f}" == "+2.00 ± 0.58"
    line = "| standard, motion | 9 | 63.33 | +2.00 ± 0.58 | +1.00 ± 0.58 | 3 of 3 | 31.67 | +1.00 ± 0.29 |"
    assert line in report(runs)


@pytest.mark.parametrize("head", ["balanced softmax", "class-balanced"])
def test_heads_minimise_the_weighted_loss(head):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 3)), np.repeat([0, 1, 2], [25, 10, 5])
    x[:, 0] += y
    weights = np.where(np.arange(40) % 2, 1.0, 0.5)
    counts = np.bincount(y, weights)
    centred = x - weights @ x / weights.sum()
    z = centred / np.sqrt(weights @ centred**2 / weights.sum())
    shift = np.log(counts / counts.sum()) if head == "balanced softmax" else np.zeros(3)
    importance = weights / (counts[y] if head == "class-balanced" else 1)

    def loss(parameters):
        logits = z @ parameters[:9].reshape(3, 3).T + parameters[9:] + shift
        losses = logsumexp(logits, axis=1) - logits[np.arange(40), y]
        return importance @ losses / importance.sum() + 0.05 * parameters[:9] @ parameters[:9]

    expected = minimize(loss, np.zeros(12), tol=1e-10).x[:9].reshape(3, 3)
    arrays = (torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(weights).float())
    trained = train_head(*arrays, head=head, penalty=0.1)
    np.testing.assert_allclose(trained.weight.numpy(), expected, atol=2e-3)


def test_elastic_fields_are_as_strong_and_as_smooth_as_learned_ones():
    generator = torch.Generator().manual_seed(0)
    learned = torch.nn.functional.interpolate(
        torch.randn(4000, 2, 3, 3, generator=generator), (8, 8), mode="bilinear", align_corners=True
    )
    random = elastic_fields(learned, learned, generator)
    strength = [fields.square().mean(dim=(1, 2, 3)) for fields in (learned, random)]
    torch.testing.assert_close(strength[1], strength[0])
    # Each frequency keeps its part of the strength.
    spectra = [np.square(dctn(fields.numpy(), axes=(2, 3), norm="ortho")).mean(axis=0) for fields in (learned, random)]
    np.testing.assert_allclose(spectra[1], spectra[0], rtol=0.25, atol=0.02)
    # What was learned is lost: a random field resembles its learned one no more than another.
    cosine = torch.nn.functional.cosine_similarity(learned.flatten(1), random.flatten(1))
    assert cosine.mean().abs() < 0.02


@pytest.mark.parametrize(("moves", "lowest", "highest"), [(True, 0.4, 1.0), (False, 0.0, 0.1)])
def test_only_classes_that_move_show_evidence_of_motion(moves, lowest, highest):
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")

    def decode(codes):
        shift = 0.25 * codes[:, :, None, None] * moves
        disc = torch.exp(-4 * ((x - shift[:, 0]) ** 2 + (y - shift[:, 1]) ** 2))
        # Light from one side or the other, which moves nothing.
        light = 0.2 * (codes[:, 0, None, None] * x + codes[:, 1, None, None] * y) * (not moves)
        return (disc + light)[:, None]

    class Normal:
        def sample(self, n, generator):
            return torch.randn(n, 2, generator=generator)

    fitted = SimpleNamespace(
        codes=Normal().sample(20, torch.Generator().manual_seed(1)),
        density=Normal(),
        limits=None,
        plan=SimpleNamespace(step=1.5),
        values=SimpleNamespace(to_network=lambda images: images),
        decode=decode,
    )
    assert lowest <= evidence_of_motion(fitted, 0) <= highest


@pytest.mark.parametrize(
    ("interpolation", "weights"), [("bilinear", [0, 0.5, 0.5, 0]), ("bicubic", [-0.09375, 0.59375, 0.59375, -0.09375])]
)
def test_moved_pixels_are_interpolated(interpolation, weights, photos, tmp_path):
    experiment = Experiment(photos, None, 0, features_of, tmp_path, MODEL)
    # Half a pixel to the right, of images that are two units wide.
    field = torch.zeros(1, 2, 8, 8, dtype=torch.float16)
    field[:, 0] = 1 / 256
    experiment.models.__dict__["fields"] = {0: field, 1: field}
    arm = Arm("motion", interpolation=interpolation)
    positions = experiment.augmented(arm)
    images = experiment.photos.images[experiment.rows[positions]].float()
    expected = sum(weight * images[..., k : 253 + k] for k, weight in enumerate(weights))
    moved = experiment._moved(arm, positions, 0)[..., 1:254].float()
    # The values of an image stay within those of the real one.
    expected = expected.clamp(images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True))
    assert (moved - expected).abs().max() < 0.51


def test_the_centre_is_the_centre():
    image = torch.randint(256, (1, 3, 256, 256), dtype=torch.uint8)
    assert torch.equal(make_view(image, "motion", "centre"), image[:, :, 16:240, 16:240])


def test_arms_are_read_from_text():
    assert parse_arm("motion:bank=own,strength=0.5") == Arm("motion", bank="own", strength=0.5)
    assert all(str(parse_arm(text)) == text for _, text in ARMS)
    for text in ("smote", "motion:bank=none", "motion:own", "elastic:interpolation=nearest"):
        with pytest.raises(ValueError, match="is no arm"):
            parse_arm(text)


def test_missing_network_names_the_line_to_type(monkeypatch):
    import_ = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("efficientnet"):
            raise ModuleNotFoundError(name)
        return import_(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps efficientnet-lite-pytorch"):
        load_network()


def test_a_bent_grid_without_motion_is_straight():
    pixels = np.array(sheets.bent_grid(torch.zeros(2, 8, 8), 100).convert("L"))
    assert (pixels[:, [2, 50, 98]] < 255).mean() > 0.9
    assert (pixels[:, [8, 44]] < 255).mean() < 0.15


def test_sheets_are_small_files(data_root, tmp_path):
    arguments = ["sheets", "--datasets", "tiles", "--epochs", "1", "--data-root", str(data_root)]
    main([*arguments, "--output", str(tmp_path / "own"), "--cache", str(tmp_path)])
    path = tmp_path / "own" / "tiles.jpg"
    assert path.stat().st_size < sheets.MAX_BYTES
    with Image.open(path) as picture:
        assert picture.width == sheets.COLUMNS * (sheets.CELL + sheets.GAP) - sheets.GAP


def test_table_keeps_one_row_per_arm_head_penalty_and_split(tmp_path):
    table = run_table(tmp_path / "runs.csv")
    table.add(run("plain", 0, 1.0), run("plain", 1, 2.0), run("plain", 0, 3.0))
    assert [record.balanced_accuracy for record in run_table(table.path).records.values()] == [3.0, 2.0]
