"""Steps of training the VAE's decoder, its encoder left as it is: both of the decoder's parts share them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from aether.miniature.model import VAE

from .optimizer import MuonAdamW
from .parallel import average_gradients, join
from .state import MEMORY, Average, rate, restore, save

SAVE_EVERY = 100


def train_vae_decoder(
    file: Path,
    name: str,
    steps: int,
    learning_rate: float,
    backward: Callable[[AutoencoderKLCogVideoX, int, np.random.Generator], Any],
    error_text: Callable[[Any], str],
    *,
    memory: float = MEMORY,
    seed: int,
    device: str,
    say: Callable[[str], None],
) -> None:
    """Train the decoder up to `steps` in all, going on from `file`, a checkpoint of a VAE.

    Args:
        name: in reports.
        memory: of the averaged weights, see :class:`.state.Average`.
        backward: leaves a step's gradients in the VAE and gives its errors, a number or several.
        error_text: of the errors, means over the steps since the last report.
    """
    rank = join()
    vae = AutoencoderKLCogVideoX(**VAE).to(device)
    vae.encoder.requires_grad_(False)
    average = Average(vae, memory)
    optimizer = _optimizer(vae, learning_rate)
    begin, started = restore(file, vae, average, optimizer.parts), time.monotonic()
    errors: list[Any] = []
    for step in range(begin, steps):
        errors.append(backward(vae, step, np.random.default_rng([seed, step, rank])))
        average_gradients(vae.decoder.parameters())
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step(rate(step, steps))
        average.add(vae, step)
        if rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
            what = error_text(np.mean(errors, axis=0))
            errors.clear()
            say(f"{name} {step + 1}/{steps}: {what}, {time.monotonic() - started:.0f} s")
            save(file, step + 1, vae, average, optimizer.parts)


def _optimizer(vae: AutoencoderKLCogVideoX, learning_rate: float) -> MuonAdamW:
    last = vae.decoder.conv_out.conv.weight
    hidden = [value for value in vae.decoder.parameters() if value.ndim > 1 and value is not last]
    rest = [*(value for value in vae.decoder.parameters() if value.ndim == 1), last]
    return MuonAdamW(hidden, rest, learning_rate)
