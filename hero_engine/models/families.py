"""The model families that HERO takes: which class is read by which file, and which are refused and why. The
only list of them; a new family is a file and a row here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .adapter import ModelAdapter


@dataclass(frozen=True)
class Family:
    """Classes of one module that are called and built alike.

    Attributes:
        name: for people.
        host: "ComfyUI" or "diffusers".
        module: that defines the classes; in ComfyUI the end of its name.
        classes: those that the adapter reads.
        adapter: its file in this folder and its class.
        refused: other classes of the module, each with the reason and the way out.
    """

    name: str
    host: str
    module: str
    classes: tuple[str, ...]
    adapter: tuple[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)

    def reads(self, kind: type) -> bool:
        """Whether it is about a class: in ComfyUI that very class, in diffusers also one derived from it."""
        if kind.__name__ not in (*self.classes, *self.refused):
            return False
        return kind.__module__ == self.module or kind.__module__.endswith(f".{self.module}")


FAMILIES: tuple[Family, ...] = (
    Family(
        "CogVideoX, Aether",
        "diffusers",
        "diffusers.models.transformers.cogvideox_transformer_3d",
        ("CogVideoXTransformer3DModel",),
        ("diffusers_cogvideox", "CogVideoXAdapter"),
    ),
    Family(
        "CogVideoX",
        "ComfyUI",
        "comfy.ldm.cogvideo.model",
        ("CogVideoXTransformer3DModel",),
        ("comfy_cogvideox", "ComfyCogVideoXAdapter"),
    ),
    Family(
        "Wan 2.1, 2.2",
        "ComfyUI",
        "comfy.ldm.wan.model",
        ("WanModel", "CameraWanModel"),
        ("comfy_wan", "WanAdapter"),
        {
            "VaceWanModel": "VACE adds a second stack of blocks to its own after every few of them",
            "WanModel_S2V": "its sound is added between its blocks",
            "HumoWanModel": "its blocks attend to sound frame by frame",
            "SCAILWanModel": "its poses and references are further tokens of several sizes",
            "SCAIL2WanModel": "its poses and references are further tokens of several sizes",
        },
    ),
    Family(
        "HunyuanVideo 1, 1.5, HunyuanImage 2.1",
        "ComfyUI",
        "comfy.ldm.hunyuan_video.model",
        ("HunyuanVideo",),
        ("comfy_hunyuan", "HunyuanAdapter"),
    ),
)
"""In the order of the table in docs/models.md."""


def adapter_for(transformer: Any) -> ModelAdapter:
    """The adapter of a model.

    Args:
        transformer: of one of ``FAMILIES``, also where ``torch.compile`` has wrapped it.

    Raises:
        ConfigError: another class, or one that is refused (field ``"transformer"``).
    """
    model = getattr(transformer, "_orig_mod", transformer)
    for family, kind in _matches(type(model)):
        if reason := family.refused.get(kind.__name__):
            raise ConfigError("transformer", f"{kind.__name__} is not supported: {reason}. Bypass HERO")
        file, name = family.adapter
        adapter = getattr(importlib.import_module(f".{file}", __package__), name)(transformer)
        assert isinstance(adapter, ModelAdapter)
        return adapter
    raise ConfigError("transformer", f"{type(transformer).__name__} is not supported; {supported()}")


def supported() -> str:
    """What HERO takes, as the end of a sentence."""
    hosts: dict[str, list[str]] = {}
    for family in FAMILIES:
        hosts.setdefault(family.host, []).append(family.name)
    parts = [f"of {host} {', '.join(names)}" for host, names in hosts.items()]
    return f"HERO takes {'; '.join(parts)} (of a pipeline, pass pipeline.transformer)"


def _matches(kind: type) -> Iterator[tuple[Family, type]]:
    for base in kind.__mro__:
        for family in FAMILIES:
            if family.reads(base) and (base is kind or family.host == "diffusers"):
                yield family, base
