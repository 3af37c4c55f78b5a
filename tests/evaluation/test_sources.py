"""Reading what is scored: .npz files, run folders, Sintel, pairs of frames."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aether.errors import InputError
from aether.formats.export import write_run
from aether.geometry.cameras import cameras_from_fov
from aether.geometry.raymap import from_cameras
from evaluation.frame_pairs import kept_ends, open_pairs
from evaluation.sintel import is_sintel, open_sintel, read_cam, read_dpt
from evaluation.sources import ArrayFile, RunFolder, SyntheticScene, match, open_predictions


def refused(field, call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert caught.value.field == field
    return str(caught.value)


def test_npz_parts(tmp_path):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (3, 4, 6)).astype(np.float32)
    rgb = rng.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", depth=depth, rgb=rgb, fps=24)
    source = ArrayFile(tmp_path / "a.npz")
    assert (source.size(), source.fps(), source.crops) == ((3, 4, 6), 24, False)
    assert np.array_equal(source.depth(), depth)
    # Without a disparity there is nothing to invert and cut off.
    assert np.array_equal(source.depth(far=2), depth)
    streams = source.streams()
    assert streams.rgb == pytest.approx(rgb / 255, abs=1e-6)
    assert streams.disparity is None and streams.raymap is None
    refused("poses", source.poses)


def test_depth_from_disparity(tmp_path):
    disparity = np.array([[[2.0, 0.5, 0.001, 0]]])
    np.savez(tmp_path / "a.npz", disparity=disparity, depth=np.full((1, 1, 4), 7.0))
    np.savez(tmp_path / "b.npz", disparity=disparity)
    both, alone = ArrayFile(tmp_path / "a.npz"), ArrayFile(tmp_path / "b.npz")
    assert both.depth().tolist() == [[[7, 7, 7, 7]]]
    assert both.depth(far=100).tolist() == alone.depth(far=100).tolist() == [[[0.5, 2, 100, 100]]]
    assert alone.depth().tolist() == [[[0.5, 2, 1000, np.inf]]]


@pytest.mark.parametrize(
    "field, arrays",
    [
        ("depth", {"other": np.zeros(3)}),
        ("depth", {"depth": np.zeros((4, 6))}),
        ("depth", {"depth": np.zeros((0, 4, 6))}),
        ("depth", {"depth": np.zeros((2, 4, 6), dtype=complex)}),
        ("disparity", {"disparity": np.zeros((4, 6))}),
        ("predictions", {"depth": np.array([None, 1], dtype=object)}),
    ],
)
def test_bad_npz_are_refused(tmp_path, field, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    assert "a.npz" in refused(field, ArrayFile(tmp_path / "a.npz").depth)


def test_damaged_npz_are_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", depth=np.zeros((9, 40, 60)))
    content = (tmp_path / "whole.npz").read_bytes()
    for name, part in {"cut": content[: len(content) // 2], "html": b"<html>", "empty": b""}.items():
        (tmp_path / f"{name}.npz").write_bytes(part)
        refused("truth", ArrayFile(tmp_path / f"{name}.npz", "truth").depth)


@pytest.fixture
def run_folder(tmp_path):
    frames, height, width = 17, 40, 56
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, frames)
    cameras = cameras_from_fov(poses, 1.2, 1.0, height, width)
    rgb = np.broadcast_to(np.linspace(0, 1, width)[:, None], (frames, height, width, 3)).astype(np.float32)
    disparity = np.linspace(0.001, 1.2, rgb[..., 0].size).reshape(rgb.shape[:3]).astype(np.float32)
    raymap = from_cameras(cameras.poses, cameras.intrinsics, height, width)
    decoded = SimpleNamespace(rgb=rgb, disparity=disparity, raymap=raymap)
    write_run(tmp_path / "run", decoded, cameras, 12)
    return SimpleNamespace(path=tmp_path / "run", decoded=decoded, cameras=cameras)


def test_run_folder(run_folder):
    source = RunFolder(run_folder.path)
    decoded = run_folder.decoded
    assert (source.size(), source.fps(), source.crops) == ((17, 40, 56), 12, True)
    # As it is written, from 1 to 1000; by the reference's protocol, from the disparity and up to 100.
    assert (source.depth().min(), source.depth().max()) == pytest.approx((1, 1000), rel=1e-4)
    assert source.depth(far=100).max() == 100
    assert source.depth(far=100).min() == pytest.approx(1 / 1.2)
    assert source.poses() == pytest.approx(run_folder.cameras.poses)
    streams = source.streams()
    assert np.abs(streams.rgb - decoded.rgb).mean() < 0.01
    assert np.array_equal(streams.disparity, decoded.disparity)
    assert streams.raymap == pytest.approx(decoded.raymap, abs=1e-6)


def test_bad_run_folders_are_refused(run_folder):
    cameras = run_folder.path / "cameras.json"
    for content in ("{", "[]", '{"frames": [{"pose": 1}]}'):
        cameras.write_text(content)
        refused("cameras", RunFolder(run_folder.path).poses)
    cameras.write_text('{"frames": [], "width": 3, "height": 3}')
    refused("poses", RunFolder(run_folder.path).poses)
    cameras.unlink()
    refused("predictions", RunFolder(run_folder.path).poses)


def test_what_counts_as_predictions(run_folder, tmp_path):
    np.savez(tmp_path / "b.npz", depth=np.ones((2, 3, 4)))
    assert list(open_predictions(tmp_path)) == ["b", "run"]
    assert list(open_predictions(run_folder.path)) == ["run"]
    assert list(open_predictions(tmp_path / "b.npz")) == ["b"]
    refused("predictions", open_predictions, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "neither" in refused("plain", open_predictions, tmp_path / "empty", "plain")
    refused("predictions", open_predictions, run_folder.path / "rgb.mp4")
    np.savez(tmp_path / "run.npz", depth=np.ones((2, 3, 4)))
    assert "both" in refused("predictions", open_predictions, tmp_path)


def test_matching():
    predictions, truths = {"a": 1, "b": 2}, {"a": 3, "b": 4, "c": 5}
    assert [(m.name, m.prediction, m.truth) for m in match(predictions, truths, sequences=["b"])] == [
        ("b", 2, 4)
    ]
    assert "c" in refused("predictions", match, predictions, truths)
    with pytest.raises(InputError, match="truth: no truth for d; has a, b, c"):
        match(predictions, truths, sequences=["d"])
    assert [m.truth for m in match(predictions, {"other": 6}, one_truth=True)] == [6, 6]


def test_synthetic_truth():
    truth = SyntheticScene(3, (5, 32, 48), 12)
    depth = truth.depth()
    assert depth.shape == (5, 32, 48) and np.isnan(depth).any() and np.nanmin(depth) > 0
    assert truth.poses()[0] == pytest.approx(np.eye(4))


def test_sintel(sintel):
    assert is_sintel(sintel.root) and is_sintel(sintel.root / "training")
    assert not is_sintel(sintel.root / "training" / "final")
    sequences = open_sintel(sintel.root)
    assert list(sequences) == ["alley_2", "temple_3"]
    for name, sequence in sequences.items():
        assert np.array_equal(sequence.depth(), sintel.depth[name])
        assert sequence.poses() == pytest.approx(sintel.poses[name])
    refused("truth", open_sintel, sintel.root / "training" / "final")


def test_damaged_sintel_files_are_refused(sintel, tmp_path):
    training = sintel.root / "training"
    for reader, name in (
        (read_dpt, "depth/alley_2/frame_0001.dpt"),
        (read_cam, "camdata_left/alley_2/frame_0001.cam"),
    ):
        whole = (training / name).read_bytes()
        for part in (b"", whole[:3], whole[:9], whole[:-4], whole + b"more", b"HEIP" + whole[4:]):
            (tmp_path / "part").write_bytes(part)
            assert "part" in refused("truth", reader, tmp_path / "part")
    (tmp_path / "part").write_bytes(whole[:76] + bytes(96))
    refused("poses", read_cam, tmp_path / "part")


def picture(path, level, size=(30, 20)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


def test_pairs_in_both_layouts(tmp_path):
    picture(tmp_path / "room_1_first.png", 0)
    picture(tmp_path / "room_1_last.jpg", 0)
    picture(tmp_path / "hall" / "first.png", 100)
    picture(tmp_path / "hall" / "last.png", 200, size=(60, 41))
    (tmp_path / "notes.txt").write_text("first")
    picture(tmp_path / "room_1_middle.png", 0)
    pairs = open_pairs(tmp_path)
    assert list(pairs) == ["hall", "room_1"]
    assert pairs["room_1"].last.name == "room_1_last.jpg"
    frames = np.stack([np.full((20, 30, 3), level, np.uint8) for level in (100, 7, 226)])
    kept = kept_ends(frames, pairs["hall"])
    # The first is the same up to float32; the last is off by 26 of 255.
    assert kept["first_psnr"] > 120
    assert kept["last_psnr"] == pytest.approx(20 * np.log10(255 / 26), abs=1e-3)
    refused("videos", kept_ends, frames[:1], pairs["hall"])


def test_bad_pairs_are_refused(tmp_path):
    refused("pairs", open_pairs, tmp_path / "nowhere")
    refused("pairs", open_pairs, tmp_path)
    picture(tmp_path / "a_first.png", 0)
    assert "no last frame of a" in refused("pairs", open_pairs, tmp_path)
    picture(tmp_path / "a_last.png", 0)
    picture(tmp_path / "a" / "last.png", 0)
    assert "twice" in refused("pairs", open_pairs, tmp_path)
