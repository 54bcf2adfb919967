r"""Ray: the fits of classes and the making of shards as Ray's tasks, through joblib.

Ray's own backend for joblib gives all results at the end, and fails as a whole where a worker dies. As tasks, pieces of
work go to whichever node is free, and Ray does those again whose worker or node is lost.
"""

__all__ = ["RayTasks", "register_ray_tasks"]

from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import ParallelBackendBase

try:
    import ray
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("gae_augment.integrations.ray needs Ray: pip install 'gae-augment[ray]'") from error


class RayTasks(ParallelBackendBase):
    r"""A backend of joblib's whose calls are Ray's tasks, used inside of ``joblib.parallel_config("ray_tasks")``.

    Arguments go to Ray's object store, those of a call once, also where it is done again.

    Args:
        **options: What Ray takes in ``.options`` of a task, such as ``num_cpus``, ``num_gpus`` and ``resources`` of one
            call, and ``max_retries``, how often it is done again where its worker dies, 3 by default.

    Example:
        >>> import joblib, ray  # doctest: +SKIP
        >>> ray.init(address="auto")  # doctest: +SKIP
        >>> register_ray_tasks()
        >>> with joblib.parallel_config("ray_tasks", num_cpus=1):  # doctest: +SKIP
        ...     augmenter.fit(train)
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any):
        super().__init__(nesting_level, inner_max_num_threads)
        self.options = options
        self._running: dict[Future, ray.ObjectRef] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        r"""Returns how many calls are given to Ray at a time: so many as the cluster has processors for, by default."""
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        if not ray.is_initialized():
            ray.init()
        return max(1, int(ray.cluster_resources().get("CPU", 1) / (self.options.get("num_cpus") or 1)))

    def submit(self, func: Any, callback: Any = None) -> Future:
        r"""Gives calls to Ray, and returns what will have their results."""
        reference = _call.options(**self.options).remote(func)
        future = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda done: self._running.pop(done, None))
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future) -> Any:
        r"""Returns the results of calls, or raises what they raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        r"""Takes back what Ray has not done yet."""
        for reference in list(self._running.values()):
            ray.cancel(reference, force=True)


def _call_batch(batch: Any) -> Any:
    return batch()


_call = ray.remote(_call_batch)


def register_ray_tasks() -> None:
    r"""Makes ``"ray_tasks"`` a name that joblib knows."""
    register_parallel_backend("ray_tasks", RayTasks)
