"""What a clip shows in space: depth, colors and cameras together, and which pixels lie on a surface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import finite_array, to_bytes
from ..errors import InputError
from .cameras import Cameras
from .depth import edge_confidence, point_map

FAR = 100.0
"""Points beyond this depth are left out: sky, and disparities too small to tell apart."""
EDGES = 0.2
"""Points where depth jumps by this share of it are left out; the reference's tolerance."""
_SAME_ASPECT = 0.01
_SAMPLE_FRAMES, _SAMPLE_STEP = 9, 4


NOTHING_LEFT = (
    "nothing is left: every pixel is masked, at or beyond far, or at an edge; raise far or edges, or look at "
    "the mask"
)


@dataclass(frozen=True)
class Surfaces:
    """A clip's surfaces, a frame at a time.

    ``depth``, ``image`` and ``mask`` are arrays, tensors, or anything with a shape that gives a frame when
    indexed with its number; frames are checked when they are asked for.

    Args:
        depth: (F, H, W) along z, positive; under the mask anything.
        image: (F, H, W, 3) in [0, 1].
        cameras: F cameras; of another size of the same picture they are scaled to this one.
        mask: (F, H, W) or (1, H, W); pixels above 0.5 are left out.
        far: pixels of this depth and beyond are left out.
        edges: pixels whose 3x3 neighbourhood spans this share of their depth are left out; 0 keeps all.

    Raises:
        InputError: sizes and lengths that do not fit each other; far or edges out of range.
    """

    depth: Any
    image: Any
    cameras: Cameras
    mask: Any = None
    far: float = FAR
    edges: float = EDGES
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.depth.shape) != 3 or 0 in self.depth.shape:
            raise InputError(
                "depth", f"has shape {tuple(self.depth.shape)}; it must be (frames, height, width)"
            )
        frames, height, width = self.depth.shape
        if tuple(self.image.shape) != (frames, height, width, 3):
            raise InputError(
                "image",
                f"has shape {tuple(self.image.shape)}; this depth takes ({frames}, {height}, {width}, 3)",
            )
        if self.mask is not None and tuple(self.mask.shape) not in (
            (frames, height, width),
            (1, height, width),
        ):
            raise InputError(
                "mask",
                f"has shape {tuple(self.mask.shape)}; it must be (1 or {frames}, {height}, {width})",
            )
        if not self.far > 0:
            raise InputError("far", f"{self.far} must be a positive depth")
        if not (np.isfinite(self.edges) and self.edges >= 0):
            raise InputError("edges", f"{self.edges} must be a number from 0")
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "cameras", _fitted(self.cameras, frames, height, width))

    def __len__(self) -> int:
        return len(self.cameras)

    def depth_of(self, frame: int) -> np.ndarray:
        """(H, W) float32. Masked pixels without depth have the nearest pixel's, so that no edge is there.

        Raises:
            InputError: NaN, infinite, zero or negative depth outside the mask.
        """
        depth = self.depth[frame]
        if self.mask is not None:
            depth = _filled(depth, self._left_out(frame))
        depth = finite_array(depth, f"depth (frame {frame})", self.size)
        if not (depth > 0).all():
            raise InputError(f"depth (frame {frame})", "holds zero or negative numbers; depth is positive")
        return depth.astype(np.float32, copy=False)

    def colors_of(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        return to_bytes(finite_array(self.image[frame], f"image (frame {frame})", (*self.size, 3)))

    def confidence_of(self, frame: int) -> np.ndarray:
        """(H, W) float32 in [0, 1]: 0 for what is left out, else how far from a jump of the depth."""
        depth = self.depth_of(frame)
        confidence = edge_confidence(depth, self.edges) if self.edges else np.ones_like(depth)
        confidence[depth >= self.far] = 0
        if self.mask is not None:
            confidence[self._left_out(frame)] = 0
        return confidence

    def _left_out(self, frame: int) -> np.ndarray:
        """(H, W) bool, by the mask."""
        number = frame if self.mask.shape[0] > 1 else 0
        return finite_array(self.mask[number], f"mask (frame {number})", self.size) > 0.5

    def points_of(self, frame: int) -> np.ndarray:
        """(H, W, 3) float32 in the cameras' world."""
        return point_map(self.depth_of(frame)[None], self.cameras.select([frame]))[0]

    def check_frame(self, frame: int) -> int:
        """The frame's number, -1 for the last.

        Raises:
            InputError: no such frame.
        """
        if not -1 <= frame < len(self):
            raise InputError("frame", f"{frame} is not within 0 to {len(self) - 1}, nor -1 for the last")
        return frame % len(self)

    def middle_depth(self) -> float | None:
        """The median depth of what is not left out, on a sample of the pixels; None where all is left out."""
        frames = np.unique(np.linspace(0, len(self) - 1, _SAMPLE_FRAMES).round().astype(int))
        found = [self.depth_of(frame)[self.confidence_of(frame) > 0][::_SAMPLE_STEP] for frame in frames]
        depth = np.concatenate(found)
        return float(np.median(depth)) if len(depth) else None


def _filled(depth: Any, masked: np.ndarray) -> np.ndarray:
    """Depth with that of the nearest pixel that has one in masked pixels that have none; 1 if none has."""
    from scipy.ndimage import distance_transform_edt

    depth = np.array(depth.detach().float().cpu().numpy() if hasattr(depth, "detach") else depth)
    if depth.shape != masked.shape:  # left to the check that follows
        return depth
    missing = ~(np.isfinite(depth) & (depth > 0))
    holes = missing & masked
    if missing.all():
        depth[holes] = 1
    elif holes.any():
        rows, columns = distance_transform_edt(missing, return_distances=False, return_indices=True)
        depth[holes] = depth[rows[holes], columns[holes]]
    return depth


def _fitted(cameras: Cameras, frames: int, height: int, width: int) -> Cameras:
    if len(cameras) != frames:
        raise InputError(
            "cameras", f"there are {len(cameras)} for {frames} frames of depth; take the clip's own"
        )
    aspect = (width / height) / (cameras.width / cameras.height)
    if abs(aspect - 1) > _SAME_ASPECT:
        raise InputError(
            "cameras",
            f"are of {cameras.width} x {cameras.height} pictures, the depth is {width} x {height}: "
            "one of them was cropped; take depth and cameras of the same clip",
        )
    return cameras.resized(height, width)
