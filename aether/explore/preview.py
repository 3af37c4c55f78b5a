"""What a walk looks like before it is finished: a contact sheet and the growing cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..arrays import to_floats
from ..files import new_file, write_file
from ..formats.contact import color_depth, contact_sheet
from ..frames import Frames
from ..geometry.depth import disparity_to_depth
from ..geometry.point_cloud import PointCloud, fuse, write_ply
from ..geometry.surfaces import Surfaces
from .walk import Walk

FRAMES = 24
"""Most frames that a preview's cloud is fused of."""
POINTS = 300_000
"""Most points of it."""


def write_preview(folder: Path, walk: Walk) -> None:
    """preview.png and preview.ply, each replaced as a whole."""
    rows = {"rgb": walk.rgb, "depth (near red, far blue)": color_depth(walk.disparity)}
    write_file(folder / "preview.png", contact_sheet(rows, walk.cameras))
    with new_file(folder / "preview.ply") as part:
        write_ply(part, preview_cloud(walk))


def preview_cloud(walk: Walk) -> PointCloud:
    """Some of the frames, fused."""
    chosen = np.unique(np.linspace(0, len(walk) - 1, FRAMES).round().astype(int))
    disparity, rgb = walk.disparity, walk.rgb
    depth = Frames((len(chosen), *disparity.shape[1:]), lambda i: disparity_to_depth(disparity[chosen[i]]))
    colors = Frames((len(chosen), *rgb.shape[1:]), lambda i: to_floats(rgb[chosen[i]]))
    return fuse(Surfaces(depth, colors, walk.cameras.select(chosen)), max_points=POINTS)
