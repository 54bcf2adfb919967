r"""Deformed items of an augmented dataset: real images of any size and type, moved at the time of reading."""

import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from image_items import ImageItems
from PIL import Image, ImageChops
from torch.nn import functional
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from gae_augment import AugmentedDataset, GAEAugmenter, GenerativeModel, MixedSampler
from gae_augment._utils.seeding import make_generator
from gae_augment.mixing import synthetic
from gae_augment.motion import Motion, MotionBank, learning, move
from gae_augment.motion.fields import invertible

LABELS = [0, 2, 0, 1, 0, 1, 0, 1, 0, 0]
"""Class 2 has one image."""

ADDED = {1: 7, 2: 3}

SIZES = [(14, 9), (12, 12), (8, 20), (10, 11), (16, 16), (9, 13), (12, 10), (20, 15), (11, 11), (13, 8)]


def planted_bank(strength=0.15):
    r"""Returns motions that change every image of the tests visibly."""
    fields = strength * torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    # A little weaker than needed, so that the rounding to half precision makes no map fold.
    return MotionBank({0: (0.95 * invertible(fields)).half()})


BANK = planted_bank()


class Motions:
    r"""A source of deformed images that needs no fit."""

    seed_ = 0
    sampling_strategy = "auto"
    bank = BANK

    def motions_for(self, label, n, *, seed):
        return self.bank.draw(n, generator=make_generator(seed, label))

    def sample(self, label, n, *, seed=None, out=None):
        raise AssertionError("pixels were sampled")


class Items(ImageItems):
    def __init__(self, images, labels=LABELS, transform=None):
        super().__init__(images, labels, transform)


