"""Depth as picture sequences: written, read back, read by other libraries, and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aether.cli.commands import main
from aether.errors import InputError
from aether.formats.depth_files import FORMATS, read_depth, write_depth
from aether.geometry.depth import depth_edges
from aether.miniature import random_scene, render

av = pytest.importorskip("av")
BOTH = pytest.mark.parametrize("format", FORMATS)


@pytest.fixture(scope="module")
def clip():
    """A rendered clip; its sky is as far as Aether can tell."""
    return render(random_scene(3), 5, 33, 51, 12)


@pytest.fixture(scope="module")
def depth(clip) -> np.ndarray:
    return np.where(clip.sky, 1000, clip.depth).astype(np.float32)


def half_step(about: dict) -> float:
    low, high = about["range"]
    return (high - low) / 65534 / 2 + high * np.finfo(np.float32).eps


@pytest.mark.parametrize("quantity", ["depth", "disparity"])
def test_exr_is_exact(tmp_path, clip, depth, quantity):
    found = read_depth(write_depth(tmp_path / "x", depth, 12, quantity=quantity, mask=clip.sky))
    values = depth if quantity == "depth" else 1 / depth
    np.testing.assert_array_equal(found.values, np.where(clip.sky, 0, values))
    np.testing.assert_array_equal(np.isnan(found.depth), clip.sky)
    np.testing.assert_allclose(found.depth[~clip.sky], depth[~clip.sky], rtol=2e-7)
    there = values[~clip.sky]
    assert found.about["range"] == pytest.approx([there.min(), there.max()])
    assert (found.quantity, found.fps) == (quantity, 12)


@pytest.mark.parametrize("quantity", ["depth", "disparity"])
@pytest.mark.parametrize("limits", [{}, {"near": 0.5, "far": 2000}])
def test_png16_is_within_half_a_step_of_its_range(tmp_path, clip, depth, quantity, limits):
    edges = depth_edges(depth)
    assert 0.01 < edges.mean() < 0.5
    folder = write_depth(tmp_path / "x", depth, 24, format="png16", quantity=quantity, mask=edges, **limits)
    found = read_depth(folder)
    values = depth if quantity == "depth" else 1 / depth
    assert np.abs(found.values - values)[~edges].max() <= half_step(found.about)
    np.testing.assert_array_equal(found.values == 0, edges)
    assert found.about["no_depth"] == {"value": 0, "pixels": int(edges.sum())}
    near = limits.get("near", depth[~edges].min())
    assert found.about["range"][0 if quantity == "depth" else 1] == pytest.approx(
        near if quantity == "depth" else 1 / near
    )


def test_what_lies_beyond_a_given_range_is_at_its_ends(tmp_path, depth):
    found = read_depth(write_depth(tmp_path / "x", depth, 12, format="png16", near=4, far=10))
    np.testing.assert_allclose(found.values, depth.clip(4, 10), atol=half_step(found.about))
    assert (found.values == 10).any() and (found.values == 4).any()


@BOTH
def test_what_is_in_the_folder(tmp_path, depth, format):
    folder = write_depth(tmp_path / "x", depth, 23.976, format=format)
    ending = FORMATS[format].ending
    names = [*(f"depth_{number:05}{ending}" for number in range(1, 6)), "depth.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert list(tmp_path.iterdir()) == [folder]  # nothing temporary is left
    about = json.loads((folder / "depth.json").read_text())
    assert (about["frames"], about["width"], about["height"], about["fps"]) == (5, 51, 33, 23.976)
    assert "no metric scale" in about["scale"] and "viewing axis" in about["meaning"]
    assert about["files"] % about["first"] == names[0]


def test_exr_has_the_channels_that_nuke_and_blender_show(tmp_path, depth):
    """R, G and B by the reference library."""
    openexr = pytest.importorskip("OpenEXR")
    folder = write_depth(tmp_path / "x", depth, 12)
    for frame, picture in enumerate(depth, 1):
        with openexr.File(str(folder / f"depth_{frame:05}.exr"), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
            assert file.header()["compression"] == openexr.ZIP_COMPRESSION
        assert set(channels) == {"R", "G", "B"}
        for pixels in channels.values():
            assert pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, picture)


def test_png_is_grey_with_16_bits(tmp_path, depth):
    folder = write_depth(tmp_path / "x", depth, 12, format="png16", mask=depth[:1] > 999)
    levels = np.empty(depth.shape, dtype=int)
    for path, target in zip(sorted(folder.glob("*.png")), levels, strict=True):
        with Image.open(path) as picture:
            assert picture.mode == "I;16" and picture.size == (51, 33)
            target[:] = np.asarray(picture)
    np.testing.assert_array_equal(levels == 0, np.broadcast_to(depth[:1] > 999, depth.shape))
    assert (levels[levels > 0].min(), levels.max()) == (1, 65535)


@BOTH
@pytest.mark.parametrize("shape", [(1, 33, 51), (2, 1, 1), (3, 17, 1)])
def test_one_frame_and_small_pictures(tmp_path, format, shape):
    depth = np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)
    found = read_depth(write_depth(tmp_path / "x", depth, 12, format=format))
    np.testing.assert_allclose(found.values, depth, atol=half_step(found.about))


def test_a_mask_of_one_frame_is_for_all_and_what_it_covers_may_be_anything(tmp_path, depth):
    broken = depth.copy()
    broken[:, 0], broken[:, 1] = np.nan, -3
    mask = np.zeros((1, 33, 51), dtype=np.float32)
    mask[:, :2] = 1
    found = read_depth(write_depth(tmp_path / "x", broken, 12, mask=mask))
    np.testing.assert_array_equal(found.values[:, 2:], depth[:, 2:])
    assert (found.values[:, :2] == 0).all()
    assert np.isnan(broken[:, 0]).all()  # the input is as it was


def test_an_empty_mask_masks_nothing(tmp_path, depth):
    found = read_depth(write_depth(tmp_path / "x", depth, 12, mask=np.zeros_like(depth)))
    np.testing.assert_array_equal(found.values, depth)


BAD = {
    "no frames": ({"depth": []}, r"^depth: holds no frames"),
    "channels": ({"depth": np.ones((2, 4, 4, 3))}, r"^depth: has pictures of shape \(4, 4, 3\)"),
    "sizes": ({"depth": [np.ones((4, 4)), np.ones((4, 5))]}, r"^depth of frame 1: has shape \(4, 5\)"),
    "NaN": ({"depth": np.full((2, 4, 4), np.nan)}, r"^depth of frame 0: holds NaN"),
    "infinite": ({"depth": np.full((2, 4, 4), np.inf)}, r"^depth of frame 0: holds NaN or infinite"),
    "zero": ({"depth": np.zeros((2, 4, 4))}, r"^depth of frame 0: is 0 or negative"),
    "format": ({"format": "tiff"}, r"^format: 'tiff' is not one of exr, png16"),
    "quantity": ({"quantity": "z"}, r"^quantity: 'z' is not one of depth, disparity"),
    "rate": ({"fps": float("nan")}, r"^fps: nan must be a positive number"),
    "mask size": ({"mask": np.zeros((2, 5, 4))}, r"^mask: has shape \(2, 5, 4\)"),
    "mask length": ({"mask": np.zeros((3, 4, 4))}, r"^mask: has 3 frames, the depth 2"),
    "mask NaN": ({"mask": np.full((2, 4, 4), np.nan)}, r"^mask: holds NaN"),
    "mask all": ({"mask": np.ones((1, 4, 4))}, r"^mask: covers every pixel"),
    "near for exr": ({"near": 1}, r"^near: is for png16"),
    "far for exr": ({"far": 1}, r"^far: is for png16"),
    "flat": ({"format": "png16"}, r"^far: the range from 2 to 2 is empty; .* or take exr"),
    "no range": ({"format": "png16", "near": 3, "far": 3}, r"^far: the range from 3 to 3 is empty"),
    "reversed": ({"format": "png16", "near": 5, "far": 3}, r"^far: the range from 5 to 3 is empty"),
    "negative": ({"format": "png16", "near": -1}, r"^near: -1 must be a positive number"),
    "range NaN": ({"format": "png16", "far": float("nan")}, r"^far: nan must be a positive number"),
}


@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_what_cannot_be_written_leaves_nothing(tmp_path, change, message):
    settings = {"depth": np.full((2, 4, 4), 2.0), "fps": 12} | change
    with pytest.raises(InputError, match=message):
        write_depth(tmp_path / "new" / "x", **settings)
    assert not list(tmp_path.iterdir())


@BOTH
def test_whole_or_not_at_all(tmp_path, depth, format):
    """Stopped after two frames, or by a picture that turns out bad on the second reading."""

    def stop(done: int, frames: int) -> None:
        assert frames == 5
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_depth(tmp_path / "new" / "x", depth, 12, format=format, callback=stop)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_or_cannot_be(tmp_path, depth):
    write_depth(tmp_path / "x", depth, 12)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"^folder: x exists"):
        write_depth(tmp_path / "x", depth, 12)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_depth(tmp_path / "file" / "x", depth, 12)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def damage(folder: Path, how: str) -> None:
    about = folder / "depth.json"
    (first, *_) = sorted(folder.glob("depth_*"))
    if how == "no json":
        about.unlink()
    elif how == "half a json":
        about.write_text(about.read_text()[:100])
    elif how == "another json":
        about.write_text("[1]")
    elif how == "a frame is missing":
        first.unlink()
    elif how == "a frame is cut":
        first.write_bytes(first.read_bytes()[:60])
    elif how == "a frame is empty":
        first.write_bytes(b"")
    elif how == "another size":
        about.write_text(about.read_text().replace('"width": 51', '"width": 50'))
    elif how == "another format":
        first.write_bytes(b"<html>not a picture</html>")


@BOTH
@pytest.mark.parametrize(
    "how",
    [
        "no json", "half a json", "another json", "a frame is missing", "a frame is cut", "a frame is empty",
        "another size", "another format",
    ],
)  # fmt: skip
def test_damaged_folders_are_refused(tmp_path, depth, format, how):
    folder = write_depth(tmp_path / "x", depth, 12, format=format)
    damage(folder, how)
    with pytest.raises(InputError, match=r"^folder: .*(depth\.json|depth_00001)"):
        read_depth(folder)


def test_an_8_bit_png_is_refused(tmp_path, depth):
    folder = write_depth(tmp_path / "x", depth, 12, format="png16")
    Image.new("L", (51, 33)).save(folder / "depth_00001.png")
    with pytest.raises(InputError, match="not 51 x 33, grey with 16 bits"):
        read_depth(folder)


@BOTH
@pytest.mark.slow
def test_a_run_of_the_command_line_writes_them_too(tmp_path, format):
    out = tmp_path / "out"
    arguments = ["reconstruct", "synthetic:3", "--size", "32x48", "--steps", "1", "--hero", "off", "--quiet"]
    assert main([*arguments, "--device", "cpu", "--depth-format", format, "--out", str(out)]) == 0
    arrays, found = np.load(out / "depth.npz"), read_depth(out / "depth")
    assert found.quantity == {"exr": "depth", "png16": "disparity"}[format]
    values = arrays["depth"] if format == "exr" else 1 / arrays["depth"]
    np.testing.assert_allclose(found.values, values, atol=0 if format == "exr" else half_step(found.about))
    assert found.fps == json.loads((out / "cameras.json").read_text())["fps"]
