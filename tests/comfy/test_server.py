"""The pack in a real ComfyUI server, through its HTTP API."""

from __future__ import annotations

import re
import shutil
import threading
from typing import Any

import numpy as np
import pytest

from .client import PromptError

pytestmark = pytest.mark.slow

HERO = {
    "preset": "custom", "tau": 0.5, "interval": 3, "ratio": 0.17, "threshold": 0.0, "warmup": "2",
    "cooldown": "0", "patch_frames": 1, "patch_rows": 2, "patch_columns": 3, "shallow": "reuse",
    "feedback": 0.0, "text": "refresh", "storage": "model", "seed": 0,
}  # fmt: skip


SMALL, OWN = {"width": 48, "height": 32}, {"width": 0, "height": 0}
"""Sizes of a task: a quarter of the miniature's, and what it takes without one."""


def graph(
    name: str, *, patched: bool = True, seed: int = 1, steps: int = 8, size: Any = SMALL, **hero: Any
) -> dict[str, Any]:
    """Predict from an example picture with core's KSampler, save latent and pictures under ``name``."""
    prompt = {
        "model": ("AetherMiniature", {}),
        "image": ("EmptyImage", {"width": 96, "height": 64, "batch_size": 1, "color": 0x3366CC}),
        "task": ("AetherPredict", {"vae": ["model", 1], "image": ["image", 0], **size,
                                   "frames": "17", "fps": "12", "seed": 0}),
        "hero": ("HeroPatch", {"model": ["model", 0], **HERO, **hero}),
        "sampler": ("KSampler", {"model": ["hero" if patched else "model", 0], "positive": ["task", 0],
                                 "negative": ["task", 1], "latent_image": ["task", 2], "seed": seed,
                                 "steps": steps, "cfg": 3.0, "sampler_name": "euler",
                                 "scheduler": "sgm_uniform", "denoise": 1.0}),
        "latent": ("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": name}),
        "split": ("AetherSplit", {"latent": ["sampler", 0]}),
        "rgb": ("VAEDecode", {"samples": ["split", 0], "vae": ["model", 1]}),
        "save": ("SaveImage", {"images": ["rgb", 0], "filename_prefix": name}),
        "report": ("HeroReport", {"model": ["hero" if patched else "model", 0], "latent": ["sampler", 0]}),
    }  # fmt: skip
    if not patched:
        del prompt["hero"]
    return as_prompt(prompt)


def as_prompt(nodes: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def test_predictions_are_served(server):
    asked = {"node": "HeroPatch", "widgets": {"preset": "balanced"}, "model": {"loader": "AetherMiniature"}}
    for address in ("/aether_hero/predict", "/api/aether_hero/predict"):
        found = server.post(address, {**asked, "run": {"steps": 50, "batch": 2}})
        assert (found["fullSteps"], found["cachedSteps"], found["cachedBytes"]) == (28, 22, 2_887_680)
    assert server.post(address, {**asked, "run": {}})["error"]["field"] == "steps"
    assert server.post(address, None)["error"]["field"] == "request"


def latent_of(server, run) -> bytes:
    """The bytes of the tensor that a run saved."""
    from safetensors.numpy import load_file

    saved = run.outputs["latent"]["latents"][0]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])[
        "latent_tensor"
    ].tobytes()


def pixels_of(server, run) -> list[np.ndarray]:
    from PIL import Image

    return [
        np.asarray(Image.open(server.base / "output" / i["filename"])) for i in run.outputs["save"]["images"]
    ]


def counts(run) -> tuple[int, int]:
    (report,) = run.data("aether_hero.report")
    return report["full"], report["cached"]


def test_the_server_starts_without_a_word_about_us(server):
    # Other tests may have used the same server before, some of them with errors.
    log = server.log.read_text().partition("To see the GUI")[0]
    ours = [line for line in log.splitlines() if re.search("aether|hero", line, re.IGNORECASE)]
    (times,) = [line for line in ours if "seconds" in line]
    assert "FAILED" not in times
    assert not [line for line in ours if re.search("warning|error", line, re.IGNORECASE)]


SAMPLING = ("AetherSampler", "AetherLongClip", "AetherExplore", "AetherPostReconstruct")
"""Nodes with a seed of noise, which ComfyUI may change by itself from run to run."""


