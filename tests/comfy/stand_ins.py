"""A custom node for tests: what stands in for encoders and the VAE of Wan, which have no small form.

Core's own nodes call it as they call the real ones. All numbers come from what goes in, none from files.
"""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import torch

TEXT, PICTURE = (16, 4096), (257, 1280)
"""Tokens and width of a prompt's embedding and of a picture's."""


def _noise(source: str, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(source.encode()))
    return torch.randn(*shape, generator=generator)


class _Text:
    """Words to noise of their own."""

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list[list[Any]]:
        return [[_noise(tokens, 1, *TEXT), {}]]


class _Picture:
    """A picture to noise of its own."""

    def encode_image(self, image: torch.Tensor, crop: bool) -> Any:
        return SimpleNamespace(penultimate_hidden_states=_noise(f"{float(image.mean())}", 1, *PICTURE))


class _VAE:
    """Latents are the means of blocks of pixels, in gray in all channels; frames are latents enlarged."""

    def __init__(self, channels: int, block: int):
        self._channels, self._block = channels, block

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(F, H, W, 3) to (1, C, 1 + (F - 1) / 4, H / block, W / block)."""
        gray = pixels[::4].mean(dim=-1)[None, None]
        small = torch.nn.functional.avg_pool3d(gray, (1, self._block, self._block))
        return (2 * small - 1).expand(1, self._channels, *small.shape[2:]).contiguous()

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """(1, C, T, h, w) to (1, 4 (T - 1) + 1, H, W, 3)."""
        frames, rows, columns = latent.shape[2:]
        size = (4 * (frames - 1) + 1, rows * self._block, columns * self._block)
        colors = torch.nn.functional.interpolate(
            latent[:, :3].float(), size=size, mode="trilinear", align_corners=True
        )
        return colors.sigmoid().movedim(1, -1)


class StandInText:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "make", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def make(self) -> tuple[Any]:
        return (_Text(),)


class StandInPicture(StandInText):
    RETURN_TYPES = ("CLIP_VISION",)

    def make(self) -> tuple[Any]:
        return (_Picture(),)


class StandInVAE(StandInText):
    RETURN_TYPES = ("VAE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"channels": ("INT", {"min": 16, "max": 48}), "block": ("INT", {"min": 8, "max": 16})}
        }

    def make(self, channels: int, block: int) -> tuple[Any]:
        return (_VAE(channels, block),)


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (StandInText, StandInPicture, StandInVAE)}
