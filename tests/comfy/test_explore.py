"""Aether Explore on the miniature, inside ComfyUI's libraries."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

SIZE = {"width": 48, "height": 32}
QUICK = {**SIZE, "frames": "17", "steps": 2, "guidance": 1.0}
NAMES = ("images", "depth", "disparity", "cameras", "raymap", "fps", "report", "world")


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """ComfyUI's temp folder, empty."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def picture(part):
    world = part("aether.miniature")
    return torch.from_numpy(world.render(world.random_scene(5), 1, 32, 48, 12).rgb)


@pytest.fixture
def walk(nodes, miniature, temp):
    """Aether Explore with few steps; widgets may be given."""

    def run(camera, **inputs):
        model = inputs.pop("model", miniature.model)
        outputs = nodes.AetherExplore(model=model, vae=miniature.vae, camera=camera, **(QUICK | inputs)).args
        return SimpleNamespace(**dict(zip(NAMES, outputs, strict=True)))

    return run


def move(nodes, preset="truck right", amount=0.5, frames=17, before=None):
    return nodes.AetherCamera(preset=preset, amount=amount, frames=frames, before=before, fps="10")[0]


def test_another_move_runs_only_the_new_window(nodes, walk, picture, temp):
    begun = move(nodes)
    first = walk(begun, image=picture)
    assert first.images.shape == (17, 32, 48, 3) and first.fps == first.cameras["fps"] == 10
    longer = move(nodes, "pan left", 0.1, before=begun)
    kept = sorted(path.stat().st_mtime_ns for path in temp.rglob("*.safetensors"))
    second = walk(longer, image=picture)
    assert second.images.shape == (33, 32, 48, 3) and second.depth.min() >= 1
    assert torch.equal(second.images[:17], first.images)
    times = sorted(path.stat().st_mtime_ns for path in temp.rglob("*.safetensors"))
    assert len(kept) == 1 and times[0] == kept[0] and len(times) == 2
    report = json.loads(second.report)
    assert [window["start"] for window in report["windows"]] == [0, 16]


def test_a_world_is_gone_on_from_two_ways(nodes, walk, picture, temp):
    begun = walk(move(nodes), image=picture)
    left, right = (walk(move(nodes, way, 0.2), world=begun.world) for way in ("pan left", "pan right"))
    assert len(list(temp.rglob("*.safetensors"))) == 3
    assert torch.equal(left.images[:17], right.images[:17])
    assert not torch.equal(left.images[20:], right.images[20:])
    at_once = walk(move(nodes, "pan left", 0.2, before=move(nodes)), image=picture)
    assert torch.equal(at_once.images, left.images) and torch.equal(at_once.disparity, left.disparity)
    assert np.array_equal(at_once.cameras["cameras"].poses, left.cameras["cameras"].poses)


def test_the_outputs_fit_the_other_nodes(nodes, walk, picture):
    made = walk(move(nodes), image=picture)
    cloud = nodes.AetherPointCloud(depth=made.depth, image=made.images, cameras=made.cameras)
    assert cloud.args
    assert len(json.loads(nodes.AetherCameras(raymap=made.raymap)[2])["frames"]) == 17


@pytest.mark.parametrize(
    "change, text",
    [
        ({"seed": 8}, "^seed: is not what the connected world was made with"),
        ({"steps": 3}, "^steps: is not what"),
        ({"width": 96, "height": 64}, "^width, height: the connected world is 48 x 32"),
        ({"frames": "25"}, "^frames: the connected world has windows of 17"),
        ({"image": torch.zeros(1, 32, 48, 3)}, "^image: connect a picture to begin with, or a world"),
    ],
)
def test_a_world_of_other_settings_is_refused(nodes, walk, picture, change, text):
    begun = walk(move(nodes), image=picture)
    with pytest.raises(ValueError, match=text):
        walk(move(nodes), world=begun.world, **change)


def test_another_model_is_refused(nodes, walk, picture, miniature):
    begun = walk(move(nodes), image=picture)
    other = nodes.HeroPatch(model=miniature.model, preset="custom", warmup=1, cooldown=0)[0]
    with pytest.raises(ValueError, match="^model: is not what the connected world was made with"):
        walk(move(nodes), world=begun.world, model=other)


def test_a_stopped_walk_keeps_its_windows(nodes, walk, picture, temp, miniature):
    import comfy.model_management

    calls = 0

    def count(*args):
        nonlocal calls
        calls += 1
        if calls == 3:
            comfy.model_management.interrupt_current_processing(True)

    hook = miniature.model.model.diffusion_model.transformer.proj_out.register_forward_hook(count)
    path = move(nodes, frames=33)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        walk(path, image=picture)
    hook.remove()
    assert len(list(temp.rglob("*.safetensors"))) == 1
    assert walk(path, image=picture).images.shape[0] == 33


def test_settings_are_refused_before_the_model_is_loaded(nodes):
    ask = nodes.get("AetherExplore").check_lazy_status
    assert ask(width=0, height=0, guidance=0.0) == ["vae"]
    with pytest.raises(ValueError, match="^guidance: "):
        ask(width=0, height=0, guidance=0.5)
    with pytest.raises(ValueError, match="^width, height: "):
        ask(width=48, height=0, guidance=0.0)
