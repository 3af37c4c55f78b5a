"""Clips in: any video PyAV reads, animated pictures, folders of pictures.

Aether takes 17, 25, 33 or 41 frames at 8, 10, 12, 15 or 24 a second and one size. Here any clip is brought to
that, and everything that is cropped, dropped, repeated or retimed is reported in the clip's notes. Videos are
streamed: only the part that is used is decoded, and each frame is resized as it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..defaults import FPS
from ..errors import InputError
from ..spec import FRAMES
from .animations import animation_frames, is_animation
from .decoding import VideoIndex, decode_video, frame_picture, index_video, lost_notes
from .frame_plan import RATE_TOLERANCE, FramePlan, frame_rate
from .picked import EVERYTHING, Picked, plan_picked
from .pictures import Pictures, check_pixels, existing_path
from .sources import Animation, PictureFolder, check_count

_RESERVE = 64  # frames


@dataclass(frozen=True)
class Clip:
    """A clip ready for Aether.

    Args:
        frames: (F, H, W, 3) float32 in [0, 1].
        fps: frames per second, one of Aether's.
        notes: what was cropped, dropped, repeated or retimed, one sentence each.
        real_frames: how many of the frames come from the source; those after are repeats of the last.
        source_fps: the source's own rate; 0 where it has none.
    """

    frames: np.ndarray
    fps: int
    notes: list[str] = field(default_factory=list)
    real_frames: int = 0
    source_fps: float = 0.0


def read_clip(
    path: str | Path,
    fps: int | None = None,
    *,
    frames: int | None = None,
    max_frames: int = FRAMES[-1],
    size: tuple[int, int] | None = None,
    picked: Picked = EVERYTHING,
    name: str = "video",
) -> Clip:
    """Read the beginning of a video, an animated picture, or a folder of pictures in numeric order.

    Args:
        path: a video of any format that PyAV reads, a GIF, APNG, WebP or AVIF of several frames, or a folder.
            A folder has no rate: it counts as ``fps``, or 12.
        fps: 8, 10, 12, 15 or 24. Default: the highest of these that takes frames at even gaps.
        frames: 17, 25, 33 or 41, reached by repeating the last frame where the source is shorter. Default:
            the most that the source fills.
        max_frames: bound of that default.
        size: (height, width) to crop and resize to, see `pictures.fit_frames`. Default: the source's; large
            videos then take 12 bytes a pixel and frame.
        picked: the part of it to read.
        name: the field that errors name.

    Raises:
        InputError: missing or unreadable file, no pictures in it or only one, values that Aether does not
            take.
    """
    path = existing_path(path, name)
    check_pixels(size)
    pictures = Pictures(size, name)
    if not path.is_dir() and not is_animation(path):
        return _read_video(path, fps, frames, max_frames, pictures, picked)
    source = PictureFolder(path, fps, name) if path.is_dir() else Animation(path, name)
    rate = fps or source.rate
    plan = plan_picked(source.times, picked, rate, frames=frames, max_frames=max_frames)
    pixels = dict(source.read(sorted(set(plan.indices)), pictures))
    source_fps = 0.0 if source.rate else frame_rate(source.times)
    return _assemble(plan, pixels, pictures, source.notes, source_fps)


def read_every_frame(path: str | Path, name: str = "video") -> np.ndarray:
    """All frames of a video as they are, (F, H, W, 3) uint8: nothing is retimed, cropped or resized.

    Raises:
        InputError: missing or unreadable file, or no frame in it.
    """
    path = existing_path(path, name)
    pictures = Pictures(None, name)
    if is_animation(path):
        found = (picture for _, picture in animation_frames(path, name))
    else:
        decoded = decode_video(path, name, index_video(path, name))
        found = (frame_picture(replace(frame, aspect=1), path, name) for frame in decoded)
    frames = [pictures.add(picture, str(path)) for picture in found]
    if not frames:
        raise InputError(name, f"{path} holds no picture that can be decoded")
    return np.stack(frames)


def _read_video(
    path: Path, fps: int | None, frames: int | None, max_frames: int, pictures: Pictures, picked: Picked
) -> Clip:
    most = max(frames or 0, max_frames)
    beginning = most, most / min(FPS) * (1 + RATE_TOLERANCE) + 1
    # A part may begin or reach anywhere.
    video = index_video(path, pictures.name, beginning if picked == EVERYTHING else None)
    times, duration = dict(enumerate(video.frames.times)), video.duration
    notes = [*video.notes, *lost_notes(video, 0)]
    while True:
        check_count(len(times), path, pictures.name)
        seconds = list(times.values())
        plan = plan_picked(seconds, picked, fps, frames=frames, max_frames=max_frames, duration=duration)
        places = list(times)
        pixels, seen = _decode(path, video, {places[i] for i in plan.indices}, pictures)
        if pixels.keys() >= {places[i] for i in plan.indices}:
            break
        # The packets promise frames that do not decode. Plan again with those that do.
        notes = [*video.notes, *_damage_notes(video, times, seen)]
        times, duration = {place: times[place] for place in times if place in seen}, None
    planned = {i: pixels[places[i]] for i in plan.indices}
    return _assemble(plan, planned, pictures, notes, frame_rate(seconds))


def _damage_notes(video: VideoIndex, planned: Iterable[int], seen: set[int]) -> list[str]:
    first, last = min(seen, default=0), max(seen, default=0)
    if any(first < place < last and place not in seen for place in planned):
        return ["part of the file is damaged; the frames that could be decoded were used"]
    return lost_notes(video, first)


def _decode(
    path: Path, video: VideoIndex, wanted: set[int], pictures: Pictures
) -> tuple[dict[int, np.ndarray], set[int]]:
    """Pixels of the frames that are wanted, by their places, and the places of all that decoded."""
    pixels: dict[int, np.ndarray] = {}
    seen: set[int] = set()
    last = max(wanted)
    for decoded in decode_video(path, pictures.name, video):
        seen.add(decoded.place)
        if decoded.place in wanted:
            picture = frame_picture(decoded, path, pictures.name)
            pixels[decoded.place] = pictures.add(picture, str(path), decoded.notes())
        # A few more, in case others are damaged.
        if len(pixels) == len(wanted) or decoded.place > last + _RESERVE:
            break
    return pixels, seen


def _assemble(
    plan: FramePlan,
    pixels: dict[int, np.ndarray],
    pictures: Pictures,
    notes: Iterable[str],
    source_fps: float,
) -> Clip:
    first = next(iter(pixels.values()))
    frames = np.empty((len(plan.indices), *first.shape), dtype=np.float32)
    for target, index in zip(frames, plan.indices, strict=True):
        np.divide(pixels[index], np.float32(255), out=target)
    return Clip(frames, plan.fps, [*notes, *plan.notes, *pictures.notes()], plan.real_frames, source_fps)
