"""Aether LoRA: a LoRA file on a MODEL of the pack, whatever names its trainer gave the matrices."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..aether.errors import InputError, reading
from ..aether.model.lora_files import LoraFile, read_lora, seems_for
from .bridge.lora_fit import check_fit
from .bridge.messages import show_text

_PREFIX = "diffusion_model.transformer."
_NAMINGS = (
    "{}",
    "transformer.{}",  # diffusers
    "diffusion_model.{}",
    "base_model.model.{}",  # PEFT
    "base_model.model.transformer.{}",
    "pipe.dit.{}",  # DiffSynth
)
_FLAT_NAMINGS = ("lora_unet_{}", "lora_unet__{}", "lora_transformer_{}", "lycoris_{}")
"""With underscores in place of dots: kohya's and, with two, VideoX-Fun's; LyCORIS'."""

_LEFT_OUT = (
    (
        "of PEFT's modules_to_save",
        re.compile(r"\.modules_to_save\.|^base_model\.model\.(?!.*\.lora_).+\.weight$"),
    ),
    ("of a text encoder", re.compile("^(lora_te|text_encoder)")),
    ("of biases", re.compile(r"\.bias$")),
    ("of no layer here", re.compile("")),
)
"""What may be left out of a file, by its keys; the first that fits counts."""

_WAY = re.compile(
    r"(?P<way>lora(?=_[AB]\.weight)|lora(?=_(up|down))|hada|lokr|oft|diff(?!_b)|set|w_norm)_?(?P<part>\w*)"
)
"""How a tensor of a LoRA file changes its matrix, after the matrix's name."""


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
    _check_once(lora, tensors, names)
    patches = comfy.lora.load_lora(tensors, names, log_missing=False)
    return patches, [key for key in tensors if key not in tensors.taken | file.alphas.keys()]


def _check_once(lora: str, keys: Iterable[str], names: dict[str, str]) -> None:
    """Core would take one of two changes of a matrix, and fail at half a change or leave it out."""
    ways: dict[str, dict[str, set[str]]] = {}
    for key in keys:
        name, way, part = _parts(key, names)
        if way:
            ways.setdefault(names[name], {}).setdefault(f"{name}.{way}", set()).add(part)
    for matrix, found in ways.items():
        parts = next(iter(found.values()))
        if len(found) > 1 or (parts & {"A", "B"} and parts & {"down", "up"}):
            problem = f"holds two changes of a matrix, {' and '.join(sorted(found))}; save one of them alone"
            raise InputError("lora", f"{lora} {problem}")
        if {"A", "B"} > parts or {"down", "up"} > parts:
            name = matrix.removeprefix(_PREFIX).removesuffix(".weight")
            raise InputError("lora", f"{lora} is damaged: of {name} it holds one factor only; save it again")


def _parts(key: str, names: dict[str, str]) -> tuple[str, str, str]:
    """The name of a key's matrix, the way in which its tensor changes that, and the part it plays; or ""."""
    cut = key.rfind(".")
    while cut > 0 and key[:cut] not in names:
        cut = key.rfind(".", 0, cut)
    found = _WAY.match(key[cut + 1 :]) if cut > 0 else None
    return (key[:cut], found["way"], found["part"] or "") if found else ("", "", "")


def _foreign(lora: str, tensors: dict[str, torch.Tensor]) -> InputError:
    family, example = seems_for(tensors), next(iter(tensors), "no tensors")
    guess = f"it seems to be for {family}" if family else f"it has {example}"
    return InputError(
        "lora",
        f"nothing in {lora} belongs to Aether's transformer ({guess}); take one for Aether or CogVideoX-5B",
    )


def _report(count: int, notes: tuple[str, ...], left_out: list[str], strength: float) -> str:
    """The text on the node."""
    changed = f"{count} {'matrix' if count == 1 else 'matrices'} changed"
    texts = [changed if strength else "strength 0: nothing is changed", *notes]
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
