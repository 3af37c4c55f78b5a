"""Depth as a sequence of pictures for compositing, 32-bit float EXR or 16-bit PNG; and back.

A folder holds depth_00001.exr (or .png) and on, and depth.json, which says what the numbers mean:

====== ================================ ==================================================================
format a picture holds                  a value is
====== ================================ ==================================================================
exr    R, G and B alike, float32, ZIP   the pixel, exactly
png16  one grey channel, 16 bits        low + (level - 1) / 65534 * (high - low), levels 1 to 65535
====== ================================ ==================================================================

In both, 0 is a pixel without depth. Sky has a depth: the farthest that the model can tell, 1000.

R, G and B instead of Y or Z: Nuke's reader takes only those into its rgb layer, and Blender shows them
without a separate pass. Thanks to ZIP, three equal channels take about as much room as one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..defaults import DEPTH_FORMATS
from ..errors import InputError, reading
from ..files import new_folder
from ..geometry.cameras import NEAREST
from .units import SCALE_NOTES, check_rate, known_label

QUANTITIES = {
    "depth": "distance from the camera along its viewing axis (z), not along the pixel's ray",
    "disparity": "1 / depth, where depth is the distance from the camera along its viewing axis (z)",
}
"""What can be written, and what it means."""
ABOUT = "depth.json"
_NAME = "depth_%05d"
_TOP = 65535
_STEPS = _TOP - 1
"""Steps of a 16-bit PNG's range: level 0 is kept for pixels without depth."""


@dataclass(frozen=True)
class DepthFiles:
    """What was read.

    Attributes:
        values: (F, H, W) float32, of ``quantity``; 0 where there is none.
        quantity: "depth" or "disparity".
        unit: of the depth, "nearest depth" or "meters".
        fps: frames per second.
        about: depth.json, all of it.
    """

    values: np.ndarray
    quantity: str
    unit: str
    fps: float
    about: dict[str, Any]

    @property
    def depth(self) -> np.ndarray:
        """(F, H, W) float32, NaN where there is none."""
        values = np.where(self.values == 0, np.nan, self.values)
        return values if self.quantity == "depth" else 1 / values


