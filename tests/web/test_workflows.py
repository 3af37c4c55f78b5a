"""The templates: sound JSON, known nodes, whole links, room between nodes, a thumbnail each."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflows"
NODES: dict[str, Any] = json.loads((ROOT / "tests/web/nodes.json").read_text(encoding="utf-8"))
WORKFLOWS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
CORE = {
    "BasicScheduler", "CFGGuider", "CLIPLoader", "CLIPTextEncode", "CLIPVisionEncode", "CLIPVisionLoader",
    "CreateVideo", "ImageStitch", "KSampler", "KSamplerSelect", "LoadImage", "MarkdownNote",
    "ModelSamplingSD3", "PreviewAny", "PreviewImage", "PreviewPointCloud", "PrimitiveInt", "RandomNoise",
    "SamplerCustomAdvanced", "SaveVideo", "UNETLoader", "VAEDecode", "VAELoader", "Wan22ImageToVideoLatent",
    "WanCameraEmbedding", "WanCameraImageToVideo",
}  # fmt: skip
CORE_LOADERS = {"UNETLoader", "CLIPLoader", "CLIPVisionLoader", "VAELoader"}
ON_CORE = [
    name for name, found in WORKFLOWS.items() if any(node["type"] == "UNETLoader" for node in found["nodes"])
]
"""Templates on models that core loads."""
BUNDLED = [name for name in WORKFLOWS if name not in ON_CORE]
"""Templates that run with nothing to download."""
MUTED, BYPASSED = 2, 4
OPTIONAL = {
    "camera", "before", "lens", "mask", "sampler", "sigmas", "tau_blocks", "setting", "reference", "world",
}  # fmt: skip
"""Sockets of ours that may stay empty."""
TITLE = 30
"""Height of a node's title, which stands above its position."""
PREVIEW = 100
"""By how much its preview and a line of text make an Aether Sampler of the templates' size taller."""
COLLAPSED_TITLE = 20
"""Characters of a collapsed node's title that the classic canvas shows."""

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def of_type(workflow: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] == kind]


def value(node: dict[str, Any], widget: str) -> Any:
    return node["widgets_values"][NODES[node["type"]]["widgets"].index(widget)]


def test_all_templates_are_there():
    assert set(WORKFLOWS) == {
        "1 Try it now", "2 Video to depth and camera", "3 Picture along a camera path",
        "4 From one picture to another", "5 Long video", "6 Video to Blender and Nuke",
        "7 Video to point cloud", "8 Compare with and without HERO", "9 With core samplers",
        "10 Wan picture to video", "11 Wan along a camera move", "12 Wan to depth and camera",
        "13 Tune for this model", "14 Explore a world",
    }  # fmt: skip


@every_workflow
def test_thumbnail(name: str):
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert min(picture.size) >= 256
        assert len(picture.convert("L").resize((32, 32)).getcolors()) > 30  # a picture, not a plane


@every_workflow
def test_nodes_are_known(name: str):
    nodes = WORKFLOWS[name]["nodes"]
    assert {node["type"] for node in nodes} <= CORE | set(NODES)
    assert len({node["id"] for node in nodes}) == len(nodes)


@every_workflow
def test_inputs_and_widgets_are_the_nodes(name: str):
    for node in WORKFLOWS[name]["nodes"]:
        known = NODES.get(node["type"])
        if known:
            assert {slot["name"] for slot in node.get("inputs", [])} == set(known["inputs"])
            assert len(node.get("outputs", [])) == len(known["outputs"])
            assert len(node.get("widgets_values", [])) == len(known["widgets"])


@every_workflow
def test_links_are_consistent(name: str):
    workflow = WORKFLOWS[name]
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) == len(workflow["links"]) and max(links) <= workflow["last_link_id"]
    for number, origin, origin_slot, target, target_slot, kind in links.values():
        output, socket = nodes[origin]["outputs"][origin_slot], nodes[target]["inputs"][target_slot]
        assert number in output["links"] and socket["link"] == number
        assert "*" in (kind, socket["type"]) or kind in socket["type"].split(",")
    used = {slot["link"] for node in nodes.values() for slot in node.get("inputs", []) if slot.get("link")}
    used |= {
        link for node in nodes.values() for slot in node.get("outputs", []) for link in slot["links"] or ()
    }
    assert used == set(links)


@every_workflow
def test_every_needed_input_is_connected(name: str):
    for node in WORKFLOWS[name]["nodes"]:
        for slot in node.get("inputs", []):
            if node["type"] in NODES and "widget" not in slot and slot["name"] not in OPTIONAL:
                assert slot["link"] is not None, (node["type"], slot["name"])


