r"""Synthetic images outside the range of the real ones are drawn again, then left out."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data import open_folder
from gae_augment.export import select_images, selection, write_images
from gae_augment.motion import learning, registration


def photograph(number):
    r"""Returns a striped photograph, whose width, phase and brightness depend on a number."""
    x, y = np.meshgrid(np.arange(70 + number), np.arange(60))
    wave = np.sin(0.3 * x + number) + 0.5 * np.sin(0.5 * y + number)
    return Image.fromarray((110 + 4 * number + 50 * wave).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name, count in (("common", 12), ("scarce", 5)):
        (root / name).mkdir()
        for number in range(count):
            photograph(number).save(root / name / f"{number}.png")
    return open_folder(root)


@pytest.fixture(scope="module")
def augmenter(real):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "MOTIONS_PER_CLASS", 4)
        patch.setattr(registration, "STEPS", 2)
        model = GenerativeModel(epochs=2, delta=100.0, architecture=(8,), latent_dim=2)
        return GAEAugmenter(model, random_state=0, progress=False, device="cpu").fit(real)


def key(chosen):
    return chosen.source, tuple(chosen.motion.flatten().tolist())


def test_images_within_the_range_are_all_kept(real, augmenter, monkeypatch):
    # The real images themselves lie in their own range, and are exactly as sharp and as bright.
    monkeypatch.setattr(selection, "move", lambda image, v: image)
    (chosen,) = select_images(augmenter, real, images_to_add={1: 10}).values()
    assert (len(chosen.chosen), chosen.rejected, chosen.left_out, chosen.is_poor) == (10, 0, 0, False)
    assert chosen.like_real == pytest.approx({"sharpness": 1, "brightness": 1, "resolution": 1})
    # Each of the five real images is the source of two.
    assert sorted(one.source for one in chosen.chosen) == sorted([*range(12, 17)] * 2)


def test_transforms_of_the_folder_have_no_effect(real, augmenter):
    seen_by_a_classifier = copy.copy(real)
    seen_by_a_classifier.transform = v2.Compose([v2.Resize((9, 9)), v2.ToImage()])
    (expected,), (chosen,) = (
        select_images(augmenter, folder, images_to_add={1: 6}).values() for folder in (real, seen_by_a_classifier)
    )
    assert list(map(key, chosen.chosen)) == list(map(key, expected.chosen))
    assert chosen.like_real == expected.like_real


FAULTS = {
    "darker than any": lambda image: image.point(lambda value: value // 2),
    "brighter than any": lambda image: image.point(lambda value: min(255, value + 60)),
    "less sharp than any": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "sharper than any": lambda image: image.filter(ImageFilter.UnsharpMask(2, 300, 0)),
    # Brightness and sharpness stay.
    "unlike any": lambda image: image.transpose(Image.Transpose.ROTATE_90).resize(image.size, Image.Resampling.NEAREST),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_images_outside_the_range_are_drawn_again_and_then_left_out(real, augmenter, monkeypatch, fault):
    draws = []

    def first_draws_are_faulty(image, v):
        draws.append(v)
        return fault(image) if len(draws) in (1, 2) else image

    with torch_threads(1):
        monkeypatch.setattr(selection, "POOR", 0.0)
        monkeypatch.setattr(selection, "move", first_draws_are_faulty)
        (chosen,) = select_images(augmenter, real, images_to_add={1: 4}).values()
        assert (len(chosen.chosen), chosen.rejected, chosen.left_out) == (4, 2, 0)
        assert len(draws) == 6
        # Each draw has a motion of its own.
        assert len({tuple(v.flatten().tolist()) for v in draws}) == 6
        monkeypatch.setattr(selection, "move", lambda image, v: fault(image))
        (none,) = select_images(augmenter, real, images_to_add={1: 4}).values()
    assert (none.chosen, none.rejected, none.left_out, none.like_real) == ((), 4 * selection.TRIES, 4, {})


class torch_threads:  # noqa: N801
    r"""Context manager: a number of threads, so that calls have an order."""

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.number)

    def __exit__(self, *_):
        torch.set_num_threads(self.before)


def test_class_of_blurred_images_gets_none(real, augmenter, monkeypatch):
    def blurred(image, v):
        return image.filter(ImageFilter.GaussianBlur(4))

    monkeypatch.setattr(selection, "move", blurred)
    (poor,) = select_images(augmenter, real, images_to_add={1: 4}).values()
    assert poor.is_poor
    assert (poor.chosen, poor.left_out) == ((), 4)
    # The ratio of the medians, by hand.
    sharpness = {
        fault: np.median([selection.image_statistics(make(real[row][0], None)).sharpness for row in range(12, 17)])
        for fault, make in (("real", lambda image, _: image), ("blurred", blurred))
    }
    assert poor.like_real["sharpness"] == pytest.approx(sharpness["blurred"] / sharpness["real"], rel=0.2)
    assert poor.like_real["sharpness"] < 0.5


def test_class_of_small_images_gets_none(real, augmenter, monkeypatch):
    monkeypatch.setattr(selection, "move", lambda image, v: image.resize((image.width // 3, image.height // 3)))
    (poor,) = select_images(augmenter, real, images_to_add={1: 4}).values()
    assert poor.is_poor
    assert poor.like_real["resolution"] == pytest.approx(1 / 3, abs=0.02)


def test_same_seed_selects_the_same_images_on_any_number_of_threads(real, augmenter, monkeypatch):
    # Every third motion is rejected.
    move = selection.move

    def sometimes_dark(image, v):
        return image.point(lambda value: value // 3) if int(1e6 * v.abs().sum()) % 3 == 0 else move(image, v)

    monkeypatch.setattr(selection, "POOR", 0.0)
    monkeypatch.setattr(selection, "move", sometimes_dark)
    results = []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        with torch_threads(threads):
            (chosen,) = select_images(augmenter, real, images_to_add={1: 12}, seed=seed).values()
        assert chosen.rejected > 0
        results.append([key(one) for one in chosen.chosen])
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_chosen_images_are_written(real, augmenter, tmp_path):
    selections = select_images(augmenter, real, images_to_add={1: 3})
    write_images(real, tmp_path / "out", {label: one.chosen for label, one in selections.items()}, progress=False)
    new = sorted((tmp_path / "out" / "scarce").glob("synthetic_*.png"))
    assert len(new) == len(selections[1].chosen) == 3
    written = sorted(np.asarray(Image.open(path)).tobytes() for path in new)
    moved = [selection.move(real[one.source][0].convert("L"), one.motion) for one in selections[1].chosen]
    assert written == sorted(np.asarray(image).tobytes() for image in moved)


def test_sampled_images_are_judged_and_written_too(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name, count in (("common", 12), ("scarce", 6)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(90, 110, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    real = open_folder(tmp_path / "images")
    model = GenerativeModel(epochs=2, delta=100.0, architecture=(8,), latent_dim=2)
    augmenter = GAEAugmenter(model, random_state=0, progress=False, device="cpu").fit(real)
    images = torch.stack(
        [torch.from_numpy(np.asarray(real[row][0].convert("L")).copy())[None] for row in range(12, 18)]
    )
    calls = []

    def sample(label, n, *, seed):
        calls.append(n)
        faulty = images[:n].clone()
        if len(calls) == 1:
            faulty[1:3] = 250
        return faulty

    monkeypatch.setattr(augmenter, "sample", sample)
    monkeypatch.setattr(selection, "POOR", 0.0)
    (chosen,) = select_images(augmenter, real, images_to_add={1: 6}).values()
    assert calls == [6, 2]
    assert (len(chosen.chosen), chosen.rejected, chosen.left_out) == (6, 2, 0)
    write_images(real, tmp_path / "out", {1: chosen.chosen}, progress=False)
    written = sorted(np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "out/scarce").glob("synthetic_*"))
    assert written == sorted(images[k, 0].numpy().tobytes() for k in (0, 0, 1, 3, 4, 5))
