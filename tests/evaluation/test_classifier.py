import math
import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchvision.transforms import v2

from gae_augment import MixedSampler
from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import (
    Classifier,
    ClassifierFeatures,
    InceptionFeatures,
    inception_weights,
    train_classifier,
)
from gae_augment.evaluation.classifier import one_cycle, random_affine
from gae_augment.evaluation.features import INCEPTION_FILE


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = torch.from_numpy(data.images).float().div(16).unsqueeze(1)
    return images, torch.from_numpy(data.target)


@pytest.fixture(scope="module")
def classifier(digits):
    images, labels = digits
    return train_classifier(images[:1200], labels[:1200], classes=10, epochs=4, batch_size=64)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_classifier_learns_digits(digits, classifier):
    images, labels = digits
    accuracy = (classifier.predict(images[1200:]) == labels[1200:]).double().mean()
    assert accuracy > 0.85
    assert not classifier.training


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 5, 40), (2, 2, 2)])
def test_classifier_takes_any_shape(shape):
    classifier = Classifier(shape, 3, generator=make_generator("test"))
    images = torch.rand(4, *shape, generator=make_generator("images"))
    assert classifier(images).shape == (4, 3)
    assert classifier.extract(images).shape == (4, 128)
    assert classifier.predict(images).shape == (4,)


def test_prediction_does_not_depend_on_the_batch_or_mode(digits, classifier):
    images, _ = digits
    with torch.no_grad():
        alone = torch.cat([classifier(image.unsqueeze(0)).argmax(dim=1) for image in images[:20]])
    assert classifier.predict(images[:20]).tolist() == alone.tolist()
    statistics = classifier.state_dict()["body.1.running_mean"].clone()
    classifier.train()
    try:
        assert classifier.predict(images[:20]).tolist() == alone.tolist()
        assert classifier.training
    finally:
        classifier.eval()
    assert torch.equal(classifier.state_dict()["body.1.running_mean"], statistics)


def test_uint8_and_unit_values_give_the_same_features(digits, classifier):
    levels = digits[0][:50].mul(255).round().to(torch.uint8)
    torch.testing.assert_close(classifier.extract(levels), classifier.extract(levels.float() / 255))
    torch.testing.assert_close(classifier.extract(levels.squeeze(1)), classifier.extract(levels))


def test_same_seed_gives_same_weights_without_global_state(digits):
    images, labels = digits[0][:300], digits[1][:300]
    before, threads = global_states(), torch.get_num_threads()
    first, repeated, different = (
        train_classifier(images, labels, classes=10, epochs=1, affine=True, seed=seed).state_dict()
        for seed in (3, 3, 4)
    )
    assert global_states() == before
    assert torch.get_num_threads() == threads
    torch.manual_seed(123)
    after_reseeding = train_classifier(images, labels, classes=10, epochs=1, affine=True, seed=3).state_dict()
    for name, weight in first.items():
        assert torch.equal(weight, repeated[name])
        assert torch.equal(weight, after_reseeding[name])
    assert not torch.equal(first["head.weight"], different["head.weight"])


def test_training_draws_each_epoch_from_the_sampler(digits):
    images, labels = digits[0][:200], digits[1][:200]

    class Recorder(MixedSampler):
        epochs_drawn = ()

        def __iter__(self):
            self.epochs_drawn += (self.epoch,)
            return super().__iter__()

    data = type("Data", (), {"targets": labels.tolist(), "is_synthetic": [False] * 200})
    sampler = Recorder(data, 0.0, num_samples=90)
    sampler.set_epoch(7)
    classifier = train_classifier(images, labels, classes=10, sampler=sampler, epochs=3, batch_size=40)
    assert sampler.epochs_drawn == (0, 1, 2)
    # Three batches of 30 in each of three epochs.
    assert classifier.state_dict()["body.1.num_batches_tracked"] == 9


