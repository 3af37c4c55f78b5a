"""A walk through a world: from a picture, along a camera path of any length, window by window.

Each window is a plain prediction that begins with the last frame of the one before and is asked for its part
of the path, in its own unit. It is kept in a file as soon as it is finished. Whatever goes on from it is read
from that file, so that a walk that was stopped, or is continued another day, gives bit for bit what one go
gives. At no time more than one window is in memory.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import to_bytes, to_floats
from ..defaults import BASE_FPS
from ..errors import InputError
from ..generation.latents import Decoded
from ..generation.sampling import Callback
from ..geometry.cameras import Cameras
from ..long.executor import (
    Compute,
    Outcome,
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
from ..long.joined import JoinedWindows
from ..long.joining import Merge
from ..long.signature import run_signature
from ..long.store import StoredArray
from ..model.parts import AetherModel
from ..run import job
from ..run.post_reconstruction import post_reconstruct
from .chain import Chain
from .colors import corrected, match_colors
from .parts import Plan
from .world import Task, World

_PER_WINDOW = ("seconds", "hero", "colors", "depth_drift", "task")
_NOT_OF_THE_WALK = ("colors", "depth_drift", "inputs", "camera", "depth_against_truth", "lens", "scale")
"""What the first window's report says that holds for that window alone."""
TASK, RETURN_TASK = "prediction", "planning"


@dataclass(frozen=True)
class Options:
    """How to walk.

    Attributes:
        fps: frames per second, one of Aether's.
        returns: where the path comes back to a view seen before, end the window with the known frame.
        colors: take back what a window changes on the colors of the frames it shares.
        steady: take a drift of the depth's scale out of every window.
        post_steps: steps of a reconstruction of every window's video, for depth and cameras; None for none.
    """

    fps: int = BASE_FPS
    returns: bool = True
    colors: bool = True
    steady: bool = True
    post_steps: int | None = None


@dataclass(frozen=True)
class Walk(JoinedWindows):
    """The windows of a walk, joined. Pictures are made when asked for.

    Attributes:
        plan: the path that was asked for.
        merge: how the windows are joined, and the cameras; those of frames after the path's end are cut off.
        chain: the finished windows.
        count: how many of them there are; fewer than the plan's in a preview.
        report: everything about the walk, ready for JSON.
        resumed: how many windows were finished before.
        picture: the accelerator's report over all windows as a PNG, or None.
    """

    plan: Plan
    merge: Merge
    chain: Chain
    count: int
    report: dict[str, Any]
    resumed: int
    picture: bytes | None = None

    def __len__(self) -> int:
        return min(len(self.merge), len(self.plan.path))

    @property
    def cameras(self) -> Cameras:
        """Of all frames, in the first camera's frame and the walk's unit."""
        return self.merge.cameras.select(slice(len(self)))

    def _windows(self, name: str) -> list[StoredArray]:
        return [self.chain.array(window, name) for window in range(self.count)]


class PostReconstructed:
    """A run whose depth and cameras are found once more from its video."""

    def __init__(self, run: PlainRun, steps: int) -> None:
        self._run, self._steps = run, steps

    def __call__(self, inputs: job.Inputs, callback: Callback) -> Outcome:
        run = self._run
        result = job.run(run.model, inputs, run.settings, accelerator=run.accelerator, callback=callback)
        again = post_reconstruct(
            run.model, inputs, result, run.settings, steps=self._steps, callback=callback
        )
        return again.decoded, again.report


