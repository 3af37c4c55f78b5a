"""Clips and pictures in: any video PyAV reads, folders of pictures, single pictures, arrays.

Aether takes 17, 25, 33 or 41 frames at 8, 10, 12, 15 or 24 a second and one size. Here any clip is brought to
that, and everything that is cropped, dropped, repeated or retimed is said in the clip's notes. Videos are
streamed: only the part that is used is decoded, and each frame is resized as it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, reading
from .files import number_order
from .geometry import finite_array
from .model import FRAMES
from .tasks import FPS

if TYPE_CHECKING:
    from PIL.Image import Image

RATE_TOLERANCE = 0.07
"""A rate this close to one of Aether's is taken frame for frame: 25 as 24, 16 as 15."""
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
# Not all that Pillow knows: for EPS it would start another program, Ghostscript.
_PICTURE_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "GIF")
LEFT_OUT = "are left out"
"""How the note of a clip ends that is longer than what is used of it."""
_BT709 = 1  # FFmpeg's number for it
_HDR = (16, 18)  # FFmpeg's numbers of the transfer curves PQ and HLG
_TEXT_CODECS = {"ansi", "bintext", "xbin", "idf"}  # FFmpeg draws any text file as a video


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


@dataclass(frozen=True)
class Still:
    """One picture: pixels (H, W, 3) float32 in [0, 1], and notes as for a clip."""

    pixels: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FramePlan:
    """Which frames of a source make the clip: ``indices`` (repeats included), their rate, how many are
    real."""

    indices: list[int]
    fps: int
    real_frames: int
    notes: list[str]


def read_clip(
    path: str | Path,
    fps: int | None = None,
    *,
    frames: int | None = None,
    max_frames: int = FRAMES[-1],
    size: tuple[int, int] | None = None,
    name: str = "video",
) -> Clip:
    """Read the beginning of a video, or of a folder of pictures in the order of their numbers.

    Args:
        path: a video of any format that PyAV reads, or a folder. A folder has no rate: it counts as ``fps``,
            or 12.
        fps: 8, 10, 12, 15 or 24. Default: the highest of these that takes frames at even gaps.
        frames: 17, 25, 33 or 41, reached by repeating the last frame where the source is shorter. Default:
            the most that the source fills.
        max_frames: bound of that default.
        size: (height, width) to crop and resize to, see :func:`fit_frames`. Default: the source's; large
            videos then take 12 bytes a pixel and frame.
        name: the field that errors name.

    Raises:
        InputError: missing or unreadable file, no pictures in it or only one, values that Aether does not
            take.
    """
    path = existing_path(path, name)
    check_pixels(size)
    if path.is_dir():
        return _read_folder(path, fps, frames, max_frames, size, name)
    return _read_video(path, fps, frames, max_frames, size, name)


def read_image(path: str | Path, *, size: tuple[int, int] | None = None, name: str = "image") -> Still:
    """Read one picture: turned as its EXIF says, alpha over black, grey to RGB, 16 bits to 8.

    Args:
        size: (height, width) to crop and resize to, see :func:`fit_frames`. Default: the picture's own.
        name: the field that errors name.

    Raises:
        InputError: missing file, a folder, or a file that is not a picture.
    """
    path = existing_path(path, name)
    if path.is_dir():
        raise InputError(name, f"{path} is a folder; give one picture")
    check_pixels(size)
    pictures = Pictures(size, name)
    pixels = pictures.add(open_picture(path, name), str(path))
    return Still(to_float(pixels), pictures.notes())


def read_every_frame(path: str | Path, name: str = "video") -> np.ndarray:
    """All frames of a video as they are, (F, H, W, 3) uint8: nothing is retimed, cropped or resized.

    Raises:
        InputError: missing or unreadable file, or no frame in it.
    """
    path = existing_path(path, name)
    pictures = Pictures(None, name)
    frames = [pictures.add_frame(frame, 1, path) for _, frame, _ in decode_video(path, name)]
    if not frames:
        raise InputError(name, f"{path} holds no picture that can be decoded")
    return np.stack(frames)


