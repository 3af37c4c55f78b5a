"""A small model of exactly Aether's form: the same classes, channels, scalings and scheduler.

It is a few million parameters instead of five billion and works on 17 frames of 64 x 96. The patch size is 1
where Aether's is 2: a token then carries 56 numbers, which a narrow model can hold. It was trained on the
synthetic world of `world` and `raycast`, by `train`.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..errors import InputError
from ..files import new_file
from ..model.parts import AetherModel
from ..model.schedulers import make_scheduler

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

TRANSFORMER = {
    "num_attention_heads": 5,
    "attention_head_dim": 32,
    "in_channels": 96,
    "out_channels": 56,
    "time_embed_dim": 64,
    "text_embed_dim": 64,
    "max_text_seq_length": 8,
    "num_layers": 12,
    "sample_width": 12,
    "sample_height": 8,
    "sample_frames": 17,
    "patch_size": 1,
    "temporal_compression_ratio": 4,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": False,
}
VAE = {
    "block_out_channels": (16, 32, 64, 64),
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "temporal_compression_ratio": 4,
    "sample_height": 64,
    "sample_width": 96,
    "scaling_factor": 0.7,
    "force_upcast": False,
    "invert_scale_latents": True,
}
WEIGHTS = Path(__file__).with_name("weights")
_LOG_VARIANCE = -8.0
"""Of the encoder's posterior: narrow, as a trained one is."""

_GAINS = {"transformer.proj_out": 0.5, "vae.encoder.conv_out": 1.5, "vae.decoder.conv_out": 0.5}
"""Standard deviation of an output layer's result over that of its input; 1 for all other layers. What the
model puts out is then about as large as a trained one's: velocities and latents near 1, colors in [-1, 1]."""

_MODULATION = re.compile(r"transformer_blocks\.\d+\.norm[12]\.linear\.(weight|bias)")
_MODULATION_GAINS = {"weight": 0.1, "bias": 0.3}
"""Shifts, scales and gates of the blocks mostly stay over the steps and vary a little, as in a trained model,
whose features move slowly; with weights alone they would be unrelated from step to step."""


def build(seed: int | None = None, dtype: torch.dtype = torch.float32) -> AetherModel:
    """The miniature: with its trained weights, or untrained with weights drawn from a seed.

    Drawn weights depend on the seed and the parameters' names alone, not on the machine, the torch version or
    the global random state, which is left as it was.

    Args:
        seed: None for the trained weights; an integer from 0 for a model that has learned nothing (its
            `trained` is False).
        dtype: of the weights and the latents.

    Raises:
        InputError: the seed is not an integer from 0.
    """
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    from ..model.lean_vae import make_lean

    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise InputError("seed", f"{seed!r} is not an integer from 0")
    # Modules made on the meta device allocate nothing and draw nothing.
    with torch.device("meta"):
        transformer = CogVideoXTransformer3DModel(**TRANSFORMER)
        vae = AutoencoderKLCogVideoX(**VAE)
    make_lean(vae)
    text = (1, TRANSFORMER["max_text_seq_length"], TRANSFORMER["text_embed_dim"])
    return AetherModel(
        transformer=_with_weights(transformer, "transformer", seed, dtype),
        vae=_with_weights(vae, "vae", seed, dtype),
        scheduler=make_scheduler(),
        prompt_embeds=_draw("prompt", text, seed or 0).to(dtype),
        name="miniature",
        trained=seed is None,
    )


def write_weights(
    folder: Path, vae: AutoencoderKLCogVideoX, transformer: CogVideoXTransformer3DModel
) -> None:
    """Write trained weights as float16, each file whole or not at all."""
    for name, module in (("vae", vae), ("transformer", transformer)):
        weights = {key: value.half().contiguous() for key, value in module.state_dict().items()}
        with new_file(folder / f"{name}.safetensors") as part:
            save_file(weights, part)


def _with_weights(
    module: CogVideoXTransformer3DModel | AutoencoderKLCogVideoX,
    name: str,
    seed: int | None,
    dtype: torch.dtype,
) -> CogVideoXTransformer3DModel | AutoencoderKLCogVideoX:
    if seed is None:
        stored = load_file(WEIGHTS / f"{name}.safetensors")
        weights = {key: value.to(dtype) for key, value in stored.items()}
    else:
        weights = {
            key: _initial(f"{name}.{key}", tuple(value.shape), seed).to(dtype)
            for key, value in module.state_dict().items()
        }
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def _initial(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if name == "vae.encoder.conv_out.conv.bias":
        mean, log_variance = torch.zeros(shape).chunk(2)
        return torch.cat([mean, log_variance + _LOG_VARIANCE])
    if match := _MODULATION.search(name):
        gain = _MODULATION_GAINS[match[1]]
        return _draw(name, shape, seed) * (gain / np.prod(shape[1:]) ** 0.5)
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:  # the scale of a normalization
        return torch.ones(shape)
    gain = _GAINS.get(name.removesuffix(".weight").removesuffix(".conv"), 1.0)
    return _draw(name, shape, seed) * (gain / np.prod(shape[1:]) ** 0.5)


def _draw(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Uniform numbers of variance 1. Uniform, as their bits are the same everywhere; normal ones go through a
    logarithm, which is not. One stream per name, so that adding a layer changes no other."""
    stream = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return torch.from_numpy((stream.random(shape) * 2 - 1) * 3**0.5).float()
