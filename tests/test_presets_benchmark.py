"""The presets beside another seed and fewer steps: settings, figures, and one run from end to end."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from aether.generation.latents import Decoded
from benchmarks import presets
from benchmarks.comfyui import ROOT, find_comfyui
from benchmarks.sampled import Clip
from hero_engine import HeroConfig

from .test_benchmarks import rows_of


def test_a_setting_of_the_presets_benchmark_is_a_preset_with_changes():
    found = presets.config_of("fast trend=linear tau=50%")
    assert found == HeroConfig.preset("fast", trend="linear", tau="50%") != HeroConfig.preset("fast")
    assert presets.config_of("balanced") == HeroConfig.preset("balanced")


def test_fewer_steps_are_as_fast_as_the_preset():
    """7 of 20 steps are 2.86 times as fast, `fast` 2.69 times; 8 would be slower than that."""
    assert presets.fewer_of("fewer steps, as fast", 20) == 7
    assert presets.speedup("fewer steps, as fast", 20) == 20 / 7 > presets.speedup("fast", 20) > 20 / 8
    assert presets.speedup("another seed", 20) == 1


def test_a_scene_beside_itself_looks_like_itself():
    clip = Clip(411, "planning", with_camera=True)
    world = clip.world()
    true = Decoded(world.rgb, 1 / world.depth, np.zeros((17, 6, 8, 12), np.float32))
    assert presets.appearance(clip, true) == {
        "colors": math.inf, "given": math.inf, "sharpness": 1, "flicker": 1,
    }  # fmt: skip
    still = replace(true, rgb=np.broadcast_to(world.rgb[:1], world.rgb.shape))
    found = presets.appearance(clip, still)
    assert found["flicker"] == 0 and found["sharpness"] > 0.5 and found["given"] < found["colors"] + 10


def test_a_row_counts_the_runs_that_stay_on_the_clip():
    shown = presets.Row(
        "euler", 20, "prediction", "fast", 2.69, [0.02, 0.2], [0.1, 0.4], {"colors": [0.1, -0.3]}
    )
    assert dict(zip(shown.HEAD[-5:], shown.cells()[5:10], strict=True)) == {
        "error": "0.1100", "worst": "0.400", "share": "0.250", "on clip": "1 of 2",
    }  # fmt: skip
    assert shown.cells()[6] == "0.2000" and shown.cells()[-1] == "-0.100 ± 0.200"


@pytest.mark.slow
@pytest.mark.skipif(find_comfyui() is None, reason="ComfyUI is not here")
def test_the_presets_are_measured_once(tmp_path):
    command = [
        sys.executable, "-m", "benchmarks.presets", tmp_path, "--samplers", "euler", "--steps", "6",
        "--tasks", "planning with camera", "--scenes", "411", "--settings", "fast",
    ]  # fmt: skip
    first, again = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first.count("Case(") == 3 and "Case(" not in again
    rows = [row for row in rows_of(again) if row[0] == "euler"]
    assert [row[3] for row in rows] == ["another seed", "fast"] and rows[0][7] == "1.000"
    assert 0 < float(rows[1][5]) < float(rows[0][5])
    assert (tmp_path / "presets.csv").read_text().count("\n") == 3
