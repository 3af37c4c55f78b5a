"""Clips longer than the model takes, read window by window: at no time more than one window is in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# The single clip's reader and this one share how frames are chosen, decoded and cropped.
from .clips import (
    _check_choice,
    _check_size,
    _choose_rate,
    _count,
    _crop_note,
    _decode,
    _existing,
    _frame_picture,
    _gap,
    _length_notes,
    _open_picture,
    _picture_files,
    _Pictures,
    _rate_notes,
    _time_stamps,
    frame_rate,
)
from .errors import InputError
from .model import FRAMES
from .tasks import FPS
from .windows import window_starts

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_MISSING = 4
"""This many frames in a row may fail to decode; the one before stands in for them."""


@dataclass(frozen=True)
class LongClip:
    """A clip that is yet to be read, and the windows it is cut into.

    Attributes:
        path: a video or a folder of pictures.
        fps: one of Aether's rates.
        size: (height, width) that frames are cropped and resized to.
        indices: the source's frames that make the clip, in order, repeats included.
        length: frames of a window; starts: first frame of each.
        notes: what is cropped, dropped, repeated or retimed.
    """

    path: Path
    fps: int
    size: tuple[int, int]
    indices: tuple[int, ...]
    length: int
    starts: tuple[int, ...]
    notes: tuple[str, ...]
    source: _Folder | _Video

    def __len__(self) -> int:
        return len(self.indices)

    def windows(self, skip: Collection[int] = ()) -> Iterator[tuple[int, np.ndarray]]:
        """(window, frames (length, height, width, 3) float32 in [0, 1]) in order, but for those to skip.

        Raises:
            InputError: more than a few frames in a row do not decode.
        """
        todo = [window for window in range(len(self.starts)) if window not in skip]
        needed = sorted({frame for window in todo for frame in self._frames(window)})
        pictures = self._read(needed)
        held: dict[int, np.ndarray] = {}
        for window in todo:
            frames = self._frames(window)
            held = {frame: pixels for frame, pixels in held.items() if frame in frames}
            while len(held) < self.length:
                frame, pixels = next(pictures)
                held[frame] = pixels
            yield window, np.stack([held[frame] for frame in frames]).astype(np.float32) / np.float32(255)

    def stand_ins(self, window: int) -> int:
        """How many frames of a window that was read did not decode, so that a neighbour stands in."""
        return sum(self.indices[frame] in self.source.missing for frame in self._frames(window))

    def identity(self) -> dict[str, Any]:
        """What makes this the same clip another day: the files with their sizes and dates, the frames."""
        return {
            "files": self.source.stamps(),
            "indices": list(self.indices),
            "size": list(self.size),
            "fps": self.fps,
            "length": self.length,
            "starts": list(self.starts),
        }

    def _frames(self, window: int) -> range:
        return range(self.starts[window], self.starts[window] + self.length)

    def _read(self, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(frame, (height, width, 3) uint8), in order. Only the source's frames that are needed are
        converted."""
        pictures = _Pictures(self.size, self.source.name)
        read = self.source.read(sorted({self.indices[frame] for frame in frames}))
        index, pixels = -1, None
        for frame in frames:
            while index != self.indices[frame]:
                index, picture = next(read)
                pixels = pictures.add(picture, str(self.path))
            yield frame, pixels


