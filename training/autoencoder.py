"""Training of the miniature's VAE: a linear encoder, set once, and a decoder that learns to draw from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from aether.miniature.model import VAE

from .data import Clips
from .linear_codec import set_linear_encoder
from .state import averaged, begin_with
from .vae_decoder import train_vae_decoder

LEARNING_RATE = 3e-3
NOISE = 0.05
"""Size of the noise on the latents that the decoder is trained with; latents are about 1."""
L1 = 0.05
CROPS = ((8, 9, 32, 32), (8, 9, 32, 32), (8, 9, 32, 32), (4, 17, 32, 32))
"""(clips, frames, height, width) of a process's batch, in turn. 17 frames pass the VAE's own seam between
batches of frames."""
_CODEC_CLIPS = 100


def begin_autoencoder(clips: Clips, file: Path, seed: int = 0) -> None:
    """Write the checkpoint to begin from, its encoder final, where there is none yet."""
    if file.is_file():
        return
    torch.manual_seed(seed)
    vae = AutoencoderKLCogVideoX(**VAE)
    with torch.no_grad():
        # The decoder's residual branches, and its modulation by the latent, begin small.
        for name, parameter in vae.decoder.named_parameters():
            if ".conv_y." in name:
                parameter.mul_(0.3) if name.endswith("weight") else parameter.fill_(1)
            if "resnets" in name and ".conv2." in name:
                parameter.mul_(0.3)
    colors = clips.rgb[:_CODEC_CLIPS:2].astype(np.float32) / 127.5 - 1
    roots = np.repeat(clips.roots(slice(1, _CODEC_CLIPS, 2))[..., None] * 2 - 1, 3, axis=-1)
    set_linear_encoder(vae, np.concatenate([colors, roots]).astype(np.float32))
    begin_with(file, vae.state_dict())


def load_autoencoder(file: Path) -> AutoencoderKLCogVideoX:
    """The VAE of a checkpoint, with averaged weights."""
    vae = AutoencoderKLCogVideoX(**VAE)
    vae.load_state_dict(averaged(file))
    return vae.eval().requires_grad_(False)


def train_autoencoder(
    clips: Clips,
    file: Path,
    steps: int,
    seed: int = 0,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> None:
    """Train the decoder up to `steps` in all, going on from `file`, which :func:`begin_autoencoder` wrote."""
    roots = np.rint(clips.roots() * 255).astype(np.uint8)

    def backward(vae: AutoencoderKLCogVideoX, step: int, rng: np.random.Generator) -> float:
        batch = _crops(clips.rgb, roots, CROPS[step % len(CROPS)], rng).to(device)
        return _backward(vae, batch, torch.Generator(device).manual_seed(int(rng.integers(2**62))))

    def error_text(error: float) -> str:
        return f"{-10 * np.log10(error / 4):.2f} dB"

    about = {"seed": seed, "device": device, "say": say}
    train_vae_decoder(file, "autoencoder", steps, LEARNING_RATE, backward, error_text, **about)


def _crops(rgb: np.ndarray, roots: np.ndarray, size: tuple[int, int, int, int], rng) -> torch.Tensor:
    """(B, 3, F, h, w) in [-1, 1], colors and disparity by turns, mirrored and reversed at random."""
    batch, frames, height, width = size
    out = np.empty((batch, frames, height, width, 3), np.uint8)
    for number in range(batch):
        clip = rng.integers(len(rgb))
        t, y, x = (rng.integers(n - m + 1) for n, m in zip(rgb.shape[1:4], size[1:], strict=True))
        source = rgb[clip] if number % 2 else roots[clip, ..., None]
        crop = source[t : t + frames, y : y + height, x : x + width]
        out[number] = crop[:: rng.choice([-1, 1]), :, :: rng.choice([-1, 1])]
    return torch.from_numpy(out).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def _backward(vae: AutoencoderKLCogVideoX, batch: torch.Tensor, generator: torch.Generator) -> float:
    """Gradients of one batch; its mean squared error."""
    with torch.autocast(batch.device.type, torch.bfloat16):
        with torch.no_grad():
            latent = vae.encode(batch).latent_dist.mean.float()
        noise = torch.randn(latent.shape, generator=generator, device=latent.device)
        decoded = vae.decode(latent + NOISE * noise).sample.float()
    squared = (decoded - batch).square().mean()
    (squared + L1 * (decoded - batch).abs().mean()).backward()
    return squared.item()
