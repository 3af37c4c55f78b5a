"""What both trainings share: a schedule, averaged weights and a file to go on from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from aether.errors import InputError, reading
from aether.files import new_file

_DAMAGED = "cannot be read as a checkpoint; remove it to train this part anew"

WARMUP = 50
DECAY = 0.3
"""Share of the steps over which the learning rate falls to zero. Before, it is constant, so that a finished
training can be given more steps without having been wound down for fewer."""

MEMORY = 0.998
"""Of the averaged weights, from step to step."""


def rate(step: int, steps: int) -> float:
    """Factor on the learning rate at a step, 0 to 1."""
    left = max(steps - step, 0) / max(DECAY * steps, 1)
    return min((step + 1) / WARMUP, 1.0, left)


class Average:
    """Exponential average of a module's parameters, which samples better than the latest ones."""

    def __init__(self, module: torch.nn.Module, memory: float = MEMORY) -> None:
        self.memory = memory
        self.weights = {key: value.detach().clone() for key, value in module.named_parameters()}

    @torch.no_grad()
    def add(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.memory, (step + 1) / (step + 10))
        for key, value in module.named_parameters():
            self.weights[key].lerp_(value.float(), 1 - decay)


def save(
    file: Path, step: int, module: torch.nn.Module, average: Average, optimizers: list[torch.optim.Optimizer]
) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {f"module.{key}": value.detach() for key, value in module.named_parameters()}
    tensors |= {f"average.{key}": value for key, value in average.weights.items()}
    for number, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{key}": value for key, value in entries.items()}
    _write(file, tensors, step)


def _write(file: Path, tensors: dict[str, torch.Tensor], step: int) -> None:
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    with new_file(file) as part:
        save_file(contiguous, part, {"step": json.dumps(step)})


def averaged(file: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint.

    Raises:
        InputError: there is none, or a damaged one (field "work").
    """
    if not file.is_file():
        raise InputError("work", f"{file} is not there: run the stages before this one first")
    with reading("work", f"{file} {_DAMAGED}"):
        stored = load_file(file)
        module, average = (
            {key.removeprefix(part): value for key, value in stored.items() if key.startswith(part)}
            for part in ("module.", "average.")
        )
        shapes = [{key: value.shape for key, value in part.items()} for part in (module, average)]
        if shapes[0] != shapes[1]:
            raise ValueError("its averaged weights are not those of its module")
    return average


def begin_with(file: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write a checkpoint of given weights at step 0, where there is none yet."""
    if not file.is_file():
        tensors = {
            f"{part}.{key}": value.float().clone()
            for part in ("module", "average")
            for key, value in weights.items()
        }
        _write(file, tensors, 0)


def restore(
    file: Path, module: torch.nn.Module, average: Average, optimizers: list[torch.optim.Optimizer]
) -> int:
    """Read a checkpoint into the objects; the step to go on with, 0 where there is none.

    Raises:
        InputError: it is damaged, or of other modules (field "work"); the objects may hold parts of it.
    """
    if not file.is_file():
        return 0
    with reading("work", f"{file} {_DAMAGED}"):
        return _restored(file, module, average, optimizers)


def _restored(
    file: Path, module: torch.nn.Module, average: Average, optimizers: list[torch.optim.Optimizer]
) -> int:
    with safe_open(file, "pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        step = int(json.loads(stored.metadata()["step"]))
    with torch.no_grad():
        for key, value in module.named_parameters():
            value.copy_(tensors[f"module.{key}"])
            average.weights[key].copy_(tensors[f"average.{key}"])
    for number, optimizer in enumerate(optimizers):
        content = optimizer.state_dict()
        content["state"] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{number}."):
                _, _, index, name = key.split(".")
                content["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(content)
    return step
