"""A transformer that fits a small device: weights in float8, blocks that wait in the host's memory.

Both are diffusers' own; HERO runs on top of either. A block that a cached step of HERO does not run is not
brought to the device either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import CogVideoXTransformer3DModel

FLOAT8 = torch.float8_e4m3fn


def keep_in_float8(transformer: CogVideoXTransformer3DModel, dtype: torch.dtype) -> None:
    """Keep the large weights in float8_e4m3fn, and compute in ``dtype``; norms and the embedding stay as is.

    Weights are rounded to three bits of mantissa, for good.
    """
    transformer.enable_layerwise_casting(storage_dtype=FLOAT8, compute_dtype=dtype)


def offload_blocks(transformer: CogVideoXTransformer3DModel, device: torch.device) -> None:
    """Keep the blocks on the host, and bring one at a time to ``device`` to run; results are the same.

    On CUDA the next one comes while one runs.
    """
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def weight_bytes(*modules: torch.nn.Module) -> int:
    """Bytes of all weights, as they are kept."""
    return sum(weight.numel() * weight.element_size() for module in modules for weight in module.parameters())
