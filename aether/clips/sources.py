"""What clips are read from: folders of pictures, animated pictures, videos. One class for each, all alike.

Attributes of each: ``label`` names it; ``times`` of its frames in seconds; ``rate`` is the one to take it at,
None where the times give it; ``notes``; ``missing`` numbers the frames that did not decode when read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..defaults import BASE_FPS
from ..errors import InputError
from .animations import animation_frames, animation_times, is_animation
from .decoding import Decoded, decode_video, frame_picture, index_video, lost_notes
from .picture_folder import picture_files
from .pictures import Pictures

MAX_MISSING = 4
"""This many frames in a row may fail to decode; the one before stands in for them."""


class _Source(ABC):
    name: str
    """The field that errors name."""

    @abstractmethod
    def read(self, wanted: Sequence[int], pictures: Pictures) -> Iterator[tuple[int, np.ndarray]]:
        """(frame, pixels) of the frames wanted, which rise."""

    @abstractmethod
    def stamps(self) -> list[list[Any]]:
        """What changes when the files do."""

    def first(self) -> tuple[tuple[int, int], list[str]]:
        """(height, width) of the first frame, and what is reported of it."""
        pictures = Pictures(None, self.name)
        _, pixels = next(self.read([0], pictures))
        return pixels.shape[:2], pictures.notes()


class PictureFolder(_Source):
    """Pictures in files as a clip, taken at ``fps`` or 12 a second."""

    def __init__(self, path: Path, fps: int | None, name: str) -> None:
        self.label, self.name = str(path), name
        self.missing: set[int] = set()
        self.rate = fps or BASE_FPS
        self.files, notes = picture_files(path, name)
        self.times = [i / self.rate for i in range(len(self.files))]
        guessed = [] if fps else [f"a folder has no frame rate: taken as {self.rate} a second"]
        self.notes = guessed + notes

    def read(self, wanted: Sequence[int], pictures: Pictures) -> Iterator[tuple[int, np.ndarray]]:
        for index in wanted:
            yield index, pictures.add_file(self.files[index])

    def stamps(self) -> list[list[Any]]:
        return [_stamp(file) for file in self.files]


class Animation(_Source):
    """An animated picture as a clip."""

    rate = None  # read off the times

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.label, self.name = path, str(path), name
        self.missing: set[int] = set()
        self.times, self.notes = animation_times(path, name)
        check_count(len(self.times), path, name)

    def read(self, wanted: Sequence[int], pictures: Pictures) -> Iterator[tuple[int, np.ndarray]]:
        needed = set(wanted)
        for index, (_, picture) in enumerate(animation_frames(self.path, self.name)):
            if index in needed:
                yield index, pictures.add(picture, self.label)
            if index == wanted[-1]:
                return

    def stamps(self) -> list[list[Any]]:
        return [_stamp(self.path)]


class Video(_Source):
    """A video file, known by its packets until it is read. Frames count from the first that decodes."""

    rate = None

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.label, self.name = path, str(path), name
        self.missing: set[int] = set()
        self.video = index_video(path, name)
        first = next(decode_video(path, name, self.video), None)
        times = self.video.frames.times
        self.lost = len(times) if first is None else min(first.place, len(times))
        check_count(len(times) - self.lost, path, name)
        self.times = [seconds - times[self.lost] for seconds in times[self.lost :]]
        self.notes = [*self.video.notes, *lost_notes(self.video, self.lost)]

    def read(self, wanted: Sequence[int], pictures: Pictures) -> Iterator[tuple[int, np.ndarray]]:
        """Where frames do not decode, the one before stands in.

        Raises:
            InputError: more than a few in a row do not.
        """

        def pixels(shown: Decoded) -> np.ndarray:
            return pictures.add(frame_picture(shown, self.path, self.name), self.label, shown.notes())

        left = iter(wanted)
        index, before, missing = next(left, None), None, 0
        for decoded in decode_video(self.path, self.name, self.video):
            while index is not None and index < decoded.place - self.lost:
                missing = self._more_missing(missing, index)
                yield index, pixels(before or decoded)
                index = next(left, None)
            if index is None:
                return
            if index == decoded.place - self.lost:
                yield index, pixels(decoded)
                index, missing = next(left, None), 0
            before = decoded
        while index is not None:
            missing = self._more_missing(MAX_MISSING if before is None else missing, index)
            yield index, pixels(before)
            index = next(left, None)

    def _more_missing(self, missing: int, index: int) -> int:
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


def open_source(path: Path, fps: int | None, name: str) -> PictureFolder | Animation | Video:
    """
    Args:
        fps: at which a folder is taken.

    Raises:
        InputError: field ``name``: it cannot be read, or has fewer than two frames.
    """
    if path.is_dir():
        return PictureFolder(path, fps, name)
    return Animation(path, name) if is_animation(path) else Video(path, name)


def check_count(frames: int, path: Path, name: str) -> None:
    """
    Raises:
        InputError: field ``name``: fewer than two frames.
    """
    if frames < 2:
        what = "holds a single picture" if frames else "holds no picture that can be decoded"
        raise InputError(name, f"{path} {what}; a clip needs at least 2 frames")


def _stamp(file: Path) -> list[Any]:
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]
