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
    r"""The digits as a torchvision dataset; ``form`` chooses the form of the raw images."""

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
    r"""Returns an augmenter fitted to the digits in a given form; each form is fitted once."""
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


def test_class_counts_follow_the_strategy(augmented, fitted_to):
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


@pytest.mark.parametrize("transform", ["same", None, v2.RandomInvert(0.0)], ids=str)
def test_own_random_views_of_a_dataset_stay_random(make_dataset, fitted_to, transform):
    raw = make_dataset("tensor")

    class Turning(Dataset):
        targets = raw.targets

        def __len__(self):
            return len(raw)

        def __getitem__(self, index):
            image, label = raw[index]
            return image.rot90(int(torch.randint(4, ())), dims=(-2, -1)), label

    augmented = AugmentedDataset(Turning(), fitted_to("tensor"), transform=transform, images_to_add={})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = {as_bytes(augmented[3][0]) for _ in range(30)}
    assert len(views) == 4


@pytest.mark.parametrize("form", FORMS)
def test_synthetic_items_have_the_form_of_real_items(form, make_dataset, fitted_to):
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
def test_synthetic_items_equal_synthetic_images(form, make_dataset, fitted_to):
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
def test_batched_items_equal_single_items(form, indices, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(form), fitted_to(form))
    items = augmented.__getitems__(indices)
    assert len(items) == len(indices)
    for (image, label), index in zip(items, indices, strict=True):
        expected_image, expected_label = augmented[index]
        assert (type(image), type(label), label) == (type(expected_image), int, expected_label)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected_image))
        if isinstance(image, torch.Tensor) and augmented.is_synthetic[index]:
            image.zero_()
            np.testing.assert_array_equal(np.asarray(augmented[index][0]), np.asarray(expected_image))
    with pytest.raises(IndexError, match="Index 120 is out of range: the dataset has 120 items"):
        augmented.__getitems__([0, 120])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint16, torch.bool])
@pytest.mark.parametrize("indices", [[0, 1], [0, 11], [10, 11]], ids=["real", "both", "synthetic"])
def test_batched_items_support_every_dtype(dtype, indices):
    images = (torch.arange(10 * 16).view(10, 1, 4, 4) % 3).to(dtype)
    base = TensorDataset(images, torch.tensor([0] * 6 + [1] * 4))

    def sample(label, n, *, seed, out):
        return out.copy_(images[:n])

    source = SimpleNamespace(sampling_strategy="auto", seed_=0, sample=sample)
    augmented = AugmentedDataset(base, source)
    for (image, label), index in zip(augmented.__getitems__(indices), indices, strict=True):
        assert (image.dtype, label) == (dtype, augmented[index][1])
        assert torch.equal(image, augmented[index][0])


def test_batched_items_use_getitem_of_a_subclass(make_dataset, fitted_to):
    class Indexed(AugmentedDataset):
        def __getitem__(self, index):
            return index

    assert Indexed(make_dataset(), fitted_to("PIL")).__getitems__([3, 119]) == [3, 119]


def test_batched_items_have_transforms_and_soft_labels(make_dataset, fitted_to):
    invert = v2.Compose([v2.ToImage(), v2.Lambda(lambda x: 255 - x)])
    for augmented in (
        AugmentedDataset(make_dataset(transform=invert), fitted_to("PIL")),
        AugmentedDataset(make_dataset(), fitted_to("PIL"), transform=invert),
        AugmentedDataset(make_dataset(transform=invert), fitted_to("PIL")).with_soft_labels(
            lambda x: x.float().flatten(1)[:, :3]
        ),
    ):
        for (image, label), index in zip(augmented.__getitems__([0, 119]), (0, 119), strict=True):
            expected_image, expected_label = augmented[index]
            assert torch.equal(image, expected_image)
            assert torch.equal(torch.as_tensor(label), torch.as_tensor(expected_label))


def test_dataset_transforms_apply_to_real_and_synthetic_items(make_dataset, fitted_to):
    to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(lambda x: 1 - x)])
    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(make_dataset(transform=to_tensor), fitted_to("PIL"))
    for index in (0, 76, 77, 119):
        expected = 1 - np.asarray(plain[index][0]) / 255
        np.testing.assert_allclose(augmented[index][0][0], expected, atol=1e-6)


