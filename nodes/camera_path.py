"""Aether Camera, Load Cameras, Smooth Cameras, Save Cameras: paths made, read, smoothed and written."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui

from ..aether.defaults import BASE_FPS, FPS
from ..aether.errors import InputError
from ..aether.formats.camera_files import (
    FORMATS,
    METERS_NOTE,
    Lens,
    files_beside,
    is_offered,
    read_cameras,
    write_cameras,
)
from ..aether.formats.depth_files import ABOUT
from ..aether.formats.path_picture import draw_frustums
from ..aether.geometry import trajectory
from ..aether.geometry.cameras import METERS, NEAREST, Cameras, to_gltf, to_quaternions
from ..aether.geometry.raymap import SPATIAL_SCALE
from .bridge.messages import show_text
from .inputs import AETHER_SIZE, prefix_input, seed_input
from .outputs import written_output
from .types import CameraPath, CamerasValue, Raymap, color_image

NO_FILE = "none"
OUTPUT_FOLDER = "aether"
"""The folder of ComfyUI's output folder that cameras are saved in, and offered from."""
_PICTURE = (480, 320)
_DATE = re.compile("%date:([^%]*)%")
_NOT_PORTABLE = re.compile(
    r'[<>:"|?*]|[^./][. ]+/|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.[^/]*)?(/|$)', re.IGNORECASE
)
"""What Windows cannot have in a path: signs, names of devices, dots and spaces at the end of a folder."""


