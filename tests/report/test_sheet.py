r"""The picture of real images and the synthetic ones below them, cell by cell."""

import numpy as np
import pytest
import torch
from image_items import ImageItems
from PIL import Image, ImageDraw

from gae_augment import AugmentedDataset
from gae_augment._utils.seeding import make_generator
from gae_augment.motion import MotionBank, move
from gae_augment.motion.fields import invertible
from gae_augment.report import contact_sheet

SIDE, MARGIN, TEXT = 16, 4, 16
"""The longest side of a drawn image, the space between images, and the height of a line of text, in pixels."""

LABELS = [0] * 4 + [1] * 2 + [2]


class Images(ImageItems):
    def __init__(self, images, labels=LABELS, transform=None):
        super().__init__(images, labels, transform)


class Source:
    r"""Stands for a fitted augmenter: classes in ``deformed`` are moved, and those of others are given pixels."""

    seed_ = 0
    sampling_strategy = "auto"

    def __init__(self, deformed=(1, 2), added=(0, 2, 3), strength=0.15, pixels=None):
        fields = strength * torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        self.bank = MotionBank({0: (0.9 * invertible(fields)).half()})
        self.deformed, self.pixels = deformed, pixels
        self.sampling_strategy_ = dict(enumerate(added))
        self.class_names_ = {0: "ant", 1: "bee", 2: "wasp"}

    def motions_for(self, label, n, *, seed):
        return self.bank.draw(n, generator=make_generator(seed, label)) if label in self.deformed else None

    def sample(self, label, n, *, seed=None, out=None):
        return self.pixels.expand(n, *self.pixels.shape)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photos():
    sizes = [(16, 10), (16, 16), (9, 16), (16, 12), (16, 11), (16, 14), (13, 16)]
    return [Image.fromarray(pixels(*size, 3, seed=number)) for number, size in enumerate(sizes)]


def cell(sheet, row_top, column, size=(SIDE, SIDE)):
    r"""Returns the pixels of a drawn image of a width and height, and checks that white follows them."""
    left = column * (SIDE + MARGIN)
    area = np.asarray(sheet.crop((left, row_top, left + SIDE + MARGIN, row_top + SIDE + MARGIN)))
    assert (area[size[1] :] == 255).all()
    assert (area[:, size[0] :] == 255).all()
    return area[: size[1], : size[0]]


def draw(dataset, source, columns=3, seed=0):
    return contact_sheet(source, dataset, columns=columns, side=SIDE, seed=seed)


def test_each_class_has_a_row_of_real_and_one_of_synthetic_images_with_their_motions():
    dataset, source = Images(photos()), Source()
    sheet = draw(dataset, source)
    height = TEXT + 3 * (SIDE + MARGIN)
    assert (sheet.mode, sheet.size) == ("RGB", (3 * (SIDE + MARGIN), 2 * height))
    augmented = AugmentedDataset(dataset, source, images_to_add={1: 3, 2: 3}, seed=0)
    for number, label in enumerate((1, 2)):
        top = number * height
        text = np.asarray(sheet.crop((0, top, sheet.width, top + TEXT)))
        assert (text < 128).any()
        indices = [i for i in range(len(LABELS), len(augmented)) if augmented.targets[i] == label]
        for column, index in enumerate(indices):
            original = dataset.images[augmented.source_of(index)]
            moved = move(original, augmented.motion_of(index))
            np.testing.assert_array_equal(cell(sheet, top + TEXT, column, original.size), np.asarray(original))
            synthetic = cell(sheet, top + TEXT + SIDE + MARGIN, column, original.size)
            np.testing.assert_array_equal(synthetic, np.asarray(moved))
            assert (synthetic != np.asarray(original)).mean() > 0.1
            assert LABELS[augmented.source_of(index)] == label


def test_grid_is_moved_as_the_image():
    dataset = Images(photos())
    size = dataset.images[6].size
    grid = Image.new("RGB", size, "white")
    for k in range(9):
        x, y = round(k / 8 * (size[0] - 1)), round(k / 8 * (size[1] - 1))
        ImageDraw.Draw(grid).line([(x, 0), (x, size[1])], fill="black")
        ImageDraw.Draw(grid).line([(0, y), (size[0], y)], fill="black")
    top = TEXT + 2 * (SIDE + MARGIN)
    still = draw(dataset, Source(added=(0, 0, 1), strength=0.0))
    np.testing.assert_array_equal(cell(still, top, 0, size), np.asarray(grid))
    source = Source(added=(0, 0, 1))
    moving = draw(dataset, source)
    augmented = AugmentedDataset(dataset, source, images_to_add={2: 3}, seed=0)
    for column in range(3):
        bent = cell(moving, top, column, size)
        np.testing.assert_array_equal(bent, np.asarray(move(grid, augmented.motion_of(len(LABELS) + column))))
        assert (bent != np.asarray(grid)).any()


