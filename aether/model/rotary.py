"""Rotary positions of Aether's tokens: CogVideoX's, with time stretched by the clip's frame rate.

Source: ``_prepare_rotary_positional_embeddings`` of the reference pipeline (aetherv1_pipeline_cogvideox.py).
"""

from __future__ import annotations

import torch

from ..defaults import BASE_FPS
from ..spec import AetherSpec


def rotary_embeddings(
    spec: AetherSpec,
    latent_frames: int,
    latent_height: int,
    latent_width: int,
    fps: float,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Cosines and sines for every token, each (tokens, head_dim) float32.

    Args:
        latent_frames, latent_height, latent_width: the latent's size, in cells.
        fps: frames per second of the clip.
        device: where they are made; by default torch's.

    Returns:
        None where the transformer has no rotary embeddings.
    """
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    if not spec.rotary:
        return None
    patch = spec.patch_size
    rows, columns = latent_height // patch, latent_width // patch
    base_height, base_width = spec.cells(*spec.default_size)
    (top, left), (bottom, right) = _fit_in_base(rows, columns, base_height // patch, base_width // patch)
    like = {"device": device, "dtype": torch.float32}
    # The last position is stop * (n - 1) / n, evaluated in this order: the result is compared bit for bit.
    positions = (
        torch.linspace(0, latent_frames * (latent_frames - 1) / latent_frames, latent_frames, **like)
        * (BASE_FPS / fps),
        torch.linspace(top, bottom * (rows - 1) / rows, rows, **like),
        torch.linspace(left, right * (columns - 1) / columns, columns, **like),
    )
    widths = (spec.head_dim // 4, spec.head_dim // 8 * 3, spec.head_dim // 8 * 3)
    axes = [
        get_1d_rotary_pos_embed(width, position, use_real=True)
        for width, position in zip(widths, positions, strict=True)
    ]
    cosines, sines = zip(*axes, strict=True)
    return _over_grid(*cosines), _over_grid(*sines)


def _fit_in_base(rows: int, columns: int, base_rows: int, base_columns: int):
    """(top, left), (bottom, right) of the grid once it is scaled to fit the base grid and centred in it."""
    if rows / columns > base_rows / base_columns:
        height, width = base_rows, int(round(base_rows / rows * columns))
    else:
        height, width = int(round(base_columns / columns * rows)), base_columns
    top = int(round((base_rows - height) / 2.0))
    left = int(round((base_columns - width) / 2.0))
    return (top, left), (top + height, left + width)


def _over_grid(time: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Join one table per axis, (n, width) each, into (tokens, widths joined), time slowest."""
    grid = (time.shape[0], rows.shape[0], columns.shape[0])
    parts = (time[:, None, None], rows[None, :, None], columns[None, None])
    return torch.cat([part.expand(*grid, -1) for part in parts], dim=-1).flatten(0, 2)
