"""`python -m aether reconstruct --windows`: clips of any length."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InputError
from ..synthetic import SYNTHETIC
from .kept import reporting_kept
from .model import Work, auto_device

if TYPE_CHECKING:
    from ..geometry.cameras import Cameras
    from ..long.executor import Executor
    from ..long.reader import LongClip
    from ..long.reconstruct import LongResult


def wants_windows(arguments: argparse.Namespace) -> bool:
    """Whether --windows is given, and nothing that does not go with it.

    Raises:
        InputError: something that does not go with it, or only with it.
    """
    if not arguments.windows:
        for option in ("stride", "tiles", "workers", "ray"):
            if getattr(arguments, option) not in (None, False):
                raise InputError(option, "is for --windows, which is not given")
        return False
    if SYNTHETIC.fullmatch(arguments.video):
        raise InputError("video", "a rendered clip always fits into one window; leave --windows out")
    if arguments.raymap or arguments.camera:
        field = "raymap" if arguments.raymap else "camera"
        raise InputError(field, "cannot be given with --windows: every window has a world of its own")
    return True


def chosen_executor(arguments: argparse.Namespace) -> Executor | None:
    """Ray's workers where they are asked for.

    Raises:
        InputError: an option that does not go with them.
        ImportError: Ray is not installed.
    """
    if arguments.workers is None and arguments.ray is None:
        return None
    attention = arguments.attention != "sdpa"  # it would be chosen for this process's device
    given = {"attention": attention, "compile": arguments.compile, "offload": arguments.offload}
    for option in given:
        if given[option]:
            raise InputError(option, "cannot be used with --workers, which are sent the model as it is")
    from ..long.ray_executor import RayWindows

    device = arguments.device
    if device == "auto":
        device = "cuda" if arguments.ray else auto_device()
    return RayWindows(arguments.workers, device=device, address=arguments.ray)


def run_windows(work: Work, executor: Executor | None) -> bool:
    """Reconstruct a long clip. False where it fits into one window, which makes it a run like any other.

    Raises:
        InputError: as `aether.long.reconstruct.reconstruct`; another command works on the same folder.
    """
    from ..formats.export import check_out_dir
    from ..locks import locked
    from ..long.reader import open_clip
    from ..long.reconstruct import reconstruct
    from ..long.store import count_windows

    arguments, console, model = work.arguments, work.console, work.model
    clip = open_clip(
        arguments.video,
        arguments.fps,
        size=arguments.size or model.spec.default_size,
        tiled=arguments.tiles,
        length=arguments.frames,
        stride=arguments.stride,
        max_length=model.spec.default_frames,
    )
    if len(clip.starts) == 1 and not clip.tiles and not executor:
        return False
    out = check_out_dir(arguments.out, overwrite=arguments.overwrite)
    lens = _known_lens(arguments, clip)
    folder = out.with_name(f"{out.name}.windows")
    kept = reporting_kept(console, folder, lambda: count_windows(folder), "window")
    with locked(folder) as unlocked, kept:
        work.say_job(len(clip), *clip.size, clip.fps)
        each = f", each in {len(clip.tiles)} tiles" if clip.tiles else ""
        console.say(
            f"{len(clip.starts)} windows of {clip.length} frames{each}, kept in {folder} until all are done"
        )
        for note in (*(f"video: {note}" for note in clip.notes), *([f"out: {unlocked}"] if unlocked else [])):
            console.say(f"note: {note}")
        work.say_memory(clip.length, *clip.model_size)
        result = reconstruct(
            model,
            clip,
            work.settings,
            folder,
            accelerator=work.hero,
            executor=executor,
            callback=console.windows(),
            say=console.say,
            rehearsed=arguments.compile,
        )
        work.write(result, _cameras(result, lens), clip.fps, result, result.source)
        result.store.remove()
    return True


def _known_lens(arguments: argparse.Namespace, clip: LongClip) -> Cameras | None:
    from ..formats.known_lens import read_lens
    from ..geometry.trajectory import one_lens_or_each

    return one_lens_or_each(read_lens(arguments.lens, *clip.size), len(clip)) if arguments.lens else None


def _cameras(result: LongResult, lens: Cameras | None) -> Cameras:
    """The clip's, with the known lens or, joined from the windows', with what was found."""
    from ..geometry.cameras import FOUND
    from ..geometry.trajectory import with_lens

    cameras = replace(result.merge.cameras, lens=FOUND)
    return cameras if lens is None else with_lens(cameras, lens)
