import copy
import multiprocessing
import pickle
import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import VisionDataset
from torchvision.transforms import v2

from gae_augment import AugmentedDataset
from gae_augment._utils.seeding import global_seed


class Digits(VisionDataset):
    r"""The digits as a dataset of torchvision, whose raw images have a form that can be chosen."""

    classes = ("nought", "one", "two")

    def __init__(self, images, labels, form="PIL", **options):
        super().__init__("digits", **options)
        self.images, self.targets, self.form = images, labels.tolist(), form

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.form == "PIL":
            image = Image.fromarray(image)
        elif self.form == "RGB":
            image = Image.fromarray(image).convert("RGB")
        elif self.form == "channels last":
            image = np.repeat(image[:, :, None], 3, axis=2)
        elif self.form in ("tensor", "tv_tensor"):
            image = torch.tensor(image)[None]
            image = tv_tensors.Image(image) if self.form == "tv_tensor" else image
        label = self.targets[index]
        return (image, label) if self.transforms is None else self.transforms(image, label)


FORMS = ["PIL", "RGB", "array", "channels last", "tensor", "tv_tensor"]


@pytest.fixture(scope="module")
def make_dataset(digits):
    return partial(Digits, *digits)


@pytest.fixture(scope="module")
def fitted_to(make_dataset, make_augmenter):
    r"""Returns an augmenter that is fitted to digits of a form; each form is fitted once."""
    fits = {}

    def fit(form):
        if form not in fits:
            fits[form] = make_augmenter().fit(make_dataset(form))
        return fits[form]

    return fit


@pytest.fixture
def augmented(make_dataset, fitted_to):
    return AugmentedDataset(make_dataset(), fitted_to("PIL"))


def as_bytes(image):
    return np.asarray(image).tobytes()


def test_counts_are_as_promised(augmented, fitted_to):
    assert fitted_to("PIL").sampling_strategy_ == {1: 15, 2: 28}
    assert len(augmented) == len(augmented.targets) == len(augmented.is_synthetic) == 120
    assert np.bincount(augmented.targets).tolist() == [40, 40, 40]
    assert augmented.targets[77:] == [1] * 15 + [2] * 28
    assert augmented.is_synthetic.tolist() == [False] * 77 + [True] * 43
    assert [label for _, label in (augmented[i] for i in range(120))] == augmented.targets
    assert {type(label) for label in augmented.targets} == {int}


@pytest.mark.parametrize("form", FORMS)
def test_real_items_come_back_unchanged(form, make_dataset, fitted_to):
    base = make_dataset(form)
    augmented = AugmentedDataset(base, fitted_to(form))
    for index in range(len(base)):
        assert as_bytes(augmented[index][0]) == as_bytes(base[index][0])
        assert augmented[index][1] == base[index][1]


@pytest.mark.parametrize("form", FORMS)
def test_synthetic_items_have_the_form_of_real_ones(form, make_dataset, fitted_to):
    base = make_dataset(form)
    augmented = AugmentedDataset(base, fitted_to(form))
    real, (synthetic, label) = base[0][0], augmented[-1]
    assert type(synthetic) is type(real)
    assert label == 2
    assert np.asarray(synthetic).shape == np.asarray(real).shape
    assert np.asarray(synthetic).dtype == np.asarray(real).dtype
    if isinstance(real, Image.Image):
        assert (synthetic.mode, synthetic.size) == (real.mode, real.size)


