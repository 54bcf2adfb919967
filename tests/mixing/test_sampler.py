import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gae_augment import AugmentedDataset, MixedSampler
from gae_augment.mixing.sampler import LabelledImages

LONG = 60_000


def training_set(real, synthetic):
    r"""The labels of a training set with so many real and synthetic images of each class, in mixed order."""
    targets = [label for counts in (real, synthetic) for label, n in counts.items() for _ in range(n)]
    is_synthetic = [False] * sum(real.values()) + [True] * sum(synthetic.values())
    order = np.random.default_rng(0).permutation(len(targets))
    return SimpleNamespace(targets=np.array(targets)[order], is_synthetic=np.array(is_synthetic)[order])


DATA = training_set({0: 100, 3: 40, 7: 5, 9: 1}, {3: 60, 7: 95, 9: 99})


def within(count, n, probability):
    r"""Whether a count lies within five standard deviations of a binomial one, exactly where that is certain."""
    return abs(count - n * probability) <= 5 * math.sqrt(n * probability * (1 - probability))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_classes_and_synthetic_parts_follow_the_formula(fraction):
    drawn = np.array(list(MixedSampler(DATA, fraction, num_samples=LONG)))
    targets, synthetic = DATA.targets[drawn], DATA.is_synthetic[drawn]
    for label, real in {0: 100, 3: 40, 7: 5, 9: 1}.items():
        own = targets == label
        assert within(own.sum(), LONG, 1 / 4)
        assert within(synthetic[own].sum(), own.sum(), fraction * (1 - real / 100))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_unbalanced_classes_are_as_frequent_as_their_real_images():
    real = np.flatnonzero(~DATA.is_synthetic)
    nothing = list(MixedSampler(DATA, 0.0, balance=0))
    assert sorted(nothing) == real.tolist()
    assert nothing != real.tolist()

    # 400 passes over the real images in one epoch; every class keeps its number of draws in each.
    sampler = MixedSampler(DATA, 0.6, balance=0, num_samples=400 * len(real))
    drawn = np.array(list(sampler))
    for one in drawn.reshape(400, -1):
        assert np.bincount(DATA.targets[one], minlength=10)[[0, 3, 7, 9]].tolist() == [100, 40, 5, 1]
    counts = np.bincount(drawn, minlength=len(DATA.targets))
    for label, number, made in ((0, 100, 0), (3, 40, 60), (7, 5, 95), (9, 1, 99)):
        chance = 0.6 * (1 - number / 100)
        own, is_synthetic = DATA.targets == label, DATA.is_synthetic
        assert all(within(count, 400, 1 - chance) for count in counts[own & ~is_synthetic])
        if made:
            assert all(within(count, 400 * number, chance / made) for count in counts[own & is_synthetic])


def test_unbalanced_epochs_are_real_at_the_end_and_may_be_short():
    sampler = MixedSampler(DATA, 1.0, balance=0, epochs=2, num_samples=50)
    first, last = list(sampler), list(sampler)
    assert DATA.is_synthetic[first].any()
    assert not DATA.is_synthetic[last].any()
    assert len(set(last)) == 50
    with pytest.raises(ValueError, match=r"there is no real image\. Leave it at 1"):
        MixedSampler(training_set({}, {1: 5}), balance=0)


