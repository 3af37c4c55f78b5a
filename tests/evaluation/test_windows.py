"""The sliding windows are those that the reference's code asks for (README.md here)."""

import json
from pathlib import Path

import pytest

from aether.errors import InputError
from evaluation.windows import POSE_STRIDE, covering_size, spatial_windows, temporal_windows

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["windows"]


@pytest.mark.parametrize("shape", GOLDEN)
def test_windows_are_the_references(shape):
    height, width, frames = map(int, shape.split("x"))
    windows = [
        [start, end, top, left]
        for start, end in temporal_windows(frames)
        for top, left in spatial_windows(height, width)
    ]
    assert windows == GOLDEN[shape]


def test_sintel():
    assert covering_size(436, 1024) == (480, 1127)
    assert covering_size(1000, 1000) == (720, 720)
    assert temporal_windows(50, stride=POSE_STRIDE) == [(0, 41), (9, 50)]
    assert temporal_windows(41) == [(0, 41)]


@pytest.mark.parametrize("frames", range(17, 130, 7))
@pytest.mark.parametrize("stride", [8, 24, 32])
def test_every_frame_is_in_a_window(frames, stride):
    windows = temporal_windows(frames, stride=min(stride, 17))
    assert {frame for start, end in windows for frame in range(start, end)} == set(range(frames))


def test_bad_sizes_are_refused():
    for call in (
        lambda: temporal_windows(16),
        lambda: temporal_windows(50, stride=0),
        lambda: temporal_windows(50, stride=42),
        lambda: spatial_windows(400, 720),
        lambda: spatial_windows(500, 800),
    ):
        with pytest.raises(InputError):
            call()
