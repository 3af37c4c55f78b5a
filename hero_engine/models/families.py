"""The model families that HERO supports: which file reads which class, and which classes are refused and why.
The only list of them; a new family is a file and a row here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
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
        module: that defines the classes.
        classes: those that the adapter reads.
        adapter: its file in this folder and its class.
        refused: other classes in the module's package, each with the reason.
        measured: whether docs/comparison.md covers its quality under HERO.
    """

    name: str
    host: str
    module: str
    classes: tuple[str, ...]
    adapter: tuple[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)
    measured: bool = False

    def reads(self, kind: type) -> bool:
        """Whether its adapter reads exactly this class."""
        return kind.__name__ in self.classes and kind.__module__ == self.module

    def refuses(self, kind: type) -> bool:
        """Whether it lists this class as refused."""
        package = self.module.rpartition(".")[0]
        return kind.__name__ in self.refused and kind.__module__.startswith(f"{package}.")


FAMILIES: tuple[Family, ...] = (
    Family(
        "CogVideoX, Aether",
        "diffusers",
        "diffusers.models.transformers.cogvideox_transformer_3d",
        ("CogVideoXTransformer3DModel",),
        ("diffusers_cogvideox", "CogVideoXAdapter"),
        measured=True,
    ),
    Family(
        "Wan 2.1, 2.2",
        "diffusers",
        "diffusers.models.transformers.transformer_wan",
        ("WanTransformer3DModel",),
        ("diffusers_wan", "WanAdapter"),
        {
            "WanVACETransformer3DModel": "VACE has a second stack of blocks, added between its own",
            "WanAnimateTransformer3DModel": "the face is added between its blocks",
            "WanAnimate2Transformer3DModel": "its blocks keep keys and values of their own from step to step",
        },
    ),
    Family(
        "HunyuanVideo",
        "diffusers",
        "diffusers.models.transformers.transformer_hunyuan_video",
        ("HunyuanVideoTransformer3DModel",),
        ("diffusers_hunyuan", "HunyuanVideoAdapter"),
        {"HunyuanVideoFramepackTransformer3DModel": "its history is extra tokens of several sizes"},
    ),
    Family(
        "HunyuanVideo 1.5",
        "diffusers",
        "diffusers.models.transformers.transformer_hunyuan_video15",
        ("HunyuanVideo15Transformer3DModel",),
        ("diffusers_hunyuan", "HunyuanVideo15Adapter"),
    ),
    Family(
        "Cosmos 1, Predict 2",
        "diffusers",
        "diffusers.models.transformers.transformer_cosmos",
        ("CosmosTransformer3DModel",),
        ("diffusers_cosmos", "CosmosAdapter"),
        {"Cosmos3OmniTransformer": "its text, video and audio tokens are packed into one sequence"},
    ),
    Family(
        "LTX-Video",
        "diffusers",
        "diffusers.models.transformers.transformer_ltx",
        ("LTXVideoTransformer3DModel",),
        ("diffusers_ltx", "LTXAdapter"),
        {"LTX2VideoTransformer3DModel": "it has a second stream, for audio, beside the video's"},
    ),
    Family(
        "CogVideoX",
        "ComfyUI",
        "comfy.ldm.cogvideo.model",
        ("CogVideoXTransformer3DModel",),
        ("comfy_cogvideox", "ComfyCogVideoXAdapter"),
        measured=True,
    ),
    Family(
        "Wan 2.1, 2.2",
        "ComfyUI",
        "comfy.ldm.wan.model",
        ("WanModel", "CameraWanModel"),
        ("comfy_wan", "WanAdapter"),
        {
            "VaceWanModel": "VACE has a second stack of blocks, added between its own",
            "WanModel_S2V": "audio is added between its blocks",
            "HumoWanModel": "its blocks attend to audio frame by frame",
            "CausalWanModel": "it continues from cached keys and values of earlier frames",
            "AnimateWanModel": "the face is added between its blocks",
            "SCAILWanModel": "its poses and references are extra tokens of several sizes",
            "SCAIL2WanModel": "its poses and references are extra tokens of several sizes",
        },
    ),
    Family(
        "HunyuanVideo 1, 1.5, HunyuanImage 2.1",
        "ComfyUI",
        "comfy.ldm.hunyuan_video.model",
        ("HunyuanVideo",),
        ("comfy_hunyuan", "HunyuanAdapter"),
    ),
    Family(
        "Cosmos 1",
        "ComfyUI",
        "comfy.ldm.cosmos.model",
        ("GeneralDIT",),
        ("comfy_cosmos", "CosmosAdapter"),
    ),
    Family(
        "Cosmos Predict2",
        "ComfyUI",
        "comfy.ldm.cosmos.predict2",
        ("MiniTrainDIT",),
        ("comfy_cosmos_predict2", "CosmosPredict2Adapter"),
    ),
    Family(
        "Anima",
        "ComfyUI",
        "comfy.ldm.anima.model",
        ("Anima",),
        ("comfy_cosmos_predict2", "CosmosPredict2Adapter"),
    ),
    Family(
        "Kandinsky 5",
        "ComfyUI",
        "comfy.ldm.kandinsky5.model",
        ("Kandinsky5",),
        ("comfy_kandinsky", "KandinskyAdapter"),
    ),
    Family(
        "LTX-Video",
        "ComfyUI",
        "comfy.ldm.lightricks.model",
        ("LTXVModel",),
        ("comfy_ltx", "LTXAdapter"),
        {"LTXAVModel": "it has a second stream, for audio, beside the video's"},
    ),
    Family(
        "Mochi",
        "ComfyUI",
        "comfy.ldm.genmo.joint_model.asymm_models_joint",
        ("AsymmDiTJoint",),
        ("comfy_mochi", "MochiAdapter"),
    ),
)
"""In the order of the table in docs/models.md."""


def family_of(transformer: Any) -> Family:
    """The family of a model.

    Args:
        transformer: of one of ``FAMILIES``, also where ``torch.compile`` has wrapped it.

    Raises:
        ConfigError: another class, or one that is refused (field ``"transformer"``).
    """
    kind = type(getattr(transformer, "_orig_mod", transformer))
    for base in kind.__mro__:
        for family in FAMILIES:
            if family.refuses(base):
                reason = family.refused[base.__name__]
                raise ConfigError("transformer", f"{base.__name__} is not supported: {reason}; bypass HERO")
            # Core's classes derive from one another where their forward differs.
            if family.reads(base) and (base is kind or family.host == "diffusers"):
                return family
    raise ConfigError(
        "transformer",
        f"{kind.__name__} is not supported; HERO takes transformers of ComfyUI ({supported('ComfyUI')}) "
        f"and of diffusers ({supported('diffusers')})",
    )


def adapter_for(transformer: Any) -> ModelAdapter:
    """The adapter of a model. Args, raises: as :func:`family_of`."""
    file, name = family_of(transformer).adapter
    adapter: ModelAdapter = getattr(importlib.import_module(f".{file}", __package__), name)(transformer)
    return adapter


def supported(host: str) -> str:
    """The families of a host that HERO supports, for people."""
    return ", ".join(family.name for family in FAMILIES if family.host == host)
