import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DistributedSampler

from gae_augment import MixedSampler

DATA = SimpleNamespace(targets=[0] * 9 + [1] * 5, is_synthetic=[False] * 11 + [True] * 3)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 11, 12])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7])
def test_shares_are_those_of_torch_and_together_the_plan(num_samples, replicas):
    for epoch in (0, 3):
        plan = MixedSampler(DATA, num_samples=num_samples).draw(epoch).tolist()
        shares = []
        for rank in range(replicas):
            sampler = MixedSampler(DATA, num_samples=num_samples, num_replicas=replicas, rank=rank)
            sampler.set_epoch(epoch)
            shares.append(list(sampler))
            assert len(shares[-1]) == len(sampler) == math.ceil(num_samples / replicas)
            assert sampler.draw(epoch).tolist() == plan
            positions = DistributedSampler(range(num_samples), replicas, rank, shuffle=False)
            assert shares[-1] == [plan[position] for position in positions]
        # Nothing but the padding, shorter than a share for each rank, is drawn twice.
        surplus = Counter(index for share in shares for index in share)
        surplus.subtract(plan)
        assert min(surplus.values()) >= 0
        assert surplus.total() == -num_samples % replicas


def test_without_a_process_group_the_only_rank_gets_the_plan():
    sampler = MixedSampler(DATA)
    assert (sampler.num_replicas, sampler.rank, len(sampler)) == (1, 0, 11)
    assert list(sampler) == sampler.draw(0).tolist()


def test_each_pass_of_a_rank_is_a_new_epoch():
    sampler = MixedSampler(DATA, num_replicas=2, rank=1, epochs=2)
    passes = [list(sampler), list(sampler)]
    assert passes == [sampler.draw(epoch).tolist()[1::2] + sampler.draw(epoch).tolist()[:1] for epoch in (0, 1)]


def test_pickled_sampler_keeps_its_share_and_epoch():
    sampler = MixedSampler(DATA, num_replicas=3, rank=2)
    sampler.set_epoch(4)
    copy = pickle.loads(pickle.dumps(sampler))
    assert (copy.num_replicas, copy.rank, copy.epoch) == (3, 2, 4)
    assert list(copy) == list(sampler)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"rank": 0}, "'rank' is given without 'num_replicas'. Pass both, or neither"),
        ({"num_replicas": 2}, "'num_replicas' is given without 'rank'. Pass both, or neither"),
        ({"num_replicas": 0, "rank": 0}, "'num_replicas' is 0, but must be at least 1"),
        ({"num_replicas": 2, "rank": 2}, "'rank' is 2, but must lie in 0 to 1, for 'num_replicas' of 2. Pass"),
        ({"num_replicas": 2, "rank": -1}, "'rank' is -1, but must lie in 0 to 1"),
    ],
)
def test_ranks_out_of_range_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(DATA, **ranks)


def test_rank_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"'rank' is 0\.5, but must be an integer"):
        MixedSampler(DATA, num_replicas=2, rank=0.5)


TRAINING = """
    import json, pathlib, sys
    from types import SimpleNamespace

    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, TensorDataset
    from gae_augment import MixedSampler
    from gae_augment.evaluation.gain import train_mixed

    rank = int(sys.argv[1])
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(60, 4, generator=generator), torch.arange(60) % 3
    data = SimpleNamespace(targets=labels.tolist(), is_synthetic=(torch.arange(60) > 40).tolist())
    # The rank is read when the sampler is used: it may be created before the process group.
    sampler = MixedSampler(data, num_samples=31, epochs=2)
    alone = len(sampler)
    distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
    torch.manual_seed(0)
    network = DistributedDataParallel(torch.nn.Linear(4, 3))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(images, labels, torch.arange(60)), batch_size=8, sampler=sampler)
    seen = []
    for epoch in range(2):
        seen.append([])
        for batch, targets, indices in loader:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(batch), targets).backward()
            optimiser.step()
            seen[-1] += indices.tolist()
    images = images.view(60, 1, 2, 2)
    classifier = train_mixed(
        (images[:41], labels[:41]), (images[41:], labels[41:]), 0.5, classes=3, epochs=1, seed=0, batch_size=4
    )
    batches = len(loader)
    distributed.destroy_process_group()
    result = {
        "lengths": [alone, batches, len(sampler)],
        "seen": seen,
        "plan": [sampler.draw(epoch).tolist() for epoch in (0, 1)],
        "weights": network.module.weight.tolist(),
        "batches of the evaluation": int(classifier.state_dict()["body.1.num_batches_tracked"]),
    }
    pathlib.Path(f"rank{rank}.json").write_text(json.dumps(result))
"""


def test_two_processes_train_on_their_shares_of_one_plan(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(TRAINING))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    # Gloo looks up the name of the machine, which has no address in some containers.
    environment |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    processes = [
        subprocess.Popen(
            [sys.executable, "train.py", str(rank), str(tmp_path / "meeting")],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=180)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["plan"] == second["plan"]
    for of_first, of_second, plan in zip(first["seen"], second["seen"], first["plan"], strict=True):
        assert len(of_first) == len(of_second) == 16
        # 31 indices for two ranks: the first index is repeated.
        assert Counter(of_first + of_second) == Counter([*plan, plan[0]])
    assert first["seen"][0] != first["seen"][1]
    torch.testing.assert_close(torch.tensor(first["weights"]), torch.tensor(second["weights"]), rtol=0, atol=0)
    for rank in (first, second):
        assert rank["lengths"] == [31, 2, 31]
        # Trainings within the evaluation are no part of the distributed one, and draw all 41 indices.
        assert rank["batches of the evaluation"] == 11
