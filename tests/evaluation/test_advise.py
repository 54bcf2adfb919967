import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from gae_augment._utils.files import read_file
from gae_augment.data import ImageDataset
from gae_augment.evaluation import advise
from gae_augment.evaluation.advice import run, scratch, setting


class Pixels:
    r"""Images of 8x8 pixels as features."""

    size = 8

    def __call__(self, images):
        return images[:, 0].float().flatten(1)


@pytest.fixture(scope="module")
def digits():
    r"""Three digits, of which two are scarce, as 8-bit images."""
    data = load_digits()
    images, labels = torch.from_numpy(data.images).mul(15).to(torch.uint8), data.target
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label, n in ((3, 90), (8, 30), (9, 15))])
    return images[rows][:, None], labels[rows]


def dataset(images, labels):
    return ImageDataset(list(images), labels=labels, transform=lambda image: image / 255)


@pytest.fixture(autouse=True)
def one_repetition(monkeypatch):
    monkeypatch.setattr(setting, "MAX_REPETITIONS", 1)


def small_shifts(part, seed):
    return lambda strength, p: v2.RandomAffine(0, translate=(0.1 * strength, 0.1 * strength))


def test_advice_on_digits_can_be_written_and_names_every_arm(digits):
    lines = []
    advice = advise(
        dataset(*digits),
        small_shifts,
        backbone=Pixels(),
        class_names=[f"digit {n}" for n in range(10)],
        progress=lines.append,
    )
    values = json.loads(json.dumps(advice.as_dict()))
    assert values["sentence"] == advice.sentence
    assert {"digit 3", "digit 8", "digit 9"} == set(values["classes"])
    assert [values["classes"][f"digit {n}"]["images"] for n in (3, 8, 9)] == [90, 30, 15]
    assert (advice.images, advice.splits) == (135, 3)
    assert advice.rows[0].name == "plain training"
    assert all(row.balanced_accuracy > 60 for row in advice.rows if "standard" not in row.name)
    assert sum("split" in line for line in lines) == 3
    assert advice.table().count("\n") == len(advice.rows)


def test_same_seed_same_advice_and_global_generators_stay(digits):
    torch_state = torch.get_rng_state()
    first, second = (
        advise(dataset(*digits), small_shifts, backbone=Pixels(), seed=3, strengths=(1.0,)) for _ in range(2)
    )
    assert first.rows == second.rows
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_interrupted_comparison_resumes(digits, tmp_path):
    learned = []

    def learn_motions(part, seed):
        if len(learned) == 1:
            learned.append("interrupted")
            raise KeyboardInterrupt
        learned.append(seed)
        return small_shifts(part, seed)

    options = {"backbone": Pixels(), "checkpoint_dir": tmp_path, "strengths": (1.0,)}
    with pytest.raises(KeyboardInterrupt):
        advise(dataset(*digits), learn_motions, **options)
    resumed = advise(dataset(*digits), learn_motions, **options)
    assert len(learned) == 4  # one split, the interruption, and the two other splits
    assert resumed.rows == advise(dataset(*digits), small_shifts, backbone=Pixels(), strengths=(1.0,)).rows
    again = advise(dataset(*digits), learn_motions, **options)
    assert (len(learned), again.rows) == (4, resumed.rows)
    # Other images do not resume.
    images, labels = digits
    advise(dataset(255 - images, labels), learn_motions, **options)
    assert len(learned) == 7


def test_motions_never_see_held_out_groups(digits, tmp_path):
    images, labels = digits
    groups = np.arange(135) // 3
    position = {image.numpy().tobytes(): index for index, image in enumerate(images)}
    assert len(position) == 135
    parts = []

    def learn_motions(part, seed):
        parts.append([position[part[index][0][:1].numpy().tobytes()] for index in range(len(part))])
        return small_shifts(part, seed)

    advise(dataset(images, labels), learn_motions, groups=groups, backbone=Pixels(), checkpoint_dir=tmp_path)
    files = sorted([*tmp_path.glob("*/whole-[012].safetensors"), *tmp_path.glob("*/standard-[012].safetensors")])
    for part, file in zip(parts, files, strict=True):
        held_out = read_file(file)[1]["rows"].numpy()
        assert len(held_out) > 0
        assert not set(groups[part]) & set(groups[held_out])