def test_only_deformed_images_have_a_grid():
    images = torch.from_numpy(pixels(7, 3, 16, 16))
    dataset = Images(list(images))
    source = Source(deformed=(2,), pixels=torch.from_numpy(pixels(3, 16, 16, seed=1)))
    sheet = draw(dataset, source)
    first, second = TEXT + 2 * (SIDE + MARGIN), TEXT + 3 * (SIDE + MARGIN)
    assert sheet.height == first + second
    for column in range(3):
        # The two real images of the class fill three columns.
        real = cell(sheet, TEXT, column).transpose(2, 0, 1)
        np.testing.assert_array_equal(real, images[4 + column % 2])
        synthetic = cell(sheet, TEXT + SIDE + MARGIN, column).transpose(2, 0, 1)
        np.testing.assert_array_equal(synthetic, source.pixels)
        np.testing.assert_array_equal(cell(sheet, first + TEXT, column).transpose(2, 0, 1), images[6])
    without = draw(dataset, Source(deformed=(), pixels=source.pixels))
    assert without.height == 2 * first


def grey_picture(values):
    return np.repeat(values[:, :, None], 3, axis=2)


BYTES = pixels(16, 12)
WIDE = (BYTES.astype(np.int64) - BYTES.min()) / (BYTES.max() - BYTES.min())
COLOURS = pixels(16, 12, 4)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(BYTES), grey_picture(BYTES)),
        (Image.fromarray(BYTES > 128), grey_picture((BYTES > 128) * np.uint8(255))),
        (Image.fromarray(BYTES.astype(np.uint16) * 200), grey_picture((255 * WIDE).round())),
        (Image.fromarray(BYTES.astype(np.float32) / 255), grey_picture(BYTES)),
        (Image.fromarray(COLOURS), COLOURS[..., :3]),
        (Image.frombytes("LA", (12, 16), COLOURS[..., :2].tobytes()), grey_picture(COLOURS[..., 0])),
        (COLOURS[..., :3].copy(), COLOURS[..., :3]),
        (COLOURS[..., :3].transpose(2, 0, 1).copy(), COLOURS[..., :3]),
        (BYTES, grey_picture(BYTES)),
        (torch.from_numpy(BYTES)[None], grey_picture(BYTES)),
        (torch.from_numpy(BYTES) / 255, grey_picture(BYTES)),
        (torch.from_numpy(BYTES).double() * 3 - 700, grey_picture((255 * WIDE).round())),
        (torch.from_numpy(BYTES).int() * 1000, grey_picture((255 * WIDE).round())),
        (torch.from_numpy(BYTES) > 128, grey_picture((BYTES > 128) * np.uint8(255))),
        (torch.zeros(1, 16, 12), grey_picture(np.zeros((16, 12)))),
        (torch.full((1, 16, 12), 7.0), grey_picture(np.zeros((16, 12)))),
    ],
)
def test_images_of_every_type_are_shown(image, expected):
    sheet = draw(Images([image] * 7), Source(added=(0, 0, 1)), columns=1)
    np.testing.assert_array_equal(cell(sheet, TEXT, 0, (12, 16)), expected)
    assert sheet.height == TEXT + 3 * (SIDE + MARGIN)


def test_large_and_small_images_fit_into_their_cells():
    large = Image.new("RGB", (200, 50), (10, 200, 30))
    small = Image.new("RGB", (4, 8), (200, 10, 30))
    dataset = Images([large, large, large, large, large, large, small])
    sheet = draw(dataset, Source(strength=0.01))
    height = TEXT + 3 * (SIDE + MARGIN)
    assert (cell(sheet, TEXT, 0, (16, 4)) == (10, 200, 30)).all()
    assert (cell(sheet, height + TEXT, 0, (8, 16)) == (200, 10, 30)).all()


def test_transforms_of_the_dataset_have_no_effect():
    plain, transformed = (Images(photos(), transform=transform) for transform in (None, np.asarray))
    assert draw(plain, Source()).tobytes() == draw(transformed, Source()).tobytes()


def test_seed_decides_about_the_picture():
    dataset = Images(photos())
    first, again, other = (draw(dataset, Source(), seed=seed).tobytes() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_balanced_classes_are_refused():
    with pytest.raises(ValueError, match="No class needs images"):
        draw(Images(photos()), Source(added=(0, 0, 0)))
