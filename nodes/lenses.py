"""A known lens in place of the one that Aether finds, for every node that gives out cameras."""

from __future__ import annotations

from comfy_api.latest import io

from ..aether.formats.camera_parts import Lens
from ..aether.geometry.cameras import Cameras
from ..aether.geometry.trajectory import with_lens
from .types import CameraPath, CamerasValue


def lens_inputs() -> list[io.Input]:
    """`fov` and `lens`, both optional."""
    return [
        io.Float.Input(
            "fov",
            default=0.0,
            min=0.0,
            max=170.0,
            step=1.0,
            optional=True,
            advanced=True,
            tooltip="Horizontal angle of view of the clip in degrees, if you know it. 0 keeps what Aether "
            "finds.",
        ),
        CameraPath.Input(
            "lens",
            optional=True,
            tooltip="Optional: cameras whose lens is known, such as those of Aether Load Cameras. Their lens "
            "replaces the one that Aether finds.",
        ),
    ]


def with_known_lens(cameras: Cameras, fov: float, lens: CamerasValue | None) -> Cameras:
    """Cameras with the lens that is connected, else with the angle, else as they are.

    Raises:
        InputError: an angle out of range; other lenses than frames.
    """
    if lens is not None:
        return with_lens(cameras, lens["cameras"])
    if fov:
        return with_lens(cameras, Lens(fov, cameras.height, cameras.width).known())
    return cameras
