r"""The experiment on imbalance: real trainings on small data, losses beside their formulae, a table that is resumed."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_rel
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.data import load_images
from benchmarks.imbalance import cells, choices, gains, pictures, report, runs, sources, strategies, tables, training
from benchmarks.imbalance.__main__ import main
from benchmarks.imbalance.deepsmote import DeepSMOTE
from gae_augment.demo import load_data

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

COUNTS = torch.tensor([90.0, 9.0, 1.0])


@pytest.fixture(scope="module")
def long_tailed():
    return cells.choose_training(load_data("digits"), "lt-20", seed=0)


def test_thirds_are_by_count():
    assert cells.thirds([5, 100, 7, 50, 1, 30]) == ([1, 3], [5, 2], [0, 4])
    assert cells.thirds([1, 2, 3]) == ([2], [1], [0])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=generator), torch.tensor([0, 0, 1, 2, 1, 0])


def test_weighted_loss_is_the_mean_over_classes_weighted_by_rarity(batch):
    logits, labels = batch
    nats = -logits.log_softmax(dim=1)[torch.arange(6), labels]
    weights = 1 / COUNTS[labels]
    expected = (weights * nats).sum() / weights.sum()
    torch.testing.assert_close(strategies.weighted(logits, labels, COUNTS, 0.0), expected)


def test_balanced_softmax_is_the_posterior_under_the_training_prior(batch):
    logits, labels = batch
    joint = COUNTS * logits.exp()
    expected = -(joint / joint.sum(dim=1, keepdim=True)).log()[torch.arange(6), labels].mean()
    torch.testing.assert_close(strategies.balanced_softmax(logits, labels, COUNTS, 0.0, balance=0), expected)


def test_weights_are_deferred_and_those_of_effective_numbers(batch):
    logits, labels = batch
    plain = strategies.cross_entropy(logits, labels, COUNTS, 0.0)
    assert strategies.deferred(logits, labels, COUNTS, 0.79) == plain
    # (1 - b) / (1 - b^n) is one over 1 + b + ... + b^(n - 1).
    weights = torch.tensor([1 / sum(0.9999**k for k in range(int(n))) for n in COUNTS])[labels]
    nats = -logits.log_softmax(dim=1)[torch.arange(6), labels]
    expected = (weights * nats).sum() / weights.sum()
    torch.testing.assert_close(strategies.deferred(logits, labels, COUNTS, 0.8), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_labels_and_their_probabilities_have_one_loss(name, batch):
    logits, labels = batch
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    hard, soft = (strategies.STRATEGIES[name].loss(logits, targets, COUNTS, 0.9) for targets in (labels, one_hot))
    torch.testing.assert_close(hard, soft)


@pytest.mark.parametrize("name", strategies.STRATEGIES)
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_every_strategy_learns_and_repeats_itself(name, long_tailed):
    def trained(seed=0):
        return training.train(
            long_tailed, (long_tailed[0][:0], long_tailed[1][:0]), classes=10, strategy=strategies.STRATEGIES[name],
            regime="affine", budget=cells.Budget(60, 32, 5e-3, 0.01), seed=seed,
        )  # fmt: skip

    one, again, other = trained(), trained(), trained(seed=1)
    assert not one.training
    x = long_tailed[0].float() / 255
    logits = one(x)
    torch.testing.assert_close(logits, again(x), rtol=0, atol=0)
    assert not torch.equal(logits, other(x))
    assert (logits.argmax(dim=1) == long_tailed[1]).float().mean() > 0.4


def test_synthetic_images_are_learned_from(long_tailed):
    # All images that are called 9 at training are synthetic ones of nothing but a bright square.
    real = long_tailed[1] != 9
    squares = torch.zeros(50, 1, 8, 8, dtype=torch.uint8)
    squares[:, :, 2:6, 2:6] = 255
    network = training.train(
        (long_tailed[0][real], long_tailed[1][real]), (squares, torch.full((50,), 9)), classes=10,
        strategy=strategies.STRATEGIES["class-balanced sampling"], regime="plain",
        budget=cells.Budget(40, 32, 5e-3, 0.01),
        seed=0, synthetic_fraction=1.0, real_last=0.0,
    )  # fmt: skip
    assert (network(squares.float() / 255).argmax(dim=1) == 9).all()


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_soft_labels_undo_what_a_source_mislabels(long_tailed):
    images, labels = long_tailed
    threes = images[labels == 3]
    wrong = threes, torch.full((len(threes),), 9)

    def train(synthetic, **options):
        return training.train(
            long_tailed, synthetic, classes=10, strategy=strategies.STRATEGIES["class-balanced sampling"],
            regime="plain", budget=cells.Budget(150, 32, 5e-3, 0.01), seed=0, real_last=0.0, **options,
        )  # fmt: skip

    teacher = train((images[:0], labels[:0]))

    def probability_of_nine(soft_labels):
        network = train(wrong, synthetic_fraction=1.0, soft_labels=soft_labels, teacher=teacher)
        return training.logits_of(network, threes).softmax(dim=1)[:, 9].mean().item()

    # Threes are drawn as 3 and as 9 about as often.
    assert probability_of_nine(soft_labels=0.0) == pytest.approx(0.5, abs=0.2)
    assert probability_of_nine(soft_labels=1.0) < 0.05


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_strong_regime_and_colour(precision):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 2
    images[labels == 1, 0] //= 8
    network = training.train(
        (images, labels), (images[:0], labels[:0]), classes=2, strategy=strategies.STRATEGIES["cutmix"],
        regime="strong", budget=cells.Budget(30, 16, 1e-2, 0.01, precision), seed=0,
    )  # fmt: skip
    assert (network(images.float() / 255).argmax(dim=1) == labels).float().mean() > 0.9


@pytest.mark.parametrize("text", ["copies", "smote", "adasyn", "deepsmote:steps=100", "gae"])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_sources_fill_every_class_up(text, long_tailed):
    images, labels = sources.parse_source(text).images(long_tailed, seed=0)
    counts = long_tailed[1].bincount()
    missing = counts.max() - counts
    if text == "adasyn":
        # It makes about as many, and none of a class that borders on no other.
        assert (labels.bincount(minlength=10) <= missing + 5).all()
        assert labels.bincount(minlength=10)[missing > 0].float().mean() > 0.5 * missing[missing > 0].float().mean()
    else:
        assert labels.bincount(minlength=10).tolist() == missing.tolist()
    assert (images.shape[1:], images.dtype, len(images)) == ((1, 8, 8), torch.uint8, len(labels))
    again = sources.parse_source(text).images(long_tailed, seed=0)
    assert torch.equal(images, again[0])
    assert not torch.equal(images, sources.parse_source(text).images(long_tailed, seed=1)[0])
    # Most new images are what they are called, by the nearest of all digits.
    every = load_data("digits").train
    nearest = KNeighborsClassifier(1).fit(every[0].flatten(1).numpy(), every[1].numpy())
    assert nearest.score(images.flatten(1).numpy(), labels.numpy()) > 0.7


def test_nothing_is_no_image(long_tailed):
    images, labels = sources.parse_source("nothing").images(long_tailed, seed=0)
    assert (images.shape, len(labels)) == ((0, 1, 8, 8), 0)


def test_deepsmote_interpolates_between_codes_of_one_class(long_tailed):
    model = DeepSMOTE(steps=20, neighbours=1).fit(long_tailed, seed=0)
    model.network.decode = lambda z: z[:, :64].view(-1, 1, 8, 8)
    codes = model.network.encode(long_tailed[0][long_tailed[1] == 9].float() / 255).detach()
    nearest = torch.cdist(codes, codes).fill_diagonal_(math.inf).argmin(dim=1)
    made = model.sample(9, 30, seed=1).float().flatten(1) / 255
    # Every new code lies on the segment between a code and the one nearest to it.
    parts = torch.linspace(0, 1, 401)[:, None, None]
    segments = (codes + parts * (codes[nearest] - codes))[..., :64].sigmoid().flatten(0, 1)
    assert torch.cdist(made, segments).amin(dim=1).max() < 0.03
    assert torch.cdist(made, codes[:, :64].sigmoid()).amin(dim=1).median() > 0.1


def test_arguments_of_sources():
    source = sources.parse_source("gae:synthetic_fraction=0.3,step=1,architecture=fc")
    assert source.mixing == {"synthetic_fraction": 0.3}
    assert source.make.keywords == {"definition": "gae", "step": 1, "architecture": "fc"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gan", "'gan' is not a source. Use one of 'nothing', 'gae', "),
        ("gae:epochs", "The source is 'gae:epochs', but its arguments need values, as in"),
        ("gae:epoch=3", "'gae' has no argument 'epoch'"),
        ("gae:steps=300", "'gae' has no argument 'steps'"),
        ("gae:model=vae", "'gae' has no argument 'model'"),
        ("smote:step=1", "'smote' has no argument 'step'"),
        (
            "gae:synthetic_fraction=abc",
            "'gae:synthetic_fraction=abc', but arguments of the sampler must be numbers",
        ),
        ("gae:synthetic_fraction=2", "'synthetic_fraction' is 2, but must be a number between 0 and 1"),
        ("gae:soft_labels=2", "'soft_labels' is 2, but must be a weight between 0 and 1"),
        ("gae:soft_labels=auto", "'soft_labels' is 'auto', but must be a weight between 0 and 1"),
    ],
)
def test_other_sources_are_refused(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        sources.parse_source(text)
    with pytest.raises(SystemExit):
        main(["--sources", text])
    assert "error: " in capsys.readouterr().err


def test_regime_that_does_not_suit_a_data_set_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--datasets", "cifar10", "digits", "--regimes", "strong"])
    assert "'digits' has grey images" in capsys.readouterr().err


def test_validation_needs_an_image_of_each_class(tmp_path):
    data = load_images("digits", tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"'lt-100' class \d of 'digits' has fewer than three images"):
        cells.split(data, "lt-100", 0, "validation")


def run_imbalance(tmp_path, *arguments):
    main([*arguments, "--output", str(tmp_path / "output"), "--cache", str(tmp_path / "cache")])


QUICK = ("--datasets", "digits", "--profiles", "lt-20", "--regimes", "affine", "--seeds", "1")


def test_runs_are_kept_and_not_done_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(cells.BUDGETS, "digits", cells.Budget(20, 32, 5e-3, 0.01))
    monkeypatch.setattr(runs, "FEATURES_LEARNED_FROM", 5000)
    some = ("--strategies", "plain", "class-balanced sampling")
    run_imbalance(tmp_path, *QUICK, *some, "--sources", "nothing", "smote")
    assert "class-balanced sampling + smote" in capsys.readouterr().out
    path = tmp_path / "output" / "runs.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4
    for line in lines:
        recall = np.array(line["recall"].split(), dtype=float)
        counts = np.array(line["counts"].split(), dtype=int)
        assert float(line["balanced_accuracy"]) == pytest.approx(recall.mean(), abs=0.01)
        assert float(line["tail"]) == pytest.approx(recall[np.argsort(counts)[:3]].mean(), abs=0.01)
        made = {"nothing": 0, "smote": (counts.max() - counts).sum()}[line["source"]]
        assert int(line["synthetic_images"]) == made
        assert (float(line["fid"]) > 0) == bool(made)
    assert "## digits, lt-20, affine; measured on test images" in (tmp_path / "output" / "REPORT.md").read_text()

    trained = []
    original = runs.train
    monkeypatch.setattr(
        runs, "train", lambda *arguments, **options: trained.append(1) or original(*arguments, **options)
    )
    monkeypatch.setattr(sources, "SOURCES", sources.SOURCES | {"smote": lambda *_: pytest.fail("made again")})
    run_imbalance(tmp_path, *QUICK, *some, "cutmix", "--sources", "smote")
    assert len(trained) == 1
    run_imbalance(tmp_path, *QUICK, *some, "--sources", "smote:synthetic_fraction=0.2")
    assert len(trained) == 3


def copies(train, missing, seed):
    return {label: train[0][train[1] == label][:1].repeat(number, 1, 1, 1) for label, number in missing.items()}


def test_copies_are_found_out(tmp_path, monkeypatch):
    monkeypatch.setitem(cells.BUDGETS, "digits", cells.Budget(5, 32, 5e-3, 0.01))
    monkeypatch.setattr(runs, "FEATURES_LEARNED_FROM", 5000)
    monkeypatch.setitem(sources.SOURCES, "smote", copies)
    run_imbalance(tmp_path, *QUICK, "--strategies", "plain", "--sources", "nothing", "smote")
    with (tmp_path / "output" / "runs.csv").open(newline="") as file:
        assert [line["memorised"] for line in csv.DictReader(file)] == ["nan", "1.0"]
    assert "| 100.0% |" in (tmp_path / "output" / "REPORT.md").read_text()


def test_chosen_fraction_is_trained_with_and_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(cells.BUDGETS, "digits", cells.Budget(20, 32, 5e-3, 0.01))
    monkeypatch.setattr(runs, "FEATURES_LEARNED_FROM", 5000)
    monkeypatch.setattr(runs, "SPLITS", 2)
    trained = []

    def train(real, synthetic, **options):
        trained.append((len(real[1]), options["synthetic_fraction"]))
        return training.train(real, synthetic, **options)

    monkeypatch.setattr(runs, "train", train)
    run_imbalance(tmp_path, *QUICK, "--strategies", "plain", "--sources", "smote:synthetic_fraction=auto")
    with (tmp_path / "output" / "runs.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    counts = np.array(line["counts"].split(), dtype=int)
    kept = counts.sum() - np.maximum(1, np.round(counts / 5)).sum()
    assert trained[:-1] == [(kept, 0.0), (kept, 0.25), (kept, 0.5)] * 2
    assert trained[-1] == (counts.sum(), float(line["synthetic_fraction"]))


def test_classifier_without_images_is_trained_once_and_teaches(tmp_path, monkeypatch):
    monkeypatch.setitem(cells.BUDGETS, "digits", cells.Budget(20, 32, 5e-3, 0.01))
    monkeypatch.setattr(runs, "FEATURES_LEARNED_FROM", 5000)
    trained = []

    def train(real, synthetic, **options):
        trained.append((len(synthetic[1]), options.get("teacher"), training.train(real, synthetic, **options)))
        return trained[-1][2]

    monkeypatch.setattr(runs, "train", train)
    run_imbalance(tmp_path, *QUICK, "--strategies", "plain", "--sources", "smote:soft_labels=0.5", "nothing", "smote")
    (none, _, alone), (made, teacher, _), (_, no_teacher, _) = trained
    assert none == 0 < made
    assert no_teacher is None
    for name, value in alone.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value)


@pytest.mark.parametrize("on", ["validation", "development"])
def test_choices_are_made_on_training_images_that_are_not_trained_on(tmp_path, monkeypatch, on):
    monkeypatch.setitem(cells.BUDGETS, "digits", cells.Budget(5, 32, 5e-3, 0.01))
    seen, trained = [], []

    def predict(network, images):
        seen.append(images)
        return torch.zeros(len(images), dtype=torch.long)

    def train(real, synthetic, **options):
        trained.append((real, options["budget"]))
        return training.train(real, synthetic, **options)

    monkeypatch.setattr(runs, "_predict", predict)
    monkeypatch.setattr(runs, "train", train)
    run_imbalance(
        tmp_path, *QUICK, "--strategies", "plain", "--sources", "nothing", "--on", on, "--learning-rate", "0.001"
    )

    def rows(images):
        return {tuple(image.flatten().tolist()) for image in images}

    data = load_images("digits", tmp_path, tmp_path)
    ((real, budget),), (held_out,) = trained, seen
    assert budget == cells.Budget(5, 32, 0.001, 0.01)
    assert rows(held_out) <= rows(data.train[0]) - rows(real[0])
    left = cells.choose_training(data, "lt-20", seed=0)
    parts = {"validation": len(left[1]) / 5, "development": len(data.train[1]) / 10}
    assert len(held_out) == pytest.approx(parts[on], abs=10)
    report = (tmp_path / "output" / "REPORT.md").read_text()
    assert f"measured on {on} images" in report
    assert "5 steps of 32 images, learning rate 0.001, weight decay 0.01" in report


def made_run(strategy, source, seed, accuracy, **others):
    empty = dict.fromkeys(runs.Run.__dataclass_fields__, 0.0)
    values = {"dataset": "d", "profile": "p", "regime": "r", "on": "test", **others}
    return runs.Run(
        **{**empty, **values, "strategy": strategy, "source": source, "seed": seed, "balanced_accuracy": accuracy}
    )


def test_differences_are_paired_by_seed():
    base, ours = [80.0, 84.0, 79.0, 88.0], [81.0, 84.5, 81.0, 88.3]
    rows = [made_run("class-balanced sampling", "nothing", seed, value) for seed, value in enumerate(base)]
    rows += [made_run("class-balanced sampling", "gae", seed, value) for seed, value in enumerate(ours)]
    # A seed missing from the other row does not count.
    rows.append(made_run("class-balanced sampling", "gae", 7, 10.0))
    interval = ttest_rel(ours, base).confidence_interval(0.95)
    expected = f"{np.mean(ours) - np.mean(base):+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
    assert expected in tables.summary(rows[:-1])
    assert tables.differences(
        {run.seed: run for run in rows if run.source == "gae"}, {run.seed: run for run in rows if run.source != "gae"}
    ).mean == pytest.approx(np.mean(ours) - np.mean(base))
    # Each cell has its own baseline.
    moved = [replace(run, dataset="e", balanced_accuracy=run.balanced_accuracy - 50) for run in rows[:-1]]
    assert f"| {expected} | 2 | 4 |" in tables.added_table(rows[:-1] + moved)
    # A cell without all seeds does not count, nor does a run on another device.
    far = [replace(run, balanced_accuracy=90.0 * (run.source == "gae")) for run in moved if run.seed]
    assert f"| {expected} | 1 | 4 |" in tables.added_table(rows[:-1] + far)
    elsewhere = [replace(run, device="GPU") if run.source == "gae" and run.seed == 3 else run for run in rows[:-1]]
    three = f"{np.mean(ours[:3]) - np.mean(base[:3]):+.2f} ("
    assert three in tables.added_table(elsewhere)
    assert three in tables.summary(elsewhere)


def test_our_rows_are_compared_with_the_best_baseline_of_each_cell():
    def cell(dataset, **means):
        noise = (0.1, 0.0, -0.1)
        names = {"balanced": ("class-balanced sampling", "nothing"), "mixup": ("mixup", "nothing")}
        names |= {"peer": ("class-balanced sampling", "smote"), "ours": ("class-balanced sampling", "gae:step=1")}
        return [
            made_run(*names[name], seed, mean + noise[(seed + place) % 3], dataset=dataset)
            for place, (name, mean) in enumerate(means.items())
            for seed in range(3)
        ]

    cells_of_runs = [
        cell("a", balanced=80.0, mixup=82.0, peer=83.0, ours=84.0),
        cell("b", balanced=90.0, mixup=92.0, ours=91.5),
        cell("b", balanced=70.0, mixup=60.0, ours=70.3),
        # Too few seeds.
        cell("b", balanced=70.0, ours=99.0)[::3],
    ]
    own_strategy = [
        made_run(name, "nothing", seed, 86.0, dataset="a")
        for name in (strategies.OWN[0], choices.CHOSEN)
        for seed in range(3)
    ]
    # The recipe's own strategies are baselines, but not usual ones.
    row = tables.overview([[*cells_of_runs[0], *own_strategy]]).splitlines()[2]
    assert "| -2.00 |" in row
    row = tables.overview([[*cells_of_runs[0], *own_strategy]], tables.is_usual).splitlines()[2]
    assert "| +1.00 |" in row
    # A baseline with one seed does not count yet.
    cells_of_runs[0].append(made_run("cutmix", "nothing", 0, 95.0, dataset="a"))
    row = tables.overview(cells_of_runs).splitlines()[2]
    means = [84.0 - 83.0, 91.5 - 92.0, 70.3 - 70.0]
    expected = ["class-balanced sampling + gae:step=1", "3", f"{np.mean(means):+.2f}", "2", "1", "1", "+4.00"]
    assert [part.strip() for part in row.strip("|").split("|")] == [*expected, f"{np.mean([1.5, 0.3]):+.2f}"]
    compared = tables.comparisons(cells_of_runs[0][:-1])
    assert [one.baseline for one in compared] == [
        "class-balanced sampling", "class-balanced sampling + smote", "mixup",
    ]  # fmt: skip
    ours, mixup = [84.1, 84.0, 83.9], [82.0, 81.9, 82.1]
    interval = ttest_rel(ours, mixup).confidence_interval(0.95)
    assert (compared[2].row, compared[2].seeds) == ("class-balanced sampling + gae:step=1", 3)
    assert [compared[2].points, compared[2].low, compared[2].high] == pytest.approx([2.0, *interval], abs=0.01)


def test_strategy_is_chosen_on_validation_images_alone(tmp_path):
    def row(strategy, source, seed, accuracy, **others):
        values = {"settings": "s", "device": "x", "versions": "y", "recall": "1", "counts": "1"}
        values |= {"synthetic_images": 9 if source == "gae" else 0, "fid": 1.0}
        return made_run(strategy, source, seed, accuracy, **values | others)

    held_out = {("mixup", 0): 70.0, ("cutmix", 0): 60.0, ("mixup", 1): 50.0, ("cutmix", 1): 51.0, ("mixup", 2): 99.0}
    measured = [row(strategy, "nothing", seed, value, on="validation") for (strategy, seed), value in held_out.items()]
    # With images another strategy would be the best, and on test images as well.
    measured += [row("cutmix", "gae", seed, 98.0, on="validation") for seed in range(3)]
    measured += [row("mixup", "nothing", seed, 80.0 + seed) for seed in range(3)]
    measured += [row("cutmix", "nothing", seed, 90.0 + seed) for seed in range(3)]
    measured += [row("mixup", "gae", seed, 85.0) for seed in range(3)]
    measured += [row("cutmix", "gae", seed, 95.0 + seed) for seed in range(3)]
    # Of the seeds that have a choice one is missing.
    measured += [row("mixup", "smote", 0, 70.0)]
    # Another budget is another choice.
    measured.append(row("cutmix", "nothing", 0, 97.0, on="validation", settings="t"))

    chosen = choices.chosen_runs(measured, choices.chosen_strategies(measured))
    found = {(run.source, run.seed): run.balanced_accuracy for run in chosen}
    assert found == {("nothing", 0): 80.0, ("nothing", 1): 91.0, ("gae", 0): 85.0, ("gae", 1): 96.0}
    table = runs.run_table(tmp_path / "runs.csv")
    table.add(*measured)
    report.write_report(tmp_path)
    text = (tmp_path / "REPORT.md").read_text()
    assert "chosen strategy: mixup (1), cutmix (1)" in text
    assert "| chosen strategy | 85.50 |" in text
    assert "| chosen strategy + gae | 90.50 |" in text
    with (tmp_path / "comparisons.csv").open(newline="") as file:
        compared = {(line["on"], line["row"], line["baseline"]): line for line in csv.DictReader(file)}
    assert compared["test", "chosen strategy + gae", "chosen strategy"]["points"] == "5.0"
    assert compared["test", "chosen strategy + gae", "mixup + smote"]["low"] == ""


def test_budgets_are_columns_of_one_table(tmp_path):
    table = runs.run_table(tmp_path / "runs.csv")
    values = {("long", "plain"): (81.0, 83.0), ("short", "plain"): (80.0,), ("long", "affine"): (90.0,)}
    for (settings, regime), own in values.items():
        for seed, value in enumerate(own):
            names = {"settings": settings, "regime": regime, "device": "x", "versions": "y", "synthetic_images": 0}
            table.add(made_run("class-balanced sampling", "nothing", seed, value, recall="1", counts="1", **names))
    report.write_report(tmp_path)
    text = (tmp_path / "REPORT.md").read_text()
    assert "| long | 90.00 (1) | 82.00 (2) |" in text
    assert "| short |  | 80.00 (1) |" in text
    assert "Ours" not in text


def test_gain_is_paired_with_the_run_of_the_same_strategy_seed_and_device():
    base = [made_run("plain", "nothing", seed, 53.0) for seed in range(2)]
    ours = made_run("plain", "gae", 1, 55.0)
    unpaired = [made_run("mixup", "gae", 1, 55.0), made_run("plain", "gae", 0, 55.0, device="GPU")]
    (gain,) = gains.gains([*base, ours, *unpaired])
    assert (gain.base, gain.points) == (base[1], 2.0)


def strategy_runs():
    """Two cells and three seeds: gains of 1 point by mixup, of 2 (seeds: 1, 2, 3) by mixup with images."""
    images = gains.WITH_IMAGES
    values = {("class-balanced sampling", "nothing"): (0, 0, 0), ("class-balanced sampling", images): (0.5, 0.5, 0.5)}
    values |= {("mixup", "nothing"): (1, 1, 1), ("mixup", images): (1, 2, 3)}
    details = {"settings": "s", "device": "x", "versions": "y", "recall": "1", "counts": "1", "synthetic_images": 0}
    return [
        made_run(*row, seed, level + gain + shift, dataset=dataset, **details)
        for dataset, level, sign in (("d", 80.0, 1), ("e", 60.0, -1))
        for row, by_seed in values.items()
        for seed, gain in enumerate(by_seed)
        # Opposite in the two cells, so that the mean over the cells of a seed does not see it.
        for shift in [sign * 0.7 * seed if row == ("mixup", images) else 0.0]
    ]


def test_strategies_are_compared_on_the_cells_and_seeds_that_all_share():
    measured = strategy_runs()
    shared = gains.strategy_gains(measured)
    assert [cell[0] for cell in shared.cells] == ["d", "e"]
    assert shared.seeds == (0, 1, 2)
    assert list(dict.fromkeys(strategy for strategy, _ in shared.rows)) == ["mixup", "class-balanced sampling"]
    interval = ttest_rel([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).confidence_interval(0.95)
    mixup = shared.rows["mixup", gains.WITH_IMAGES]
    assert [mixup.mean, mixup.low, mixup.high] == pytest.approx([2.0, *interval])
    assert shared.rows["mixup", "nothing"].mean == pytest.approx(1.0)
    assert shared.rows["class-balanced sampling", "nothing"].mean == 0
    # None of these counts: a strategy without images, a cell and a seed that not all rows have, another device.
    partial = [
        made_run("plain", "nothing", 0, 10.0, dataset="d", settings="s", device="x"),
        made_run("mixup", "nothing", 0, 10.0, dataset="f", settings="s", device="x"),
        made_run("class-balanced sampling", "nothing", 0, 10.0, dataset="f", settings="s", device="x"),
        made_run("mixup", "nothing", 3, 10.0, dataset="d", settings="s", device="x"),
        made_run("mixup", "nothing", 0, 10.0, dataset="d", settings="s", device="GPU"),
    ]
    assert gains.strategy_gains([*measured, *partial]) == shared
    assert gains.strategy_gains([run for run in measured if run.source == "nothing"]) is None
    # Mixup alone in one cell, images with class-balanced sampling alone in the other.
    apart = {
        ("mixup", "nothing"): "d",
        ("mixup", gains.WITH_IMAGES): "d",
        ("class-balanced sampling", gains.WITH_IMAGES): "e",
    }
    disjoint = [run for run in measured if apart.get((run.strategy, run.source), run.dataset) == run.dataset]
    assert gains.strategy_gains(disjoint) is None


def test_report_opens_with_the_figure_and_its_caption(tmp_path):
    table = runs.run_table(tmp_path / "runs.csv")
    table.add(*strategy_runs())
    (tmp_path / "REMARKS.md").write_text("Remarks.\n")
    report.write_report(tmp_path)
    text = (tmp_path / "REPORT.md").read_text()
    figure, words, numbers = (
        text.index(part) for part in ("](strategies.png)", "Remarks.", "The numbers of the figure")
    )
    assert figure < words < numbers
    assert "2 cells (d and e; profiles p; augmentation r) and 3 seeds" in text
    assert "| mixup | +1.00 (+1.00 to +1.00) | +2.00 (-0.48 to +4.48) |" in text
    with Image.open(tmp_path / "strategies.png") as image:
        assert image.width == 8 * 150
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**20)}
    for name in (pictures.WITHOUT, pictures.WITH):
        assert tuple(bytes.fromhex(name[1:])) in colours


def test_one_strategy_alone_has_no_figure(tmp_path):
    table = runs.run_table(tmp_path / "runs.csv")
    table.add(*(run for run in strategy_runs() if run.strategy == "class-balanced sampling"))
    report.write_report(tmp_path)
    assert not (tmp_path / "strategies.png").exists()
    assert "strategies.png" not in (tmp_path / "REPORT.md").read_text()


def test_fid_and_gain_of_models_are_ranked():
    # The ranks of gain are 1, 3, 2 where those of FID are 1, 2, 3; the correlation is 1 - 6 (0 + 1 + 1) / (3 (9 - 1)).
    gains_and_fids = {"gae": (0.1, 1.0), "vae": (0.5, 2.0), "rae_l2": (0.3, 4.0)}
    base = [made_run("class-balanced sampling", "nothing", seed, 80.0 + seed) for seed in range(2)]
    ours = [
        made_run("class-balanced sampling", model, seed, 80.0 + seed + gain, fid=fid)
        for model, (gain, fid) in gains_and_fids.items()
        for seed in range(2)
    ]
    other = [made_run("mixup", "gae", 0, 99.0), made_run("class-balanced sampling", "gae:step=1", 0, 99.0)]
    text = tables.fid_and_gain([*base, *other, *ours])
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:] == [
        "---", "gae", "vae", "rae_l2",
    ]  # fmt: skip
    assert "| rae_l2 | 4.00 | +0.30 (+0.30 to +0.30) |" in text
    assert "2 seeds" in text
    assert "is +0.50;" in text
    # A seed missing from another model does not count.
    more = [made_run("class-balanced sampling", source, 2, 10.0, fid=9.0) for source in ("nothing", "vae")]
    assert tables.fid_and_gain([*base, *ours, *more]) == text
    assert tables.fid_and_gain([*base, *ours[:4]]) == ""


def test_pythae_is_named_where_it_is_missing(monkeypatch, long_tailed):
    monkeypatch.setitem(__import__("sys").modules, "pythae.models", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gae-augment\[benchmarks\]'"):
        sources.parse_source("pythae_vae").images(long_tailed, seed=0)
