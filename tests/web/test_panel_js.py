"""What the live text goes by: values through wires and subgraphs, and whose report a run's is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What panel_cases.mjs finds, run in node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: web's scripts are not run")
    command = [node, str(Path(__file__).with_name("panel_cases.mjs")), str(ROOT / "web")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_wire_tells_the_value_of_primitives_and_switches_only(found: dict[str, Any]):
    assert found["primitive"] == 12 and found["other"] is None
    assert found["switches"] == [20, 8, None]  # the last one goes in a circle


def test_what_a_wire_does_not_tell_of_a_run_is_assumed(found: dict[str, Any]):
    assert found["unknownRun"] == {
        "steps": 50, "batch": 2, "width": 720,
        "assumed": ["model", "wiredSteps", "guidance", "task"],
    }  # fmt: skip


def test_promoted_settings_are_the_subgraph_nodes(found: dict[str, Any]):
    promoted, nested = found["promoted"], found["nested"]
    assert promoted["preset"] == nested["preset"] == "custom"
    assert promoted["values"]["tau"] == nested["values"]["tau"] == 0.8
    assert promoted["values"]["interval"] == 3
    assert promoted["assumed"] == nested["assumed"] == promoted["unused"] == nested["unused"] == []


def test_a_preset_wins_over_what_comes_in(found: dict[str, Any]):
    """As in the node itself; what comes in as the preset has it needs no word."""
    overruled = found["overruled"]
    assert (overruled["values"]["tau"], overruled["unused"]) == (0.25, ["tau"])


def test_settings_that_nobody_knows_are_assumed(found: dict[str, Any]):
    tau, preset = found["unknownTau"], found["unknownPreset"]
    assert (tau["preset"], tau["values"]["tau"], tau["assumed"]) == ("custom", 0.25, ["tau"])
    assert (preset["preset"], preset["assumed"]) == ("balanced", ["preset"])


def test_a_report_stays_with_the_workflow_that_was_run(found: dict[str, Any]):
    assert found["told"] == [None, "of the first", None, "newer"]
