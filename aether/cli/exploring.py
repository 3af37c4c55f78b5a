"""`python -m aether explore`: a walk through a world, or another piece of an earlier one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .console import Console
from .hero import Hero, chosen_hero
from .kept import reporting_kept
from .model import Work, prepare

if TYPE_CHECKING:
    import numpy as np

    from ..explore.folder import Earlier
    from ..explore.parts import Plan
    from ..explore.walk import Options, Walk
    from ..geometry.cameras import Cameras

FRAMES = 161
"""Of a move, where none is given."""
_KEPT = ("model", "scheduler", "steps", "guidance", "guidance_skip", "seed", "size", "fps", "window", "lens")
_KEPT_OPTIONS = ("overlap", "returns", "colors", "steady", "post_reconstruction")


def run_exploring(arguments: argparse.Namespace, console: Console) -> None:
    """Walk, or go on from an earlier walk.

    Raises:
        InputError, ConfigError: an input or a setting that cannot be used; an earlier walk of another model
            or size, or with windows missing.
    """
    from ..explore.folder import read_walk
    from ..formats.export import check_out_dir
    from ..run import job

    begun = _check_given(arguments)
    out = check_out_dir(arguments.out, overwrite=arguments.overwrite)
    earlier = None
    if begun is not None:
        earlier = read_walk(begun)
        _take_settings(arguments, earlier)
    else:
        job.check_sources({"image": arguments.image})
    hero = _hero_of(arguments, earlier)
    work = prepare(arguments, console, "prediction", hero)
    plan, picture, options = _planned(work, earlier)
    _explore(work, earlier, plan, picture, options, out)


def _check_given(arguments: argparse.Namespace) -> str | None:
    """The folder of an earlier walk, if one is given."""
    begun = getattr(arguments, "from")
    if (arguments.image is None) == (begun is None):
        raise InputError("image", "give a picture to begin with, or --from an earlier walk, one of the two")
    if arguments.at is not None and begun is None:
        raise InputError("at", "is for --from, which is not given")
    return begun


def _take_settings(arguments: argparse.Namespace, earlier: Earlier) -> None:
    """The earlier walk's settings in place of options that were not given.

    Raises:
        InputError: an option that was given, and differs.
    """
    was = earlier.made_by
    for name in (*_KEPT, *_KEPT_OPTIONS, "hero", "setting"):
        if name not in was:
            continue
        kept = tuple(was[name]) if isinstance(was[name], list) else was[name]
        given, default = getattr(arguments, name), arguments.defaults[name]
        if given not in (default, kept):
            field = name.replace("_", "-")
            raise InputError(
                field,
                f"{earlier.folder} was made with {kept}, not {given}; leave --{field} out, or begin anew",
            )
        setattr(arguments, name, kept)


def _hero_of(arguments: argparse.Namespace, earlier: Earlier | None) -> Hero | None:
    hero = chosen_hero(arguments)
    if earlier and hero and earlier.signature.get("accelerator") is not None:
        from hero_engine import HeroConfig

        # The preset may have been changed by options, which need not be given again.
        return Hero(HeroConfig.from_dict(earlier.signature["accelerator"]))
    return hero


def _planned(work: Work, earlier: Earlier | None) -> tuple[Plan, np.ndarray, Options]:
    """What to walk, from which picture, and how."""
    from ..arrays import to_bytes
    from ..defaults import BASE_FPS
    from ..explore.parts import plan_windows
    from ..explore.walk import Options
    from ..generation.tasks import check_fps
    from ..run import job

    arguments, model = work.arguments, work.model
    if earlier:
        path = earlier.plan.path
        piece = _piece(work, path.height, path.width, earlier.options.fps)
        return earlier.with_piece(piece, arguments.at), earlier.picture, earlier.options
    inputs = job.gather(model, "prediction", {"image": arguments.image}, size=arguments.size)
    for note in inputs.notes:
        work.console.say(f"note: {note}")
    fps = BASE_FPS if arguments.fps is None else check_fps(arguments.fps)
    piece = _piece(work, inputs.height, inputs.width, fps)
    plan = plan_windows(piece, arguments.window, arguments.overlap, default=model.spec.default_frames)
    options = Options(
        fps, arguments.returns, arguments.colors, arguments.steady, arguments.post_reconstruction
    )
    return plan, to_bytes(inputs.pictures["image"]), options


def _piece(work: Work, height: int, width: int, fps: int) -> Cameras:
    """The path that was given, in its number of frames and the pictures' size."""
    from ..formats.known_lens import read_lens
    from ..geometry import trajectory
    from ..run import job

    arguments, frames = work.arguments, work.arguments.frames
    lens = None if arguments.lens is None else read_lens(arguments.lens, height, width)
    try:
        read = job.read_path(arguments.camera, frames or FRAMES, fps, lens)
    except InputError as error:
        text = error.message if error.field in ("camera", "file") else str(error)
        raise InputError("camera", text) from error
    for note in read.notes:
        work.console.say(f"note: camera: {note}")
    path = read.cameras.relative_to_first()
    return trajectory.fitted(trajectory.resampled(path, frames or len(path)), height, width)


