r"""An augmenter whose images are deformed: what it learns, keeps, saves and refuses."""

from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from augmenter_data import Pairs
from PIL import Image
from sklearn.exceptions import NotFittedError
from torch.nn import functional
from torch.utils.data import TensorDataset

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.files import read_file, write_file
from gae_augment.augmenter import augmenter as augmenter_module
from gae_augment.fitting import MOTION_IMAGES, learned_from
from gae_augment.motion import AdaptiveMotion, MotionBank, learning, move, registration
from gae_augment.motion.fields import invertible
from gae_augment.report import strategy_images

LABELS = [0] * 9 + [1] * 5 + [2] * 3 + [3]
"""Class 3 has one image."""


def register_quickly(patch):
    patch.setattr(learning, "MOTIONS_PER_CLASS", 4)
    patch.setattr(registration, "STEPS", 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    register_quickly(monkeypatch)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def large(labels=LABELS, side=(24, 20)):
    r"""Returns coloured images that are larger than the working size of the tests."""
    return TensorDataset(torch.from_numpy(pixels(len(labels), 3, *side)), torch.tensor(labels))


def photos(labels=LABELS):
    r"""Returns photographs of different sizes."""
    sizes = [(20 + number % 5, 26 - number % 7) for number in range(len(labels))]
    return Pairs([Image.fromarray(pixels(*size, 3, seed=n)) for n, size in enumerate(sizes)], labels)


def blobs(labels, side=8):
    r"""Returns images of a bright spot, whose place differs between the images of a class."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, len(labels), 1, 1, generator=generator) * side / 2 + side / 4).unbind()
    row, column = torch.arange(side)[:, None], torch.arange(side)[None]
    spots = torch.exp(-((row - y).square() + (column - x).square()) / 3)
    return (255 * spots).to(torch.uint8)[:, None], torch.tensor(labels)


def make(model=None, *, synthesis="deformed", **options):
    hyper_parameters = {"epochs": 2, "delta": 100.0, "architecture": (16,), "latent_dim": 2}
    model = model or GenerativeModel(synthesis=synthesis, **hyper_parameters)
    defaults = {"working_size": 8, "random_state": 0, "progress": False, "device": "cpu"}
    return GAEAugmenter(model, **defaults | options)


def strong(augmenter):
    r"""Plants motions that change images visibly, since two epochs teach weak ones."""
    fields = 0.2 * torch.randn(len(augmenter.motions_), 2, 8, 8, generator=torch.Generator().manual_seed(0))
    # A little weaker than needed, so that the rounding to half precision makes no map fold.
    fields = 0.95 * invertible(fields)
    numbers = list(augmenter.motions_.counts.values())
    augmenter.motions_ = MotionBank(dict(zip(augmenter.motions_.counts, fields.half().split(numbers), strict=True)))
    return augmenter


@pytest.fixture(scope="module")
def fitted():
    r"""Returns an augmenter fitted to photographs of different sizes. Tests must not change it."""
    with pytest.MonkeyPatch.context() as patch:
        register_quickly(patch)
        return strong(make().fit(photos()))


def items(augmenter, dataset):
    augmented = augmenter.augment(dataset)
    chosen = np.flatnonzero(augmented.is_synthetic).tolist()
    return [np.asarray(augmented[index][0]).tolist() for index in chosen], [augmented.source_of(i) for i in chosen]


def test_scarce_classes_have_models_and_all_classes_give_motions(fitted):
    assert fitted.sampling_strategy_ == {1: 4, 2: 6, 3: 8}
    assert list(fitted.models_) == [1, 2]
    assert fitted.failures_ == {}
    assert fitted.motions_.counts == {0: 4, 1: 4, 2: 4}
    assert len(fitted.motions_) == len(fitted.motions_.fields) == 12
    assert {label: report.images for label, report in fitted.report_.items()} == {1: 5, 2: 3}


def test_motions_per_class_shrink_when_classes_are_many(monkeypatch):
    monkeypatch.setattr(learning, "MAX_MOTIONS", 6)
    assert make().fit(large()).motions_.counts == {0: 2, 1: 2, 2: 2}


def test_samples_are_training_images_in_the_working_size_moved():
    dataset = large()
    augmenter = strong(make().fit(dataset))
    # All draws from a bank of one motion are this motion.
    augmenter.motions_ = MotionBank({0: augmenter.motions_.fields[:1]})
    raw = dataset.tensors[0]
    for label in (1, 2):
        samples = augmenter.sample(label, 6, seed=1)
        assert (samples.shape, samples.dtype) == ((6, 3, 8, 8), torch.uint8)
        small = [
            functional.interpolate(raw[index][None], (8, 8), mode="bilinear", antialias=True)[0]
            for index, of in enumerate(LABELS)
            if of == label
        ]
        possible = {bytes(move(image, augmenter.motions_.fields.float()).numpy()) for image in small}
        assert {bytes(sample.numpy()) for sample in samples} <= possible
        assert not {bytes(sample.numpy()) for sample in samples} & {bytes(image.numpy()) for image in small}


def test_sample_without_a_seed_gives_new_images_in_a_fixed_sequence(fitted):
    fitted._samplings = 0
    first, second = fitted.sample(1, 5), fitted.sample(1, 5)
    assert not torch.equal(first, second)
    fitted._samplings = 0
    assert torch.equal(fitted.sample(1, 5), first)
    out = torch.empty_like(first)
    fitted._samplings = 0
    assert fitted.sample(1, 5, out=out) is out
    assert torch.equal(out, first)


def test_class_of_one_image_is_moved_by_augment_alone(fitted):
    augmented = fitted.augment(photos())
    indices = [index for index in range(len(LABELS), len(augmented)) if augmented.targets[index] == 3]
    assert len(indices) == 8
    assert {augmented.source_of(index) for index in indices} == {17}
    with pytest.raises(ValueError, match=r"Class 3 has 1 image, .* use gae-augment balance"):
        fitted.sample(3, 1)


def test_one_image_is_too_few_for_motions_of_its_own():
    with pytest.raises(ValueError, match="Class 1 has 1 image, but a model needs at least 2"):
        make(sampling_strategy={1: 5}).fit(large([0, 1]))
    with pytest.raises(ValueError, match="Class 1 has 1 image, but a model needs at least 2"):
        make({1: make().model}).fit(large([0, 0, 0, 1], side=(8, 8)))


def test_fit_resample_refuses_a_class_of_one_image_before_any_training(no_training):
    X, y = large().tensors
    with pytest.raises(ValueError, match="Class 3 has 1 image, but a model needs at least 2"):
        make(working_size="auto").fit_resample(X, y)


def test_fit_resample_moves_rows_of_x():
    X, y = large(LABELS[:-1]).tensors
    augmenter = make(working_size="auto")
    X_all, y_all = augmenter.fit_resample(X, y)
    assert torch.equal(X_all[:17], X)
    assert y_all.tolist() == [*y.tolist(), *[1] * 4, *[2] * 6]
    assert X_all.shape[1:] == X.shape[1:]
    # The motions of two epochs are weak, so that each new row is close to a row of its class.
    for row, label in zip(X_all[17:].int(), y_all[17:].tolist(), strict=True):
        assert min((row - x).abs().float().mean() for x in X[y == label].int()) < 3


@pytest.mark.parametrize("parallel", ["threads", "threading backend", "two processes"])
def test_images_do_not_depend_on_how_classes_are_fitted(parallel):
    dataset = photos()
    expected = make().fit(dataset)
    if parallel == "threads":
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            augmenter = make().fit(dataset)
        finally:
            torch.set_num_threads(threads)
    elif parallel == "threading backend":
        with joblib.parallel_backend("threading", n_jobs=2):
            augmenter = make().fit(dataset)
    else:
        augmenter = make(n_jobs=2).fit(dataset)
    assert torch.equal(augmenter.motions_.fields, expected.motions_.fields)
    assert augmenter.motions_.counts == expected.motions_.counts
    assert items(augmenter, dataset) == items(expected, dataset)
    assert torch.equal(augmenter.sample(1, 3, seed=0), expected.sample(1, 3, seed=0))


def test_seed_of_the_fit_decides_about_motions_and_images():
    dataset = photos()
    first, again, other = (make(random_state=seed).fit(dataset) for seed in (0, 0, 1))
    assert torch.equal(first.motions_.fields, again.motions_.fields)
    assert not torch.equal(first.motions_.fields, other.motions_.fields)
    assert items(first, dataset) == items(again, dataset)
    assert items(first, dataset)[1] != items(other, dataset)[1]


def test_fit_and_augment_leave_the_global_random_numbers_alone(global_rngs_unmoved):
    dataset = photos(LABELS[9:])
    augmenter = make().fit(dataset)
    items(augmenter, dataset)
    augmenter.sample(2, 2)


def test_learned_motions_move_images(monkeypatch):
    monkeypatch.setattr(registration, "STEPS", 20)
    X, y = blobs([0] * 20 + [1] * 10)
    model = GenerativeModel(synthesis="deformed", epochs=150, delta=1e-6, learning_rate=1e-2, architecture=(32,))
    with pytest.warns(UserWarning, match="did not fall below delta"):
        augmenter = make(model).fit(X, y)
    assert augmenter.models_[1].explained > 0.5
    samples = augmenter.sample(1, 20, seed=0)
    copies = {bytes(image.numpy()) for image in X[10:]}
    assert sum(bytes(image.numpy()) in copies for image in samples) < 10


def test_saved_augmenter_gives_the_same_deformed_items(fitted, tmp_path):
    dataset = photos()
    fitted.save(tmp_path / "file")
    loaded = GAEAugmenter.load(tmp_path / "file")
    assert loaded.motions_.counts == fitted.motions_.counts
    assert loaded.motions_.fields.dtype == torch.float16
    assert torch.equal(loaded.motions_.fields, fitted.motions_.fields)
    assert items(loaded, dataset) == items(fitted, dataset)
    assert torch.equal(loaded.sample(2, 5, seed=3), fitted.sample(2, 5, seed=3))
    assert torch.equal(loaded.motions_for(3, 4, seed=1), fitted.motions_for(3, 4, seed=1))
    loaded.save(tmp_path / "again")
    (header, tensors), (expected_header, expected) = (read_file(tmp_path / name) for name in ("again", "file"))
    assert header == expected_header
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def holds(path, images):
    r"""Returns whether a file holds 30 successive values of an image of shape (C, H, W)."""
    content = Path(path).read_bytes()
    parts = (image.tobytes()[start : start + 30] for image in images for start in range(0, image.size - 30, 30))
    return any(part in content for part in parts)


def test_file_holds_no_image_in_its_full_size(tmp_path):
    dataset = large()
    make().fit(dataset).save(tmp_path / "deformed")
    assert not holds(tmp_path / "deformed", dataset.tensors[0].numpy())
    # As a check of the search: images that are not larger than the working size are in the file.
    make(working_size="auto").fit(dataset).save(tmp_path / "small")
    assert holds(tmp_path / "small", dataset.tensors[0].numpy())
    header, _ = read_file(tmp_path / "deformed")
    assert header["holds training images"] is True


def set_motions(change):
    r"""Returns a damage that replaces the saved velocity fields."""
    return lambda header, tensors: tensors.update(motions=change(tensors["motions"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda header, tensors: tensors.pop("motions"),
        lambda header, tensors: header.update(motions=None),
        lambda header, tensors: header.update(motions=header["motions"][:-1]),
        lambda header, tensors: header.update(motions=[[0, 13], [1, -5], [2, 4]]),
        lambda header, tensors: header.update(motions=[[0, 4], [1, 4], [2, 4], [3, 4]]),
        lambda header, tensors: header.update(motions=[[0, 4], [1, 4], [7, 4]]),
        lambda header, tensors: header.update(motions="many"),
        lambda header, tensors: header.pop("motions"),
        set_motions(lambda fields: fields.float()),
        set_motions(lambda fields: fields[:, :1].contiguous()),
        set_motions(lambda fields: fields[..., :7].contiguous()),
        set_motions(lambda fields: fields[:-1].contiguous()),
        set_motions(lambda fields: fields[0, 0, 0, 0].clone()),
        set_motions(lambda fields: torch.full_like(fields, torch.nan)),
        set_motions(lambda fields: torch.full_like(fields, torch.inf)),
    ],
)
def test_file_with_damaged_motions_is_refused(change, fitted, tmp_path):
    fitted.save(tmp_path / "file")
    header, tensors = read_file(tmp_path / "file")
    change(header, tensors)
    write_file(tmp_path / "file", header, tensors)
    with pytest.raises(ValueError, match="does not hold a complete augmenter"):
        GAEAugmenter.load(tmp_path / "file")


@pytest.mark.parametrize("synthesis", ["residual", "decoded"])
def test_motion_of_other_models_is_learned_at_the_first_call(synthesis, tmp_path, monkeypatch):
    dataset = large(LABELS[:-1], side=(8, 8))
    augmenter = make(synthesis=synthesis).fit(dataset)
    assert not hasattr(augmenter, "motions_")
    augmenter.save(tmp_path / "before")
    motion = augmenter.motion()
    assert augmenter.motions_.counts == {1: 4, 2: 4}
    augmenter.save(tmp_path / "after")
    before, after = (GAEAugmenter.load(tmp_path / name) for name in ("before", "after"))
    assert not hasattr(before, "motions_")
    assert torch.equal(before.motion().bank.fields, motion.bank.fields)
    monkeypatch.setattr(augmenter_module, "learn_bank", lambda *_, **__: pytest.fail("motions were learned again"))
    assert augmenter.motion().bank is motion.bank
    assert torch.equal(after.motion().bank.fields, motion.bank.fields)


def test_new_fit_forgets_the_motions_of_the_last():
    augmenter = make().fit(large())
    assert len(augmenter.motions_) == 12
    augmenter.set_params(model__synthesis="residual").fit(large(LABELS[:-1], side=(8, 8)))
    assert not hasattr(augmenter, "motions_")
    assert augmenter.motions_for(1, 3, seed=0) is None


def test_motion_moves_images_of_any_size_and_class(fitted):
    motion = fitted.motion(1.0, 1.0)
    for image in (Image.fromarray(pixels(30, 50, 3)), torch.from_numpy(pixels(1, 9, 70)), torch.rand(3, 17, 11)):
        moved = motion(image)
        assert type(moved) is type(image)
        assert np.asarray(moved).shape == np.asarray(image).shape
        assert (np.asarray(moved) != np.asarray(image)).any()
    still = fitted.motion(p=0.0)
    assert torch.equal(still(image), image)
    per_image = fitted.motion(p=1.0, per_image=True)(image.expand(6, -1, -1, -1))
    assert len(per_image.flatten(1).unique(dim=0)) > 1


def test_adaptive_motion_has_the_motions_and_the_seed_of_the_augmenter(fitted):
    motion = fitted.motion("adaptive", 0.8, per_image=True)
    assert isinstance(motion, AdaptiveMotion)
    assert motion.bank is fitted.motions_
    assert (motion.strength, motion.p, motion.per_image, motion.seed) == (0, 0.8, True, fitted.seed_)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((-1,), ValueError), ((3.1,), ValueError), (("1",), TypeError), ((1, 1.5), ValueError)],
)
def test_motion_refuses_values_out_of_range(arguments, error, fitted):
    with pytest.raises(error, match=r"'(strength|p)' is"):
        fitted.motion(*arguments)


def test_balanced_data_need_deformed_models_for_motions(tmp_path):
    dataset = large([0, 0, 0, 1, 1, 1], side=(8, 8))
    augmenter = make(synthesis="auto").fit(dataset)
    assert augmenter.models_ == {}
    with pytest.raises(ValueError, match=r"No model of images was fitted.*GenerativeModel\(synthesis='deformed'\)"):
        augmenter.motion()
    # The augmenter can still be saved.
    augmenter.save(tmp_path / "file")
    with pytest.raises(ValueError, match="No model of images was fitted"):
        GAEAugmenter.load(tmp_path / "file").motion()
    deformed = make().fit(dataset)
    assert (deformed.models_, set(deformed.sampling_strategy_.values())) == ({}, {0})
    assert deformed.motions_.counts == {0: 4, 1: 4}
    deformed.save(tmp_path / "file")
    loaded = GAEAugmenter.load(tmp_path / "file")
    assert torch.equal(loaded.motion(p=1.0).bank.fields, deformed.motions_.fields)
    assert len(deformed.augment(dataset)) == 6


def synthesis_of(augmenter, *data):
    return {report.plan.synthesis for report in augmenter.fit(*data).report_.values()}


def test_auto_chooses_what_new_images_keep():
    labels = LABELS[:-1]
    small, wide, mixed = large(labels, side=(8, 8)), large(labels, side=(8, 9)), photos(labels)
    vectors = np.random.default_rng(0).random((17, 6)), np.array(labels)
    auto = {"synthesis": "auto"}
    assert synthesis_of(make(**auto, working_size="auto"), *vectors) == {"decoded"}
    assert synthesis_of(make(**auto), small) == {"residual"}
    assert synthesis_of(make(**auto), wide) == {"deformed"}
    assert synthesis_of(make(**auto, working_size="auto"), wide) == {"residual"}
    assert synthesis_of(make(**auto, working_size="auto"), mixed) == {"deformed"}
    assert synthesis_of(make(**auto, working_size="auto"), large(labels, side=(8, 65))) == {"deformed"}
    assert synthesis_of(make(**auto, working_size=65), large(labels, side=(8, 65))) == {"residual"}
    limit = GenerativeModel(max_similarity=1.0, epochs=2, delta=100.0, architecture=(16,))
    assert synthesis_of(make(limit), wide) == {"residual"}
    assert synthesis_of(make(synthesis="residual"), wide) == {"residual"}


def test_at_most_300_images_of_a_class_are_learned_from(class_fits):
    assert MOTION_IMAGES == 300
    X = torch.arange(340 + 310 + 5, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 4, 4) / 700
    y = torch.tensor([0] * 340 + [1] * 310 + [2] * 5)
    augmenter = make(working_size="auto", sampling_strategy={1: 320, 2: 10}).fit(X, y)
    assert sorted(class_fits) == [5, 300, 300]
    # The images are spread evenly over the class.
    chosen = (augmenter.models_[1].anchors[:, 0, 0, 0] * 700).round().int().tolist()
    assert len(set(chosen)) == 300
    assert (chosen[0], chosen[-1]) == (340, 649)
    assert np.diff(chosen).max() == 2


def test_fitted_classes_are_not_fitted_again(class_fits, tmp_path):
    dataset = photos()
    expected = make().fit(dataset, checkpoint_dir=tmp_path)
    assert sorted(class_fits) == [3, 5, 9]
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == 3
    # As if an interruption had come before the end of one fit.
    files[0].unlink()
    class_fits.clear()
    resumed = make().fit(dataset, checkpoint_dir=tmp_path)
    assert len(class_fits) == 1
    assert torch.equal(resumed.motions_.fields, expected.motions_.fields)
    assert items(resumed, dataset) == items(expected, dataset)
    assert torch.equal(resumed.sample(1, 3, seed=0), expected.sample(1, 3, seed=0))
    for path in tmp_path.iterdir():
        assert not holds(path, [np.asarray(image).transpose(2, 0, 1) for image in dataset.images])


def test_class_whose_fit_fails_gets_no_images_and_gives_no_motions(plant_a_fault):
    plant_a_fault(5)
    dataset = photos()
    with pytest.warns(RuntimeWarning, match="class 1: FloatingPointError: a planted fault"):
        augmenter = make().fit(dataset)
    assert list(augmenter.failures_) == [1]
    assert augmenter.sampling_strategy_ == {1: 0, 2: 6, 3: 8}
    assert augmenter.motions_.counts == {0: 4, 2: 4}
    assert augmenter.motions_for(1, 2, seed=0) is None
    augmented = augmenter.augment(dataset)
    assert np.bincount(augmented.targets).tolist() == [9, 5, 9, 9]


def test_failure_in_a_large_class_costs_its_motions_alone(plant_a_fault):
    plant_a_fault(9)
    with pytest.warns(RuntimeWarning, match="class 0: FloatingPointError: a planted fault"):
        augmenter = make().fit(photos())
    assert augmenter.failures_ == {}
    assert list(augmenter.models_) == [1, 2]
    assert augmenter.motions_.counts == {1: 4, 2: 4}
    assert np.bincount(augmenter.augment(photos()).targets).tolist() == [9, 9, 9, 9]


def test_models_that_were_fitted_before_an_error_can_be_used(plant_a_fault):
    plant_a_fault(5)
    augmenter = make(on_error="raise")
    with pytest.raises(RuntimeError, match="class 1: FloatingPointError: a planted fault"):
        augmenter.fit(photos())
    assert list(augmenter.models_) == [2]
    assert augmenter.sample(2, 3).shape == (3, 3, 8, 8)
    assert len(augmenter.motion().bank) == 8


def test_class_of_one_image_gets_none_if_no_motion_was_learned(plant_a_fault):
    r"""The only class with deformed images that has two of them fails, while a class of another kind is fitted."""
    plant_a_fault(5)
    deformed = make().model
    models = {0: make(synthesis="residual").model, 1: deformed, 2: make(synthesis="residual").model, 3: deformed}
    dataset = large(LABELS, side=(8, 8))
    with pytest.warns(RuntimeWarning, match=r"class 1: FloatingPointError: a planted fault.*class 3: .*no motion"):
        augmenter = make(models).fit(dataset)
    assert list(augmenter.failures_) == [1, 3]
    assert np.bincount(augmenter.augment(dataset).targets).tolist() == [9, 5, 9, 1]


def test_vectors_are_refused():
    X, y = np.random.default_rng(0).random((17, 6)), np.array(LABELS[:-1])
    with pytest.raises(ValueError, match="'synthesis' is 'deformed', but the data are vectors of 6 features"):
        make(working_size="auto").fit(X, y)
    residual = make(synthesis="residual", working_size="auto").fit(X, y)
    with pytest.raises(ValueError, match="No model of images was fitted"):
        residual.motion()


def test_limit_of_similarity_is_refused():
    model = GenerativeModel(synthesis="deformed", max_similarity=0.9)
    with pytest.raises(ValueError, match="'max_similarity' is set, but deformed images hold the texture of real ones"):
        make(model).fit(large())


@pytest.mark.parametrize(
    ("size", "working_size", "expected"),
    [((8, 8), "auto", (8, 8)), ((8, 8), 8, (8, 8)), ((40, 8000), "auto", (16, 64)), ((3, 2), "auto", (3, 2))],
)
def test_small_and_long_images_are_moved_in_their_own_size(size, working_size, expected):
    dataset = large([0, 0, 0, 1, 1], side=size)
    augmenter = strong(make(working_size=working_size).fit(dataset))
    assert augmenter.sample(1, 2).shape == (2, 3, *expected)
    augmented = augmenter.augment(dataset)
    image = augmented[5][0]
    assert image.shape == (3, *size)
    assert torch.equal(image, move(dataset.tensors[0][augmented.source_of(5)], augmented.motion_of(5)))


def test_unfitted_augmenter_has_no_motions():
    augmenter = make()
    for call in (augmenter.motion, lambda: augmenter.motions_for(0, 1, seed=0)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()


def test_motions_depend_on_seed_class_and_number(fitted):
    assert fitted.motions_for(0, 3, seed=0) is None
    assert fitted.motions_for(7, 3, seed=0) is None
    fields = fitted.motions_for(1, 50, seed=0)
    assert fields.shape == (50, 2, 8, 8)
    assert torch.equal(fitted.motions_for(1, 50, seed=0), fields)
    assert not torch.equal(fitted.motions_for(1, 50, seed=1), fields)
    assert not torch.equal(fitted.motions_for(2, 50, seed=0), fields)
    # Classes share all motions, and not only those that the class itself has taught.
    deviations = fitted.motions_.fields.float().flatten(1) - fitted.motions_.fields.float().mean(dim=0).flatten()
    assert torch.linalg.matrix_rank(fields.flatten(1) - fields.flatten(1).mean(dim=0)) > 4
    assert torch.linalg.matrix_rank(torch.cat([fields.flatten(1), deviations])) <= 12


def test_classes_beyond_a_number_borrow_motions(monkeypatch, class_fits, tmp_path):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 2)
    data = photos()
    augmenter = make(sampling_strategy={1: 7, 2: 9, 3: 4}).fit(data)
    assert class_fits == [5, 3]
    assert list(augmenter.models_) == [1, 2]
    assert augmenter.sampling_strategy_ == {1: 2, 2: 6, 3: 3}
    class_fits.clear()

    augmenter = make().fit(data)
    # Of the scarce classes 1, 2 and 3, the largest two.
    assert class_fits == [5, 3]
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 1)
    augmenter = make().fit(data)
    assert list(augmenter.models_) == [1]
    assert augmenter.motions_.counts.keys() == {1}
    assert augmenter.sampling_strategy_ == {1: 4, 2: 6, 3: 8}
    assert augmenter.failures_ == {}
    augmented = augmenter.augment(data)
    assert np.bincount(augmented.targets).tolist() == [9] * 4
    sources = {augmented.source_of(index) for index in range(18, 36) if augmented.targets[index] == 2}
    assert sources == {14, 15, 16}
    assert len(augmenter.sample(2, 4, dataset=data)) == 4
    with pytest.raises(ValueError, match=r"Class 2 borrows the motions .* use gae-augment balance"):
        augmenter.sample(2, 1)

    # A classifier sees the images of all classes in the working size.
    images, labels = strategy_images(augmenter, data, seed=0)
    assert labels.bincount().tolist() == [0, 4, 6, 8]
    assert images.shape[1:] == augmenter.models_[1].shape
    augmenter.save(tmp_path / "fitted")
    loaded = GAEAugmenter.load(tmp_path / "fitted").augment(data)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(loaded, augmented, strict=True))
    header, tensors = read_file(tmp_path / "fitted")
    write_file(tmp_path / "damaged", {**header, "motions": None}, tensors)
    with pytest.raises(ValueError, match="the motions are missing"):
        GAEAugmenter.load(tmp_path / "damaged")


def test_rows_of_all_scarce_classes_have_models(monkeypatch, class_fits):
    monkeypatch.setattr(learned_from, "MOTION_CLASSES", 1)
    X, y = large(LABELS[:-1]).tensors
    X_both, y_both = make(working_size="auto").fit_resample(X, y)
    assert class_fits == [5, 3]
    assert np.bincount(y_both).tolist() == [9, 9, 9]
    assert len(X_both) == 27
