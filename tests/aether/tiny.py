"""A random model of Aether's form, small enough for tests and the same on every machine and torch version."""

from __future__ import annotations

import re
import zlib

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXTransformer3DModel,
)

from aether.model.parts import AetherModel

HEIGHT, WIDTH, FRAMES = 32, 48, 17
TEXT = (1, 6, 16)
NORM = re.compile(r"norm[^.]*(\.norm_layer)?\.weight$")

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 96,
    "out_channels": 56,
    "time_embed_dim": 24,
    "text_embed_dim": TEXT[2],
    "num_layers": 3,
    "sample_width": WIDTH // 8,
    "sample_height": HEIGHT // 8,
    "sample_frames": FRAMES,
    "patch_size": 2,
    "max_text_seq_length": TEXT[1],
    "use_rotary_positional_embeddings": True,
}
VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 16, 16),
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.7,
    "invert_scale_latents": True,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}


def noise(name: str, shape: tuple[int, ...], scale: float = 1.0) -> torch.Tensor:
    """Normal numbers that depend on name and shape alone: NumPy never changes RandomState's stream."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((values * scale).astype(np.float32))


def colours(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in [0, 1), float32."""
    return np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape).astype(np.float32)


def fill(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Weights of size 1 / sqrt(inputs), so that numbers neither die out nor grow; norms around one."""
    state = {}
    for key, old in sorted(module.state_dict().items()):
        gain = 0.2 if key.startswith("decoder.conv_out") else 1.0  # keeps most pixels within [0, 1]
        scale = gain * old[0].numel() ** -0.5 if old.ndim > 1 else 0.1
        state[key] = noise(f"{name}.{key}", tuple(old.shape), scale) + float(NORM.search(key) is not None)
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def transformer(**changes) -> CogVideoXTransformer3DModel:
    return fill(CogVideoXTransformer3DModel(**{**TRANSFORMER, **changes}), "transformer")


def vae(**changes) -> AutoencoderKLCogVideoX:
    return fill(AutoencoderKLCogVideoX(**{**VAE, **changes}), "vae")


def model(*, ddim: bool = False, vae_config: dict | None = None, **changes) -> AetherModel:
    scheduler = CogVideoXDDIMScheduler if ddim else CogVideoXDPMScheduler
    return AetherModel(
        transformer(**changes),
        vae(**(vae_config or {})),
        scheduler(**SCHEDULER),
        noise("prompt", TEXT),
        name="tiny",
    )


def inputs(task: str, frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Pictures for a task, keyed by the argument they are given as."""
    if task == "reconstruction":
        return {"video": colours("video", (frames, HEIGHT, WIDTH, 3))}
    names = ("image", "goal") if task == "planning" else ("image",)
    return {name: colours(name, (HEIGHT, WIDTH, 3)) for name in names}


def raymap(frames: int = FRAMES) -> np.ndarray:
    return noise("raymap", (frames, 6, HEIGHT // 8, WIDTH // 8)).numpy()