class Wrapper(Dataset):
    r"""Passes the items of another dataset on."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


class Folder(ImageFolder):
    r"""An image folder, in a subclass without changes."""


def negative(image):
    r"""A transform that works on every type of image."""
    return ImageChops.invert(image) if isinstance(image, Image.Image) else 255 - image


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photos(sizes=SIZES, mode="RGB"):
    images = [Image.fromarray(pixels(*size, 3, seed=number)) for number, size in enumerate(sizes)]
    return [image.convert(mode) for image in images]


def write_folder(root, images, labels=LABELS, ending="png"):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / f"class {label}" / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root


def build(form, root, transform=negative):
    r"""Returns a dataset of a form with a transform, its raw images and its labels."""
    tensors = torch.from_numpy(pixels(10, 3, 12, 9))
    match form:
        case "PIL":
            raw = photos()
        case "grey":
            raw = photos(mode="L")
        case "tensor":
            raw = list(tensors)
        case "matrix":
            raw = [image[0] for image in tensors]
        case "array, channels first":
            raw = list(tensors.numpy())
        case "array, channels last":
            raw = [image.transpose(1, 2, 0).copy() for image in tensors.numpy()]
        case "tv_tensor":
            raw = [tv_tensors.Image(pixels(3, *size, seed=number)) for number, size in enumerate(SIZES)]
        case "TensorDataset":
            return TensorDataset(tensors, torch.tensor(LABELS)), list(tensors), LABELS, lambda image: image
        case "Subset":
            rows = [9, 1, 3, 5, 0, 2, 7]
            raw = photos()
            labels = [LABELS[row] for row in rows]
            return Subset(Items(raw, transform=transform), rows), [raw[row] for row in rows], labels, transform
        case "ConcatDataset":
            raw = photos()
            halves = [Items(raw[part], LABELS[part], transform) for part in (slice(0, 4), slice(4, 10))]
            return ConcatDataset(halves), raw, LABELS, transform
        case "ImageFolder" | "subclass of ImageFolder":
            raw = photos()
            cls = ImageFolder if form == "ImageFolder" else Folder
            folder = cls(write_folder(root, raw), transform=transform)
            order = [int(path.split("/")[-1].removesuffix(".png")) for path, _ in folder.samples]
            return folder, [raw[number] for number in order], [LABELS[number] for number in order], transform
        case "unknown wrapper":
            raw = photos()
            return Wrapper(Items(raw, transform=transform)), raw, LABELS, transform
    return Items(raw, transform=transform), raw, LABELS, transform


FORMS = [
    *("PIL", "grey", "tensor", "matrix", "array, channels first", "array, channels last", "tv_tensor"),
    *("TensorDataset", "Subset", "ConcatDataset", "ImageFolder", "subclass of ImageFolder", "unknown wrapper"),
]


def moved(image, v):
    r"""Returns a raw image moved, by way of a tensor with the channels first if it is an array."""
    if not isinstance(image, np.ndarray):
        return move(image, v)
    if image.shape[-1] == 3:
        return move(torch.from_numpy(image.transpose(2, 0, 1).copy()), v).numpy().transpose(1, 2, 0)
    return move(torch.from_numpy(image), v).numpy()


def as_array(image):
    return np.asarray(image)


def assert_equal(first, second):
    assert type(first) is type(second)
    if isinstance(first, Image.Image):
        assert first.mode == second.mode
    np.testing.assert_array_equal(as_array(first), as_array(second))


def differ(first, second):
    return as_array(first).shape != as_array(second).shape or (as_array(first) != as_array(second)).any()


def synthetic_indices(augmented):
    return np.flatnonzero(augmented.is_synthetic).tolist()


@pytest.fixture
def source():
    return Motions()


@pytest.fixture
def augmented(source):
    r"""Returns an augmented dataset of photographs that differ in size."""
    return AugmentedDataset(Items(photos(), transform=negative), source, images_to_add=ADDED)


@pytest.mark.parametrize("form", FORMS)
def test_deformed_items_are_real_images_moved_and_then_transformed(form, source, tmp_path):
    dataset, raw, labels, transform = build(form, tmp_path)
    augmented = AugmentedDataset(dataset, source, images_to_add=ADDED)
    assert augmented.targets == [*labels, *[1] * 7, *[2] * 3]
    assert len(augmented) == len(labels) + 10
    changed = 0
    for index in synthetic_indices(augmented):
        image, label = augmented[index]
        original, v = augmented.source_of(index), augmented.motion_of(index)
        assert labels[original] == label == augmented.targets[index]
        assert v.shape == (1, 2, 8, 8)
        assert_equal(image, transform(moved(raw[original], v)))
        changed += differ(image, transform(raw[original]))
    assert changed == 10


@pytest.mark.parametrize("form", FORMS)
def test_real_items_stay_as_they_are_and_single_items_equal_batched_ones(form, source, tmp_path):
    dataset, raw, labels, transform = build(form, tmp_path)
    augmented = AugmentedDataset(dataset, source, images_to_add=ADDED)
    indices = [*range(len(augmented)), len(labels), 0, len(labels)]
    for index, (image, label) in zip(indices, augmented.__getitems__(indices), strict=True):
        again, label_again = augmented[index]
        assert_equal(image, again)
        assert label == label_again == augmented.targets[index]
        assert type(label) is int
        if index < len(labels):
            assert_equal(image, transform(raw[index]))
            assert augmented.source_of(index) == index
            assert augmented.motion_of(index) is None


@pytest.mark.parametrize("form", FORMS)
def test_the_dataset_never_changes(form, source, tmp_path):
    dataset, raw, _, transform = build(form, tmp_path)
    before = vars(dataset).copy()
    augmented = AugmentedDataset(dataset, source, images_to_add=ADDED, motion=Motion(source.bank, p=1.0))
    augmented.__getitems__(list(range(len(augmented))))
    assert vars(dataset).keys() == before.keys()
    assert all(vars(dataset)[name] is value for name, value in before.items())
    for index, image in enumerate(raw):
        assert_equal(dataset[index][0], transform(image))


def paired_with_a_number(image):
    return image, 3


@pytest.mark.parametrize("form", FORMS)
def test_items_of_a_batch_are_moved_as_single_ones(form, source, tmp_path, monkeypatch):
    dataset, *_ = build(form, tmp_path)
    motion = Motion(planted_bank(), p=1.0)
    augmented = AugmentedDataset(dataset, source, images_to_add=ADDED, motion=motion, transform=paired_with_a_number)
    indices = [3, len(augmented) - 1, 0, 3, 5]
    field = motion.bank.fields[:1].float()
    monkeypatch.setattr(motion.bank, "draw", lambda n, strength: field.expand(n, -1, -1, -1))
    batch = augmented.__getitems__(indices)
    raw = AugmentedDataset(dataset, source, images_to_add=ADDED, transform=None)
    for index, ((image, number), label) in zip(indices, batch, strict=True):
        (expected, _), expected_label = augmented[index]
        assert (number, label) == (3, expected_label)
        assert type(image) is type(expected)
        # Products of more rows round otherwise, by one value of 256.
        values, expected_values = as_array(image).astype(int), as_array(expected).astype(int)
        assert np.abs(values - expected_values).max() <= 1
        assert (values != expected_values).mean() < 0.01
        # Deformed images are not moved again.
        assert differ(image, raw[index][0]) != augmented.is_synthetic[index]


@pytest.mark.parametrize("kind", ["PIL image", "tensor", "array"])
def test_photograph_of_a_batch_is_transformed_before_the_next_is_read(kind, source, monkeypatch):
    events = []
    photographs = [torch.from_numpy(one) for one in pixels(10, 3, 210, 210)]
    if kind != "tensor":
        photographs = [np.ascontiguousarray(one.permute(1, 2, 0)) for one in photographs]
    if kind == "PIL image":
        photographs = [Image.fromarray(one) for one in photographs]

    class Watched(Items):
        def __getitem__(self, index):
            events.append("read")
            return super().__getitem__(index)

    def shrink(image):
        events.append("transformed")
        return image

    augmented = AugmentedDataset(
        Watched(photographs), source, images_to_add=ADDED, motion=Motion(planted_bank(), p=1.0), transform=shrink
    )
    events.clear()
    augmented.__getitems__([0, 1, len(augmented) - 1, 2])
    assert events == ["read", "transformed"] * 4
    # Small images are read together.
    monkeypatch.setattr(synthetic, "VALUES_TOGETHER", 2 * 3 * 210**2)
    events.clear()
    augmented.__getitems__([0, 1, len(augmented) - 1, 2])
    assert events == ["read", "read", "transformed", "transformed"] * 2


def test_images_of_tensors_can_be_changed_without_effect_on_others(source):
    tensors = torch.from_numpy(pixels(10, 3, 12, 9))
    augmented = AugmentedDataset(Items(list(tensors)), source, images_to_add=ADDED)
    index = synthetic_indices(augmented)[0]
    first = augmented[index][0]
    expected = first.clone()
    first.zero_()
    assert torch.equal(augmented[index][0], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint16, torch.int32, torch.bool])
def test_every_type_of_value_keeps_its_type_and_range(dtype, source):
    images = torch.from_numpy(pixels(10, 1, 12, 12)).to(torch.int32) * 200
    images = (images > 25000) if dtype == torch.bool else images.to(dtype)
    augmented = AugmentedDataset(TensorDataset(images, torch.tensor(LABELS)), source, images_to_add=ADDED)
    for index in synthetic_indices(augmented):
        image, original = augmented[index][0], images[augmented.source_of(index)]
        assert image.dtype == dtype
        # Interpolation leads to no value outside the range of the image.
        assert image.double().min() >= original.double().min()
        assert image.double().max() <= original.double().max()
        assert not torch.equal(image, original)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "I", "F", "CMYK"])
def test_photographs_of_every_mode_keep_mode_and_size(mode, source):
    if mode == "I;16":
        raw = [Image.fromarray(pixels(*size, seed=n).astype(np.uint16) * 250) for n, size in enumerate(SIZES)]
    elif mode in ("RGBA", "LA"):
        channels = len(mode)
        raw = [
            Image.frombytes(mode, size[::-1], pixels(*size, channels, seed=n).tobytes()) for n, size in enumerate(SIZES)
        ]
    else:
        raw = photos(mode=mode)
    augmented = AugmentedDataset(Items(raw), source, images_to_add=ADDED)
    for index in synthetic_indices(augmented):
        image, original = augmented[index][0], raw[augmented.source_of(index)]
        assert (image.mode, image.size) == (mode, original.size)
        assert_equal(image, move(original, augmented.motion_of(index)))
        assert image.tobytes() != original.tobytes()


def test_sources_are_used_equally_often_and_are_of_the_class(augmented):
    sources = Counter(augmented.source_of(index) for index in synthetic_indices(augmented))
    assert {LABELS[original] for original in sources} == {1, 2}
    assert sources.pop(1) == 3
    assert sources.keys() == {3, 5, 7}
    assert sorted(sources.values()) == [2, 2, 3]


def test_motions_differ_between_items(augmented):
    fields = torch.cat([augmented.motion_of(index) for index in synthetic_indices(augmented)])
    assert len(fields.flatten(1).unique(dim=0)) == 10


def test_class_of_one_image_gets_different_images(augmented):
    images = [augmented[index][0].tobytes() for index in synthetic_indices(augmented) if augmented.targets[index] == 2]
    assert len(set(images)) == 3


def items_of(augmented):
    return [(augmented[index][0].tobytes(), augmented.source_of(index)) for index in synthetic_indices(augmented)]


def test_each_epoch_has_images_of_its_own(source):
    make = partial(AugmentedDataset, Items(photos()), source, images_to_add=ADDED)
    first, second = make(), make()
    epoch_0 = items_of(first)
    first.set_epoch(1)
    epoch_1 = items_of(first)
    assert all(a != b for a, b in zip(epoch_0, epoch_1, strict=True))
    second.set_epoch(5)
    second.set_epoch(1)
    assert items_of(second) == epoch_1
    first.set_epoch(0)
    assert items_of(first) == epoch_0
    assert items_of(make(seed=1)) != epoch_0


def test_running_workers_see_the_next_epoch(source):
    dataset = Items(photos(), transform=np.asarray)
    augmented, expected = (AugmentedDataset(dataset, source, images_to_add=ADDED) for _ in range(2))
    assert augmented.shares_images
    loader = DataLoader(augmented, batch_size=6, num_workers=2, persistent_workers=True, collate_fn=list)
    for epoch in (0, 1, 4):
        augmented.set_epoch(epoch)
        expected.set_epoch(epoch)
        received = [item for batch in loader for item in batch]
        assert len(received) == len(augmented)
        for index, (image, label) in enumerate(received):
            np.testing.assert_array_equal(image, expected[index][0])
            assert label == expected.targets[index]
    del loader


def test_pickled_copies_have_the_same_items_and_go_their_own_way(augmented):
    augmented.set_epoch(3)
    expected = items_of(augmented)
    copy = pickle.loads(pickle.dumps(augmented))
    assert items_of(copy) == expected
    assert [copy.motion_of(i).tolist() for i in (10, 19)] == [augmented.motion_of(i).tolist() for i in (10, 19)]
    copy.set_epoch(4)
    assert items_of(augmented) == expected
    augmented.set_epoch(4)
    assert items_of(copy) == items_of(augmented)


@pytest.mark.parametrize("side", [8, 40])
def test_deformed_item_takes_less_than_a_kilobyte_whatever_its_size(side, source):
    images = torch.from_numpy(pixels(10, 3, side, side))

    def size(number):
        dataset = TensorDataset(images, torch.tensor(LABELS))
        return len(pickle.dumps(AugmentedDataset(dataset, source, images_to_add={1: number})))

    assert 256 <= (size(1100) - size(100)) / 1000 < 1024


def test_cache_dir_stays_empty_without_pixels(source, tmp_path):
    augmented = AugmentedDataset(Items(photos()), source, images_to_add=ADDED, cache_dir=tmp_path)
    assert augmented.shares_images
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def quick_motions(monkeypatch):
    monkeypatch.setattr(learning, "MOTIONS_PER_CLASS", 4)


def model(synthesis="auto"):
    return GenerativeModel(synthesis=synthesis, epochs=2, delta=100.0, architecture=(8,), latent_dim=2)


@pytest.fixture
def fit(quick_motions):
    r"""Fits an augmenter, and plants strong motions, since two epochs teach weak ones."""

    def fit(dataset, choice=None, **options):
        augmenter = GAEAugmenter(
            choice or model(), working_size=8, random_state=0, progress=False, device="cpu", **options
        ).fit(dataset)
        augmenter.motions_ = BANK
        return augmenter

    return fit


def test_augmenter_deforms_images_of_mixed_sizes(fit):
    raw = photos()
    dataset = Items(raw, transform=negative)
    augmented = fit(dataset).augment(dataset)
    assert np.bincount(augmented.targets).tolist() == [6, 6, 6]
    for index in synthetic_indices(augmented):
        original, v = augmented.source_of(index), augmented.motion_of(index)
        assert LABELS[original] == augmented.targets[index]
        assert_equal(augmented[index][0], negative(move(raw[original], v)))
        assert differ(augmented[index][0], negative(raw[original]))


def test_residual_and_deformed_classes_share_a_dataset(fit):
    images = torch.from_numpy(pixels(10, 3, 8, 8))
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    dataset = TensorDataset(images, torch.tensor(labels))
    augmenter = fit(dataset, {1: model("residual"), 2: model("deformed")}, sampling_strategy={1: 6, 2: 7})
    augmented = augmenter.augment(dataset)
    assert augmented.targets == [*labels, 1, 1, 1, 2, 2, 2, 2]
    residual, deformed = [10, 11, 12], [13, 14, 15, 16]
    for index in residual:
        assert augmented.source_of(index) is None
        assert augmented.motion_of(index) is None
    assert torch.equal(torch.stack([augmented[index][0] for index in residual]), augmented.synthetic_images(1))
    for index in deformed:
        expected = move(images[augmented.source_of(index)], augmented.motion_of(index))
        assert torch.equal(augmented[index][0], expected)
        assert labels[augmented.source_of(index)] == 2
    # The loader of batches mixes both kinds.
    for indices in ([16, 10, 3, 12, 14], residual, deformed):
        batch = augmented.__getitems__(indices)
        assert all(torch.equal(image, augmented[i][0]) for (image, _), i in zip(batch, indices, strict=True))
    before = [augmented[index][0] for index in deformed]
    augmented.set_epoch(1)
    assert not any(torch.equal(augmented[index][0], b) for index, b in zip(deformed, before, strict=True))


def test_real_images_of_all_classes_are_moved_but_deformed_ones_not_twice(fit):
    images = torch.from_numpy(pixels(10, 3, 8, 8))
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    dataset = Items(list(images), labels, transform=negative)
    augmenter = fit(dataset, {1: model("residual"), 2: model("deformed")}, sampling_strategy={1: 6, 2: 7})
    # A flip stands for the motion. It does not commute with the transform.
    moving = AugmentedDataset(dataset, augmenter, motion=lambda image: image.flip(-1), transform=blacken_first_column)
    for index in range(10):
        assert torch.equal(moving[index][0], blacken_first_column(images[index].flip(-1)))
    raw = augmenter.augment(dataset, transform=None)
    for index in range(10, 13):
        assert torch.equal(moving[index][0], blacken_first_column(raw[index][0].flip(-1)))
    for index in range(13, 17):
        assert torch.equal(moving[index][0], blacken_first_column(raw[index][0]))
    batch = moving.__getitems__(list(range(17)))
    assert all(torch.equal(image, moving[index][0]) for index, (image, _) in enumerate(batch))


def blacken_first_column(image):
    image = image.clone()
    image[..., 0] = 0
    return image


@pytest.mark.parametrize("form", FORMS)
def test_motion_moves_real_images_before_the_transforms(form, source, tmp_path):
    dataset, raw, labels, transform = build(form, tmp_path)
    motion = Motion(source.bank, p=1.0)
    moving = AugmentedDataset(dataset, source, images_to_add=ADDED, motion=motion)
    still = AugmentedDataset(dataset, source, images_to_add=ADDED)
    for index, image in enumerate(raw):
        torch.manual_seed(index)
        received, label = moving[index]
        torch.manual_seed(index)
        torch.rand(1)
        expected = transform(moved(image, source.bank.draw(1)))
        assert_equal(received, expected)
        assert differ(received, transform(image))
        assert label == labels[index]
    for index in synthetic_indices(still):
        assert_equal(moving[index][0], still[index][0])


@pytest.mark.parametrize("form", FORMS)
def test_motion_of_probability_0_changes_no_item(form, source, tmp_path):
    dataset, *_ = build(form, tmp_path)
    still = AugmentedDataset(dataset, source, images_to_add=ADDED)
    moving = AugmentedDataset(dataset, source, images_to_add=ADDED, motion=Motion(source.bank, p=0.0))
    for index in range(len(still)):
        assert_equal(moving[index][0], still[index][0])


class RandomBrightness(Items):
    r"""Changes images at random by itself, out of sight of the package."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image // int(torch.randint(1, 200, ())), label


