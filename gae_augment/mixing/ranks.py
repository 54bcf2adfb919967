r"""Samplers that share the indices of an epoch among the ranks of a distributed training."""

__all__ = ["SharedSampler"]

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.utils.data import DistributedSampler

from .._utils.checks import check_integer


class SharedSampler(DistributedSampler[int], ABC):
    r"""Iterates over this rank's share of a plan, which is the same in all ranks.

    The plan of an epoch is the list of indices that :meth:`draw` returns. It depends only on the sampler and the epoch.
    Of :math:`R` ranks, rank :math:`r` gets the indices at the positions :math:`r, r + R, r + 2R, \dots` of the plan. If
    the shares would differ in length, the plan is continued with its first indices, so all shares have the same length.

    Each pass over the sampler advances the epoch by one; :meth:`set_epoch` sets the epoch explicitly. All ranks must
    be in the same epoch.

    The class is a :class:`torch.utils.data.DistributedSampler`, so Lightning and other trainers know that the indices
    are shared already, and do not share them again.

    Args:
        num_samples: The number of indices in a plan.
        num_replicas: The number of ranks. By default the world size of ``torch.distributed`` at the time of each pass,
            or 1 without an initialised process group.
        rank: The rank of this process, from 0 to ``num_replicas`` - 1. By default the rank in ``torch.distributed``, or
            0 without an initialised process group.

    Attributes:
        num_samples: The number of indices in a plan, of all ranks together.
        epoch: The epoch of the next pass, counted from 0.

    Raises:
        TypeError: If ``num_replicas`` or ``rank`` is not an integer.
        ValueError: If one of them is out of range, or only one of them is given.
    """

    # Attributes of every DistributedSampler, which other libraries may read.
    shuffle, drop_last = True, False

    # DistributedSampler's own __init__ would fix the rank before a process group exists, and keep the dataset.
    def __init__(self, num_samples: int, *, num_replicas: int | None = None, rank: int | None = None) -> None:
        if (num_replicas is None) != (rank is None):
            given, missing = ("rank", "num_replicas") if num_replicas is None else ("num_replicas", "rank")
            raise ValueError(
                f"'{given}' is given without '{missing}'. Pass both, or neither to read them from torch.distributed."
            )
        if num_replicas is not None and rank is not None:
            check_integer(num_replicas, "num_replicas", 1)
            check_integer(rank, "rank")
            if not 0 <= rank < num_replicas:
                raise ValueError(
                    f"'rank' is {rank}, but must lie in 0 to {num_replicas - 1}, for 'num_replicas' of {num_replicas}. "
                    f"Pass torch.distributed.get_rank() and get_world_size(), or neither."
                )
        self._num_replicas, self._rank = num_replicas, rank
        self.num_samples = num_samples
        self.epoch = 0

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        r"""The number of ranks that share a plan."""
        if self._num_replicas is not None:
            return self._num_replicas
        return distributed.get_world_size() if _has_process_group() else 1

    @property
    def rank(self) -> int:  # type: ignore[override]
        r"""The rank whose share the sampler iterates over."""
        if self._rank is not None:
            return self._rank
        return distributed.get_rank() if _has_process_group() else 0

    @abstractmethod
    def draw(self, epoch: int) -> Tensor:
        r"""Returns the plan of an epoch, for all ranks together, with shape ``(num_samples,)``; epochs count from 0."""

    def set_epoch(self, epoch: int) -> None:
        r"""Sets the epoch of the next pass over the sampler, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        plan = self.draw(self.epoch)
        self.epoch += 1
        positions = torch.arange(len(self)) * self.num_replicas + self.rank
        return iter(plan[positions % len(plan)].tolist())

    def __len__(self) -> int:
        return -(-self.num_samples // self.num_replicas)


def _has_process_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
