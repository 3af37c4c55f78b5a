"""When the frames of a video are shown, and the place of each, read from its packets without decoding.

A frame is known by its place in the decoder's output. Time stamps only give rates: they may be missing,
repeat, jump, begin again where files were joined, or be the times of decoding instead of those of showing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

DEEPEST = 16
"""No codec shows a frame more than this many frames later than it was decoded."""
_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 10.0  # seconds; longer is a fault of the file, unless the video is that slow
_STALL = 0.1  # of the usual gap
_JITTER = 3  # frames back that stamps of a codec without reordering may be out of order
_HIDDEN, _COUNTED = -1, -2


class Stamp(NamedTuple):
    """What a packet says about its frame: times in ticks of the stream, None where it does not say."""

    pts: int | None
    dts: int | None
    key: bool
    hidden: bool = False


class StampReader:
    """Collects the stamps of a video's packets, in parts: a part ends where the stamps begin again.

    Args:
        tick: seconds of the stream's unit of time.
        reorders: whether the codec may show frames in another order than it decodes them.
    """

    def __init__(self, tick: float, reorders: bool) -> None:
        self.tick, self.reorders = tick, reorders
        self.parts: list[list[Stamp]] = [[]]
        self.seconds = 0.0
        """How long the frames last; jumps count as the longest pause."""
        self._highest: int | None = None
        self._dts: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def add(self, stamp: Stamp) -> None:
        if stamp.pts is not None and self._highest is not None:
            self.seconds += min(max(0.0, (stamp.pts - self._highest) * self.tick), _LONGEST_PAUSE)
            if self._begins_again(stamp):
                self.parts.append([])
                self._highest = None
        self.parts[-1].append(stamp)
        if stamp.pts is not None:
            self._highest = stamp.pts if self._highest is None else max(self._highest, stamp.pts)
        self._dts = stamp.dts

    def _begins_again(self, stamp: Stamp) -> bool:
        """Whether the frame would have to be shown before others that no decoder holds back for it."""
        if stamp.pts >= self._highest:
            return False
        if self.reorders and stamp.key and None not in (stamp.dts, self._dts) and stamp.dts < self._dts:
            return True
        part, reach = self.parts[-1], DEEPEST if self.reorders else _JITTER
        latest = [other.pts for other in part[-reach - 1 :] if other.pts is not None]
        return (len(part) > reach or not self.reorders) and stamp.pts <= min(latest)


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in the order they are shown.

    Attributes:
        times: of each frame in seconds, increasing, from 0.
        places: of each packet, in the order of the file: the place of its frame, or that it shows none, or
            that only counting the decoded frames gives it.
        order: of each packet: how many frames that are shown were decoded before its own.
        starts: of each packet: the place of the first frame of its part.
        undecodable: frames at the beginning that are not among these, since they come before a key frame.
        notes: what is wrong with the time stamps.
    """

    times: list[float]
    places: list[int]
    order: list[int]
    starts: list[int]
    undecodable: int
    notes: list[str]


def in_place(decoded: Iterable[tuple[int | None, Any]], index: FrameIndex) -> Iterator[tuple[int, Any]]:
    """(place, frame) of decoded frames, in the order they come from the decoder.

    Args:
        decoded: frames, each after the number of the packet it came from, or None where that is not known.
    """
    counter, number, last = _Counter(0), -1, len(index.places) - 1
    for packet, frame in decoded:
        number = number + 1 if packet is None else packet
        known = min(number, last)  # after it, where only the beginning was indexed, there may be more
        if index.starts[known] != counter.start:
            yield from counter.finish()
            counter = _Counter(index.starts[known])
        place = index.places[known]
        if place == _COUNTED:
            yield from counter.add(index.order[known] + number - known, frame)
        elif place != _HIDDEN:
            yield (place if number <= last else len(index.times)), frame
    yield from counter.finish()