def explore(
    model: AetherModel,
    picture: np.ndarray,
    plan: Plan,
    settings: job.Settings,
    work: str | Path,
    options: Options = Options(),
    *,
    accelerator: job.Accelerator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    preview: Callable[[Walk], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    rehearsed: bool = False,
) -> Walk:
    """Make every window that is not finished yet, and join them.

    Args:
        picture: (H, W, 3) floats in [0, 1] or uint8, of a size that the model takes. It is taken in 8 bits,
            as every later window's first picture is.
        plan: see `aether.explore.parts.plan_windows`; lengths are in units of the nearest depth of the first
            window.
        settings: of every window; the same seed for all.
        work: folder for finished windows, about 7 bytes a pixel and frame of each. It stays.
        accelerator: a session of its own for every window.
        callback: called before every window and after every step; returning False ends the walk.
        preview: called after every window with the walk so far.
        say: gets sentences for a person.
        rehearsed: take every kind of step once before the first window, so that compiling is not counted in
            its time.

    Raises:
        InputError: values out of range; no room for the windows; windows that share no depth.
        SamplingStopped: the callback returned False. Finished windows stay.
    """
    picture = check_picture(model, picture, plan)
    run = PlainRun(model, settings, accelerator)
    compute: Compute = Rehearsed(run) if rehearsed else run
    steps = job.steps_of(TASK, settings)
    if options.post_steps is not None:
        compute = PostReconstructed(run, options.post_steps)
        steps += options.post_steps
    signature = walk_signature(model, settings, options, accelerator)
    return explore_windows(
        picture,
        Chain(Path(work), signature, picture, plan),
        plan,
        compute,
        steps,
        options,
        accelerator=accelerator,
        callback=callback,
        preview=preview,
        say=say,
    )


def check_picture(model: AetherModel, picture: np.ndarray, plan: Plan) -> np.ndarray:
    """The picture in 8 bits.

    Raises:
        InputError: NaN or infinite values, another size than the path's, one that the model does not take.
    """
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError("image", f"has shape {picture.shape}; it must be (height, width, 3)")
    if not np.isfinite(picture).all():
        raise InputError("image", "holds NaN or infinite values")
    height, width = picture.shape[:2]
    job.check_size(model.spec, height, width, field="image")
    if (plan.path.height, plan.path.width) != (height, width):
        raise InputError(
            "camera",
            f"is of {plan.path.width} x {plan.path.height} pictures, the image is {width} x {height}; see "
            "aether.geometry.trajectory.fitted",
        )
    return to_bytes(picture)


def walk_signature(
    model: AetherModel,
    settings: job.Settings,
    options: Options,
    accelerator: job.Accelerator | None,
) -> dict[str, Any]:
    """All that every window hangs on, but for the picture and the path."""
    return {
        **run_signature(model, TASK, settings, accelerator, model.device.type),
        "guidance_skip": settings.guidance_skip,
        **vars(options),
    }


def explore_windows(
    picture: np.ndarray,
    chain: Chain,
    plan: Plan,
    compute: Compute,
    steps: int,
    options: Options,
    *,
    accelerator: job.Accelerator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    preview: Callable[[Walk], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Walk:
    """The same with any way to make a window.

    Args:
        picture: (H, W, 3) uint8.
        chain: for finished windows; its signature must hold all that results hang on.
        compute: see `aether.long.executor.Compute`; gets prediction's and planning's inputs. Its reports hold
            "settings", "seconds" and "hero".
        steps: that ``compute`` takes.

    Raises:
        as :func:`explore`, and what ``compute`` raises.
    """
    done, count = chain.finished(), len(chain)
    chain.stores[0].check_room(count - done, chain.shape)
    if done:
        say(f"{done} of {count} windows were finished before and are reused")
    walker = _Walker(picture, chain, plan, options)
    for window in range(done):
        walker.world.place(walker.world.next_task())
        walker.tell(window, say)
    watch = Watch(callback, count, done, steps)
    with closing(Serial().run(compute, walker.windows(), watch)) as outcomes:
        for window, (decoded, report) in outcomes:
            walker.finish(window.number, decoded, report)
            walker.tell(window.number, say)
            if preview and window.number + 1 < count:
                preview(walker.walk(done))
    walk = walker.walk(done)
    if accelerator is None:
        return walk
    did = accelerator.total([run for report in walker.reports() for run in runs_of(report)])
    report = {**walk.report, "hero": {name: value for name, value in did.items() if name != "forwards"}}
    return replace(walk, report=report, picture=accelerator.picture(did))


class _Walker:
    """Makes the inputs of one window after the other, and puts what came of them in place."""

    def __init__(self, picture: np.ndarray, chain: Chain, plan: Plan, options: Options) -> None:
        self._picture, self._chain, self._plan, self._options = picture, chain, plan, options
        self.world = World(plan, chain.array, options.returns)
        self._task: Task | None = None

    def windows(self) -> Iterator[Window]:
        """The windows that are not in place, each made when the one before is."""
        for number in range(len(self.world.placed), len(self._chain)):
            self._task = self.world.next_task()
            yield Window(number, self._inputs(number, self._task))

    def finish(self, number: int, decoded: Decoded, report: dict[str, Any]) -> None:
        """Keep a window's result and put it in place."""
        changed: dict[str, Any] = {"colors": None, "depth_drift": None}
        if self._options.colors:
            gain, offset = match_colors(*self._shared(number, decoded.rgb))
            decoded = replace(decoded, rgb=corrected(decoded.rgb, gain, offset))
            changed["colors"] = {"gain": gain.tolist(), "offset": offset.tolist()}
        if self._options.steady:
            factors = self.world.steadying(self._task, decoded)
            decoded = replace(decoded, disparity=decoded.disparity * factors[:, None, None])
            changed["depth_drift"] = float(factors[-1]) - 1
        with _full_disk():
            self._chain.stores[number].save(number, decoded, {**report, **changed})
        self.world.place(self._task)

    def reports(self) -> list[dict[str, Any]]:
        return [self._chain.report(window) for window in range(len(self.world.placed))]

    def tell(self, window: int, say: Callable[[str], None]) -> None:
        """What a person may want to know of a window in place."""
        placed = self.world.placed[window]
        if placed.task.goal is not None:
            say(f"window {window + 1} comes back to the view of frame {placed.task.goal + 1}")
        if not placed.following.followed:
            say(
                f"window {window + 1} did not follow the path (correlation "
                f"{placed.following.correlation:.2f}, up to {placed.following.turn:.0f} degrees off): its "
                "cameras are those read off its raymap"
            )

    def walk(self, resumed: int) -> Walk:
        """All windows in place, joined."""
        merge, reports = self.world.merge(), self.reports()
        return Walk(self._plan, merge, self._chain, len(reports), self._report(merge, reports), resumed)

    def _inputs(self, number: int, task: Task) -> job.Inputs:
        first, plan = self._first(number), self._plan
        pictures = {"image": to_floats(first)}
        if task.goal is not None:
            pictures["goal"] = to_floats(self.world.picture(task.goal))
        height, width = first.shape[:2]
        return job.Inputs(
            TASK if task.goal is None else RETURN_TASK,
            {name: f"window {number + 1}" for name in pictures},
            pictures,
            plan.length,
            height,
            width,
            self._options.fps,
            raymap=task.raymap(),
        )

    def _first(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8: what a window begins with."""
        return self.world.picture(self._plan.starts[number]) if number else self._picture

    def _shared(self, number: int, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a window that are known, as it shows them and as they are."""
        overlap, start = self._plan.overlap, self._plan.starts[number]
        if not number:
            return rgb[:1], to_floats(self._picture[None])
        known = [self.world.picture(start + frame) for frame in range(overlap)]
        return rgb[:overlap], to_floats(np.stack(known))

    def _report(self, merge: Merge, reports: list[dict[str, Any]]) -> dict[str, Any]:
        plan, first = self._plan, reports[0]
        windows = [
            {
                "start": start,
                **{name: report[name] for name in _PER_WINDOW if name in report},
                "goal": placed.task.goal,
                "unit_asked": placed.task.unit,
                "following": placed.following.to_dict(),
                **placed.alignment.to_dict(),
            }
            for start, report, placed in zip(plan.starts, reports, self.world.placed, strict=False)
        ]
        shape = {"frames": len(plan.path), "window": plan.length, "overlap": plan.overlap}
        return {
            **{name: first[name] for name in first if name not in _NOT_OF_THE_WALK},
            "task": "explore",
            "notes": plan.notes(),
            "settings": {**first["settings"], **shape, **vars(self._options)},
            "seconds": sum_seconds(reports),
            "hero": sum_accelerated(reports),
            "unit": merge.unit,
            "windows": windows,
        }


@contextmanager
def _full_disk() -> Iterator[None]:
    """A disk that is full is an error about the output."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            "out", "the disk is full; finished windows are kept, make room and run it again"
        ) from error
