"""What the finished windows of a walk tell: where the cameras are, in what unit, and what the next is asked.

Every window has a unit of length of its own, its nearest depth. The world's is the first window's. A window's
camera path must be given in its own unit, which is not known before it is there: it is estimated from what
the last frame shows, seen along the path to come. What came of it is then measured on the frames it shares.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import about
from ..generation.latents import Decoded
from ..geometry.cameras import Cameras
from ..geometry.depth import MIN_DISPARITY
from ..geometry.raymap import from_cameras, to_cameras
from ..long.joining import Alignment, Merge, Similarity, fit_similarity, join_cameras, middle_disparity
from .following import Following, following
from .parts import Plan, bent
from .returns import known_view
from .steadying import first_points, seen_from, steadying

_NEAREST = 99.8
"""Percentile of the disparity that counts as its maximum: single pixels are noise."""

Read = Callable[[int, str], Any]
"""From a finished window and "rgb", "disparity" or "raymap" to its array, or what can be indexed alike."""


@dataclass(frozen=True)
class Task:
    """What a window is asked to do.

    Attributes:
        cameras: its path in the world.
        unit: estimate of the world's unit over the window's own: its path times this is in its own unit.
        goal: frame of the world that it is to end with, or None.
    """

    cameras: Cameras
    unit: float
    goal: int | None

    def raymap(self) -> np.ndarray:
        """The camera condition (F, 6, h, w), in the window's own unit and its first camera's frame."""
        way = self.cameras.relative_to_first()
        return from_cameras(way.poses, way.intrinsics, way.height, way.width, scale=self.unit)


@dataclass(frozen=True)
class Placed:
    """A finished window in the world.

    Attributes:
        task: what it was asked.
        alignment: what brings it there; its poses are from "path" where that was followed.
        following: its own cameras against those asked for.
        nearest: its largest disparity along its path, as far as its first frame tells.
    """

    task: Task
    alignment: Alignment
    following: Following
    nearest: float


class World:
    """Windows put in place one after the other. The same windows always give the same world.

    Args:
        plan: the path in windows.
        read: reads finished windows.
        returns: end a window with a known view where the path comes back to one.
    """

    def __init__(self, plan: Plan, read: Read, returns: bool = True) -> None:
        self.plan, self._read, self._returns = plan, read, returns
        self.placed: list[Placed] = []
        self._cameras: Cameras | None = None  # of all frames so far

    def home(self, frame: int) -> tuple[int, int]:
        """The window that a frame of the world is from, and its number in it."""
        first = [start + self.plan.overlap for start in self.plan.starts[1 : len(self.placed)]]
        window = bisect_right(first, frame)
        return window, frame - self.plan.starts[window]

    def picture(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8 of a frame of the world."""
        window, number = self.home(frame)
        return self._read(window, "rgb")[number]

    def disparity(self, frame: int) -> np.ndarray:
        """(H, W) of a frame, in the world's unit."""
        window, number = self.home(frame)
        factor = np.float32(self.placed[window].alignment.disparity)
        return self._read(window, "disparity")[number] * factor

    def next_task(self) -> Task:
        """What the window after those in place is asked to do."""
        window = len(self.placed)
        part = self.plan.part(window)
        if self._cameras is None:
            return Task(part, 1.0, None)
        start = self.plan.starts[window]
        here = self._cameras.poses[start]
        way = bent(part, here)
        # Divided by what the same estimate makes of the window before, whose unit is known.
        unit = nearest_along(self.disparity(start), way) / self.placed[-1].nearest
        goal = known_view(self._cameras.poses[: start + 1], way.poses, unit) if self._returns else None
        if goal is not None:
            way = bent(part, here, self._cameras.poses[goal])
        return Task(way, unit, goal)

    def steadying(self, task: Task, made: Decoded) -> np.ndarray:
        """(F,) factors that keep the scale of a window's disparities steady: by the known view that it ends
        with, else by the path, if that was followed, or by its own cameras."""
        window = len(self.placed)
        factor, _ = self._fit_factor(window, made.disparity, None)
        if task.goal is not None:
            end, _ = middle_disparity(made.disparity[-1:], self.disparity(task.goal)[None])
            return np.geomspace(1, end / factor, len(made.disparity)).astype(np.float32)
        asked = task.cameras.scaled(factor)
        own = to_cameras(made.raymap, asked.height, asked.width, square_pixels=True)
        cameras = asked if following(own, asked).followed else own
        return steadying(made.disparity, cameras)

    def place(self, task: Task) -> Placed:
        """Put the window in place that was made for a task.

        Raises:
            InputError: a window that shares nothing with the one before.
        """
        window, size = len(self.placed), (task.cameras.height, task.cameras.width)
        with about(f"window {window + 1}"):
            own = to_cameras(self._read(window, "raymap")[:], *size, square_pixels=True)
            factor, spread = self._fit_factor(window, self._read(window, "disparity"), task.goal)
            similarity, origin = self._fit_poses(window, own, factor)
        found = following(own, task.cameras.scaled(factor))
        cameras = task.cameras
        if found.followed:
            origin = "path"
        else:
            cameras = replace(own, poses=similarity.apply(own.poses))
        known = self._read(window, "disparity")[0]
        placed = Placed(
            task,
            Alignment(factor, similarity, np.ones(2), spread, origin),
            found,
            nearest_along(known, task.cameras.scaled(factor)),
        )
        self.placed.append(placed)
        joined = self._cameras
        start = self.plan.starts[window]
        self._cameras = cameras if joined is None else join_cameras(joined, cameras, start)
        return placed

    def merge(self) -> Merge:
        """How the windows in place become one clip, in a unit in which nothing is nearer than 1."""
        alignments = tuple(placed.alignment for placed in self.placed)
        unit = max(alignment.disparity for alignment in alignments)
        starts = self.plan.starts[: len(alignments)]
        return Merge(starts, self.plan.length, alignments, self._cameras.scaled(unit), unit)

    def _fit_factor(self, window: int, own: Any, goal: int | None) -> tuple[float, float]:
        """What brings a window's disparities to the world's, on the frames that both show; and its spread."""
        if not window:
            return 1.0, 0.0
        start, overlap = self.plan.starts[window], self.plan.overlap
        pairs = [(own[number], self.disparity(start + number)) for number in range(overlap)]
        if goal is not None:
            pairs.append((own[self.plan.length - 1], self.disparity(goal)))
        return middle_disparity(*(np.stack(side) for side in zip(*pairs, strict=True)))

    def _fit_poses(self, window: int, own: Cameras, factor: float) -> tuple[Similarity, str]:
        start, overlap = self.plan.starts[window], self.plan.overlap
        known = np.eye(4)[None] if self._cameras is None else self._cameras.poses[start : start + overlap]
        return fit_similarity(own.poses[: len(known)], known, 1 / factor)


def nearest_along(disparity: np.ndarray, way: Cameras) -> float:
    """The largest disparity that a picture's surfaces come to have along a path that begins with it.

    Args:
        disparity: (H, W), in the path's unit.
        way: cameras of H x W pictures.
    """
    points = first_points(disparity, way)
    seen = (seen_from(points, way, frame)[0] for frame in range(len(way)))
    nearest = [np.percentile(1 / depth, _NEAREST) for depth in seen if len(depth)]
    return float(max(nearest, default=MIN_DISPARITY))
