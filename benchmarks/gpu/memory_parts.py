"""The parts that measure memory: whole runs beside the count, and what runs leave behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from aether.generation.latents import decode
from aether.model.schedulers import make_scheduler
from hero_engine import PRESETS, NoiseSchedule, hero_session

from ..memory import PRESET, STEPS, WAYS, DevicePeak, Peak, foretold, fresh_whole, sampled
from ..race import stopwatch
from ..sizes import SIZES, Denoising, build_model
from .record import Found
from .settings import Settings


def _watched(device: torch.device) -> Peak | DevicePeak:
    """Counts bytes while it is open; on a CPU those of the tensors made within alone."""
    return DevicePeak(device) if device.type == "cuda" else Peak()


def whole(way: str, settings: Settings, seconds: float) -> Iterator[Found]:
    """The most memory of a whole run with the weights kept in a way, beside the count."""
    size, device = SIZES[settings.size], torch.device(settings.device)
    counted = foretold(size, WAYS[way])
    found: Found = {"steps": STEPS, "preset": PRESET, "counted_bytes": counted["in all"]}
    model, now = fresh_whole(size, device, WAYS[way]), stopwatch(device)
    resting = 0 if device.type == "cuda" else counted["weights"]
    with _watched(device) as peak:
        start, _ = now()
        latent = sampled(model, size)
        found["sampling_seconds"] = now()[0] - start
        found["sampling_bytes"] = resting + peak.bytes
        yield found
        start, _ = now()
        decode(model, latent)
        found["decoding_seconds"] = now()[0] - start
        found["measured_bytes"] = resting + peak.bytes
    found["measured_over_counted"] = found["measured_bytes"] / found["counted_bytes"]
    yield found


@torch.no_grad()
def repeated(settings: Settings, seconds: float) -> Iterator[Found]:
    """Memory after several runs, each in a session of its own on the same model."""
    size, device = SIZES[settings.size], torch.device(settings.device)
    model, noise = build_model(size, device), NoiseSchedule.of(make_scheduler("ddim"))
    found: Found = {"steps": STEPS, "preset": PRESET, "rows": []}
    for number in range(1, max(settings.runs) + 1):
        with _watched(device) as peak:
            run = Denoising(model, size, STEPS, device)
            with hero_session(model, PRESETS[PRESET], STEPS, noise):
                for step in range(STEPS):
                    run.step(step)
            found["finite"] = bool(run.latent.isfinite().all())
            del run
            gc.collect()
            if number in settings.runs:
                found["rows"].append({"after_run": number, "bytes": peak.now, "peak_bytes": peak.bytes})
        yield found
