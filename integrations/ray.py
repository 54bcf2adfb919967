r"""A joblib backend that runs calls as Ray tasks.

Each task runs on any free node. Ray repeats a task if its worker or node is lost.
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
    r"""Runs joblib's calls as Ray tasks, inside ``joblib.parallel_config("ray_tasks")``.

    Args:
        nesting_level: The depth of nested parallel calls, set by joblib.
        inner_max_num_threads: Not supported; must be ``None``.
        **options: The options of each Ray task, for example ``num_cpus``, ``num_gpus`` and ``max_retries``.

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
        r"""Returns ``n_jobs`` if it is positive, else the number of tasks that the cluster's CPUs can run at once."""
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        if not ray.is_initialized():
            ray.init()
        return max(1, int(ray.cluster_resources().get("CPU", 1) / (self.options.get("num_cpus") or 1)))

    def submit(self, func: Any, callback: Any = None) -> Future:
        r"""Submits a batch of calls to Ray as one task, and returns the future of its results.

        Args:
            func: The batch, a function without parameters.
            callback: A function that receives the future when the task is done.
        """
        reference = _call.options(**self.options).remote(func)
        future = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda done: self._running.pop(done, None))
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future) -> Any:
        r"""Returns the results of a finished batch of calls, or raises its error.

        Args:
            out: The future that ``submit`` returned.
        """
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        r"""Cancels all tasks that have not finished."""
        for reference in list(self._running.values()):
            ray.cancel(reference, force=True)


def _call_batch(batch: Any) -> Any:
    return batch()


_call = ray.remote(_call_batch)


def register_ray_tasks() -> None:
    r"""Registers the backend ``RayTasks`` in joblib under the name ``"ray_tasks"``."""
    register_parallel_backend("ray_tasks", RayTasks)
