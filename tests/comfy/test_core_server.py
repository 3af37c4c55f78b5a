"""Every family that core loads, from its file to its report on a running server.

Checkpoints are small and random (core_models.py); a node of the tests' own (core_tasks.py) gives what text
encoders and core's nodes would. All other nodes are core's and the pack's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .client import PromptError, Run, Server
from .conftest import ROOT
from .core_models import CORE_MODELS, VACE, CoreModel, Size

pytestmark = pytest.mark.slow
HERO = {
    "preset": "custom", "tau": 0.5, "interval": 3, "ratio": 0.5, "threshold": 0.0, "warmup": "2",
    "cooldown": "1", "patch_frames": 1, "patch_rows": 1, "patch_columns": 2, "shallow": "reuse",
    "feedback": 0.0, "text": "refresh", "storage": "model", "seed": 0,
}  # fmt: skip
STEPS, FULL = 8, 4
SHIFTED = ("wan", "hunyuan", "kandinsky")
"""Families before whose sampler a ModelSamplingSD3 usually stands."""
PROMPT = {"wan": 512, "cogvideox": 226}
"""Tokens of a prompt that predictions count with, by family; 256 in all others."""

UNFORESEEN = ("ltx_i2v", "hunyuan15_i2v", "cosmos_predict2_i2v")
"""Models that also run without a picture. One gives each frame or token a timestep of its own, or adds
tokens of CLIP: numbers that the header of a file does not say, and that count on models as small as these."""


@pytest.fixture(scope="module")
def core_server(pack: Any, comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a checkpoint of every family."""
    base = tmp_path_factory.mktemp("core_server")
    for name, made in (CORE_MODELS | {"vace": VACE}).items():
        made.save(base / "models/diffusion_models" / f"{name}.safetensors")
    node = base / "custom_nodes/core_tasks"
    node.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("core_models.py"), node)
    shutil.copy(Path(__file__).with_name("core_tasks.py"), node / "__init__.py")
    server = Server(comfyui, base, ROOT)
    try:
        yield server.wait()
    finally:
        server.stop()


def size_of(name: str, made: CoreModel) -> Size:
    return replace(made.size, tokens=PROMPT.get(name.partition("_")[0], 256))


def larger(size: Size) -> Size:
    """Another size, also in time where there is any."""
    return replace(size, frames=2 * size.frames - 1, rows=size.rows + 2, columns=size.columns + 4)


def prompt(
    name: str, size: Size, *, seed: int = 1, patched: bool = True, weights: str = "default", **hero: Any
) -> dict[str, Any]:
    """A graph as of a workflow of core's, HERO Patch between the loader and the sampler."""
    model: list[Any] = ["loader", 0]
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "loader": ("UNETLoader", {"unet_name": f"{name}.safetensors", "weight_dtype": weights}),
        "task": ("CoreTask", {"model": name, **vars(size)}),
    }
    if name.startswith(SHIFTED):
        nodes["shift"] = ("ModelSamplingSD3", {"model": model, "shift": 5.0})
        model = ["shift", 0]
    if patched:
        nodes["hero"] = ("HeroPatch", {"model": model, **HERO, **hero})
        model = ["hero", 0]
    nodes["sampler"] = (
        "KSampler",
        {
            "model": model, "positive": ["task", 0], "negative": ["task", 1], "latent_image": ["task", 2],
            "seed": seed, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple",
            "denoise": 1.0,
        },
    )  # fmt: skip
    nodes["latent"] = ("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": name})
    nodes["report"] = ("HeroReport", {"model": model, "latent": ["sampler", 0]})
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def latent_of(server: Server, run: Run) -> bytes:
    """The bytes of the tensor that a run saved."""
    from safetensors.numpy import load_file

    (saved,) = run.outputs["latent"]["latents"]
    path = server.base / "output" / saved["subfolder"] / saved["filename"]
    return load_file(path)["latent_tensor"].tobytes()