def test_training_uses_only_the_sampler_indices(digits):
    images, labels = digits
    indices = torch.nonzero(labels[:1000] < 2).flatten().tolist()
    classifier = train_classifier(images[:1000], labels[:1000], classes=10, sampler=indices, epochs=5, batch_size=32)
    assert set(classifier.predict(images).tolist()) <= {0, 1}


@pytest.mark.parametrize("corrected", [False, True])
def test_log_frequencies_take_the_imbalance_out_of_the_logits(corrected):
    # Equal images tell nothing, so that a classifier learns the frequencies of the classes, 3 to 1, and nothing else.
    images, labels = torch.full((64, 1, 4, 4), 0.5), torch.tensor([0, 0, 0, 1] * 16)
    frequencies = torch.tensor([0.75, 0.25]).log() if corrected else None
    network = train_classifier(images, labels, classes=2, epochs=150, log_frequencies=frequencies, device="cpu")
    first, second = network.logits(images[:1])[0].tolist()
    assert first - second == pytest.approx(0 if corrected else math.log(3), abs=0.1)


def test_affine_maps_agree_with_torchvision(monkeypatch):
    image = torch.zeros(1, 20, 32)
    image[:, 6:14, 9:21] = torch.rand(1, 8, 12, generator=make_generator("affine"))
    for rotation, shift_x, shift_y, zoom in [(0.8, 0, 0, 0), (0, 0.5, -1, 0), (0, 0, 0, 0.9), (-0.7, 0, 0, -0.8)]:
        draws = torch.tensor([[rotation], [shift_x], [shift_y], [zoom]])
        monkeypatch.setattr(torch, "rand", lambda *size, draws=draws, generator=None: (draws + 1) / 2)
        moved = random_affine(image.unsqueeze(0), make_generator("unused"))[0]
        # torchvision maps old positions to new ones, with clockwise angles: the inverse of this map.
        expected = v2.functional.affine(
            image,
            angle=-rotation * 12,
            translate=[-shift_x * 0.1 * 32, -shift_y * 0.1 * 20],
            scale=1 + 0.1 * zoom,
            shear=[0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_affine_draws_a_different_map_per_image():
    images = torch.zeros(6, 1, 28, 28)
    images[:, :, 10:18, 8:16] = 1
    moved = random_affine(images, make_generator("affine"))
    assert moved.shape == images.shape
    assert all(not torch.equal(moved[0], image) for image in moved[1:])
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6


def test_learning_rate_rises_then_falls():
    for steps in (1, 2, 5, 100):
        rates = [one_cycle(step, steps) for step in range(steps)]
        peak = rates.index(max(rates))
        assert rates[peak] == 1
        assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
        assert min(rates) > 0
    # Half a cosine over the 80 steps after the warm-up.
    assert one_cycle(19 + 40, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi * 40 / 81)))


