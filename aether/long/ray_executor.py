"""Windows of a long clip shared among several GPUs or machines by Ray, which is installed apart.

The model travels from this process to every worker, once; workers on other machines need this package, but no
files. Windows are handed out as workers become free, so that few are in memory. A worker that dies is started
again and its window is done again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..errors import InputError
from .executor import Executor, Outcome, PlainRun, Watch, Window, compute_window

RETRIES = 3
"""This often a worker may die, and a window be begun again, before the run ends with an error."""


class RayWindows(Executor):
    """Windows on Ray's workers, an `aether.long.executor.Executor`.

    Args:
        workers: how many; default one for each GPU of the cluster.
        device: what each worker computes on: "cuda" takes a whole GPU for each, "cpu" a core.
        address: of a Ray cluster, such as "auto" or "ray://host:10001"; default one of its own on this
            machine, for the time of the run.

    Raises:
        ImportError: Ray is not installed.
        InputError: a number of workers or a device that cannot be used.
    """

    def __init__(
        self, workers: int | None = None, *, device: str = "cuda", address: str | None = None
    ) -> None:
        _ray()
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise InputError("workers", f"{workers!r} is not a whole number from 1")
        if device not in ("cuda", "cpu"):
            raise InputError("device", f"{device!r} is not what workers can be given; use cuda or cpu")
        self.workers, self.device, self.address = workers, device, address

    def run(
        self, compute: PlainRun, windows: Iterator[Window], watch: Watch
    ) -> Iterator[tuple[Window, Outcome]]:
        """
        Raises:
            InputError: the model is not on the CPU; the cluster lacks what the workers need.
            RuntimeError: a worker died again and again.
        """
        if compute.model.device.type != "cpu":
            raise InputError("model", "must lie on the CPU to be sent to workers")
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers
            try:
                ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError) as error:
                raise InputError("ray", f"no cluster at {self.address}: {error}") from error
        actors: list[Any] = []
        try:
            shared = ray.put(compute)  # kept until the end, for workers that are started again
            actors += self._hire(shared)
            yield from _share_out(actors, windows, watch)
        finally:
            for actor in actors:
                ray.kill(actor)
            if started:
                ray.shutdown()

    def _hire(self, shared: Any) -> list[Any]:
        ray = _ray()
        resource = "GPU" if self.device == "cuda" else "CPU"
        there = int(ray.cluster_resources().get(resource, 0))
        count = self.workers or (there if self.device == "cuda" else 0)
        if not count:
            raise InputError("workers", "how many? There is no GPU to count by")
        if count > there:
            raise InputError("workers", f"{count} need a {resource} each; Ray has {there}")
        needs = {"num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}
        worker = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES, **needs)(_Worker)
        return [worker.remote(shared, self.device) for _ in range(count)]


class _Worker:
    """A process with a model of its own."""

    def __init__(self, compute: PlainRun, device: str) -> None:
        self._compute = compute.to(device)

    def run(self, window: Window) -> Outcome:
        return compute_window(self._compute, window, lambda step: None)


def _share_out(
    actors: list[Any], windows: Iterator[Window], watch: Watch
) -> Iterator[tuple[Window, Outcome]]:
    ray = _ray()
    free, running = list(actors), {}
    for window in windows:
        watch.begin(window.number)
        actor = free.pop()
        running[actor.run.remote(window)] = window, actor
        if not free:
            yield _next(ray, free, running, watch)
    while running:
        yield _next(ray, free, running, watch)


def _next(ray: Any, free: list[Any], running: dict[Any, Any], watch: Watch) -> tuple[Window, Outcome]:
    """The first window that is ready; its worker is free again."""
    (ready,), _ = ray.wait(list(running))
    window, actor = running.pop(ready)
    try:
        outcome = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        where = f"window {window.number + 1}"
        raise RuntimeError(f"{where}: its worker died {RETRIES + 1} times; see Ray's logs") from error
    free.append(actor)
    watch.finish(window.number)
    return window, outcome


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("Windows on several workers need Ray: pip install ray") from error
    return ray