def test_every_node_and_widget_explains_itself(server):
    info = server.get("/object_info")
    ours = {name: node for name, node in info.items() if "Aether-HERO" in node["python_module"]}
    assert set(ours) >= {
        "AetherLoader", "AetherMiniature", "AetherReconstruct", "AetherPredict", "AetherPlan", "HeroPatch",
        "AetherSampler", "AetherSplit", "AetherDepth", "AetherCameras", "HeroReport",
    }  # fmt: skip
    for name, node in ours.items():
        assert node["description"] and node["search_aliases"] and node["display_name"], name
        for inputs in (node["input"].get("required", {}), node["input"].get("optional", {})):
            for widget, spec in inputs.items():
                assert spec[1].get("tooltip"), (name, widget)
                if widget == "seed":
                    wanted = "fixed" if name in SAMPLING else False
                    assert spec[1]["control_after_generate"] == wanted, name
        assert all(node["output_tooltips"]), name


def test_the_widgets_stay_in_order(server):
    """Saved workflows hold values by position: append only."""
    info = server.get("/object_info")
    wanted = {
        "AetherLoader": "transformer vae prompt dtype attention",
        "AetherReconstruct": "vae video width height frames fps seed camera start_frame every_nth",
        "AetherPredict": "vae image width height frames fps seed camera",
        "AetherPlan": "vae start goal width height frames fps seed camera",
        "HeroPatch": "model preset tau interval ratio threshold warmup cooldown patch_frames patch_rows "
        "patch_columns shallow feedback text storage seed tau_blocks mask setting trend",
        "HeroMethod": "model method",
        "HeroAnalyzer": "model positive negative latent seed steps guidance scheduler interval ratio warmup",
        "HeroTuner": "model positive negative latent seed target speed error budget steps guidance scheduler "
        "sampler sigmas",
        "AetherSampler": "model positive negative latent seed steps guidance scheduler dynamic_guidance "
        "guidance_skip",
        "AetherSplit": "latent fps",
        "AetherDepth": "vae disparity normalize colormap near far edge fps",
        "AetherSaveDepth": "depth format quantity filename_prefix fps near far mask unit",
        "AetherVideo": "vae rgb fps",
        "AetherCameras": "raymap fps fov lens",
        "AetherPostReconstruct": "model vae latent seed steps scheduler fps",
        "AetherCamera": "preset amount easing fov frames fps distance overlap seed frame width height before",
        "AetherLoadCameras": "file scale fov",
        "AetherSmoothCameras": "cameras period",
        "AetherSaveCameras": "cameras format filename_prefix",
        "HeroReport": "model latent reference",
        "AetherLoRA": "model lora strength",
        "AetherLongClip": "model vae video width height frames stride fps seed steps scheduler tiles fov "
        "lens",
        "AetherExplore": "model vae camera width height frames seed steps guidance scheduler returns steady "
        "image world",
        "AetherCameraCheck": "asked obtained",
        "AetherMetricScale": "depth cameras known meters frame other_frame x1 y1 x2 y2 metric_depth mask",
    }
    for name, order in wanted.items():
        parts = info[name]["input_order"]
        assert parts["required"] + parts.get("optional", []) == order.split(), name


def test_a_slider_reruns_the_sampler_and_what_follows_only(server):
    server.run(graph("slider", tau=0.5))
    run = server.run(graph("slider", tau=0.3))
    assert {"model", "image", "task"} <= run.cached
    # Nothing stands between the click and the sampler but the patch itself, asked first for what it needs.
    assert [name for name in run.executed if name != "split"][:3] == ["hero", "hero", "sampler"]
    assert set(run.executed) == {"hero", "sampler", "latent", "split", "rgb", "save", "report"}
    assert counts(run) == (4, 4)


def test_repeat_bypass_and_second_seed_in_one_process(server):
    plain = server.run(graph("plain", patched=False))
    first = server.run(graph("first"))
    second = server.run(graph("second", seed=2))
    assert counts(first) == counts(second) == (4, 4)
    assert latent_of(server, first) != latent_of(server, plain)
    # Changed away and back, so that nothing comes from the cache.
    again = server.run(graph("again", seed=1, tau=0.5000001))
    assert latent_of(server, again) == latent_of(server, first)
    server.run(graph("elsewhere", patched=False, seed=3))
    bypassed = server.run(graph("bypassed", patched=False))
    assert latent_of(server, bypassed) == latent_of(server, plain)
    full = server.run(graph("full", interval=1))
    assert latent_of(server, full) == latent_of(server, plain)
    for a, b in zip(pixels_of(server, bypassed), pixels_of(server, plain), strict=True):
        assert np.array_equal(a, b)
    text = bypassed.outputs["report"]["text"][0]
    assert "No HERO Patch" in text


