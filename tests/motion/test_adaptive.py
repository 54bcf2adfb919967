r"""The motion whose strength adapts: its rule, planted truths, what workers and copies see."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from gae_augment import AugmentedDataset
from gae_augment.data import ImageDataset
from gae_augment.motion import AdaptiveMotion, MotionBank, adapted_strength, adaptive, move

LABELS = [0] * 30 + [1] * 10


@pytest.fixture(autouse=True)
def few_probes(monkeypatch):
    monkeypatch.setattr(adaptive, "PROBES", 120)


def bank(dx):
    r"""Returns a bank whose motions all shift what an image shows to the right, by dx of 16 pixels."""
    field = torch.tensor([-2 * dx / 16, 0.0]).view(1, 2, 1, 1).expand(3, 2, 8, 8)
    return MotionBank({0: field.half()})


def images():
    r"""Returns images that show one bright column. It lies farther left in class 0 than in class 1."""
    pixels = torch.zeros(40, 1, 16, 16)
    for row, label in enumerate(LABELS):
        pixels[row, 0, :, 4 + label * 6 + row % 2] = 1
    return pixels


def dataset(motion=None, transform=None):
    steps = [step for step in (motion, transform) if step is not None]
    return ImageDataset(list(images()), labels=LABELS, transform=v2.Compose(steps) if steps else None)


def by_position(boundary=8.0):
    r"""Returns a classifier that compares the column's position with a boundary."""

    def network(batch):
        weights = batch.mean(dim=(1, 2)).clamp(min=0)
        position = (weights * torch.arange(16)).sum(dim=1) / weights.sum(dim=1)
        return torch.stack([boundary - position, position - boundary], dim=1)

    return network


@pytest.mark.parametrize(
    ("strength", "unmoved", "moved", "expected"),
    [
        (0.5, 100, 126, 0.75),
        (0.5, 100, 125, 0.25),
        (0.0, 100, 100, 0.0),
        (1.5, 100, 200, 1.5),
        (0.0, 0, 1, 0.25),
        (0.5, 0, 0, 0.25),
    ],
)
def test_strength_follows_the_rule(strength, unmoved, moved, expected):
    assert adapted_strength(strength, unmoved, moved) == expected


def test_errors_are_those_of_a_classifier_on_images_that_are_all_moved(monkeypatch):
    motion = AdaptiveMotion(bank(3))
    network = by_position(boundary=6.5)
    monkeypatch.setattr(adaptive, "PROBES", 400)
    motion.update(network, dataset(motion))
    expected = []
    for pixels in (images(), move(images(), bank(3).fields[:1].float())):
        wrong = network(pixels).argmax(dim=1) != torch.tensor(LABELS)
        # All classes count alike.
        expected.append((wrong[:30].float().mean() + wrong[30:].float().mean()).item() / 2)
    assert expected == [0, 0.5]
    assert motion.errors_ == pytest.approx(expected, abs=0.03)


def test_strength_rises_with_a_classifier_that_motions_can_teach():
    motion = AdaptiveMotion(bank(2))
    data = dataset(motion)
    # Half of the images of class 0 come to lie beyond the boundary.
    strengths = [motion.update(by_position(boundary=6.5), data) for _ in range(2)]
    motion.strength = 1.25
    strengths += [motion.update(by_position(boundary=6.5), data) for _ in range(2)]
    assert strengths == [0.25, 0.5, 1.5, 1.5]
    assert motion.updates == 4


def test_strength_falls_with_a_classifier_that_knows_the_motions():
    motion = AdaptiveMotion(bank(2))
    motion.strength = 1.0
    assert [motion.update(by_position(boundary=8.5), dataset(motion)) for _ in range(5)] == [0.75, 0.5, 0.25, 0, 0]


