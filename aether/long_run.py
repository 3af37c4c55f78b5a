"""Reconstruction of clips of any length, in windows that overlap.

Every window is a plain run of its own, with the same seed, as in the reference's demo. It is kept in a file
as soon as it is finished, so that a run that was stopped goes on where it was. At the end all are joined and
written, a frame at a time: memory does not grow with the clip, but for its cameras.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import job
from .contact import color_rays, contact_sheet, disparity_range, paint_disparity, thinning
from .export import (
    cameras_json,
    check_out_dir,
    write_depth_pictures,
    write_scene,
    write_video,
)
from .files import new_folder
from .geometry import disparity_to_depth
from .long_clips import LongClip
from .model import AetherModel
from .raymap import SPATIAL_SCALE, from_cameras, to_cameras
from .window_jobs import (
    Compute,
    Executor,
    PlainRun,
    Progress,
    Serial,
    Watch,
    Window,
    sum_accelerated,
    sum_seconds,
)
from .window_store import StoredArray, WindowStore
from .windows import Merge, align_windows

TASK = "reconstruction"
_SAMPLES = 16  # of every weight, for the fingerprint


class Frames:
    """Pictures that are made when they are asked for; as much of an array as writers need.

    Args:
        shape: (F, ...).
        read: from a frame's number to its picture.
    """

    def __init__(self, shape: Sequence[int], read: Callable[[int], np.ndarray]) -> None:
        self.shape = tuple(shape)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: Any) -> np.ndarray:
        """One picture, or (N, ...) for an array of numbers."""
        if np.ndim(frames) == 0:
            return self._read(int(frames))
        return np.stack([self._read(int(frame)) for frame in frames])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._read, range(len(self)))


@dataclass(frozen=True)
class LongResult:
    """All windows of a clip, joined. Pictures are made when asked for; see `write_long_run`.

    Attributes:
        clip: what was reconstructed.
        merge: how the windows were joined, and the cameras.
        store: the finished windows.
        report: everything about the run, ready for JSON.
        resumed: how many windows were finished before.
    """

    clip: LongClip
    merge: Merge
    store: WindowStore
    report: dict[str, Any]
    resumed: int

    @property
    def rgb(self) -> Frames:
        """(F, H, W, 3) uint8."""
        windows = self._windows("rgb")
        return Frames((len(self.merge), *windows[0].shape[1:]), partial(self.merge.rgb, windows))

    @property
    def disparity(self) -> Frames:
        """(F, H, W) float32."""
        windows = self._windows("disparity")
        return Frames((len(self.merge), *windows[0].shape[1:]), partial(self.merge.disparity, windows))

    @property
    def raymap(self) -> Frames:
        """(F, 6, h, w) float32: one window's own; of several, that of the cameras after joining."""
        windows, cameras = self._windows("raymap"), self.merge.cameras

        def read(frame: int) -> np.ndarray:
            if len(windows) == 1:
                return windows[0][frame]
            one = cameras.select([frame])
            return from_cameras(one.poses, one.intrinsics, one.height, one.width)[0]

        return Frames((len(self.merge), *windows[0].shape[1:]), read)

    def _windows(self, name: str) -> list[StoredArray]:
        return [self.store.array(window, name) for window in range(len(self.merge.starts))]


