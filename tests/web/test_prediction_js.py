"""What the page does with the server's predictions: when it asks, which answer stays, what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMFYUI = {
    "app": "export const app = { extensionManager: { setting: { get: () => globalThis.locale } } };",
    "api": "export const api = {};",
}
"""What the scripts take from ComfyUI's page."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What prediction_cases.mjs finds, run in node on a page's folders."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: web's scripts are not run")
    page = tmp_path_factory.mktemp("page")
    (page / "scripts").mkdir()
    for name, text in COMFYUI.items():
        (page / f"scripts/{name}.js").write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "web", page / "extensions/pack", ignore=shutil.ignore_patterns("docs"))
    (page / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    command = [node, str(Path(__file__).with_name("prediction_cases.mjs")), str(page / "extensions/pack")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_while_a_slider_moves_the_last_answer_stays_and_the_newest_is_asked_next(found: dict[str, Any]):
    dragging = found["dragging"]
    assert dragging["first"] is None
    assert dragging["requests"] == [1, 3]  # 2 was overtaken, and 3 is not asked twice
    assert dragging["meanwhile"] == 1
    assert dragging["shown"] == [1, 3]
    assert dragging["words"] == "new"


def test_a_failed_question_is_asked_again_later(found: dict[str, Any]):
    failing = found["failing"]
    assert failing == {"failed": {"failed": True}, "before": 1, "after": {"n": 1}}


def test_the_servers_answers(found: dict[str, Any]):
    servers = found["servers"]
    assert servers["fine"] == {"steps": 4}
    assert servers["refused"] == servers["gone"] == {"failed": True}
    assert servers["sent"] == ["/aether_hero/predict", '{"node":"HeroPatch"}']


def test_what_is_said_of_a_prediction(found: dict[str, Any]):
    plain = found["en"]["plain"]
    assert plain == {
        "mood": "",
        "bound": "up to 1.74× faster",
        "error": "",
        "steps": "28 full + 22 cached of 50 steps",
        "memory": "2.9 MB of cache · Aether Miniature 96×64×17",
        "last": "",
        "note": "",
        "strip": [True, False],
    }
    said = {name: content["note"] for name, content in found["en"].items()}
    assert said["short"] == "Only 3 of 8 steps can be reused: a run this short gains little."
    assert said["half"] == ""
    assert said["adaptive"].startswith("Drift decides: at least 28 full steps")
    assert said["unmeasured"] == "Quality has not been measured on this model."
    assert "WAN21_T2V" in found["en"]["unmeasured"]["memory"]
    noise = "This sampler adds noise: the clip may come out differently."
    assert said["noisy"] == noise
    assert noise not in said["noisyKnown"] + said["noisyFull"] + said["noisyMask"]
    assert said["unknown"] == "Assuming an Aether-sized model."
    assert said["assumed"] == (
        "Assuming Aether (connect a model), 50 steps (connect a sampler), "
        "50 steps (what is wired to steps is not known yet), guidance, a clip of 96×64×17, 17 frames."
    )


def test_what_is_said_where_nothing_is_reused_or_nothing_can_run(found: dict[str, Any]):
    said = found["en"]
    for name, start in (
        ("noInterval", "Nothing to reuse: with interval 1"),
        ("allWarmup", "Nothing to reuse: "),
        ("maskOfOnes", "Nothing to reuse: the mask makes all 8 steps full."),
    ):
        assert (said[name]["mood"], said[name]["bound"]) == ("warning", "no speed-up")
        assert said[name]["note"].startswith(start)
    assert "take all 4 steps" in said["allWarmup"]["note"]
    assert said["allWarmup"]["memory"] == "Aether Miniature 96×64×17"  # no cache is made
    off = said["off"]
    assert (off["mood"], off["bound"], off["steps"]) == (
        "off",
        "HERO is off",
        "50 full + 0 cached of 50 steps",
    )
    assert (off["memory"], off["last"], off["note"]) == ("Aether Miniature 96×64×17", "", "")
    assert said["bypassed"]["steps"] == "If on: 28 full + 22 cached of 50 steps"
    assert (said["bypassed"]["mood"], said["bypassed"]["bound"]) == ("off", "HERO is off")
    assert (said["wrong"]["mood"], said["wrong"]["note"]) == ("error", "Cannot run: patch: is too large")
    assert (said["silent"]["mood"], said["silent"]["bound"]) == ("warning", "no prediction")
    assert "does not answer" in said["silent"]["note"]
    assert said["reported"]["last"] == "Last run: 6 full / 4 cached, 1.50×, 3.0 MB"
    assert (said["reusedNothing"]["mood"], said["reusedNothing"]["last"]) == (
        "warning",
        "Last run reused nothing.",
    )


def test_what_is_said_of_a_mask_and_of_a_wired_setting(found: dict[str, Any]):
    english, chinese = found["notes"]["en"], found["notes"]["zh"]
    assert english == {
        "nothing": "",
        "mask": "The mask decides which steps are full: interval, warm-up and cool-down are not used.",
        "setting": "The wired setting decides: of this node's rows only storage and seed count.",
        "both": "The wired setting decides: of this node's rows only storage and seed count. "
        "Wired tau: 5 of 12 blocks.",
    }
    assert {name: bool(text) for name, text in chinese.items()} == {
        name: bool(text) for name, text in english.items()
    }
    assert not set(chinese.values()) & set(english.values()) - {""}
    said = {name: content["note"] for name, content in found["en"].items()}
    assert said["noneWithMask"].startswith("Put more 0s into the mask")
    assert said["reusedNothing"].startswith("Raise the interval")
    assert said["unknownWires"] == (
        "Assuming tau 25% (the node wired to tau blocks has not run), "
        "this node's own settings (the node wired to setting has not run)."
    )


def test_a_question_is_asked_again_where_the_server_may_know_more(found: dict[str, Any]):
    assert found["askedAgain"] == {"before": {"n": 1}, "meanwhile": {"n": 1}, "after": {"n": 2}, "asks": 2}


def test_what_is_said_of_the_error(found: dict[str, Any]):
    said = found["en"]
    errors = {
        "error": "about 0.6 % error",
        "largeError": "about 1.7 % error",
        "tinyError": "about 0.01 % error",
        "errorWithin": "about 0.6 % error",
    }
    assert {name: said[name]["error"] for name in errors} == errors
    assert said["error"]["note"] == ""  # not that quality was not measured
    spreads = {"errorWithin": "1.4", "largeSpread": "23", "smallSpread": "1.1"}
    for name, factor in spreads.items():
        assert said[name]["note"] == f"Predicted errors are within a factor of {factor} on average."
        assert found["zh"][name]["note"] == f"预测的误差平均在 {factor} 倍以内。"
    notes = {
        "noRecording": "Error: not known for this model, run HERO Tuner.",
        "otherRun": "Error: known for 50 steps, 96×64×17, run HERO Tuner for 20 steps, 96×64×9.",
        "otherSampler": "Error: known for dpm, run HERO Tuner for your sampler.",
        "otherSetting": "Error: cannot be predicted for these settings.",
    }
    assert {name: said[name]["note"] for name in notes} == notes
    assert all(said[name]["error"] == "" for name in notes)
    for name in ("bypassedError", "bypassedNoRecording"):
        assert (said[name]["error"], said[name]["note"]) == ("", "")
    assert said["measured"]["last"] == "Last run: 6 + 4 steps, 1.50×, 0.57 % error"
    assert said["tinyError"]["last"].endswith("<0.01 % error")


def test_chinese_says_as_much(found: dict[str, Any]):
    for name, english in found["en"].items():
        chinese = found["zh"][name]
        for part, text in english.items():
            if part in ("mood", "strip"):
                assert chinese[part] == text
            else:
                assert bool(chinese[part]) == bool(text), (name, part)
                assert not text or chinese[part] != text, (name, part)