IMAGES, LABELS = torch.zeros(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (IMAGES.numpy(), LABELS, {}, "is of type ndarray, but must be a tensor"),
        (IMAGES.view(6, -1), LABELS, {}, r"has shape \(6, 64\)"),
        (IMAGES[:0], LABELS[:0], {}, "holds 0 images, but needs at least 1"),
        (IMAGES - 1, LABELS, {}, r"lie in \[-1, -1\]"),
        (IMAGES.clone().fill_(math.nan), LABELS, {}, "or NaN: those of 'training images'"),
        (IMAGES.long(), LABELS, {}, "dtype torch.int64"),
        (IMAGES, LABELS[:5], {}, r"has shape \(5,\)"),
        (IMAGES, LABELS.float(), {}, "of type torch.float32"),
        (IMAGES, LABELS.tolist(), {}, "of type list"),
        (IMAGES, LABELS + 1, {}, "ranges from 1 to 2"),
        (IMAGES, LABELS - 1, {}, "ranges from -1 to 0"),
        (IMAGES, LABELS, {"classes": 1}, "'classes' is 1, but must be at least 2"),
        (IMAGES, LABELS, {"epochs": 0}, "'epochs' is 0, but must be at least 1"),
        (IMAGES, LABELS, {"batch_size": 0}, "'batch_size' is 0, but must be at least 1"),
        (IMAGES, LABELS, {"learning_rate": 0.0}, "'learning_rate' is 0.0, but must be finite and above 0"),
        (IMAGES, LABELS, {"sampler": []}, "'sampler' drew no index in epoch 1"),
    ],
)
def test_invalid_training_arguments_raise(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(images, labels, **{"classes": 2, **options})


def test_divergence_raises(digits):
    images, labels = digits
    with pytest.raises(FloatingPointError, match="Lower 'learning_rate'"):
        train_classifier(images[:100], labels[:100], classes=10, epochs=30, batch_size=10, learning_rate=1e30)


def test_images_of_another_shape_raise(classifier):
    with pytest.raises(ValueError, match=r"have shape \(1, 9, 9\), but must have shape \(1, 8, 8\)"):
        classifier.predict(torch.zeros(2, 1, 9, 9))


def test_classifier_features_come_from_the_trained_classifier(digits):
    images, labels = digits[0][:200], digits[1][:200]
    extractor = ClassifierFeatures.train(images, labels, dataset_name="digits", epochs=1, seed=5)
    expected = train_classifier(images, labels, classes=10, epochs=1, seed=5)
    assert extractor.name == "classifier features, digits"
    assert torch.equal(extractor(images), expected.extract(images))
    with torch.no_grad():
        logits = expected.head(extractor(images))
    assert logits.argmax(dim=1).tolist() == expected.predict(images).tolist()
    with pytest.raises(ValueError, match="of type list"):
        ClassifierFeatures.train(images, labels.tolist(), dataset_name="digits")


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    # The constructor needs a weights file, so loading is disabled to write the first one.
    path = tmp_path_factory.mktemp("weights") / INCEPTION_FILE
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        module = "torch_fidelity.feature_extractor_inceptionv3"
        patch.setattr(f"{module}.load_state_dict_from_url", lambda url, progress: None)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).state_dict(), path)
    return path


def test_inception_features_match_torch_fidelity(inception):
    before = global_states()
    extractor = InceptionFeatures(inception, device="cpu")
    assert global_states() == before
    assert extractor.name == "inception-v3-compat"
    saved = torch.load(inception, weights_only=True)
    assert all(torch.equal(weight, saved[name]) for name, weight in extractor.network.state_dict().items())

    grey = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8, generator=make_generator("grey"))
    features = extractor(grey)
    reference = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=inception)
    torch.testing.assert_close(features, reference(grey.repeat(1, 3, 1, 1))[0])
    assert features.shape == (2, 2048)
    assert not torch.equal(features[0], features[1])
    # Values in [0, 1] give the same grey levels.
    torch.testing.assert_close(extractor(grey[:1].float() / 255), features[:1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="have 2 channels, but Inception needs 1 or 3 channels"):
        extractor(torch.zeros(1, 2, 8, 8))


def test_inception_weights_are_read_from_the_torch_hub_cache(inception, tmp_path, monkeypatch):
    assert URL_INCEPTION_V3.rsplit("/", 1)[1] == INCEPTION_FILE
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert inception_weights() is None
    with pytest.raises(FileNotFoundError, match=r"weights_path.*ClassifierFeatures"):
        InceptionFeatures()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / INCEPTION_FILE).symlink_to(inception)
    assert inception_weights() == tmp_path / "checkpoints" / INCEPTION_FILE


def test_inception_is_never_downloaded(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("download attempted")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", refuse)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        InceptionFeatures(tmp_path / "nowhere")


class Payload:
    def __reduce__(self):
        return print, ("code of the file was run",)


@pytest.mark.parametrize("content", [Payload(), {"fc.bias": torch.zeros(3)}, [torch.zeros(3)]])
def test_invalid_weights_file_raises_and_runs_no_code(tmp_path, content, capsys):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights_path"):
        InceptionFeatures(tmp_path / "weights.pth", device="cpu")
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="weights_path"):
        InceptionFeatures(tmp_path / "weights.pth", device="cpu")
    assert capsys.readouterr().out == ""
