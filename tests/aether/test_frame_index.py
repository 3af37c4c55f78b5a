"""Places and times of frames whose time stamps are right, wrong or missing."""

import numpy as np
import pytest

from aether.clips.clip import read_clip
from aether.clips.frame_index import Stamp, StampReader, frame_index, in_place
from aether.long.reader import open_clip
from tests.aether.videos import encode, joined, numbers, pictures, restamped

B_FRAMES = {"bf": "3", "b_strategy": "0", "g": "12"}
SIZE = (32, 48)


def index(pts, dts=None, keys=(0,), reorders=False, tick=1.0, rate=1.0):
    reader = StampReader(tick, reorders)
    for number, stamp in enumerate(pts):
        reader.add(Stamp(stamp, stamp if dts is None else dts[number], number in keys))
    return frame_index(reader, rate)


def shown(found, decoded):
    """{packet: place} where the decoder gives frames in this order."""
    return {packet: place for place, packet in in_place(((n, n) for n in decoded), found)}


def long(path):
    """The frames' numbers as the windows give them, and the notes."""
    clip, found = open_clip(path, size=SIZE, length=17), {}
    for window, frames in clip.windows():
        found |= dict(enumerate(numbers(frames), clip.starts[window]))
    return [found[frame] for frame in sorted(found)], clip.notes


def test_stamps_of_showing_place_frames_even_where_some_are_lost():
    found = index([0, 3, 1, 2, 6, 4, 5], dts=[-1, 0, 1, 2, 3, 4, 5], reorders=True)
    assert found.times == [0, 1, 2, 3, 4, 5, 6] and found.notes == []
    assert shown(found, [0, 2, 3, 1, 5, 6, 4]) == {0: 0, 2: 1, 3: 2, 1: 3, 5: 4, 6: 5, 4: 6}
    assert shown(found, [0, 3, 1, 6, 4]) == {0: 0, 3: 2, 1: 3, 6: 5, 4: 6}


def test_stamps_of_decoding_are_counted():
    found = index(range(7), reorders=True)
    assert shown(found, [0, 2, 3, 1, 5, 6, 4]) == {0: 0, 2: 1, 3: 2, 1: 3, 5: 4, 6: 5, 4: 6}


def test_a_lost_frame_leaves_its_place_empty_where_frames_are_counted():
    found = index(range(40), reorders=True)
    assert shown(found, [n for n in range(40) if n not in (8, 9, 39)]) == {
        n: n for n in range(39) if n not in (8, 9)
    }


def test_frames_after_the_beginning_that_was_indexed_go_on():
    found = index(range(5), reorders=True)
    assert shown(found, range(8)) == {n: n for n in range(8)}
    assert shown(index(range(5)), range(8)) == {**{n: n for n in range(5)}, 5: 5, 6: 5, 7: 5}


@pytest.mark.parametrize("reorders", [False, True])
def test_stamps_that_begin_again(reorders):
    keys = (0, 20, 40)
    found = index([*range(20), *range(20), *range(5, 15)], keys=keys, reorders=reorders)
    assert found.times == list(range(50))
    assert found.notes == ["time stamps begin again at 20.0, 40.0 s: 3 parts are read one after the other"]
    assert shown(found, range(50)) == {n: n for n in range(50)}


def test_stamps_that_fall_a_little_are_put_in_order():
    found = index([0, 1, 2, 4, 3, 5, 6], dts=range(7))
    assert found.times == list(range(7)) and shown(found, range(7)) == {n: n for n in range(7)}


def test_stamps_that_repeat_are_spread():
    found = index([0, 0, 2, 2, 4, 4])
    assert found.times == [0, 1, 2, 3, 4, 5]
    assert found.notes == ["3 frames repeat a time stamp: spread evenly"]
    assert index([7] * 4, rate=2).times == [0, 0.5, 1, 1.5]


def test_stamps_that_are_missing():
    found = index([None] * 4, rate=2)
    assert found.times == [0, 0.5, 1, 1.5]
    assert found.notes == ["the file has no time stamps: taken as 2 frames a second"]
    found = index([0, None, 2, None, 4], dts=[None] * 5)
    assert found.times == [0, 1, 2, 3, 4]
    assert found.notes == ["2 frames have no time stamp: placed evenly"]