def test_motion_keeps_the_random_numbers_of_the_dataset(source):
    dataset = RandomBrightness(list(torch.from_numpy(pixels(10, 3, 8, 8))))
    augmented = AugmentedDataset(dataset, source, images_to_add=ADDED, motion=Motion(source.bank, p=0.0))
    images = {bytes(augmented[0][0].numpy()) for _ in range(10)}
    assert len(images) > 3


def test_soft_labels_of_deformed_items_mix_in_the_teacher(source):
    images = torch.from_numpy(pixels(10, 3, 12, 9))
    augmented = AugmentedDataset(TensorDataset(images, torch.tensor(LABELS)), source, images_to_add=ADDED)

    def teacher(batch):
        return batch.float().flatten(1)[:, :3] / 50

    augmented.with_soft_labels(teacher, 0.25)
    for epoch in (0, 1):
        augmented.set_epoch(epoch)
        for index in synthetic_indices(augmented):
            image, soft = augmented[index]
            one_hot = torch.eye(3)[augmented.targets[index]]
            torch.testing.assert_close(soft, 0.75 * one_hot + 0.25 * teacher(image[None])[0].softmax(dim=0))
    torch.testing.assert_close(augmented[3][1], torch.tensor([0.0, 1.0, 0.0]))


def test_mixed_sampler_draws_deformed_items(augmented):
    sampler = MixedSampler(augmented, 1.0, num_samples=300)
    loader = DataLoader(augmented, batch_size=50, sampler=sampler, collate_fn=list)
    drawn = sampler.draw(0).tolist()
    items = [item for batch in loader for item in batch]
    counts = Counter(label for _, label in items)
    assert all(70 <= counts[label] <= 130 for label in range(3))
    assert set(synthetic_indices(augmented)) < set(drawn)
    for index, (image, label) in zip(drawn, items, strict=True):
        assert label == augmented.targets[index]
        assert_equal(image, augmented[index][0])