@pytest.mark.parametrize("form", FORMS)
def test_synthetic_items_are_the_augmenters_images(form, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(form), fitted_to(form))
    for label, added in {1: 15, 2: 28}.items():
        images = augmented.synthetic_images(label)
        assert len(images) == added
        assert len(images.flatten(1).unique(dim=0)) == added
        items = [augmented[i][0] for i in range(77, 120) if augmented.targets[i] == label]
        for image, item in zip(images, items, strict=True):
            item = np.asarray(item)
            np.testing.assert_array_equal(item.reshape(8, 8, -1)[..., 0], image.reshape(-1, 8, 8)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("indices", [[0, 119, 77, 3, 77], [5], [78, 79], [-1, 0], [], np.array([119, 2])])
def test_items_by_the_batch_are_the_items(form, indices, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(form), fitted_to(form))
    items = augmented.__getitems__(indices)
    assert len(items) == len(indices)
    for (image, label), index in zip(items, indices, strict=True):
        expected, own = augmented[index]
        assert (type(image), type(label), label) == (type(expected), int, own)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
        if isinstance(image, torch.Tensor) and augmented.is_synthetic[index]:
            image.zero_()
            np.testing.assert_array_equal(np.asarray(augmented[index][0]), np.asarray(expected))
    with pytest.raises(IndexError, match="has 120 items, and there is none at 120"):
        augmented.__getitems__([0, 120])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint16, torch.bool])
@pytest.mark.parametrize("indices", [[0, 1], [0, 11], [10, 11]], ids=["real", "both", "synthetic"])
def test_items_by_the_batch_are_of_every_type(dtype, indices):
    images = (torch.arange(10 * 16).view(10, 1, 4, 4) % 3).to(dtype)
    base = TensorDataset(images, torch.tensor([0] * 6 + [1] * 4))

    def sample(label, n, *, seed, out):
        return out.copy_(images[:n])

    source = SimpleNamespace(sampling_strategy="auto", seed_=0, sample=sample)
    augmented = AugmentedDataset(base, source)
    for (image, label), index in zip(augmented.__getitems__(indices), indices, strict=True):
        assert (image.dtype, label) == (dtype, augmented[index][1])
        assert torch.equal(image, augmented[index][0])


def test_items_by_the_batch_of_a_subclass_are_its_own(make_dataset, fitted_to):
    class Indexed(AugmentedDataset):
        def __getitem__(self, index):
            return index

    assert Indexed(make_dataset(), fitted_to("PIL")).__getitems__([3, 119]) == [3, 119]


def test_items_by_the_batch_go_through_transforms_and_have_soft_labels(make_dataset, fitted_to):
    invert = v2.Compose([v2.ToImage(), v2.Lambda(lambda x: 255 - x)])
    for augmented in (
        AugmentedDataset(make_dataset(transform=invert), fitted_to("PIL")),
        AugmentedDataset(make_dataset(), fitted_to("PIL"), transform=invert),
        AugmentedDataset(make_dataset(transform=invert), fitted_to("PIL")).with_soft_labels(
            lambda x: x.float().flatten(1)[:, :3]
        ),
    ):
        for (image, label), index in zip(augmented.__getitems__([0, 119]), (0, 119), strict=True):
            expected, own = augmented[index]
            assert torch.equal(image, expected)
            assert torch.equal(torch.as_tensor(label), torch.as_tensor(own))


def test_own_transforms_are_applied_to_both_kinds(make_dataset, fitted_to):
    to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(lambda x: 1 - x)])
    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(make_dataset(transform=to_tensor), fitted_to("PIL"))
    for index in (0, 76, 77, 119):
        expected = 1 - np.asarray(plain[index][0]) / 255
        np.testing.assert_allclose(augmented[index][0][0], expected, atol=1e-6)


def test_joint_transforms_and_labels(make_dataset, fitted_to):
    def flip(image, label):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), label

    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(make_dataset(transforms=flip), fitted_to("PIL"))
    for index in (0, 119):
        np.testing.assert_array_equal(np.asarray(augmented[index][0]), np.asarray(plain[index][0])[:, ::-1])


def test_explicit_transform_takes_the_place_of_the_datasets_own(make_dataset, fitted_to):
    def fail(image):
        raise AssertionError("the dataset's own transform was applied")

    base = make_dataset(transform=fail)
    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(base, fitted_to("PIL"), transform=lambda image: np.asarray(image).astype(int) + 1000)
    raw = AugmentedDataset(base, fitted_to("PIL"), transform=None)
    for index in (0, 76, 77, 119):
        np.testing.assert_array_equal(augmented[index][0], np.asarray(plain[index][0]).astype(int) + 1000)
        assert as_bytes(raw[index][0]) == as_bytes(plain[index][0])
    assert base.transform is fail