class AetherCamera(io.ComfyNode):
    """A move of the camera."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherCamera",
            display_name="Aether Camera",
            category="Aether/geometry",
            description="A camera move: dolly, truck, pan, orbit and more. Chain several for longer moves. "
            "The node draws the path.",
            search_aliases=["camera path", "trajectory", "camera control", "dolly", "orbit", "pan", "zoom"],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=list(trajectory.PRESETS),
                    default="dolly in",
                    tooltip="The move. left, right, up and down are where the camera goes or looks.",
                ),
                io.Float.Input(
                    "amount",
                    default=0.3,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How far. Dolly, truck, pedestal, crane: 1 is the distance to the nearest thing "
                    "in the clip. Pan, tilt, roll, orbit: 1 is a quarter turn. Handheld: 1 is a lot of "
                    "shake.",
                ),
                io.Combo.Input(
                    "easing",
                    options=list(trajectory.EASINGS),
                    default="ease in out",
                    tooltip="How the move starts and ends. linear keeps one speed. Handheld has no easing.",
                ),
                io.Float.Input(
                    "fov",
                    default=60.0,
                    min=1.0,
                    max=170.0,
                    step=1.0,
                    tooltip="Horizontal angle of view in degrees. After another move, the camera zooms from "
                    "that move's angle to this one.",
                ),
                io.Int.Input(
                    "frames",
                    default=41,
                    min=9,
                    max=401,
                    step=8,
                    tooltip="Length of this move. Chained moves share a frame: 17 and 25 make 41. A task "
                    "node stretches the path to its own length.",
                ),
                io.Combo.Input(
                    "fps",
                    options=[str(rate) for rate in FPS],
                    default=str(BASE_FPS),
                    tooltip="Frames per second: the pace of handheld, and the rate of a task node whose fps "
                    "is auto.",
                ),
                io.Float.Input(
                    "distance",
                    default=2.0,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    tooltip="For orbit and crane: how far ahead the point is that stays in the middle. 1 is "
                    "the distance to the nearest thing in the clip.",
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=400,
                    step=8,
                    tooltip="After another move: for how many frames both run at once, which rounds off the "
                    "corner. One less than this move's frames runs all of it together with the other.",
                ),
                seed_input("For handheld: another number gives another shake."),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=-1,
                    max=trajectory.MOST_FRAMES,
                    tooltip="Which frame the output camera shows, counted from 0; -1 is the last.",
                ),
                *(
                    io.Int.Input(
                        side,
                        default=pixels,
                        min=SPATIAL_SCALE * 2,
                        max=trajectory.MOST_PIXELS,
                        step=SPATIAL_SCALE,
                        advanced=True,
                        tooltip=f"{side.capitalize()} of the clip that the output raymap is for. The output "
                        "cameras fits any size.",
                    )
                    for side, pixels in AETHER_SIZE.items()
                ),
                CameraPath.Input(
                    "before",
                    optional=True,
                    tooltip="Optional: a path that this move continues, such as another Aether Camera.",
                ),
            ],
            outputs=[
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="The path, for a clip of any length and size. Goes to camera of a task node, or "
                    "to Aether Save Cameras.",
                ),
                Raymap.Output(
                    "raymap",
                    display_name="raymap",
                    tooltip="The path as a raymap, for a clip of exactly these frames, width and height.",
                ),
                io.Image.Output(
                    "path",
                    display_name="path",
                    tooltip="A drawing of the path: the first camera is green, the last orange. The caption "
                    "gives the size of the squares on the floor.",
                ),
                io.Load3DCamera.Output(
                    "camera",
                    display_name="camera",
                    tooltip="The camera of one frame for core's 3D nodes, such as Preview 3D and Render "
                    "Splat.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        preset: str,
        amount: float,
        easing: str,
        fov: float,
        frames: int,
        fps: str,
        distance: float,
        overlap: int,
        seed: int,
        frame: int,
        width: int,
        height: int,
        before: CamerasValue | None = None,
    ) -> io.NodeOutput:
        start = None
        if before is not None:
            start = float(np.degrees(trajectory.fitted(before["cameras"], height, width).fov_x[-1]))
        path = trajectory.preset(
            preset,
            amount,
            frames=frames,
            fps=float(fps),
            easing=easing,
            fov=fov,
            start_fov=start,
            distance=distance,
            seed=seed,
            height=height,
            width=width,
        )
        if before is not None:
            path = trajectory.chain(before["cameras"], path, overlap)
        rate = int(fps)
        raymap = torch.from_numpy(trajectory.action(path, len(path), height, width))
        camera = load3d_camera(path, frame, distance)
        picture = _drawn(path)
        return io.NodeOutput(
            {"cameras": path, "fps": rate},
            {"raymap": raymap, "fps": rate},
            picture,
            camera,
            ui=ui.PreviewImage(picture, cls=cls),
        )


class AetherLoadCameras(io.ComfyNode):
    """A path from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherLoadCameras",
            display_name="Aether Load Cameras",
            category="Aether/geometry",
            description="Reads a camera path from a file: Blender (GLB), nerfstudio, COLMAP, TUM, NPZ and "
            "more, or one that Aether saved.",
            search_aliases=[
                "import camera",
                "transforms.json",
                "colmap",
                "tum",
                "glb camera",
                "poses",
                "npz",
                "kitti",
                "realestate10k",
                "gaussian splatting",
                "gltf",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_files() or [NO_FILE],
                    tooltip="A file in ComfyUI's input folder or in output/aether. For a COLMAP model, "
                    "choose images.bin or images.txt.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0001,
                    max=10000.0,
                    step=0.01,
                    tooltip="Multiplies all distances. Aether's unit is the nearest depth of the clip: if "
                    "that is 2 of the file's units, use 0.5. Aether's own files need 1.",
                ),
                io.Float.Input(
                    "fov",
                    default=60.0,
                    min=1.0,
                    max=170.0,
                    step=1.0,
                    tooltip="Horizontal angle of view in degrees, for files that have none.",
                ),
            ],
            outputs=[
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="The path, with its first camera at the origin. Goes to camera of a task node, "
                    "or to before of an Aether Camera.",
                ),
                io.Image.Output("path", display_name="path", tooltip="A drawing of the path."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        if file is not None and (file == NO_FILE or not folder_paths.exists_annotated_filepath(file)):
            return f"{file} is not in ComfyUI's input folder; put one there and press R"
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None, scale: float, fov: float) -> Any:
        if file is None:  # it comes from another node, and is not known yet
            return float("nan")
        path = Path(folder_paths.get_annotated_filepath(file))
        try:
            # What changes when what is read does.
            states = [
                (found.st_mtime_ns, found.st_size) for found in map(os.stat, [path, *files_beside(path)])
            ]
            return states, file, scale, fov
        except OSError:
            return float("nan")

    @classmethod
    def execute(cls, file: str, scale: float, fov: float) -> io.NodeOutput:
        if not (np.isfinite(scale) and scale > 0):
            raise InputError("scale", f"{scale} must be a positive number")
        found = read_cameras(folder_paths.get_annotated_filepath(file), Lens(fov))
        # Scaled lengths are meant to be Aether's, whatever the file's were.
        unit = NEAREST if scale != 1 else None
        path = found.cameras.relative_to_first().scaled(scale, unit)
        rate = min(FPS, key=lambda known: abs(known - (found.fps or BASE_FPS)))
        notes = [*found.notes, *([METERS_NOTE] if path.unit == METERS else [])]
        show_text(cls.hidden.unique_id, "\n".join([f"{len(path)} cameras, {rate} fps", *notes]))
        picture = _drawn(path)
        return io.NodeOutput({"cameras": path, "fps": rate}, picture, ui=ui.PreviewImage(picture, cls=cls))


