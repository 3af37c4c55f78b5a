"""Several training processes (torchrun), one per core or GPU: equal weights, gradients averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

_Item = TypeVar("_Item")
_PATIENCE = timedelta(hours=12)  # the first renders and encodes for long


def join() -> int:
    """This process's number, 0 for the first; joins the others where torchrun started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # gloo takes tensors of the CPU and of a GPU, also where processes share one.
        dist.init_process_group("gloo", timeout=_PATIENCE)
    return int(os.environ.get("RANK", "0"))


def own_device(device: str) -> str:
    """The device of this process, of "cuda" the GPU of its number on this machine, over and over."""
    if device != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the body before the others, which then find what it has written."""
    rank = join()
    if rank:
        wait()
    yield
    if not rank:
        wait()


def share(items: Iterable[_Item]) -> list[_Item]:
    """This process's part of work that is done once, by any of them."""
    rank, several = join(), dist.is_initialized()
    return list(items)[rank :: dist.get_world_size() if several else 1]


def wait() -> None:
    """Until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


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