def test_synthetic_images_of_one_size_are_one_tensor(source):
    images = torch.from_numpy(pixels(10, 3, 12, 9))
    augmented = AugmentedDataset(Items(list(images), transform=negative), source, images_to_add=ADDED)
    tensor = augmented.synthetic_images(1)
    indices = [index for index in synthetic_indices(augmented) if augmented.targets[index] == 1]
    assert tensor.shape == (7, 3, 12, 9)
    assert all(torch.equal(255 - row, augmented[index][0]) for row, index in zip(tensor, indices, strict=True))


def test_synthetic_images_of_several_sizes_are_refused(augmented):
    with pytest.raises(ValueError, match="differ in size"):
        augmented.synthetic_images(1)
    assert augmented.synthetic_images(2).shape == (3, 3, 12, 12)


def test_synthetic_images_of_several_sizes_are_resized_to_one(augmented):
    resized = augmented.synthetic_images(1, 2, (6, 5))
    assert resized.shape == (2, 3, 6, 5)
    indices = [index for index in synthetic_indices(augmented) if augmented.targets[index] == 1][:2]
    for row, index in zip(resized, indices, strict=True):
        image = pil_to_tensor(augmented.raw_image(index)).float()
        assert_equal(augmented[index][0], negative(augmented.raw_image(index)))
        # Antialiasing by another library, which differs in its filter.
        expected = functional.adaptive_avg_pool2d(image, (6, 5))
        assert (row.float() - expected).abs().mean() < 0.5 * (expected - expected.mean()).abs().mean()


