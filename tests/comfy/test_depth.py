"""Aether Depth, Aether Video and Aether Save Depth in ComfyUI's libraries: pictures, masks, videos, files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def output(pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder of the test's own."""
    import folder_paths

    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(folder))
    return folder


@pytest.fixture(scope="module")
def streams() -> SimpleNamespace:
    """Latents as Aether Split gives them, 17 frames at 15 fps."""
    noise = torch.randn(2, 1, 16, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        rgb={"samples": noise[0], "aether_fps": 15}, disparity={"samples": noise[1], "aether_fps": 15}
    )


@pytest.fixture(scope="module")
def decoded(nodes: Any, miniature: Any, streams: Any) -> tuple[Any, ...]:
    return nodes.AetherDepth(vae=miniature.vae, disparity=streams.disparity).args


def pixels_of(video: Any) -> torch.Tensor:
    return video.get_components().images


def test_a_box_before_a_wall(part):
    """near, far and the range between them: 2 is white, 6 is a third of the way in disparity, 20 is black."""
    draw = part("nodes.depth").draw
    disparity = np.array([[[1.0, 1 / 2, 1 / 6, 1 / 20, 0.001]]], dtype=np.float32)
    picture = draw(disparity, "range", "gray", 2.0, 20.0)
    np.testing.assert_allclose(picture[0, 0, :, 0], [1, 1, (1 / 6 - 0.05) / 0.45, 0, 0], atol=1e-6)
    colored = draw(disparity, "range", "Spectral", 2.0, 20.0)[0, 0]
    assert colored[1, 0] > colored[1, 2] and colored[3, 2] > colored[3, 0]  # near is red, far is blue


def test_edges_are_a_mask_of_the_jumps(part, decoded):
    _, depth, _, edges, _, _ = decoded
    assert edges.shape == depth.shape[:3] and edges.dtype == torch.float32
    expected = part("aether.geometry.depth").depth_edges(depth[..., 0].numpy(), 0.2)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(edges.numpy() > 0.5, expected)


def test_more_tolerance_makes_fewer_edges(nodes, miniature, streams, decoded):
    edges = nodes.AetherDepth(vae=miniature.vae, disparity=streams.disparity, edge=1.0).args[3]
    assert 0 < edges.mean() < decoded[3].mean()


def test_videos_have_the_clips_rate(nodes, miniature, streams, decoded):
    picture, _, _, _, video, fps = decoded
    assert fps == 15 and isinstance(fps, float)
    assert video.get_components().frame_rate == 15 and torch.equal(pixels_of(video), picture)
    images, video = nodes.AetherVideo(vae=miniature.vae, rgb=streams.rgb).args
    assert torch.equal(images, miniature.vae.decode(streams.rgb["samples"])[0])
    assert images.shape == (17, 32, 48, 3)
    assert video.get_components().frame_rate == 15 and torch.equal(pixels_of(video), images)


def test_what_aether_depth_refuses(nodes, miniature, streams):
    depth = {"vae": miniature.vae, "disparity": streams.disparity}
    for limits in ({"near": 5.0, "far": 5.0}, {"near": 9.0, "far": 3.0}, {"far": float("nan")}):
        with pytest.raises(ValueError, match=r"^far: the range from .* is empty"):
            nodes.AetherDepth(**depth, normalize="range", **limits)
    with pytest.raises(ValueError, match=r"^edge: nan must be a positive number"):
        nodes.AetherDepth(**depth, edge=float("nan"))
    broken = {"samples": torch.full((1, 16, 2, 4, 6), 1e38)}
    with pytest.raises(ValueError, match=r"^disparity: decodes to NaN"):
        nodes.AetherDepth(vae=miniature.vae, disparity=broken)
    with pytest.raises(ValueError, match=r"^rgb: has shape .*connect the rgb of Aether Split"):
        nodes.AetherVideo(vae=miniature.vae, rgb={"samples": torch.zeros(1, 32, 5, 4, 6)})


def test_exr_holds_the_depth_of_aether_depth(nodes, part, decoded, output):
    _, depth, _, edges, _, fps = decoded
    saved = nodes.AetherSaveDepth(depth=depth, mask=edges, fps=fps)
    assert saved.args[0] == "aether/depth_00001_exr"
    assert saved.ui == {"text": ("aether/depth_00001_exr",)}
    found = part("aether.formats.depth_files").read_depth(output / saved.args[0])
    expected = torch.where(edges > 0.5, 0, depth[..., 0])
    np.testing.assert_array_equal(found.values, expected)
    assert found.fps == 15 and found.about["no_depth"]["pixels"] == int(edges.sum())


