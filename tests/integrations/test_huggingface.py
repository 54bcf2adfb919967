import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from gae_augment import GAEAugmenter, GenerativeModel

datasets = pytest.importorskip("datasets")

from gae_augment.integrations.huggingface import HuggingFaceImages, to_dataset  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
LABELS = [0] * 40 + [1] * 20
FEATURES = datasets.Features(
    picture=datasets.Image(), kind=datasets.ClassLabel(names=["cat", "dog"]), note=datasets.Value("string")
)


def rows(labels=LABELS, features=FEATURES, images=()):
    pictures = [*images, *(Image.fromarray(own) for own in PIXELS[len(images) :])]
    columns = {"picture": pictures, "kind": labels, "note": ["seen"] * len(labels)}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def images():
    return HuggingFaceImages(rows())


@pytest.fixture(scope="module")
def augmenter(images):
    return GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images)


def test_pairs(images):
    assert len(images) == 60
    assert images.targets == LABELS
    assert images.class_to_idx == {"cat": 0, "dog": 1}
    for index in (0, 59, -1):
        image, label = images[index]
        assert np.array_equal(np.asarray(image), PIXELS[index])
        assert label == LABELS[index]


def test_a_format_and_a_transform_of_rows_are_left_aside():
    def of_rows(batch):
        raise AssertionError("it was called")

    for own in (rows().with_format("torch"), rows().with_transform(of_rows)):
        assert isinstance(HuggingFaceImages(own)[0][0], Image.Image)


def test_an_augmenter_learns_what_it_learns_from_arrays(images, augmenter):
    of_arrays = GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(
        PIXELS[:, None], LABELS
    )
    assert augmenter.class_names_ == {0: "cat", 1: "dog"}
    assert torch.equal(augmenter.sample(1, 5, seed=0), torch.as_tensor(of_arrays.sample(1, 5, seed=0)))


def test_loader_with_transforms_and_spawned_workers(augmenter):
    images = HuggingFaceImages(rows(), transform=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]))
    augmented = augmenter.augment(images)
    loader = DataLoader(augmented, batch_size=80, num_workers=1, multiprocessing_context="spawn")
    (batch,) = loader
    assert batch[0].shape == (80, 1, 8, 8)
    torch.testing.assert_close(batch[0][:60, 0], torch.from_numpy(PIXELS) / 255)
    torch.testing.assert_close(batch[0][60:], augmented.synthetic_images(1) / 255)
    assert batch[1].tolist() == LABELS + [1] * 20


def test_back_as_a_dataset(images, augmenter):
    augmented = augmenter.augment(images)
    made = to_dataset(augmented)
    assert made.features == {**FEATURES, "is_synthetic": datasets.Value("bool")}
    assert made["is_synthetic"][:] == augmented.is_synthetic.tolist()
    assert made["kind"][:] == augmented.targets
    assert made["note"][:] == ["seen"] * 60 + [None] * 20
    pixels = np.stack([np.asarray(image) for image in made["picture"]])
    assert np.array_equal(pixels[:60], PIXELS)
    assert np.array_equal(pixels[60:], augmented.synthetic_images(1)[:, 0].numpy())


@pytest.mark.parametrize("mode", ["RGB", "LA", "CMYK", "I;16"])
def test_synthetic_images_have_the_mode_of_real_ones(mode):
    pictures = []
    for own in PIXELS:
        colour = Image.fromarray(np.stack([own, own.T, own], axis=-1))
        depth = Image.frombytes("I;16", (8, 8), (own.astype(np.uint16) * 200).tobytes())
        pictures.append(depth if mode == "I;16" else colour.convert("L" if mode == "LA" else "RGB").convert(mode))
    images = HuggingFaceImages(rows(images=pictures))
    augmented = (
        GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images).augment(images)
    )
    made = to_dataset(augmented)
    assert {image.mode for image in made["picture"]} == {mode}
    for index in (0, 59, 60, 79):
        assert made[index]["picture"].tobytes() == augmented[index][0].tobytes()


def test_nothing_to_add(images):
    augmenter = GAEAugmenter(sampling_strategy={}, random_state=0, progress=False).fit(images)
    assert to_dataset(augmenter.augment(images))["is_synthetic"][:] == [False] * 60


def test_other_columns_of_images_are_not_decoded_with_each_item(monkeypatch):
    both = datasets.concatenate_datasets(
        [rows(), rows().select_columns("picture").rename_column("picture", "small")], axis=1
    )
    images = HuggingFaceImages(both, image="picture")
    decoded = []
    decode = datasets.Image.decode_example
    monkeypatch.setattr(
        datasets.Image, "decode_example", lambda *given, **more: decoded.append(1) or decode(*given, **more)
    )
    images[0]
    assert len(decoded) == 1


def test_pickled_copy(images):
    copy = pickle.loads(pickle.dumps(images))
    assert np.array_equal(np.asarray(copy[3][0]), PIXELS[3])


def test_labels_that_are_integers_without_names():
    features = datasets.Features({**FEATURES, "kind": datasets.Value("int64")})
    images = HuggingFaceImages(rows(features=features), label="kind")
    assert images.classes is None
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images)
    assert augmenter.class_names_ == {0: "0", 1: "1"}
    assert to_dataset(augmenter.augment(images))["kind"][:] == LABELS + [1] * 20


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HuggingFaceImages(datasets.DatasetDict(train=rows())), TypeError, r"\['train'\]. Choose"),
        (lambda: HuggingFaceImages(rows().to_iterable_dataset()), TypeError, "without streaming"),
        (lambda: HuggingFaceImages([1, 2]), TypeError, "it is a list"),
        (lambda: HuggingFaceImages(rows(), image="pixels"), ValueError, "one of .*'picture'.*it is 'pixels'"),
        (lambda: HuggingFaceImages(rows(), image="note"), ValueError, "cast_column"),
        (lambda: HuggingFaceImages(rows().remove_columns("picture")), ValueError, "Pass image="),
        (lambda: HuggingFaceImages(rows(), label="note"), ValueError, "class_encode_column"),
        (lambda: HuggingFaceImages(rows([None, *LABELS[1:]])), ValueError, "row 0 has None"),
        (lambda: HuggingFaceImages(rows([-1, *LABELS[1:]])), ValueError, "row 0 has -1"),
        (
            lambda: HuggingFaceImages(rows().cast_column("picture", datasets.Image(decode=False))),
            ValueError,
            r"cast_column\('picture'",
        ),
        (
            lambda: GAEAugmenter().fit(HuggingFaceImages(rows(images=[None]))),
            ValueError,
            "Item 0 .* no image in this row",
        ),
        (lambda: GAEAugmenter().fit(rows()), ValueError, "HuggingFaceImages"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_cannot_be_had_back(augmenter):
    tensors = TensorDataset(torch.from_numpy(PIXELS)[:, None], torch.tensor(LABELS))
    with pytest.raises(TypeError, match="write_shards"):
        to_dataset(augmenter.augment(tensors))
    shifted = HuggingFaceImages(rows(), target_transform=lambda label: 1 - label)
    of_shifted = GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(shifted)
    with pytest.raises(TypeError, match="target_transform"):
        to_dataset(of_shifted.augment(shifted))
    marked = HuggingFaceImages(rows().add_column("is_synthetic", [False] * 60))
    with pytest.raises(ValueError, match="rename_column"):
        to_dataset(augmenter.augment(marked))