def fit(clip: Clip, height: int, width: int) -> Clip:
    """The clip at height x width, see :func:`fit_frames`; what is cut is said in its notes."""
    note = crop_notes(*clip.frames.shape[1:3], height, width)
    return replace(clip, frames=fit_frames(clip.frames, height, width), notes=[*clip.notes, *note])


def fit_frames(frames: Any, height: int, width: int) -> np.ndarray:
    """Scale so that the picture fills height x width, and cut what sticks out, half at each side.

    Frames already of that size are returned as they are. Otherwise an antialiased Lanczos filter (Pillow's)
    is used, as the reference does for pictures; for videos given as arrays the reference crops and then takes
    the nearest pixel, which aliases.

    Args:
        frames: (F, H, W, 3) in [0, 1], or uint8.

    Returns:
        (F, height, width, 3) float32 in [0, 1].

    Raises:
        InputError: see :func:`check_frames`; a size below 1.
    """
    from PIL import Image

    frames = check_frames(frames)
    check_pixels((height, width))
    if frames.shape[1:3] == (height, width):
        return frames
    fitted = np.empty((len(frames), height, width, 3), dtype=np.float32)
    for source, target in zip(frames, fitted, strict=True):
        for channel in range(3):
            picture = Image.fromarray(np.ascontiguousarray(source[..., channel]))
            target[..., channel] = _fill(picture, height, width)
    return np.clip(fitted, 0, 1, out=fitted)


def check_frames(frames: Any, name: str = "video") -> np.ndarray:
    """An array or tensor of pictures as (F, H, W, 3) float32 in [0, 1].

    Args:
        frames: (F, H, W, 3): floats in [0, 1], or uint8, which is divided by 255.

    Returns:
        the same memory where nothing had to be changed: not to be written into.

    Raises:
        InputError: wrong shape, no frames, NaN, infinities, values outside [0, 1] by more than rounding.
    """
    array = finite_array(frames, name, (None, None, None, 3))
    if array.dtype == np.uint8:
        return to_float(array)
    low, high = array.min(), array.max()
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(name, f"values reach from {low:.3g} to {high:.3g}; they must be in [0, 1]")
    inside = array if low >= 0 and high <= 1 else np.clip(array, 0, 1)
    return inside.astype(np.float32, copy=False)


def plan_frames(
    times: Sequence[float],
    fps: int | None = None,
    *,
    frames: int | None = None,
    max_frames: int = FRAMES[-1],
    duration: float | None = None,
) -> FramePlan:
    """Choose frames of a source for Aether.

    A rate is *even* where every k-th frame of the source is within 7 % of it; then every k-th frame is taken.
    Other rates take the frame nearest in time. Without ``fps`` the highest even rate is chosen, or else the
    highest one below the source's; if that gives fewer than ``frames`` (17), a rate that gives enough, or the
    most.

    Args:
        times: of the source's frames in seconds, increasing, at least two.
        fps, frames, max_frames: as for :func:`read_clip`.
        duration: of the whole source in seconds where ``times`` is only its beginning.

    Raises:
        InputError: fewer than two frames, values that Aether does not take.
    """
    check_choice("fps", fps, FPS)
    check_choice("frames", frames, FRAMES)
    if max_frames < FRAMES[0]:
        raise InputError(
            "max_frames", f"{max_frames} is fewer than Aether's smallest clip, {FRAMES[0]} frames"
        )
    if len(times) < 2:
        raise InputError("video", f"has {len(times)} frame; at least 2 are needed")
    source_fps = frame_rate(times)
    needed = frames or FRAMES[0]
    if fps is None:
        fps, gap = choose_rate(times, needed)
    else:
        gap = frame_gap(fps, times) or 1 / fps
    available = count_frames(times, gap)
    length = frames or max((n for n in FRAMES if n <= min(available, max_frames)), default=FRAMES[0])
    real = min(length, available)
    wanted = times[0] + gap * np.arange(real)
    indices = [int(i) for i in np.abs(np.asarray(times)[None] - wanted[:, None]).argmin(axis=1)]
    notes = [
        *rate_notes(fps, gap, source_fps, indices),
        *length_notes(real, length, gap, available, duration),
    ]
    return FramePlan(indices + [indices[-1]] * (length - real), fps, real, notes)


