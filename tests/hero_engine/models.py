"""Small CogVideoX transformers and denoising runs for the tests of the engine."""

from __future__ import annotations

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from hero_engine import NoiseSchedule

GRID = (5, 4, 6)
TEXT = 8


def tiny_transformer(blocks: int = 6, *, grid=GRID, width: int = 64, seed: int = 0, **overrides):
    """A random transformer of Aether's form: patch 1, rotary positions, 96 channels in and 56 out."""
    torch.manual_seed(seed)
    settings = {
        "num_attention_heads": width // 32,
        "attention_head_dim": 32,
        "in_channels": 96,
        "out_channels": 56,
        "num_layers": blocks,
        "time_embed_dim": 32,
        "text_embed_dim": 16,
        "max_text_seq_length": TEXT,
        "sample_height": grid[1],
        "sample_width": grid[2],
        "sample_frames": 17,
        "patch_size": 1,
        "use_rotary_positional_embeddings": True,
    }
    return CogVideoXTransformer3DModel(**{**settings, **overrides}).eval()


def inputs(grid=GRID, batch: int = 1, seed: int = 0, dtype=torch.float32):
    """One call's arguments, but for the timestep."""
    generator = torch.Generator().manual_seed(seed)
    rotary = get_3d_rotary_pos_embed(32, ((0, 0), grid[1:]), grid[1:], grid[0])
    return {
        "hidden_states": torch.randn(batch, grid[0], 96, *grid[1:], generator=generator).to(dtype),
        "encoder_hidden_states": torch.randn(batch, TEXT, 16, generator=generator).to(dtype),
        "image_rotary_emb": rotary,
        "return_dict": False,
    }


def scheduler(deterministic: bool = True):
    """Aether's noise schedule."""
    settings = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "snr_shift_scale": 1.0,
        "timestep_spacing": "trailing",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    }
    return (CogVideoXDDIMScheduler if deterministic else CogVideoXDPMScheduler)(**settings)


def noise(deterministic: bool = True) -> NoiseSchedule:
    """What a session is passed for runs of :func:`denoise`, which has a scheduler of its own."""
    return NoiseSchedule.of(scheduler(deterministic))


@torch.no_grad()
def denoise(
    model,
    *,
    steps: int = 12,
    grid=GRID,
    batch: int = 1,
    seed: int = 0,
    separate: bool = False,
    dtype=torch.float32,
    device="cpu",
):
    """A deterministic (DDIM) denoising run from seeded noise; (1, frames, 56, rows, columns).

    With `batch` 2 the two halves are averaged; `separate` calls the model once for each.
    """
    call = inputs(grid, batch, seed, dtype)
    for name in ("hidden_states", "encoder_hidden_states"):
        call[name] = call[name].to(device)
    call["image_rotary_emb"] = tuple(table.to(device) for table in call["image_rotary_emb"])
    condition = call.pop("hidden_states")[:, :, 56:]
    generator = torch.Generator().manual_seed(seed + 1)
    latent = torch.randn(1, grid[0], 56, *grid[1:], generator=generator).to(device, dtype)
    schedule = scheduler()
    schedule.set_timesteps(steps, device=device)
    for timestep in schedule.timesteps:
        hidden = torch.cat([latent.expand(batch, -1, -1, -1, -1), condition], 2)
        times = timestep.expand(batch)
        if separate:
            text = call["encoder_hidden_states"]
            parts = [
                model(
                    hidden[i : i + 1],
                    **{**call, "encoder_hidden_states": text[i : i + 1]},
                    timestep=times[:1],
                )[0]
                for i in range(batch)
            ]
            velocity = torch.cat(parts)
        else:
            velocity = model(hidden, **call, timestep=times)[0]
        latent = schedule.step(velocity.mean(0, keepdim=True), timestep, latent, return_dict=False)[0]
    return latent


def relative(a, b) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm())
