"""The MODEL before a node, as far as a prediction needs it and before anything is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import folder_paths

from ...aether.errors import InputError
from ...aether.miniature.model import TRANSFORMER
from ...aether.spec import FRAMES
from ...hero_engine.cost import ModelShape, aether_shape
from ...hero_engine.models.cogvideox_shape import CogVideoXSize
from ...hero_engine.models.families import adapter_for
from ..inputs import AETHER_SIZE
from .hero_run import is_measured, transformer_of
from .model import kind_of
from .model_file import core_model

_PIXELS, _FRAMES = 8, 4
"""Of Aether's latents: a side of a latent cell, and what a latent frame after the first stands for."""
_FOLDERS = {"unet": "diffusion_models", "checkpoint": "checkpoints"}
_CHANNELS = ("in_dim", "in_channels")
"""What core's configurations call the channels that enter a model."""
_LENGTHS = ("max_text_seq_length", "text_len")
"""What core's models call the length of a prompt."""
_TEXT_TOKENS = 256
"""Assumed of a model that does not say it."""


@dataclass(frozen=True)
class Clip:
    """What is made: sides in pixels, and frames."""

    height: int
    width: int
    frames: int


@dataclass(frozen=True)
class ModelBefore:
    """What a prediction needs of a model.

    Attributes:
        name: "aether", "miniature", or core's name of the kind, such as CogVideoX_I2V.
        clip: what it makes where nothing else is set.
        element_bytes: of a number that it computes in.
        shape: its dimensions in a call for a clip; raises a ConfigError for a clip that it cannot make.
        measured: whether quality under HERO was measured on it.
        cell: side in pixels of a latent cell, and frames that a latent frame after the first stands for.
    """

    name: str
    clip: Clip
    element_bytes: int
    shape: Callable[[Clip], ModelShape]
    measured: bool = True
    cell: tuple[int, int] = (_PIXELS, _FRAMES)


def _miniature_shape(clip: Clip) -> ModelShape:
    numbers, side = TRANSFORMER, _PIXELS * TRANSFORMER["patch_size"]
    size = CogVideoXSize(
        blocks=numbers["num_layers"],
        width=numbers["num_attention_heads"] * numbers["attention_head_dim"],
        time_width=numbers["time_embed_dim"],
        text_width=numbers["text_embed_dim"],
        in_channels=numbers["in_channels"],
        out_channels=numbers["out_channels"],
        patch_size=numbers["patch_size"],
    )
    grid = ((clip.frames - 1) // _FRAMES + 1, clip.height // side, clip.width // side)
    return size.shape(grid, numbers["max_text_seq_length"])


ASSUMED = ModelBefore(
    name="aether",
    clip=Clip(**AETHER_SIZE, frames=FRAMES[-1]),
    element_bytes=2,
    shape=lambda clip: aether_shape(clip.height, clip.width, clip.frames),
)
"""Aether, which is assumed where nothing is known."""
_OURS = {
    "AetherLoader": ASSUMED,
    "AetherMiniature": ModelBefore(
        name="miniature",
        clip=Clip(
            _PIXELS * TRANSFORMER["sample_height"],
            _PIXELS * TRANSFORMER["sample_width"],
            TRANSFORMER["sample_frames"],
        ),
        element_bytes=4,
        shape=_miniature_shape,
    ),
}


def model_before(model: Mapping[str, Any]) -> ModelBefore | None:
    """The model that a loader will load.

    Args:
        model: the loader's class as "loader", its file's or folder's name as "file" and, for core's loaders,
            "unet" or "checkpoint" as "kind".

    Returns:
        None where nobody can tell before it is loaded.

    Raises:
        InputError: a kind of model that HERO does not take (field "model").
    """
    loader = model.get("loader")
    if isinstance(loader, str) and loader in _OURS:
        return _OURS[loader]
    path = _path_of(model.get("file"), model.get("kind"))
    base = None if path is None else core_model(path)
    if base is None:
        return None
    try:
        found = _of_core(base)
        found.shape(found.clip)
    except InputError:
        raise
    except Exception as error:  # a header may say anything
        logging.info("Aether: the dimensions of %s cannot be read off its header (%r)", path, error)
        return None
    return found


def _path_of(file: Any, kind: Any) -> str | None:
    folder = _FOLDERS.get(kind) if isinstance(kind, str) else None
    if folder is None or not isinstance(file, str) or not file or "\0" in file:
        return None
    path: str | None = folder_paths.get_full_path(folder, file)
    return path


def _of_core(base: Any) -> ModelBefore:
    model = SimpleNamespace(model=base)  # a MODEL without its patcher
    adapter, latents = adapter_for(transformer_of(model)), base.latent_format
    channels = _input_channels(base)
    text_tokens = _text_tokens(adapter.model)

    def shape(clip: Clip) -> ModelShape:
        frames = (clip.frames - 1) // latents.temporal_downscale_ratio + 1
        sides = (side // latents.spacial_downscale_ratio for side in (clip.height, clip.width))
        return adapter.shape((1, channels, frames, *sides), text_tokens)

    return ModelBefore(
        name=kind_of(model),
        clip=ASSUMED.clip,
        element_bytes=comfy.model_management.dtype_size(base.get_dtype_inference()),
        shape=shape,
        measured=is_measured(model),
        cell=(latents.spacial_downscale_ratio, latents.temporal_downscale_ratio),
    )


def _input_channels(base: Any) -> int:
    """Of what core's model is given: the latent, and conditions beside it."""
    config = base.model_config.unet_config
    return next((config[name] for name in _CHANNELS if name in config), base.latent_format.latent_channels)


def _text_tokens(transformer: Any) -> int:
    """Length of a prompt, which core pads to it or cuts there."""
    return next((getattr(transformer, name) for name in _LENGTHS if hasattr(transformer, name)), _TEXT_TOKENS)
