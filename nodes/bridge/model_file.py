"""What model a file holds, by its header alone: no weight is read, and nothing of it is kept in memory."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from safetensors import safe_open

_KEPT = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_PACKED = torch.uint8  # what holds quantized weights
_ENDINGS = (".safetensors", ".sft")


def core_model(path: str) -> Any | None:
    """The model of a safetensors file as core would load it, its weights on the meta device.

    Args:
        path: a diffusion model, or a checkpoint that has one in it.

    Returns:
        core's ``BaseModel``, not to be changed; None for a file that is damaged, of another kind, or of a
        model that core does not know. What a file holds is remembered until it changes.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _model_of(path, found.st_mtime_ns, found.st_size) if path.lower().endswith(_ENDINGS) else None


@functools.lru_cache(_KEPT)
def _model_of(path: str, changed: int, size: int) -> Any | None:
    try:
        return _build(*_read_header(path))
    except Exception as error:  # core's detection stumbles over foreign files in many ways
        logging.info("Aether: %s is no model that can be recognized by its header (%s)", path, error)
        return None


def _read_header(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors on the meta device by name, metadata)."""
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        tensors = {
            name: torch.empty(part.get_shape(), dtype=_DTYPES.get(part.get_dtype(), _PACKED), device="meta")
            for name, part in slices.items()
        }
        return tensors, file.metadata() or {}


def _build(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> Any | None:
    """As ``comfy.sd.load_diffusion_model_state_dict`` does, without the weights."""
    prefix = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    inner = comfy.utils.state_dict_prefix_replace(dict(tensors), {prefix: ""}, filter_keys=True) or tensors
    config = comfy.model_detection.model_config_from_unet(inner, "", metadata=metadata)
    if config is None:
        return None
    _set_dtype(config, inner)
    config.custom_operations = comfy.ops.manual_cast  # quantized layers have their shapes only once loaded
    return config.get_model(inner, "", device=torch.device("meta"))


def _set_dtype(config: Any, tensors: dict[str, torch.Tensor]) -> None:
    """What core would compute in on this computer."""
    management, supported = comfy.model_management, list(config.supported_inference_dtypes)
    quantized = config.quant_config is not None
    stored = management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(tensors),
        supported_dtypes=supported,
        weight_dtype=None if quantized else comfy.utils.weight_dtype(tensors),
    )
    device = management.get_torch_device()
    cast = management.unet_manual_cast(None if quantized else stored, device, supported)
    config.set_inference_dtype(stored, cast)
