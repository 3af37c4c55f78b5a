"""A real recording, as HERO Tuner leaves it, of a short run of the miniature at half its size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

STEPS = 12


def tuned(folder: Path, about: Mapping[str, str], budget: int = 2) -> Any:
    """Tune into a folder; gives the engine's ``Tuning``."""
    from aether.generation.sampling import sample
    from aether.generation.tasks import condition
    from aether.miniature import build, random_scene, render
    from hero_engine.tune import Target, tune

    model = build()
    picture = render(random_scene(3), 17, 32, 48, 12).rgb[0]
    conditions = condition(model, "prediction", image=picture, frames=17)

    def run(session: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        with session(model.transformer, STEPS, model.scheduler):
            return sample(model, conditions, steps=STEPS, guidance=1.0, generator=generator)

    return tune(run, Target(speed=2.0), budget, folder=folder, about=about)
