"""The held-out scenes' figures: right where the truth is put in, and what the bundled weights reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aether.generation.latents import encode
from aether.geometry import raymap as raymaps
from aether.miniature import build
from evaluation import world
from evaluation.cli import main
from training.data import render_scene


@pytest.fixture(scope="module")
def clip():
    return render_scene(3)


def path(positions: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 3] = positions
    return poses


def test_path_correlation_by_hand() -> None:
    way = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 1.0]])
    assert world.path_correlation(path(3 * way + 5), path(way)) == pytest.approx(1)
    assert world.path_correlation(path(-way), path(way)) == pytest.approx(-1)
    # Centered: a = (-1,0), (0,0), (1,0); b = (-1,-1/3), (0,-1/3), (1,2/3): 2 / sqrt(2 * 8/3).
    assert world.path_correlation(path(way * [1, 1, 0]), path(way)) == pytest.approx(2 / (2 * 8 / 3) ** 0.5)
    assert np.isnan(world.path_correlation(path(0 * way), path(way)))


@pytest.mark.slow
def test_the_truth_scores_as_the_truth(clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the true latent for a result, only what the VAE loses is missing."""
    model = build()
    root = np.sqrt(clip.depth.min() / clip.depth)
    pictures = [clip.rgb, np.repeat(root[..., None], 3, axis=-1)]
    streams = [encode(model, torch.from_numpy(p.astype(np.float32))) * 0.7**2 for p in pictures]
    raymap = raymaps.from_cameras(clip.poses, clip.intrinsics, 64, 96, scale=1 / clip.depth.min())
    latent = torch.cat([*streams, torch.from_numpy(raymaps.pack(raymap))[None]], dim=2)
    monkeypatch.setattr(world, "sample", lambda *args, **kwargs: latent)
    found = world.score_clip(model, clip, {"reconstruction": 1, "prediction": 1, "planning": 1})
    assert found["rpe_rot"] < 1e-3
    assert found["prediction_path"] == pytest.approx(1) and found["planning_path"] == pytest.approx(1)
    assert found["vae_psnr"] > 28 and found["planning_first"] > 28 and found["planning_last"] > 26
    assert found["abs_rel"] < 0.06 and found["delta1"] > 0.95


@pytest.mark.slow
def test_command_prints_a_row_per_scene(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--scenes", "1", "--steps", "1"]) == 0
    out = capsys.readouterr().out
    assert "scene 0" in out and "RPE rot" in out
    assert main(["world", "--scenes", "0"]) == 2