def write_depth(
    folder: str | Path,
    depth: Sequence[np.ndarray],
    fps: float,
    *,
    format: str = "exr",
    quantity: str = "depth",
    mask: np.ndarray | None = None,
    near: float | None = None,
    far: float | None = None,
    unit: str = NEAREST,
    callback: Callable[[int, int], Any] | None = None,
) -> Path:
    """Write a sequence into a new folder; it appears whole, or not at all.

    Args:
        folder: must not exist yet.
        depth: (F, H, W), or F pictures (H, W): along z, positive. Read one by one.
        fps: of the clip, for depth.json.
        format: "exr" or "png16". For png16, "disparity" is the better quantity: its steps are fine where
            things are near.
        quantity: "depth" or "disparity".
        mask: (F, H, W), or (1, H, W) for all frames: pixels above 0.5 have no depth, whatever they hold.
        near, far: the depths that the range of png16 begins and ends with; what lies beyond is clipped. By
            default the nearest and farthest of the sequence.
        unit: of the depth, see `aether.geometry.cameras.Cameras`.
        callback: called with the number of frames written, and of all. What it raises stops the writing.

    Returns:
        the folder.

    Raises:
        InputError: no frames; NaN, infinite or non-positive depth outside the mask; a mask of another shape,
            or over everything; a range that is empty; a folder that exists.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    writer = FORMATS.get(format)
    if writer is None:
        raise InputError("format", f"{format!r} is not one of {', '.join(FORMATS)}")
    for field, word, known in (("quantity", quantity, QUANTITIES), ("unit", unit, SCALE_NOTES)):
        if word not in known:
            raise InputError(field, f"{word!r} is not one of {', '.join(known)}")
    check_rate(fps)
    if folder.exists():
        raise InputError("folder", f"{folder.name} exists; give another name")
    pictures = _Pictures(depth, mask)
    low, high = writer.find_range(*pictures.range, near, far)
    if quantity == "disparity":
        low, high = 1 / high, 1 / low
    about = {
        "format": format,
        "quantity": quantity,
        "meaning": QUANTITIES[quantity],
        "unit": unit,
        "scale": SCALE_NOTES[unit],
        "no_depth": {"value": 0, "pixels": pictures.missing},
        "range": [low, high],
        "value": writer.value,
        "color": "none: these are numbers (Blender: Non-Color; Nuke: raw data)",
        "files": _NAME + writer.ending,
        "first": 1,
        "frames": len(pictures),
        "width": pictures.width,
        "height": pictures.height,
        "fps": float(fps),
    }
    with new_folder(folder) as part:
        for number, picture in enumerate(pictures, 1):
            values = picture
            if quantity == "disparity":
                values = np.divide(1, picture, out=np.zeros_like(picture), where=picture > 0)
            (part / (about["files"] % number)).write_bytes(writer.encode(values, low, high))
            if callback:
                callback(number, len(pictures))
        (part / ABOUT).write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")
    return folder


def read_depth(folder: str | Path) -> DepthFiles:
    """Read what :func:`write_depth` wrote.

    Raises:
        InputError: no depth.json, or one that is not whole; a frame is missing, damaged or of another size.
    """
    folder = Path(folder)
    with reading("folder", f"{ABOUT} of {folder} cannot be read"):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        writer, quantity, fps = FORMATS[about["format"]], about["quantity"], float(about["fps"])
        low, high = map(float, about["range"])
        missing = int(about["no_depth"]["pixels"])
        shape = about["frames"], about["height"], about["width"]
        if quantity not in QUANTITIES or not 0 < low <= high < np.inf or min(shape) < 1:
            raise ValueError("it has another quantity, an empty range or no pictures")
        check_rate(fps)
        count = len(list(folder.glob(f"depth_*{writer.ending}")))
        if count != shape[0]:
            raise ValueError(f"{shape[0]} pictures are expected, {count} are there")
        values = np.empty(shape, dtype=np.float32)
    for number, target in enumerate(values, 1):
        path = folder / (_NAME % number + writer.ending)
        with reading("folder", f"{path} cannot be read as a depth picture"):
            target[:] = writer.decode(path.read_bytes(), low, high, shape[1:])
            if not ((target >= 0) & (target < np.inf)).all():
                raise ValueError("it holds NaN, infinite or negative values")
    # EXR decoders say nothing of what is damaged, they leave those pixels 0.
    if np.count_nonzero(values == 0) != missing:
        raise InputError("folder", f"{folder} is damaged: other pixels than {ABOUT} counts have no depth")
    unit = known_label(about.get("unit"), tuple(SCALE_NOTES), NEAREST)
    return DepthFiles(values, quantity, unit, fps, about)


class _Pictures:
    """Checked depth pictures, 0 where there is none, any number of times over."""

    def __init__(self, depth: Sequence[np.ndarray], mask: np.ndarray | None) -> None:
        if len(depth) == 0:
            raise InputError("depth", "holds no frames")
        if np.ndim(depth[0]) != 2:
            raise InputError(
                "depth", f"has pictures of shape {tuple(np.shape(depth[0]))}, not (height, width)"
            )
        self._depth = depth
        self.height, self.width = np.shape(depth[0])
        self._mask = None if mask is None else self._checked(mask)
        nearest, farthest, self.missing = np.inf, 0.0, 0
        for picture in self:
            there = picture[picture > 0]
            self.missing += picture.size - there.size
            if there.size:
                nearest, farthest = min(nearest, float(there.min())), max(farthest, float(there.max()))
        if not farthest:
            raise InputError("mask", "covers every pixel: there is no depth left to write")
        self.range = nearest, farthest

    def __len__(self) -> int:
        return len(self._depth)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame, picture in enumerate(self._depth):
            absent = False if self._mask is None else self._mask[min(frame, len(self._mask) - 1)]
            name = f"depth of frame {frame}"
            picture = finite_array(np.where(absent, 1, picture), name, (self.height, self.width))
            if not (picture > 0).all():
                raise InputError(
                    name, "is 0 or negative in places; depth is positive, what has none is masked"
                )
            yield np.where(absent, 0, picture).astype(np.float32)

    def _checked(self, mask: np.ndarray) -> np.ndarray:
        mask = finite_array(mask, "mask", (None, self.height, self.width))
        if len(mask) not in (1, len(self._depth)):
            raise InputError(
                "mask", f"has {len(mask)} frames, the depth {len(self._depth)}; give as many, or 1"
            )
        return mask > 0.5


def _full_range(
    nearest: float, farthest: float, near: float | None, far: float | None
) -> tuple[float, float]:
    if (near, far) != (None, None):
        raise InputError("far" if near is None else "near", "is for png16; exr holds every depth as it is")
    return nearest, farthest


def _png_range(nearest: float, farthest: float, near: float | None, far: float | None) -> tuple[float, float]:
    near, far = nearest if near is None else near, farthest if far is None else far
    for name, value in (("near", near), ("far", far)):
        if not (np.isfinite(value) and value > 0):
            raise InputError(name, f"{value} must be a positive number")
    if near >= far:
        raise InputError(
            "far",
            f"the range from {near:g} to {far:g} is empty; give a near below and a far above "
            f"{nearest:g} to {farthest:g}, or take exr, which needs no range",
        )
    return float(near), float(far)


def _encode_exr(values: np.ndarray, low: float, high: float) -> bytes:
    import av

    codec = av.CodecContext.create("exr", "w")
    codec.height, codec.width = values.shape
    codec.pix_fmt = "gbrpf32le"
    codec.time_base = Fraction(1)
    codec.options = {"compression": "zip16"}
    frame = av.VideoFrame.from_ndarray(np.repeat(values[..., None], 3, axis=2), format="gbrpf32le")
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))


def _decode_exr(data: bytes, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
    import av

    codec = av.CodecContext.create("exr", "r")
    # What a damaged header asks for is not allocated; FFmpeg counts rows with their padding.
    codec.options = {"max_pixels": str(size[0] * (size[1] + 64))}
    (frame,) = (*codec.decode(av.Packet(data)), *codec.decode(None))
    if frame.format.name != "gbrpf32le" or (frame.height, frame.width) != size:
        raise ValueError(f"it is not {size[1]} x {size[0]} with R, G and B of 32 bits")
    colors = frame.to_ndarray()
    if (colors != colors[..., :1]).any():
        raise ValueError("its R, G and B differ")
    return colors[..., 0]


def _encode_png(values: np.ndarray, low: float, high: float) -> bytes:
    from PIL import Image

    shares = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    levels = np.where(values > 0, np.rint(shares * _STEPS) + 1, 0)
    png = io.BytesIO()
    # More effort takes up to ten times as long and saves a tenth.
    Image.fromarray(levels.astype(np.uint16)).save(png, "PNG", compress_level=1)
    return png.getvalue()


def _decode_png(data: bytes, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        picture.verify()  # the check sums, which loading does not ask for
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        if not picture.mode.startswith("I") or picture.size[::-1] != size:
            raise ValueError(f"it is not {size[1]} x {size[0]}, grey with 16 bits")
        levels = np.asarray(picture).astype(np.float64)
    return np.where(levels > 0, low + (levels - 1) / _STEPS * (high - low), 0)


@dataclass(frozen=True)
class _Format:
    ending: str
    value: str
    find_range: Callable[[float, float, float | None, float | None], tuple[float, float]]
    encode: Callable[[np.ndarray, float, float], bytes]
    decode: Callable[[bytes, float, float, tuple[int, int]], np.ndarray]


_EXR, _PNG16 = (
    _Format(
        ".exr",
        "the pixel; R, G and B are equal, 32-bit float; range is the least and greatest of the files",
        _full_range,
        _encode_exr,
        _decode_exr,
    ),
    _Format(
        ".png",
        f"low + (level - 1) / {_STEPS} * (high - low), for level 1 to {_TOP} and low and high from range; "
        "what lay beyond the range is at its ends",
        _png_range,
        _encode_png,
        _decode_png,
    ),
)
FORMATS = dict(zip(DEPTH_FORMATS, (_EXR, _PNG16), strict=True))
"""Name to how it is written and read."""
