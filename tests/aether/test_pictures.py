"""Animated pictures, folders of pictures, and what their numbers mean."""

import numpy as np
import pytest
from PIL import Image, features

from aether.clips.clip import read_clip, read_every_frame
from aether.clips.pictures import read_image
from aether.errors import InputError
from aether.long.reader import open_clip
from tests.aether.videos import corners, numbers, pictures

ANIMATED = ["gif", "png", "webp", *(["avif"] if features.check("avif") else [])]


def save(path, frames, **options):
    images = [Image.fromarray(frame) for frame in frames]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], **lossless, **options)
    return path


def plain(count, first=0):
    grey = (4 * np.arange(first, first + count)).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, 32, 48, 3)).copy()


def folder(path, names):
    """A folder of pictures: name to number."""
    path.mkdir(exist_ok=True)
    for name, number in names.items():
        Image.fromarray(plain(1, number)[0]).save(path / name)
    return path


@pytest.mark.parametrize("ending", ANIMATED)
def test_animations_are_clips_at_their_own_rate(tmp_path, ending):
    path = save(tmp_path / f"a.{ending}", plain(20), duration=100)
    clip = read_clip(path)
    assert numbers(clip.frames) == list(range(17)) and (clip.fps, clip.source_fps) == (10, pytest.approx(10))
    windows = dict(open_clip(path, size=(32, 48), length=17).windows())
    assert numbers(windows[1]) == list(range(3, 20))
    assert read_every_frame(path).shape == (20, 32, 48, 3)
    still = read_image(path)
    assert still.notes == [f"a.{ending} holds several pictures: the first is used"]


def test_frames_of_an_animation_have_times_of_their_own(tmp_path):
    path = save(tmp_path / "a.webp", plain(12), duration=[100] * 4 + [300] + [100] * 7)
    assert numbers(read_clip(path, 10, frames=17).frames)[:10] == [0, 1, 2, 3, 4, 4, 5, 5, 6, 7]


@pytest.mark.parametrize("shown, rate", [(0, 10), (10, 10), (20, 50)])
def test_frames_that_are_hardly_shown_count_as_in_browsers(tmp_path, shown, rate):
    assert read_clip(save(tmp_path / "a.gif", plain(30), duration=shown)).source_fps == pytest.approx(rate)


def test_the_picture_for_those_who_cannot_animate_is_no_frame(tmp_path):
    path = save(tmp_path / "a.png", plain(20), duration=100, default_image=True)
    assert numbers(read_clip(path).frames) == list(range(1, 18))


def test_transparent_animations(tmp_path):
    frames = np.concatenate([plain(20, 30), np.full((20, 32, 48, 1), 128, np.uint8)], axis=3)
    path = save(tmp_path / "a.webp", frames, duration=100)
    for notes in (read_clip(path).notes, open_clip(path, size=(32, 48)).notes):
        assert "transparent parts were put on black" in notes
    assert read_clip(path).frames[0].max() == pytest.approx(120 / 255 * 128 / 255, abs=0.01)


