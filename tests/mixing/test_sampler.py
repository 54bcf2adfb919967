import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from gae_augment import AugmentedDataset, MixedSampler
from gae_augment.data import ImageDataset
from gae_augment.mixing.sampler import LabelledImages

LONG = 60_000


def training_set(real, synthetic):
    r"""Returns the labels of a shuffled training set with the given real and synthetic counts per class."""
    targets = [label for counts in (real, synthetic) for label, n in counts.items() for _ in range(n)]
    is_synthetic = [False] * sum(real.values()) + [True] * sum(synthetic.values())
    order = np.random.default_rng(0).permutation(len(targets))
    return SimpleNamespace(targets=np.array(targets)[order], is_synthetic=np.array(is_synthetic)[order])


DATA = training_set({0: 100, 3: 40, 7: 5, 9: 1}, {3: 60, 7: 95, 9: 99})


def within(count, n, probability):
    r"""Whether a count lies within five standard deviations of its binomial mean; exact for probabilities 0 and 1."""
    return abs(count - n * probability) <= 5 * math.sqrt(n * probability * (1 - probability))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_class_and_synthetic_frequencies_follow_the_formula(fraction):
    indices = np.array(list(MixedSampler(DATA, fraction, num_samples=LONG)))
    targets, synthetic = DATA.targets[indices], DATA.is_synthetic[indices]
    for label, real in {0: 100, 3: 40, 7: 5, 9: 1}.items():
        in_class = targets == label
        assert within(in_class.sum(), LONG, 1 / 4)
        assert within(synthetic[in_class].sum(), in_class.sum(), fraction * (1 - real / 100))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_without_balance_each_real_image_is_visited_once_per_pass():
    real = np.flatnonzero(~DATA.is_synthetic)
    real_only = list(MixedSampler(DATA, 0.0, balance=0))
    assert sorted(real_only) == real.tolist()
    assert real_only != real.tolist()

    # 400 passes over the real images in one epoch; each pass has the class counts of the real images.
    sampler = MixedSampler(DATA, 0.6, balance=0, num_samples=400 * len(real))
    indices = np.array(list(sampler))
    for indices_of_pass in indices.reshape(400, -1):
        assert np.bincount(DATA.targets[indices_of_pass], minlength=10)[[0, 3, 7, 9]].tolist() == [100, 40, 5, 1]
    counts = np.bincount(indices, minlength=len(DATA.targets))
    for label, n_real, n_synthetic in ((0, 100, 0), (3, 40, 60), (7, 5, 95), (9, 1, 99)):
        probability = 0.6 * (1 - n_real / 100)
        in_class, is_synthetic = DATA.targets == label, DATA.is_synthetic
        assert all(within(count, 400, 1 - probability) for count in counts[in_class & ~is_synthetic])
        if n_synthetic:
            expected = probability / n_synthetic
            assert all(within(count, 400 * n_real, expected) for count in counts[in_class & is_synthetic])


def test_without_balance_the_last_epochs_are_real_and_epochs_can_be_short():
    sampler = MixedSampler(DATA, 1.0, balance=0, epochs=2, num_samples=50)
    first, last = list(sampler), list(sampler)
    assert DATA.is_synthetic[first].any()
    assert not DATA.is_synthetic[last].any()
    assert len(set(last)) == 50
    with pytest.raises(ValueError, match=r"There is no real image, but balance=0 .* Leave 'balance' at 1"):
        MixedSampler(training_set({}, {1: 5}), balance=0)