def test_joint_transforms_of_image_and_label_are_applied(make_dataset, fitted_to):
    def flip(image, label):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), label

    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(make_dataset(transforms=flip), fitted_to("PIL"))
    for index in (0, 119):
        np.testing.assert_array_equal(np.asarray(augmented[index][0]), np.asarray(plain[index][0])[:, ::-1])


def test_explicit_transform_replaces_the_dataset_transform(make_dataset, fitted_to):
    def blacken(image):
        return image.point(lambda _: 0)

    base = make_dataset(transform=blacken)
    plain = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented = AugmentedDataset(base, fitted_to("PIL"), transform=lambda image: np.asarray(image).astype(int) + 1000)
    raw = AugmentedDataset(base, fitted_to("PIL"), transform=None)
    for index in (0, 76, 77, 119):
        np.testing.assert_array_equal(augmented[index][0], np.asarray(plain[index][0]).astype(int) + 1000)
        assert as_bytes(raw[index][0]) == as_bytes(plain[index][0])
    assert base.transform is blacken
    assert not np.asarray(base[0][0]).any()


def test_transform_can_be_set_later(augmented, make_dataset):
    augmented.transform = np.asarray
    np.testing.assert_array_equal(augmented[3][0], np.asarray(make_dataset()[3][0]))
    assert isinstance(augmented[119][0], np.ndarray)


def test_target_transform_defines_the_labels(make_dataset, make_augmenter):
    base = make_dataset(target_transform=lambda label: 5 + (label > 0))
    augmented = make_augmenter().fit(base).augment(base)
    assert np.bincount(augmented.targets)[5:].tolist() == [40, 40]
    assert [augmented[index][1] for index in range(120 - 43, 80)] == [6, 6, 6]


def test_joined_datasets_with_different_transforms_are_refused(make_dataset, fitted_to):
    joined = ConcatDataset([make_dataset(transform=np.asarray), make_dataset(transform=np.array)])
    with pytest.raises(ValueError, match=r"different transforms.*Pass 'transform'"):
        AugmentedDataset(joined, fitted_to("PIL"))
    assert isinstance(AugmentedDataset(joined, fitted_to("PIL"), transform=np.asarray)[0][0], np.ndarray)


