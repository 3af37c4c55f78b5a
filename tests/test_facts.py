"""Facts that stand in one place, and the copies in JavaScript that cannot import them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aether.defaults import BASE_FPS, FPS, TASKS, steps_text
from aether.formats.contact import color_limits
from aether.geometry.depth import picture_to_disparity

ROOT = Path(__file__).parents[1]
FOLDERS = ("aether", "nodes", "evaluation", "training", "benchmarks", "scripts")
GRAPH = (ROOT / "web" / "graph.js").read_text(encoding="utf-8")


def places(pattern: str) -> set[str]:
    """Files outside of the tests with a line of code that the pattern is in."""
    return {
        file.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_the_rates():
    assert BASE_FPS == 12 and FPS == (8, 10, 12, 15, 24)


@pytest.mark.parametrize(
    "pattern, file",
    [
        (r"(?i)^(?!\s*#).*\b(\w*fps|rate|\w*_rate)(: \w+)? ?= ?12(\.0)?\b", "aether/defaults.py"),
        (r"\(8, 10, 12, 15, 24\)", "aether/defaults.py"),
        (r"re\.compile\(r?\"synthetic", "aether/synthetic.py"),
        (r"mean\((dim=)?0\) \* 0\.5 \+ 0\.5", "aether/geometry/depth.py"),
        (r"\(2\.0, 98\.0\)", "aether/formats/contact.py"),
        (r"^\s*Task\(\"reconstruction\"", "aether/defaults.py"),
    ],
)
def test_a_fact_stands_in_one_file(pattern: str, file: str):
    # A rate that ComfyUI's side passes to the model is taken apart elsewhere.
    assert places(pattern) == {file}


@pytest.mark.parametrize(
    "node, task",
    [
        ("AetherReconstruct", "reconstruction"),
        ("AetherLongClip", "reconstruction"),
        ("AetherPredict", "prediction"),
        ("AetherPlan", "planning"),
        ("const FALLBACK", "prediction"),
    ],
)
def test_the_page_knows_each_task(node: str, task: str):
    found = re.search(rf"{node}(?::| =) {{ steps: (\d+), guidance: ([\d.]+) }}", GRAPH)
    assert found, node
    assert (int(found[1]), float(found[2])) == (TASKS[task].default_steps, TASKS[task].default_guidance)


def test_steps_are_named_for_every_task():
    assert steps_text() == "30 for reconstruction, 50 for prediction, 50 for planning"


def test_disparity_of_a_decoded_picture():
    picture = np.array([-1.0, 0.0, 1.0], np.float32).reshape(1, 1, 1, 3).repeat(3, axis=0)
    np.testing.assert_array_equal(picture_to_disparity(picture), [[[0, 0.25, 1]]])
    assert torch.equal(picture_to_disparity(torch.from_numpy(picture)), torch.tensor([[[0, 0.25, 1]]]))


def test_colour_limits_leave_stray_pixels_out():
    disparity = np.linspace(0.2, 0.8, 10_000, dtype=np.float32).reshape(4, 50, 50)
    disparity[0, 0, 0], disparity[-1, -1, -1] = -100, 100
    assert color_limits(disparity) == pytest.approx((0.212, 0.788), abs=1e-3)