def frame_rate(times: Sequence[float]) -> float:
    """Frames per second of increasing time stamps; holes, where frames are missing, do not count."""
    gaps = np.diff(times)
    return float(1 / gaps[gaps < 1.5 * np.median(gaps)].mean())


def _is_steady(times: Sequence[float]) -> bool:
    """Whether nine in ten gaps are alike, up to time stamps rounded to milliseconds."""
    gaps = np.diff(times)
    usual = np.median(gaps)
    return float(np.mean(np.abs(gaps - usual) <= max(0.1 * usual, 0.0015))) >= 0.9


def frame_gap(rate: int, times: Sequence[float]) -> float | None:
    """Seconds between frames taken, a whole number of source frames; None if too far from the rate."""
    source_fps = frame_rate(times)
    if not _is_steady(times):
        return None
    stride = max(1, round(source_fps / rate))
    return stride / source_fps if abs(source_fps / (stride * rate) - 1) <= RATE_TOLERANCE else None


def choose_rate(times: Sequence[float], needed: int) -> tuple[int, float]:
    """The rate and the seconds between frames, see :func:`plan_frames`."""
    source_fps = frame_rate(times)
    gaps = {rate: frame_gap(rate, times) for rate in sorted(FPS, reverse=True)}
    even = [(rate, gap) for rate, gap in gaps.items() if gap]
    uneven = [(rate, 1 / rate) for rate, gap in gaps.items() if not gap and rate <= source_fps]
    # A source slower than all of Aether's rates is taken frame for frame: repeated frames would freeze the
    # motion.
    choices = even + uneven or [(min(FPS), 1 / source_fps)]
    enough = [choice for choice in choices if count_frames(times, choice[1]) >= needed]
    return enough[0] if enough else max(choices, key=lambda choice: count_frames(times, choice[1]))


def count_frames(times: Sequence[float], gap: float) -> int:
    """How many frames that are ``gap`` seconds apart these time stamps give."""
    # A tenth of a gap forgives time stamps that are rounded to milliseconds.
    return int((times[-1] - times[0]) / gap + 0.1) + 1


def rate_notes(fps: int, gap: float, source_fps: float, indices: list[int]) -> list[str]:
    """How the source was retimed, a frame every ``gap`` seconds being one of ``fps`` a second."""
    stride, repeats = round(gap * source_fps), len(indices) - len(set(indices))
    if abs(gap * source_fps - stride) > 1e-6:
        text = f"{source_fps:.4g} frames a second were taken as {fps} by the nearest in time"
        return [f"{text}, {repeats} of them twice or more" if repeats else f"{text}, so gaps are uneven"]
    notes = [] if stride == 1 else [f"every {_ordinal(stride)} of {source_fps:.4g} frames a second was taken"]
    if repeats:
        notes.append(f"the source lacks frames: {repeats} are repeats of their neighbor")
    speed = gap * fps
    if abs(speed - 1) > 0.005:
        change = f"{abs(speed - 1):.0%} {'faster' if speed > 1 else 'slower'}"
        notes.append(f"{1 / gap:.4g} frames a second count as {fps}: motion is {change}")
    return notes


