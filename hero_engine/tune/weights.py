"""Whether a model still has the weights that it had."""

from __future__ import annotations

import hashlib

import torch

_SAMPLES = 16
"""Numbers that are read of each weight: all of them would take as long as loading the model."""


def weights_digest(model: torch.nn.Module) -> str:
    """16 hexadecimal digits, equal for equal weights, also in another process.

    Of each weight its name, shape, dtype and a few numbers are read, so a change of few numbers may go
    unnoticed; another model, and a LoRA that is merged or put on, do not.
    """
    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        if isinstance(weight, torch.Tensor):
            found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            found.update(sampled_bytes(weight))
    return found.hexdigest()[:16]


def sampled_bytes(weight: torch.Tensor) -> bytes:
    """A few numbers of a weight, evenly spaced."""
    flat = weight.detach().reshape(-1)
    return all_bytes(flat[:: max(1, len(flat) // _SAMPLES)])


def all_bytes(tensor: torch.Tensor) -> bytes:
    """All numbers of a tensor."""
    return tensor.detach().reshape(-1).cpu().contiguous().view(torch.uint8).numpy().tobytes()