def load_all(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_epochs_draw_fresh_reproducible_images(make_dataset, fitted_to):
    def images(epoch, seed=None):
        augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), seed=seed)
        augmented.set_epoch(epoch)
        return torch.cat([augmented.synthetic_images(label) for label in (1, 2)])

    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    augmented.set_epoch(1)
    for epoch in (0, 5, 1):
        augmented.set_epoch(epoch)
        synthetic_images = torch.cat([augmented.synthetic_images(label) for label in (1, 2)])
        assert torch.equal(synthetic_images, images(epoch))
    assert not torch.equal(images(0), images(1))
    assert not torch.equal(images(0, seed=1), images(0, seed=2))
    assert torch.equal(images(0, seed=0), images(0)), "the default is the augmenter's seed, 0"
    augmented.set_epoch(np.int64(5))
    assert torch.equal(torch.cat([augmented.synthetic_images(label) for label in (1, 2)]), images(5))


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_set_epoch_changes_neither_augmenter_nor_global_generators(make_dataset, make_augmenter):
    def first_sample_after(action):
        augmenter = make_augmenter().fit(make_dataset("tensor"))
        action(augmenter)
        return augmenter.sample(1, 3)

    def augment(augmenter):
        augmenter.augment(make_dataset("tensor")).set_epoch(3)

    assert torch.equal(first_sample_after(augment), first_sample_after(lambda augmenter: None))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_do_not_change_the_items(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    without_workers = load_all(DataLoader(augmented, batch_size=25))
    with_workers = load_all(DataLoader(augmented, batch_size=25, num_workers=2, multiprocessing_context="fork"))
    assert torch.equal(without_workers[0], with_workers[0])
    assert without_workers[1].tolist() == with_workers[1].tolist() == augmented.targets


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_persistent_workers_see_fresh_images(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    loader = DataLoader(
        augmented, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    before = load_all(loader)[0]
    augmented.set_epoch(1)
    after = load_all(loader)[0]
    assert torch.equal(before[:77], after[:77])
    assert not torch.equal(before[77:], after[77:])
    assert torch.equal(after[77:], torch.cat([augmented.synthetic_images(label) for label in (1, 2)]))


@pytest.mark.skipif("spawn" not in multiprocessing.get_all_start_methods(), reason="the system has no spawn")
def test_spawned_workers_give_the_same_items(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    loader = DataLoader(augmented, batch_size=60, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(load_all(loader)[0], load_all(DataLoader(augmented, batch_size=60))[0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_images_in_a_file_equal_images_in_memory_in_every_epoch(
    start, make_dataset, make_augmenter, fitted_to, tmp_path
):
    in_memory = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    in_file = make_augmenter(cache_dir=tmp_path / "new").fit(make_dataset("tensor")).augment(make_dataset("tensor"))
    assert [path.stat().st_size for path in tmp_path.glob("new/*")] == [43 * 64]
    loader = DataLoader(in_file, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context=start)
    for epoch in (0, 1):
        in_memory.set_epoch(epoch)
        in_file.set_epoch(epoch)
        assert torch.equal(load_all(loader)[0], load_all(DataLoader(in_memory, batch_size=60))[0])
    del loader, in_file
    assert list(tmp_path.glob("new/*")) == []


def test_images_returned_in_another_tensor_are_copied(make_dataset, fitted_to, tmp_path):
    class NewTensors(SimpleNamespace):
        def sample(self, label, n, **options):
            return fitted_to("tensor").sample(label, n, seed=options["seed"])[..., : self.width]

    source = NewTensors(sampling_strategy="auto", seed_=0, width=8)
    copied, in_place = (AugmentedDataset(make_dataset("tensor"), s) for s in (source, fitted_to("tensor")))
    assert all(torch.equal(copied[index][0], in_place[index][0]) for index in range(77, 120))
    source.width = 7
    with pytest.raises(ValueError, match=r"of shape \(15, 1, 8, 7\) .*needs \(15, 1, 8, 8\) .*Fit the augmenter to"):
        AugmentedDataset(make_dataset("tensor"), source, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_deep_copy_has_its_own_file_and_pickled_copy_shares_it(make_dataset, fitted_to, tmp_path):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), cache_dir=tmp_path)
    first = augmented[-1][0].clone()
    deep_copy, pickled_copy = copy.deepcopy(augmented), pickle.loads(pickle.dumps(augmented))
    augmented.set_epoch(1)
    assert torch.equal(deep_copy[-1][0], first)
    assert torch.equal(pickled_copy[-1][0], augmented[-1][0])
    assert not torch.equal(augmented[-1][0], first)
    content = pickle.dumps(augmented)
    del augmented, pickled_copy
    assert len(list(tmp_path.iterdir())) == 1, "only the deep copy's file remains"
    with pytest.raises(FileNotFoundError, match=r"no longer exists: it is deleted with the dataset"):
        pickle.loads(content)


class Pixels(torch.nn.Module):
    r"""A teacher whose logits are three pixels; it records the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.frozen = torch.nn.Dropout().eval()
        self.batch_sizes = []

    def forward(self, x):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batch_sizes.append(len(x))
        return self.scale * x.flatten(1)[:, 27:30].float() / 8


def expected_labels(images, label, weight):
    p = (images.flatten(1)[:, 27:30].double() / 8).exp()
    p /= p.sum(dim=1, keepdim=True)
    p *= weight
    p[:, label] += 1 - weight
    return p.float()


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_soft_labels_mix_labels_and_teacher_in_every_epoch(make_dataset, fitted_to, monkeypatch):
    monkeypatch.setattr("gae_augment.mixing.teachers.BATCH_SIZE", 25)
    teacher = Pixels().train()
    teacher.frozen.eval()
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    hard = list(augmented.targets)
    assert augmented.with_soft_labels(teacher, 0.25) is augmented
    assert teacher.batch_sizes == [25, 18]
    assert (teacher.training, teacher.frozen.training) == (True, False)
    for epoch in (0, 1, 0):
        augmented.set_epoch(epoch)
        soft = torch.stack([label for _, label in augmented])
        torch.testing.assert_close(soft[:77], torch.nn.functional.one_hot(torch.tensor(hard[:77]), 3).float())
        expected = torch.cat([expected_labels(augmented.synthetic_images(label), label, 0.25) for label in (1, 2)])
        torch.testing.assert_close(soft[77:], expected)
    assert augmented.targets == hard


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_soft_labels_reach_workers_and_pickled_copies(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    augmented.with_soft_labels(lambda images: images.flatten(1)[:, 27:30].float())  # cannot be pickled
    expected = load_all(DataLoader(augmented, batch_size=60))[1]
    for method in ("fork", "spawn"):
        loader = DataLoader(augmented, batch_size=60, num_workers=1, multiprocessing_context=method)
        assert torch.equal(load_all(loader)[1], expected)
    pickled_copy = pickle.loads(pickle.dumps(augmented))
    pickled_copy.set_epoch(0)
    with pytest.raises(RuntimeError, match=r"This copy .* has no teacher.* Call with_soft_labels again"):
        pickled_copy.set_epoch(1)
    assert torch.equal(load_all(DataLoader(pickled_copy, batch_size=60))[1], expected)
    images, labels = next(iter(DataLoader(pickled_copy, batch_size=120)))
    _, mixed = v2.MixUp(num_classes=3)(images.float(), labels)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(120))
    pickled_copy[119][1].zero_()
    assert torch.equal(pickled_copy[119][1], expected[119])


def rolled(image):
    r"""Draws from the global generators of NumPy, Python and torch."""
    return image.roll(int(np.random.randint(4)) + random.randrange(4) + int(torch.randint(4, ())), dims=-1)  # noqa: NPY002


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_soft_labels_of_random_views_are_reproducible(make_dataset, fitted_to):
    def labels():
        dataset = make_dataset("tensor", transform=rolled)
        augmented = AugmentedDataset(dataset, fitted_to("tensor")).with_soft_labels(Pixels())
        with global_seed(0):
            return torch.stack([augmented[index][1] for index in range(77, 120)])

    with global_seed(7):
        first = labels()
    assert torch.equal(first, labels())


def test_teacher_sees_transformed_images(make_dataset, fitted_to):
    batches = []

    def teacher(images):
        batches.append(images)
        return images.flatten(1)[:, :3]

    doubled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(lambda image: 2 * image)])
    augmented = AugmentedDataset(make_dataset(transform=doubled), fitted_to("PIL")).with_soft_labels(teacher)
    (images,) = batches
    assert torch.equal(images, torch.stack([augmented[index][0] for index in range(77, 120)]))
    raw = torch.cat([augmented.synthetic_images(label) for label in (1, 2)])
    torch.testing.assert_close(images.squeeze(), 2 * raw.squeeze().float() / 255)


def test_labels_are_correct_after_a_teacher_failed(make_dataset, fitted_to):
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
    predicted = 0.5 * (images.flatten(1)[:, 27:30].float() / 8).softmax(dim=1)
    torch.testing.assert_close((labels - predicted).max(dim=1).values, torch.full((43,), 0.5))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("free_bytes", [2**30, 0])
def test_persistent_workers_see_the_labels_of_their_images(free_bytes, make_dataset, fitted_to, monkeypatch):
    # If shared memory is full, workers keep their images, and so must keep their labels.
    monkeypatch.setattr("gae_augment.mixing.synthetic.shutil.disk_usage", lambda _: SimpleNamespace(free=free_bytes))
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor")).with_soft_labels(Pixels())
    loader = DataLoader(
        augmented, batch_size=60, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    before = load_all(loader)[0]
    # If workers see new labels, these are the second teacher's.
    augmented.with_soft_labels(Pixels(), weight=1.0).set_epoch(1)
    images, labels = load_all(loader)
    assert torch.equal(images, before) == (free_bytes == 0)
    predicted = (images[77:].flatten(1)[:, 27:30].float() / 8).softmax(dim=1)
    if free_bytes:
        torch.testing.assert_close(labels[77:], predicted)
    else:
        torch.testing.assert_close((labels[77:] - 0.5 * predicted).max(dim=1).values, torch.full((43,), 0.5))


def test_soft_labels_work_without_synthetic_images(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"), images_to_add={}).with_soft_labels(
        Pixels()
    )
    assert len(augmented) == 77
    assert augmented[76][1].tolist() == torch.nn.functional.one_hot(torch.tensor(augmented.targets[76]), 3).tolist()


@pytest.mark.parametrize(
    ("form", "teacher", "weight", "error", "message"),
    [
        ("tensor", "nobody", 0.5, TypeError, "'teacher' is a str, but must be .* maps a batch of images to logits"),
        ("tensor", Pixels(), 1.5, ValueError, "'weight' is 1.5, but .* must be a number between 0 and 1"),
        ("PIL", Pixels(), 0.5, TypeError, "Items are of type Image"),
        (
            "tensor",
            lambda x: x.flatten(1)[:, :2].float(),
            0.5,
            ValueError,
            r"shape \(43, 2\) for 43 images, .* C is at least 3",
        ),
        ("tensor", lambda x: x.float(), 0.5, ValueError, r"logits of shape \(43, 1, 8, 8\)"),
        ("tensor", lambda x: x.flatten(1)[:, :3] / torch.zeros(()), 0.5, ValueError, "logits are not finite"),
        ("tensor", lambda x: (x, x), 0.5, TypeError, "The teacher returned a tuple"),
        ("tensor", Pixels(), "0.5", ValueError, "'weight' is '0.5', but .* between 0 and 1"),
    ],
)
def test_unsuitable_teachers_are_refused(form, teacher, weight, error, message, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(form), fitted_to(form))
    with pytest.raises(error, match=message):
        augmented.with_soft_labels(teacher, weight)
    assert isinstance(augmented[119][1], int)


def test_soft_labels_of_negative_labels_are_refused(fitted_to, make_dataset):
    dataset = make_dataset("tensor", target_transform=lambda label: label - 1)
    augmented = AugmentedDataset(dataset, fitted_to("tensor"), images_to_add={})
    with pytest.raises(ValueError, match=r"The smallest label is -1, .*Number the classes from 0"):
        augmented.with_soft_labels(Pixels())


def test_dataset_with_soft_labels_cannot_be_augmented_again(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor")).with_soft_labels(Pixels())
    with pytest.raises(ValueError, match=r"label of item 0 is a vector of 3 numbers, .*Pass the dataset without soft"):
        AugmentedDataset(augmented, fitted_to("tensor"))


def test_negative_numpy_and_tensor_indices(augmented):
    assert as_bytes(augmented[-1][0]) == as_bytes(augmented[119][0])
    assert as_bytes(augmented[-120][0]) == as_bytes(augmented[0][0])
    assert (
        as_bytes(augmented[np.int64(80)][0]) == as_bytes(augmented[torch.tensor(80)][0]) == as_bytes(augmented[80][0])
    )
    for outside in (120, -121):
        with pytest.raises(IndexError, match=rf"Index {outside} is out of range: the dataset has 120 items"):
            augmented[outside]


def test_iteration_ends(augmented):
    assert sum(1 for _ in augmented) == 120


@pytest.mark.parametrize("duplicate", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_copies_have_the_same_items(duplicate, make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(), fitted_to("PIL"))
    augmented.set_epoch(2)
    duplicated = duplicate(augmented)
    assert [as_bytes(duplicated[i][0]) for i in range(120)] == [as_bytes(augmented[i][0]) for i in range(120)]
    duplicated.set_epoch(3)
    assert as_bytes(duplicated[119][0]) != as_bytes(augmented[119][0])
    augmented.set_epoch(3)
    assert as_bytes(duplicated[119][0]) == as_bytes(augmented[119][0])


def test_changing_an_item_does_not_change_the_dataset(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    before = augmented[119][0].clone()
    augmented[119][0].zero_()
    assert before.any()
    assert torch.equal(augmented[119][0], before)


def test_repr_counts_synthetic_images(augmented):
    text = repr(augmented)
    assert text.startswith("Dataset AugmentedDataset\n    Number of datapoints: 120")
    assert "Synthetic: 43 (1: 15, 2: 28)" in text
    assert "Dataset Digits" in text


def test_class_names_come_from_the_dataset_or_its_labels(augmented, make_dataset, fitted_to):
    assert augmented.classes == ["nought", "one", "two"]
    assert augmented.class_to_idx == {"nought": 0, "one": 1, "two": 2}
    images, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([4, 4, 1, 4, 1, 4])
    unnamed = AugmentedDataset(TensorDataset(images, labels), fitted_to("tensor"), images_to_add={})
    assert (unnamed.classes, unnamed.class_to_idx) == (["1", "4"], {"1": 1, "4": 4})


def test_subset_is_augmented_by_its_own_counts(make_dataset, fitted_to, digits):
    noughts, ones, twos = (np.flatnonzero(digits[1] == label) for label in range(3))
    subset = Subset(make_dataset(), np.concatenate([twos, noughts[:14], ones[:4]]).tolist())
    augmented = AugmentedDataset(subset, fitted_to("PIL"))
    assert augmented.images_to_add == {1: 10, 2: 2}
    assert augmented.targets == [2] * 12 + [0] * 14 + [1] * 4 + [1] * 10 + [2] * 2
    assert as_bytes(augmented[12][0]) == as_bytes(make_dataset()[noughts[0]][0])
    assert augmented.classes == ["nought", "one", "two"]


def test_images_to_add_overrides_the_strategy(make_dataset, fitted_to):
    augmented = AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={2: 3, 1: 0})
    assert augmented.targets[77:] == [2, 2, 2]
    assert augmented.images_to_add == {2: 3}


def test_balanced_dataset_gets_no_synthetic_images(make_dataset, fitted_to, digits):
    indices = np.concatenate([np.flatnonzero(digits[1] == label)[:5] for label in range(3)])
    augmented = AugmentedDataset(Subset(make_dataset(), indices), fitted_to("PIL"))
    augmented.set_epoch(4)
    assert len(augmented) == 15
    assert not augmented.is_synthetic.any()


def test_augmented_dataset_can_be_augmented_again(augmented, fitted_to):
    twice = AugmentedDataset(augmented, fitted_to("PIL"), images_to_add={1: 2}, transform=np.asarray)
    assert len(twice) == 122
    np.testing.assert_array_equal(twice[119][0], np.asarray(augmented[119][0]))
    np.testing.assert_array_equal(twice[121][0].shape, (8, 8))


def test_unsuitable_datasets_and_counts_are_refused(make_dataset, fitted_to):
    with pytest.raises(
        ValueError,
        match=r"of shape \(1, 8, 8\) of .*, but .* \(3, 8, 8\) of torch\.uint8 are needed\. Fit the augmenter to",
    ):
        AugmentedDataset(make_dataset("RGB"), fitted_to("PIL"))
    images, labels = make_dataset("array").images, make_dataset().targets
    floats = TensorDataset(torch.tensor(images / 255)[:, None], torch.tensor(labels))
    with pytest.raises(
        ValueError, match=r"The model was fitted to .* of torch\.uint8, but .* of torch\.float64 are needed"
    ):
        AugmentedDataset(floats, fitted_to("PIL"))
    with pytest.raises(ValueError, match=r"Class 0 has 40 images and needs no more"):
        AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={0: 5})
    with pytest.raises(ValueError, match=r"'images_to_add' is \{1: -5\}, but .* must not be negative.*Subset"):
        AugmentedDataset(make_dataset(), fitted_to("PIL"), images_to_add={1: -5})


def test_object_other_than_a_map_style_dataset_is_refused(fitted_to):
    with pytest.raises(TypeError, match=r"is a int, but must be a map-style torch dataset"):
        AugmentedDataset(5, fitted_to("PIL"))


def test_images_too_large_for_shared_memory_stay_in_memory(monkeypatch, make_dataset, fitted_to):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    augmented = AugmentedDataset(make_dataset("tensor"), fitted_to("tensor"))
    assert not augmented._synthetic.is_shared
    augmented.set_epoch(1)
    assert len(load_all(DataLoader(augmented, batch_size=60))[0]) == 120


def test_system_without_dev_shm_is_supported(monkeypatch, make_dataset, fitted_to):
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


def test_transform_of_a_wrapped_dataset_is_used(make_dataset, fitted_to):
    augmented = AugmentedDataset(Wrapped(make_dataset(transform=np.asarray)), fitted_to("PIL"))
    assert isinstance(augmented[0][0], np.ndarray)
    assert isinstance(augmented[119][0], np.ndarray)
    assert augmented.classes == ["nought", "one", "two"]
