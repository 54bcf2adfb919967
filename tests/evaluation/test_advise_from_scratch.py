from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from gae_augment import MixedSampler
from gae_augment.data import ImageDataset
from gae_augment.evaluation import advise, train_classifier
from gae_augment.evaluation.advice import scratch, setting
from gae_augment.evaluation.advice.scratch import _Draws, _Pool
from gae_augment.evaluation.advice.verdict import choose_base


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(setting, "MAX_REPETITIONS", 1)
    monkeypatch.setattr(scratch, "LEAST_STEPS", 100)
    monkeypatch.setattr(scratch, "MOST_STEPS", 100)


@pytest.fixture(scope="module")
def shapes():
    r"""Two patterns at random places of noisy grey images, one of them scarce."""
    random = np.random.default_rng(0)
    patterns = np.zeros((2, 6, 6))
    patterns[0, 2:4], patterns[1, :, 2:4] = 1, 1
    labels = np.repeat([0, 1], [60, 24])
    images = random.normal(0.4, 0.12, (len(labels), 16, 16))
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(0, 11, 2)
        image[top : top + 6, left : left + 6] += 0.3 * patterns[label]
    return torch.from_numpy((255 * images.clip(0, 1)).round().astype(np.uint8))[:, None], labels


def dataset(images, labels):
    return ImageDataset(list(images), labels=labels)


def shifts(part, seed):
    return lambda strength, p: v2.RandomAffine(0, translate=(0.3 * strength, 0.3 * strength))


def images_of_the_first_class(part, seed):
    others = torch.stack([part[index][0] for index in range(len(part)) if part[index][1] == 0])
    return lambda strength, p: v2.Lambda(lambda image: others[torch.randint(len(others), (len(image),))])


OPTIONS = {"backbone": None, "strategy": "class-balanced sampling", "standard_views": False}


def test_right_motions_gain_and_images_of_another_class_do_not(shapes):
    right = advise(dataset(*shapes), shifts, strengths=(1.0,), synthetic_images=False, **OPTIONS)
    assert right.backbone.startswith("a small network")
    assert [row.name for row in right.rows] == [
        "class-balanced sampling",
        "class-balanced sampling + learned motions of strength 1",
    ]
    assert right.rows[1].measured > 5
    assert right.use
    wrong = advise(dataset(*shapes), images_of_the_first_class, strengths=(1.0,), **OPTIONS)
    assert [row.name.split(" + ")[-1] for row in wrong.rows[1:]] == [
        "learned motions of strength 1",
        "synthetic images",
    ]
    assert wrong.rows[1].measured < 0
    assert not wrong.use


def test_remedies_come_first_then_standard_views_then_ours(shapes, monkeypatch):
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    lines = []
    advice = advise(dataset(*shapes), shifts, backbone="none", strengths=(1.0,), progress=lines.append)
    names = [row.name for row in advice.rows]
    assert names[:2] == ["plain training", "class-balanced sampling"]
    assert sum(name.endswith("+ standard views") for name in names) == 1
    ours = advice.rows[5 + 1 :]
    assert all(row.over == advice.over and row.over in names[: 5 + 1] for row in ours)
    # Motions and images on the best remedy, and motions on those that suit them.
    base = advice.over.partition(" + ")[0]
    remedies = [row.name.partition(" + ")[0] for row in ours]
    assert remedies == [base, base, *(partner for partner in setting.PARTNERS if partner != base)]
    assert advice.best in {row.name for row in ours}
    assert sum("split" in line for line in lines) == 3
    assert lines[0].startswith("84 of 84 images")


def test_same_seed_same_figures_and_global_generators_stay(shapes, monkeypatch):
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    state = torch.get_rng_state()
    first, second = (advise(dataset(*shapes), shifts, strengths=(1.0,), seed=4, **OPTIONS) for _ in range(2))
    assert first.rows == second.rows
    assert torch.equal(torch.get_rng_state(), state)


def test_finished_splits_are_kept(shapes, tmp_path, monkeypatch):
    trained = []

    def training(*arguments, **options):
        trained.append(options["seed"])
        if len(trained) == 7:  # two arms of each of three splits, and the third arm's pilot
            raise KeyboardInterrupt
        return train_classifier(*arguments, **options)

    monkeypatch.setattr(scratch, "train_classifier", training)
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    options = {**OPTIONS, "strengths": (1.0,), "checkpoint_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        advise(dataset(*shapes), shifts, **options)
    advise(dataset(*shapes), shifts, **options)
    # Of three splits with three arms, two were kept.
    assert len(trained) == 7 + 3
    advise(dataset(*shapes), shifts, **options)
    assert len(trained) == 7 + 3


def test_views_belong_to_their_images_and_small_classes_have_more():
    images = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor([0] * 35 + [1] * 5)
    pool = _Pool.make(images, labels, lambda batch: batch + 100, seed=0, n=24)
    assert torch.equal(pool.views[:, 0, 0, 0].long(), 100 + pool.images)
    assert pool.counts.tolist() == [1] * 35 + [3] * 5
    rows = torch.tensor([0, 36, 39]).repeat(3000)
    drawn = pool.draw(rows, torch.Generator().manual_seed(0))
    assert torch.equal(pool.images[drawn], rows)
    frequencies = drawn.bincount(minlength=50)[pool.starts[36] : pool.starts[36] + 3] / 3000
    assert frequencies == pytest.approx([1 / 3] * 3, abs=0.03)


def test_draws_are_those_of_the_sampler_with_random_views():
    images = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1)
    sampler = MixedSampler(
        SimpleNamespace(targets=[0] * 30 + [1] * 10, is_synthetic=[False] * 40), 0.0, num_samples=20_000, seed=3
    )
    plain = _Pool.of(images)
    draws = _Draws(sampler, torch.arange(40), torch.full((40,), 0.5), plain, plain)
    draws.set_epoch(1)
    views = torch.tensor(list(draws))
    assert torch.equal(views % 40, sampler.draw(1))
    assert (views >= 40).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_large_classes_that_lost_images_are_drawn_as_often_as_before(shapes, monkeypatch):
    images, labels = shapes
    drawn = []

    def training(views, view_labels, *, sampler, **options):
        sampler.set_epoch(0)
        drawn.append(view_labels[list(sampler)].bincount(minlength=2))
        return train_classifier(views, view_labels, **{**options, "epochs": 1})

    monkeypatch.setattr(scratch, "train_classifier", training)
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 400)
    comparison_setting = setting.Setting(
        labels=labels,
        counts=np.array([240, 24]),  # a quarter of the first class is compared
        groups=np.arange(len(labels)),
        strengths=(),
        learn_motions=None,
        synthetic_images=False,
        strategy="plain training",
        standard_views=False,
        transform=None,
        seed=0,
        device="cpu",
        minutes=1.0,
        folder=None,
        progress=lambda line: None,
    )
    scratch.compare_scratch(comparison_setting, images)
    shares = torch.stack(drawn).sum(dim=0) / torch.stack(drawn).sum()
    assert shares[1].item() == pytest.approx(24 / 264, abs=0.02)


def test_best_remedy_has_the_views_of_the_user(shapes, monkeypatch):
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    allowed = []

    def choose(comparison, arms, *, pretrained):
        allowed.extend(arms)
        return choose_base(comparison, arms, pretrained=pretrained)

    monkeypatch.setattr(scratch, "choose_base", choose)
    advice = advise(dataset(*shapes), backbone=None, standard_views=True)
    assert len(allowed) == 5
    assert all(arm.standard for arm in allowed)
    assert advice.standard_views