def test_images_that_are_not_moved_gain_no_more_than_more_standard_views(digits):
    r"""Motions that change nothing: what synthetic images gain, more views gain too."""

    def learn_nothing(part, seed):
        return lambda strength, p: v2.Identity()

    shifts = v2.RandomAffine(0, translate=(0.15, 0.15))
    advice = advise(
        dataset(*digits), learn_nothing, backbone=Pixels(), strengths=(1.0,), strategy="plain training",
        standard_views=shifts, seed=4,
    )  # fmt: skip
    rows = {row.name: row for row in advice.rows}
    control = rows["plain training + standard views, two of scarce classes"]
    synthetic = rows["plain training + standard views + synthetic images"]
    assert control.score > rows["plain training + standard views"].score
    assert abs(synthetic.score - control.score) < 0.7
    assert (advice.over, synthetic.over) == (control.name, control.name)
    assert (advice.use, advice.more_views) == (False, True)
    assert advice.command.startswith("train = Subset(train, [*range(len(train)), *rows]) with the rows of")


def test_classes_of_one_size_are_not_given_synthetic_images(digits):
    images, labels = digits
    rows = np.concatenate([np.flatnonzero(labels == label)[:15] for label in (3, 8, 9)])
    advice = advise(dataset(images[rows], labels[rows]), small_shifts, backbone=Pixels(), standard_views=True)
    assert not any("synthetic" in row.name or "two of" in row.name for row in advice.rows)
    assert any("motions" in row.name for row in advice.rows)


def images_of_another_class(images, labels):
    r"""Motions that replace an image of a scarce class by one of the large class."""

    def learn_motions(part, seed):
        others = [part[index][0] for index in range(len(part)) if part[index][1] == 0]
        return lambda strength, p: v2.Lambda(lambda image: others[int(torch.randint(len(others), ()))])

    return learn_motions


def test_images_of_another_class_are_not_used(digits):
    images, labels = digits
    advice = advise(dataset(*digits), images_of_another_class(images, labels), backbone=Pixels())
    assert not advice.use
    assert "Do not use synthetic images here" in advice.sentence
    assert "augmenter" not in advice.command


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_are_not_augmented(digits, seed):
    images, labels = digits
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    assert not advise(dataset(images, shuffled), small_shifts, backbone=Pixels(), seed=seed).use


def test_near_duplicates_without_groups_are_told(digits):
    images, labels = digits
    twice, both = torch.cat([images, images]), np.concatenate([labels, labels])
    told = advise(dataset(twice, both), backbone=Pixels()).warnings
    assert any("near-duplicate" in warning for warning in told)
    groups = np.tile(np.arange(135), 2)
    grouped = advise(dataset(twice, both), backbone=Pixels(), groups=groups).warnings
    # Digits of one class are alike, but fewer of them are near-duplicates.
    assert not any(warning.startswith("100 %") for warning in grouped)


def test_classes_with_few_objects_are_told(digits):
    objects = {3: 30, 8: 4, 9: 1}
    groups = [f"{label}-{index % objects[label]}" for index, label in enumerate(digits[1].tolist())]
    advice = advise(dataset(*digits), backbone=Pixels(), groups=groups, class_names=list("0123456789"))
    assert any(warning.startswith("4 objects in class 8: a difference") for warning in advice.warnings)
    assert any(warning.startswith("1 object in class 9: it cannot be held out") for warning in advice.warnings)
    assert advice.gain is None
    assert advice.sentence.endswith("Motions were not compared.")


def test_verdict_without_any_knowledge_names_chance(digits):
    class Noise(Pixels):
        def __call__(self, images):
            return torch.randn(len(images), 5, generator=torch.Generator().manual_seed(int(images.sum())))

    advice = advise(dataset(*digits), small_shifts, backbone=Noise())
    assert not advice.use
    assert "no better than chance" in advice.sentence


def test_large_classes_lose_images_and_keep_their_weight(digits, monkeypatch):
    monkeypatch.setattr(run, "LEAST_IMAGES", 60)
    monkeypatch.setattr(run, "MOST_IMAGES", 60)
    advice = advise(dataset(*digits), backbone=Pixels(), class_names=list("0123456789"))
    assert advice.images == 59  # 22 of class 3, 22 of class 8, and all 15 of class 9
    assert advice.classes["3"]["images"] == 90


def test_verdict_on_top_of_what_the_user_trains_with(digits):
    lines = []
    advice = advise(
        dataset(*digits),
        small_shifts,
        backbone=Pixels(),
        strategy="class-balanced sampling",
        standard_views=True,
        synthetic_images=False,
        progress=lines.append,
    )
    assert (advice.strategy, advice.standard_views) == ("class-balanced sampling", True)
    ours = [row.name for row in advice.rows if row.over == "class-balanced sampling + standard views"]
    assert len(ours) == 2
    assert all("motions" in name for name in ours)


