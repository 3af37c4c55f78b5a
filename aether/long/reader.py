"""Clips longer than the model takes, read window by window: at no time more than one window is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import to_floats
from ..clips.frame_plan import (
    check_choice,
    choose_rate,
    count_frames,
    frame_rate,
    length_notes,
    nearest_frames,
    rate_notes,
)
from ..clips.pictures import (
    Pictures,
    check_frames,
    check_pixels,
    crop_notes,
    existing_path,
    fit_frames,
)
from ..clips.sources import Animation, PictureFolder, Video, open_source
from ..defaults import BASE_FPS, FPS
from ..errors import InputError
from ..spec import FRAMES
from .joining import window_starts
from .tiles import Tiles, plan_tiles


@dataclass(frozen=True)
class LongClip:
    """A clip that is yet to be read, and the windows it is cut into.

    Attributes:
        fps: one of Aether's rates.
        size: (height, width) that frames are cropped and resized to.
        indices: the source's frames that make the clip, in order, repeats included.
        length: frames of a window; starts: first frame of each.
        notes: what is cropped, dropped, repeated or retimed.
        tiles: what every window is cut into, None where ``size`` is the model's.
    """

    fps: int
    size: tuple[int, int]
    indices: tuple[int, ...]
    length: int
    starts: tuple[int, ...]
    notes: tuple[str, ...]
    tiles: Tiles | None
    source: _Array | PictureFolder | Animation | Video

    @property
    def model_size(self) -> tuple[int, int]:
        """(height, width) of what the model is given: a tile, or the whole picture."""
        return self.tiles.tile if self.tiles else self.size

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
            yield window, to_floats(np.stack([held[frame] for frame in frames]))

    def stand_ins(self, window: int) -> int:
        """How many frames of a window that was read did not decode, so that a neighbour stands in."""
        return sum(self.indices[frame] in self.source.missing for frame in self._frames(window))

    def identity(self) -> dict[str, Any]:
        """What makes this the same clip another day: the files with their sizes and dates, the frames."""
        return {
            "files": self.source.stamps(),
            "indices": list(self.indices),
            "size": list(self.size),
            "tiles": list(self.tiles.starts) if self.tiles else None,
            "fps": self.fps,
            "length": self.length,
            "starts": list(self.starts),
        }

    def _frames(self, window: int) -> range:
        return range(self.starts[window], self.starts[window] + self.length)

    def _read(self, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(frame, (height, width, 3) uint8 or float32), in order. Only the source's frames that are needed
        are converted."""
        needed = sorted({self.indices[frame] for frame in frames})
        read = self.source.read(needed, Pictures(self.size, self.source.name))
        index, pixels = -1, None
        for frame in frames:
            while index != self.indices[frame]:
                index, pixels = next(read)
            yield frame, pixels


def open_clip(
    path: str | Path,
    fps: int | None = None,
    *,
    size: tuple[int, int],
    tiled: bool = False,
    length: int | None = None,
    stride: int | None = None,
    max_length: int = FRAMES[-1],
    name: str = "video",
) -> LongClip:
    """Plan the windows of a whole video, an animated picture, or a folder of pictures in numeric order.

    Of a video only the packets' time stamps and the first frame are read here.

    Args:
        path, fps: as for ``aether.clips.clip.read_clip``.
        size: (height, width) to crop and resize to.
        tiled: keep the whole picture, whatever its shape, in tiles of ``size``; see ``aether.long.tiles``.
        length: frames of a window: 17, 25, 33 or 41; default the most that the clip fills.
        stride: frames from one window to the next; see ``aether.long.joining.window_starts``.
        max_length: bound of the default length, the model's own number of frames.
        name: the field that errors name.

    Raises:
        InputError: missing or unreadable file, fewer than two frames, values that Aether does not take, a
            stride that leaves no overlap.
    """
    check_choice("fps", fps, FPS)
    path = existing_path(path, name)
    return _plan(open_source(path, fps, name), fps, size, tiled, length, stride, max_length)


def array_clip(
    frames: Any,
    source_fps: float | None = None,
    fps: int | None = None,
    *,
    size: tuple[int, int],
    tiled: bool = False,
    length: int | None = None,
    stride: int | None = None,
    max_length: int = FRAMES[-1],
    name: str = "video",
) -> LongClip:
    """The same for pictures in memory.

    Args:
        frames: (F, H, W, 3) floats in [0, 1], or uint8.
        source_fps: their rate; None takes every picture, at ``fps`` or 12 a second.
        fps, size, tiled, length, stride, max_length, name: as for :func:`open_clip`.

    Raises:
        InputError: see :func:`open_clip` and ``aether.clips.pictures.check_frames``.
    """
    check_choice("fps", fps, FPS)
    if source_fps is not None and not (np.isfinite(source_fps) and source_fps > 0):
        raise InputError("source_fps", f"{source_fps} must be a positive number, or None where unknown")
    source = _Array(check_frames(frames, name), source_fps, fps, name)
    return _plan(source, fps, size, tiled, length, stride, max_length)


def _plan(
    source: _Array | PictureFolder | Animation | Video,
    fps: int | None,
    size: tuple[int, int],
    tiled: bool,
    length: int | None,
    stride: int | None,
    max_length: int,
) -> LongClip:
    check_pixels(size)
    check_choice("frames", length, FRAMES)
    times = np.asarray(source.times)
    rate, gap = choose_rate(times, length or FRAMES[0], fps or source.rate)
    real = count_frames(times, gap)
    length = length or max((n for n in FRAMES if n <= min(real, max_length)), default=FRAMES[0])
    indices = nearest_frames(times, gap, real)
    frames = max(real, length)
    starts = window_starts(frames, length, stride)
    first, found = source.first()
    tiles = plan_tiles(*first, tuple(size)) if tiled else None
    whole = tiles.size if tiles else tuple(size)
    notes = [
        *source.notes,
        *found,
        *rate_notes(rate, gap, frame_rate(times), indices),
        *(length_notes(real, length, gap, real, None) if real < length else ()),
        *crop_notes(*first, *whole),
    ]
    padded = (*indices, *[indices[-1]] * (frames - real))
    return LongClip(rate, whole, padded, length, starts, tuple(notes), tiles, source)


class _Array:
    """Pictures in memory as a clip."""

    label = "pictures in memory"

    def __init__(self, frames: np.ndarray, source_fps: float | None, fps: int | None, name: str) -> None:
        if len(frames) < 2:
            raise InputError(name, "holds a single picture; a clip needs at least 2 frames")
        self.name = name
        self.missing: set[int] = set()
        self.rate = None if source_fps else fps or BASE_FPS
        self.frames, self.notes = frames, []
        self.times = (np.arange(len(frames)) / (source_fps or self.rate)).tolist()

    def first(self) -> tuple[tuple[int, int], list[str]]:
        return self.frames.shape[1:3], []

    def read(self, wanted: Sequence[int], pictures: Pictures) -> Iterator[tuple[int, np.ndarray]]:
        for index in wanted:
            yield index, fit_frames(self.frames[index : index + 1], *pictures.size)[0]

    def stamps(self) -> list[list[Any]]:
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(np.ascontiguousarray(frame))
        return [[list(self.frames.shape), digest.hexdigest()]]
