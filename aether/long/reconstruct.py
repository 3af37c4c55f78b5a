"""Reconstruction of clips of any length, in windows that overlap.

Every window is a plain run of its own, with the same seed, as in the reference's demo. It is kept in a file
as soon as it is finished, so that a run that was stopped goes on where it was. At the end all are joined and
written, a frame at a time: memory does not grow with the clip, but for its cameras.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..formats.contact import sheet_frames
from ..frames import Frames
from ..geometry.raymap import to_cameras
from ..model.parts import AetherModel
from ..run import job
from .executor import (
    Compute,
    Executor,
    PlainRun,
    Progress,
    Rehearsed,
    Serial,
    Watch,
    Window,
    runs_of,
    sum_accelerated,
    sum_seconds,
)
from .joined import JoinedWindows
from .joining import Merge, align_windows
from .reader import LongClip
from .signature import run_signature
from .store import StoredArray, WindowStore

TASK = "reconstruction"


@dataclass(frozen=True)
class LongResult(JoinedWindows):
    """All windows of a clip, joined. Pictures are made when asked for; see `aether.formats.export.write_run`.

    Attributes:
        clip: what was reconstructed.
        merge: how the windows were joined, and the cameras.
        store: the finished windows.
        report: everything about the run, ready for JSON.
        resumed: how many windows were finished before.
        picture: the accelerator's report over all windows as a PNG, or None.
    """

    clip: LongClip
    merge: Merge
    store: WindowStore
    report: dict[str, Any]
    resumed: int
    picture: bytes | None = None

    @property
    def source(self) -> Frames:
        """(F, H, W, 3) floats in [0, 1]: the input. Only frames that a contact sheet shows can be asked for;
        they are read together."""
        shown = cache(lambda: _read_frames(self.clip, sheet_frames(len(self.clip)).tolist()))
        return Frames((len(self.clip), *self.clip.size, 3), lambda frame: shown()[frame])

    @property
    def raymap(self) -> Frames:
        """(F, 6, h, w) float32: one window's own; of several, that of the cameras after joining."""
        windows = self._windows("raymap")
        return super().raymap if len(windows) > 1 else Frames(windows[0].shape, windows[0].__getitem__)

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
    say: Callable[[str], None] = lambda text: None,
    rehearsed: bool = False,
) -> LongResult:
    """Reconstruct every window that is not finished yet, and find how they join.

    Args:
        clip: from `aether.long.reader.open_clip`, its windows or tiles of a size that the model takes.
        settings: of every window; the same seed for all.
        work: folder for finished windows, about 7 bytes a pixel and frame of each. It stays, for the caller
            to remove by ``result.store.remove()`` once all is written.
        accelerator: a session of its own for every window.
        executor: where windows are computed, such as `aether.long.ray_executor.RayWindows`; by default here.
        callback: called before every window and after every step, or by other executors after every window;
            returning False ends the run.
        say: gets sentences for a person: how many windows were finished before, and what the accelerator did
            in each.
        rehearsed: take every kind of step once before the first window, so that compiling is not counted in
            its time.

    Raises:
        InputError: values out of range; a clip that is damaged; no room for the windows; an overlap
            that gives no scale.
        SamplingStopped: the callback returned False. Finished windows stay.
    """
    job.check_size(model.spec, *clip.model_size)
    executor = executor or Serial()
    device = executor.device or model.device.type
    signature = {"clip": clip.identity(), **run_signature(model, TASK, settings, accelerator, device)}
    run = PlainRun(model, settings, accelerator)
    return reconstruct_windows(
        clip,
        Rehearsed(run) if rehearsed else run,
        WindowStore(Path(work), signature),
        job.steps_of(TASK, settings),
        executor=executor,
        accelerator=accelerator,
        callback=callback,
        say=say,
    )


def reconstruct_windows(
    clip: LongClip,
    compute: Compute,
    store: WindowStore,
    steps: int,
    *,
    executor: Executor,
    accelerator: job.Accelerator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LongResult:
    """The same with any way to reconstruct a window.

    Args:
        compute: see `aether.long.executor.Compute`. Its reports hold "settings", "seconds" and "hero".
        store: for finished windows; its signature must hold all that results hang on.
        steps: that ``compute`` takes.
        accelerator: that ``compute`` runs under; without it the report only counts steps.

    Raises:
        as :func:`reconstruct`, and what ``compute`` raises.
    """
    count, shape = len(clip.starts), (clip.length, *clip.size)
    done = store.finished(count, shape)
    store.check_room(count - len(done), shape)
    if done:
        say(f"{len(done)} of {count} windows were finished before and are reused")
    watch = Watch(callback, count, len(done), steps * (len(clip.tiles) if clip.tiles else 1))
    with closing(executor.run(compute, _windows(clip, done), watch)) as outcomes:
        for window, (decoded, report) in outcomes:
            store.save(window.number, decoded, {**report, "stand_ins": window.stand_ins})
            if accelerator:
                did = accelerator.total(runs_of(report))["summary"].partition("\n")[0]
                say(f"window {window.number + 1} of {count}: {did}")
    disparities = [store.array(window, "disparity") for window in range(count)]
    raymaps = (store.array(window, "raymap")[:] for window in range(count))
    cameras = [to_cameras(raymap, *clip.size, square_pixels=True) for raymap in raymaps]
    merge = align_windows(clip.starts, disparities, cameras)
    reports = [store.report(window) for window in range(count)]
    report, picture = _report(clip, merge, reports), None
    if accelerator:
        did = accelerator.total([run for report in reports for run in runs_of(report)])
        # Each window has its own forwards.
        report["hero"] = {name: value for name, value in did.items() if name != "forwards"}
        picture = accelerator.picture(did)
    return LongResult(clip, merge, store, report, len(done), picture)


def _windows(clip: LongClip, skip: set[int]) -> Iterator[Window]:
    sources = {"video": clip.source.label}
    for number, frames in clip.windows(skip):
        inputs = job.Inputs(TASK, sources, {"video": frames}, clip.length, *clip.size, clip.fps)
        yield Window(number, inputs, clip.tiles, clip.stand_ins(number))


def _report(clip: LongClip, merge: Merge, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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


def _read_frames(clip: LongClip, frames: Sequence[int]) -> dict[int, np.ndarray]:
    """Some of a clip's frames, (H, W, 3) floats in [0, 1] each, by number."""
    homes = {frame: bisect_right(clip.starts, frame) - 1 for frame in frames}
    others = set(range(len(clip.starts))) - set(homes.values())
    found = {}
    for window, pictures in clip.windows(others):
        for frame in (frame for frame, home in homes.items() if home == window):
            found[frame] = pictures[frame - clip.starts[window]].copy()
    return found