@pytest.mark.parametrize("balance", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.usefixtures("global_rngs_unmoved")
def test_class_frequencies_are_a_power_of_the_counts_and_match_log_frequencies(balance):
    sampler = MixedSampler(DATA, 0.5, balance=balance, num_samples=LONG)
    targets = DATA.targets[list(sampler)]
    weights = {label: count ** (1 - balance) for label, count in {0: 100, 3: 40, 7: 5, 9: 1}.items()}
    for label, weight in weights.items():
        assert within((targets == label).sum(), LONG, weight / sum(weights.values()))
    assert sampler.log_frequencies.shape == (10,)
    torch.testing.assert_close(
        sampler.log_frequencies[list(weights)],
        torch.tensor([math.log(w / sum(weights.values())) for w in weights.values()]),
    )


def test_log_frequencies_fit_the_logits_where_labels_have_gaps():
    r"""The loss of a network whose logits are the frequencies' own is that of a perfect guess by frequency."""
    sampler = MixedSampler(DATA, balance=0, num_classes=12)
    assert sampler.log_frequencies.shape == (12,)
    assert sampler.log_frequencies[[1, 2, 4, 5, 6, 8, 10, 11]].tolist() == [sampler.log_frequencies[9].item()] * 8
    targets = torch.from_numpy(DATA.targets)
    soft = torch.nn.functional.one_hot(targets, 12).float()
    for labels in (targets, soft):
        loss = torch.nn.functional.cross_entropy(sampler.log_frequencies.expand(len(targets), 12), labels)
        assert loss.isfinite()
    with pytest.raises(
        ValueError, match=r"'num_classes' is 9, but the labels run from 0 to 9\. A classifier of C classes"
    ):
        MixedSampler(DATA, num_classes=9)


def test_class_without_real_images_is_drawn_only_with_full_balance():
    data = training_set({0: 3}, {0: 1, 1: 5})
    assert {1} < set(data.targets[list(MixedSampler(data, num_samples=100))])
    sampler = MixedSampler(data, balance=0.5, num_samples=1000)
    assert set(data.targets[list(sampler)]) == {0}
    assert sampler.log_frequencies.tolist() == [0, -math.inf]


def test_real_images_of_a_class_are_equally_frequent():
    counts = np.bincount(list(MixedSampler(DATA, 0.5, num_samples=LONG)), minlength=len(DATA.targets))
    for label, n_real in {0: 100, 3: 40, 7: 5}.items():
        real_in_class = (DATA.targets == label) & ~DATA.is_synthetic
        probability = (1 - 0.5 * (1 - n_real / 100)) / 4 / n_real
        assert all(within(count, LONG, probability) for count in counts[real_in_class])


def test_class_without_synthetic_images_stays_real():
    data = training_set({0: 50, 1: 5}, {})
    assert not data.is_synthetic[list(MixedSampler(data, 1.0, num_samples=500))].any()


def test_class_without_real_images_is_always_synthetic():
    data = training_set({2: 50}, {1: 20})
    for sampler in (MixedSampler(data, 0.0), MixedSampler(data, 0.5, epochs=1, real_last=1.0)):
        sampler.num_samples = 1000
        indices = list(sampler)
        assert (data.is_synthetic[indices] == (data.targets[indices] == 1)).all()
        assert within((data.targets[indices] == 1).sum(), 1000, 1 / 2)
        counts = np.bincount(indices, minlength=70)[data.is_synthetic]
        assert all(within(count, 1000, 1 / 40) for count in counts)


def test_training_set_without_real_images_is_sampled():
    data = training_set({}, {0: 3, 1: 5})
    sampler = MixedSampler(data)
    assert len(list(sampler)) == len(sampler) == 8


@pytest.mark.parametrize(("real_last", "first_real"), [(0.15, 17), (0.0, 20), (1.0, 0), (0.25, 15)])
def test_last_epochs_are_real(real_last, first_real):
    sampler = MixedSampler(DATA, 1.0, epochs=20, real_last=real_last, num_samples=400)
    has_synthetic = [bool(DATA.is_synthetic[list(sampler)].any()) for _ in range(20)]
    assert has_synthetic == [epoch < first_real for epoch in range(20)]


def test_without_epochs_no_epoch_is_real_only():
    sampler = MixedSampler(DATA, 1.0, num_samples=400)
    sampler.set_epoch(10_000)
    assert DATA.is_synthetic[list(sampler)].any()


def test_draws_depend_only_on_the_seed():
    first, second = MixedSampler(DATA, seed=3), MixedSampler(DATA, seed=3)
    torch.manual_seed(1)
    epochs = [list(first) for _ in range(3)]
    torch.manual_seed(2)
    assert [list(second) for _ in range(3)] == epochs
    assert list(MixedSampler(DATA, seed=4)) != epochs[0]


def test_each_pass_advances_the_epoch_and_set_epoch_sets_it():
    sampler = MixedSampler(DATA)
    passes = [list(sampler) for _ in range(3)]
    assert len({tuple(indices) for indices in passes}) == 3
    for epoch in (2, 0, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == passes[epoch] == sampler.draw(epoch).tolist()
    assert list(sampler) == passes[2]
    sampler.set_epoch(np.int64(1))
    assert list(sampler) == passes[1]


def test_number_of_samples():
    assert len(MixedSampler(DATA)) == 146
    assert len(MixedSampler(DATA, num_samples=7)) == len(list(MixedSampler(DATA, num_samples=7))) == 7


def test_data_loader_draws_the_sampled_items(digits, fitted):
    images, labels = digits
    data: LabelledImages = AugmentedDataset(TensorDataset(torch.tensor(images), torch.from_numpy(labels)), fitted)
    sampler = MixedSampler(data, 0.5, num_samples=90)
    loader = DataLoader(data, batch_size=32, sampler=sampler)
    batches = list(loader)
    assert [len(batch) for batch, _ in batches] == [32, 32, 26]
    expected = [data[index] for index in sampler.draw(0).tolist()]
    assert torch.equal(torch.cat([batch for batch, _ in batches]), torch.stack([image for image, _ in expected]))
    assert torch.cat([batch for _, batch in batches]).tolist() == [label for _, label in expected]
    next_epoch = torch.cat([batch for _, batch in loader]).tolist()
    assert next_epoch == [data[index][1] for index in sampler.draw(1).tolist()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthetic_fraction": -0.1}, r"is -0\.1, but must be a number between 0 and 1"),
        ({"synthetic_fraction": 1.1}, r"'synthetic_fraction' is 1\.1, but must be"),
        ({"synthetic_fraction": float("nan")}, "'synthetic_fraction' is nan, but must be"),
        ({"real_last": 2}, "'real_last' is 2, but must be a number between 0 and 1"),
        ({"epochs": 0}, "'epochs' is 0, but must be at least 1"),
        ({"num_samples": 0}, "'num_samples' is 0, but must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(DATA, **options)


def test_automatic_fraction_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"is 'auto', but must be .*choose_synthetic_fraction"):
        MixedSampler(DATA, synthetic_fraction="auto")


@pytest.mark.parametrize(
    ("targets", "is_synthetic", "message"),
    [
        ([], [], "The training set is empty"),
        ([0, 1], [False], r"have the shapes \(2,\) and \(1,\)"),
        ([[0], [1]], [[False], [True]], r"have the shapes \(2, 1\) and \(2, 1\)"),
    ],
)
def test_malformed_training_sets_are_refused(targets, is_synthetic, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(SimpleNamespace(targets=targets, is_synthetic=is_synthetic))


@pytest.mark.parametrize(("epochs", "real"), [(1, 0), (2, 1), (3, 1), (20, 3)])
def test_short_trainings_end_with_real_epochs(epochs, real):
    data = SimpleNamespace(targets=[0, 0, 0, 1, 1], is_synthetic=[False] * 4 + [True])
    sampler = MixedSampler(data, epochs=epochs)
    assert [sampler.draws_real_only(epoch) for epoch in range(epochs)] == [False] * (epochs - real) + [True] * real
    assert not any(MixedSampler(data, epochs=epochs, real_last=0).draws_real_only(epoch) for epoch in range(epochs))


def test_any_dataset_without_synthetic_images_is_balanced():
    images = ImageDataset([torch.zeros(1, 4, 4)] * 100, labels=[0] * 90 + [1] * 10)
    drawn = np.bincount(np.asarray(images.targets)[list(MixedSampler(images, num_samples=20_000))])
    assert drawn[1] / drawn.sum() == pytest.approx(0.5, abs=0.02)
    part = Subset(images, [*range(30), *range(90, 100)])
    sampler = MixedSampler(part, balance=0)
    assert sorted(sampler) == list(range(40))
    torch.testing.assert_close(sampler.log_frequencies, torch.tensor([0.75, 0.25]).log())


def test_part_of_a_dataset_with_synthetic_images_is_refused_with_the_remedy():
    class Zeros:
        sampling_strategy, seed_ = {1: 4}, 0

        def sample(self, label, n, **options):
            return torch.zeros(n, 1, 4, 4)

    augmented = AugmentedDataset(ImageDataset([torch.zeros(1, 4, 4)] * 4, labels=[0, 0, 0, 1]), Zeros())
    assert sum(MixedSampler(augmented, 1.0).synthetic_probability) > 0
    with pytest.raises(TypeError, match="To use a Subset, take it before augmenting"):
        MixedSampler(Subset(augmented, range(5)))


def test_no_dataset_is_refused():
    with pytest.raises(TypeError, match="must be a map-style torch dataset"):
        MixedSampler(3)