def length_notes(real: int, length: int, gap: float, available: int, duration: float | None) -> list[str]:
    """What is repeated to make ``length`` frames of ``real`` ones, or left out of ``available`` ones."""
    if real < length:
        return [
            f"the clip gives {real} frames: the last is repeated {length - real} times to make {length}; "
            f"only the first {real} are real"
        ]
    total = available * gap if duration is None else duration
    rest = total - length * gap
    if rest <= gap / 2:
        return []
    return [f"the first {length * gap:.1f} s ({length} frames) are used, {rest:.1f} s after them {LEFT_OUT}"]


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _read_folder(
    path: Path, fps: int | None, frames: int | None, max_frames: int, size: tuple[int, int] | None, name: str
) -> Clip:
    files = picture_files(path, name)
    rate = fps or 12
    plan = plan_frames([i / rate for i in range(len(files))], rate, frames=frames, max_frames=max_frames)
    pictures = Pictures(size, name)
    unique = sorted(set(plan.indices))
    pixels = {i: pictures.add(open_picture(files[i], name), str(files[i])) for i in unique}
    notes = [] if fps else [f"a folder has no frame rate: taken as {rate} a second"]
    return _assemble(plan, pixels, pictures, notes, 0.0)


def picture_files(path: Path, name: str) -> list[Path]:
    """A folder's pictures in the order of their numbers."""
    files = [f for f in path.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".")]
    files.sort(key=lambda file: number_order(file.name))
    if len(files) < 2:
        raise InputError(name, f"the folder {path} holds {len(files)} pictures; at least 2 are needed")
    return files


def _read_video(
    path: Path, fps: int | None, frames: int | None, max_frames: int, size: tuple[int, int] | None, name: str
) -> Clip:
    stamps, duration = time_stamps(path, max(frames or 0, max_frames), name)
    notes = []
    while True:
        if len(stamps) < 2:
            what = "holds a single picture" if stamps else "holds no picture that can be decoded"
            raise InputError(name, f"{path} {what}; a clip needs at least 2 frames")
        times = [seconds for _, seconds in stamps]
        plan = plan_frames(times, fps, frames=frames, max_frames=max_frames, duration=duration)
        pictures = Pictures(size, name)
        wanted = {stamps[i][0]: i for i in plan.indices}
        pixels, seen = _decode_wanted(path, wanted, pictures, name)
        if len(pixels) == len(wanted):
            break
        # Damaged: what the index promises does not decode. Plan again with what does.
        stamps, duration = [stamp for stamp in stamps if stamp[0] in seen], None
        notes = ["part of the file is damaged; the frames that could be decoded were used"]
    return _assemble(plan, pixels, pictures, notes, frame_rate(times))


def time_stamps(path: Path, most: int, name: str) -> tuple[list[tuple[int, float]], float | None]:
    """(key, seconds) of the first frames in the order they are shown, and the video's length in seconds.

    Read from the packets, without decoding. The key is the one of :func:`decode_video`. Length is None where
    all was read.
    """
    enough = most / min(FPS) * (1 + RATE_TOLERANCE) + 1
    keys: list[int | None] = []
    with _open_video(path, name) as container:
        stream = container.streams.video[0]
        tick = float(stream.time_base)
        duration = None
        for packet in _packets(container, stream):
            if packet.size == 0 or packet.is_discard:
                continue
            keys.append(packet.pts)
            stamped = packet.pts is not None and keys[0] is not None
            if len(keys) > most + 16 and (not stamped or (packet.pts - keys[0]) * tick > enough):
                duration = _length(container, stream)
                if stamped and packet.dts is not None:
                    # Frames shown after this packet's decoding time may still be to come, in any order.
                    keys = [key for key in keys if key is None or key <= packet.dts]
                break
        if None in keys:
            rate = float(stream.guessed_rate or stream.average_rate or 25)
            return [(i, i / rate) for i in range(len(keys))], duration
        keys = sorted(set(keys))
        if not _says_when_shown(container, stream):
            return [(i, key * tick) for i, key in enumerate(keys)], duration
    return [(key, key * tick) for key in keys], duration