@pytest.mark.parametrize("balance", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_balance_is_the_power_of_the_frequencies_and_the_loss_can_make_up_for_it(balance):
    sampler = MixedSampler(DATA, 0.5, balance=balance, num_samples=LONG)
    drawn = DATA.targets[list(sampler)]
    weights = {label: count ** (1 - balance) for label, count in {0: 100, 3: 40, 7: 5, 9: 1}.items()}
    for label, weight in weights.items():
        assert within((drawn == label).sum(), LONG, weight / sum(weights.values()))
    torch.testing.assert_close(
        sampler.log_frequencies, torch.tensor([math.log(w / sum(weights.values())) for w in weights.values()])
    )


def test_class_without_real_images_is_drawn_where_all_are_alike_alone():
    data = training_set({0: 3}, {0: 1, 1: 5})
    assert {1} < set(data.targets[list(MixedSampler(data, num_samples=100))])
    sampler = MixedSampler(data, balance=0.5, num_samples=1000)
    assert set(data.targets[list(sampler)]) == {0}
    assert sampler.log_frequencies.tolist() == [0, -math.inf]


def test_images_of_one_kind_are_drawn_alike():
    counts = np.bincount(list(MixedSampler(DATA, 0.5, num_samples=LONG)), minlength=len(DATA.targets))
    for label, real in {0: 100, 3: 40, 7: 5}.items():
        kind = (DATA.targets == label) & ~DATA.is_synthetic
        probability = (1 - 0.5 * (1 - real / 100)) / 4 / real
        assert all(within(count, LONG, probability) for count in counts[kind])


def test_class_without_synthetic_images_stays_real():
    data = training_set({0: 50, 1: 5}, {})
    assert not data.is_synthetic[list(MixedSampler(data, 1.0, num_samples=500))].any()


def test_class_without_real_images_is_always_synthetic():
    data = training_set({2: 50}, {1: 20})
    for sampler in (MixedSampler(data, 0.0), MixedSampler(data, 0.5, epochs=1, real_last=1.0)):
        sampler.num_samples = 1000
        drawn = list(sampler)
        assert (data.is_synthetic[drawn] == (data.targets[drawn] == 1)).all()
        assert within((data.targets[drawn] == 1).sum(), 1000, 1 / 2)
        counts = np.bincount(drawn, minlength=70)[data.is_synthetic]
        assert all(within(count, 1000, 1 / 40) for count in counts)


def test_synthetic_images_alone_are_drawn():
    data = training_set({}, {0: 3, 1: 5})
    sampler = MixedSampler(data)
    assert len(list(sampler)) == len(sampler) == 8


@pytest.mark.parametrize(("real_last", "first_real"), [(0.15, 17), (0.0, 20), (1.0, 0), (0.25, 15)])
def test_last_epochs_are_real(real_last, first_real):
    sampler = MixedSampler(DATA, 1.0, epochs=20, real_last=real_last, num_samples=400)
    has_synthetic = [bool(DATA.is_synthetic[list(sampler)].any()) for _ in range(20)]
    assert has_synthetic == [epoch < first_real for epoch in range(20)]


def test_no_epochs_no_real_ones():
    sampler = MixedSampler(DATA, 1.0, num_samples=400)
    sampler.set_epoch(10_000)
    assert DATA.is_synthetic[list(sampler)].any()


def test_two_samplers_draw_alike():
    first, second = MixedSampler(DATA, seed=3), MixedSampler(DATA, seed=3)
    torch.manual_seed(1)
    drawn = [list(first) for _ in range(3)]
    torch.manual_seed(2)
    assert [list(second) for _ in range(3)] == drawn
    assert list(MixedSampler(DATA, seed=4)) != drawn[0]


def test_every_pass_is_the_next_epoch_and_set_epoch_names_it():
    sampler = MixedSampler(DATA)
    passes = [list(sampler) for _ in range(3)]
    assert len({tuple(drawn) for drawn in passes}) == 3
    for epoch in (2, 0, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == passes[epoch] == sampler.draw(epoch).tolist()
    assert list(sampler) == passes[2]
    sampler.set_epoch(np.int64(1))
    assert list(sampler) == passes[1]


def test_number_of_samples():
    assert len(MixedSampler(DATA)) == 146
    assert len(MixedSampler(DATA, num_samples=7)) == len(list(MixedSampler(DATA, num_samples=7))) == 7


def test_with_a_data_loader(digits, fitted):
    images, labels = digits
    data: LabelledImages = AugmentedDataset(TensorDataset(torch.tensor(images), torch.from_numpy(labels)), fitted)
    sampler = MixedSampler(data, 0.5, num_samples=90)
    loader = DataLoader(data, batch_size=32, sampler=sampler)
    batches = list(loader)
    assert [len(batch) for batch, _ in batches] == [32, 32, 26]
    expected = [data[index] for index in sampler.draw(0).tolist()]
    assert torch.equal(torch.cat([batch for batch, _ in batches]), torch.stack([image for image, _ in expected]))
    assert torch.cat([batch for _, batch in batches]).tolist() == [label for _, label in expected]
    again = torch.cat([batch for _, batch in loader]).tolist()
    assert again == [data[index][1] for index in sampler.draw(1).tolist()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthetic_fraction": -0.1}, r"between 0 and 1, and it is -0\.1.*0\.5, is a good first choice"),
        ({"synthetic_fraction": 1.1}, r"and it is 1\.1"),
        ({"synthetic_fraction": float("nan")}, "and it is nan"),
        ({"real_last": 2}, "'real_last' is a part of the epochs between 0 and 1, and it is 2"),
        ({"epochs": 0}, "'epochs' is at least 1, and it is 0"),
        ({"num_samples": 0}, "'num_samples' is at least 1, and it is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(DATA, **options)


def test_a_fraction_that_is_to_be_found_is_refused_with_the_way_to_find_it():
    with pytest.raises(TypeError, match=r"it is 'auto'.*choose_synthetic_fraction"):
        MixedSampler(DATA, synthetic_fraction="auto")


@pytest.mark.parametrize(
    ("targets", "is_synthetic", "message"),
    [
        ([], [], "no image to draw from"),
        ([0, 1], [False], r"their shapes are \(2,\) and \(1,\)"),
        ([[0], [1]], [[False], [True]], r"their shapes are \(2, 1\) and \(2, 1\)"),
    ],
)
def test_wrong_training_sets_are_refused(targets, is_synthetic, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(SimpleNamespace(targets=targets, is_synthetic=is_synthetic))


@pytest.mark.parametrize(("epochs", "real"), [(1, 0), (2, 1), (3, 1), (20, 3)])
def test_last_epochs_are_real_even_of_few(epochs, real):
    data = SimpleNamespace(targets=[0, 0, 0, 1, 1], is_synthetic=[False] * 4 + [True])
    sampler = MixedSampler(data, epochs=epochs)
    assert [sampler.draws_real_only(epoch) for epoch in range(epochs)] == [False] * (epochs - real) + [True] * real
    assert not any(MixedSampler(data, epochs=epochs, real_last=0).draws_real_only(epoch) for epoch in range(epochs))


def test_a_dataset_without_synthetic_images_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"Pass what GAEAugmenter\.augment returned"):
        MixedSampler([1, 2, 3])