def test_twins_have_reports_of_their_own(server):
    """Two patches with the same settings in one graph, then one of them under another name."""
    prompt = graph("twins")
    prompt["hero2"] = prompt["hero"]
    prompt["sampler2"] = {
        **prompt["sampler"],
        "inputs": {**prompt["sampler"]["inputs"], "model": ["hero2", 0]},
    }
    prompt["report2"] = {
        "class_type": "HeroReport",
        "inputs": {"model": ["hero2", 0], "latent": ["sampler2", 0]},
    }
    run = server.run(prompt)
    assert sorted(report["node"] for report in run.data("aether_hero.report")) == ["hero", "hero2"]
    renamed = graph("renamed")
    renamed["patch"] = renamed.pop("hero")
    for name in ("sampler", "report"):
        renamed[name]["inputs"]["model"] = ["patch", 0]
    run = server.run(renamed)
    assert [report["node"] for report in run.data("aether_hero.report")] == ["patch"]
    assert "4 full / 4 cached" in run.outputs["report"]["text"][0]


def test_two_prompts_queued_together_do_not_mix(server):
    alone = [server.run(graph(f"alone{n}", interval=n, seed=11)) for n in (2, 4)]
    server.post("/free", {"free_memory": True})
    together = server.run_all([graph(f"together{n}", interval=n, seed=11) for n in (2, 4)])
    assert [latent_of(server, run) for run in together] == [latent_of(server, run) for run in alone]
    assert counts(together[0]) == (5, 3) and counts(together[1]) == (3, 5)


def test_interrupt_in_mid_run_and_then_a_right_one(server):
    expected = server.run(graph("undisturbed", seed=21))

    def stop(kind, data):
        if kind == "progress" and data["value"] == 3:
            threading.Thread(target=server.interrupt).start()

    with pytest.raises(PromptError, match="execution_interrupted"):
        server.run(graph("interrupted", seed=22, steps=200), stop)
    after = server.run(graph("after", seed=21, tau=0.5000001))
    assert latent_of(server, after) == latent_of(server, expected)
    assert counts(after) == (4, 4)