def test_png_takes_a_range_and_exr_leaves_it(nodes, part, decoded, output):
    depth = decoded[1]
    settings = {"depth": depth, "quantity": "disparity", "near": 2.0, "far": 10.0}
    read = part("aether.formats.depth_files").read_depth
    found = read(output / nodes.AetherSaveDepth(**settings, format="png16").args[0])
    assert found.about["range"] == pytest.approx([0.1, 0.5])
    half_step = 0.4 / 65534 / 2 + 1e-7
    np.testing.assert_allclose(found.values, (1 / depth[..., 0]).clip(0.1, 0.5), atol=half_step)
    found = read(output / nodes.AetherSaveDepth(**settings, format="exr").args[0])
    np.testing.assert_array_equal(found.values, 1 / depth[..., 0])


def test_folders_are_numbered(nodes, decoded, output):
    save = {"depth": decoded[1][:1], "filename_prefix": "shots/a/z"}
    names = [nodes.AetherSaveDepth(**save, format=name).args[0] for name in ("exr", "png16", "exr")]
    assert names == ["shots/a/z_00001_exr", "shots/a/z_00002_png16", "shots/a/z_00003_exr"]
    assert len(list((output / names[0]).iterdir())) == 2  # one frame, and depth.json


@pytest.mark.parametrize(
    "prefix",
    [
        "", "/", "a/", "..", "../a", "a/../../b", "/tmp/a", "a\nb", "a\0b", "con", "a/NUL.txt/b", "lpt1.exr",
        "C:/a", "a<b", 'a"b', "a?", "a ./b", "a. /b",
    ],
)  # fmt: skip
def test_names_that_are_refused(nodes, decoded, output, prefix):
    with pytest.raises(ValueError, match=r"^filename_prefix: "):
        nodes.AetherSaveDepth(depth=decoded[1], filename_prefix=prefix)
    assert not list(output.parent.rglob("*depth*")) and not list(output.iterdir())


@pytest.mark.parametrize("prefix", ["a", "./a", "b/../a", "console", "a.b", "com", "a b/c d", "%year%/a"])
def test_names_that_are_taken(nodes, decoded, output, prefix):
    folder = output / nodes.AetherSaveDepth(depth=decoded[1][:1], filename_prefix=prefix).args[0]
    assert (folder / "depth_00001.exr").is_file()


def test_the_pictures_size_in_names(nodes, decoded, output):
    depth = torch.nn.functional.pad(decoded[1][:1], (0, 1), value=1)  # alpha is no color
    name = nodes.AetherSaveDepth(depth=depth, filename_prefix="%width%x%height%/z").args[0]
    assert name == f"{depth.shape[2]}x{depth.shape[1]}/z_00001_exr"


def test_what_save_depth_refuses(nodes, decoded, output):
    picture, depth, _, edges, _, _ = decoded
    for message, given in {
        r"^depth: is a picture in color": {"depth": torch.rand(2, 4, 4, 3)},
        r"^depth of frame 0: is 0 or negative": {"depth": picture},
        r"^depth of frame 0: holds NaN": {"depth": torch.full((2, 4, 4, 3), float("nan"))},
        r"^mask: covers every pixel": {"depth": depth, "mask": torch.ones_like(edges)},
        r"^mask: has shape": {"depth": depth, "mask": torch.zeros(1, 64, 64)},
        r"^mask: has 3 frames, the depth 17": {"depth": depth, "mask": edges[:3]},
        r"^fps: nan must be": {"depth": depth, "fps": float("nan")},
        r"^far: the range from 9 to 3 is empty": {"depth": depth, "format": "png16", "near": 9.0, "far": 3.0},
        r"^far: the range from 2 to 2 is empty": {"depth": torch.full((1, 4, 4, 3), 2.0), "format": "png16"},
    }.items():
        with pytest.raises(ValueError, match=message):
            nodes.AetherSaveDepth(**given)
    assert not list(output.rglob("*.exr")) and not list(output.rglob("*.part"))


def test_an_output_folder_that_cannot_be_written_to(nodes, decoded, output):
    (output / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        nodes.AetherSaveDepth(depth=decoded[1], filename_prefix="taken/depth")


def test_cancel_leaves_nothing(nodes, decoded, output, monkeypatch):
    """ComfyUI's Cancel arrives with the progress."""
    import comfy.model_management
    import comfy.utils

    def cancelled(*args: Any, **more: Any) -> None:
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        nodes.AetherSaveDepth(depth=decoded[1])
    assert not list((output / "aether").iterdir())
