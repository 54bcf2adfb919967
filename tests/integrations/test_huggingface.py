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
    pictures = [*images, *(Image.fromarray(pixels) for pixels in PIXELS[len(images) :])]
    columns = {"picture": pictures, "kind": labels, "note": ["seen"] * len(labels)}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def images():
    return HuggingFaceImages(rows())


@pytest.fixture(scope="module")
def augmenter(images):
    return GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images)


def test_photographs_of_several_sizes_become_rows_of_their_sizes():
    photos = [Image.fromarray(PIXELS[number]).resize((20 + number % 3, 24)) for number in range(60)]
    images = HuggingFaceImages(rows(images=photos))
    model = GenerativeModel(epochs=1, delta=100.0, architecture=(8,), latent_dim=2)
    augmented = GAEAugmenter(model, working_size=8, random_state=0, progress=False).fit(images).augment(images)
    result = to_dataset(augmented)
    assert result["is_synthetic"][:] == augmented.is_synthetic.tolist()
    for index in np.flatnonzero(augmented.is_synthetic).tolist():
        assert result[index]["picture"].size == images[augmented.source_of(index)][0].size
        assert np.array_equal(np.asarray(result[index]["picture"]), np.asarray(augmented[index][0]))
        assert result[index]["kind"] == augmented.targets[index] == 1


def test_items_are_pairs_of_image_and_label(images):
    assert len(images) == 60
    assert images.targets == LABELS
    assert images.class_to_idx == {"cat": 0, "dog": 1}
    for index in (0, 59, -1):
        image, label = images[index]
        assert np.array_equal(np.asarray(image), PIXELS[index])
        assert label == LABELS[index]


def test_format_and_transform_of_rows_are_ignored():
    def transform_rows(batch):
        raise AssertionError("it was called")

    for dataset in (rows().with_format("torch"), rows().with_transform(transform_rows)):
        assert isinstance(HuggingFaceImages(dataset)[0][0], Image.Image)


def test_fit_equals_that_of_arrays(images, augmenter):
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


def test_to_dataset_appends_synthetic_rows(images, augmenter):
    augmented = augmenter.augment(images)
    result = to_dataset(augmented)
    assert result.features == {**FEATURES, "is_synthetic": datasets.Value("bool")}
    assert result["is_synthetic"][:] == augmented.is_synthetic.tolist()
    assert result["kind"][:] == augmented.targets
    assert result["note"][:] == ["seen"] * 60 + [None] * 20
    pixels = np.stack([np.asarray(image) for image in result["picture"]])
    assert np.array_equal(pixels[:60], PIXELS)
    assert np.array_equal(pixels[60:], augmented.synthetic_images(1)[:, 0].numpy())


@pytest.mark.parametrize("mode", ["RGB", "LA", "CMYK", "I;16"])
def test_synthetic_images_have_the_mode_of_real_ones(mode):
    pictures = []
    for pixels in PIXELS:
        colour = Image.fromarray(np.stack([pixels, pixels.T, pixels], axis=-1))
        depth = Image.frombytes("I;16", (8, 8), (pixels.astype(np.uint16) * 200).tobytes())
        pictures.append(depth if mode == "I;16" else colour.convert("L" if mode == "LA" else "RGB").convert(mode))
    images = HuggingFaceImages(rows(images=pictures))
    augmented = (
        GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images).augment(images)
    )
    result = to_dataset(augmented)
    assert {image.mode for image in result["picture"]} == {mode}
    for index in (0, 59, 60, 79):
        assert result[index]["picture"].tobytes() == augmented[index][0].tobytes()


def test_to_dataset_without_synthetic_images(images):
    augmenter = GAEAugmenter(sampling_strategy={}, random_state=0, progress=False).fit(images)
    assert to_dataset(augmenter.augment(images))["is_synthetic"][:] == [False] * 60


def test_item_decodes_no_other_image_column(monkeypatch):
    both = datasets.concatenate_datasets(
        [rows(), rows().select_columns("picture").rename_column("picture", "small")], axis=1
    )
    images = HuggingFaceImages(both, image="picture")
    decoded = []
    decode = datasets.Image.decode_example
    monkeypatch.setattr(
        datasets.Image, "decode_example", lambda *args, **kwargs: decoded.append(1) or decode(*args, **kwargs)
    )
    images[0]
    assert len(decoded) == 1


def test_pickled_copy(images):
    copy = pickle.loads(pickle.dumps(images))
    assert np.array_equal(np.asarray(copy[3][0]), PIXELS[3])


def test_integer_labels_without_names():
    features = datasets.Features({**FEATURES, "kind": datasets.Value("int64")})
    images = HuggingFaceImages(rows(features=features), label="kind")
    assert images.classes is None
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=1.0), random_state=0, progress=False).fit(images)
    assert augmenter.class_names_ == {0: "0", 1: "1"}
    assert to_dataset(augmenter.augment(images))["kind"][:] == LABELS + [1] * 20


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: HuggingFaceImages(datasets.DatasetDict(train=rows())),
            TypeError,
            r"has the splits \['train'\], .*Choose",
        ),
        (lambda: HuggingFaceImages(rows().to_iterable_dataset()), TypeError, "without streaming"),
        (lambda: HuggingFaceImages([1, 2]), TypeError, "'dataset' is of type list, but must be"),
        (lambda: HuggingFaceImages(rows(), image="pixels"), ValueError, "'image' is 'pixels', .*one of .*'picture'"),
        (lambda: HuggingFaceImages(rows(), image="note"), ValueError, "cast_column"),
        (lambda: HuggingFaceImages(rows().remove_columns("picture")), ValueError, "None of the .*Pass image="),
        (lambda: HuggingFaceImages(rows(), label="note"), ValueError, "class_encode_column"),
        (lambda: HuggingFaceImages(rows([None, *LABELS[1:]])), ValueError, "Row 0 has None"),
        (lambda: HuggingFaceImages(rows([-1, *LABELS[1:]])), ValueError, "Row 0 has -1"),
        (
            lambda: HuggingFaceImages(rows().cast_column("picture", datasets.Image(decode=False))),
            ValueError,
            r"cast_column\('picture'",
        ),
        (
            lambda: GAEAugmenter().fit(HuggingFaceImages(rows(images=[None]))),
            ValueError,
            "Item 0 .* this row has no image",
        ),
        (lambda: GAEAugmenter().fit(rows()), ValueError, "HuggingFaceImages"),
    ],
)
def test_invalid_input_is_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_to_dataset_errors(augmenter):
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