def _explore(
    work: Work, earlier: Earlier | None, plan: Plan, picture: np.ndarray, options: Options, out: Path
) -> None:
    from ..explore.chain import Chain
    from ..explore.preview import write_preview
    from ..explore.walk import explore, walk_signature
    from ..locks import locked
    from ..long.store import count_windows

    arguments, console, model = work.arguments, work.console, work.model
    folder = out.with_name(f"{out.name}.windows")
    kept = reporting_kept(console, folder, lambda: count_windows(folder), "window")
    signature = walk_signature(model, work.settings, options, work.hero)
    with locked(folder) as unlocked, kept:
        work.say_job(len(plan.path), *picture.shape[:2], options.fps)
        console.say(
            f"{len(plan.starts)} windows of {plan.length} frames, kept in {folder} until all are done"
        )
        for note in (*plan.notes(), *([f"out: {unlocked}"] if unlocked else [])):
            console.say(f"note: {note}")
        work.say_memory(plan.length, *picture.shape[:2])
        if earlier:
            _take_windows(earlier, signature, Chain(folder, signature, picture, plan), arguments.at)
        walk = explore(
            model,
            picture,
            plan,
            work.settings,
            folder,
            options,
            accelerator=work.hero,
            callback=console.windows(),
            preview=lambda so_far: write_preview(folder, so_far),
            say=console.say,
            rehearsed=arguments.compile,
        )
        _write(work, walk, picture, options, signature, out)


def _take_windows(earlier: Earlier, signature: dict[str, Any], chain: Any, at: int | None) -> None:
    """The windows that both walks share, into the new one's folder."""
    from ..explore.chain import Chain

    earlier.check_same(signature)
    before = Chain(earlier.windows, signature, earlier.picture, earlier.plan)
    last = len(earlier.plan.path) - 1 if at is None else at
    needed = sum(start + earlier.plan.length - 1 <= last for start in earlier.plan.starts)
    earlier.check_windows(before, needed)
    chain.take_from(earlier.windows)


def _write(
    work: Work, walk: Walk, picture: np.ndarray, options: Options, signature: dict[str, Any], out: Path
) -> None:
    from ..explore.folder import move_windows, walk_files

    arguments = work.arguments
    made_by = {name: getattr(arguments, name) for name in (*_KEPT, *_KEPT_OPTIONS, "hero", "setting")}
    made_by["steps"] = work.settings.steps
    extras = walk_files(walk, picture, work.settings, options, signature, made_by)
    asked = walk.plan.path.scaled(walk.merge.unit)
    work.write(walk, walk.cameras, options.fps, walk, None, asked=asked, extras=extras)
    move_windows(walk.chain, out)