def test_transform_that_is_set_later(augmented, make_dataset):
    augmented.transform = np.asarray
    np.testing.assert_array_equal(augmented[3][0], np.asarray(make_dataset()[3][0]))
    assert isinstance(augmented[119][0], np.ndarray)


def test_target_transform_decides_the_labels(make_dataset, make_augmenter):
    base = make_dataset(target_transform=lambda label: 5 + (label > 0))
    augmented = make_augmenter().fit(base).augment(base)
    assert np.bincount(augmented.targets)[5:].tolist() == [40, 40]
    assert [augmented[index][1] for index in range(120 - 43, 80)] == [6, 6, 6]


def test_joined_datasets_with_different_transforms_are_refused(make_dataset, fitted_to):
    joined = ConcatDataset([make_dataset(transform=np.asarray), make_dataset(transform=np.array)])
    with pytest.raises(ValueError, match=r"different transforms.*Pass 'transform'"):
        AugmentedDataset(joined, fitted_to("PIL"))
    assert isinstance(AugmentedDataset(joined, fitted_to("PIL"), transform=np.asarray)[0][0], np.ndarray)


def everything(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_epochs_draw_fresh_images_and_repeat(make_dataset, fitted_to):
    def images(epoch, seed=None):
        augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), seed=seed)
        augmented.set_epoch(epoch)
        return torch.cat([augmented.synthetic_images(label) for label in (1, 2)])

    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    augmented.set_epoch(1)
    for epoch in (0, 5, 1):
        augmented.set_epoch(epoch)
        drawn = torch.cat([augmented.synthetic_images(label) for label in (1, 2)])
        assert torch.equal(drawn, images(epoch))
    assert not torch.equal(images(0), images(1))
    assert not torch.equal(images(0, seed=1), images(0, seed=2))
    assert torch.equal(images(0, seed=0), images(0)), "the augmenter's seed, 0, is the default"
    augmented.set_epoch(np.int64(5))
    assert torch.equal(torch.cat([augmented.synthetic_images(label) for label in (1, 2)]), images(5))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_drawing_leaves_the_augmenter_and_the_global_numbers_alone(make_dataset, make_augmenter):
    def first_sample(between):
        augmenter = make_augmenter().fit(make_dataset("tensor"))
        between(augmenter)
        return augmenter.sample(1, 3)

    def augment(augmenter):
        augmenter.augment(make_dataset("tensor")).set_epoch(3)

    assert torch.equal(first_sample(augment), first_sample(lambda augmenter: None))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_no_and_two_workers_give_the_same_items(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    alone = everything(DataLoader(augmented, batch_size=25))
    shared = everything(DataLoader(augmented, batch_size=25, num_workers=2, multiprocessing_context="fork"))
    assert torch.equal(alone[0], shared[0])
    assert alone[1].tolist() == shared[1].tolist() == augmented.targets


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_persistent_workers_see_fresh_images(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    loader = DataLoader(
        augmented, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    before = everything(loader)[0]
    augmented.set_epoch(1)
    after = everything(loader)[0]
    assert torch.equal(before[:77], after[:77])
    assert not torch.equal(before[77:], after[77:])
    assert torch.equal(after[77:], torch.cat([augmented.synthetic_images(label) for label in (1, 2)]))


@pytest.mark.skipif("spawn" not in multiprocessing.get_all_start_methods(), reason="the system has no spawn")
def test_spawned_workers(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    loader = DataLoader(augmented, batch_size=60, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(everything(loader)[0], everything(DataLoader(augmented, batch_size=60))[0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_images_in_a_file_are_the_same_and_workers_see_fresh_ones(
    start, make_dataset, make_augmenter, fitted_to, tmp_path
):
    in_memory = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    in_file = make_augmenter(cache_dir=tmp_path / "new").fit(make_dataset("tensor")).augment(make_dataset("tensor"))
    assert [path.stat().st_size for path in tmp_path.glob("new/*")] == [43 * 64]
    loader = DataLoader(in_file, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context=start)
    for epoch in (0, 1):
        in_memory.set_epoch(epoch)
        in_file.set_epoch(epoch)
        assert torch.equal(everything(loader)[0], everything(DataLoader(in_memory, batch_size=60))[0])
    del loader, in_file
    assert list(tmp_path.glob("new/*")) == []


def test_images_that_are_made_elsewhere_are_copied(make_dataset, fitted_to, tmp_path):
    class Elsewhere(SimpleNamespace):
        def sample(self, label, n, **options):
            return fitted_to("tensor").sample(label, n, seed=options["seed"])[..., : self.width]

    source = Elsewhere(sampling_strategy="auto", seed_=0, width=8)
    made, usual = (AugmentedDataset(make_dataset("tensor"), one) for one in (source, fitted_to("tensor")))
    assert all(torch.equal(made[index][0], usual[index][0]) for index in range(77, 120))
    source.width = 7
    with pytest.raises(ValueError, match=r"wanted have shape \(15, 1, 8, 8\) .*made \(15, 1, 8, 7\)"):
        AugmentedDataset(make_dataset("tensor"), source, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_copies_of_images_in_a_file(make_dataset, fitted_to, tmp_path):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), cache_dir=tmp_path)
    first = augmented[-1][0].clone()
    separate, attached = copy.deepcopy(augmented), pickle.loads(pickle.dumps(augmented))
    augmented.set_epoch(1)
    assert torch.equal(separate[-1][0], first)
    assert torch.equal(attached[-1][0], augmented[-1][0])
    assert not torch.equal(augmented[-1][0], first)
    content = pickle.dumps(augmented)
    del augmented, attached
    assert len(list(tmp_path.iterdir())) == 1, "the deep copy's own"
    with pytest.raises(FileNotFoundError, match=r"is gone: it is kept as long as the dataset"):
        pickle.loads(content)


class Pixels(torch.nn.Module):
    r"""A teacher whose logits are three pixels, which notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.frozen = torch.nn.Dropout().eval()
        self.seen = []

    def forward(self, x):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(len(x))
        return self.scale * x.flatten(1)[:, 27:30].float() / 8


def expected_labels(images, label, weight):
    p = (images.flatten(1)[:, 27:30].double() / 8).exp()
    p /= p.sum(dim=1, keepdim=True)
    p *= weight
    p[:, label] += 1 - weight
    return p.float()


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_soft_labels(make_dataset, fitted_to, monkeypatch):
    monkeypatch.setattr("gae_augment.mixing.soft_labels.AT_ONCE", 25)
    teacher = Pixels().train()
    teacher.frozen.eval()
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    hard = list(augmented.targets)
    assert augmented.with_soft_labels(teacher, 0.25) is augmented
    assert teacher.seen == [25, 18]
    assert (teacher.training, teacher.frozen.training) == (True, False)
    for epoch in (0, 1, 0):
        augmented.set_epoch(epoch)
        soft = torch.stack([label for _, label in augmented])
        torch.testing.assert_close(soft[:77], torch.nn.functional.one_hot(torch.tensor(hard[:77]), 3).float())
        made = torch.cat([expected_labels(augmented.synthetic_images(label), label, 0.25) for label in (1, 2)])
        torch.testing.assert_close(soft[77:], made)
    assert augmented.targets == hard


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_soft_labels_in_workers_and_copies(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    augmented.with_soft_labels(lambda images: images.flatten(1)[:, 27:30].float())  # which cannot be pickled
    alone = everything(DataLoader(augmented, batch_size=60))[1]
    for method in ("fork", "spawn"):
        loader = DataLoader(augmented, batch_size=60, num_workers=1, multiprocessing_context=method)
        assert torch.equal(everything(loader)[1], alone)
    other = pickle.loads(pickle.dumps(augmented))
    other.set_epoch(0)
    with pytest.raises(RuntimeError, match="does not hold the teacher"):
        other.set_epoch(1)
    assert torch.equal(everything(DataLoader(other, batch_size=60))[1], alone)
    images, labels = next(iter(DataLoader(other, batch_size=120)))
    _, mixed = v2.MixUp(num_classes=3)(images.float(), labels)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(120))
    other[119][1].zero_()
    assert torch.equal(other[119][1], alone[119])


def rolled(image):
    r"""Draws from the global generators of all three."""
    return image.roll(int(np.random.randint(4)) + random.randrange(4) + int(torch.randint(4, ())), dims=-1)  # noqa: NPY002


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_soft_labels_of_random_views_repeat_themselves(make_dataset, fitted_to):
    def labels():
        dataset = make_dataset("tensor", transform=rolled)
        augmented = AugmentedDataset(dataset, fitted_to("tensor")).with_soft_labels(Pixels())
        with global_seed(0):
            return torch.stack([augmented[index][1] for index in range(77, 120)])

    with global_seed(7):
        one = labels()
    assert torch.equal(one, labels())


def test_teacher_sees_what_transforms_make(make_dataset, fitted_to):
    seen = []

    def teacher(images):
        seen.append(images)
        return images.flatten(1)[:, :3]

    doubled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(lambda image: 2 * image)])
    augmented = AugmentedDataset(make_dataset(transform=doubled), fitted_to("PIL")).with_soft_labels(teacher)
    (images,) = seen
    assert torch.equal(images, torch.stack([augmented[index][0] for index in range(77, 120)]))
    raw = torch.cat([augmented.synthetic_images(label) for label in (1, 2)])
    torch.testing.assert_close(images.squeeze(), 2 * raw.squeeze().float() / 255)


def test_a_teacher_that_fails_once_leaves_no_wrong_labels(make_dataset, fitted_to):
    teacher = Pixels()
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor")).with_soft_labels(teacher)
    forward = teacher.forward
    teacher.forward = lambda x: x.nothing
    with pytest.raises(AttributeError, match="nothing"):
        augmented.set_epoch(1)
    teacher.forward = forward
    augmented.set_epoch(1)
    images = torch.stack([augmented[index][0] for index in range(77, 120)])
    labels = torch.stack([augmented[index][1] for index in range(77, 120)])
    told = 0.5 * (images.flatten(1)[:, 27:30].float() / 8).softmax(dim=1)
    torch.testing.assert_close((labels - told).max(dim=1).values, torch.full((43,), 0.5))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("room", [2**30, 0])
def test_persistent_workers_see_labels_that_belong_to_their_images(room, make_dataset, fitted_to, monkeypatch):
    # Without room for the images they stay, and so do their labels.
    monkeypatch.setattr("gae_augment.mixing.dataset.shutil.disk_usage", lambda _: SimpleNamespace(free=room))
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor")).with_soft_labels(Pixels())
    loader = DataLoader(
        augmented, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    before = everything(loader)[0]
    # The second teacher has the last word in what is seen.
    augmented.with_soft_labels(Pixels(), weight=1.0).set_epoch(1)
    images, labels = everything(loader)
    assert torch.equal(images, before) == (room == 0)
    told = (images[77:].flatten(1)[:, 27:30].float() / 8).softmax(dim=1)
    if room:
        torch.testing.assert_close(labels[77:], told)
    else:
        torch.testing.assert_close((labels[77:] - 0.5 * told).max(dim=1).values, torch.full((43,), 0.5))


def test_soft_labels_without_synthetic_images(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), images_to_add={}).with_soft_labels(
        Pixels()
    )
    assert len(augmented) == 77
    assert augmented[76][1].tolist() == torch.nn.functional.one_hot(torch.tensor(augmented.targets[76]), 3).tolist()


@pytest.mark.parametrize(
    ("form", "teacher", "weight", "error", "message"),
    [
        ("tensor", "nobody", 0.5, TypeError, "'teacher' maps a batch of images to logits, and it is a str"),
        ("tensor", Pixels(), 1.5, ValueError, "'weight' is the teacher's say, between 0 and 1, and it is 1.5"),
        ("PIL", Pixels(), 0.5, TypeError, "items are of type Image"),
        (
            "tensor",
            lambda x: x.flatten(1)[:, :2].float(),
            0.5,
            ValueError,
            r"C at least 3, .* their shape is \(43, 2\)",
        ),
        ("tensor", lambda x: x.float(), 0.5, ValueError, r"their shape is \(43, 1, 8, 8\)"),
        ("tensor", lambda x: x.flatten(1)[:, :3] / torch.zeros(()), 0.5, ValueError, "these are not finite"),
        ("tensor", lambda x: (x, x), 0.5, TypeError, "this one returns a tuple"),
        ("tensor", Pixels(), "0.5", ValueError, "between 0 and 1, and it is '0.5'"),
    ],
)
def test_teachers_that_cannot_label(form, teacher, weight, error, message, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(form), fitted_to(form))
    with pytest.raises(error, match=message):
        augmented.with_soft_labels(teacher, weight)
    assert isinstance(augmented[119][1], int)


def test_soft_labels_need_columns(fitted_to, make_dataset):
    dataset = make_dataset("tensor", target_transform=lambda label: label - 1)
    augmented = AugmentedDataset(dataset, fitted_to("tensor"), images_to_add={})
    with pytest.raises(ValueError, match=r"there is -1\. Number the classes from 0"):
        augmented.with_soft_labels(Pixels())


def test_softened_dataset_is_not_a_training_set_again(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor")).with_soft_labels(Pixels())
    with pytest.raises(ValueError, match=r"item 0 is a vector of 3 numbers\. Pass the dataset from before"):
        AugmentedDataset(augmented, fitted_to("tensor"))


def test_negative_and_other_indices(augmented):
    assert as_bytes(augmented[-1][0]) == as_bytes(augmented[119][0])
    assert as_bytes(augmented[-120][0]) == as_bytes(augmented[0][0])
    assert (
        as_bytes(augmented[np.int64(80)][0]) == as_bytes(augmented[torch.tensor(80)][0]) == as_bytes(augmented[80][0])
    )
    for outside in (120, -121):
        with pytest.raises(IndexError, match=rf"120 items, and there is none at {outside}"):
            augmented[outside]


def test_iteration_ends(augmented):
    assert sum(1 for _ in augmented) == 120


@pytest.mark.parametrize("duplicate", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_copies_have_the_same_items(duplicate, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented.set_epoch(2)
    other = duplicate(augmented)
    assert [as_bytes(other[i][0]) for i in range(120)] == [as_bytes(augmented[i][0]) for i in range(120)]
    other.set_epoch(3)
    assert as_bytes(other[119][0]) != as_bytes(augmented[119][0])
    augmented.set_epoch(3)
    assert as_bytes(other[119][0]) == as_bytes(augmented[119][0])


def test_changing_an_item_changes_no_other(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    before = augmented[119][0].clone()
    augmented[119][0].zero_()
    assert before.any()
    assert torch.equal(augmented[119][0], before)


def test_repr(augmented):
    text = repr(augmented)
    assert text.startswith("Dataset AugmentedDataset\n    Number of datapoints: 120")
    assert "Synthetic: 43 (1: 15, 2: 28)" in text
    assert "Dataset Digits" in text


def test_class_names(augmented, make_dataset, fitted_to):
    assert augmented.classes == ["nought", "one", "two"]
    assert augmented.class_to_idx == {"nought": 0, "one": 1, "two": 2}
    images, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([4, 4, 1, 4, 1, 4])
    unnamed = AugmentedDataset(TensorDataset(images, labels), fitted_to("tensor"), images_to_add={})
    assert (unnamed.classes, unnamed.class_to_idx) == (["1", "4"], {"1": 1, "4": 4})


def test_subset(make_dataset, fitted_to, digits):
    noughts, ones, twos = (np.flatnonzero(digits[1] == label) for label in range(3))
    subset = Subset(make_dataset(), np.concatenate([twos, noughts[:14], ones[:4]]).tolist())
    augmented = AugmentedDataset(subset, fitted_to("PIL"))
    assert augmented.images_to_add == {1: 10, 2: 2}
    assert augmented.targets == [2] * 12 + [0] * 14 + [1] * 4 + [1] * 10 + [2] * 2
    assert as_bytes(augmented[12][0]) == as_bytes(make_dataset()[noughts[0]][0])
    assert augmented.classes == ["nought", "one", "two"]


def test_images_to_add(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={2: 3, 1: 0})
    assert augmented.targets[77:] == [2, 2, 2]
    assert augmented.images_to_add == {2: 3}


def test_balanced_dataset_is_left_as_it_is(make_dataset, fitted_to, digits):
    chosen = np.concatenate([np.flatnonzero(digits[1] == label)[:5] for label in range(3)])
    augmented = AugmentedDataset(Subset(make_dataset(), chosen), fitted_to("PIL"))
    augmented.set_epoch(4)
    assert len(augmented) == 15
    assert not augmented.is_synthetic.any()


def test_augmented_dataset_can_be_augmented_again(augmented, fitted_to):
    twice = AugmentedDataset(augmented, fitted_to("PIL"), images_to_add={1: 2}, transform=np.asarray)
    assert len(twice) == 122
    np.testing.assert_array_equal(twice[119][0], np.asarray(augmented[119][0]))
    np.testing.assert_array_equal(twice[121][0].shape, (8, 8))


def test_other_datasets_are_refused(make_dataset, fitted_to):
    with pytest.raises(ValueError, match=r"have shape \(3, 8, 8\) of torch\.uint8, .*fitted to \(1, 8, 8\).*Fit it to"):
        AugmentedDataset(make_dataset("RGB"), fitted_to("PIL"))
    images, labels = make_dataset("array").images, make_dataset().targets
    floats = TensorDataset(torch.tensor(images / 255)[:, None], torch.tensor(labels))
    with pytest.raises(ValueError, match=r"of torch\.float64, and the augmenter was fitted to .*of torch\.uint8"):
        AugmentedDataset(floats, fitted_to("PIL"))
    with pytest.raises(ValueError, match=r"generators for the classes \[1, 2\], and class 0 has 40 images"):
        AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={0: 5})
    with pytest.raises(ValueError, match=r"none below 0, and it is \{1: -5\}.*Subset"):
        AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={1: -5})


def test_what_is_no_map_style_dataset_is_refused(fitted_to):
    with pytest.raises(TypeError, match=r"map-style torch dataset, and it is a int"):
        AugmentedDataset(5, fitted_to("PIL"))


def test_images_that_do_not_fit_into_shared_memory_stay(monkeypatch, make_dataset, fitted_to):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    assert not augmented._synthetic.is_shared()
    augmented.set_epoch(1)
    assert len(everything(DataLoader(augmented, batch_size=60))[0]) == 120


def test_system_without_shared_memory_as_files(monkeypatch, make_dataset, fitted_to):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("shutil.disk_usage", missing)
    assert len(AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))) == 120


class Wrapped(Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


def test_wrapper_hands_its_datasets_transform_on(make_dataset, fitted_to):
    augmented = AugmentedDataset(Wrapped(make_dataset(transform=np.asarray)), fitted_to("PIL"))
    assert isinstance(augmented[0][0], np.ndarray)
    assert isinstance(augmented[119][0], np.ndarray)
    assert augmented.classes == ["nought", "one", "two"]