class _Counter:
    """Places of a part's frames by counting them.

    A packet that gives no frame leaves its place empty. Whether one is lost or only shown later is known when
    the decoder has given its frame, or so many others that it can no longer come; until then frames wait.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self._placed, self._given = start, 0
        self._highest = self._reached = start - 1
        self._missing: dict[int, int] = {}
        self._lost: list[int] = []
        self._waiting: deque[tuple[int, Any]] = deque()

    def add(self, number: int, frame: Any) -> Iterator[tuple[int, Any]]:
        """What can now be placed.

        Args:
            number: in the order of decoding, of all frames of the video that are shown.
        """
        self._missing |= {between: self._given for between in range(self._highest + 1, number)}
        self._missing.pop(number, None)
        self._highest = max(self._highest, number)
        self._given += 1
        self._waiting.append((number, frame))
        yield from self._place(self._given - DEEPEST)

    def finish(self) -> Iterator[tuple[int, Any]]:
        """The rest, when no further frames come."""
        yield from self._place(self._given + 1)

    def _place(self, expired: int) -> Iterator[tuple[int, Any]]:
        """Frames that wait for nothing, but for what was missing before ``expired`` frames were given."""
        self._lost += [number for number, given in self._missing.items() if given < expired]
        self._missing = {number: given for number, given in self._missing.items() if given >= expired}
        first = min(self._missing, default=self._highest + 1)
        while self._waiting and max(self._reached, self._waiting[0][0]) < first:
            number, frame = self._waiting.popleft()
            self._reached = max(self._reached, number)
            before = sum(lost < self._reached for lost in self._lost)
            self._lost = [lost for lost in self._lost if lost > self._reached]
            self._placed += before + 1
            yield self._placed - 1, frame


def frame_index(reader: StampReader, rate: float, leave_out: int = 0) -> FrameIndex:
    """Order the frames whose stamps were read.

    Args:
        rate: frames a second where the stamps do not give it.
        leave_out: this many frames at the end, whose order frames that were not read may change.
    """
    # Frames before the first key frame, as where a recording was cut, are not decoded.
    begun, key = reader.parts[0], next((n for n, stamp in enumerate(reader.parts[0]) if stamp.key), 0)
    cut = [stamp._replace(hidden=stamp.hidden or n < key) for n, stamp in enumerate(begun)]
    parts = [cut, *reader.parts[1:]]
    shown = [[stamp for stamp in part if not stamp.hidden] for part in parts]
    times, joints = _times([_seconds(part, reader.tick, rate) for part in shown], rate)
    times, notes = _close_jumps(times, rate)
    starts = np.cumsum([0, *(len(part) for part in shown[:-1])])
    return FrameIndex(
        times[: len(times) - leave_out],
        _places(parts, shown, reader.reorders),
        list(accumulate((not stamp.hidden for part in parts for stamp in part), initial=0)),
        np.repeat(starts, [len(part) for part in parts]).tolist(),
        len(reader.parts[0]) - len(shown[0]) - sum(stamp.hidden for stamp in reader.parts[0]),
        [*_joint_notes([times[frame] for frame in joints]), *notes, *_stamp_notes(shown, rate)],
    )


def _places(parts: list[list[Stamp]], shown: list[list[Stamp]], reorders: bool) -> list[int]:
    places, before = [], 0
    for part, visible in zip(parts, shown, strict=True):
        ranks = iter(_ranks([stamp.pts for stamp in visible], reorders))
        for stamp in part:
            rank = _HIDDEN if stamp.hidden else next(ranks)
            places.append(rank + before if rank >= 0 else rank)
        before += len(visible)
    return places


def _ranks(pts: list[int | None], reorders: bool) -> list[int]:
    """The order in which frames are shown, where their stamps can be those of showing."""
    if None not in pts and len(set(pts)) == len(pts):
        ranks = np.argsort(np.argsort(np.array(pts, dtype=np.float64), kind="stable"), kind="stable")
        delays = np.abs(ranks - np.arange(len(pts)))
        # Stamps that rise from packet to packet are the times of decoding, unless the two are the same.
        if 0 < delays.max(initial=0) <= DEEPEST if reorders else not delays.any():
            return ranks.tolist()
    return [_COUNTED] * len(pts)


def _seconds(stamps: list[Stamp], tick: float, rate: float) -> np.ndarray:
    """Of each frame in the order they are shown, increasing; without stamps, by the rate."""
    known = [number for number, stamp in enumerate(stamps) if stamp.pts is not None]
    if not known:
        return np.arange(len(stamps)) / rate
    values = np.sort(np.array([stamps[number].pts for number in known], dtype=np.float64)) * tick
    return _spread(np.interp(np.arange(len(stamps)), known, values), rate)


def _spread(seconds: np.ndarray, rate: float) -> np.ndarray:
    """Frames of one time at even gaps up to the next time."""
    distinct, first, counts = np.unique(seconds, return_index=True, return_counts=True)
    usual = float(np.median(np.diff(distinct))) if len(distinct) > 1 else counts[0] / rate
    room = np.minimum(np.diff(distinct, append=distinct[-1] + usual), usual)
    steps = np.repeat(np.where(counts > 1, room / counts, 0), counts)
    return np.repeat(distinct, counts) + steps * (np.arange(len(seconds)) - np.repeat(first, counts))


def _times(parts: list[np.ndarray], rate: float) -> tuple[list[float], list[int]]:
    """All parts one after the other from 0, and the frame that each but the first begins with."""
    parts = [part for part in parts if len(part)]
    gaps = np.concatenate([[], *map(np.diff, parts)])
    usual = float(np.median(gaps)) if len(gaps) else 1 / rate
    times: list[float] = []
    joints = []
    for part in parts:
        joints.append(len(times))
        start = times[-1] + usual if times else 0.0
        times += (part - part[0] + start).tolist()
    return times, joints[1:]


def _close_jumps(times: list[float], rate: float) -> tuple[list[float], list[str]]:
    """Without the longest gaps, which are no pauses; and what is reported of uneven ones."""
    if len(times) < 3:
        return times, []
    gaps = np.diff(times)
    usual = float(np.median(gaps)) or 1 / rate
    gaps[gaps <= 0] = usual  # rounded away beside absurd time stamps
    jumps = gaps > max(_LONGEST_PAUSE, 10 * usual)
    pauses = (gaps > max(_PAUSE, 5 * usual)) & ~jumps
    closed = np.cumsum([0.0, *np.where(jumps, usual, gaps)])
    stalls = np.flatnonzero(gaps < _STALL * usual)
    notes = []
    if len(stalls):
        where = f"{len(stalls)} frames, first at {closed[stalls[0]]:.1f} s"
        notes.append(f"time stamps stand still for {where}: few of them are used")
    notes += _gap_notes("jump", "taken out", gaps[jumps], closed[:-1][jumps])
    return closed.tolist(), notes + _gap_notes("pause", "kept", gaps[pauses], closed[:-1][pauses])


def _gap_notes(kind: str, outcome: str, gaps: np.ndarray, places: np.ndarray) -> list[str]:
    if not len(gaps):
        return []
    first = f"time stamps {kind} by {gaps[0]:.1f} s at {places[0]:.1f} s"
    if len(gaps) == 1:
        return [f"{first}: {outcome}"]
    return [f"{first} and in {len(gaps) - 1} more places, {gaps.sum():.1f} s in all: {outcome}"]


def _joint_notes(places: Sequence[float]) -> list[str]:
    if not places:
        return []
    listed = ", ".join(f"{place:.1f}" for place in places[:3]) + (", ..." if len(places) > 3 else "")
    return [f"time stamps begin again at {listed} s: {len(places) + 1} parts are read one after the other"]


def _stamp_notes(shown: Sequence[list[Stamp]], rate: float) -> list[str]:
    parts = [[stamp.pts for stamp in part if stamp.pts is not None] for part in shown]
    frames, known = sum(map(len, shown)), sum(map(len, parts))
    if not known and frames:
        return [f"the file has no time stamps: taken as {rate:.4g} frames a second"]
    repeated = known - sum(len(set(part)) for part in parts)
    notes = [f"{frames - known} frames have no time stamp: placed evenly"] if known < frames else []
    return notes + ([f"{repeated} frames repeat a time stamp: spread evenly"] if repeated else [])
