import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

pytest.importorskip("lightning")

from lightning_examples import LIGHTNING_WARNINGS, Classifier, Digits, make_trainer, ready

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.evaluation import train_classifier
from gae_augment.evaluation.advice import scratch, setting
from gae_augment.integrations.lightning import GAEDataModule

pytestmark = LIGHTNING_WARNINGS


@pytest.fixture
def short_advice(monkeypatch):
    r"""Makes the comparison short, and collects what it trains."""
    monkeypatch.setattr(setting, "MAX_REPETITIONS", 1)
    monkeypatch.setattr(scratch, "_steps", lambda *arguments: 20)
    trained = []

    def training(*arguments, **options):
        trained.append(options["seed"])
        return train_classifier(*arguments, **options)

    monkeypatch.setattr(scratch, "train_classifier", training)
    return trained


AUTO = {
    "synthetic_fraction": "auto",
    "motion": "auto",
    "advise_options": {"backbone": None, "minutes": 0.1, "strengths": (1.0,)},
}


def test_advice_is_asked_once_and_followed(make, class_fits, short_advice, caplog):
    caplog.set_level(logging.INFO)
    module = make(**AUTO, seed=3, val_set=Digits(1))
    make_trainer(1).fit(Classifier(), datamodule=module)
    advice = module.advice_
    # Without and with motions, in three splits. Two classes are fitted, and all of each split.
    assert (len(short_advice), advice.splits) == (6, 3)
    assert module.hparams["synthetic_fraction"] == "auto"
    assert module.train_dataloader().sampler.synthetic_fraction == 0
    used = advice.use and advice.ours == "motions"
    assert (module.augmented.motion is not None) == used
    assert advice.sentence in caplog.text
    assert "takes about 0.1 minutes" in caplog.text

    assert (advice.strategy, advice.standard_views) == ("class-balanced sampling", False)
    short_advice.clear()
    class_fits.clear()
    again = ready(make(**AUTO, seed=3)).advice_
    assert (again.rows, short_advice, class_fits) == (advice.rows, [], [])
    # Another model may learn other motions.
    ready(make(**AUTO, seed=3, augmenter=GAEAugmenter(GenerativeModel(epochs=3, delta=1.0), progress=False)))
    assert len(short_advice) == 6


@pytest.mark.parametrize(
    ("use", "ours", "fraction", "strength"),
    [
        (True, "motions", 0.0, 0.5),
        (True, "synthetic images", 0.5, None),
        (False, "motions", 0.0, None),
        (False, "none", 0.0, None),
    ],
)
def test_every_advice_is_followed(use, ours, fraction, strength, make, monkeypatch):
    advice = SimpleNamespace(use=use, ours=ours, strength=0.5, sentence="A sentence.", warnings=())
    monkeypatch.setattr("gae_augment.integrations.advice.advise", lambda *arguments, **options: advice)
    module = ready(make(synthetic_fraction="auto", motion="auto"))
    assert module.train_dataloader().sampler.synthetic_fraction == fraction
    motion = module.augmented.motion
    assert (None if motion is None else motion.strength) == strength


@pytest.mark.parametrize(
    ("options", "strategy", "views"),
    [
        ({}, "class-balanced sampling", False),
        ({"balance": 0.4}, "square-root sampling with balanced softmax", False),
        ({"balance": 0.1, "transform": lambda image: image}, "balanced softmax", True),
        ({"transform": v2.ColorJitter()}, "class-balanced sampling", False),
    ],
)
def test_advice_is_on_top_of_what_the_module_trains_with(options, strategy, views, make, monkeypatch):
    asked = {}

    def advise(training_set, learn_motions, **options):
        asked.update(options)
        return SimpleNamespace(use=False, ours="none", sentence="A sentence.", warnings=())

    module = make(synthetic_fraction="auto", motion="auto", seed=5, advise_options={"minutes": 2}, **options)
    monkeypatch.setattr("gae_augment.integrations.advice.advise", advise)
    ready(module)
    assert (asked["strategy"], asked["standard_views"]) == (strategy, views)
    assert (asked["seed"], asked["minutes"], asked["synthetic_images"]) == (5, 2, False)


def test_advice_is_on_top_of_the_transforms_of_the_module(make, monkeypatch):
    asked = {}

    def advise(training_set, learn_motions, **options):
        asked.update(options)
        return SimpleNamespace(use=False, ours="none", sentence="A sentence.", warnings=())

    monkeypatch.setattr("gae_augment.integrations.advice.advise", advise)
    transform = v2.Compose([v2.RandomVerticalFlip(1.0), v2.ToDtype(torch.float32)])
    ready(make(synthetic_fraction="auto", motion="auto", transform=transform))
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert torch.equal(asked["standard_views"](image), image.flip(1))


def test_two_modules_at_the_same_time_ask_for_advice_once(make, short_advice):
    modules = [make(**AUTO), make(**AUTO)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(GAEDataModule.prepare_data, modules))
    assert len(short_advice) == 6
    assert modules[0].advice_.rows == modules[1].advice_.rows


def test_advice_on_vectors_is_an_error(make, class_fits):
    vectors = TensorDataset(torch.randn(30, 4), torch.tensor([0] * 20 + [1] * 10))
    with pytest.raises(ValueError, match=r"synthetic_fraction='auto' compares .* vectors of 4 features"):
        make(vectors, synthetic_fraction="auto", motion="auto").prepare_data()
    assert not class_fits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advise_options": {"hours": 1}}, r"'advise_options' has \['hours'\], but may have only \['backbone'"),
        ({"motion": 0.5}, "'motion' is 0.5, but synthetic_fraction='auto' decides on motions too"),
        ({"motion": None}, "'motion' is None, but synthetic_fraction='auto' decides on motions too"),
    ],
)
def test_wrong_options_of_advice_are_errors(options, message, make):
    with pytest.raises(ValueError, match=message):
        make(**{"synthetic_fraction": "auto", "motion": "auto", **options})
