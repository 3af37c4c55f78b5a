"""Reconstruction of clips of any length, in windows that overlap.

Every window is a plain run of its own, with the same seed, as in the reference's demo. It is kept in a file
as soon as it is finished, so that a run that was stopped goes on where it was. At the end all are joined and
written, a frame at a time: memory does not grow with the clip, but for its cameras.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import job
from .contact import color_rays, contact_sheet, disparity_range, paint_disparity, thinning
from .errors import InputError, SamplingStopped
from .export import (
    cameras_json,
    check_out_dir,
    new_folder,
    scene_points,
    write_depth_pictures,
    write_points,
    write_video,
)
from .geometry import disparity_to_depth, finite_array
from .latents import Decoded
from .long_clips import LongClip
from .model import AetherModel
from .raymap import SPATIAL_SCALE, from_cameras, to_cameras
from .sampling import StepInfo
from .windows import Merge, align_windows

TASK = "reconstruction"


@dataclass(frozen=True)
class Progress:
    """Where a run is: before a window (``step`` is None), or after one of its steps.

    Attributes:
        window, windows: 0 for the first, and how many there are.
        resumed: windows that were finished by an earlier run; they are not counted again.
        steps: of each window.
        step: see ``aether.sampling.StepInfo``.
    """

    window: int
    windows: int
    resumed: int
    steps: int
    step: StepInfo | None = None


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


class WindowStore:
    """Finished windows in a folder of their own, a safetensors file each: whole, or not there.

    RGB is kept in 8 bits, as it is shown; disparity and raymap in float32.

    Args:
        work: the folder of this output's windows.
        signature: all that the results hang on; with another one, files made before do not count.
    """

    def __init__(self, work: Path, signature: Mapping[str, Any]) -> None:
        text = json.dumps(signature, sort_keys=True, default=str)
        self.work = work
        self.folder = work / hashlib.sha256(text.encode()).hexdigest()[:16]
        for unfinished in self.folder.glob(".*.part"):
            unfinished.unlink(missing_ok=True)

    def path(self, window: int) -> Path:
        return self.folder / f"window-{window:05d}.safetensors"

    def finished(self, count: int, shape: tuple[int, int, int]) -> set[int]:
        """Which of ``count`` windows are there, readable and of this shape (F, H, W)."""
        return {window for window in range(count) if self._is_whole(window, shape)}

    def _is_whole(self, window: int, shape: tuple[int, int, int]) -> bool:
        from safetensors import SafetensorError

        try:
            return self.array(window, "disparity").shape == shape and bool(self.report(window))
        except (OSError, SafetensorError):  # missing, or cut off by a full disk or a crash of the machine
            return False

    def save(self, window: int, decoded: Decoded, report: Mapping[str, Any]) -> None:
        """Keep a result.

        Raises:
            InputError: NaN or infinite values.
        """
        from safetensors.numpy import save_file

        arrays = {
            "rgb": (np.clip(finite_array(decoded.rgb, "rgb", (None,) * 4), 0, 1) * 255 + 0.5).astype(
                np.uint8
            ),
            "disparity": finite_array(decoded.disparity, "disparity", (None,) * 3).astype(np.float32),
            "raymap": finite_array(decoded.raymap, "raymap", (None,) * 4).astype(np.float32),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".window-{window:05d}.{secrets.token_hex(4)}.part"
        try:
            save_file(arrays, part, metadata={"report": json.dumps(report)})
            os.replace(part, self.path(window))
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def report(self, window: int) -> dict[str, Any]:
        with _opened(self.path(window)) as file:
            return json.loads(file.metadata()["report"])

    def array(self, window: int, name: str) -> _Stored:
        """ "rgb" (F, H, W, 3) uint8, "disparity" (F, H, W) or "raymap" (F, 6, h, w), read when indexed."""
        return _Stored(self.path(window), name)

    def remove(self) -> None:
        """Delete these windows, and the folder if nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.work.rmdir()


