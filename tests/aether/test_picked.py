"""A part of a source: from a frame on, one of every few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aether.clips.clip import read_clip
from aether.clips.picked import Picked, plan_picked
from aether.errors import InputError

from .videos import encode, numbers, pictures


def test_a_video_begins_at_a_frame_and_only_every_nth_counts(tmp_path: Path):
    path = encode(tmp_path / "clip.mp4", pictures(60), rate=24)
    late = read_clip(path, 24, frames=17, picked=Picked(start=20))
    assert numbers(late.frames) == [*range(20, 37)] and late.fps == 24
    assert "begins at frame 20 of the video" in late.notes
    assert any("1.0 s" in note for note in late.notes)  # 23 frames after them
    thin = read_clip(path, frames=17, picked=Picked(start=3, every=2))
    assert numbers(thin.frames) == [*range(3, 37, 2)] and thin.fps == 12
    assert "1 of 2 frames of the video counts" in thin.notes


def test_a_rate_for_every_nth_is_what_they_count_as():
    times = np.arange(60) / 24
    assert plan_picked(times, Picked(every=3), 24, frames=17).indices == [*range(0, 51, 3)]


def test_a_folder_too(tmp_path: Path):
    from PIL import Image

    for number, picture in enumerate(pictures(40)):
        Image.fromarray(picture).save(tmp_path / f"{number:03}.png")
    clip = read_clip(tmp_path, frames=17, picked=Picked(5, 2))
    assert numbers(clip.frames) == [*range(5, 39, 2)]


@pytest.mark.parametrize(
    ("picked", "field"),
    [({"start": 60}, "start_frame"), ({"start": 59}, "start_frame"), ({"every": 60}, "every_nth")],
)
def test_what_leaves_no_clip_is_refused(picked: dict[str, int], field: str):
    with pytest.raises(InputError, match=f"{field}: .* leaves [01] of the video's 60 frames"):
        plan_picked(np.arange(60) / 24, Picked(**picked), None)


@pytest.mark.parametrize(("picked", "field"), [({"start": -1}, "start_frame"), ({"every": 0}, "every_nth")])
def test_numbers_out_of_range(picked: dict[str, int], field: str):
    with pytest.raises(InputError, match=field):
        Picked(**picked)
