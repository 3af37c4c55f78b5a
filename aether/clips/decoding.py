"""Videos frame by frame: opened as files and nothing else, one stream of them, colors and orientation."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EINVAL
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, reading
from .frame_index import DEEPEST, FrameIndex, Stamp, StampReader, frame_index, in_place
from .orientation import display_matrix, turn_notes, turned

if TYPE_CHECKING:
    from PIL.Image import Image

_BT709 = 1  # FFmpeg's number for it
_HDR = (16, 18)  # FFmpeg's numbers of the transfer curves PQ and HLG
_TEXT_CODECS = {"ansi", "bintext", "xbin", "idf"}  # FFmpeg draws any text file as a video
_JOINABLE = 0x200  # FFmpeg's AVFMT_TS_DISCONT: the length in such a file's header is that of its last part
_READ_IN_PART = {"flv", "live_flv", "matroska,webm"}
_TAIL = 0.1  # of a file, that sound and indices may take after the last frame
_PROBED_PACKETS = 1000
_FALLBACK_RATE = 25.0


@dataclass(frozen=True)
class VideoIndex:
    """A video's chosen stream, the frames in it, and what is to be reported of both.

    Attributes:
        stream: its number in the file.
        frames: all of them, or the beginning that was asked for.
        duration: of the whole video in seconds where ``frames`` is its beginning, infinite where that is not
            known; else None.
        notes: of streams that are not read and of faulty time stamps.
    """

    stream: int
    frames: FrameIndex
    duration: float | None
    notes: list[str]


@dataclass(frozen=True)
class Decoded:
    """A decoded frame.

    Attributes:
        place: in the order of showing, from 0.
        frame: PyAV's.
        aspect: width of a pixel by its height.
    """

    place: int
    frame: Any
    aspect: float

    def notes(self) -> list[str]:
        """What is reported of it."""
        notes = turn_notes(display_matrix(self.frame))
        if getattr(self.frame, "color_trc", None) in _HDR:  # PyAV before 15 does not have it
            notes.append(
                "its colors are HDR (HLG/PQ), taken without tone mapping: convert the clip to SDR first if "
                "they look flat"
            )
        if self.frame.interlaced_frame:
            notes.append("it is interlaced and taken as it is: deinterlace it first if edges look like combs")
        return notes


def index_video(path: Path, name: str, beginning: tuple[int, float] | None = None) -> VideoIndex:
    """Read the packets' time stamps, without decoding.

    Args:
        beginning: how many frames to read, and at least how many seconds; by default all.

    Raises:
        InputError: field ``name``: the file cannot be read, or has no video.
    """
    frames, seconds = beginning or (math.inf, math.inf)
    number, notes = choose_stream(path, name)
    duration, end = None, 0
    with _opened(path, name) as container:
        stream = container.streams[number]
        reader = StampReader(float(stream.time_base or 1), bool(stream.codec_context.has_b_frames))
        reached: deque[float] = deque(maxlen=DEEPEST + 1)
        for packet in _packets(container, stream):
            reader.add(Stamp(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
            reached.append(reader.seconds)
            end = (packet.pos or 0) + packet.size
            if len(reader) > frames + DEEPEST and reached[0] > seconds:
                duration = _length(container, stream)
                break
        if duration is None:
            notes += _tail_notes(container.format.name, end / path.stat().st_size)
        index = frame_index(reader, _rate(stream), 0 if duration is None else DEEPEST)
    if duration is not None and (index.notes or duration <= index.times[-1]):
        duration = math.inf  # the file's own figure stands on the same time stamps
    return VideoIndex(number, index, duration, notes + index.notes)


def _tail_notes(container: str, read: float) -> list[str]:
    """FFmpeg reads one FLV file, or two Matroska files, of several that were joined."""
    if container not in _READ_IN_PART or read > 1 - _TAIL:
        return []
    return [
        f"the last {1 - read:.0%} of the file hold no frame that is found: if several files were joined, "
        "join them with a video tool instead"
    ]


def _rate(stream: Any) -> float:
    rate = float(stream.guessed_rate or stream.average_rate or _FALLBACK_RATE)
    return rate if math.isfinite(rate) and rate > 0 else _FALLBACK_RATE


def _length(container: Any, stream: Any) -> float:
    if container.format.flags & _JOINABLE:
        return math.inf
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else math.inf


def lost_notes(video: VideoIndex, lost: int) -> list[str]:
    """What is reported where this many frames at the beginning of those indexed do not decode."""
    lost += video.frames.undecodable
    return [f"the file's first frames ({lost}) cannot be decoded: the clip begins after them"] if lost else []


def decode_video(path: Path, name: str, video: VideoIndex) -> Iterator[Decoded]:
    """Frames in the order they are shown; those that fail to decode are left out."""
    with _opened(path, name) as container:
        stream = container.streams[video.stream]
        stream.thread_type = "AUTO"
        aspect = float(stream.sample_aspect_ratio or 1)
        decoded = ((frame.pts, frame) for frame in _frames(container, stream))
        for place, frame in in_place(decoded, video.frames):
            yield Decoded(place, frame, aspect)


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; their ``pts`` is the number of the packet that they came from."""
    from av.error import FFmpegError

    for number, packet in enumerate(_packets(container, stream)):
        packet.pts = packet.dts = number
        # A packet that is damaged takes no more with it than what was predicted from it.
        with suppress(FFmpegError):
            yield from packet.decode()
    with suppress(FFmpegError):
        yield from stream.decode(None)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Those that are not empty, up to the first that cannot be read."""
    from av.error import FFmpegError

    with suppress(FFmpegError):
        for packet in container.demux(stream):
            if packet.size:
                yield packet


def choose_stream(path: Path, name: str) -> tuple[int, list[str]]:
    """The number of the stream to read, and a note where there are several.

    Pictures (covers, thumbnails, streams of one frame) are skipped. Of the rest the one that is marked as the
    default is taken, of several the largest.

    Raises:
        InputError: field ``name``: there is none.
    """
    with _opened(path, name) as container:
        streams = container.streams.video
        unread = {stream.index: reason for stream in streams if (reason := _why_not(stream))}
        usable = [stream for stream in streams if stream.index not in unread]
        if not usable:
            only = f", only {' and '.join(sorted(set(unread.values())))}" if unread else ""
            raise InputError(name, f"{path} has no video that can be read{only}")
        if len(usable) > 1:
            packets = _count_packets(container, usable)
            pictures = {number: "a single picture" for number in packets if packets[number] < 2}
            if len(pictures) < len(usable):
                unread |= pictures
        chosen = max((stream for stream in usable if stream.index not in unread), key=_preference)
        others = [stream for stream in streams if stream.index != chosen.index]
        listed = ", ".join(f"{other.index} ({unread.get(other.index) or _size(other)})" for other in others)
        note = f"video stream {chosen.index} ({_size(chosen)}) of the file is read, not stream {listed}"
        return chosen.index, [note] if others else []


def _why_not(stream: Any) -> str | None:
    from av.stream import Disposition

    if stream.codec_context is None:
        return "what cannot be decoded"
    if stream.codec_context.name in _TEXT_CODECS:
        return "text"
    disposition = Disposition(stream.disposition)  # a flag in PyAV 14, a number in later versions
    if disposition & Disposition.timed_thumbnails:
        return "thumbnails"
    if disposition & Disposition.attached_pic:
        return "a cover picture"
    return "a still picture" if disposition & Disposition.still_image else None


def _count_packets(container: Any, streams: list[Any]) -> Counter[int]:
    """How many packets each has at the beginning of the file; whether it is one is all that matters."""
    found = Counter({stream.index: 0 for stream in streams})
    for packet in islice(_packets(container, streams), _PROBED_PACKETS):
        found[packet.stream_index] += 1
        if min(found.values()) > 1:
            break
    return found


def _preference(stream: Any) -> tuple[bool, int, int]:
    from av.stream import Disposition

    default = bool(Disposition(stream.disposition) & Disposition.default)
    return default, stream.codec_context.width * stream.codec_context.height, -stream.index


def _size(stream: Any) -> str:
    return f"{stream.codec_context.width} x {stream.codec_context.height}"


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    """PyAV's container of a file.

    FFmpeg takes a name that looks like an address for one, and opens what playlists name. So it is given the
    opened file, and may open nothing by itself.
    """
    import av

    try:
        opened = _File(path)
    except OSError as error:
        raise InputError(name, f"{path} cannot be opened ({error.strerror})") from error
    with opened as file:
        file.name = f"clip{path.suffix}"  # FFmpeg also looks at the ending
        try:
            # Titles in another encoding than UTF-8 are of no use here.
            container = av.open(
                file, metadata_errors="ignore", container_options={"protocol_whitelist": "none"}
            )
        except (av.error.FFmpegError, ValueError) as error:
            words = getattr(error, "strerror", None) or error
            raise InputError(name, f"{path} cannot be read as a video ({words})") from error
        with container:
            yield container


class _File(FileIO):
    """A file whose faulty seeks, which damaged headers ask for, are FFmpeg's to deal with."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            return -(error.errno or EINVAL)


def frame_picture(decoded: Decoded, path: Path, name: str) -> Image:
    """A decoded frame as an RGB or RGBA picture, upright and with square pixels.

    Args:
        path: of the video.

    Raises:
        InputError: field ``name``: its pixels are of a kind that cannot be converted.
    """
    from PIL import Image

    frame = decoded.frame
    alpha = any(component.is_alpha for component in frame.format.components)
    # Without a target matrix, PyAV before 15 ignores the frame's own and turns HD colours (BT.709) a little
    # off.
    matrix = {"dst_colorspace": "ITU601"} if frame.colorspace == _BT709 else {}
    with reading(name, f"{path} holds a frame that cannot be converted to RGB"):
        pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24", **matrix)
    picture = Image.fromarray(pixels)
    if decoded.aspect != 1:
        wide, high = picture.size
        picture = picture.resize((max(1, round(wide * decoded.aspect)), high), Image.Resampling.LANCZOS)
    return turned(picture, display_matrix(frame))
