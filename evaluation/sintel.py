"""MPI Sintel, read from the folders it comes in: training/{clean,final,depth,camdata_left}/SEQUENCE.

The formats are those of the data set's own depth and camera archive.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aether.errors import InputError

from .sources import checked_poses

POSE_SEQUENCES = (
    *("alley_2", "ambush_4", "ambush_5", "ambush_6", "cave_2", "cave_4", "market_2", "market_5", "market_6"),
    *("shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3"),
)
"""Those whose camera paths the papers score; in the others the camera
stands still or moves in a straight line, which leaves Sim(3) open. Depth is scored on all."""
MAX_DEPTH = 70.0
"""In meters. Pixels farther away do not count, and aligned depth is cut off here."""
PREDICTED_FAR = 100.0
"""The reference cuts its own depth, 1 / disparity, off here before it is aligned."""

_TAG = np.float32(202021.25)


class SintelSequence:
    """One sequence's truth."""

    def __init__(self, training: Path, name: str) -> None:
        self._training = training
        self.name = name

    def depth(self) -> np.ndarray:
        """(F, 436, 1024) float32 in meters; sky is very far."""
        frames = [read_dpt(path) for path in self._files("depth", ".dpt")]
        if len({frame.shape for frame in frames}) > 1:
            raise InputError(
                "truth", f"{self._training / 'depth' / self.name} holds pictures of several sizes"
            )
        return np.stack(frames)

    def poses(self) -> np.ndarray:
        """(F, 4, 4) camera to world, OpenCV axes, meters."""
        return np.stack([read_cam(path) for path in self._files("camdata_left", ".cam")])

    def _files(self, kind: str, suffix: str) -> list[Path]:
        folder = self._training / kind / self.name
        files = sorted(folder.glob(f"*{suffix}"))
        if not files:
            raise InputError("truth", f"{folder} holds no {suffix} files")
        return files


def is_sintel(root: Path) -> bool:
    """Whether a folder looks like Sintel's, or its training part."""
    return _training(root) is not None


def open_sintel(root: Path) -> dict[str, SintelSequence]:
    """All sequences by name.

    Args:
        root: the folder that holds ``training``, or that folder.

    Raises:
        InputError: neither depth nor cameras below it.
    """
    training = _training(root)
    if training is None:
        raise InputError("truth", f"{root} has neither training/depth nor training/camdata_left")
    folders = [training / kind for kind in ("depth", "camdata_left") if (training / kind).is_dir()]
    names = {entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()}
    return {name: SintelSequence(training, name) for name in sorted(names)}


def _training(root: Path) -> Path | None:
    for folder in (root / "training", root):
        if (folder / "depth").is_dir() or (folder / "camdata_left").is_dir():
            return folder
    return None


def read_dpt(path: Path) -> np.ndarray:
    """Depth (H, W) float32 in meters from a .dpt file.

    Raises:
        InputError: another kind of file, or a truncated one.
    """
    content = _tagged(path)
    width, height = np.frombuffer(content[:8], "<i4") if len(content) >= 8 else (0, 0)
    if width < 1 or height < 1 or len(content) != 8 + 4 * int(width) * int(height):
        raise InputError("truth", f"{path} is damaged: {len(content)} bytes do not fit {width} x {height}")
    return np.frombuffer(content[8:], "<f4").reshape(height, width).astype(np.float32)


def read_cam(path: Path) -> np.ndarray:
    """The pose (4, 4), camera to world, of a .cam file, which holds intrinsics and world to camera.

    Raises:
        InputError: another kind of file, a truncated one, or one without a rotation.
    """
    content = _tagged(path)
    if len(content) != 8 * 21:
        raise InputError("truth", f"{path} is damaged: {len(content)} bytes instead of 168")
    numbers = np.frombuffer(content, "<f8")
    to_camera = np.vstack([numbers[9:].reshape(3, 4), [0, 0, 0, 1]])
    return np.linalg.inv(checked_poses(to_camera[None], path)[0])


def _tagged(path: Path) -> bytes:
    content = path.read_bytes()
    if len(content) < 4 or np.frombuffer(content[:4], "<f4")[0] != _TAG:
        raise InputError("truth", f"{path} is not a file of Sintel's: its tag is not {_TAG}")
    return content[4:]