@pytest.mark.parametrize("backbone", [Pixels(), None], ids=["frozen", "from scratch"])
def test_own_transform_takes_the_place_of_standard_views(digits, backbone, monkeypatch):
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    images, labels = digits
    shapes = set()

    def black(batch):
        shapes.add(batch.shape[-3:])
        return torch.zeros_like(batch)

    advice = advise(
        dataset(images, labels), small_shifts, backbone=backbone, standard_views=black, strengths=(1.0,),
        strategy="class-balanced sampling",
    )  # fmt: skip
    # One picture is a check.
    assert shapes == ({(3, 8, 8), (1, 8, 8)} if backbone is None else {(3, 8, 8)})
    # From scratch, all training images are black.
    if backbone is None:
        assert advice.rows[0].balanced_accuracy == pytest.approx(100 / 3, abs=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [1, 2]}, "'groups' has 2 values"),
        ({"minutes": 0}, "'minutes' is 0"),
        ({"strengths": (4.0,)}, "'strengths' is 4.0"),
        ({"backbone": "resnet19"}, "does not have"),
        ({"strategy": "oversampling"}, "'strategy' is 'oversampling', but must be one of 'plain training'"),
    ],
)
def test_wrong_arguments_are_errors(digits, options, message):
    with pytest.raises(ValueError, match=message):
        advise(dataset(*digits), **options)


def test_one_class_is_an_error(digits):
    images, labels = digits
    with pytest.raises(ValueError, match="at least 2"):
        advise(dataset(images[:50], labels[:50]), backbone=Pixels())


def test_finished_comparison_has_the_same_verdict_again(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(setting, "MAX_REPETITIONS", 3)
    options = {"backbone": Pixels(), "checkpoint_dir": tmp_path, "strengths": (1.0,)}
    clock = iter(range(0, 100_000, 20))
    monkeypatch.setattr(setting.time, "monotonic", lambda: next(clock))
    first = advise(dataset(*digits), small_shifts, minutes=3, **options)
    assert first.splits in (3, 6)
    # There would be time for more repetitions.
    monkeypatch.setattr(setting.time, "monotonic", lambda: 0.001 * next(clock))
    again = advise(dataset(*digits), small_shifts, minutes=3, **options)
    assert (again.splits, again.rows) == (first.splits, first.rows)


def test_another_network_of_the_same_type_does_not_resume(digits, tmp_path):
    def network(scale):
        def features(images):
            return scale * images[:, 0].float().flatten(1)

        features.size = 8
        return features

    good = advise(dataset(*digits), backbone=network(1.0), checkpoint_dir=tmp_path)
    useless = advise(dataset(*digits), backbone=network(0.0), checkpoint_dir=tmp_path)
    assert good.rows[0].balanced_accuracy > 80
    assert useless.rows[0].balanced_accuracy < 60


def test_network_with_the_same_moments_does_not_resume(digits, tmp_path):
    class Mirrored(Pixels):
        def __init__(self, *axes):
            self.axes = axes

        def __call__(self, images):
            return super().__call__(images.flip(self.axes))

    for axes in ((), (-1,), (), (-1,)):
        advise(dataset(*digits), backbone=Mirrored(*axes), checkpoint_dir=tmp_path, strategy="plain training")
    assert len(list(tmp_path.glob("*/fingerprint.safetensors"))) == 2
    assert len(list(tmp_path.glob("*/views.safetensors"))) == 2


def test_another_transform_of_the_same_type_does_not_resume(digits, tmp_path):
    def found(degrees):
        views = v2.RandomAffine((degrees, degrees))
        options = {"standard_views": views, "strategy": "plain training", "checkpoint_dir": tmp_path}
        return advise(dataset(*digits), backbone=Pixels(), **options).rows

    assert found(90) != found(-90)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([-1, 0, 1], ["x", "y", "z"], "lists 3 names, of the labels 0 to 2, but the labels run from -1 to 1"),
        ([2, 5, 8], ["x", "y", "z"], "Pass a mapping from labels to names"),
        ([2, 5, 8], {2: "x", 5: "y"}, r"has no name for the labels \[8\]"),
    ],
)
def test_names_that_do_not_fit_the_labels_are_an_error(digits, labels, names, message):
    images, old = digits
    with pytest.raises(ValueError, match=message):
        advise(dataset(images, np.array(labels)[np.searchsorted([3, 8, 9], old)]), class_names=names)


def test_repeated_names_are_told_apart(digits):
    advice = advise(
        dataset(*digits), backbone=Pixels(), class_names={3: "x", 8: "x", 9: "z"}, strategy="plain training"
    )
    assert list(advice.classes) == ["x-3", "x-8", "z"]


def test_transform_to_floats_is_an_error(digits):
    to_float = v2.ToDtype(torch.float32, scale=True)
    with pytest.raises(ValueError, match=r"returns torch.float32 with shape \(3, 8, 8\) for a uint8 image .*ToDtype"):
        advise(dataset(*digits), backbone=Pixels(), standard_views=to_float)
