"""Aether LoRA: a LoRA file on a MODEL of the pack, whatever names its trainer gave the matrices."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..aether.errors import InputError, reading
from .messages import show_text

_PREFIX = "diffusion_model.transformer."
_NAMINGS = (
    "{}",
    "transformer.{}",  # diffusers
    "diffusion_model.{}",
    "base_model.model.{}",  # PEFT
    "base_model.model.transformer.{}",
)
_FLAT_NAMINGS = ("lora_unet_{}", "lora_unet__{}", "lora_transformer_{}")
"""With underscores in place of dots: kohya's and, with two, VideoX-Fun's."""


class AetherLoRA(io.ComfyNode):
    """A MODEL with a LoRA on it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherLoRA",
            display_name="Aether LoRA",
            category="Aether/loaders",
            description="Puts a LoRA on Aether: one trained on it, or one for CogVideoX-5B image-to-video, "
            "which Aether was made from.",
            search_aliases=["lora", "load lora", "cogvideox lora", "lora loader", "peft"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Aether Loader or Aether Miniature. It is never changed: the LoRA goes on "
                    "a copy.",
                ),
                io.Combo.Input(
                    "lora",
                    display_name="LoRA",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A safetensors file in models/loras, in the naming of diffusers, PEFT, kohya, "
                    "LyCORIS or ComfyUI.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.01,
                    tooltip="How much of it. 0 is none, below 0 its opposite.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model with the LoRA on it. Goes to HERO Patch, a sampler or another Aether "
                    "LoRA."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, lora: str, strength: float) -> io.NodeOutput:
        import comfy.lora
        import comfy.lora_convert
        import comfy.utils

        weights = model.model.state_dict()
        names = _names(weights)
        path = folder_paths.get_full_path_or_raise("loras", lora)
        with reading("lora", f"{lora} cannot be read as a LoRA"):
            tensors, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
            tensors = comfy.lora_convert.convert_lora(tensors)
            _check_kind(lora, tensors)
            tensors |= _peft_alphas(lora, tensors, metadata or {})
            patches = comfy.lora.load_lora(tensors, names)
            for key, patch in patches.items():
                _check_fit(lora, key, patch, weights.get(key))
        if not patches:
            example = next(iter(tensors), "no tensors")
            raise InputError("lora", f"nothing in {lora} belongs to Aether's transformer (it has {example})")
        patched = model.clone()
        patched.add_patches(patches, strength)
        show_text(cls.hidden.unique_id, f"{len(patches)} matrices changed")
        return io.NodeOutput(patched)


def _names(weights: dict[str, torch.Tensor]) -> dict[str, str]:
    """What a file may call each matrix."""
    names = {}
    for key in weights:
        if key.startswith(_PREFIX) and key.endswith(".weight"):
            bare = key.removeprefix(_PREFIX).removesuffix(".weight")
            names |= {naming.format(bare): key for naming in _NAMINGS}
            names |= {naming.format(bare.replace(".", "_")): key for naming in _FLAT_NAMINGS}
            names[key.removesuffix(".weight")] = key
    if not names:
        raise InputError("model", "is not Aether's; core's models take core's LoRA loader")
    return names


def _check_kind(lora: str, tensors: dict[str, torch.Tensor]) -> None:
    """Core would leave PEFT's magnitudes out; as ``dora_scale`` it divides them by the norms of the matrix
    without the LoRA, PEFT by those with it."""
    dora = next((key for key in tensors if ".lora_magnitude_vector" in key), None)
    if dora:
        raise InputError(
            "lora",
            f"{lora} is a DoRA of PEFT, which cannot be applied (it has {dora}); merge it with PEFT and load "
            "the merged transformer, or train a LoRA without use_dora",
        )