@pytest.mark.usefixtures("global_rngs_unmoved")
def test_updates_are_repeatable_and_leave_the_network_as_it_was():
    fields = 0.2 * torch.randn(20, 2, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 8, 8)
    with torch.random.fork_rng():
        network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(256, 2))
    network[0].eval()
    before = copy.deepcopy(network.state_dict())

    def errors(seed=0):
        motion = AdaptiveMotion(MotionBank({0: fields.half()}), seed=seed)
        data = dataset(motion, v2.RandomHorizontalFlip())
        return [(motion.update(network, data), motion.errors_) for _ in range(3)]

    first = errors()
    assert first == errors() != errors(seed=1)
    assert len({figures for _, figures in first}) == 3
    assert [module.training for module in network] == [False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_other_transforms_draw_the_same_for_unmoved_and_moved_images():
    seen = []

    def network(batch):
        seen.append(batch.clone())
        return batch.new_zeros(len(batch), 2)

    motion = AdaptiveMotion(bank(0))
    motion.update(network, dataset(motion, v2.RandomCrop(16, padding=4)))
    unmoved, moved = torch.cat(seen[::2]), torch.cat(seen[1::2])
    assert len(unmoved) == 120
    assert len(unmoved.unique(dim=0)) > 60
    torch.testing.assert_close(unmoved, moved)


def test_motion_of_batches_is_part_of_the_function():
    motion = AdaptiveMotion(bank(2), per_image=True)
    network = by_position(boundary=6.5)
    assert motion.update(lambda batch: network(motion(batch)), dataset()) == 0.25
    assert motion.errors_[1] > 0.2
    with pytest.raises(ValueError, match="moved none of the dataset's images"):
        motion.update(network, dataset())
    assert motion.p == 0.5


def test_images_must_be_tensors():
    motion = AdaptiveMotion(bank(2))
    with pytest.raises(TypeError, match="images are of type Image, but must be tensors"):
        motion.update(by_position(), dataset(motion, v2.ToPILImage()))
    assert motion.strength == 0


class Ones:
    sampling_strategy, seed_ = "auto", 0

    def sample(self, label, n, *, seed=None, out=None):
        return torch.ones(n, 1, 16, 16)


def test_synthetic_images_are_left_out():
    seen = []

    def network(batch):
        seen.append(batch)
        return batch.new_zeros(len(batch), 2)

    motion = AdaptiveMotion(bank(2))
    augmented = AugmentedDataset(dataset(), Ones(), motion=motion)
    assert augmented.is_synthetic.sum() == 20
    motion.update(network, augmented)
    assert torch.cat(seen).mean() < 0.2
    # Class 1 has a half of the images.
    assert motion.errors_ == (0.5, 0.5)
    with pytest.raises(ValueError, match="no real image"):
        motion.update(network, TensorDataset(images(), torch.full((40,), -1)))


def test_new_motion_leaves_images_unchanged():
    motion = AdaptiveMotion(bank(3), p=1.0)
    assert torch.equal(motion(images()), images())
    one = images()
    assert motion.move_each([one])[0] is one
    motion.strength = 1.0
    assert not torch.equal(motion.move_each([one])[0], one)


def test_running_workers_see_a_new_strength():
    motion = AdaptiveMotion(bank(3), p=1.0)
    loader = DataLoader(dataset(motion), 8, num_workers=1, persistent_workers=True)
    for strength in (0.0, 1.0, 0.5):
        motion.strength = strength
        loaded = torch.cat([batch for batch, _ in loader])
        torch.testing.assert_close(loaded, move(images(), strength * bank(3).fields[:1].float()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda motion: pickle.loads(pickle.dumps(motion))])
def test_copies_have_a_strength_of_their_own(copied):
    motion = AdaptiveMotion(bank(2), p=0.7, max_strength=1.0, seed=3)
    data = dataset(motion)
    motion.update(by_position(boundary=6.5), data)
    other = copied(motion)
    assert (other.strength, other.updates, other.p, other.max_strength) == (0.25, 1, 0.7, 1.0)
    motion.strength = 1.0
    assert other.strength == 0.25
    assert other._strength.is_shared()
    fresh = AdaptiveMotion(bank(2), seed=3)
    fresh.load_state_dict(motion.state_dict())
    assert (fresh.strength, fresh.updates) == (1.0, 1)
    assert fresh._strength.is_shared()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"p": 2}, ValueError, "'p' is 2"),
        ({"max_strength": 4}, ValueError, "'max_strength' is 4"),
        ({"seed": 0.5}, TypeError, "'seed' is 0.5"),
    ],
)
def test_invalid_arguments_are_errors(parameters, error, message):
    with pytest.raises(error, match=message):
        AdaptiveMotion(bank(2), **parameters)
    with pytest.raises(ValueError, match="'strength' is 5"):
        AdaptiveMotion(bank(2)).strength = 5


def test_ranks_share_the_images_and_agree(tmp_path):
    script = """
        import sys
        import torch
        from torch import distributed
        from gae_augment.data import ImageDataset
        from gae_augment.motion import AdaptiveMotion, MotionBank, adaptive

        adaptive.PROBES = 120
        rank = int(sys.argv[1])
        distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", world_size=2, rank=rank)
        field = torch.tensor([-0.25, 0.0]).view(1, 2, 1, 1).expand(3, 2, 8, 8)
        motion = AdaptiveMotion(MotionBank({0: field.half()}))
        pixels = torch.zeros(20, 1, 16, 16)
        pixels[:10, ..., 6], pixels[10:, ..., 12] = 1, 1
        seen = []

        def network(batch):
            seen.append(len(batch))
            # Columns lie at 6 or 12, and come to lie at 8 or 14. Only the second rank errs on those at 8.
            right = batch[..., 7 if rank else 10 :].sum(dim=(1, 2, 3)) > 0.5
            return torch.stack([~right, right], dim=1).float()

        motion.update(network, ImageDataset(list(pixels), labels=[0] * 10 + [1] * 10, transform=motion))
        distributed.destroy_process_group()
        print(motion.strength, *motion.errors_, sum(seen))
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    # Gloo looks up the name of the machine, which has no address in some containers.
    environment |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    ranks = [
        subprocess.Popen(
            [sys.executable, path, str(rank), tmp_path / "store"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    first, second = (rank.communicate(timeout=120)[0].split() for rank in ranks)
    assert first == second
    assert first[0] == "0.25"
    assert float(first[1]) == 0
    # Class 0 has half of the images, and half of these are seen by the second rank.
    assert float(first[2]) == pytest.approx(0.25, abs=0.05)
    assert int(first[3]) == 120
