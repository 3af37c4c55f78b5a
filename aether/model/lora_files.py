"""LoRA files: their tensors under one naming, and the scale that PEFT and diffusers note beside them.

What the trainers of kohya's and LyCORIS' kind note stands in the file, as ``.alpha``, and is left as it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, reading
from .weights import read_header, read_json

CONFIG = "adapter_config.json"
"""Where PEFT notes the scale, beside the file."""

_FIELD = "lora"
_HEADER = "lora_adapter_metadata"
_PEFTS_OWN = "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(?P<layer>.+)\.lora_(?P<side>[AB])(\.(?P<adapter>(?!weight|bias)[^.]+))?(?P<end>\.weight|\.bias)?"
)
_WRAPPER = re.compile(r"(^|\.)(_orig_mod|module)\.")
"""What torch.compile and DistributedDataParallel put before a module's names."""

_CHANGED_BASE = ("pissa", "olora", "corda", "loftq")
"""Initialisations of PEFT that take something away from the model's own weights."""

_MAGNITUDE, _ADALORA = ".lora_magnitude_vector", ".lora_E"

_FAMILIES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("Wan", r"blocks_\d+_(cross|self)_attn_[qkvo]_"),
        ("Flux or HunyuanVideo", r"(double|single|single_transformer)_blocks_\d+_"),
        ("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_m(lp|od)"),
        ("Stable Diffusion 1.5 or XL", r"(down|up|mid|middle|input|output)_blocks?_"),
        ("Stable Diffusion 3", r"joint_blocks_\d+|transformer_blocks_\d+_attn_"),
        ("Mochi", r"transformer_blocks_\d+_attn1_add_|blocks_\d+_attn_(qkv|proj)_[xy]"),
        ("LTX-Video or PixArt", r"transformer_blocks_\d+_attn2_"),
        ("Lumina or Z-Image", r"layers_\d+_(attention|feed_forward)_"),
        ("a text encoder", r"^(lora_te|text_encoder)"),
    )
)
"""In the order in which they are tried, on keys with underscores in place of dots."""


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file.

    Attributes:
        tensors: as in the file, but that PEFT's factors are called ``layer.lora_A.weight``, whatever the
            adapter's name.
        alphas: what is to be added to them, ``layer.alpha``: the scale times the layer's rank.
        notes: where the scale comes from, or why one was not taken; for the user.
    """

    tensors: dict[str, torch.Tensor]
    alphas: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()


def read_lora(path: Path) -> LoraFile:
    """Read a LoRA and the scale that is noted in its header or in PEFT's adapter_config.json beside it.

    Source: ``lora_adapter_metadata`` of diffusers' ``save_lora_weights``; ``LoraConfig`` of PEFT.

    Raises:
        InputError: field "lora"; no safetensors file, NaN or infinite values, several adapters, or one of a
            kind that cannot be applied (DoRA of PEFT, AdaLoRA, PiSSA and the like).
    """
    read_header(path, _FIELD, quantised=True, subject=f"{path.name} cannot be read as a LoRA: it")
    with reading(_FIELD, f"{path.name} cannot be read as a LoRA"):
        tensors, header = _read(path)
        _check_values(path, tensors)
        for part, kind in ((_MAGNITUDE, "a DoRA"), (_ADALORA, "an AdaLoRA")):
            if found := next((key for key in tensors if part in key), None):
                raise _unusable(path, kind, f"it has {found}")
        tensors = _one_naming(path, tensors)
        settings, source = _settings(path, tensors, header)
        if not settings:
            return LoraFile(tensors, {}, source)
        alphas = _alphas(path, tensors, settings)
        ranks = _layers(tensors).items()
        scales = [float(alphas[f"{layer}.alpha"]) / rank for layer, rank in ranks if rank] or [0.0]
        ends = dict.fromkeys(f"{scale:.4g}" for scale in (min(scales), max(scales)))
        return LoraFile(tensors, alphas, (f"scale {' to '.join(ends)} by {source[0]}",))


def seems_for(keys: Iterable[str]) -> str | None:
    """The model that a LoRA with these keys was made for; None for Aether's and for unknown ones."""
    flat = [key.replace(".", "_") for key in keys]
    return next((name for name, pattern in _FAMILIES if any(map(pattern.search, flat))), None)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _check_values(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() and tensor.ndim > 1:
            raise InputError(
                _FIELD,
                f"{path.name} is quantised ({key} is {tensor.dtype}); take one in float16 or float32",
            )
        if not torch.isfinite(tensor.float()).all():
            raise InputError(
                _FIELD,
                f"{path.name} holds NaN or infinite values (in {key}): its training broke down; take one "
                "saved before that",
            )


def _unusable(path: Path, kind: str, why: str) -> InputError:
    """Core would leave PEFT's magnitudes out; as ``dora_scale`` it divides them by the norms of the matrix
    without the LoRA, PEFT by those with it."""
    return InputError(
        _FIELD,
        f"{path.name} is {kind} of PEFT, which cannot be applied ({why}); merge it with PEFT and load the "
        "merged transformer, or train a plain LoRA",
    )


def _one_naming(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys without what torch wraps a model in; of PEFT's factors without the adapter's name too."""
    tensors = {_WRAPPER.sub(r"\1", key): tensor for key, tensor in tensors.items()}
    found = {key: match for key in tensors if (match := _FACTOR.fullmatch(key))}
    adapters = {match["adapter"] for match in found.values()}
    if len(adapters) > 1:
        names = ", ".join(sorted(name or "one without a name" for name in adapters))
        raise InputError(_FIELD, f"{path.name} holds several adapters ({names}); save one of them alone")
    renamed = {
        key: f"{match['layer']}.lora_{match['side']}{match['end'] or '.weight'}"
        for key, match in found.items()
    }
    return {renamed.get(key, key): tensor for key, tensor in tensors.items()}


def _layers(tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """The rank of each of PEFT's layers."""
    ends = ".lora_A.weight"
    return {key.removesuffix(ends): len(tensor) for key, tensor in tensors.items() if key.endswith(ends)}


def _settings(
    path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """PEFT's settings, and where they are from; or nothing, and why they were not taken."""
    noted = json.loads(header.get(_HEADER, "{}"))
    settings = {key.removeprefix("transformer."): value for key, value in noted.items()}
    layers, beside = _layers(tensors), path.with_name(CONFIG)
    if settings and layers:
        return _usable(path, settings, "its header")
    if not beside.is_file() or any(key.endswith(".alpha") for key in tensors):
        return {}, ()
    # Among many files it need not be about this one.
    alone = path.name == _PEFTS_OWN or len(list(path.parent.glob("*.safetensors"))) == 1
    if not alone and not any(key.startswith(_PEFT_PREFIX) for key in tensors):
        return {}, (f"{CONFIG} beside it is of another file and was not used",)
    settings = read_json(beside, _FIELD)
    if _kind(settings) == "LORA" and (misfit := _misfit(settings, layers)):
        return {}, (f"{CONFIG} beside it was not used: {misfit}",)
    return _usable(path, settings, CONFIG)


def _misfit(settings: dict[str, Any], layers: dict[str, int]) -> str | None:
    """Why the settings are not about these layers; None if they may be."""
    if not layers:
        return "no factors of PEFT are in this file"
    for layer, rank in layers.items():
        said = _for_layer(settings, "rank_pattern", "r", layer)
        if said != rank:
            return f"it says rank {said}, this file's is {rank} ({layer})"
    return None


def _kind(settings: dict[str, Any]) -> str:
    return str(settings.get("peft_type") or "LORA").upper()


def _usable(path: Path, settings: dict[str, Any], source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    kind, start = _kind(settings), str(settings.get("init_lora_weights")).lower()
    if kind != "LORA":
        raise _unusable(path, f"a {kind}", f"by {source}")
    if settings.get("use_dora"):
        raise _unusable(path, "a DoRA", f"by {source}")
    if start.startswith(_CHANGED_BASE):
        raise InputError(
            _FIELD,
            f"{path.name} goes with weights that PEFT changed before training ({start}, by {source}); save "
            "it with path_initial_model_for_weight_conversion",
        )
    return (settings, (source,)) if "lora_alpha" in settings else ({}, ())


def _alphas(
    path: Path, tensors: dict[str, torch.Tensor], settings: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """What core wants: a tensor for each matrix, which it divides by the rank."""
    alphas = {}
    for layer, rank in _layers(tensors).items():
        alpha = _for_layer(settings, "alpha_pattern", "lora_alpha", layer)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            raise InputError(
                _FIELD,
                f"{path.name} cannot be scaled: its lora_alpha is {alpha!r}, not a number; save it again",
            )
        # Rank-stabilised LoRA is divided by the rank's root.
        factor = rank**0.5 if settings.get("use_rslora") else 1.0
        alphas[f"{layer}.alpha"] = torch.tensor(float(alpha) * factor)
    return alphas


def _for_layer(settings: dict[str, Any], patterns: str, default: str, layer: str) -> Any:
    """A setting of one layer: keys of patterns are regular expressions, the first that matches counts.

    Source: ``get_pattern_key`` of PEFT.
    """
    name = layer.removeprefix(_PEFT_PREFIX).removeprefix("transformer.")
    for pattern, value in (settings.get(patterns) or {}).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", name)
        except re.error as error:
            raise InputError(
                _FIELD,
                f"the file is damaged: its {patterns} {pattern!r} is no regular expression ({error}); "
                "save it again",
            ) from error
        if found:
            return value
    return settings.get(default)