def test_residual_images_of_larger_photographs_are_an_error_with_a_remedy(fit):
    dataset = Items(photos([(12, 9)] * 10), [0] * 7 + [1] * 3)
    augmenter = fit(dataset, model("residual"))
    with pytest.raises(ValueError, match=r"have the working size, 8x8, but images of 12x9 .* working_size=\(12, 9\)"):
        augmenter.augment(dataset)


def test_file_that_vanished_since_the_fit_is_named(fit, tmp_path):
    folder = ImageFolder(write_folder(tmp_path, photos()))
    augmented = fit(folder).augment(folder)
    index = next(i for i in synthetic_indices(augmented) if augmented.targets[i] == 2)
    path = folder.samples[augmented.source_of(index)][0]
    (tmp_path / "class 2" / "1.png").unlink()
    for read in (lambda: augmented[index], lambda: augmented.__getitems__([0, index])):
        with pytest.raises(ValueError, match=f"Item {augmented.source_of(index)} of the dataset cannot be read") as e:
            read()
        assert path in str(e.value)
    # Other items can still be read.
    assert augmented[0][1] == 0


def test_image_that_changed_its_size_since_the_fit_is_moved_at_its_new_size(fit, tmp_path):
    folder = ImageFolder(write_folder(tmp_path, photos()))
    augmented = fit(folder).augment(folder)
    larger = Image.fromarray(pixels(31, 25, 3, seed=99))
    larger.save(tmp_path / "class 2" / "1.png")
    indices = [i for i in synthetic_indices(augmented) if augmented.targets[i] == 2]
    assert len(indices) == 5
    for index in indices:
        assert_equal(augmented[index][0], move(larger, augmented.motion_of(index)))


def test_class_without_real_images_in_another_dataset_is_named(fit):
    augmenter = fit(Items(photos()))
    other = Items(photos(SIZES[:4]), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="Class 2 has no real image in this dataset"):
        AugmentedDataset(other, augmenter, images_to_add={1: 2, 2: 3})
    augmented = AugmentedDataset(other, augmenter, images_to_add={1: 2})
    assert {augmented.source_of(4), augmented.source_of(5)} == {1, 3}


def test_indices_outside_the_dataset_are_refused(augmented):
    for read in (augmented.source_of, augmented.motion_of):
        with pytest.raises(IndexError, match="Index 20 is out of range: the dataset has 20 items"):
            read(20)
    assert augmented.source_of(-1) == augmented.source_of(19)
    assert torch.equal(augmented.motion_of(-1), augmented.motion_of(19))