def test_a_damaged_animation_gives_the_frames_before(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    path = save(tmp_path / "a.png", noise, duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip(path)
    assert 5 < clip.real_frames < 12 and "the file is damaged: nothing after frame" in clip.notes[0]


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_all_orientations_of_still_pictures(tmp_path, ending):
    wanted = ["RGBW", "GRWB", "WBGR", "BWRG", "RBGW", "BRWG", "WGBR", "GWRB"]
    for orientation, shown in enumerate(wanted, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"tiffinfo": {0x0112: orientation}} if ending == "tiff" else {"exif": exif.tobytes()}
        Image.fromarray(pictures(1)[0]).save(tmp_path / f"a.{ending}", **options)
        assert corners(read_image(tmp_path / f"a.{ending}").pixels) == shown


@pytest.mark.parametrize(
    "name, value, dtype",
    [("a.tiff", 0.5, np.float32), ("a.tiff", 32768, np.uint16), ("a.png", 32768, np.uint16)],
)
def test_deep_pictures(tmp_path, name, value, dtype):
    Image.fromarray(np.full((8, 8), value, dtype)).save(tmp_path / name)
    assert read_image(tmp_path / name).pixels == pytest.approx(0.5, abs=0.005)


def test_deep_pgm(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 2\n1023\n" + np.full(4, 512, ">u2").tobytes())
    assert read_image(tmp_path / "a.pgm").pixels == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    "value, dtype, problem",
    [
        (300, np.float32, r"holds numbers from 300 to 300; they must be in \[0, 1\]"),
        (-1, np.float32, "holds numbers from -1 to -1"),
        (np.nan, np.float32, "holds numbers from nan"),
        (70000, np.int32, "holds 32-bit integers from 70000 to 70000"),
    ],
)
def test_numbers_without_an_agreed_white_are_refused(tmp_path, value, dtype, problem):
    Image.fromarray(np.full((8, 8), value, dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=f"^image: .*{problem}"):
        read_image(tmp_path / "a.tiff")


NUMBERS = range(20)


@pytest.mark.parametrize(
    "names, order, note",
    [
        ({f"f_{n:04}.png": n for n in NUMBERS}, NUMBERS, None),
        ({f"f_{10 * n}.png": n for n in NUMBERS}, NUMBERS, None),
        ({f"f-{n}.png": n for n in NUMBERS}, NUMBERS, None),
        ({f"12.{30 + n // 10}.{n % 10 * 5:02}.png": n for n in NUMBERS}, NUMBERS, None),
        ({f"f_{n + 5 * (n > 9)}.jpg": n for n in NUMBERS}, NUMBERS, "numbers are missing (10 to 14)"),
        ({f"{2 * (n + (n > 9))}.png": n for n in NUMBERS}, NUMBERS, "numbers are missing (20)"),
        ({f"{n * n}.png": n for n in NUMBERS}, NUMBERS, "the numbers 0, 1, 4, ... are uneven"),
        ({f"f_{n - 5}.png": n for n in NUMBERS}, NUMBERS, "taken as negative numbers"),
        ({f"f_{n - 5:05}.png": n for n in NUMBERS}, NUMBERS, "taken as negative numbers"),
        ({f"{n - 5}.png": n for n in NUMBERS}, NUMBERS, "taken as negative numbers"),
        ({**{f"rgb_{n}.png": n for n in NUMBERS}, **{f"z_{n}.png": n for n in NUMBERS}}, NUMBERS, "2 kinds"),
        ({**{f"{n}.png": n for n in NUMBERS}, "x.gif": 0}, NUMBERS, "2 kinds of names (0.png, x.gif)"),
    ],
)  # fmt: skip
def test_numbers_of_a_sequence(tmp_path, names, order, note):
    clip = read_clip(folder(tmp_path / "a", names))
    assert numbers(clip.frames)[:17] == list(order)[:17]
    notes = [found for found in clip.notes if "frame rate" not in found and "left out" not in found]
    assert [note in found for found in notes] == ([True] if note else [])
    assert set(notes) <= set(open_clip(tmp_path / "a", size=(32, 48)).notes)


@pytest.mark.parametrize("double", ["03.png", "3.jpg"])
def test_a_number_twice_is_refused(tmp_path, double):
    path = folder(tmp_path / "a", {**{f"{n}.png": n for n in NUMBERS}, double: 3})
    for read in (read_clip, lambda given: open_clip(given, size=(32, 48))):
        with pytest.raises(InputError, match="are the same frame; keep one of each"):
            read(path)


def test_what_is_not_read_is_reported_or_refused(tmp_path):
    path = folder(tmp_path / "a", {f"{n}.png": n for n in NUMBERS})
    for name in ("0.exr", "1.exr", "Thumbs.db", ".hidden.png", "notes.txt"):
        (path / name).write_bytes(b"")
    (path / "masks").mkdir()
    (note,) = [note for note in read_clip(path).notes if "not read" in note]
    assert note.startswith("not read: ")
    assert sorted(note.removeprefix("not read: ").split(", ")) == ["1 x .txt", "1 x folder", "2 x .exr"]
    for picture in path.glob("*.png"):
        picture.unlink()
    with pytest.raises(InputError, match="holds 0 pictures.* 2 x .exr.*save them as PNG"):
        read_clip(path)


def test_an_animation_in_a_folder_gives_its_first_frame(tmp_path):
    path = folder(tmp_path / "a", {f"{n}.png": n for n in NUMBERS})
    save(path / "3.png", plain(5, 3), duration=100)
    clip = read_clip(path)
    assert numbers(clip.frames) == list(range(17))
    assert "3.png holds several pictures: the first is used" in clip.notes