def test_jumps_are_taken_out_and_pauses_kept():
    found = index([0, 1, 2, 1000, 1001, 1007, 1008], tick=1.0)
    assert found.times == [0, 1, 2, 3, 4, 10, 11]
    assert found.notes == [
        "time stamps jump by 998.0 s at 2.0 s: taken out",
        "time stamps pause by 6.0 s at 4.0 s: kept",
    ]


def test_stamps_that_stand_still_are_reported():
    assert index([0, 10, 20, 22, 24, 30, 40, 50, 60, 70], tick=0.01).notes == []
    found = index([0, 100, 200, 201, 202, 300, 400, 500, 600], tick=0.001)
    assert found.notes == ["time stamps stand still for 2 frames, first at 0.2 s: few of them are used"]


def test_frames_before_the_first_key_frame_do_not_count():
    found = index(range(10), keys=(3,), reorders=True)
    assert len(found.times) == 7 and found.undecodable == 3
    assert shown(found, range(3, 10)) == {n: n - 3 for n in range(3, 10)}


def test_absurd_stamps_give_times_that_rise():
    found = index([0, 2**62, 5, -(2**62), 6, 7], tick=1e-6)
    assert len(found.times) == 6 and np.all(np.diff(found.times) > 0)


@pytest.mark.parametrize("name", ["dts.mkv", "dts.mp4", "dts.avi"])
def test_files_with_stamps_of_decoding_are_read_in_order(tmp_path, name):
    path = encode(tmp_path / name, pictures(50), options=B_FRAMES)  # AVI has no others
    if not name.endswith("avi"):
        step = 1 / 12
        path = restamped(path, tmp_path / f"re{name}", lambda number, base: round(number * step / base))
    assert numbers(read_clip(path).frames) == list(range(41))
    assert long(path)[0] == list(range(50))


@pytest.mark.parametrize(
    "ending, codec", [("ts", "libx264"), ("mpg", "mpeg2video"), ("mkv", "libx264"), ("webm", "libvpx")]
)
def test_joined_files_are_read_to_their_end(tmp_path, ending, codec):
    options = B_FRAMES if codec == "libx264" else None
    parts = [
        encode(tmp_path / f"{n}.{ending}", pictures(25, 25 * n), codec, rate=24, options=options)
        for n in range(2)
    ]
    path = joined(tmp_path / f"all.{ending}", *parts)
    clip = read_clip(path)
    assert np.abs(np.subtract(numbers(clip.frames), range(41))).max() <= 1 and clip.fps == 24
    found, notes = long(path)
    assert np.abs(np.subtract(found, range(50))).max() <= 1
    for given in (clip.notes, notes):
        assert given[0] == "time stamps begin again at 1.0 s: 2 parts are read one after the other"


def test_a_recording_that_was_cut_begins_at_its_first_key_frame(tmp_path):
    whole = encode(tmp_path / "whole.ts", pictures(60), rate=24, options=B_FRAMES)
    packets = whole.read_bytes()
    (tmp_path / "cut.ts").write_bytes(packets[len(packets) // 188 // 3 * 188 :])
    found, _ = long(tmp_path / "cut.ts")
    assert found[0] > 0 and found == list(range(found[0], 60))
    assert numbers(read_clip(tmp_path / "cut.ts").frames)[:17] == found[:17]


def test_raw_streams_have_no_stamps(tmp_path):
    path = encode(tmp_path / "a.h264", pictures(30), rate=24, options=B_FRAMES)
    found, notes = long(path)
    assert found == list(range(30)) and "has no time stamps" in notes[0]


def test_what_the_demuxer_does_not_find_is_reported(tmp_path):
    parts = [encode(tmp_path / f"{n}.flv", pictures(20, 20 * n), "flv1", rate=24) for n in range(2)]
    clip = read_clip(joined(tmp_path / "all.flv", *parts))
    assert clip.notes[0].startswith("the last 5") and "hold no frame that is found" in clip.notes[0]
    assert "no frame" not in " ".join(read_clip(parts[0]).notes)
