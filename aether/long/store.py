"""Finished windows in files, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import finite_array, to_bytes
from ..errors import InputError, reading
from ..files import new_file
from ..generation.latents import Decoded

_PIXEL_BYTES = 7  # three of color, four of disparity


def count_windows(work: Path) -> int:
    """How many finished windows are kept in a folder, whatever they hang on."""
    return sum(1 for _ in work.glob("*/window-*.safetensors"))


class WindowStore:
    """Finished windows in a folder of their own, a safetensors file each: whole, or not there.

    RGB is kept in 8 bits, as it is shown; disparity and raymap in float32.

    Args:
        work: the folder of this output's windows.
        signature: all that the results hang on; with another one, files made before do not count.
    """

    def __init__(self, work: Path, signature: Mapping[str, Any]) -> None:
        text = json.dumps(signature, sort_keys=True, default=str)
        self.work = work
        self.folder = work / hashlib.sha256(text.encode()).hexdigest()[:16]
        for unfinished in self.folder.glob(".*.part"):
            unfinished.unlink(missing_ok=True)

    def path(self, window: int) -> Path:
        return self.folder / f"window-{window:05d}.safetensors"

    def finished(self, count: int, shape: tuple[int, int, int]) -> set[int]:
        """Which of ``count`` windows are there, readable and of this shape (F, H, W)."""
        return {window for window in range(count) if self.is_whole(window, shape)}

    def is_whole(self, window: int, shape: tuple[int, int, int]) -> bool:
        """Whether a window is there, readable and of this shape (F, H, W)."""
        with suppress(InputError), reading("window", "is missing, or damaged by a crash of the machine"):
            rgb, disparity, raymap = (
                self.array(window, name).shape for name in ("rgb", "disparity", "raymap")
            )
            fits = rgb == (*shape, 3) and disparity == shape and raymap[:-2] == (shape[0], 6)
            return fits and isinstance(self.report(window), dict)
        return False

    def check_room(self, windows: int, shape: tuple[int, int, int]) -> None:
        """
        Raises:
            InputError: the disk does not hold that many more windows of this shape (F, H, W).
        """
        needed = windows * int(np.prod(shape)) * _PIXEL_BYTES
        there = next(parent for parent in (self.work, *self.work.resolve().parents) if parent.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise InputError(
                "out",
                f"{windows} windows take {needed / 1e9:.1f} GB beside the output, {free / 1e9:.1f} GB are "
                "free",
            )

    def save(self, window: int, decoded: Decoded, report: Mapping[str, Any]) -> None:
        """Keep a result.

        Raises:
            InputError: NaN or infinite values.
        """
        from safetensors.numpy import save_file

        arrays = {
            "rgb": to_bytes(finite_array(decoded.rgb, "rgb", (None,) * 4)),
            "disparity": finite_array(decoded.disparity, "disparity", (None,) * 3).astype(np.float32),
            "raymap": finite_array(decoded.raymap, "raymap", (None,) * 4).astype(np.float32),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with new_file(self.path(window)) as part:
            save_file(arrays, part, metadata={"report": json.dumps(report)})

    def report(self, window: int) -> dict[str, Any]:
        with _opened(self.path(window)) as file:
            return json.loads(file.metadata()["report"])

    def array(self, window: int, name: str) -> StoredArray:
        """ "rgb" (F, H, W, 3) uint8, "disparity" (F, H, W) or "raymap" (F, 6, h, w), read when indexed."""
        return StoredArray(self.path(window), name)

    def remove(self) -> None:
        """Delete these windows, and the folder if nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.work.rmdir()


class StoredArray:
    """An array in a safetensors file; only what is indexed is read."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        with _opened(path) as file:
            self.shape = tuple(file.get_slice(name).get_shape())

    def __getitem__(self, frames: int | slice) -> np.ndarray:
        with _opened(self.path) as file:
            return file.get_slice(self.name)[frames]


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="np")