def _says_when_shown(container: Any, stream: Any) -> bool:
    """Whether stamps are the times of showing. AVI has those of decoding, where B-frames come in another
    order."""
    return not (container.format.name == "avi" and stream.codec_context.has_b_frames)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Up to the first that cannot be read."""
    from av.error import FFmpegError

    try:
        yield from container.demux(stream)
    except FFmpegError:
        return


def _length(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _decode_wanted(
    path: Path, wanted: dict[int, int], pictures: Pictures, name: str
) -> tuple[dict[int, np.ndarray], set[int]]:
    """Pixels by plan index of the frames whose key is wanted, and the keys of all frames that decoded."""
    pixels: dict[int, np.ndarray] = {}
    seen: set[int] = set()
    last = max(wanted)
    for key, frame, aspect in decode_video(path, name):
        seen.add(key)
        if key in wanted:
            pixels[wanted[key]] = pictures.add_frame(frame, aspect, path)
        # A few frames on, in case the order is not strict.
        if len(pixels) == len(wanted) or (key > last and len(seen) > len(wanted) + 64):
            break
    return pixels, seen


def decode_video(path: Path, name: str) -> Iterator[tuple[int, Any, float]]:
    """(key, frame, its pixels' aspect) in the order they are shown; what fails to decode is left out.

    The key is the frame's time stamp, or its number in files that do not say when a frame is shown.
    """
    with _open_video(path, name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        aspect = float(stream.sample_aspect_ratio or 1)
        stamped = _says_when_shown(container, stream)
        for number, frame in enumerate(_frames(container, stream)):
            yield frame.pts if stamped and frame.pts is not None else number, frame, aspect


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    from av.error import FFmpegError

    for packet in _packets(container, stream):
        # A packet that is damaged takes no more with it than what was predicted from it.
        with suppress(FFmpegError):
            yield from packet.decode()


def _open_video(path: Path, name: str) -> Any:
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(name, f"{path} cannot be read as a video ({error})") from error
    streams = container.streams.video
    if not streams or streams[0].codec_context is None or streams[0].codec_context.name in _TEXT_CODECS:
        container.close()
        raise InputError(name, f"{path} has no video that can be read")
    return container


def frame_picture(frame: Any, aspect: float, path: Path, name: str) -> Image:
    """A decoded frame as an RGB or RGBA picture, upright and with square pixels.

    Args:
        path: of the video.

    Raises:
        InputError: field ``name``: its pixels are of a kind that cannot be converted.
    """
    from PIL import Image

    alpha = any(component.is_alpha for component in frame.format.components)
    # Without a target matrix, PyAV before 15 ignores the frame's own and turns HD colours (BT.709) a little
    # off.
    matrix = {"dst_colorspace": "ITU601"} if frame.colorspace == _BT709 else {}
    with reading(name, f"{path} holds a frame that cannot be converted to RGB"):
        pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24", **matrix)
    picture = Image.fromarray(pixels)
    if aspect != 1:
        wide, high = picture.size
        picture = picture.resize((max(1, round(wide * aspect)), high), Image.Resampling.LANCZOS)
    return picture.rotate(frame.rotation, expand=True) if frame.rotation % 90 == 0 else picture


def hdr_notes(frame: Any) -> list[str]:
    """What is to be said of a decoded frame's colors."""
    if getattr(frame, "color_trc", None) not in _HDR:  # PyAV before 15 does not tell
        return []
    return [
        "its colors are HDR (HLG/PQ), taken without tone mapping: convert the clip to SDR first if they look "
        "flat"
    ]


def open_picture(path: Path, name: str) -> Image:
    """A file's picture as RGB or RGBA, upright.

    Raises:
        InputError: field ``name``: it cannot be read.
    """
    from PIL import Image, ImageOps

    with (
        reading(name, f"{path} cannot be read as a picture"),
        Image.open(path, formats=_picture_formats()) as picture,
    ):
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I") or picture.mode == "F":
            return _from_deep(np.asarray(picture))
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _picture_formats() -> list[str]:
    """Those of `_PICTURE_FORMATS` that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [name for name in _PICTURE_FORMATS if name in Image.OPEN]


def _from_deep(grey: np.ndarray) -> Image:
    """Grey of 16 or 32 bits, which Pillow would clip at 255, as 8-bit RGB."""
    from PIL import Image

    top = 65535 if grey.dtype.kind in "ui" else 1.0
    return Image.fromarray((np.clip(grey / top, 0, 1) * 255 + 0.5).astype(np.uint8)).convert("RGB")


class Pictures:
    """Brings pictures to RGB and one size, and remembers what had to be done to them."""

    def __init__(self, size: tuple[int, int] | None, name: str) -> None:
        self.size = size
        self.name = name
        self.first: tuple[int, int] | None = None
        self.had_alpha = False
        self.hdr: list[str] = []

    def add(self, picture: Image, origin: str) -> np.ndarray:
        """(height, width, 3) uint8."""
        height_width = picture.size[::-1]
        if self.size is None and height_width != (self.first or height_width):
            raise InputError(
                self.name,
                f"{origin} is {_by(height_width)}, the first {_by(self.first)}; give a size for all",
            )
        self.first = self.first or height_width
        return np.asarray(_fill(self._opaque(picture), *(self.size or height_width)))

    def add_frame(self, frame: Any, aspect: float, path: Path) -> np.ndarray:
        """The same for a decoded frame, see :func:`frame_picture`."""
        self.hdr = self.hdr or hdr_notes(frame)
        return self.add(frame_picture(frame, aspect, path, self.name), str(path))

    def notes(self) -> list[str]:
        notes = ["transparent parts were put on black"] if self.had_alpha else []
        return notes + self.hdr + (crop_notes(*self.first, *self.size) if self.size else [])

    def _opaque(self, picture: Image) -> Image:
        from PIL import Image

        if picture.mode != "RGBA":
            return picture
        if picture.getextrema()[3][0] == 255:
            return picture.convert("RGB")
        self.had_alpha = True
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture).convert("RGB")


def _fill(picture: Image, height: int, width: int) -> Image:
    """Scaled to fill height x width, the rest cut; the same rounding as diffusers' ``resize_mode="crop"``."""
    from PIL import Image

    if picture.size == (width, height):
        return picture
    wide, high = picture.size
    narrower = wide / high < width / height
    scaled_width = width if narrower else wide * height // high
    scaled_height = high * width // wide if narrower else height
    left, top = scaled_width // 2 - width // 2, scaled_height // 2 - height // 2
    scaled = picture.resize((scaled_width, scaled_height), Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + width, top + height))


