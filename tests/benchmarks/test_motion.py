r"""The experiment on motions: arms and fields beside their formulae, small trainings, a table that is resumed."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import sem

from benchmarks.imbalance.cells import Budget, choose_training
from benchmarks.motion import banks, images, programme, report, runs, training
from benchmarks.motion.__main__ import main
from benchmarks.motion.arms import BASE, Arm, moved_probability, parse_arm
from gae_augment import MixedSampler
from gae_augment.demo import load_data
from gae_augment.motion.fields import displacement, jacobian, move_images, roughness

COUNTS = torch.tensor([90, 40, 10])


@pytest.fixture(scope="module")
def long_tailed():
    return choose_training(load_data("digits"), "lt-20", seed=0)


@pytest.fixture(scope="module")
def bank():
    # Smooth fields of different strengths, with a mean that is not 0.
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(3, 60, 2, 3, 3, generator=generator) * torch.rand(3, 60, 1, 1, 1, generator=generator)
    fields = torch.nn.functional.interpolate(coarse.flatten(0, 1), 8, mode="bilinear", align_corners=True)
    fields = (0.1 * fields + 0.03).view(3, 60, 2, 8, 8)
    return {label: banks.Motions(v, torch.rand(60, 1, 4, 4, generator=generator)) for label, v in enumerate(fields)}


def motions(*fields):
    return banks.Motions(torch.stack(fields), torch.zeros(len(fields), len(fields[0]), 1, 1, 1))


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("base", "base"),
        ("motion:strength=1,p=0.5", "motion"),
        ("motion:bank=own,classes=scarce", "motion:classes=scarce,bank=own"),
        ("motion:smoothness=0.3,pairs=random", "motion:smoothness=0.3,pairs=random"),
        ("residual:real_last=0", "residual:real_last=0"),
        ("motion:adaptive=1,p=0.5", "motion:adaptive=1"),
    ],
)
def test_arm_has_one_shortest_text(text, shortest):
    assert str(parse_arm(text)) == shortest
    assert parse_arm(shortest) == parse_arm(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gan", "'kind' is 'gan'"),
        ("motion:speed=1", "its options must be among classes, bank, strength"),
        ("motion:strength", "its options must be among"),
        ("motion:strength=strong", "'strength' must be a number"),
        ("motion:strength=4", "'strength' is 4.0, but must be a number between 0 and 3"),
        ("motion:gae=1,single=1", "exclude each other"),
        ("motion:rho=1,sign=1", "'rho' needs the bank's own fields"),
        ("base:p=0.3", "'base' has no option 'p'"),
        ("base:adaptive=1", "'base' has no option 'adaptive'"),
        ("residual:strength=0.3", "'residual' has no option 'strength'"),
    ],
)
def test_other_arms_are_refused(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        parse_arm(text)
    with pytest.raises(SystemExit):
        main(["--arms", text])
    assert "error: " in capsys.readouterr().err


def test_every_arm_of_the_programme_exists():
    arms = {arm for stage in programme.STAGES.values() for arm in stage.arms}
    assert {str(parse_arm(arm)) for arm in arms} == arms
    assert all("base" in stage.arms for stage in programme.STAGES.values())


def test_scarce_images_are_moved_as_often_as_they_would_be_synthetic():
    labels = torch.arange(3).repeat_interleave(COUNTS).tolist()
    data = SimpleNamespace(targets=[*labels, 0, 1, 2], is_synthetic=[False] * len(labels) + [True] * 3)
    scarce = moved_probability(Arm("motion", "scarce"), COUNTS)
    torch.testing.assert_close(scarce.double(), MixedSampler(data, 0.5).synthetic_probability)
    rich = moved_probability(Arm("motion", "rich"), COUNTS)
    torch.testing.assert_close(scarce + rich, moved_probability(Arm("motion"), COUNTS))
    assert rich[0] == 0.5


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_elastic_fields_match_the_bank_in_displacement_and_roughness(bank, strength):
    def pool(kind, seed=0):
        return banks.pools(Arm(kind, strength=strength), bank, seed).fields[0]

    learned, random = pool("motion"), pool("elastic")
    assert learned.shape == random.shape == (banks.POOL, 2, 8, 8)
    lengths = [displacement(v).square().mean().sqrt().item() for v in (learned, random)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.07)
    rough = [roughness(v).mean().item() for v in (learned, random)]
    assert rough[1] == pytest.approx(rough[0], rel=0.15)
    assert not torch.equal(random, pool("elastic", seed=1))
    assert torch.equal(random, pool("elastic"))


def test_even_fields_have_the_strength_of_the_bank(bank, monkeypatch):
    monkeypatch.setattr(banks, "invertible", lambda v: v)
    (fields,) = banks.pools(Arm("motion", single=1, even=1), bank, seed=0).fields
    strengths = fields.square().mean(dim=(1, 2, 3)).sqrt()
    expected = torch.cat([motions.fields for motions in bank.values()]).square().mean().sqrt()
    torch.testing.assert_close(strengths, expected.expand(len(strengths)))


def test_affine_part_is_the_least_squares_fit(bank):
    fields = bank[0].fields
    x, y = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing="xy")
    design = np.stack([np.ones(64), x.ravel(), y.ravel()], axis=1)
    flat = fields.reshape(-1, 64).numpy().T
    expected = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    np.testing.assert_allclose(banks.without_affine(fields).reshape(-1, 64).numpy().T, expected, atol=1e-6)


def test_new_fields_have_the_mean_and_the_covariance_of_the_bank(bank, monkeypatch):
    monkeypatch.setattr(banks, "invertible", lambda v: v)
    monkeypatch.setattr(banks, "POOL", 50_000)
    pooled = torch.cat([motions.fields for motions in bank.values()]).flatten(1)
    drawn = banks.pools(Arm("motion"), bank, seed=0).fields[0].flatten(1)
    torch.testing.assert_close(drawn.mean(dim=0), pooled.mean(dim=0), atol=2e-3, rtol=0)
    torch.testing.assert_close(drawn.T.cov(correction=0), pooled.T.cov(correction=0), atol=2e-4, rtol=0)


def test_fields_come_from_the_bank_of_their_class_or_from_all(bank):
    def are_of(fields, label):
        return (torch.cdist(fields.flatten(1), bank[label].fields.flatten(1)).amin(dim=1) < 2e-3).float().mean()

    shared = banks.pools(Arm("motion", single=1), bank, seed=0).fields
    assert len(shared) == 1
    assert all(0.25 < are_of(shared[0], label) < 0.42 for label in bank)
    own = banks.pools(Arm("motion", bank="own", single=1), bank, seed=0).fields
    assert len(own) == 3
    assert all(are_of(own[label], label) > 0.95 for label in bank)


@pytest.mark.parametrize(
    "options", [{"compose": 1, "single": 1}, {"sign": 1, "single": 1}, {"strength": 3.0}, {"gae": 1}]
)
def test_drawn_fields_are_invertible_and_keep_their_strength(bank, options, monkeypatch):
    monkeypatch.setattr(banks, "POOL", 300)
    (fields,) = banks.pools(Arm("motion", **options), bank, seed=0).fields
    assert (jacobian(displacement(fields)) > 0).all()
    pooled = torch.cat([motions.fields for motions in bank.values()])
    if "single" in options:
        # Independent fields with weights cos and sin have the mean square of one field, but for the mean field.
        assert fields.square().mean().item() == pytest.approx(pooled.square().mean().item(), rel=0.4)
    if "sign" in options:
        assert fields.mean().abs() < 0.2 * pooled.mean().abs()


def test_each_image_is_moved_by_a_field_of_its_class(bank):
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.rand(40, 1, 12, 12, generator=generator), torch.arange(40) % 3
    fields = [v.fields[:4] for v in bank.values()]
    moved = training.Mover(motions(*fields), torch.ones(3)).move(x, labels, generator)
    for image, label, after in zip(x, labels.tolist(), moved, strict=True):
        ways = move_images(image.expand(4, -1, -1, -1), displacement(fields[label]))
        assert (ways - after).abs().amax(dim=(1, 2, 3)).min() < 1e-5


def test_colour_differences_are_added_to_moved_images(bank):
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.full((30, 1, 12, 12), 0.5), torch.zeros(30, dtype=torch.long)
    pool = banks.pools(Arm("motion", single=1, rho=0.5), bank, seed=0)
    moved = training.Mover(pool, torch.ones(3)).move(x, labels, generator)
    # A motion does not change an image of one colour. The mean of every third pixel's surroundings is the difference.
    differences = torch.cat([motions.colours for motions in bank.values()])
    centres = (moved - x)[:, :, 1::3, 1::3]
    nearest = torch.cdist(centres.flatten(1), (0.5 * differences).clamp(max=0.5).flatten(1)).amin(dim=1)
    assert nearest.max() < 1e-3


def test_largest_class_stays_unmoved_if_scarce_images_are_moved(bank):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(400)
    x = torch.rand(1200, 1, 8, 8, generator=generator)
    mover = training.Mover(motions(bank[0].fields), moved_probability(Arm("motion", "scarce"), COUNTS))
    moved = (mover.move(x, labels, generator) != x).flatten(1).any(dim=1)
    assert not moved[labels == 0].any()
    for label in (1, 2):
        expected = 0.5 * (1 - COUNTS[label].item() / 90)
        assert moved[labels == label].float().mean() == pytest.approx(expected, abs=0.08)


def test_crops_and_mirrors_are_those_of_padded_images():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, 6, 5, generator=generator)
    padded = torch.nn.functional.pad(x, [4] * 4)
    changed = training.flip_and_crop(x, generator)
    found = []
    for image, after in zip(padded, changed, strict=True):
        crops = [
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            for crop in [image[:, down : down + 6, right : right + 5]]
            if torch.equal(crop.flip(2) if mirrored else crop, after)
        ]
        assert crops
        found.append(crops[0])
    assert {down for down, _, _ in found} == {right for _, right, _ in found} == set(range(9))
    assert 70 < sum(mirrored for _, _, mirrored in found) < 130


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_training_depends_on_its_seed_and_ends_with_real_images(long_tailed, bank):
    nothing = long_tailed[0][:0], long_tailed[1][:0]
    mover = training.Mover(motions(bank[0].fields), torch.ones(10))

    def logits(regime="none", **options):
        network = training.train(
            long_tailed, nothing, classes=10, regime=regime, budget=Budget(20, 16, 5e-3, 0.01),
            **{"seed": 0, **options},
        )  # fmt: skip
        return network(long_tailed[0][:20].float() / 255)

    unmoved, moved = logits(), logits(mover=mover)
    assert torch.equal(moved, logits(mover=mover))
    assert not torch.equal(moved, unmoved)
    assert not torch.equal(unmoved, logits(seed=1))
    assert torch.equal(unmoved, logits(mover=mover, real_last=1.0))
    assert not torch.equal(moved, logits(mover=mover, real_last=0.5))
    assert not torch.equal(unmoved, logits(regime="affine"))


def test_batches_and_loss_are_those_of_the_strategy(long_tailed, monkeypatch):
    class Network(torch.nn.Module):
        r"""A network that learns the frequency of each class alone."""

        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.zeros(10))

        def forward(self, batch):
            return self.logits.expand(len(batch), -1)

    monkeypatch.setattr(training, "build_classifier", lambda *_: Network())
    counts = long_tailed[1].bincount()
    expected = {
        "plain": counts / counts.sum(),
        "class-balanced sampling": torch.full((10,), 0.1),
        "balanced softmax": torch.full((10,), 0.1),
        "square-root sampling": torch.full((10,), 0.1),
        "balanced softmax, τ = 1.5": (counts**-0.5) / (counts**-0.5).sum(),
    }
    for strategy, frequencies in expected.items():
        network = training.train(
            long_tailed, (long_tailed[0][:0], long_tailed[1][:0]), classes=10, regime="none",
            budget=Budget(400, 64, 0.02, 0.0), seed=0, strategy=strategy,
        )  # fmt: skip
        torch.testing.assert_close(network.logits.softmax(dim=0), frequencies, atol=0.02, rtol=0)


def shifts(*pixels):
    r"""Returns motions that shift what an image of 8 pixels shows to the right, all by the same distance."""
    fields = [torch.tensor([-one / 4, 0.0])[:, None, None].expand(1, 4, 2, 8, 8) for one in pixels]
    return [banks.Motions(v, torch.zeros(1, 4, 1, 1, 1)) for v in fields]


def test_strength_adapts_to_the_errors_on_moved_images(long_tailed):
    strengths = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    mover = training.AdaptiveMover(shifts(*strengths), torch.ones(10))
    x, labels = long_tailed[0].float() / 255, long_tailed[1]
    generator = torch.Generator().manual_seed(0)
    assert mover.move(x, labels, generator) is x
    seen = []

    class Memory(torch.nn.Module):
        r"""Knows the unmoved images, and errs on a third of the moved ones."""

        errs = True

        def forward(self, batch):
            seen.append(batch)
            if len(seen) % 2:
                self.labels = labels[torch.cdist(batch.flatten(1), x.flatten(1)).argmin(dim=1)]
            elif self.errs:
                self.labels[::3] += 1
            return torch.nn.functional.one_hot(self.labels, 11)

    network = Memory()
    for epoch in range(3):
        mover.update(network, long_tailed, lambda batch, _: batch, epoch)
    assert mover.strengths == [0, 0.25, 0.5, 0.75]
    # Images of updates are moved by a pixel, those of training by the strength.
    torch.testing.assert_close(seen[1], move_images(seen[0], displacement(shifts(1.0)[0].fields[0, :1])))
    expected = move_images(x, displacement(shifts(0.75)[0].fields[0, :1]))
    torch.testing.assert_close(mover.move(x, labels, generator), expected)
    # A pixel is an eighth of the side. The epoch with 0.75 is still to come.
    assert mover.displacement == pytest.approx(12.5 * ((0.25**2 + 0.5**2) / 3) ** 0.5, rel=1e-3)
    network.errs = False
    mover.update(network, long_tailed, lambda batch, _: batch, 3)
    assert mover.strengths[-1] == 0.5


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_training_adapts_the_strength_once_per_epoch(long_tailed):
    def trained():
        mover = training.AdaptiveMover(shifts(0.25, 0.5, 0.75, 1.0, 1.25, 1.5), torch.ones(10))
        network = training.train(
            long_tailed, (long_tailed[0][:0], long_tailed[1][:0]), classes=10, regime="affine",
            budget=Budget(40, 16, 5e-3, 0.01), seed=0, mover=mover,
        )  # fmt: skip
        return mover.strengths, network(long_tailed[0][:20].float() / 255)

    (strengths, logits), (again, same_logits) = trained(), trained()
    assert len(strengths) == training.EPOCHS + 1
    assert strengths == again
    assert torch.equal(logits, same_logits)


def test_strong_transform_of_moved_images(bank):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 2
    pixels[labels == 1, 0] //= 8
    network = training.train(
        (pixels, labels), (pixels[:0], labels[:0]), classes=2, regime="strong", budget=Budget(40, 16, 1e-2, 0.01),
        seed=0, mover=training.Mover(motions(bank[0].fields), torch.ones(2)),
    )  # fmt: skip
    assert (network(pixels.float() / 255).argmax(dim=1) == labels).float().mean() > 0.8


@pytest.fixture
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "budget_for", lambda *_: Budget(20, 16, 5e-3, 0.01))
    monkeypatch.setattr(banks, "MOTIONS", 6)
    monkeypatch.setattr(banks, "FITTED_TO", 10)
    monkeypatch.setattr(runs, "SYNTHETIC", 7)
    monkeypatch.setattr(images, "FEATURES_LEARNED_FROM", 5000)

    def run(*arguments):
        main([*arguments, "--datasets", "digits", "--profiles", "lt-20", "--seeds", "1",
              "--output", str(tmp_path / "output"), "--cache", str(tmp_path / "cache")])  # fmt: skip
        with (tmp_path / "output" / "runs.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return run


def test_rows_are_kept_and_not_measured_again(quick, tmp_path, monkeypatch, capsys):
    lines = quick("--arms", "base", "motion:classes=scarce,bank=own", "residual", "decoded")
    assert "0 of 4 runs are in runs.csv. 4 are missing" in capsys.readouterr().out
    assert [line["arm"] for line in lines] == ["base", "decoded", "motion:classes=scarce,bank=own", "residual"]
    for line in lines:
        recall = np.array(line["recall"].split(), dtype=float)
        assert float(line["balanced_accuracy"]) == pytest.approx(recall.mean(), abs=0.01)
        assert (float(line["displacement"]) > 0) == (line["arm"].startswith("motion"))
        assert not any(str(tmp_path) in value for value in line.values())
    text = (tmp_path / "output" / "REPORT.md").read_text()
    gain = float(lines[3]["balanced_accuracy"]) - float(lines[0]["balanced_accuracy"])
    assert f"| `residual` | {gain:+.2f} (1) |" in text

    trained = []
    original = runs.train
    monkeypatch.setattr(runs, "train", lambda *real, **options: trained.append(1) or original(*real, **options))
    for module, name in ((banks, "fit_model"), (runs, "GAEAugmenter")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("fitted again"))
    again = quick("--arms", "base", "residual", "motion", "--regimes", "none", "affine")
    assert len(trained) == 4
    assert [line for line in again if line in lines] == lines


def test_logits_are_adjusted_after_plain_training(quick, monkeypatch):
    class Zeros(torch.nn.Module):
        def forward(self, batch):
            return torch.zeros(len(batch), 10)

    monkeypatch.setattr(runs, "train", lambda *_, **__: Zeros())
    (line,) = quick("--arms", "base", "--strategies", training.POST_HOC)
    counts = np.array(line["counts"].split(), dtype=int)
    # Without any other knowledge, the scarcest class has the largest logit.
    recall = np.zeros(10)
    recall[counts.argmin()] = 100
    assert np.array(line["recall"].split(), dtype=float).tolist() == recall.tolist()


def test_classes_are_filled_up_to_a_limit_by_both_kinds_of_images(long_tailed, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SYNTHETIC", 30)
    made = {}
    for kind in ("decoded", "residual"):
        plan = runs.Plan(
            runs.Place("digits", "lt-20", "test"), "none", "short", "plain", Arm(kind), 0, tmp_path, tmp_path
        )
        made[kind], _ = runs.synthetic_images(plan, long_tailed)
    counts = long_tailed[1].bincount()
    for pixels, labels in made.values():
        assert labels.bincount(minlength=10).tolist() == (counts.max() - counts).clamp(max=30).tolist()
        assert (pixels.dtype, pixels.shape[1:]) == (torch.uint8, (1, 8, 8))
    assert not torch.equal(made["decoded"][0], made["residual"][0])


def test_registration_options_make_another_bank(long_tailed, tmp_path, monkeypatch):
    monkeypatch.setattr(banks, "MOTIONS", 20)
    few = long_tailed[1] < 2
    real = long_tailed[0][few], long_tailed[1][few]

    def learned(**options):
        bank, _ = banks.learned_bank(real, 0, Arm("motion", **options), tmp_path / "bank.safetensors")
        assert sorted(bank) == [0, 1]
        return torch.cat([motions.fields for motions in bank.values()])

    nearest = learned()
    assert torch.equal(nearest, learned(strength=0.5, classes="scarce"))
    assert roughness(learned(smoothness=20.0)).mean() < 0.7 * roughness(nearest).mean()
    # A random pair differs more than a code and the code nearest to it.
    assert learned(pairs="random").square().mean() > nearest.square().mean()


def test_images_are_measured_once_and_copies_are_found_out(quick, tmp_path, monkeypatch):
    arms = ("--arms", "base", "motion", "residual")
    quick(*arms)
    quick("images", *arms)
    rows = images.images_rows(tmp_path / "output" / "images.csv").records
    by_arm = {row.arm: row for row in rows.values()}
    assert list(by_arm) == ["base", "motion", "residual"]
    # The images of the base are training images.
    assert by_arm["base"].memorised == 1
    assert by_arm["motion"].memorised < 1
    assert "| digits, lt-20: `base` |" in (tmp_path / "output" / "REPORT.md").read_text()
    monkeypatch.setattr(images, "measure", lambda _: pytest.fail("measured again"))
    quick("images", *arms)


def made_run(arm, seed, accuracy, **others):
    empty = dict.fromkeys(runs.Run.__dataclass_fields__, 0.0)
    values = {"dataset": "d", "profile": "p", "on": "development", "regime": "none", "budget": "short", "device": "x"}
    values["strategy"] = training.BALANCED
    values |= {"settings": "s", "versions": "y", "recall": "90 80 70", "counts": "30 20 10", "training_seconds": 2.0}
    return runs.Run(**{**empty, **values, **others, "arm": arm, "seed": seed, "balanced_accuracy": accuracy})


def written(tmp_path, *measured):
    table = runs.run_table(tmp_path / "runs.csv")
    table.add(*measured)
    report.report(tmp_path, table, images.images_rows(tmp_path / "images.csv"))
    return (tmp_path / "REPORT.md").read_text()


def test_entries_of_the_report_are_paired_by_seed(tmp_path):
    base, moved, random = [80.0, 84.0, 79.0], [81.0, 84.5, 81.0], [79.0, 81.0, 77.5]
    measured = [made_run("base", seed, value) for seed, value in enumerate(base)]
    measured += [
        made_run("motion", seed, value, recall="89 80 75", displacement=3.0, training_seconds=3.0)
        for seed, value in enumerate(moved)
    ]
    measured += [made_run("elastic", seed, value) for seed, value in enumerate(random)]
    # None of these has a base: another seed, device or budget.
    measured += [made_run("motion", 7, 10.0), made_run("motion", 8, 10.0, device="GPU", versions="z")]
    measured += [made_run("base", 8, 20.0), made_run("motion", 0, 10.0, budget="long")]
    text = written(tmp_path, *measured)

    def entry(ours, theirs):
        differences = np.subtract(ours, theirs)
        return f"{differences.mean():+.2f} ± {sem(differences):.2f}"

    assert f"| base | {np.mean([*base, 20.0]):.2f} (4) |" in text
    assert f"| `motion` | {entry(moved, base)} (3) | +1.17 | 0 of 1 |" in text
    assert f"| `elastic` | **{entry(random, base)}** (3) | -1.83 | 1 of 1 |" in text
    assert f"| `motion` | {entry(moved, random)} (3) |\n" in text
    # Each third of three classes is one class.
    assert "| `motion` | -1.00 | +0.00 | +5.00 |" in text
    assert "| 1.50 | 3 |" in text
    assert "Against `base`, motions lose by more than a standard error in none of 1 comparisons" in text
    assert "Against `elastic`, motions lose by more than a standard error in none of 1 comparisons" in text
    assert "long training" not in text


def test_motions_are_compared_with_the_best_strategy_of_real_images(tmp_path):
    accuracies = {
        ("class-balanced sampling", "base"): [80.0, 81.0, 82.0],
        ("class-balanced sampling", "motion"): [85.0, 87.0, 89.0],
        ("balanced softmax", "base"): [84.0, 82.0],
        ("balanced softmax", "motion"): [84.5, 83.0],
        ("plain", "base"): [70.0, 90.0],
    }
    measured = [
        made_run(arm, seed, value, strategy=strategy)
        for (strategy, arm), values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    text = written(tmp_path, *measured)
    # Two seeds have all runs.
    entry = "balanced softmax | 83.00 | +0.75 ± 0.25 (2) | class-balanced sampling | +3.00 ± 2.00 (2) |"
    assert f"| d, p | none, short | {entry}" in text
    assert "## User's transform: none; short training; balanced softmax" in text
    assert "On top of the best strategy" not in written(tmp_path / "one", *measured[:6])


def test_report_says_where_motions_lose(tmp_path):
    measured = [made_run("base", seed, 80.0 + seed, dataset=dataset) for dataset in "de" for seed in range(2)]
    measured += [made_run("motion:p=1", seed, 78.0 + 1.5 * seed, dataset="e") for seed in range(2)]
    measured += [made_run("motion:p=1", seed, 79.9 + 2 * seed, dataset="d") for seed in range(2)]
    text = written(tmp_path, *measured)
    sentence = "in 1 of 2 comparisons with several seeds; the worst are `motion:p=1`, e, p, none, short: -1.75."
    assert sentence in " ".join(text.split())
    assert "| `motion:p=1` | +0.40 ± 0.50 (2) | **-1.75 ± 0.25** (2) |" in text


def test_trainings_without_measurable_time_have_no_relative_time(tmp_path):
    text = written(tmp_path, *(made_run(arm, 0, 80.0, training_seconds=0.0) for arm in ("base", "elastic")))
    assert "| `elastic` | +0.00 | +0.00 | +0.00 |  |  | 1 |" in text


def test_time_is_estimated_from_done_runs(tmp_path):
    plans = [
        runs.Plan(runs.Place(dataset, "p", "test"), regime, "short", training.BALANCED, BASE, 0, tmp_path, tmp_path)
        for dataset, regime in (("d", "none"), ("d", "none"), ("e", "affine"))
    ]
    assert runs.estimated_seconds(plans, []) == 3 * runs.SECONDS
    done = [made_run("base", seed, 0.0, training_seconds=seconds) for seed, seconds in enumerate((10.0, 20.0))]
    # Without a run of the same kind, the mean over all kinds counts.
    assert runs.estimated_seconds(plans, done) == 15 + 15 + 15
