import re
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision import models

from gae_augment import MixedSampler
from gae_augment.data import ImageDataset
from gae_augment.evaluation.advice import heads
from gae_augment.evaluation.advice.backbones import load_backbone, weights_file
from gae_augment.evaluation.advice.compare import Arm, Comparison, score_split
from gae_augment.evaluation.advice.heads import PENALTIES, STRATEGIES, Projection, train_heads
from gae_augment.evaluation.advice.prior import Prior, prior_of
from gae_augment.evaluation.advice.setting import PARTNERS
from gae_augment.evaluation.advice.splits import grouped_folds, near_duplicates
from gae_augment.evaluation.advice.verdict import HOW, PROBABILITY, choose_base, decide
from gae_augment.evaluation.advice.views import Pictures, standard_views

NAMES = list(STRATEGIES)


@pytest.fixture
def clouds():
    r"""Features of 300 images in three overlapping classes of very different size."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [220, 60, 20])
    centres = random.normal(size=(3, 12))
    features = centres[labels] + 1.5 * random.normal(size=(300, 12)) * np.geomspace(0.1, 2, 12)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("penalty", range(len(PENALTIES)))
@pytest.mark.parametrize(
    ("strategy", "class_weight"), [("plain training", None), ("class-balanced sampling", "balanced")]
)
def test_heads_match_logistic_regression(clouds, strategy, class_weight, penalty, monkeypatch):
    monkeypatch.setattr(heads, "MAX_ITERATIONS", 1000)
    x, labels = clouds
    head = train_heads(x, labels, torch.ones(300), classes=3)[NAMES.index(strategy), penalty]
    peer = LogisticRegression(C=1 / (300 * PENALTIES[penalty]), class_weight=class_weight, tol=1e-8, max_iter=5000).fit(
        x.double().numpy(), labels.numpy()
    )
    ours = (x @ head[:, :-1].t() + head[:, -1]).softmax(dim=1)
    np.testing.assert_allclose(ours.numpy(), peer.predict_proba(x.double().numpy()), atol=2e-3)


def test_few_iterations_are_enough(clouds, monkeypatch):
    x, labels = clouds
    few = train_heads(x, labels, torch.ones(300), classes=3)
    monkeypatch.setattr(heads, "MAX_ITERATIONS", 1000)
    many = train_heads(x, labels, torch.ones(300), classes=3)
    predictions = [
        (torch.einsum("spcd,nd->spnc", h[..., :-1], x) + h[:, :, None, :, -1]).argmax(-1) for h in (few, many)
    ]
    assert (predictions[0] == predictions[1]).float().mean() > 0.995


def test_balanced_softmax_equals_plain_training_with_shifted_bias_if_the_bias_is_free(clouds):
    x, labels = clouds
    trained = train_heads(x, labels, torch.ones(300), classes=3)
    plain, softmax = (trained[NAMES.index(name), 0] for name in ("plain training", "balanced softmax"))
    frequencies = labels.bincount() / 300
    # Adding log frequencies to the logits in training only moves the bias, up to a constant.
    shifted = softmax[:, -1] + frequencies.log()
    torch.testing.assert_close(softmax[:, :-1], plain[:, :-1], atol=2e-3, rtol=2e-2)
    torch.testing.assert_close(shifted - shifted.mean(), plain[:, -1] - plain[:, -1].mean(), atol=1e-2, rtol=2e-2)


def test_weights_of_views_count_as_repeated_images(clouds):
    x, labels = clouds
    weights = torch.ones(300)
    weights[250:] = 2
    repeated = train_heads(torch.cat([x, x[250:]]), torch.cat([labels, labels[250:]]), torch.ones(350), classes=3)
    torch.testing.assert_close(train_heads(x, labels, weights, classes=3), repeated, atol=5e-3, rtol=5e-2)


def test_projection_is_that_of_principal_components(clouds, monkeypatch):
    monkeypatch.setattr(heads, "COMPONENTS", 4)
    x, _ = clouds
    ours = Projection.of(x, torch.ones(300))(x).numpy()
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    peer = PCA(4).fit_transform(standard.numpy())
    np.testing.assert_allclose(np.abs(ours[:, ::-1]), np.abs(peer), atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_folds_keep_groups_together_and_all_classes_in_training(seed):
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2, 3], [90, 30, 9, 5])
    groups = np.concatenate(
        [random.integers(0, n, size) + 100 * k for k, (n, size) in enumerate([(40, 90), (10, 30), (3, 9), (1, 5)])]
    )
    folds = grouped_folds(labels, groups, 3, seed)
    held_out = np.concatenate(folds)
    scored = np.flatnonzero(labels < 3)
    assert sorted(held_out) == scored.tolist()  # the class with one object is never held out
    for fold in folds:
        training = np.setdiff1d(np.arange(len(labels)), fold)
        assert not set(groups[fold]) & set(groups[training])
        assert set(labels[training]) == {0, 1, 2, 3}


@pytest.mark.parametrize(("groups", "several"), [("aaaaabbbbb", 0), ("aacdebbbbb", 1)])
def test_fewer_than_two_classes_with_several_objects_are_an_error(groups, several):
    with pytest.raises(ValueError, match=f"Only {several} of 2 classes show more than one object"):
        grouped_folds(np.repeat([0, 1], 5), list(groups), 3, 0)


def test_fewer_objects_than_folds_are_an_error():
    with pytest.raises(ValueError, match="show 2 objects that can be held out, but 3 folds need"):
        grouped_folds(np.array([0, 1] * 4), list("aaaabbbb"), 3, 0)


def test_near_duplicates_are_counted_across_groups_only():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 64, generator=generator)
    x[1], x[11] = x[0] + 0.05, x[10] * 1.02
    labels, groups = np.repeat([0, 1], 20), np.arange(40)
    assert near_duplicates(x, labels, groups) == 4 / 40
    groups[1] = 0
    assert near_duplicates(x, labels, groups) == 2 / 40
    labels[11] = 1
    assert near_duplicates(x, labels, groups) == 0


def test_posterior_matches_the_closed_form():
    posterior = Prior(2.0, 1.0, 3).update(0.5, 0.5)
    # The product of the densities N(2, 1) and N(0.5, 0.25), on a grid.
    grid = np.linspace(-5, 6, 200_001)
    density = norm.pdf(grid, 2, 1) * norm.pdf(0.5, grid, 0.5)
    density /= density.sum()
    mean = (grid * density).sum()
    assert posterior.mean == pytest.approx(mean, abs=1e-6)
    assert posterior.deviation == pytest.approx((density * (grid - mean) ** 2).sum() ** 0.5, abs=1e-6)
    assert posterior.probability == pytest.approx(density[grid > 0].sum(), abs=1e-4)
    assert (posterior.low, posterior.high) == pytest.approx(norm.interval(0.95, mean, posterior.deviation), abs=1e-3)


def simulated(seed, effect, *, images=600, noise=0.25):
    r"""Logits of two arms on held-out images; the second one is more often right by ``effect`` points."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 6
    plain, base = Arm("plain training"), Arm("balanced softmax", True)
    ours = Arm("balanced softmax", True, "motions", 1.0)
    truth = 2.5 * np.eye(6)[labels] + random.normal(size=(images, 6)) * 1.5
    repetitions = []
    for _ in range(2):
        own = {arm: truth + noise * random.normal(size=truth.shape) for arm in (plain, base, ours)}
        own[plain] = own[plain] - np.eye(6)[labels]
        # A small advantage of the right class, which is worth so many points of accuracy.
        own[ours] = own[ours] + effect * 0.046 * np.eye(6)[labels]
        splits = []
        for fold in range(3):
            rows = np.arange(fold, images, 3)
            logits = {arm: torch.from_numpy(own[arm][rows]).mT[None].expand(2, -1, -1) for arm in own}
            splits.append(score_split(rows, torch.from_numpy(labels[rows]), logits))
        repetitions.append(splits)
    return Comparison(labels, np.arange(images), repetitions), base, ours