class _Stored:
    """An array in a safetensors file; only what is indexed is read."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        with _opened(path) as file:
            self.shape = tuple(file.get_slice(name).get_shape())

    def __getitem__(self, frames: int | slice) -> np.ndarray:
        with _opened(self.path) as file:
            return file.get_slice(self.name)[frames]


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="np")


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

    def _windows(self, name: str) -> list[_Stored]:
        return [self.store.array(window, name) for window in range(len(self.merge.starts))]


def reconstruct(
    model: AetherModel,
    clip: LongClip,
    settings: job.Settings,
    work: str | Path,
    *,
    accelerator: job.Accelerator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> LongResult:
    """Reconstruct every window that is not finished yet, and find how they join.

    Args:
        clip: from `aether.long_clips.open_clip`, at a size that the model takes.
        settings: of every window; the same seed for all.
        work: folder for finished windows, about 7 bytes a pixel and frame of each. It stays, for the caller
            to remove by ``result.store.remove()`` once all is written.
        accelerator: a session of its own for every window.
        callback: called before every window and after every step; returning False ends the run.

    Raises:
        InputError: values out of range; a clip that is damaged; no room for the windows; an overlap that
            tells no scale.
        SamplingStopped: the callback returned False. Finished windows stay.
    """
    steps, count = job.steps_of(TASK, settings), len(clip.starts)
    job.check_size(model, *clip.size)
    store = WindowStore(Path(work), run_signature(model, clip, settings, accelerator))
    done = store.finished(count, (clip.length, *clip.size))
    _check_room(store.work, count - len(done), clip)
    windows = clip.windows(skip=done)
    for window in range(count):
        if window in done:
            continue
        state = (window, count, len(done), steps)
        if callback and callback(Progress(*state)) is False:
            raise SamplingStopped(0, steps)
        _, frames = next(windows)
        inputs = job.Inputs(
            TASK, {"video": str(clip.path)}, {"video": frames}, clip.length, *clip.size, clip.fps
        )
        watch = (lambda step, state=state: callback(Progress(*state, step))) if callback else None
        result = job.run(model, inputs, settings, accelerator=accelerator, callback=watch)
        store.save(window, result.decoded, {**result.report, "stand_ins": clip.stand_ins(window)})
    merge = _join(store, clip)
    return LongResult(clip, merge, store, _report(store, clip, merge), len(done))


def run_signature(
    model: AetherModel, clip: LongClip, settings: job.Settings, accelerator: job.Accelerator | None
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
        "weights": _fingerprint(model),
        "device": model.device.type,
        "dtype": str(model.dtype),
    }


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without diffusers' own entries, some of which are in another order in every process."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _fingerprint(model: AetherModel, samples: int = 16) -> str:
    """A hash of the names, shapes and a few values of all weights: reads little, sees another checkpoint."""
    digest = hashlib.sha256()
    for part in (model.transformer, model.vae):
        for name, weight in part.state_dict().items():
            flat = weight.detach().reshape(-1)
            few = flat[:: max(1, flat.numel() // samples)][:samples].to("cpu", torch.float32)
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + few.numpy().tobytes())
    digest.update(model.prompt_embeds.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def _check_room(work: Path, windows: int, clip: LongClip) -> None:
    height, width = clip.size
    needed = windows * clip.length * height * width * 7
    there = next(parent for parent in (work, *work.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            "out",
            f"{windows} windows take {needed / 1e9:.1f} GB beside the output, {free / 1e9:.1f} GB are free",
        )


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
        {"start": start, "seconds": report["seconds"], "hero": report["hero"], **alignment.to_dict()}
        for start, report, alignment in zip(clip.starts, reports, merge.alignments, strict=True)
    ]
    first = reports[0]
    return {
        **{name: first[name] for name in first if name != "stand_ins"},
        "notes": notes,
        "settings": {**first["settings"], "frames": len(merge), "window": clip.length, "stride": stride},
        "seconds": {name: sum(r["seconds"][name] for r in reports) for name in first["seconds"]},
        "hero": _sum_up([report["hero"] for report in reports]),
        "unit": merge.unit,
        "windows": windows,
    }


def _sum_up(reports: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """What the accelerator did in all windows."""
    if reports[0] is None:
        return None
    counts = ("steps", "full_steps", "cached_steps")
    return {"config": reports[0].get("config"), **{n: sum(r.get(n, 0) for r in reports) for n in counts}}


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
        write_points(folder / "scene.ply", *scene_points(floats, depth, cameras))
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
