"""Our own types on the canvas, and what travels beside core's."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, TypedDict

import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, io

from ..aether.errors import InputError
from ..aether.geometry.cameras import Cameras

Raymap = io.Custom("AETHER_RAYMAP")
CameraPath = io.Custom("AETHER_CAMERAS")


class RaymapValue(TypedDict):
    """AETHER_RAYMAP. raymap: (F, 6, h, w) float32 in Aether's encoding, on the CPU."""

    raymap: torch.Tensor
    fps: int


class CamerasValue(TypedDict):
    """AETHER_CAMERAS: one camera per frame, see ``aether.geometry.cameras``."""

    cameras: Cameras
    fps: int


FPS_KEY = "aether_fps"
"""In a LATENT: the clip's frame rate. Samplers pass it through."""


def color_image(pictures: Iterable[Any], count: int = 1) -> torch.Tensor:
    """``count`` RGB pictures of one size as an IMAGE (F, H, W, 3); they are taken, and let go, one by one."""
    image = torch.empty(0)
    for number, picture in enumerate(pictures):
        pixels = torch.from_numpy(np.array(picture))
        image = image if number else torch.empty(count, *pixels.shape)
        image[number] = pixels
    return image.div_(255)


def gray_image(values: np.ndarray) -> torch.Tensor:
    """(F, H, W) as an IMAGE in three equal channels."""
    return torch.from_numpy(values)[..., None].repeat(1, 1, 1, 3)


def has_colors(image: torch.Tensor) -> bool:
    """Whether the channels of an IMAGE differ; alpha is none of them, and NaN differs from nothing."""
    channels = image[..., :3]
    return bool((channels.amax(dim=-1) > channels.amin(dim=-1)).any())


def refuse_colors(depth: torch.Tensor) -> None:
    """
    Raises:
        InputError: a picture in place of depth.
    """
    if has_colors(depth):
        raise InputError("depth", "is a picture in color: connect the output depth of Aether Depth")


def make_video(images: torch.Tensor, fps: int) -> Any:
    """An IMAGE as core's VIDEO."""
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(fps)))
