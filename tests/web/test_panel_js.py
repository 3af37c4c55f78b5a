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
        "numbers": {"steps": 50, "batch": 2, "frames": 17},
        "assumed": ["model", "wiredSteps", "guidance", "task"],
    }


def test_graphs_of_core_nodes_are_read(found: dict[str, Any]):
    """The loader behind other nodes, and the size from whatever node has width, height and length."""
    wan, checkpoint, foreign = found["core"]
    size = {"height": 480, "width": 832, "frames": 81}
    file = {"loader": "UNETLoader", "file": "wan.safetensors", "kind": "unet"}
    assert wan["model"] == file | {"patched": True}  # by a LoRA
    assert wan["numbers"] == {"steps": 4, "batch": 2, **size}  # two clips without guidance
    assert (wan["guided"], wan["assumed"]) == (False, [])
    assert (checkpoint["model"]["file"], checkpoint["model"]["kind"]) == ("ltx.safetensors", "checkpoint")
    assert (checkpoint["numbers"]["batch"], checkpoint["guided"]) == (4, True)
    assert foreign["model"] == {"loader": "SomeLoader"}
    assert (foreign["numbers"], foreign["assumed"]) == ({"steps": 4, "batch": 1}, ["task"])


def test_the_sampler_and_what_changes_the_weights_are_found(found: dict[str, Any]):
    """By which the server finds a recording."""
    assert found["samplers"] == {
        "aether": {"sampler": {"aether": "ddim"}, "patched": None},
        "core": {"sampler": {"core": "euler"}, "patched": None},
        "custom": {"sampler": {"core": "dpmpp_2m"}, "patched": None},
        "denoise": {"sampler": {"core": "euler", "denoise": 0.5}, "patched": None},
        "fromNoise": {"sampler": {"core": "euler"}, "patched": None},
        "unknown": {"sampler": None, "patched": None},
        "lora": {"sampler": {"core": "dpmpp_2m"}, "patched": True},
        "bypassedLora": {"sampler": {"core": "dpmpp_2m"}, "patched": None},
    }


def test_promoted_settings_are_the_subgraph_nodes(found: dict[str, Any]):
    promoted, nested = found["promoted"], found["nested"]
    assert promoted["preset"] == nested["preset"] == "custom"
    assert promoted["widgets"]["tau"] == nested["widgets"]["tau"] == 0.8
    assert promoted["widgets"]["interval"] == 3
    assert promoted["assumed"] == nested["assumed"] == promoted["unused"] == nested["unused"] == []


def test_a_preset_wins_over_what_comes_in(found: dict[str, Any]):
    """As in the node itself; what comes in as the preset has it needs no word."""
    overruled = found["overruled"]
    assert (overruled["preset"], overruled["unused"], overruled["assumed"]) == ("balanced", ["tau"], [])


def test_settings_that_nobody_knows_are_assumed(found: dict[str, Any]):
    tau, preset = found["unknownTau"], found["unknownPreset"]
    assert (tau["preset"], tau["widgets"]["tau"], tau["assumed"]) == ("custom", None, ["tau"])
    assert (preset["preset"], preset["assumed"]) == (None, ["preset"])


def test_a_mask_is_a_setting_like_others(found: dict[str, Any]):
    assert (found["masked"]["widgets"]["mask"], found["masked"]["assumed"]) == ("1101", [])
    assert found["overruled"]["widgets"]["mask"] == ""  # as every preset has it


def test_a_wired_setting_wins_over_all_but_storage(found: dict[str, Any]):
    """So nothing else that is not known counts, and no preset wins over anything."""
    assert (found["settingWins"]["assumed"], found["settingWins"]["unused"]) == (["storage"], [])
    assert (found["settingText"], found["settingUnknown"]) == ("tau=25%", None)


def test_a_report_stays_with_the_workflow_that_was_run(found: dict[str, Any]):
    assert found["told"] == [None, "of the first", None, "newer"]


def test_what_a_tuner_found_goes_where_it_is_wired_to_else_to_its_model(found: dict[str, Any]):
    """A LoRA in between and the border of a subgraph do not matter; another loader of the same file does."""
    tuned = found["tuned"]
    assert (tuned["unwired"], tuned["otherLoader"], tuned["noModel"]) == ([4, 8], [5], [])
    assert (tuned["rerouted"], tuned["twice"]) == ([5], [4])
    assert tuned["written"] == ["custom", 0.3, 3]
