"""What a report on this machine says of the engine: attention backends, HERO's cache, the last tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .hero.config import PRESETS

if TYPE_CHECKING:
    import torch

    from .flops import ModelShape
    from .tune.trials import Trial

_PRESET = "balanced"


def attention_texts(device: torch.device, head_width: int) -> dict[str, str]:
    """By name of each backend whether it runs here, or why not, from a trial on a few tokens in bfloat16."""
    import torch

    from .speed.backends import BACKENDS, trouble_with

    texts = {}
    for name in BACKENDS:
        trouble = trouble_with(name, device, torch.bfloat16, head_width)
        texts[name] = "runs here" if trouble is None else f"does not run here: {trouble.splitlines()[0]}"
    return texts


def aether_cache(steps: int, batch: int, element_bytes: int) -> tuple[ModelShape, int]:
    """A call of Aether's transformer on its longest clip, and the bytes that HERO's preset caches for it."""
    from .cost import AETHER, predict

    return AETHER, predict(PRESETS[_PRESET], AETHER, steps, batch, element_bytes).cached_bytes


def tuning_text(folder: Path) -> str:
    """What a folder of HERO Tuner says: which model, and the closest and the fastest of its settings. No
    times.

    Raises:
        ConfigError: a damaged or foreign file (field ``"folder"``).
    """
    from .tune.store import Store

    measured = Store(folder).read()
    if measured is None:
        return "nothing yet"
    recording = measured.recording
    run = f"{recording.model}, {recording.blocks} blocks, {recording.steps} steps"
    good = [trial for trial in measured.trials if not trial.failed]
    if not good:
        return f"{run}; no setting has run yet"
    closest = min(good, key=lambda trial: trial.error)
    fastest = max(good, key=lambda trial: trial.speedup)
    parts = [f"{len(measured.trials)} settings", f"closest {_result(closest)}"]
    if fastest is not closest:
        parts.append(f"fastest {_result(fastest)}")
    return f"{run}; {', '.join(parts)}"


def _result(trial: Trial) -> str:
    from .relative_error import percent

    return f"{trial.speedup:.2f}x by FLOPs with an error of {percent(trial.error)}"