@every_workflow
def test_nothing_of_this_machine(name: str):
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert not re.search(r"/home/|/root/|/tmp/|/mnt/|[A-Z]:\\\\|localhost|127\.0\.0\.1", text)


@pytest.mark.parametrize("name", BUNDLED)
def test_runs_on_the_miniature_with_the_loader_beside_it(name: str):
    """An artist with nothing installed presses Run; where the real model is to be had is said."""
    (miniature,) = of_type(WORKFLOWS[name], "AetherMiniature")
    (loader,) = of_type(WORKFLOWS[name], "AetherLoader")
    assert miniature["mode"] == 0 and miniature["outputs"][0]["links"] and miniature["outputs"][1]["links"]
    assert loader["mode"] == MUTED and not any(output["links"] for output in loader["outputs"])
    for model in loader["properties"]["models"]:
        assert set(model) == {"name", "url", "directory"}
        assert model["url"].startswith("https://huggingface.co/")
    notes = " ".join(node["widgets_values"][0] for node in of_type(WORKFLOWS[name], "MarkdownNote"))
    assert "AetherWorldModel/AetherV1" in notes and "THUDM/CogVideoX-5b-I2V" in notes


@pytest.mark.parametrize("name", ON_CORE)
def test_every_file_of_core_has_a_link_and_a_line_in_the_notes(name: str):
    """In properties.models, from which ComfyUI downloads, and in the notes with its folder."""
    notes = " ".join(node["widgets_values"][0] for node in of_type(WORKFLOWS[name], "MarkdownNote"))
    loaders = [node for node in WORKFLOWS[name]["nodes"] if node["type"] in CORE_LOADERS]
    assert len(loaders) >= 3
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert set(model) == {"name", "url", "directory"} and model["name"] == node["widgets_values"][0]
        assert re.fullmatch(
            rf"https://huggingface\.co/Comfy-Org/Wan_2\.[12]_ComfyUI_[Rr]epackaged/resolve/main/split_files/"
            rf"{model['directory']}/{re.escape(model['name'])}",
            model["url"],
        )
        assert f"models/{model['directory']}: [{model['name']}]({model['url']})" in notes


@pytest.mark.parametrize("name", ON_CORE)
def test_what_was_not_measured_is_said(name: str):
    notes = " ".join(node["widgets_values"][0] for node in of_type(WORKFLOWS[name], "MarkdownNote"))
    assert "has been measured on a small Aether, not on Wan." in notes


def test_the_clip_of_a_camera_move_fits_into_aether():
    """Without cropping: its size is Aether's, and its seconds are those of 41 frames at the task's rate."""
    workflow = WORKFLOWS["12 Wan to depth and camera"]
    (camera,), (task,) = of_type(workflow, "WanCameraEmbedding"), of_type(workflow, "AetherReconstruct")
    clip, (asked,) = camera["widgets_values_named"], of_type(workflow, "AetherCamera")
    assert (clip["width"], clip["height"], clip["length"]) == (720, 480, 81)
    (made,) = [node for node in of_type(workflow, "CreateVideo") if node["title"] == "16 frames a second"]
    assert made["widgets_values_named"]["fps"] == 16
    frames = (clip["length"] - 1) * int(value(task, "fps")) / 16 + 1
    assert frames == 41 == value(asked, "frames")
    assert [value(asked, side) for side in ("width", "height", "fps")] == [720, 480, value(task, "fps")]


@every_workflow
def test_notes_say_the_same_by_name_and_ask_for_nothing_unused(name: str):
    for node in of_type(WORKFLOWS[name], "MarkdownNote"):
        (text,) = node["widgets_values"]
        assert node["widgets_values_named"] == {"text": text}
        assert "tokenizer" not in text and "text_encoder/" not in text  # 9 GB that the loader does without


@every_workflow
def test_notes_read_well_in_both_renderers(name: str):
    """What is not indented ends a list, so that its next item runs on; Nodes 2.0 hides inline code."""
    for node in of_type(WORKFLOWS[name], "MarkdownNote"):
        text = re.sub(r"```.*?```", "", node["widgets_values"][0], flags=re.DOTALL)
        assert "`" not in text, node["title"]
        last = 0
        for line in node["widgets_values"][0].splitlines():
            if item := re.match(r"(\d+)\. ", line):
                assert int(item[1]) in (1, last + 1), line
                last = int(item[1])
            elif line and not line.startswith("   "):
                last = 0


