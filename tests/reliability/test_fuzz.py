"""Damaged files: every reader gives a right result, or an InputError that names the field.

Never another exception, a crash, a wrong result, more than 10 s of a processor or 1 GiB of memory. How many
inputs each reader is given: AETHER_HERO_FUZZ (default, and in CI, 100; nightly 10000). Those of videos are a
fifth of that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INPUTS = int(os.environ.get("AETHER_HERO_FUZZ", "100"))
ROOT = Path(__file__).parents[2]
VIDEOS = (
    *("a.mp4", "a.mkv", "a.avi", "joined.ts", "two.mkv"),
    *("animated.webp", "animated.gif", "animated.png"),
)
READERS = (
    *(f"camera {name}" for name in ("json", "colmap", "tum", "nerfstudio", "glb")),
    *("camera cameras.npz", "camera poses.npy", "camera poses.json", "raymap npy"),
    *(f"camera {name}" for name in ("colmap binary", "instant-ngp", "viewer path", "splatting", "record3d")),
    *(f"camera {name}" for name in ("tum commas", "euroc", "kitti", "realestate", "llff", "extrinsics npz")),
    *(f"camera {name}" for name in ("glb with parents", "glb curves", "gltf", "gltf apart")),
    *("evaluation npz", "evaluation streams", "evaluation run", "sintel dpt", "sintel cam"),
    *("safetensors header", "prompt embeds", "scheduler config", "transformer file", "transformer folder"),
    *("vae file", "vae folder", "window of a long run", "training checkpoint", "training average"),
    *("encoder header", "lora file", "adapter config", "shard index", "shards without an index"),
    *("depth exr", "depth exr json", "depth png16", "depth png16 json"),
    *("comparison settings", "comparison journal"),
    *(f"picture a.{ending}" for ending in ("png", "jpeg", "webp", "tiff", "bmp", "ppm")),
    *("every frame", "clip folder", "evaluation run streams", "long clip folder"),
    *(f"{reader} {name}" for reader in ("video", "long clip") for name in VIDEOS),
)


def run_worker(readers: list[str]) -> list[dict]:
    command = [sys.executable, "-m", "tests.reliability.fuzz_worker", str(INPUTS), *readers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def figures():
    """What each reader did; where one crashed the process, the others go on in a new one."""
    found: dict[str, dict] = {}
    while waiting := [name for name in READERS if name not in found]:
        for line in run_worker(waiting):
            if "begun" in line:
                begun = line["begun"]
                found[begun] = {"crashed": True}
            elif "reader" in line:
                found[line["reader"]] = line
        assert waiting[0] in found, "the worker did not begin"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_or_read_right(figures, reader, capsys):
    figure = figures[reader]
    assert "crashed" not in figure
    assert not figure["failed"], "\n".join(figure["failures"])
    assert figure["refused"] and figure["refused"] + figure["read"] >= INPUTS / 5
    with capsys.disabled():
        print(
            f"\n{reader}: {figure['refused']} refused, {figure['read']} read; "
            f"at most {figure['slowest']} s and {figure['megabytes']} MB"
        )