def reconstruct(
    model: AetherModel,
    clip: LongClip,
    settings: job.Settings,
    work: str | Path,
    *,
    accelerator: job.Accelerator | None = None,
    executor: Executor | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> LongResult:
    """Reconstruct every window that is not finished yet, and find how they join.

    Args:
        clip: from `aether.long_clips.open_clip`, its windows or tiles of a size that the model takes.
        settings: of every window; the same seed for all.
        work: folder for finished windows, about 7 bytes a pixel and frame of each. It stays, for the caller
            to remove by ``result.store.remove()`` once all is written.
        accelerator: a session of its own for every window.
        executor: where windows are computed, such as `aether.ray_windows.RayWindows`; by default here.
        callback: called before every window and after every step, or by other executors after every window;
            returning False ends the run.

    Raises:
        InputError: values out of range; a clip that is damaged; no room for the windows; an overlap that
            tells no scale.
        SamplingStopped: the callback returned False. Finished windows stay.
    """
    job.check_size(model, *clip.model_size)
    executor = executor or Serial()
    signature = run_signature(model, clip, settings, accelerator, executor.device or model.device.type)
    return reconstruct_windows(
        clip,
        PlainRun(model, settings, accelerator),
        WindowStore(Path(work), signature),
        job.steps_of(TASK, settings),
        executor=executor,
        callback=callback,
    )


def reconstruct_windows(
    clip: LongClip,
    compute: Compute,
    store: WindowStore,
    steps: int,
    *,
    executor: Executor,
    callback: Callable[[Progress], bool | None] | None = None,
) -> LongResult:
    """The same with any way to reconstruct a window.

    Args:
        compute: see `aether.window_jobs.Compute`. Its reports hold "settings", "seconds" and "hero".
        store: for finished windows; its signature must hold all that results hang on.
        steps: that ``compute`` takes.

    Raises:
        as :func:`reconstruct`, and what ``compute`` raises.
    """
    count, shape = len(clip.starts), (clip.length, *clip.size)
    done = store.finished(count, shape)
    store.check_room(count - len(done), shape)
    watch = Watch(callback, count, len(done), steps * (len(clip.tiles) if clip.tiles else 1))
    with closing(executor.run(compute, _windows(clip, done), watch)) as outcomes:
        for window, (decoded, report) in outcomes:
            store.save(window.number, decoded, {**report, "stand_ins": window.stand_ins})
    merge = _join(store, clip)
    return LongResult(clip, merge, store, _report(store, clip, merge), len(done))


def _windows(clip: LongClip, skip: set[int]) -> Iterator[Window]:
    sources = {"video": clip.source.label}
    for number, frames in clip.windows(skip):
        inputs = job.Inputs(TASK, sources, {"video": frames}, clip.length, *clip.size, clip.fps)
        yield Window(number, inputs, clip.tiles, clip.stand_ins(number))


def run_signature(
    model: AetherModel,
    clip: LongClip,
    settings: job.Settings,
    accelerator: job.Accelerator | None,
    device: str,
) -> dict[str, Any]:
    """All that a window's result hangs on: the clip's files, the settings, and the model down to a sample of
    its weights."""
    return {
        "clip": clip.identity(),
        "steps": job.steps_of(TASK, settings),
        "guidance": settings.guidance,
        "seed": settings.seed,
        "accelerator": accelerator.settings() if accelerator else None,
        "scheduler": {"class": type(model.scheduler).__name__, **_public(model.scheduler.config)},
        "weights": fingerprint(model.transformer, model.vae, model.prompt_embeds),
        "device": device,
        "dtype": str(model.dtype),
    }


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without diffusers' own entries, some of which are in another order in every process."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def fingerprint(transformer: torch.nn.Module, vae: torch.nn.Module, prompt: torch.Tensor) -> str:
    """A hash of the names, shapes and a few values of all weights: reads little, sees another checkpoint."""
    digest = hashlib.sha256()
    for part in (transformer, vae):
        for name, weight in part.state_dict().items():
            flat = weight.detach().reshape(-1)
            few = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].to("cpu", torch.float32)
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + few.numpy().tobytes())
    digest.update(prompt.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def _join(store: WindowStore, clip: LongClip) -> Merge:
    windows = range(len(clip.starts))
    disparities = [store.array(window, "disparity") for window in windows]
    cameras = [
        to_cameras(store.array(window, "raymap")[:], *clip.size, square_pixels=True) for window in windows
    ]
    return align_windows(clip.starts, disparities, cameras)


def _report(store: WindowStore, clip: LongClip, merge: Merge) -> dict[str, Any]:
    reports = [store.report(window) for window in range(len(clip.starts))]
    stand_ins = max(report["stand_ins"] for report in reports)
    notes = list(clip.notes)
    if stand_ins:
        notes.append("part of the file is damaged; where a frame did not decode, its neighbour stands in")
    stride = clip.starts[1] - clip.starts[0] if len(clip.starts) > 1 else None
    windows = [
        {
            "start": start,
            **{name: report[name] for name in ("seconds", "hero", "tiles") if name in report},
            **alignment.to_dict(),
        }
        for start, report, alignment in zip(clip.starts, reports, merge.alignments, strict=True)
    ]
    first = reports[0]
    return {
        **{name: first[name] for name in first if name not in ("stand_ins", "tiles")},
        "notes": notes,
        "settings": {**first["settings"], "frames": len(merge), "window": clip.length, "stride": stride},
        "seconds": sum_seconds(reports),
        "hero": sum_accelerated(reports),
        "unit": merge.unit,
        "windows": windows,
    }


def write_long_run(
    out_dir: str | Path, result: LongResult, *, overwrite: bool = False, depth_format: str | None = None
) -> dict[str, Path]:
    """Write the same files as `aether.export.write_run`, frame by frame; all of them appear, or none.

    Returns:
        File name to path.

    Raises:
        InputError: a folder that may not be replaced. Nothing has been written then.
    """
    out_dir = check_out_dir(out_dir, overwrite=overwrite)
    cameras, fps = result.merge.cameras, result.clip.fps
    rgb, disparity, raymap = result.rgb, result.disparity, result.raymap
    depth = Frames(disparity.shape, lambda frame: disparity_to_depth(disparity[frame]))
    floats = Frames(rgb.shape, lambda frame: rgb[frame].astype(np.float32) / np.float32(255))
    far, near = disparity_range(_thinned(disparity))
    colored = Frames(rgb.shape, lambda frame: paint_disparity(disparity[frame], far, near))
    rays_shape = (len(raymap), cameras.height // SPATIAL_SCALE, cameras.width // SPATIAL_SCALE, 3)
    rays = Frames(rays_shape, lambda frame: color_rays(raymap[frame][None])[0])
    with new_folder(out_dir) as folder:
        write_video(folder / "rgb.mp4", rgb, fps)
        write_video(folder / "depth.mp4", colored, fps)
        write_depth_pictures(folder, depth, fps, depth_format)
        _write_arrays(folder / "depth.npz", {"depth": depth, "disparity": disparity, "raymap": raymap})
        (folder / "cameras.json").write_text(
            cameras_json(cameras, fps, result.report["notes"]), encoding="utf-8"
        )
        write_scene(folder / "scene.ply", floats, depth, cameras)
        rows = {"rgb": rgb, "depth (near red, far blue)": colored, "ray directions": rays}
        (folder / "contact.png").write_bytes(contact_sheet(rows, cameras))
        (folder / "report.json").write_text(json.dumps(result.report, indent=1), encoding="utf-8")
    return {path.name: path for path in sorted(out_dir.iterdir())}


def _thinned(disparity: Frames) -> np.ndarray:
    """The pixels that `aether.contact.color_depth` would look at, had it the whole sequence."""
    size = int(np.prod(disparity.shape[1:]))
    step = thinning(len(disparity) * size)
    return np.concatenate(
        [f.reshape(-1)[-number * size % step :: step] for number, f in enumerate(disparity)]
    )


def _write_arrays(path: Path, arrays: Mapping[str, Frames]) -> None:
    """An .npz file of float32 arrays, as `numpy.savez_compressed` writes it, but a frame at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, frames in arrays.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": frames.shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for frame in frames:
                    member.write(np.ascontiguousarray(frame, dtype="<f4").tobytes())