def test_names_are_numbered_in_the_order_to_read_them():
    numbers = sorted(int(name.partition(" ")[0]) for name in WORKFLOWS)
    assert numbers == [*range(1, len(WORKFLOWS) + 1)]


@pytest.mark.parametrize("name", [name for name in WORKFLOWS if "Video to" in name])
def test_only_the_task_hangs_on_the_example_clip(name: str):
    """So that Load Video can take its place. The true depth, which it has not, comes from a second one."""
    workflow = WORKFLOWS[name]
    example = next(node for node in of_type(workflow, "AetherExample") if not node["flags"])
    kinds = {node["id"]: node["type"] for node in workflow["nodes"]}
    assert [kinds[link[3]] for link in workflow["links"] if link[1] == example["id"]] == ["AetherReconstruct"]


@every_workflow
def test_no_label_overrides_a_language(name: str):
    """A slot whose stored label is its name would show it in every language."""
    for node in WORKFLOWS[name]["nodes"]:
        for slot in node.get("inputs", []) + node.get("outputs", []):
            assert slot.get("label") != slot["name"], (node["type"], slot["name"])


@every_workflow
def test_no_title_of_a_collapsed_node_is_cut(name: str):
    for node in WORKFLOWS[name]["nodes"]:
        if node.get("flags", {}).get("collapsed"):
            assert len(node.get("title", "")) <= COLLAPSED_TITLE, node["title"]


def rectangle(node: dict[str, Any]) -> tuple[float, float, float, float]:
    x, y = node["pos"]
    if node.get("flags", {}).get("collapsed"):
        return x, y - TITLE, x + 100, y
    return x, y - TITLE, x + node["size"][0], y + node["size"][1]