def open_clip(
    path: str | Path,
    fps: int | None = None,
    *,
    size: tuple[int, int],
    length: int | None = None,
    stride: int | None = None,
    max_length: int = FRAMES[-1],
    name: str = "video",
) -> LongClip:
    """Plan the windows of a whole video, or of a folder of pictures in the order of their numbers.

    Of a video only the packets' time stamps and the first frame are read here.

    Args:
        path, fps: as for ``aether.clips.read_clip``.
        size: (height, width) to crop and resize to.
        length: frames of a window: 17, 25, 33 or 41; default the most that the clip fills.
        stride: frames from one window to the next; see ``aether.windows.window_starts``.
        max_length: bound of the default length, the model's own number of frames.
        name: the field that errors name.

    Raises:
        InputError: missing or unreadable file, fewer than two frames, values that Aether does not take, a
            stride that leaves no overlap.
    """
    path = _existing(path, name)
    _check_size(size)
    _check_choice("fps", fps, FPS)
    _check_choice("frames", length, FRAMES)
    source = _Folder(path, fps, name) if path.is_dir() else _Video(path, name)
    times = np.asarray(source.times)
    if fps is None and not path.is_dir():
        rate, gap = _choose_rate(times, length or FRAMES[0])
    else:
        rate = fps or source.rate
        gap = _gap(rate, times) or 1 / rate
    real = _count(times, gap)
    length = length or max((n for n in FRAMES if n <= min(real, max_length)), default=FRAMES[0])
    indices = _nearest(times, times[0] + gap * np.arange(real))
    frames = max(real, length)
    starts = window_starts(frames, length, stride)
    first = source.first().size[::-1]
    notes = [
        *source.notes,
        *_rate_notes(rate, gap, frame_rate(times), indices),
        *(_length_notes(real, length, gap, real, None) if real < length else ()),
        *_crop_note(*first, *size),
    ]
    padded = (*indices, *[indices[-1]] * (frames - real))
    return LongClip(path, rate, tuple(size), padded, length, starts, tuple(notes), source)


def _nearest(times: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Index of the time nearest to each that is wanted; the earlier of two as near."""
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    earlier = wanted - times[after - 1] <= times[after] - wanted
    return (after - earlier).tolist()


class _Folder:
    """Pictures as a clip."""

    def __init__(self, path: Path, fps: int | None, name: str) -> None:
        self.name = name
        self.missing: set[int] = set()
        self.rate = fps or 12
        self.files = _picture_files(path, name)
        self.times = [i / self.rate for i in range(len(self.files))]
        self.notes = [] if fps else [f"a folder has no frame rate: taken as {self.rate} a second"]

    def first(self) -> Image:
        return _open_picture(self.files[0], self.name)

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
        for index in wanted:
            yield index, _open_picture(self.files[index], self.name)

    def stamps(self) -> list[list[Any]]:
        return [_stamp(file) for file in self.files]


class _Video:
    """A video file, known by its packets' time stamps until it is read."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self.notes = path, name, []
        self.missing: set[int] = set()
        stamps, _ = _time_stamps(path, 2**40, name)
        if len(stamps) < 2:
            what = "holds a single picture" if stamps else "holds no picture that can be decoded"
            raise InputError(name, f"{path} {what}; a clip needs at least 2 frames")
        self.keys, self.times = [key for key, _ in stamps], [seconds for _, seconds in stamps]

    def first(self) -> Image:
        for frame, aspect in _decode(self.path, self.name):
            return _frame_picture(frame, aspect)
        raise InputError(self.name, f"{self.path} holds no picture that can be decoded")

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
        """Frames by index, rising. Where some do not decode, the one before stands in, or the next at the
        start."""
        left = iter(wanted)
        index, picture, missing = next(left, None), None, 0
        for number, (frame, aspect) in enumerate(_decode(self.path, self.name)):
            if index is None:
                return
            key = number if frame.pts is None else frame.pts
            if key < self.keys[index]:
                continue
            fresh = _frame_picture(frame, aspect)
            while index is not None and self.keys[index] < key:
                missing = self._missed(missing, index)
                yield index, picture or fresh
                index = next(left, None)
            if index is not None and self.keys[index] == key:
                yield index, fresh
                index, missing = next(left, None), 0
            picture = fresh
        while index is not None:
            missing = self._missed(missing, index)
            if picture is None:
                raise InputError(self.name, f"{self.path} holds no picture that can be decoded")
            yield index, picture
            index = next(left, None)

    def _missed(self, missing: int, index: int) -> int:
        if missing == MAX_MISSING:
            raise InputError(
                self.name,
                f"{self.path} is damaged: nothing that can be decoded at {self.times[index]:.1f} s; "
                "repair or cut it",
            )
        self.missing.add(index)
        return missing + 1

    def stamps(self) -> list[list[Any]]:
        return [_stamp(self.path)]


def _stamp(file: Path) -> list[Any]:
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]
