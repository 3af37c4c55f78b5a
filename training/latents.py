"""What the transformer is trained on: clips through the trained VAE, once, kept in one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from aether.geometry import raymap as raymaps

from .data import HEIGHT, WIDTH, Clips, write_arrays

STILLS = (0, 8, 16)
"""Frames also encoded alone: first pictures and goals are, and a lone frame's latent is not a clip's."""
NAMES = ("rgb", "disparity", "stills", "raymap")
"""Of the arrays in a file."""
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class LatentClips:
    """The posterior's means of clips, each also mirrored and backwards in time.

    rgb, disparity: (N, 5, 16, h, w) float16. stills: (N, 3, 16, h, w) float16, see STILLS.
    raymap: (N, 17, 6, h, w) float16, Aether's encoding.
    """

    rgb: np.ndarray
    disparity: np.ndarray
    stills: np.ndarray
    raymap: np.ndarray

    def __len__(self) -> int:
        return len(self.rgb)


def load_latents(
    vae: AutoencoderKLCogVideoX, clips: Clips, file: Path, say: Callable[[str], None] = lambda text: None
) -> LatentClips:
    """The clips' latents from `file`, encoding them first where it is not there or of fewer or more clips."""
    if not file.is_file() or len(np.load(file)["stills"]) != 2 * len(clips):
        rows = []
        for number in range(len(clips)):
            rows += _encoded(vae, clips, number)
            if (number + 1) % 100 == 0:
                say(f"encoded {number + 1} of {len(clips)} clips")
        arrays = (np.stack(column) for column in zip(*rows, strict=True))
        write_arrays(file, dict(zip(NAMES, arrays, strict=True)))
    stored = np.load(file)
    return LatentClips(*(stored[name] for name in NAMES))


def _encoded(vae: AutoencoderKLCogVideoX, clips: Clips, number: int) -> list[tuple[np.ndarray, ...]]:
    """RGB, disparity, stills and raymap of a clip, and of it mirrored and backwards."""
    rgb = clips.rgb[number].astype(np.float32) / 127.5 - 1
    root = clips.roots(number) * 2 - 1
    root = np.repeat(root[..., None], 3, axis=-1)
    videos = _means(vae, np.stack([rgb, rgb[::-1, :, ::-1], root, root[::-1, :, ::-1]]))
    frames = np.concatenate([rgb[list(STILLS)], rgb[::-1, :, ::-1][list(STILLS)]])
    stills = _means(vae, frames[:, None])[:, 0].reshape(2, len(STILLS), *videos.shape[2:])
    poses = clips.poses[number]
    reverse = _MIRROR @ np.linalg.inv(poses[-1]) @ poses[::-1] @ _MIRROR
    lens, scale = np.repeat(clips.intrinsics[number][None], len(poses), axis=0), 1 / clips.nearest[number]
    rays = [raymaps.from_cameras(path, lens, HEIGHT, WIDTH, scale=scale) for path in (poses, reverse)]
    return [(videos[way], videos[2 + way], stills[way], rays[way].astype(np.float16)) for way in range(2)]


@torch.no_grad()
def _means(vae: AutoencoderKLCogVideoX, videos: np.ndarray) -> np.ndarray:
    """(B, T, 16, h, w) float16 of videos (B, F, H, W, 3) in [-1, 1]."""
    pixels = torch.from_numpy(videos).permute(0, 4, 1, 2, 3).to(vae.device, vae.dtype)
    return vae.encode(pixels).latent_dist.mean.transpose(1, 2).half().cpu().numpy()