def test_score_and_accuracy_of_known_logits():
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[9.0, 0], [9, 0], [0, 9], [0, 9]])
    arm = Arm("plain training")
    splits = [[score_split(np.arange(4), labels, {arm: logits.mT[None]})]]
    comparison = Comparison(labels.numpy(), np.arange(4), splits)
    assert comparison.recalls(arm) == pytest.approx([200 / 3, 100])
    assert comparison.balanced_accuracy(arm) == pytest.approx(250 / 3)
    assert comparison.difference(arm, arm)[0] == 0


def test_standard_error_agrees_with_other_samples_of_images():
    measured = [simulated(seed, 0.0) for seed in range(40)]
    differences = [comparison.difference(ours, base) for comparison, base, ours in measured]
    means, errors = np.array(differences).T
    assert 0.75 < errors.mean() / means.std(ddof=1) < 1.4


def test_images_of_one_group_count_as_one():
    comparison, base, ours = simulated(0, 0.0)
    doubled = Comparison(comparison.labels, comparison.groups // 12, comparison.repetitions)
    assert doubled.difference(ours, base)[0] == comparison.difference(ours, base)[0]
    # Groups of two images of different classes leave the errors alone; one group per class does not.
    rows = comparison.labels == 0
    values = np.where(rows, np.repeat(np.arange(50), 12) % 2, 0.0)
    independent = comparison.class_variance(values, 0)
    paired = Comparison(comparison.labels, np.arange(600) // 24, comparison.repetitions)
    paired_values = np.where(rows, np.arange(600) // 24 % 2, 0.0)
    assert paired.class_variance(paired_values, 0) / comparison.class_variance(paired_values, 0) == pytest.approx(
        4, rel=0.1
    )
    assert independent == pytest.approx(0.25 / 99, rel=0.02)


def test_planted_gain_of_a_point_is_found_and_planted_harm_is_never_used():
    def used(seed, effect):
        comparison = simulated(seed, effect)[0]
        base, rows = choose_base(comparison, [arm for arm in comparison.arms if arm.ours == "none"], pretrained=True)
        ours = [arm for arm in comparison.arms if arm.ours != "none"]
        return decide(comparison, base, ours, rows, pretrained=True).use

    found = [used(seed, 1.0) for seed in range(20)]
    harmed = [used(100 + seed, -1.0) for seed in range(20)]
    accuracy = [
        comparison.balanced_accuracy(ours) - comparison.balanced_accuracy(base)
        for comparison, base, ours in (simulated(200 + seed, 1.0) for seed in range(20))
    ]
    # The effect is worth a point of accuracy.
    assert np.mean(accuracy) == pytest.approx(1.0, abs=0.4)
    assert sum(found) >= 16
    assert sum(harmed) == 0


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_motions_can_be_best_with_another_remedy(strength):
    comparison, base, ours = simulated(0, 20.0)
    other = Arm("class-balanced sampling", True, "motions", strength)
    for splits in comparison.repetitions:
        for split in splits:
            split.log_probabilities[other] = split.log_probabilities.pop(ours)
            split.correct[other] = split.correct.pop(ours)
    decision = decide(comparison, base, [other], {}, pretrained=True)
    assert (decision.best, decision.use) == (other, True)
    row = decision.rows[-1]
    name = f"class-balanced sampling + standard views + learned motions of strength {strength:g}"
    assert (row.name, row.over) == (name, "balanced softmax + standard views")
    prior = prior_of("motions on class-balanced sampling over the best", pretrained=True, standard=True)
    assert row.gain == prior.update(row.measured, row.standard_error)


def test_motions_cannot_gain_where_no_errors_are_left():
    labels = np.arange(60) % 3
    plain, moved = Arm("balanced softmax"), Arm("class-balanced sampling", False, "motions", 1.0)
    logits = torch.from_numpy(20.0 * np.eye(3)[labels]).mT[None]
    splits = [score_split(np.arange(60), torch.from_numpy(labels), dict.fromkeys((plain, moved), logits))]
    decision = decide(Comparison(labels, np.arange(60), [splits]), plain, [moved], {}, pretrained=False)
    assert prior_of("motions on class-balanced sampling over the best", pretrained=False, standard=False).mean > 1
    assert not decision.use
    assert decision.gain.mean == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("strategy", NAMES)
def test_samplers_of_commands_take_any_training_set(strategy):
    train = ImageDataset([torch.zeros(1, 4, 4)] * 5, labels=[0, 0, 0, 0, 1])
    samplers = re.findall(r"MixedSampler\([^)]*\)", HOW[strategy].format(train="train"))
    assert len(samplers) == (strategy != "plain training")
    for sampler in samplers:
        assert len(eval(sampler, {"MixedSampler": MixedSampler, "train": train})) == 5


def test_every_strategy_and_change_has_a_prior_and_a_command():
    assert set(HOW) == set(STRATEGIES)
    for pretrained in (False, True):
        for standard in (False, True):
            ours = [
                f"{change} on {name}" for change in ("motions", "weak motions", "synthetic images") for name in NAMES
            ]
            for change in (*NAMES[1:], *ours, *(f"motions on {partner} over the best" for partner in PARTNERS)):
                assert prior_of(change, pretrained=pretrained, standard=standard).deviation > 0
        assert prior_of("standard views", pretrained=pretrained, standard=True).deviation > 0
    assert 0.5 < PROBABILITY < 1


def test_torchvision_network_gives_the_inputs_of_its_last_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert load_backbone("auto") is None
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        load_backbone("resnet18")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.resnet18(weights=None).eval()
    file = weights_file("resnet18")
    file.parent.mkdir()
    torch.save(network.state_dict(), file)
    state = torch.get_rng_state()
    backbone = load_backbone("auto")
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.name == "resnet18 (ResNet18_Weights.IMAGENET1K_V1)"
    images = torch.randint(0, 256, (3, 3, backbone.size, backbone.size), dtype=torch.uint8)
    features = backbone(images)
    network.fc = nn.Identity()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network((images.float() / 255 - mean) / std)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-3)


def test_networks_without_a_linear_last_layer_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with torch.random.fork_rng(devices=[]):
        network = models.squeezenet1_1(weights=None)
    file = weights_file("squeezenet1_1")
    file.parent.mkdir()
    torch.save(network.state_dict(), file)
    with pytest.raises(ValueError, match="'squeezenet1_1', which has no linear last layer"):
        load_backbone("squeezenet1_1")


def test_own_network_is_evaluated_and_stays_in_training():
    seen = []

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.frozen = nn.BatchNorm2d(3), nn.Dropout().eval()

        def forward(self, images):
            seen.append((self.norm.training, self.frozen.training))
            return self.norm(images.float()).mean(dim=(2, 3))

    network = Network()
    mean = network.norm.running_mean.clone()
    backbone = load_backbone(network)
    backbone(torch.full((2, 3, 8, 8), 7, dtype=torch.uint8))
    assert seen == [(False, False)]
    assert network.training
    assert network.norm.training
    assert not network.frozen.training
    assert torch.equal(network.norm.running_mean, mean)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "import torch\n"
        "def good():\n    return lambda images: images.float().mean(dim=(2, 3))\n"
        "def flat():\n    return lambda images: images.float().mean()\n"
        "def infinite():\n    return lambda images: images.float().mean(dim=(2, 3)) / 0\n"
        "def nothing():\n    return None\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "my_networks"
    sys.modules.pop("my_networks", None)


def test_function_of_a_module_in_the_current_folder(module):
    backbone = load_backbone(f"{module}:good")
    assert (backbone.size, backbone(torch.full((2, 3, 224, 224), 7, dtype=torch.uint8)).tolist()) == (
        224,
        [[7] * 3] * 2,
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "returned a NoneType"), ("number", "has no function"), ("missing", "has no function")],
)
def test_module_without_a_network_is_an_error(module, name, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(f"{module}:{name}")


@pytest.mark.parametrize(("name", "message"), [("flat", r"shape \(2, F\)"), ("infinite", "not finite")])
def test_wrong_features_are_an_error(module, name, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(f"{module}:{name}")(torch.ones(2, 3, 224, 224, dtype=torch.uint8))


@pytest.mark.parametrize(("backbone", "message"), [("resnet19", "does not have"), (3, "a name, a callable or None")])
def test_unknown_network_is_an_error(backbone, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(backbone)


def test_moved_images_get_the_same_standard_views():
    images = [torch.arange(3 * 40 * 30).reshape(3, 40, 30).remainder(251).to(torch.uint8)] * 2
    flat = type("Flat", (), {"size": 16, "__call__": lambda self, x: x.float().flatten(1)})()
    options = {"then": standard_views(16), "seed": 3}
    still = Pictures(images).features([0, 1], flat, moves=None, **options)
    unmoved = Pictures(images).features([0, 1], flat, moves=lambda x: (torch.rand(3), x)[1], **options)
    assert torch.equal(still, unmoved)
    assert not torch.equal(still[0], still[1])


def test_pictures_of_any_type_become_uint8():
    class Floats(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.full((1, 400, 10), float(index)), index

    pictures = Pictures.read(Floats(), [0, 1])
    assert [tuple(image.shape) for image in pictures.images] == [(3, 320, 8)] * 2
    assert [int(image.max()) for image in pictures.images] == [0, 255]


def test_pictures_of_arrays_with_the_channels_last():
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (picture,) = Pictures.read(ImageDataset([array], labels=[0]), [0]).images
    assert np.array_equal(picture.permute(1, 2, 0).numpy(), array)


def test_group_of_several_classes_is_on_one_side():
    # Group 0 is all that class 2 has, and is one of the groups of class 0.
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    groups = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    for seed in range(5):
        for held_out in grouped_folds(labels, groups, 3, seed):
            inside = np.delete(np.arange(len(labels)), held_out)
            assert not {groups[row] for row in held_out} & {groups[row] for row in inside}