def prediction(server: Server, name: str, made: CoreModel, size: Size) -> dict[str, Any]:
    """What the page would show under HERO Patch's sliders."""
    frames, side = made.cell
    clip = {
        "frames": (size.frames - 1) * frames + 1,
        "height": size.rows * side,
        "width": size.columns * side,
    }
    model = {"loader": "UNETLoader", "file": f"{name}.safetensors", "kind": "unet"}
    run = {"steps": STEPS, "batch": 2, **clip}
    return server.post(
        "/aether_hero/predict", {"node": "HeroPatch", "widgets": HERO, "model": model, "run": run}
    )


@pytest.mark.parametrize("name", CORE_MODELS)
def test_every_run_is_accelerated_and_as_predicted(core_server: Server, name: str):
    """Another seed and another size, on a server that has run the other families before."""
    made = CORE_MODELS[name]
    size = size_of(name, made)
    latents = set()
    for seed, one in ((1, size), (2, size), (1, larger(size))):
        run = core_server.run(prompt(name, one, seed=seed))
        (report,) = run.data("aether_hero.report")
        assert (report["full"], report["cached"]) == (FULL, STEPS - FULL)
        text = run.outputs["report"]["text"][0]
        assert f"{FULL} full / {STEPS - FULL} cached steps" in text
        assert ("not measured on this kind of model" in text) != made.measured
        found = prediction(core_server, name, made, one)
        assert (found["fullSteps"], found["cachedBytes"]) == (report["full"], report["bytes"])
        assert found["speedupBound"] == pytest.approx(
            report["predicted"], rel=0.1 if name in UNFORESEEN else 1e-9
        )
        latents.add(latent_of(core_server, run))
    assert len(latents) == 3


@pytest.mark.parametrize("name", CORE_MODELS)
def test_without_reuse_it_is_the_graph_without_hero(core_server: Server, name: str):
    """Bit for bit: with interval 1, and bypassed after a run that was accelerated."""
    size = size_of(name, CORE_MODELS[name])
    graphs = [prompt(name, size, **settings) for settings in ({"patched": False}, {"interval": 1}, {})]
    for graph in graphs:
        del graph["report"]  # half of the time, and drawn in the test before
    plain, full, accelerated, after = map(core_server.run, [*graphs, graphs[0]])
    assert all("sampler" in run.executed for run in (plain, full, accelerated, after))
    expected = latent_of(core_server, plain)
    assert latent_of(core_server, full) == latent_of(core_server, after) == expected
    assert latent_of(core_server, accelerated) != expected


@pytest.mark.parametrize("name", ["wan_t2v", "hunyuan_t2v"])
def test_weights_in_float8(core_server: Server, name: str):
    """As the loader's own widget makes them: exact without reuse, accelerated, its cache as predicted."""
    made = CORE_MODELS[name]
    size = size_of(name, made)
    plain, full, accelerated = (
        core_server.run(prompt(name, size, weights="fp8_e4m3fn", **settings))
        for settings in ({"patched": False}, {"interval": 1}, {})
    )
    assert latent_of(core_server, plain) == latent_of(core_server, full)
    assert latent_of(core_server, plain) != latent_of(core_server, accelerated)
    (report,) = accelerated.data("aether_hero.report")
    assert report["full"] == FULL
    assert report["bytes"] == prediction(core_server, name, made, size)["cachedBytes"]


def test_a_model_that_is_refused_is_named_with_the_way_out(core_server: Server):
    size = size_of("wan", VACE)
    with pytest.raises(PromptError) as raised:
        core_server.run(prompt("vace", size))
    details = raised.value.details
    assert (details["event"], details["node_id"]) == ("execution_error", "hero")
    for said in (
        details["exception_message"],
        prediction(core_server, "vace", VACE, size)["error"]["reason"],
    ):
        assert "VaceWanModel is not supported" in said and "bypass HERO" in said
    assert core_server.run(prompt("vace", size, patched=False)).outputs["latent"]
