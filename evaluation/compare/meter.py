"""Time, FLOPs and memory of a run, taken from outside of the method."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hero_engine.stopwatch import Stopwatch

EVERY = 8
"""One in so many steps is run without acceleration too, beside the run, to have its time."""


def shared_copy(transformer: nn.Module) -> nn.Module:
    """A copy with the same weights in the same memory: what is put on the one does not touch the other."""
    tensors = (*transformer.parameters(), *transformer.buffers())
    return copy.deepcopy(transformer, {id(tensor): tensor for tensor in tensors})


class Meter:
    """Stands in for a transformer in a run, and measures its calls.

    Args:
        fast: the model that the run gets.
        plain: the model without acceleration. With it, every ``EVERY`` steps the same call is given to both,
            so that load of the machine weighs on both times alike.

    Attributes:
        timestep: of the latest call.
        seconds: wall time of the fast model's calls.
        plain_seconds: what the plain model would have taken for all calls, by the mean of those made; NaN
            where there were none, as in a run of one step.
        held_bytes: most bytes that hooks held on the fast model's modules.
    """

    def __init__(self, fast: nn.Module, plain: nn.Module | None = None):
        self.timestep = float("nan")
        self.seconds = 0.0
        self.held_bytes = 0
        self._fast = fast
        self._plain = plain
        self._plain_times: list[float] = []
        self._calls = 0

    @property
    def plain_seconds(self) -> float:
        times = self._plain_times
        return self._calls * sum(times) / len(times) if times else float("nan")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)

    def __call__(self, **inputs: Any) -> Any:
        # Asked through `fast`, where the run's own caches may want to know.
        self.timestep = float(inputs["timestep"][0])
        device = inputs["hidden_states"].device
        with self._fast.cache_context("run"):
            watch = Stopwatch(device)
            result = self._fast(**inputs)
            watch.stop()
        self.seconds += watch.seconds
        if self._calls % EVERY == 1:
            self.held_bytes = max(self.held_bytes, held_bytes(self._fast))
            if self._plain is not None:
                watch = Stopwatch(device)
                self._plain(**inputs)
                watch.stop()
                self._plain_times.append(watch.seconds)
        self._calls += 1
        return result


class Counter:
    """FLOPs that really ran.

    Attributes:
        flops: two a multiplication: of linear layers, convolutions and the attentions' two matrix products.
    """

    flops = 0.0


@contextmanager
def counted(transformer: nn.Module) -> Iterator[Counter]:
    """Count what runs in a transformer, whatever hooks skip.

    The layers themselves are watched, below everything that caches replace. ``hero_engine.cost`` counts the
    same parts.
    """
    counter = Counter()

    def linear(module: nn.Linear, inputs: Any, output: torch.Tensor) -> None:
        counter.flops += 2 * output.numel() * module.in_features

    def convolution(module: nn.Conv2d, inputs: Any, output: torch.Tensor) -> None:
        counter.flops += 2 * output.numel() * module.weight[0].numel()

    def queries(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        # Every token attends to every token: (batch, tokens, width).
        counter.flops += 4 * output.numel() * output.shape[1]

    handles = []
    for name, module in transformer.named_modules():
        kinds = ((nn.Linear, linear), (nn.Conv2d, convolution))
        handles += [module.register_forward_hook(hook) for kind, hook in kinds if isinstance(module, kind)]
        if name.endswith("attn1.to_q"):
            handles.append(module.register_forward_hook(queries))
    try:
        yield counter
    finally:
        for handle in handles:
            handle.remove()


def held_bytes(transformer: nn.Module) -> int:
    """Bytes of the tensors that hooks and wrappers keep on the modules, the weights left out."""
    sizes: dict[int, int] = {}
    seen: set[int] = set()
    for module in transformer.modules():
        for key, value in vars(module).items():
            if key not in _PARTS:
                _collect(value, sizes, seen)
    return sum(sizes.values())


_PARTS = ("_parameters", "_buffers", "_modules")


def _collect(value: Any, sizes: dict[int, int], seen: set[int]) -> None:
    """Storages of the tensors in nested containers and objects."""
    if id(value) in seen or isinstance(value, (nn.Module, nn.Parameter, type, str)):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, sizes, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, sizes, seen)
    elif hasattr(value, "__dict__") and not callable(value):
        _collect(vars(value), sizes, seen)
