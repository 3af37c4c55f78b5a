"""Aether LoRA: a LoRA file on a MODEL of the pack, whatever names its trainer gave the matrices."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..aether.errors import InputError, reading
from ..aether.lora_files import LoraFile, read_lora, seems_for
from .lora_fit import check_fit
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

_LEFT_OUT = (
    (
        "of PEFT's modules_to_save",
        re.compile(r"\.modules_to_save\.|^base_model\.model\.(?!.*\.lora_).+\.weight$"),
    ),
    ("of a text encoder", re.compile("^(lora_te|text_encoder)")),
    ("of biases", re.compile(r"\.bias$")),
    ("that no matrix here is called by", re.compile("")),
)
"""What may be left out of a file, by its keys; the first that fits counts."""


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
        if not math.isfinite(strength):
            raise InputError("strength", f"is {strength}, not a finite number")
        weights = model.model.state_dict()
        names = _names(weights)
        file = read_lora(Path(folder_paths.get_full_path_or_raise("loras", lora)))
        with reading("lora", f"{lora} cannot be read as a LoRA"):
            patches, left_out = _patches(lora, file, names)
            for key, patch in patches.items():
                name = key.removeprefix(_PREFIX).removesuffix(".weight")
                check_fit(lora, name, patch, weights.get(key), file.tensors)
        if not patches:
            raise _foreign(lora, file.tensors)
        patched = model.clone()
        patched.add_patches(patches, strength)
        show_text(cls.hidden.unique_id, _report(len(patches), file.notes, left_out, strength))
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


class _Noted(dict[str, torch.Tensor]):
    """Tensors, and which of them core takes."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        super().__init__(tensors)
        self.taken: set[str] = set()

    def __getitem__(self, key: str) -> torch.Tensor:
        self.taken.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default


def _patches(lora: str, file: LoraFile, names: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What core makes of the tensors, and the keys that it leaves out."""
    import comfy.lora
    import comfy.lora_convert

    tensors = _Noted(comfy.lora_convert.convert_lora(dict(file.tensors)) | file.alphas)
    patches = comfy.lora.load_lora(tensors, names, log_missing=False)
    _check_once(lora, tensors.taken, names)
    return patches, [key for key in tensors if key not in tensors.taken | file.alphas.keys()]


def _check_once(lora: str, taken: set[str], names: dict[str, str]) -> None:
    """Core would take one of two changes of a matrix."""
    found: dict[str, str] = {}
    for key in sorted(taken):
        name = next((name for name in _beginnings(key) if name in names), None)
        if name and found.setdefault(names[name], name) != name:
            other = found[names[name]]
            raise InputError(
                "lora", f"{lora} holds two LoRAs of a matrix, {other} and {name}; save one of them alone"
            )


def _beginnings(key: str) -> list[str]:
    """The key without its last part, without its last two, and so on."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _foreign(lora: str, tensors: dict[str, torch.Tensor]) -> InputError:
    family, example = seems_for(tensors), next(iter(tensors), "no tensors")
    guess = f"it seems to be for {family}" if family else f"it has {example}"
    return InputError(
        "lora",
        f"nothing in {lora} belongs to Aether's transformer ({guess}); take one for Aether or CogVideoX-5B",
    )


def _report(count: int, notes: tuple[str, ...], left_out: list[str], strength: float) -> str:
    """The text on the node."""
    texts = [f"{count} matrices changed" if strength else "strength 0: nothing is changed", *notes]
    if left_out:
        texts.append(f"left out: {_counted(left_out)}")
        logging.warning("Aether LoRA: %s", texts[-1])
    return "; ".join(texts)


def _counted(keys: list[str]) -> str:
    """How many keys there are of each kind, with an example."""
    kinds: dict[str, list[str]] = {}
    for key in keys:
        kinds.setdefault(next(kind for kind, pattern in _LEFT_OUT if pattern.search(key)), []).append(key)
    return ", ".join(
        f"{len(found)} key{'s' * (len(found) > 1)} {kind} ({found[0]})" for kind, found in kinds.items()
    )


NODES: list[type[Any]] = [AetherLoRA]
