"""Training of the VAE's decoder on what the trained transformer makes, as the last part.

The transformer's latents are softer than the encoder's and wrong in ways that repeat. A decoder that has seen
them draws depth nearer to the truth. Its encoder, and so every latent, stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from .autoencoder import NOISE
from .data import Clips
from .latents import LatentClips
from .vae_decoder import train_vae_decoder

FIRST_SCENE = 20_000
"""Scenes that the transformer was not trained on: it is as wrong there as it will be elsewhere."""
LEARNING_RATE = 1e-3
MEMORY = 0.99
"""Of the averaged weights: shorter than the other parts', as these steps are few."""
DEPTHS, PICTURES = 2, 1
"""Clips of a process's batch: disparity as the transformer makes it, and colors as the encoder does, so that
they are not forgotten."""
FARTHEST_ROOT = 8.0**-0.5
"""Root of the disparity at eight times the nearest depth, as far as depth is judged."""
SQUARED = 4.0
"""Weight of the squared errors beside the relative one."""


def train_decoder(
    reconstructed: np.ndarray,
    latents: LatentClips,
    clips: Clips,
    file: Path,
    steps: int,
    seed: int = 0,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> None:
    """Train the decoder up to `steps` in all, going on from `file`, a checkpoint of a VAE.

    Args:
        reconstructed: from :func:`.reconstructions.load_reconstructions`, of `latents`.
        latents: of `clips`, two of each.
    """

    def backward(vae: AutoencoderKLCogVideoX, step: int, rng: np.random.Generator) -> tuple[float, float]:
        drawn = rng.integers(len(latents), size=DEPTHS + PICTURES)
        return _backward(vae, reconstructed, latents, clips, drawn, rng)

    def error_text(errors: tuple[float, float]) -> str:
        relative, squared = errors
        return f"root of disparity wrong by {relative:.4f} of it, colors {-10 * np.log10(squared):.2f} dB"

    about = {"memory": MEMORY, "seed": seed, "device": device, "say": say}
    train_vae_decoder(file, "decoder", steps, LEARNING_RATE, backward, error_text, **about)


def _backward(
    vae: AutoencoderKLCogVideoX,
    reconstructed: np.ndarray,
    latents: LatentClips,
    clips: Clips,
    drawn: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Gradients of one batch; the relative error of its depths and the squared one of its pictures."""
    depths, pictures = drawn[:DEPTHS], drawn[DEPTHS:]
    noisy = latents.rgb[pictures] + NOISE * rng.standard_normal(latents.rgb[pictures].shape)
    given = torch.from_numpy(np.concatenate([reconstructed[depths], noisy]).astype(np.float32))
    with torch.autocast(vae.device.type, torch.bfloat16):
        decoded = vae.decode(given.transpose(1, 2).to(vae.device)).sample.float() / 2 + 0.5
    roots = torch.from_numpy(np.stack([_way(clips.roots(clip // 2), clip) for clip in depths]))
    colors = torch.from_numpy(np.stack([_way(clips.rgb[clip // 2], clip) for clip in pictures]))
    roots, colors = roots.to(vae.device), colors.to(vae.device).permute(0, 4, 1, 2, 3) / 255
    wrong = decoded[:DEPTHS].mean(dim=1) - roots
    # Depth goes with the root's square, so an error relative to the root is half of one relative to depth.
    relative = (wrong.abs() / roots)[roots > FARTHEST_ROOT].mean()
    squared = (decoded[DEPTHS:] - colors).square().mean()
    (relative + SQUARED * (wrong.square().mean() + squared)).backward()
    return relative.item(), squared.item()


def _way(frames: np.ndarray, clip: int) -> np.ndarray:
    """Of the two clips of latents that a scene gives, the second is mirrored and backwards."""
    return np.ascontiguousarray(frames[::-1, :, ::-1]) if clip % 2 else frames
