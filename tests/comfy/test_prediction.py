"""The predictions that the page asks for: those of hero_engine.cost, for the model in front; no crash."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hero_engine import METHODS, PRESETS, HeroConfig
from hero_engine.cost import aether_shape, predict

from .core_models import CORE_MODELS
from .headers import WAN_14B, save_header

AETHER = {"loader": "AetherLoader"}
MINIATURE = {"loader": "AetherMiniature"}
OTHERS = [name for name in METHODS if name != "hero"]
CUSTOM = {
    "preset": "custom", "tau": 0.4, "interval": 3, "ratio": 0.5, "warmup": "10%", "cooldown": "2",
    "patch_frames": 1, "patch_rows": 1, "patch_columns": 2, "feedback": 0.5, "storage": "float8",
}  # fmt: skip


@pytest.fixture(scope="module")
def answer(part: Any) -> Any:
    return part("nodes.prediction").answer


def request(node: str = "HeroPatch", model: Any = AETHER, **given: Any) -> dict[str, Any]:
    run = {"steps": 50, "batch": 2} | given.pop("run", {})
    return {"node": node, "widgets": given.pop("widgets", {}), "model": model, "run": run} | given


def check(found: dict[str, Any], config: Any, *, steps: int = 50, batch: int = 2, size: int = 2) -> None:
    """That an answer is what hero_engine.cost says for Aether at its own size."""
    ours = predict(config, aether_shape(480, 720, 41), steps, batch, size)
    assert found["speedupBound"] == pytest.approx(ours.speedup_bound, rel=1e-12)
    assert (found["steps"], found["fullSteps"], found["cachedBytes"]) == (
        steps, ours.full_steps, ours.cached_bytes,
    )  # fmt: skip
    assert found["cachedSteps"] == steps - ours.full_steps
    assert found["strip"] == ours.strip and sum(found["strip"]) == ours.full_steps
    assert (found["interval"], found["adaptive"]) == (config.interval, config.threshold > 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_engines(answer: Any, preset: str):
    """Whatever the sliders, which may not have followed it."""
    found = answer(request(widgets={"preset": preset, "tau": 0.9, "interval": 7}))
    check(found, PRESETS[preset])
    assert (found["model"], found["height"], found["width"], found["frames"]) == ("aether", 480, 720, 41)
    assert (found["blocks"], found["settings"], found["unknownModel"], found["unmeasured"]) == (
        42, {}, False, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sampler", "adds"),
    [
        ({"aether": "dpm"}, True),
        ({"aether": "ddim"}, False),
        *(
            ({"core": name}, True)
            for name in ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "ddpm", "lcm", "er_sde", "seeds_2")
        ),
        *(
            ({"core": name}, False)
            for name in ("euler", "dpmpp_2m", "uni_pc", "ddim", "res_multistep", "dpm_adaptive", "new")
        ),
        ({}, False),
    ],
    ids=str,
)
def test_samplers_that_add_noise_are_known(answer: Any, sampler: dict[str, str], adds: bool):
    assert answer(request(run={"steps": 20, "sampler": sampler}))["addsNoise"] is adds


def test_custom_settings_are_the_nodes(answer: Any, part: Any):
    config = part("nodes.hero").make_config
    settings = {"seed": 0, "threshold": 0.0, "shallow": "forecast", "text": "omit"} | CUSTOM
    check(answer(request(widgets=CUSTOM)), config(**settings))
    check(answer(request(widgets=CUSTOM | {"threshold": 0.3})), config(**settings | {"threshold": 0.3}))
    blocks = answer(request(widgets={"preset": "fast", "tau_blocks": 5}))
    assert blocks["fullSteps"] == answer(request(widgets={"preset": "fast"}))["fullSteps"]
    assert blocks["speedupBound"] > answer(request(widgets={"preset": "fast"}))["speedupBound"]


def test_a_mask_and_a_whole_setting(answer: Any):
    masked = answer(request(widgets=CUSTOM | {"mask": "1110100"}))
    settings = {"patch": (1, 1, 2), "shallow": "forecast", "text": "omit", "mask": "1110100"}
    names = ("interval", "ratio", "warmup", "cooldown", "feedback", "storage")
    check(masked, HeroConfig(tau="40%", **settings, **{name: CUSTOM[name] for name in names}))
    assert (masked["mask"], masked["tau"]) == ("4 of 7: 1110100", "40%")
    assert masked["strip"][:22] == (True,) * 22 and masked["fullSteps"] == 29
    text = 'tau=4 feedback=1 mask="3 of 4: 1101"'
    found = answer(request(widgets={"preset": "fast", "storage": "float8", "setting": text}))
    check(found, HeroConfig(tau=4, feedback=1, mask="1101", storage="float8"))
    assert answer(request(widgets={"preset": "fast", "setting": None}))["tau"] == "25%"
    assert answer(request("HeroMethod", widgets={"method": "fora"}))["mask"] is None


def test_what_nobody_knows_is_assumed_and_reported(answer: Any):
    found = answer(request(widgets={"preset": None, "tau": 0.8, "storage": None}))
    check(found, PRESETS["balanced"])
    assert found["settings"] == {"preset": "balanced", "storage": "model"}
    method = answer(request("HeroMethod", widgets={"method": "fora", "interval": None, "warmup": "5"}))
    check(method, METHODS["fora"](warmup="5"))
    assert method["settings"] == {"interval": 2}


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_are_the_engines(answer: Any, name: str):
    check(answer(request("HeroMethod", widgets={"method": name})), METHODS[name]())
    settings = {"interval": 5, "warmup": "12%"}
    settings |= {"taylorseer": {"order": 3}, "toca": {"ratio": 0.4, "taper": 0.5}}.get(name, {})
    run = {"steps": 30, "batch": 1, "bytes": 4}
    found = answer(request("HeroMethod", widgets={"method": name, **settings}, run=run))
    check(found, METHODS[name](**settings), steps=30, batch=1, size=4)


def test_sizes_the_graph_says_and_those_it_does_not(answer: Any):
    small = answer(request(model=MINIATURE))
    assert (small["model"], small["height"], small["width"], small["frames"]) == ("miniature", 64, 96, 17)
    assert (small["blocks"], small["cachedBytes"]) == (12, 2_887_680)
    given = answer(request(run={"height": 320, "width": 480, "frames": 17}))
    ours = predict(PRESETS["balanced"], aether_shape(320, 480, 17), 50, 2, 2)
    assert (given["cachedBytes"], given["frames"]) == (ours.cached_bytes, 17)
    assert [answer(request(run={"clip": clip}))["frames"] for clip in (17, 97)] == [17, 41]
    assert answer(request(model=MINIATURE, run={"clip": 33}))["frames"] == 17
    assert answer(request(model=None))["model"] == "aether"


WRONG = {
    "no request": (None, "request"),
    "a list": ([], "request"),
    "no node": ({}, "node"),
    "a node of core": (request("KSampler"), "node"),
    "no widgets": (request(widgets=None), "widgets"),
    "a widget that is a list": (request(widgets={"tau": [1]}), "tau"),
    "a setting that is none": (request(widgets={"speed": 3}), "speed"),
    "an unknown preset": (request(widgets={"preset": "warp"}), "preset"),
    "tau": (request(widgets=CUSTOM | {"tau": 1.5}), "tau"),
    "tau that is no number": (request(widgets=CUSTOM | {"tau": math.nan}), "tau"),
    "tau in text": (request(widgets=CUSTOM | {"tau": "much"}), "tau"),
    "tau blocks": (request(widgets={"tau_blocks": 43}), "tau"),
    "interval": (request(widgets=CUSTOM | {"interval": 0}), "interval"),
    "ratio": (request(widgets=CUSTOM | {"ratio": 0.1}), "ratio"),
    "threshold": (request(widgets=CUSTOM | {"threshold": -1}), "threshold"),
    "warmup": (request(widgets=CUSTOM | {"warmup": "5 %%"}), "warmup"),
    "cooldown": (request(widgets=CUSTOM | {"cooldown": "-1"}), "cooldown"),
    "patch": (request(widgets=CUSTOM | {"patch_columns": 64}), "patch"),
    "feedback": (request(widgets=CUSTOM | {"feedback": 2}), "feedback"),
    "mask": (request(widgets=CUSTOM | {"mask": "0"}), "mask"),
    "setting": (request(widgets={"setting": "tau=0"}), "setting"),
    "no setting": (request(widgets={"setting": 3}), "setting"),
    "storage": (request(widgets=CUSTOM | {"storage": "disk"}), "storage"),
    "no method": (request("HeroMethod"), "method"),
    "an unknown method": (request("HeroMethod", widgets={"method": "warp"}), "method"),
    "order": (request("HeroMethod", widgets={"method": "taylorseer", "order": 9}), "order"),
    "no setting of a method": (request("HeroMethod", widgets={"method": "fora", "order": 1}), "order"),
    "worldcache's warmup": (request("HeroMethod", widgets={"method": "worldcache", "warmup": "1"}), "warmup"),
    "a model in text": (request(model="Aether"), "model"),
    "no run": ({**request(), "run": None}, "run"),
    "no steps": (request(run={"steps": None}), "steps"),
    "too many steps": (request(run={"steps": 10**9}), "steps"),
    "half a batch": (request(run={"batch": 0.5}), "batch"),
    "a side": (request(run={"height": -16}), "height"),
    "a size": (request(run={"height": 500}), "size"),
    "frames": (request(run={"frames": 18}), "size"),
    "a huge clip": (request(run={"height": 16384, "width": 16384, "frames": 401}), "size"),
    "a clip of nothing": (request(model=MINIATURE, run={"height": 4}), "size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_an_error_with_its_field(answer: Any, name: str):
    asked, field = WRONG[name]
    ((key, error),) = answer(asked).items()
    assert (key, error["field"]) == ("error", field)
    assert error["reason"] and not error["reason"].startswith(field + ":")


def test_no_request_whatever_crashes(answer: Any):
    rng = random.Random(20261128)
    values = [
        None,
        True,
        -1,
        0,
        1,
        3,
        0.5,
        1e308,
        math.inf,
        math.nan,
        10**40,
        "",
        "x",
        "5%",
        "custom",
        [],
        {},
    ]
    widgets = [*CUSTOM, "tau_blocks", "mask", "setting", "seed", "method", "order", "taper", "threshold"]

    def some(names: list[str]) -> dict[str, Any]:
        return {name: rng.choice(values) for name in names if rng.random() < 0.3}

    kinds = set()
    for _ in range(2000):
        node = rng.choice(["HeroPatch", "HeroMethod"])
        chosen = CUSTOM if node == "HeroPatch" else {"method": rng.choice(OTHERS)}
        model = rng.choice([AETHER, MINIATURE, None, some(["loader", "file", "kind"])])
        run = {"steps": 8} | some(["steps", "batch", "height", "width", "frames", "clip", "bytes"])
        found = answer(request(node, model, widgets=chosen | some(widgets), run=run))
        json.dumps(found, allow_nan=False)
        kinds.add("error" in found)
    assert kinds == {True, False}


def test_over_http(part: Any, answer: Any, monkeypatch: pytest.MonkeyPatch):
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    route = part("nodes.bridge.prediction_route")
    server = SimpleNamespace(routes=web.RouteTableDef())
    monkeypatch.setattr(route, "running_server", lambda: server)
    route.serve_predictions(answer)
    app = web.Application()
    app.add_routes(server.routes)

    async def ask(*bodies: bytes) -> list[tuple[int, Any]]:
        async with TestClient(TestServer(app)) as client:
            posts = [await client.post(route.PATH, data=body) for body in bodies]
            return [(post.status, await post.json()) for post in posts]

    fine, text, deep, bytes_ = asyncio.run(
        ask(json.dumps(request()).encode(), b"steps", b"[" * 100_000, b"\xff\xfe")
    )
    assert fine == (200, json.loads(json.dumps(answer(request()))))
    for status, body in (text, deep, bytes_):
        assert (status, body["error"]["field"]) == (400, "request")


# The model in front, by its file's header.


def cogvideox(layers: int = 6) -> dict[str, tuple[int, ...]]:
    """CogVideoX-5b-I2V's form with fewer blocks."""
    import comfy.ops
    import torch
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=48, attention_head_dim=64, in_channels=32, out_channels=16, time_embed_dim=512,
        text_embed_dim=4096, num_layers=layers, use_rotary_positional_embeddings=True,
        dtype=torch.bfloat16, device="meta", operations=comfy.ops.manual_cast,
    )  # fmt: skip
    return shapes(model)


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.fixture
def files(part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for both kinds of model files."""
    import folder_paths

    for kind in ("diffusion_models", "checkpoints"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors"}))
    part("nodes.bridge.model_file")._model_of.cache_clear()
    return tmp_path


def unet(name: str = "model.safetensors", kind: str = "unet") -> dict[str, Any]:
    return {"loader": "SomeLoader", "file": name, "kind": kind}


def test_cores_cogvideox_is_found_by_its_header(answer: Any, files: Path):
    from hero_engine.models.cogvideox_shape import CogVideoXSize

    save_header(files / "model.safetensors", cogvideox())
    save_header(
        files / "whole.safetensors",
        {f"model.diffusion_model.{name}": value for name, value in cogvideox().items()},
    )
    shape = CogVideoXSize(6, 3072, 512, 4096, 32, 16, 2).shape((13, 30, 45), 226)
    ours = predict(PRESETS["balanced"], shape, 50, 2, 2)
    for model in (unet(), unet("whole.safetensors", "checkpoint")):
        found = answer(request(model=model, run={"height": 480, "width": 720, "frames": 49, "bytes": 2}))
        assert (found["model"], found["blocks"]) == ("CogVideoX_I2V", 6)
        assert (found["unknownModel"], found["unmeasured"]) == (False, False)
        assert found["cachedBytes"] == ours.cached_bytes
        assert found["speedupBound"] == pytest.approx(ours.speedup_bound, rel=1e-12)


def test_a_file_is_read_once_and_again_when_it_changes(
    answer: Any, part: Any, files: Path, monkeypatch: pytest.MonkeyPatch
):
    module, reads = part("nodes.bridge.model_file"), []
    read = module._read_header
    monkeypatch.setattr(module, "_read_header", lambda path: reads.append(path) or read(path))
    for layers in (6, 8):
        save_header(files / "model.safetensors", cogvideox(layers))
        for _ in range(3):
            assert answer(request(model=unet()))["blocks"] == layers
    assert len(reads) == 2


def test_another_family_is_unmeasured(answer: Any, part: Any, files: Path):
    save_header(files / "model.safetensors", WAN_14B, "F8_E4M3", 1)
    before = part("nodes.bridge.model_before")
    shape = before.model_before(unet()).shape(before.Clip(480, 832, 81))
    assert (shape.grid, shape.blocks, shape.width) == ((21, 30, 52), 40, 5120)
    assert shape.stack[0].context == 512
    run = {"height": 480, "width": 832, "frames": 81, "bytes": 2}
    found = answer(request(model=unet(), run=run))
    assert (found["model"], found["unmeasured"]) == ("WAN21_T2V", True)
    assert found["cachedBytes"] == predict(PRESETS["balanced"], shape, 50, 2, 2).cached_bytes


@pytest.mark.parametrize("name", CORE_MODELS)
@pytest.mark.slow
def test_cores_families_are_predicted_as_they_run(
    answer: Any, part: Any, nodes: Any, ksampler: Any, files: Path, name: str
):
    """Steps, blocks, tokens and the bytes of the cache, from the header alone."""
    import torch

    made = CORE_MODELS[name]
    model = made.load()
    save_header(files / "model.safetensors", {key: tuple(value.shape) for key, value in made.state().items()})
    patched = nodes.HeroPatch(model=model, **CUSTOM)[0]
    task = {"positive": made.conditioning(1), "negative": made.conditioning(2)}
    latent = {"samples": torch.zeros(1, *made.latent)}
    result = ksampler(patched, SimpleNamespace(**task, latent=latent), steps=8)
    report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
    (frames, *sides), latents = made.latent[1:], model.model.latent_format
    height, width = (side * latents.spacial_downscale_ratio for side in sides)
    clip = {"height": height, "width": width, "frames": (frames - 1) * latents.temporal_downscale_ratio + 1}
    found = answer(request(model=unet(), widgets=CUSTOM, run={"steps": 8, "bytes": 4, **clip}))
    assert found["model"] == type(model.model.model_config).__name__
    assert found["unmeasured"] != made.measured
    assert (found["fullSteps"], found["blocks"]) == (report.full_steps, report.shape.blocks)
    assert found["cachedBytes"] == report.bytes_cached
    before = part("nodes.bridge.model_before")
    shape = before.model_before(unet()).shape(before.Clip(**clip))
    assert (shape.grid, shape.width) == (report.shape.grid, report.shape.width)


def full_size(name: str) -> Any:
    """A model as published, without weights."""
    import comfy.ops

    given = {"device": "meta", "operations": comfy.ops.manual_cast}
    if name == "ltx":
        from comfy.ldm.lightricks.model import LTXVModel

        return LTXVModel(**given)
    if name == "hunyuan15":
        from comfy.ldm.hunyuan_video.model import HunyuanVideo

        return HunyuanVideo(
            in_channels=65, out_channels=32, vec_in_dim=None, context_in_dim=3584, hidden_size=2048,
            mlp_ratio=4.0, num_heads=16, depth=54, depth_single_blocks=0, axes_dim=[16, 56, 56], theta=256,
            patch_size=[1, 1, 1], qkv_bias=True, guidance_embed=False, byt5=True, meanflow=False,
            use_cond_type_embedding=True, vision_in_dim=1152, meanflow_sum=True, **given,
        )  # fmt: skip
    from comfy.ldm.cosmos.predict2 import MiniTrainDIT

    return MiniTrainDIT(
        240, 240, 128, 17, 16, 2, 1, model_channels=2048, num_blocks=28, num_heads=16, pos_emb_cls="rope3d",
        use_adaln_lora=True, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "latent", "most"),
    [
        ("ltx", (1, 128, 13, 16, 24), 0.021),
        ("hunyuan15", (1, 65, 31, 30, 53), 0.004),
        ("cosmos_predict2", (1, 17, 24, 88, 160), 0.002),
    ],
)
def test_what_a_start_picture_adds_at_real_sizes(part: Any, name: str, latent: tuple[int, ...], most: float):
    """That only the run says it is given makes the bound too high by no more than docs/models.md says."""
    adapter = part("hero_engine.models.families").adapter_for(full_size(name))
    conditions = part("hero_engine.models.comfy_hunyuan").Conditions
    added = {
        "ltx": {"for_each_token": True},
        "hunyuan15": {"conditions": conditions(beside=(0, 729))},
        "cosmos_predict2": {"timesteps": latent[2]},
    }[name]
    for preset in PRESETS.values():
        bounds = [
            predict(preset, adapter.shape(latent, 256, **more), 30, 2, 2).speedup_bound
            for more in ({}, added)
        ]
        assert 0 < bounds[0] / bounds[1] - 1 < most


def test_a_model_that_hero_does_not_take(answer: Any, part: Any, files: Path):
    import comfy.ops
    import torch
    from comfy.ldm.pixart.pixartms import PixArtMS

    model = PixArtMS(
        in_channels=4, hidden_size=72, depth=2, num_heads=2, dtype=torch.bfloat16, device="meta",
        operations=comfy.ops.manual_cast,
    )  # fmt: skip
    save_header(files / "model.safetensors", shapes(model))
    error = answer(request(model=unet()))["error"]
    assert error["field"] == "model" and error["reason"].startswith("is PixArt")


def test_a_model_whose_header_leaves_its_shape_open(
    answer: Any, part: Any, files: Path, monkeypatch: pytest.MonkeyPatch
):
    """Core takes it for Wan, and reading its dimensions fails."""
    save_header(files / "model.safetensors", {name: WAN_14B[name] for name in list(WAN_14B)[:4]})
    assert answer(request(model=unet()))["blocks"] == 1
    monkeypatch.setattr(part("hero_engine.models.comfy_wan").WanAdapter, "shape", lambda *_: 1 / 0)
    found = answer(request(model=unet()))
    assert (found["model"], found["unknownModel"]) == ("aether", True)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise", "other tensors", "gguf", "outside"])
def test_a_file_that_says_nothing_is_assumed_to_be_aether(answer: Any, files: Path, damage: str):
    path = files / "model.safetensors"
    save_header(path, cogvideox())
    model = unet()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        os.truncate(path, 1000)
    elif damage == "noise":
        path.write_bytes(bytes(range(256)) * 40)
    elif damage == "other tensors":
        save_header(path, {"a": (2, 3), "b": ()})
    elif damage == "gguf":
        path.rename(files / "model.gguf")
        model = unet("model.gguf")
    else:
        model = unet(f"../{files.name}/../{files.name}/nothing.safetensors")
    found = answer(request(model=model))
    assert (found["model"], found["unknownModel"], found["unmeasured"]) == ("aether", True, False)
    assert found["fullSteps"] == 28
