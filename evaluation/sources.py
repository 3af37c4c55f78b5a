"""What is scored and what it is scored against: result folders, .npz files, rendered scenes.

A sequence is read part by part, when it is asked for: a data set's depth does not fit into memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aether.arrays import finite_array, read_npz
from aether.clips.clip import read_every_frame
from aether.clips.pictures import check_frames
from aether.defaults import BASE_FPS
from aether.errors import InputError, about, reading
from aether.formats.units import check_rate
from aether.geometry.cameras import Cameras

if TYPE_CHECKING:
    from aether.miniature import WorldClip


@dataclass(frozen=True)
class Streams:
    """A result's streams, each None where it has none.

    Attributes:
        rgb: (F, H, W, 3) float32 in [0, 1].
        disparity: (F, H, W).
        raymap: (F, 6, h, w).
    """

    rgb: np.ndarray | None
    disparity: np.ndarray | None
    raymap: np.ndarray | None


class Truth(Protocol):
    """A sequence whose depth or cameras are known. Both raise InputError where they are missing."""

    def depth(self) -> np.ndarray:
        """(F, H, W) along z; NaN, infinite, zero or negative where it is not known."""

    def poses(self) -> np.ndarray:
        """(F, 4, 4) camera to world, OpenCV axes."""


class Prediction(Protocol):
    """A result to score."""

    crops: bool
    """Whether it shows the middle of the input, the rest cut, as ``python -m aether`` does."""

    def size(self) -> tuple[int, int, int]:
        """Frames, height and width."""

    def fps(self) -> float:
        """Frames per second."""

    def depth(self, far: float | None = None) -> np.ndarray:
        """(F, H, W) along z, of any scale; see :func:`depth_of`."""

    def poses(self) -> np.ndarray:
        """(F, 4, 4) camera to world, OpenCV axes."""

    def streams(self) -> Streams:
        """Everything that there is of RGB, disparity and raymap."""


class ArrayFile:
    """A .npz file in the layout of docs/evaluation.md, as prediction or as truth."""

    crops = False

    def __init__(self, path: Path, field: str = "predictions") -> None:
        self.path = path
        self._field = field

    def size(self) -> tuple[int, int, int]:
        arrays = [self._get(name) for name in ("depth", "disparity", "rgb")]
        shape = next((array.shape for array in arrays if array is not None and array.ndim >= 3), None)
        if shape is None:
            raise InputError(self._field, f"{self.path} has none of depth, disparity and rgb")
        return shape[:3]

    def fps(self) -> float:
        fps = self._get("fps")
        return float(BASE_FPS) if fps is None else checked_rate(fps, self.path)

    def depth(self, far: float | None = None) -> np.ndarray:
        return depth_of(self._get("depth"), self._get("disparity"), far, self.path)

    def poses(self) -> np.ndarray:
        poses = self._get("poses")
        if poses is None:
            raise InputError("poses", f"{self.path} has none")
        return checked_poses(poses, self.path)

    def streams(self) -> Streams:
        rgb = self._get("rgb")
        rgb = None if rgb is None else check_frames(rgb, "rgb")
        return Streams(rgb, self._get("disparity"), self._get("raymap"))

    def _get(self, name: str) -> np.ndarray | None:
        return read_npz(self.path, self._field, [name]).get(name)


class RunFolder:
    """A folder that ``python -m aether`` wrote."""

    crops = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> tuple[int, int, int]:
        return len(self._cameras), self._cameras.height, self._cameras.width

    def fps(self) -> float:
        return checked_rate(self._document.get("fps"), self.path / "cameras.json")

    def depth(self, far: float | None = None) -> np.ndarray:
        arrays = self._arrays("depth", "disparity")
        return depth_of(arrays.get("depth"), arrays.get("disparity"), far, self.path / "depth.npz")

    def poses(self) -> np.ndarray:
        return self._cameras.poses

    def streams(self) -> Streams:
        """RGB as the video's compression left it."""
        height, width = self.size()[1:]
        # Videos of odd sizes have a row or column more.
        rgb = read_every_frame(self._file("rgb.mp4"), "rgb")[:, :height, :width].astype(np.float32) / 255
        arrays = self._arrays("disparity", "raymap")
        return Streams(rgb, arrays.get("disparity"), arrays.get("raymap"))

    def _arrays(self, *names: str) -> dict[str, np.ndarray]:
        return read_npz(self._file("depth.npz"), "predictions", names)

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise InputError("predictions", f"{self.path} has no {name}")
        return path

    @cached_property
    def _document(self) -> dict[str, Any]:
        path = self._file("cameras.json")
        with reading("cameras", f"{path} is not JSON of cameras"):
            return dict(json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def _cameras(self) -> Cameras:
        path, document = self.path / "cameras.json", self._document
        with about(path), reading("cameras", "holds no cameras as aether writes them"):
            frames = document["frames"]
            arrays = [np.array([frame[name] for frame in frames]) for name in ("pose", "intrinsics")]
            return Cameras(*arrays, int(document["height"]), int(document["width"]))


class SyntheticScene:
    """The truth of a scene of the synthetic world; sky has no depth."""

    def __init__(self, seed: int, size: tuple[int, int, int], fps: float) -> None:
        self._seed, self._size, self._fps = seed, size, fps

    @cached_property
    def _clip(self) -> WorldClip:
        from aether.miniature import random_scene, render

        # Depth takes one ray a pixel, however many color takes.
        return render(random_scene(self._seed), *self._size, self._fps, samples=1)

    def depth(self) -> np.ndarray:
        return np.where(self._clip.sky, np.nan, self._clip.depth)

    def poses(self) -> np.ndarray:
        return self._clip.poses


@dataclass(frozen=True)
class Match:
    """A prediction and what it is scored against."""

    name: str
    prediction: Prediction
    truth: Truth


def open_predictions(path: str | Path, field: str = "predictions") -> dict[str, Prediction]:
    """One result, or a folder of results by sequence: subfolders written by aether, and .npz files.

    Raises:
        InputError: nothing there to score.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(field, f"{path} does not exist")
    if path.is_file() or _is_run(path):
        return {path.stem if path.is_file() else path.resolve().name: _open(path, field)}
    entries = [entry for entry in sorted(path.iterdir()) if _is_run(entry) or entry.suffix == ".npz"]
    if not entries:
        raise InputError(field, f"{path} holds neither a run of aether, nor folders of such, nor .npz files")
    names = [entry.stem if entry.is_file() else entry.name for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(field, f"{path} holds {twice} both as a folder and as a file")
    return {name: _open(entry, field) for name, entry in zip(names, entries, strict=True)}


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("depth.npz", "cameras.json"))


def _open(path: Path, field: str) -> Prediction:
    if path.is_dir():
        return RunFolder(path)
    if path.suffix != ".npz":
        raise InputError(field, f"{path} is neither a folder nor a .npz file")
    return ArrayFile(path, field)


def match(
    predictions: dict[str, Prediction],
    truths: dict[str, Any],
    *,
    sequences: Sequence[str] | None = None,
    one_truth: bool = False,
) -> list[Match]:
    """Pair predictions and truths by name.

    Args:
        sequences: names of those to score; by default all that the truth has.
        one_truth: every prediction is paired with the only truth, whatever its name.

    Raises:
        InputError: a named sequence that is not there, or has no prediction or no truth.
    """
    if one_truth:
        truths = dict.fromkeys(predictions, next(iter(truths.values())))
    wanted = sequences or list(truths)
    for found, field, what in ((truths, "truth", "truth"), (predictions, "predictions", "prediction")):
        missing = [name for name in wanted if name not in found]
        if missing:
            hint = "name those to score with --sequences" if field == "predictions" else f"has {_few(found)}"
            raise InputError(field, f"no {what} for {_few(missing)}; {hint}")
    return [Match(name, predictions[name], truths[name]) for name in wanted]


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def depth_of(
    depth: np.ndarray | None, disparity: np.ndarray | None, far: float | None, origin: Path
) -> np.ndarray:
    """Depth from what there is of depth and disparity.

    Args:
        far: with it, depth is taken from the disparity where there is one, nothing farther than ``far``, as
            in the reference's evaluation. Without it, depth is taken as it is where there is one.

    Raises:
        InputError: neither, or not (F, H, W) numbers. NaN is left for the metric to judge: it may lie where
            nothing is measured.
    """
    if disparity is not None and (far is not None or depth is None):
        with np.errstate(divide="ignore"):
            return np.clip(1 / _volume(disparity, "disparity", origin), 0, np.inf if far is None else far)
    if depth is None:
        raise InputError("depth", f"{origin} has neither depth nor disparity")
    return _volume(depth, "depth", origin)


def _volume(array: np.ndarray, field: str, origin: Path) -> np.ndarray:
    if array.ndim != 3 or array.dtype.kind not in "fiu" or array.size == 0:
        raise InputError(
            field, f"{origin} holds {array.dtype} {array.shape}; it must be (frames, height, width) numbers"
        )
    return array


def checked_poses(poses: Any, origin: Any) -> np.ndarray:
    """(F, 4, 4) float64 camera-to-world matrices.

    Raises:
        InputError: another shape, NaN, infinities, something other than rotations.
    """
    with about(origin):
        array = finite_array(poses, "poses", (None, 4, 4))
        return Cameras(array, np.broadcast_to(np.eye(3), (len(array), 3, 3)), 1, 1).poses


def checked_rate(fps: Any, origin: Any) -> float:
    """Frames per second.

    Raises:
        InputError: not one number, or not a positive one.
    """
    with about(origin):
        rate = float(finite_array(fps, "fps", ()))
        check_rate(rate)
        return rate
