"""Aether LoRA: a LoRA file on a MODEL of the pack, whatever names its trainer gave the matrices."""

from __future__ import annotations

import json
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
_FLAT_NAMINGS = ("lora_unet_{}", "lora_transformer_{}")
"""With underscores in place of dots: kohya's."""


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
                io.Model.Input("model", tooltip="Of Aether Loader or Aether Miniature. Works on a copy."),
                io.Combo.Input(
                    "lora",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A file in models/loras, in the naming of diffusers, PEFT, kohya or ComfyUI.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.01,
                    tooltip="0: none. Below 0: its opposite.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="For HERO Patch, Aether Sampler, core samplers or another Aether LoRA."
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
            tensors |= _peft_alphas(tensors, metadata or {})
            patches = comfy.lora.load_lora(tensors, names)
            for key, patch in patches.items():
                _check_fit(lora, key, patch, weights[key])
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


def _peft_alphas(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> dict[str, torch.Tensor]:
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
            alpha = settings["lora_alpha"]
            for module, other in (settings.get("alpha_pattern") or {}).items():
                alpha = other if f".{name}".endswith(f".{module}") else alpha
            # Core divides by the rank, rank-stabilised LoRA by its root.
            factor = down.shape[0] ** 0.5 if settings.get("use_rslora") else 1.0
            alphas[f"{name}.alpha"] = torch.tensor(float(alpha) * factor)
    return alphas


def _check_fit(lora: str, key: str, patch: Any, weight: torch.Tensor) -> None:
    """Core would log a misfit and leave the matrix out."""
    import comfy.weight_adapter

    if isinstance(patch, comfy.weight_adapter.LoRAAdapter):
        up, down = patch.weights[:2]
        name = key.removeprefix(_PREFIX).removesuffix(".weight")
        if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0] or not up.shape[1]:
            raise InputError("lora", f"{lora} is damaged: the two parts of {name} do not fit each other")
        given, wanted = (up.shape[0], down[0].numel()), (weight.shape[0], weight[0].numel())
        if given != wanted:
            raise InputError(
                "lora",
                f"{lora} was made for another model: its {name} is {' x '.join(map(str, given))}, "
                f"this one's {' x '.join(map(str, wanted))}",
            )


NODES: list[type[Any]] = [AetherLoRA]
