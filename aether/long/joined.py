"""Finished windows as one clip, whose pictures are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import numpy as np

from ..frames import Frames
from ..geometry.raymap import from_cameras
from .joining import Merge
from .store import StoredArray


class JoinedWindows:
    """Streams of windows that lie in files; see `aether.formats.export.write_run`. A frame of each takes part
    at a time.

    Attributes:
        merge: how the windows are joined, and the cameras.
    """

    merge: Merge

    def __len__(self) -> int:
        return len(self.merge)

    @abstractmethod
    def _windows(self, name: str) -> list[StoredArray]:
        """ "rgb", "disparity" or "raymap" of every window."""

    @property
    def rgb(self) -> Frames:
        """(F, H, W, 3) uint8."""
        windows = self._windows("rgb")
        return Frames((len(self), *windows[0].shape[1:]), partial(self.merge.rgb, windows))

    @property
    def disparity(self) -> Frames:
        """(F, H, W) float32."""
        windows = self._windows("disparity")
        return Frames((len(self), *windows[0].shape[1:]), partial(self.merge.disparity, windows))

    @property
    def raymap(self) -> Frames:
        """(F, 6, h, w) float32: that of the cameras after joining."""
        cameras = self.merge.cameras

        def read(frame: int) -> np.ndarray:
            one = cameras.select([frame])
            return from_cameras(one.poses, one.intrinsics, one.height, one.width)[0]

        return Frames((len(self), *self._windows("raymap")[0].shape[1:]), read)
