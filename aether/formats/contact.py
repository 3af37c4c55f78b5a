"""Colours for depth and rays, and the contact sheet: a run at a glance, frames across, streams down."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..arrays import to_bytes
from ..frames import Frames
from ..geometry.cameras import Cameras

LABEL = 18
"""Height of a line of text in pixels."""
GUTTER = 4
COLUMNS = 6
"""Frames that a contact sheet shows, at most."""
_PERCENTILES = (2.0, 98.0)
_PAPER, _INK, _FAINT, _ACCENT = (24, 24, 27), (228, 228, 231), (113, 113, 122), (250, 140, 60)
ASKED = (96, 165, 250)
"""Color of a path that was asked for, beside the one that came out."""
_PATH, _BOTH_PATHS = "path from above", "path from above (blue: asked for)"


def color_depth(disparity: Frames) -> Frames:
    """Disparity drawn with matplotlib's Spectral: near is red, far is blue; one scale for the whole sequence.

    Args:
        disparity: (F, H, W).

    Returns:
        (F, H, W, 3) uint8.
    """
    far, near = color_limits(disparity)

    def paint(picture: np.ndarray) -> np.ndarray:
        return _spectral()[to_bytes((picture - far) / max(near - far, 1e-12))]

    return disparity.map(paint, (*disparity.shape[1:], 3))


def color_limits(disparity: Frames | np.ndarray) -> tuple[float, float]:
    """The disparities of a sequence (F, H, W) at the far and the near end of its colours: percentiles, so
    that a few stray pixels do not decide them."""
    far, near = np.percentile(_thinned(disparity), _PERCENTILES)
    return float(far), float(near)


def _thinned(disparity: Frames | np.ndarray) -> np.ndarray:
    """Evenly spaced pixels of the sequence, a million or so: plenty for a percentile."""
    size = math.prod(disparity.shape[1:])
    step = max(1, len(disparity) * size // 1_000_000)
    return np.concatenate(
        [f.reshape(-1)[-number * size % step :: step] for number, f in enumerate(disparity)]
    )


@cache
def _spectral() -> np.ndarray:
    from matplotlib import colormaps

    return to_bytes(colormaps["Spectral_r"](np.linspace(0, 1, 256))[:, :3])


def color_rays(raymap: np.ndarray) -> np.ndarray:
    """Ray directions as colours, as normals are drawn: x, y, z from -1..1 to red, green, blue.

    Args:
        raymap: (F, 6, h, w).

    Returns:
        (F, h, w, 3) uint8.
    """
    directions = np.moveaxis(raymap[:, :3], 1, -1)
    length = np.linalg.norm(directions, axis=-1, keepdims=True)
    return to_bytes(directions / np.maximum(length, 1e-6) * 0.5 + 0.5)


def sheet_frames(count: int) -> np.ndarray:
    """Numbers of the frames of so many that a contact sheet shows."""
    return np.unique(np.linspace(0, count - 1, COLUMNS).round().astype(int))


def contact_sheet(
    rows: Mapping[str, np.ndarray | Frames],
    cameras: Cameras | None = None,
    *,
    asked: Cameras | None = None,
    cell_width: int = 240,
) -> bytes:
    """A PNG with one row per stream and evenly spaced frames across.

    Args:
        rows: label to pictures, (F, H, W, 3) uint8 or floats in [0, 1]; the same F in all, any sizes.
        cameras: F cameras; adds a row with their path from above, the frame's camera marked.
        asked: the path that was asked for, drawn beside it in blue.
        cell_width: of a picture in pixels.
    """
    from PIL import Image, ImageDraw

    first = next(iter(rows.values()))
    frames = sheet_frames(len(first))
    height = max(1, round(cell_width * first.shape[1] / first.shape[2]))
    labels = [*rows, *([_PATH if asked is None else _BOTH_PATHS] if cameras else [])]
    sheet_width = GUTTER + len(frames) * (cell_width + GUTTER)
    sheet = Image.new("RGB", (sheet_width, LABEL + len(labels) * (LABEL + height) + GUTTER), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, frame in enumerate(frames):
        left = GUTTER + column * (cell_width + GUTTER)
        draw.text((left, 3), f"frame {frame + 1} of {len(first)}", fill=_FAINT)
        for row, pictures in enumerate(rows.values()):
            cell = _picture(pictures[frame], cell_width, height)
            sheet.paste(cell, (left, LABEL + row * (LABEL + height) + LABEL))
        if cameras:
            cell = draw_path(cameras, int(frame), cell_width, height, asked)
            sheet.paste(cell, (left, LABEL + len(rows) * (LABEL + height) + LABEL))
    for row, label in enumerate(labels):
        draw.text((GUTTER, LABEL + row * (LABEL + height) + 3), label, fill=_INK)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


def _picture(pixels: np.ndarray, width: int, height: int) -> Any:
    from PIL import Image

    picture = Image.fromarray(to_bytes(pixels))
    # Cells of a raymap stay visible as cells.
    filter = Image.Resampling.NEAREST if picture.width * 2 < width else Image.Resampling.LANCZOS
    return picture.resize((width, height), filter)


def draw_path(cameras: Cameras, frame: int, width: int, height: int, asked: Cameras | None = None) -> Any:
    """The cameras' positions from above (the first one's x to the right, its z up), one camera as a wedge; in
    blue the path that was asked for."""
    from PIL import Image, ImageDraw

    path = cameras.relative_to_first()
    ground = path.poses[:, [0, 2], 3]
    wanted = ground[:0] if asked is None else asked.relative_to_first().poses[:, [0, 2], 3]
    everything = np.concatenate([ground, wanted])
    center = (everything.min(axis=0) + everything.max(axis=0)) / 2
    extent = max(float(np.ptp(everything, axis=0).max()), 1e-6)
    scale = 0.55 * min(width, height) / extent
    to_pixels = np.array([scale, -scale])

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [tuple(p) for p in (points - center) * to_pixels + [width / 2, height / 2]]

    half = np.tan(path.fov_x[frame] / 2)
    corners = np.array([[0, 0, 0], [-half, 0, 1], [half, 0, 1]]) * (0.2 * extent / max(1, half))
    wedge = (corners @ path.poses[frame, :3, :3].T)[:, [0, 2]] + ground[frame]
    picture = Image.new("RGB", (width, height), (39, 39, 42))
    draw = ImageDraw.Draw(picture)
    if len(wanted):
        draw.line(place(wanted), fill=ASKED, width=2)
    draw.line(place(ground), fill=_FAINT, width=2)
    for x, y in place(ground):
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=_INK)
    draw.polygon(place(wedge), fill=_ACCENT)
    return picture
