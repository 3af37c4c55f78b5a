"""Several training processes (torchrun), one per core or GPU: equal weights, gradients averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist


def join() -> tuple[int, int]:
    """(rank, processes); joins the others where torchrun started several."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return int(os.environ.get("RANK", "0")), processes


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """The mean of all processes' gradients, in place; nothing for one process."""
    if not dist.is_initialized():
        return
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))