def test_everything_downstream(server):
    """Depth, cameras, tiled decoding, Aether Sampler and SamplerCustomAdvanced: what do they hold?"""
    import av

    prompt = graph("all", size=OWN)
    prompt |= as_prompt({
        "aether": ("AetherSampler", {"model": ["hero", 0], "positive": ["task", 0], "negative": ["task", 1],
                                     "latent": ["task", 2], "seed": 4, "steps": 8, "guidance": 0.0,
                                     "scheduler": "dpm", "dynamic_guidance": "auto"}),
        "split2": ("AetherSplit", {"latent": ["aether", 0]}),
        "depth": ("AetherDepth", {"vae": ["model", 1], "disparity": ["split2", 1], "normalize": "sequence",
                                  "colormap": "Spectral"}),
        "save_depth": ("SaveImage", {"images": ["depth", 0], "filename_prefix": "depth"}),
        "exr": ("AetherSaveDepth", {"depth": ["depth", 1], "mask": ["depth", 3], "fps": ["depth", 5],
                                    "format": "exr", "quantity": "depth", "near": 0.0, "far": 0.0,
                                    "filename_prefix": "aether/depth"}),
        "depth_video": ("SaveVideo", {"video": ["depth", 4], "filename_prefix": "depth_video",
                                      "format": "auto", "format.codec": "auto"}),
        "video": ("AetherVideo", {"vae": ["model", 1], "rgb": ["split2", 0]}),
        "rgb_video": ("SaveVideo", {"video": ["video", 1], "filename_prefix": "rgb_video",
                                    "format": "auto", "format.codec": "auto"}),
        "cameras": ("AetherCameras", {"raymap": ["split2", 2]}),
        "save_path": ("SaveImage", {"images": ["cameras", 1], "filename_prefix": "path"}),
        "json": ("PreviewAny", {"source": ["cameras", 2]}),
        "tiled": ("VAEDecodeTiled", {"samples": ["split", 0], "vae": ["model", 1], "tile_size": 64,
                                     "overlap": 0, "temporal_size": 64, "temporal_overlap": 8}),
        "save_tiled": ("SaveImage", {"images": ["tiled", 0], "filename_prefix": "tiled"}),
        "noise": ("RandomNoise", {"noise_seed": 1}),
        "guider": ("CFGGuider", {"model": ["hero", 0], "positive": ["task", 0], "negative": ["task", 1],
                                 "cfg": 3.0}),
        "euler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("BasicScheduler", {"model": ["hero", 0], "scheduler": "sgm_uniform", "steps": 8,
                                      "denoise": 1.0}),
        "advanced": ("SamplerCustomAdvanced", {"noise": ["noise", 0], "guider": ["guider", 0],
                                               "sampler": ["euler", 0], "sigmas": ["sigmas", 0],
                                               "latent_image": ["task", 2]}),
        "latent2": ("SaveLatent", {"samples": ["advanced", 0], "filename_prefix": "advanced"}),
        "report2": ("HeroReport", {"model": ["hero", 0], "latent": ["aether", 0]}),
        "report3": ("HeroReport", {"model": ["hero", 0], "latent": ["advanced", 0]}),
    })  # fmt: skip
    run = server.run(prompt)
    assert run.previews >= 3
    assert [(r["full"], r["cached"]) for r in run.data("aether_hero.report")] == [(4, 4)] * 3
    for name in ("report", "report2", "report3"):
        assert "4 full / 4 cached" in run.outputs[name]["text"][0] and run.outputs[name]["images"]
    (written,) = run.outputs["exr"]["text"]
    assert len(list((server.base / "output" / written).glob("depth_*.exr"))) == 17
    for name in ("depth_video", "rgb_video"):
        (video,) = run.outputs[name]["images"]
        with av.open(str(server.base / "output" / video["subfolder"] / video["filename"])) as file:
            assert file.streams.video[0].average_rate == 12 and file.streams.video[0].frames == 17
    # The same seed, sampler and schedule, by hand.
    files = [run.outputs[name]["latents"][0]["filename"] for name in ("latent", "latent2")]
    folder = server.base / "output"
    assert (folder / files[0]).read_bytes()[-1000:] == (folder / files[1]).read_bytes()[-1000:]
    for name, size in (
        ("save", (64, 96)),
        ("save_depth", (64, 96)),
        ("save_tiled", (64, 96)),
        ("save_path", (480, 640)),
    ):
        assert len(run.outputs[name]["images"]) == 17
        frames = pixels_of(server, type(run)(run.id, outputs={"save": run.outputs[name]}))
        assert all(frame.shape == (*size, 3) for frame in frames)
        assert np.std(frames[8]) > 1
    assert '"convention"' in str(run.outputs["json"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hero": {"tau": float("nan")}}, "tau"),
        ({"hero": {"patch_rows": 65}}, "patch"),
        ({"task": {"width": 96}}, "width, height"),
        ({"task": {"width": 100, "height": 60}}, "width, height"),
        ({"sampler": {"positive": ["task", 1], "latent_image": ["empty", 0]}}, "latent"),
    ],
)
def test_mistakes_are_named(server, change, message):
    prompt = graph("wrong", size=OWN) | as_prompt(
        {"empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1})}
    )
    for name, inputs in change.items():
        prompt[name]["inputs"] |= inputs
    with pytest.raises(PromptError, match=message):
        server.run(prompt)


def refused(server, prompt) -> dict[str, Any]:
    """What the server says of a prompt that fails while it runs."""
    with pytest.raises(PromptError) as caught:
        server.run(prompt)
    return caught.value.details


def reading(stream: str, slot: int, *, far: bool = False) -> dict[str, Any]:
    """A prompt in which the node for a stream gets an output of Aether Split, or what comes of it."""
    node, kind, vae = {
        "rgb": ("video", "AetherVideo", True),
        "disparity": ("depth", "AetherDepth", True),
        "raymap": ("cameras", "AetherCameras", False),
    }[stream]
    inputs = {stream: ["batch", 0]} | ({"vae": ["model", 1]} if vae else {})
    if kind == "AetherDepth":
        inputs |= {"normalize": "sequence", "colormap": "gray"}
    pictures = 1 if kind == "AetherCameras" else 0
    nodes = {
        "batch": ("LatentFromBatch", {"samples": ["split", slot], "batch_index": 0, "length": 1}),
        node: (kind, inputs),
        "one": ("ImageInvert", {"image": [node, pictures]}),
        "two": ("ImageInvert", {"image": ["one", 0]}),
        "end": ("SaveImage", {"images": ["two" if far else "one", 0], "filename_prefix": "end"}),
    }
    return graph("streams", seed=41) | as_prompt(nodes)


@pytest.mark.parametrize("far", [False, True], ids=["near an output", "far from it"])
@pytest.mark.parametrize("stream, slot, found", [("disparity", 0, "rgb"), ("rgb", 1, "disparity"),
                                                 ("raymap", 0, "rgb")])  # fmt: skip
def test_the_wrong_stream_is_refused_before_anything_is_sampled(server, stream, slot, found, far):
    error = refused(server, reading(stream, slot, far=far))
    assert error["exception_type"] == "Aether"
    assert error["exception_message"].strip() == (
        f"{stream}: is the {found} of Aether Split; connect its output {stream}, or the sampler's latent"
    )
    assert not {"model", "task", "sampler"} & set(error["executed"])


def test_the_right_stream_and_the_whole_latent_give_the_same(server):
    prompt = reading("disparity", 1)
    split = server.run(prompt)
    prompt["depth"]["inputs"]["disparity"] = ["sampler", 0]
    whole = server.run(prompt)
    frames = [
        pixels_of(server, type(run)(run.id, outputs={"save": run.outputs["end"]})) for run in (split, whole)
    ]
    assert len(frames[0]) == 17
    assert all(np.array_equal(a, b) for a, b in zip(*frames, strict=True))
    assert split.texts == whole.texts == []


def test_a_saved_latent_says_what_was_assumed(server):
    run = server.run(graph("kept", seed=42))
    saved = run.outputs["latent"]["latents"][0]
    shutil.copy(
        server.base / "output" / saved["subfolder"] / saved["filename"], server.base / "input/a.latent"
    )
    prompt = as_prompt({
        "model": ("AetherMiniature", {}),
        "load": ("LoadLatent", {"latent": "a.latent"}),
        "split": ("AetherSplit", {"latent": ["load", 0]}),
        "save_rgb": ("SaveLatent", {"samples": ["split", 0], "filename_prefix": "rgb"}),
        "video": ("AetherVideo", {"vae": ["model", 1], "rgb": ["load", 0], "fps": "24"}),
        "save": ("SaveVideo", {"video": ["video", 1], "filename_prefix": "kept", "format": "auto",
                               "format.codec": "auto"}),
    })  # fmt: skip
    run = server.run(prompt)
    assert run.texts == [
        "12 frames a second assumed: this latent has lost its rate. If it is another, set fps."
    ]


@pytest.mark.parametrize(
    "node, inputs, message",
    [
        ("task", {"width": 96}, "width, height: give both, or 0 for both (the model's own size)"),
        ("task", {"width": 100, "height": 60}, "width, height: 100 x 60 (width x height) cannot be used: "
         "both must be multiples of 8; try 96 x 64"),
        ("hero", {"ratio": 0.05}, "ratio: 0.05 of a patch"),
        ("hero", {"patch_frames": 60}, "patch: 60x2x3 is larger than the token grid 5x8x12"),
    ],
)  # fmt: skip
def test_a_problem_is_named_once_and_plainly(server, node, inputs, message):
    """Also one of several inputs together, and one that core's own sampler meets."""
    prompt = graph("plain words", seed=43, size=OWN)
    prompt[node]["inputs"] |= inputs
    error = refused(server, prompt)
    assert error["exception_type"] == "Aether" and error["exception_message"].startswith(message)
    assert "sampler" not in error["executed"]


@pytest.mark.parametrize("inputs", [{"width": 100_000, "height": 64}, {"fps": "11"}])
def test_a_widget_out_of_range_is_one_error(server, inputs):
    prompt = graph("out of range")
    prompt["task"]["inputs"] |= inputs
    errors = refused(server, prompt)["node_errors"]["task"]["errors"]
    assert len(errors) == 1 and errors[0]["extra_info"]["input_name"] in inputs


def test_the_doctor_looks_again_in_every_run(server):
    prompt = as_prompt({"doctor": ("AetherDoctor", {})})
    first, second = server.run(prompt), server.run(prompt)
    assert "doctor" in first.executed and "doctor" in second.executed
    (text,) = second.outputs["doctor"]["text"]
    assert re.search(r"^  this pack +custom_nodes/ComfyUI-Aether-HERO$", text, re.MULTILINE)
    assert re.search(r"^  miniature +ready: ", text, re.MULTILINE)
    assert re.search(r"^  transformer +missing: hf download ", text, re.MULTILINE)
    assert "could not be examined" not in text


def test_missing_weights_are_refused_with_the_command(server):
    """As the templates name them."""
    chosen = {"vae": "from the folder", "prompt": "from the folder", "dtype": "auto", "attention": "auto"}
    prompt = graph("no weights")
    prompt["model"] = {"class_type": "AetherLoader", "inputs": {"transformer": "AetherV1/", **chosen}}
    errors = refused(server, prompt)["node_errors"]["model"]["errors"]
    assert {error["type"] for error in errors} == {"custom_validation_failed"}
    assert all(
        'hf download AetherWorldModel/AetherV1 --include "transformer/*"' in error["details"]
        for error in errors
    )
