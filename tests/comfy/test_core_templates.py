"""Templates on models that core loads: they open in a real browser and run on a real server.

Small random checkpoints bear the names of the real ones. Text encoder, picture encoder and VAE come from
stand_ins.py, Aether from the miniature; all other nodes are the templates' own.
"""

from __future__ import annotations

import copy
import importlib.util
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from .browser import CHROMIUM, CORE_TEMPLATES, WORKFLOWS, Page, comfyui_page, frames_of
from .client import Run, Server
from .conftest import ROOT
from .core_models import CORE_MODELS
from .template_files import put_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec("playwright") is None,
        reason="no Chromium or no playwright (pip install playwright): the browser tests are not run",
    ),
]
CHECKPOINTS = {
    "wan2.2_ti2v_5B_fp16.safetensors": "wan_5b",
    "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors": "wan_camera",
}
STAND_INS: dict[str, tuple[str, dict[str, Any]]] = {
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": ("StandInText", {}),
    "clip_vision_h.safetensors": ("StandInPicture", {}),
    "wan2.2_vae.safetensors": ("StandInVAE", {"channels": 48, "block": 16}),
    "wan_2.1_vae.safetensors": ("StandInVAE", {"channels": 16, "block": 8}),
    "AetherV1/": ("AetherMiniature", {}),
}
"""What takes the place of the loader of a file."""
SIZES = {
    "Wan22ImageToVideoLatent": {"width": 96, "height": 64, "length": 17},
    "WanCameraEmbedding": {"width": 96, "height": 64, "length": 33},
    "AetherCamera": {"width": 96, "height": 64, "frames": 17},
}
CLIPS = {
    "10 Wan picture to video": {"video": (17, 64, 96)},
    "11 Wan along a camera move": {"camera_move": (33, 64, 96)},
    # 33 frames at 16 a second are 17 at 8, which is what the miniature takes.
    "12 Wan to depth and camera": {
        "world_color": (33, 64, 96),
        "world_depth": (17, 64, 96),
        "world_camera": 17,
    },
}
"""Videos that a template saves at SIZES, by name: (frames, height, width), or frames of a drawing."""
API = "() => app.graphToPrompt().then(found => found.output)"


@pytest.fixture(scope="module")
def wan_server(pack: Any, comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("core_templates")
    put_files(base)
    for name, kind in CHECKPOINTS.items():
        CORE_MODELS[kind].save(base / "models/diffusion_models" / name)
    for folder, file in (
        ("custom_nodes", Path(__file__).with_name("stand_ins.py")),
        ("input", comfyui / "input/example.png"),
    ):
        (base / folder).mkdir()
        shutil.copy(file, base / folder)
    server = Server(comfyui, base, ROOT)
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def page(wan_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with comfyui_page(wan_server, tmp_path_factory.mktemp("screenshots")) as found:
        yield found


def runnable(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt with stand-ins for what cannot be had here, at small sizes."""
    changed = {}
    for key, node in prompt.items():
        kind, inputs = node["class_type"], dict(node["inputs"])
        file = next(
            (value for value in inputs.values() if isinstance(value, str) and value in STAND_INS), None
        )
        if file is not None:
            kind, inputs = STAND_INS[file]
        changed[key] = {"class_type": kind, "inputs": inputs | SIZES.get(kind, {})}
    return changed


def run_of(server: Server, prompt: dict[str, Any]) -> Run:
    """In a thread of its own: the browser's has an event loop that runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(server.run, prompt).result()


def videos_of(prompt: dict[str, Any], run: Run, output: Path) -> dict[str, np.ndarray]:
    """What Save Video nodes wrote, by the names in the template."""
    found = {}
    for key, node in prompt.items():
        if node["class_type"] == "SaveVideo":
            (video,) = run.outputs[key]["images"]
            name = Path(node["inputs"]["filename_prefix"]).name
            found[name] = frames_of(output / video["subfolder"] / video["filename"])
    return found


def report_of(prompt: dict[str, Any], run: Run) -> str:
    (key,) = [key for key, node in prompt.items() if node["class_type"] == "HeroReport"]
    return run.outputs[key]["text"][0]


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
@pytest.mark.parametrize("name", CORE_TEMPLATES)
def test_they_open_with_nothing_missing(page: Page, name: str, vue: bool):
    page.setting("Comfy.VueNodes.Enabled", vue)
    page.open_template(name)
    page.assert_sound(name)
    page.wait_for_panel("of 20 steps")


@pytest.mark.parametrize("name", CORE_TEMPLATES)
def test_every_input_and_value_is_one_that_core_has(wan_server: Server, name: str):
    known = wan_server.get("/object_info")
    for node in WORKFLOWS[name]["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        sections = known[node["type"]]["input"]
        inputs = {
            key: spec for part in ("required", "optional") for key, spec in sections.get(part, {}).items()
        }
        named = {slot["name"].partition(".")[0] for slot in node["inputs"]}
        assert named - {"upload"} <= set(inputs), node["type"]
        assert [slot["type"] for slot in node["outputs"]] == known[node["type"]]["output"]
        for key, value in node.get("widgets_values_named", {}).items():
            options = inputs[key][0] if key in inputs else None
            if options == "COMBO":
                options = inputs[key][1].get("options")
            assert not isinstance(options, list) or value in options, (node["type"], key, value)


@pytest.mark.parametrize("name", CORE_TEMPLATES)
def test_they_run_accelerated(page: Page, wan_server: Server, name: str):
    page.setting("Comfy.VueNodes.Enabled", False)
    page.open(name)
    prompt = runnable(page.js(API))
    run = run_of(wan_server, prompt)
    assert "11 full" in report_of(prompt, run) and "9 cached" in report_of(prompt, run)
    clips = videos_of(prompt, run, wan_server.base / "output")
    assert set(clips) == set(CLIPS[name])
    for saved, shape in CLIPS[name].items():
        assert clips[saved].shape == (*shape, 3) if isinstance(shape, tuple) else len(clips[saved]) == shape
        assert clips[saved].std() > 0.02


def latent_of(prompt: dict[str, Any], server: Server) -> torch.Tensor:
    """What the sampler gives; videos are encoded with loss, and not twice alike."""
    (sampler,) = [key for key, node in prompt.items() if node["class_type"] == "KSampler"]
    save = {"class_type": "SaveLatent", "inputs": {"samples": [sampler, 0], "filename_prefix": "latent"}}
    (file,) = run_of(server, prompt | {"latent": save}).outputs["latent"]["latents"]
    return load_file(server.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"]


def test_bypassed_it_is_the_clip_without_hero(page: Page, wan_server: Server):
    """The comparison that the notes ask for, against a run in which every step is full."""
    page.setting("Comfy.VueNodes.Enabled", False)
    page.open("10 Wan picture to video")
    accelerated = runnable(page.js(API))
    page.js("() => { app.graph.nodes.find(node => node.type === 'HeroPatch').mode = 4; }")
    bypassed = runnable(page.js(API))
    full = copy.deepcopy(accelerated)
    (hero,) = [node for node in full.values() if node["class_type"] == "HeroPatch"]
    hero["inputs"] |= {"preset": "custom", "interval": 1}
    assert not any(node["class_type"] == "HeroPatch" for node in bypassed.values())
    fast, plain, all_full = (latent_of(prompt, wan_server) for prompt in (accelerated, bypassed, full))
    assert torch.equal(plain, all_full)
    assert 0 < float((fast - plain).norm() / plain.norm()) < 0.1