def crop_notes(from_height: int, from_width: int, height: int, width: int) -> list[str]:
    """What filling a size from another one takes."""
    if (from_height, from_width) == (height, width):
        return []
    text = f"resized from {from_width} x {from_height} to {width} x {height}"
    kept = (width / height) / (from_width / from_height)
    if kept < 0.995:
        return [f"{text}; {1 - kept:.0%} of the width is cut, half at each side"]
    if kept > 1.005:
        return [f"{text}; {1 - 1 / kept:.0%} of the height is cut, half at the top and half at the bottom"]
    return [text]


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


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def existing_path(path: str | Path, name: str) -> Path:
    """
    Raises:
        InputError: field ``name``: there is none.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(name, f"{path} does not exist")
    return path


def check_pixels(size: tuple[int, int] | None) -> None:
    """
    Raises:
        InputError: height or width is not a whole number from 1.
    """
    for what, pixels in zip(("height", "width"), size or (), strict=False):
        if isinstance(pixels, bool) or not isinstance(pixels, int | np.integer) or pixels < 1:
            raise InputError(what, f"{pixels!r} must be a whole number of pixels, 1 or more")


def check_choice(field_name: str, value: Any, choices: tuple[int, ...]) -> None:
    """
    Raises:
        InputError: a value that is not one of the choices, nor None.
    """
    if value is not None and (isinstance(value, bool) or value not in choices):
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        raise InputError(field_name, f"{value!r} is not one that Aether knows; use {listed}")


def _by(height_width: tuple[int, int] | None) -> str:
    height, width = height_width or (0, 0)
    return f"{width} x {height}"
