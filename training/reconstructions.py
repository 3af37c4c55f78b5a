"""What the trained transformer makes of clips, once, kept in files: the decoder learns to draw from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from aether.defaults import TASKS
from aether.files import new_file
from aether.generation.latents import split
from aether.generation.sampling import sample
from aether.generation.tasks import Conditions
from aether.model.parts import AetherModel
from aether.model.weights import weights_digest

from .data import FRAMES, HEIGHT, WIDTH
from .denoiser import random_condition
from .latents import LatentClips
from .parallel import share, wait

STEPS = TASKS["reconstruction"].accelerated_steps
"""Of a reconstruction, as `python -m evaluation world` takes."""
SHARD = 20
"""Clips in a file."""


def load_reconstructions(
    model: AetherModel,
    clips: LatentClips,
    folder: Path,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """The disparity's latent of every clip, as `model` reconstructs it and scaled as the VAE's posterior.

    Those of another transformer or seed stay where they are, in a folder of their own.

    Returns:
        (N, 5, 16, h, w) float16, from the files of `folder`; those that are not there are sampled first.
    """
    folder = folder / f"{weights_digest(model.transformer)}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    shards = {folder / f"{first:06d}.npy": first for first in range(0, len(clips), SHARD)}
    for file, first in share(shards.items()):
        if not file.is_file():
            numbers = range(first, min(first + SHARD, len(clips)))
            made = np.stack([_disparity(model, clips, number, seed) for number in numbers])
            with new_file(file) as part, part.open("wb") as opened:
                np.save(opened, made)
            say(f"reconstructed clips {numbers[0]} to {numbers[-1]}")
    wait()
    return np.concatenate([np.load(file) for file in shards])


def _disparity(model: AetherModel, clips: LatentClips, number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, number])
    cond = random_condition(model, clips, number, FRAMES, "reconstruction", rng)[None].to(
        model.device, model.dtype
    )
    conditions = Conditions("reconstruction", cond, None, FRAMES, HEIGHT, WIDTH)
    generator = torch.Generator(model.device).manual_seed(int(rng.integers(2**62)))
    latent = sample(model, conditions, steps=STEPS, generator=generator)
    disparity = split(model.spec, latent).disparity[0].float() / model.spec.scaling_factor
    made: np.ndarray = disparity.half().cpu().numpy()
    return made