class AetherSmoothCameras(io.ComfyNode):
    """A path without its jitter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSmoothCameras",
            display_name="Aether Smooth Cameras",
            category="Aether/geometry",
            description="Takes the jitter out of a camera path, such as one that Aether has read from a "
            "video.",
            search_aliases=["smooth camera", "stabilize", "jitter", "denoise trajectory", "kalman"],
            inputs=[
                CameraPath.Input("cameras", tooltip="From Aether Cameras or Aether Load Cameras."),
                io.Float.Input(
                    "period",
                    default=8.0,
                    min=0.0,
                    max=200.0,
                    step=1.0,
                    tooltip="In frames. Shake with this period is halved, faster shake is removed, slower "
                    "motion is kept. 0 changes nothing.",
                ),
            ],
            outputs=[
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="The smoothed path. Goes to Aether Save Cameras, or to camera of a task node.",
                ),
                io.Image.Output("path", display_name="path", tooltip="A drawing of the path."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, cameras: CamerasValue, period: float) -> io.NodeOutput:
        path = trajectory.smoothed(cameras["cameras"], period)
        picture = _drawn(path)
        return io.NodeOutput(
            {"cameras": path, "fps": cameras["fps"]}, picture, ui=ui.PreviewImage(picture, cls=cls)
        )


class AetherSaveCameras(io.ComfyNode):
    """A path to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSaveCameras",
            display_name="Aether Save Cameras",
            category="Aether/geometry",
            description="Saves a camera path for Blender, nerfstudio, COLMAP or evaluation in ComfyUI's "
            "output folder.",
            search_aliases=["export camera", "blender camera", "glb", "colmap", "tum", "nerfstudio", "nuke"],
            is_output_node=True,
            inputs=[
                CameraPath.Input(
                    "cameras", tooltip="From Aether Cameras, Aether Camera or Aether Load Cameras."
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="glb",
                    tooltip="glb: an animated camera for Blender and three.js. json: everything, with "
                    "explanations. colmap and nerfstudio: for splats and NeRFs. tum: a trajectory for "
                    "evaluation.",
                ),
                prefix_input(f"{OUTPUT_FOLDER}/cameras"),
            ],
            outputs=[written_output("file", " colmap is a folder.")],
        )

    @classmethod
    def execute(cls, cameras: CamerasValue, format: str, filename_prefix: str) -> io.NodeOutput:
        root = Path(folder_paths.get_output_directory())
        path = cameras["cameras"]
        stem = output_stem(filename_prefix, root, path.width, path.height)
        written = write_cameras(stem, path, cameras["fps"], format).relative_to(root).as_posix()
        return io.NodeOutput(written, ui={"text": (written,)})


def load3d_camera(path: Cameras, frame: int, distance: float) -> dict[str, Any]:
    """A frame's camera as core's LOAD3D_CAMERA: y up, looking along -z, in the first camera's frame.

    Args:
        distance: how far ahead the point lies that 3D viewers turn around.

    Raises:
        InputError: no such frame.
    """
    if not -1 <= frame < len(path):
        raise InputError(
            "frame", f"{frame} is not within the path's 0 to {len(path) - 1}, nor -1 for the last"
        )
    camera = path.relative_to_first().select([frame])
    pose = to_gltf(camera.poses)
    (quaternion,), (position,) = to_quaternions(pose)
    target = position - distance * pose[0, :3, 2]

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip("xyzw", map(float, values), strict=False))

    return {
        "position": named(position),
        "target": named(target),
        "quaternion": named(quaternion),
        "fov": float(np.degrees(camera.fov_y[0])),
        "aspect": camera.width / camera.height,
        "cameraType": "perspective",
        "zoom": 1.0,
    }


def _written_date(template: re.Match[str]) -> str:
    """%date:yyyy-MM-dd%, which the canvas only fills in for core's own nodes."""
    now = datetime.now()
    parts = {"y": now.year, "M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}

    def number(unit: re.Match[str]) -> str:
        digits = str(parts[unit[0][0]]).zfill(len(unit[0]))
        return digits[-len(unit[0]) :] if unit[0][0] == "y" else digits

    return re.sub(r"yyyy|yy|([dMhms])\1?", number, template[1])


def output_stem(prefix: str, root: Path, width: int, height: int) -> Path:
    """Where a file with this prefix goes, numbered as core numbers pictures.

    Args:
        width, height: what %width% and %height% stand for.

    Raises:
        InputError: an empty name, one that not every system can have, or one outside the output folder.
    """
    prefix = _DATE.sub(_written_date, prefix)
    name = Path(prefix.replace("\\", "/")).name
    if prefix.rstrip().endswith(("/", "\\")) or not name.strip(". ") or not prefix.isprintable():
        raise InputError("filename_prefix", f"{prefix!r} has no file name at its end")
    if Path(prefix).is_absolute() or not (root / prefix).resolve().is_relative_to(root.resolve()):
        raise InputError("filename_prefix", f"{prefix!r} leads out of ComfyUI's output folder")
    if _NOT_PORTABLE.search(prefix.replace("\\", "/")):
        raise InputError("filename_prefix", f"{prefix!r} cannot be a name on Windows; give another")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(root), width, height)
    return Path(folder) / f"{name}_{counter:05}_"


def _drawn(path: Cameras) -> torch.Tensor:
    """IMAGE (1, H, W, 3)."""
    return color_image([draw_frustums(path, *_PICTURE)])


def _files() -> list[str]:
    """Camera files, as names that core resolves."""
    folders = {"": Path(folder_paths.get_input_directory())}
    folders[" [output]"] = Path(folder_paths.get_output_directory()) / OUTPUT_FOLDER
    found = []
    for mark, folder in folders.items():
        root = folder.parent if mark else folder
        paths = (path for path in sorted(folder.rglob("*")) if is_offered(path) and path.name != ABOUT)
        found += [path.relative_to(root).as_posix() + mark for path in paths]
    return found


NODES: list[type[Any]] = [AetherCamera, AetherLoadCameras, AetherSmoothCameras, AetherSaveCameras]
