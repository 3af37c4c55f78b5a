"""A known lens as text: an angle of view, numbers in pixels, or the lens of a camera file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry.cameras import ASSUMED, Cameras
from .camera_files import SUFFIXES, read_cameras
from .camera_parts import Lens, pinhole_matrices

_FORMS = "a horizontal angle of view in degrees (62), fx,fy,cx,cy in pixels, or a camera file with a lens"


def read_lens(text: str, height: int, width: int) -> Cameras:
    """Cameras whose lens is the known one; only that of them means anything, see
    `aether.geometry.trajectory.with_lens`.

    Args:
        text: degrees or fx,fy,cx,cy, both of height x width pictures; or a file of
            :func:`aether.formats.camera_files.read_cameras`, which has its own size.
        height, width: of the clip in pixels.

    Raises:
        InputError: neither of them; a file without a lens, or one that cannot be read; an angle or a focal
            length out of range. The field is "lens".
    """
    if Path(text).suffix.lower() in SUFFIXES or Path(text).exists():
        found = read_cameras(text).cameras
        if found.lens == ASSUMED:
            raise InputError("lens", f"{text} has no lens; give {_FORMS}")
        return found
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return Lens(numbers[0], height, width).known()
    if len(numbers) == 4:
        return Cameras(np.eye(4)[None], pinhole_matrices(np.array([numbers])), height, width)
    raise InputError("lens", f"{text!r} is not understood; give {_FORMS}")