def _peft_alphas(
    lora: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, torch.Tensor]:
    """The scale that PEFT and diffusers note in a file's header, as core wants it: a tensor for each matrix.

    Source: ``lora_adapter_metadata`` of diffusers' ``save_lora_weights``; ``LoraConfig`` of PEFT.
    """
    noted = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    settings = {key.removeprefix("transformer."): value for key, value in noted.items()}
    if "lora_alpha" not in settings:
        return {}
    alphas = {}
    for key, down in tensors.items():
        if key.endswith(".lora_A.weight"):
            name = key.removesuffix(".lora_A.weight")
            alpha = _alpha(lora, name, settings)
            # Core divides by the rank, rank-stabilised LoRA by its root.
            factor = down.shape[0] ** 0.5 if settings.get("use_rslora") else 1.0
            alphas[f"{name}.alpha"] = torch.tensor(float(alpha) * factor)
    return alphas


def _alpha(lora: str, name: str, settings: dict[str, Any]) -> float:
    """Of one matrix: keys of ``alpha_pattern`` are regular expressions, the first that matches counts.

    Source: ``get_pattern_key`` of PEFT.
    """
    name = name.removeprefix("base_model.model.").removeprefix("transformer.")
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", name)
        except re.error as error:
            raise InputError(
                "lora",
                f"{lora} is damaged: its alpha_pattern {pattern!r} is no regular expression ({error}); "
                "save it again",
            ) from error
        if found:
            return alpha
    return settings["lora_alpha"]


def _check_fit(lora: str, key: str, patch: Any, weight: torch.Tensor | None) -> None:
    """Core would log a misfit and leave the matrix out."""
    name = key.removeprefix(_PREFIX).removesuffix(".weight")
    if weight is None:
        raise InputError("lora", f"{lora} was made for another model: this one has no {name}")
    if isinstance(patch, tuple):  # ("diff" or "set", (tensor,))
        given, wanted = tuple(patch[1][0].shape), tuple(weight.shape)
    elif patch.name in _SHAPES:
        given, wanted = _SHAPES[patch.name](patch.weights), _rows_columns(weight)
    else:
        return
    if given is None:
        raise InputError("lora", f"{lora} is damaged: the parts of {name} do not fit each other")
    if given != wanted:
        raise InputError(
            "lora",
            f"{lora} was made for another model: its {name} is {' x '.join(map(str, given))}, "
            f"this one's {' x '.join(map(str, wanted))}",
        )


def _rows_columns(matrix: torch.Tensor) -> tuple[int, int]:
    """What a matrix is to core: the further dimensions of a convolution's are columns."""
    return matrix.shape[0], math.prod(matrix.shape[1:])


def _product(
    up: torch.Tensor | None, down: torch.Tensor | None, core: torch.Tensor | None = None
) -> tuple[int, int] | None:
    """Rows and columns of two factors' product, or of a Tucker decomposition; None if they do not fit."""
    if up is None or down is None or up.ndim < 2 or down.ndim < 2:
        return None
    if core is None:
        inner = up.shape[1]
        return (up.shape[0], _rows_columns(down)[1]) if inner == down.shape[0] and inner else None
    if core.ndim < 2 or core.shape[:2] != (up.shape[0], down.shape[0]):
        return None
    return up.shape[1], down.shape[1] * math.prod(core.shape[2:])


def _lora_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    return _product(*weights[:2])


def _loha_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    up_1, down_1, _, up_2, down_2, core_1, core_2, _ = weights
    first, second = _product(up_1, down_1, core_1), _product(up_2, down_2, core_2)
    return first if first == second else None


def _lokr_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    whole_1, whole_2, _, up_1, down_1, up_2, down_2, core, _ = weights
    first = _product(up_1, down_1) if whole_1 is None else _rows_columns(whole_1)
    second = _product(up_2, down_2, core) if whole_2 is None else _rows_columns(whole_2)
    return first and second and (first[0] * second[0], first[1] * second[1])


_SHAPES = {"lora": _lora_shape, "loha": _loha_shape, "lokr": _lokr_shape}
"""By core's name of an adapter: rows and columns of what its parts make, None if they do not fit together."""


NODES: list[type[Any]] = [AetherLoRA]
