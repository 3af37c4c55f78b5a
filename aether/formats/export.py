"""A run's results as files: videos, depth, cameras, points, a contact sheet and reports, all or nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np

from ..arrays import finite_array, to_bytes, to_floats, write_npz
from ..errors import InputError
from ..files import new_folder
from ..frames import Frames
from ..geometry.cameras import METERS, Cameras
from ..geometry.depth import disparity_to_depth
from ..geometry.metric_scale import MetricScale
from ..geometry.point_cloud import fuse, write_ply
from ..geometry.surfaces import FAR, Surfaces
from .contact import color_depth, color_rays, contact_sheet
from .depth_files import write_depth
from .path_picture import draw_frustums
from .units import LENS_NOTES, SCALE_NOTES, check_rate

CONVENTION = (
    "poses are 4x4 camera-to-world matrices, row by row, with OpenCV axes (x right, y down, z forward); "
    "the world is the first camera's frame up to the model's error; "
    "intrinsics are in pixels, the centre of the top left pixel at (0.5, 0.5)"
)
SCENE_POINTS = 1_000_000
"""Most points of scene.ply."""
_RUN_FILES = ("rgb.mp4", "depth.mp4", "depth.npz", "depth", "cameras.json", "scene.ply", "contact.png")
_MARKS = ("cameras.json", "rgb.mp4")  # what a folder must hold to count as an earlier run


class Streams(Protocol):
    """What is written of a run: ``aether.generation.latents.Decoded``,
    ``aether.long.reconstruct.LongResult``, or anything with the same three arrays or
    :class:`~aether.frames.Frames`."""

    rgb: Any
    disparity: Any
    raymap: Any


def write_run(
    out_dir: str | Path,
    decoded: Streams,
    cameras: Cameras,
    fps: float,
    *,
    report: Mapping[str, Any] | None = None,
    report_png: bytes | None = None,
    source: np.ndarray | Frames | None = None,
    asked: Cameras | None = None,
    scale: MetricScale | None = None,
    notes: Sequence[str] = (),
    extras: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    max_points: int = SCENE_POINTS,
    depth_format: str | None = None,
) -> dict[str, Path]:
    """Write a run into a folder of its own; either all of it appears, or nothing.

    rgb.mp4, depth.mp4 (Spectral, one scale for the sequence), depth.npz (float32 ``depth``, ``disparity``,
    ``raymap`` and ``meters_per_unit``), cameras.json, scene.ply, contact.png, and report.json, report.png and
    path.png where given.

    Args:
        out_dir: must not exist yet.
        decoded: rgb (F, H, W, 3), uint8 or floats in [0, 1]; disparity (F, H, W); raymap (F, 6, h, w). Read
            a frame at a time.
        cameras: F cameras of H x W pictures.
        fps: of the videos.
        report: becomes report.json.
        report_png: becomes report.png.
        source: the input clip, (F', H', W', 3) as ``rgb`` with F' = F: adds a row to the contact sheet.
        asked: the camera path that was asked for: path.png draws both, and so does the contact sheet.
        scale: brings depth, cameras and points to meters. Disparity and raymap stay the model's own numbers.
        notes: sentences kept in cameras.json (what was cropped, dropped or repeated).
        extras: further files by name: bytes as they are, anything else as JSON.
        overwrite: replace ``out_dir`` if it holds an earlier run, or is empty. The earlier run goes only
            after the new one is complete.
        max_points: in scene.ply, one point cloud of all frames (see `aether.geometry.point_cloud.fuse`).
        depth_format: "exr" (depth) or "png16" (disparity) adds a folder depth/, see
            `aether.formats.depth_files`.

    Returns:
        File name to path.

    Raises:
        InputError: arrays that do not fit each other, NaN, infinities, a folder that may not be replaced.
            Nothing has been written then.
    """
    out_dir = check_out_dir(out_dir, overwrite=overwrite)
    rgb, disparity, raymap = _checked(decoded, cameras)
    check_rate(fps)
    if source is not None:
        source = _pictures(source, "source", (len(rgb), None, None, 3))
    pictures = {"report.png": report_png, "path.png": None if asked is None else _drawn(cameras, asked)}
    documents = _documents({"report.json": report, **pictures, **(extras or {})})
    meters = 1.0 if scale is None else scale.factor
    colored = color_depth(disparity)
    depth = disparity.map(lambda picture: disparity_to_depth(picture) * np.float32(meters))
    own = cameras
    if scale is not None:
        cameras = cameras.scaled(meters, METERS)
    with new_folder(out_dir) as folder:
        write_video(folder / "rgb.mp4", rgb, fps)
        write_video(folder / "depth.mp4", colored, fps)
        arrays = {"depth": depth, "disparity": disparity, "raymap": raymap}
        if scale is not None:
            arrays["meters_per_unit"] = Frames((1,), lambda frame: np.float32(meters))
        write_npz(folder / "depth.npz", arrays)
        (folder / "cameras.json").write_text(cameras_json(cameras, fps, notes), encoding="utf-8")
        surfaces = Surfaces(depth, rgb.map(to_floats), cameras, far=FAR * meters)
        scene = fuse(surfaces, max_points=max_points)
        write_ply(folder / "scene.ply", scene)
        rows = {} if source is None else {"input": source}
        rows |= {"rgb": rgb, "depth (near red, far blue)": colored}
        rows["ray directions"] = raymap.map(lambda rays: color_rays(rays[None])[0], (*raymap.shape[2:], 3))
        (folder / "contact.png").write_bytes(contact_sheet(rows, own, asked=asked))
        if depth_format is not None:
            # The even steps of PNGs suit disparity better.
            quantity = "disparity" if depth_format == "png16" else "depth"
            write_depth(
                folder / "depth", depth, fps, format=depth_format, quantity=quantity, unit=cameras.unit
            )
        for name, content in documents.items():
            (folder / name).write_bytes(content)
    return {path.name: path for path in sorted(out_dir.iterdir())}


def check_out_dir(out_dir: str | Path, *, overwrite: bool = False, marks: Sequence[str] = _MARKS) -> Path:
    """The folder's full path, if :func:`write_run` may use it. For asking before a long run.

    Args:
        marks: file names by which a folder counts as an earlier run.

    Raises:
        InputError: it exists and ``overwrite`` is not set, or it holds something other than an earlier run;
            nothing can be written where it is to be; it is the root of a drive.
    """
    out_dir = Path(out_dir).resolve()
    if not out_dir.name:
        raise InputError("out", f"{out_dir} exists and is a whole drive; give a folder in it")
    _check_writable(next(folder for folder in out_dir.parents if folder.exists()))
    if not out_dir.exists():
        return out_dir
    if not overwrite:
        raise InputError("out", f"{out_dir} exists; give another folder, or allow overwriting")
    is_run = out_dir.is_dir() and (
        all((out_dir / mark).exists() for mark in marks) or not any(out_dir.iterdir())
    )
    if not is_run:
        raise InputError("out", f"{out_dir} holds something other than an earlier run; give another folder")
    return out_dir


def _check_writable(folder: Path) -> None:
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise InputError("out", f"{folder} cannot be written to: {error.strerror}") from error


def write_video(path: str | Path, frames: np.ndarray | Frames, fps: float) -> None:
    """H.264 in yuv420p, which plays everywhere; odd sizes get their last row or column twice.

    Args:
        frames: (F, H, W, 3), uint8 or floats in [0, 1].
        fps: frames per second.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = frames.shape[1:3]
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16"}
        # Written into the file: players guess the colours of small videos differently.
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.pad(to_bytes(pixels), pad, mode="edge"), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cameras_json(cameras: Cameras, fps: float, notes: Sequence[str] = ()) -> str:
    """The cameras as JSON text, their convention spelled out in it. Angles are full angles in degrees."""
    frames = [
        {"pose": pose.tolist(), "intrinsics": k.tolist(), "fov_x_degrees": fov_x, "fov_y_degrees": fov_y}
        for pose, k, fov_x, fov_y in zip(
            cameras.poses,
            cameras.intrinsics,
            np.degrees(cameras.fov_x).tolist(),
            np.degrees(cameras.fov_y).tolist(),
            strict=True,
        )
    ]
    document = {
        "convention": CONVENTION,
        "unit": cameras.unit,
        "scale": SCALE_NOTES[cameras.unit],
        "lens": cameras.lens,
        "lens_note": LENS_NOTES[cameras.lens],
        "width": cameras.width,
        "height": cameras.height,
        "fps": int(fps) if fps == int(fps) else float(fps),
        "notes": list(notes),
        "frames": frames,
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _checked(decoded: Streams, cameras: Cameras) -> tuple[Frames, Frames, Frames]:
    rgb = _pictures(decoded.rgb, "rgb", (None, None, None, 3))
    disparity = _pictures(decoded.disparity, "disparity", rgb.shape[:3])
    raymap = _pictures(decoded.raymap, "raymap", (len(rgb), 6, None, None))
    if (len(cameras), cameras.height, cameras.width) != rgb.shape[:3]:
        raise InputError(
            "cameras",
            f"{len(cameras)} cameras of {cameras.width} x {cameras.height} pictures do not fit "
            f"{len(rgb)} frames of {rgb.shape[2]} x {rgb.shape[1]}",
        )
    return rgb, disparity.map(lambda picture: picture.astype(np.float32, copy=False)), raymap


def _pictures(value: Any, field: str, shape: tuple[int | None, ...]) -> Frames:
    """An array's or a clip's pictures; the shape is checked now, numbers as they are read."""
    found = tuple(value.shape)
    if len(found) != len(shape) or any(w not in (None, n) for w, n in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(field, f"has shape {found}; it must be ({wanted})")
    if 0 in found:
        raise InputError(field, "is empty")
    return Frames(found, lambda frame: finite_array(value[frame], field, found[1:]))


def _drawn(cameras: Cameras, asked: Cameras) -> bytes:
    png = io.BytesIO()
    draw_frustums(cameras, asked=asked).save(png, "PNG")
    return png.getvalue()


def _documents(contents: Mapping[str, Any]) -> dict[str, bytes]:
    """File name to content of what is only copied; anything that cannot be JSON raises here, in time."""
    for name in contents:
        if not name or Path(name).name != name or name in _RUN_FILES:
            raise InputError(
                "extras", f"{name!r} is not a plain file name, or one that the run itself writes"
            )
    return {
        name: content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()
        for name, content in contents.items()
        if content is not None
    }
