"""Long clips, read window by window."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from aether.clips import sources as clip_sources
from aether.clips.clip import read_clip
from aether.clips.pictures import fit_frames
from aether.errors import InputError
from aether.formats.export import write_video
from aether.long.reader import array_clip, open_clip

SIZE = (32, 48)


def greys(count, height=32, width=48):
    """Frame n is of grey 4 n, so that a decoded frame tells its number (modulo 64)."""
    grey = (4 * (np.arange(count) % 64)).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, height, width, 3))


def numbers(frames):
    return (frames.mean(axis=(1, 2, 3)) * 255 / 4).round().astype(int).tolist()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "sixty.mp4"
    write_video(path, greys(60), 12)
    return path


def test_every_frame_is_in_its_windows(video):
    clip = open_clip(video, size=SIZE, max_length=17)
    assert (len(clip), clip.fps, clip.length) == (60, 12, 17)
    assert clip.starts == (0, 10, 20, 30, 40, 43)
    windows = dict(clip.windows())
    assert {w: numbers(f) for w, f in windows.items()} == {
        w: list(range(s, s + 17)) for w, s in enumerate(clip.starts)
    }
    assert windows[0].dtype == np.float32 and windows[0].shape == (17, *SIZE, 3)


def test_the_first_window_is_what_a_plain_run_reads(video):
    clip = open_clip(video, size=(24, 40))
    assert clip.length == 41
    plain = read_clip(video, size=(24, 40))
    assert np.array_equal(dict(clip.windows())[0], plain.frames)
    assert clip.fps == plain.fps
    assert set(clip.notes) <= set(plain.notes) and not any("left out" in note for note in clip.notes)


@pytest.mark.parametrize("rate, fps, step", [(30, None, 2), (60, 12, 5), (25, None, 1)])
def test_rates_as_for_short_clips(tmp_path, rate, fps, step):
    write_video(tmp_path / "clip.mp4", greys(60 * step if step < 5 else 200), rate)
    clip = open_clip(tmp_path / "clip.mp4", fps, size=SIZE, length=17)
    plain = read_clip(tmp_path / "clip.mp4", fps, frames=17, size=SIZE)
    assert np.array_equal(next(clip.windows())[1], plain.frames)
    assert (clip.fps, clip.indices[:17]) == (plain.fps, tuple(range(0, 17 * step, step)))


def test_uneven_rates_take_the_nearest_frame_in_time(tmp_path):
    write_video(tmp_path / "clip.mp4", greys(60), 24)
    clip = open_clip(tmp_path / "clip.mp4", 10, size=SIZE)
    wanted = [round(i * 2.4 - 1e-9) for i in range(len(clip))]
    assert len(clip) == 25 and np.abs(np.subtract(clip.indices, wanted)).max() <= 1
    assert any("nearest in time" in note for note in clip.notes)


def test_finished_windows_are_not_read_again(video, monkeypatch):
    converted = []
    real = clip_sources.frame_picture
    monkeypatch.setattr(clip_sources, "frame_picture", lambda *a: converted.append(1) or real(*a))
    clip = open_clip(video, size=SIZE, max_length=17)
    every = dict(clip.windows())
    converted.clear()
    rest = dict(clip.windows(skip={0, 1, 3, 4}))
    assert rest.keys() == {2, 5} and all(np.array_equal(rest[w], every[w]) for w in rest)
    assert len(converted) == 17 + 17
    assert dict(clip.windows(skip=set(range(6)))) == {}


def test_a_folder(tmp_path):
    for number, picture in enumerate(greys(20)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    clip = open_clip(tmp_path, size=SIZE, length=17)
    assert clip.starts == (0, 3) and "no frame rate" in clip.notes[0]
    assert numbers(dict(clip.windows())[1]) == list(range(3, 20))
    assert len(clip.identity()["files"]) == 20


def test_pictures_in_memory():
    frames = np.random.default_rng(0).random((20, 20, 30, 3), np.float32)
    clip = array_clip(frames, size=SIZE, length=17)
    assert (clip.fps, clip.starts, clip.source.label) == (12, (0, 3), "pictures in memory")
    assert np.array_equal(dict(clip.windows())[1], fit_frames(frames[3:], *SIZE))
    assert np.array_equal(dict(clip.windows())[0], fit_frames(frames[:17], *SIZE))
    bytes_ = array_clip(greys(20), 24.0, 12, size=SIZE, length=17)
    assert bytes_.indices == (*range(0, 20, 2), *[18] * 7) and numbers(dict(bytes_.windows())[0])[:3] == [
        0,
        2,
        4,
    ]
    assert clip.identity() == array_clip(frames.copy(), size=SIZE, length=17).identity()
    assert clip.identity() != array_clip(frames[::-1], size=SIZE, length=17).identity()


def test_tiles_keep_the_whole_picture(tmp_path):
    write_video(tmp_path / "wide.mp4", greys(20, 60, 150), 12)
    clip = open_clip(tmp_path / "wide.mp4", size=SIZE, tiled=True, length=17)
    assert clip.size == (32, 80) and clip.model_size == SIZE and clip.tiles.starts == (0, 32)
    assert dict(clip.windows())[0].shape == (17, 32, 80, 3)
    plain = open_clip(tmp_path / "wide.mp4", size=SIZE, length=17)
    assert plain.tiles is None and plain.size == plain.model_size == SIZE
    assert clip.identity() != plain.identity()


@pytest.mark.parametrize(
    "field, frames, options",
    [
        ("video", greys(1), {}),
        ("video", greys(20)[..., 0], {}),
        ("video", greys(20) * 1.0, {}),
        ("fps", greys(20), {"fps": 13}),
        ("source_fps", greys(20), {"source_fps": float("nan")}),
        ("source_fps", greys(20), {"source_fps": -1.0}),
        ("width", greys(20), {"size": (32, 0)}),
    ],
)
def test_bad_pictures_in_memory(field, frames, options):
    with pytest.raises(InputError) as error:
        array_clip(frames, **{"size": SIZE, **options})
    assert error.value.field == field


def test_a_short_clip_is_one_window_with_its_last_frame_repeated(tmp_path):
    write_video(tmp_path / "clip.mp4", greys(9), 12)
    clip = open_clip(tmp_path / "clip.mp4", size=SIZE)
    assert clip.starts == (0,) and numbers(dict(clip.windows())[0]) == [*range(9), *[8] * 8]
    assert "only the first 9 are real" in clip.notes[-1]


def test_a_changed_file_is_another_clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, greys(20), 12)
    first = open_clip(path, size=SIZE).identity()
    assert open_clip(path, size=SIZE).identity() == first
    assert open_clip(path, size=(16, 16)).identity() != first
    write_video(path, greys(20)[::-1], 12)
    assert open_clip(path, size=SIZE).identity() != first


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path):
    """2 and 10 seconds of 640x360, about 0.7 MB a frame, read at 32x48."""
    peaks = []
    for frames in (48, 240):
        path = tmp_path / f"{frames}.mp4"
        write_video(path, greys(frames, 360, 640), 24)
        tracemalloc.start()
        for _ in open_clip(path, size=SIZE, length=17).windows():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 500_000 < 20e6


def without(keys, real):
    """A decoder that skips some frames, by number."""

    def decode(*given):
        return (frame for n, frame in enumerate(real(*given)) if n not in keys)

    return decode


def test_a_few_frames_that_do_not_decode_are_stood_in_for(video, monkeypatch):
    monkeypatch.setattr(clip_sources, "decode_video", without({0, 5, 6, 58, 59}, clip_sources.decode_video))
    clip = open_clip(video, size=SIZE, max_length=17)
    windows = dict(clip.windows())
    assert clip.notes[0].startswith("the file's first frames (1) cannot be decoded") and len(clip) == 59
    assert numbers(windows[0])[:8] == [1, 2, 3, 4, 4, 4, 7, 8]
    assert numbers(windows[5])[-3:] == [57, 57, 57]
    assert [clip.stand_ins(w) for w in range(6)] == [2, 0, 0, 0, 0, 2]


def test_frames_out_of_order_in_the_file(tmp_path):
    write_video(tmp_path / "clip.avi", greys(60), 12)  # H.264 with B-frames, of which AVI has no times
    clip = open_clip(tmp_path / "clip.avi", size=SIZE, max_length=17)
    windows = dict(clip.windows())
    assert {w: numbers(f) for w, f in windows.items()} == {
        w: list(range(s, s + 17)) for w, s in enumerate(clip.starts)
    }
    assert not any(map(clip.stand_ins, windows))


def test_a_hole_in_the_file_is_refused(video, monkeypatch):
    monkeypatch.setattr(clip_sources, "decode_video", without(range(30, 60), clip_sources.decode_video))
    clip = open_clip(video, size=SIZE, max_length=17)
    with pytest.raises(InputError, match=r"damaged: .* at 2\.8 s") as error:
        dict(clip.windows())
    assert error.value.field == "video"


@pytest.mark.parametrize(
    "field, options",
    [
        ("stride", {"stride": 41}),
        ("stride", {"stride": 17, "length": 17}),
        ("stride", {"stride": 0}),
        ("frames", {"length": 18}),
        ("fps", {"fps": 13}),
        ("height", {"size": (0, 48)}),
    ],
)
def test_bad_values(field, options, video):
    with pytest.raises(InputError) as error:
        open_clip(video, **{"size": SIZE, **options})
    assert error.value.field == field


def test_files_that_are_no_clips(tmp_path):
    write_video(tmp_path / "one.mp4", greys(1), 12)
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    for name in ("one.mp4", "text.mp4", "empty", "missing.mp4"):
        with pytest.raises(InputError) as error:
            open_clip(tmp_path / name, size=SIZE)
        assert error.value.field == "video"
