"""What moves in a glTF file: its animations' tracks, by the node or camera that they move.

Straight tracks are sampled straight, quaternions by Slerp; stepped ones are held; cubic ones are Hermite
splines with their tangents per second, quaternions normalised afterwards. Source: glTF 2.0, "Animations" and
appendix C; KHR_animation_pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from .camera_times import turns_at, values_at
from .glb import Gltf

SAME_KEY = 1e-4  # seconds; exporters round the same moment differently from track to track
_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3, "yfov": 1}
_POINTER = re.compile(r"/(nodes|cameras)/(\d+)/(?:perspective/)?(\w+)")


class Target(NamedTuple):
    """``kind``: "nodes" or "cameras"."""

    kind: str
    number: int


@dataclass(frozen=True)
class Track:
    """Values (K, W) at rising times (K,) in seconds; of cubic ones (K, 3, W): tangent, value, tangent."""

    times: np.ndarray
    values: np.ndarray
    interpolation: str
    turns: bool

    @property
    def curved(self) -> bool:
        return self.interpolation != "LINEAR" and len(self.times) > 1

    def at(self, times: np.ndarray) -> np.ndarray:
        """(N, W) at times; the first and the last value go on."""
        if self.interpolation == "CUBICSPLINE":
            values = self._spline(times)
            return values / np.linalg.norm(values, axis=1, keepdims=True) if self.turns else values
        if self.interpolation == "STEP":
            return self.values[self._before(times + SAME_KEY / 2, len(self.times) - 1)]
        return (turns_at if self.turns else values_at)(times, self.times, self.values)

    def _before(self, times: np.ndarray, last: int) -> np.ndarray:
        return np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, last)

    def _spline(self, times: np.ndarray) -> np.ndarray:
        if len(self.times) == 1:
            return np.repeat(self.values[:, 1], len(times), axis=0)
        key = self._before(times, len(self.times) - 2)
        span = (self.times[key + 1] - self.times[key])[:, None]
        t = np.clip((times[:, None] - self.times[key][:, None]) / span, 0, 1)
        (_, start, leaving), (arriving, end, _) = (self.values[n].swapaxes(0, 1) for n in (key, key + 1))
        ahead = 3 * t**2 - 2 * t**3
        bends = span * ((t**3 - 2 * t**2 + t) * leaving + (t**3 - t**2) * arriving)
        return (1 - ahead) * start + ahead * end + bends


class Animations:
    """The tracks of a file. Of each target the first animation that moves it counts."""

    def __init__(self, gltf: Gltf) -> None:
        self._gltf = gltf
        self._channels: dict[Target, dict[str, list[tuple[int, int]]]] = {}
        for number, animation in enumerate(gltf.document.get("animations", ())):
            for channel in animation["channels"]:
                target, path = _target(channel["target"])
                if target is not None:
                    paths = self._channels.setdefault(target, {})
                    paths.setdefault(path, []).append((number, channel["sampler"]))

    def tracks(self, target: Target) -> dict[str, Track]:
        """By name, as far as they are there: translation, rotation, scale and yfov.

        Raises:
            InputError: times that do not rise, values that are not finite or too few.
        """
        paths, found = self._channels.get(target, {}), {}
        for first in self._numbers(target)[:1]:
            for path in _WIDTHS:
                samplers = [sampler for number, sampler in paths.get(path, ()) if number == first]
                if samplers:
                    found[path] = self._track(first, samplers[0], path)
        return found

    def notes(self, targets: Iterable[Target]) -> list[str]:
        """What of these targets' animations is not sampled."""
        notes = []
        for target in targets:
            numbers = self._numbers(target)
            others = [path for path in self._channels.get(target, ()) if path not in _WIDTHS]
            if target.kind == "cameras" and others:
                notes.append(f"the animation of the camera's {', '.join(sorted(others))} was left out")
            if len(numbers) > 1:
                name = self._gltf.document["animations"][numbers[0]].get("name", f"animation {numbers[0]}")
                notes.append(f"{len(numbers)} animations move the same thing: {name} was taken")
        return notes

    def _numbers(self, target: Target) -> list[int]:
        paths = self._channels.get(target, {})
        return sorted({number for path in _WIDTHS for number, _ in paths.get(path, ())})

    def _track(self, animation: int, number: int, path: str) -> Track:
        sampler = self._gltf.document["animations"][animation]["samplers"][number]
        interpolation = sampler.get("interpolation", "LINEAR")
        if interpolation not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise InputError("file", f"keys of the kind {interpolation!r} are not read")
        times = finite_array(self._gltf.floats(sampler["input"])[:, 0], "times", (None,))
        if (np.diff(times) <= 0).any():
            raise InputError("times", "of an animation's keys do not rise")
        parts = (3,) if interpolation == "CUBICSPLINE" else ()
        shape = (len(times), *parts, _WIDTHS[path])
        values = self._gltf.floats(sampler["output"])
        if values.size != np.prod(shape):
            raise InputError("poses", f"an animation has {len(times)} times and {len(values)} values")
        values = finite_array(values.reshape(shape), "poses", (None,) * len(shape))
        return Track(times, values, interpolation, path == "rotation")


def _target(target: dict[str, Any]) -> tuple[Target | None, str]:
    """What a channel moves, and which of its properties."""
    if target["path"] != "pointer":
        node = target.get("node")
        return (None if node is None else Target("nodes", node)), target["path"]
    pointer = target["extensions"]["KHR_animation_pointer"]["pointer"]
    found = _POINTER.fullmatch(pointer)
    return (Target(found[1], int(found[2])), found[3]) if found else (None, pointer)


def merged_times(tracks: Iterable[Track]) -> np.ndarray:
    """The times of all tracks, rising; those of two tracks that differ by rounding are one."""
    keys = [track.times for track in tracks]
    times = np.unique(np.concatenate(keys))
    same = min(SAME_KEY, *(np.diff(one).min(initial=np.inf) / 2 for one in keys))  # never two of one track
    return times[np.diff(times, prepend=-np.inf) > same]
