"""LATENTs of Aether: the whole of one, or a stream of Aether Split; which one it is, and its frame rate.

Core's nodes copy a LATENT's dictionary, so that marks in it stay. Saving and loading, and VAE Encode, keep
the tensor alone: then the number of channels decides, and what was assumed is reported.
"""

from __future__ import annotations

from typing import Any

import torch

from ..aether.defaults import BASE_FPS
from ..aether.errors import InputError
from ..aether.geometry.raymap import SPATIAL_SCALE
from ..aether.spec import AETHER_V1
from .inputs import AUTO
from .types import FPS_KEY

STREAM_KEY = "aether_stream"
"""In a LATENT of Aether Split: the name of its stream."""

RGB, DISPARITY, RAYMAP = "rgb", "disparity", "raymap"
_SIZES = dict(zip((RGB, DISPARITY, RAYMAP), AETHER_V1.stream_channels, strict=True))
"""Channels of each stream, in the order of the whole latent."""
_WHOLE = AETHER_V1.out_channels


def streams_of(samples: torch.Tensor) -> dict[str, torch.Tensor]:
    """A whole latent (1, 56, T, h, w), taken apart."""
    return dict(zip(_SIZES, samples.split(tuple(_SIZES.values()), dim=1), strict=True))


def whole(latent: dict[str, Any], field: str = "latent") -> torch.Tensor:
    """The samples (1, 56, T, h, w) of a LATENT that a sampler made.

    Raises:
        InputError: a stream of Aether Split, something else, or values that are not finite.
    """
    samples, found = latent["samples"], latent.get(STREAM_KEY)
    if found is not None:
        raise InputError(field, wrong_stream(found))
    if samples.ndim != 5 or samples.shape[1] != _WHOLE:
        raise InputError(
            field,
            f"has shape {tuple(samples.shape)}; an Aether latent is (1, {_WHOLE}, time, height / "
            f"{SPATIAL_SCALE}, width / {SPATIAL_SCALE}): connect a sampler that runs an Aether MODEL",
        )
    return _one_clip(samples, field)


def stream(latent: dict[str, Any], name: str) -> tuple[torch.Tensor, list[str]]:
    """A stream's samples (1, 16 or 24, T, h, w), from a LATENT of it or a whole one, and what was assumed.

    Args:
        name: of the stream, and of the input that the LATENT came in by.

    Raises:
        InputError: another stream, something else, or values that are not finite.
    """
    samples, found = latent["samples"], latent.get(STREAM_KEY)
    channels = samples.shape[1] if samples.ndim == 5 else 0
    if found not in (None, name):
        raise InputError(name, wrong_stream(found, name))
    if channels == _WHOLE:
        return streams_of(_one_clip(samples, name))[name].contiguous(), []
    if channels != _SIZES[name]:
        raise InputError(
            name,
            f"has shape {tuple(samples.shape)}; it must be (1, {_SIZES[name]}, time, height / "
            f"{SPATIAL_SCALE}, width / {SPATIAL_SCALE}): connect the {name} of Aether Split, or what a "
            "sampler made with an Aether MODEL",
        )
    notes = []
    if found is None:
        notes = [f"Taken as {name}: this latent does not say which stream it is."]
        if name != RAYMAP:  # no other stream has as many channels
            notes = [f"{notes[0]} If the result looks wrong, connect the {name} of Aether Split."]
    return _one_clip(samples, name), notes


def wrong_stream(found: str, wanted: str | None = None) -> str:
    """What is wrong with a stream at an input for another one, or for the whole latent, and what to do."""
    if wanted is None:
        return f"is the {found} of Aether Split; connect the sampler's latent, before Aether Split"
    return f"is the {found} of Aether Split; connect its output {wanted}, or the sampler's latent"


def rate(clip: dict[str, Any], choice: str, key: str = FPS_KEY) -> tuple[int, list[str]]:
    """A clip's frames per second, and what was assumed.

    Args:
        clip: a LATENT, or another dictionary with its rate at ``key``.
        choice: the node's widget, see `inputs.rate_input`.
    """
    if choice != AUTO:
        return int(choice), []
    fps = clip.get(key)
    if fps is not None:
        return fps, []
    return BASE_FPS, [
        f"{BASE_FPS} frames a second assumed: this latent has lost its rate. If it is another, set fps."
    ]


def _one_clip(samples: torch.Tensor, field: str) -> torch.Tensor:
    if samples.shape[0] != 1:
        raise InputError(field, f"holds {samples.shape[0]} clips; take one with Latent From Batch")
    if not torch.isfinite(samples).all():
        raise InputError(
            field,
            "holds NaN or infinite values: sampling went out of range. Choose bf16 or fp32 as the loader's "
            "dtype; fp16 is too narrow",
        )
    return samples
