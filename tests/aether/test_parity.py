"""This project against the reference pipeline's results; tests/golden/README.md says how those were made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aether.generation.latents import decode
from aether.generation.sampling import sample
from aether.generation.tasks import condition

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "tiny_reference.npz")
TOLERANCE = 1e-4

CASES = {
    "reconstruction": {"task": "reconstruction", "seed": 1, "steps": 4, "fps": 15, "raymap": True},
    "prediction": {"task": "prediction", "seed": 2, "steps": 6, "fps": 24, "raymap": True, "frames": 25},
    "planning": {"task": "planning", "seed": 3, "steps": 50, "fps": 8, "raymap": False},
    "planning_ddim": {"task": "planning", "seed": 4, "steps": 5, "fps": 12, "raymap": True, "ddim": True},
    "planning_plain_vae": {
        "task": "planning",
        "seed": 5,
        "steps": 4,
        "fps": 10,
        "raymap": False,
        "plain": True,
    },
}


def run(tiny, *, task, seed, steps, fps, raymap, frames=17, ddim=False, plain=False):
    model = tiny.model(ddim=ddim, vae_config={"invert_scale_latents": not plain})
    generator = torch.Generator().manual_seed(seed)
    conditions = condition(
        model,
        task,
        **tiny.inputs(task, frames),
        raymap=tiny.raymap(frames) if raymap else None,
        frames=frames,
        generator=generator,
    )
    return decode(model, sample(model, conditions, steps=steps, fps=fps, generator=generator))


def difference(decoded, case):
    """Relative error of each stream over what the golden file keeps of it."""
    streams = {
        "rgb": decoded.rgb[::4, ::2, 1::2],
        "disparity": decoded.disparity[::4, ::2, 1::2],
        "raymap": decoded.raymap,
    }
    errors = {}
    for name, values in streams.items():
        wanted = GOLDEN[f"{case}/{name}"]
        assert values.shape == wanted.shape and values.dtype == np.float32
        errors[name] = float(np.linalg.norm(values - wanted) / np.linalg.norm(wanted))
    return errors


@pytest.mark.parametrize("case", CASES)
def test_every_stream_is_the_references(tiny, case):
    errors = difference(run(tiny, **CASES[case]), case)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("change", [{"fps": 12}, {"seed": 9}, {"steps": 5}, {"raymap": False}])
def test_the_comparison_notices_a_change(tiny, change):
    errors = difference(run(tiny, **{**CASES["reconstruction"], **change}), "reconstruction")
    assert min(errors.values()) > 10 * TOLERANCE, errors