@every_workflow
def test_layout(name: str):
    """Nothing overlaps; every node but notes lies in a group, groups have titles and colors."""
    workflow = WORKFLOWS[name]
    boxes = {node["id"]: rectangle(node) for node in workflow["nodes"]}
    for (a, one), (b, two) in combinations(boxes.items(), 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, (a, b)
    groups = [group["bounding"] for group in workflow["groups"]]
    assert all(group["title"] and group["color"] for group in workflow["groups"])
    for node in workflow["nodes"]:
        x0, y0, x1, y1 = boxes[node["id"]]
        inside = [x <= x0 and y <= y0 and x1 <= x + w and y1 <= y + h for x, y, w, h in groups]
        assert any(inside) or node["type"] == "MarkdownNote", node["type"]


@every_workflow
def test_a_sampler_has_room_for_its_preview(name: str):
    """Which makes it grow while it runs."""
    groups = [group["bounding"] for group in WORKFLOWS[name]["groups"]]
    for node in of_type(WORKFLOWS[name], "AetherSampler") + of_type(WORKFLOWS[name], "KSampler"):
        x, _, _, bottom = rectangle(node)
        ends = [top + height for left, top, width, height in groups if left <= x <= left + width]
        assert min(end for end in ends if end >= bottom) >= bottom + PREVIEW


@every_workflow
def test_videos_play_at_the_rate_that_a_task_takes_off_its_clip(name: str):
    workflow = WORKFLOWS[name]
    tasks = of_type(workflow, "AetherReconstruct") + of_type(workflow, "AetherLongClip")
    origins = {link[0]: link[1] for link in workflow["links"]}
    examples = {node["id"] for node in of_type(workflow, "AetherExample")}
    if any(value(task, "fps") == "auto" for task in tasks):
        for node in of_type(workflow, "CreateVideo"):
            links = {slot["name"]: slot["link"] for slot in node["inputs"]}
            assert links["fps"] is not None or origins[links["images"]] in examples, node["id"]


def found_runs(workflows: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What web/graph.js finds about the HERO Patch nodes, run in node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: web/graph.js is not run")
    scripts = [Path(__file__).with_name("graph_cases.mjs"), ROOT / "web/graph.js"]
    text = json.dumps({"workflows": workflows, "nodes": NODES})
    command = [node, *map(str, scripts)]
    return json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)


def test_the_run_is_found_in_every_template():
    found = found_runs({name: WORKFLOWS[name] for name in BUNDLED})
    for name in ("2 Video to depth and camera", "6 Video to Blender and Nuke", "7 Video to point cloud"):
        (reconstruct,) = found.pop(name)
        # The frames are read off the example clip.
        assert reconstruct["numbers"] == {"steps": 4, "batch": 1, "clip": 17}
        assert reconstruct["bypassed"] and reconstruct["assumed"] == []
    (long,) = found.pop("5 Long video")
    assert (long["numbers"]["steps"], long["numbers"]["batch"], long["assumed"]) == (8, 1, [])
    (walk,) = found.pop("14 Explore a world")
    assert (walk["numbers"]["steps"], walk["numbers"]["batch"], walk["assumed"]) == (20, 1, [])
    (tuned,) = found.pop("13 Tune for this model")
    assert (tuned["numbers"]["steps"], tuned["numbers"]["batch"], tuned["assumed"]) == (20, 2, [])
    assert tuned["sampler"] == {"aether": "ddim"}
    (power,) = found.pop("9 With core samplers")
    assert (power["numbers"]["steps"], power["numbers"]["batch"]) == (30, 2)
    assert power["sampler"] == {"core": "euler"}
    for (run,) in found.values():
        assert run["model"] == {"loader": "AetherMiniature"} and run["sampler"] == {"aether": "dpm"}
        assert (run["numbers"]["steps"], run["numbers"]["batch"], run["guided"]) == (50, 2, True)
        assert run["numbers"].get("frames") in (None, 17) and "height" not in run["numbers"]
        assert run["assumed"] == [] and not run["bypassed"]


def test_the_run_is_found_before_core_samplers():
    """With the file that is loaded and the clip's size, also where another node hands it on."""
    found = found_runs({name: WORKFLOWS[name] for name in ON_CORE})
    wan, aether = found["12 Wan to depth and camera"]
    (picture,), (move,) = found["10 Wan picture to video"], found["11 Wan along a camera move"]
    for run, file, size in (
        (picture, "wan2.2_ti2v_5B_fp16.safetensors", (1280, 704, 121)),
        (move, "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors", (832, 480, 81)),
        (wan, "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors", (720, 480, 81)),
    ):
        numbers = dict(zip(("width", "height", "frames"), size, strict=True)) | {"steps": 20, "batch": 2}
        assert run["model"] == {"loader": "UNETLoader", "file": file, "kind": "unet"}
        assert run["numbers"] == numbers
        assert run["assumed"] == [] and not run["bypassed"]
    assert aether["model"] == {"loader": "AetherLoader", "file": "AetherV1/"} and aether["bypassed"]
    assert (aether["numbers"]["steps"], aether["numbers"]["batch"]) == (4, 1)


def changed(**settings: Any) -> dict[str, Any]:
    """1 Try it now with widgets set, such as AetherSampler_steps=8."""
    workflow = copy.deepcopy(WORKFLOWS["1 Try it now"])
    for key, setting in settings.items():
        kind, _, widget = key.partition("_")
        (node,) = of_type(workflow, kind)
        node["widgets_values"][NODES[kind]["widgets"].index(widget)] = setting
    return workflow


def without(workflow: dict[str, Any], kind: str, **mode: int) -> dict[str, Any]:
    """Take a node's links away, or change its mode."""
    workflow = copy.deepcopy(workflow)
    (node,) = of_type(workflow, kind)
    if mode:
        node.update(mode)
        return workflow
    gone = {link[0] for link in workflow["links"] if node["id"] in (link[1], link[3])}
    workflow["links"] = [link for link in workflow["links"] if link[0] not in gone]
    return workflow


def test_the_run_is_found_in_changed_graphs():
    base = WORKFLOWS["1 Try it now"]
    found = found_runs(
        {
            "steps": changed(AetherSampler_steps=8, AetherSampler_guidance=1),
            "size": changed(AetherPredict_width=480, AetherPredict_height=320, AetherPredict_frames="41"),
            "no model": without(base, "AetherMiniature"),
            "no sampler": without(base, "AetherSampler"),
            "no task": without(base, "AetherPredict"),
            "muted sampler": without(base, "AetherSampler", mode=MUTED),
        }
    )
    runs = {name: run for name, (run,) in found.items()}
    numbers = {name: run["numbers"] for name, run in runs.items()}
    assert (numbers["steps"]["steps"], numbers["steps"]["batch"]) == (8, 1)
    assert [numbers["size"][side] for side in ("height", "width", "frames")] == [320, 480, 41]
    assert runs["no model"]["model"] is None and runs["no model"]["assumed"] == ["model"]
    assert numbers["no sampler"]["steps"] == 50 and "steps" in runs["no sampler"]["assumed"]
    assert "task" in runs["no task"]["assumed"]
    assert "steps" in runs["muted sampler"]["assumed"]
