"""The command line: `python -m aether reconstruct | predict | plan | compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import InputError
from ..memory_errors import is_out_of_memory
from .console import Console
from .hero import Hero, chosen_hero
from .model import prepare_model, say_job, say_memory
from .parser import COMMANDS, build_parser, option_error
from .windows import chosen_executor, run_windows, wants_windows

if TYPE_CHECKING:
    from ..model.parts import AetherModel
    from ..run.compare import Comparison
    from ..run.job import Inputs, Result, Settings

_INTERRUPTED = 130
_FAILED, _REFUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, 1 where the device's memory did not do, 2 where an input or a setting cannot be
        used, 130 after Ctrl-C. Nothing is left of an output folder unless it is 0.
    """
    arguments = build_parser().parse_args(argv)
    try:
        # A progress bar ends before anything is printed of an error.
        with closing(Console(arguments.quiet)) as console:
            (_compare if arguments.command == "compare" else _run)(arguments, console)
    except KeyboardInterrupt as interrupt:
        print(f"interrupted; {str(interrupt) or 'nothing was written'}", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if is_out_of_memory(error):
            hint = "take fewer --frames, a smaller --size, --dtype float8, --offload or --vae-tiling"
            print(f"error: device: out of memory; {hint}", file=sys.stderr)
            return _FAILED
        # InputError and hero_engine's ConfigError are ValueErrors that name their field; others are bugs.
        if not isinstance(error, (ImportError, OSError)) and not hasattr(error, "field"):
            raise
        print(f"error: {option_error(error, arguments)}", file=sys.stderr)
        return _REFUSED
    return 0


def _run(arguments: argparse.Namespace, console: Console) -> None:
    """Reconstruct, predict or plan."""
    from ..clips.frame_plan import LEFT_OUT
    from ..formats.export import check_out_dir
    from ..generation.sampling import check_steps
    from ..run import job

    task, names = COMMANDS[arguments.command]
    sources = {name: getattr(arguments, name) for name in names}
    check_out_dir(arguments.out, overwrite=arguments.overwrite)
    hero = chosen_hero(arguments)
    long = arguments.command == "reconstruct" and wants_windows(arguments)
    job.check_sources(sources)
    executor = chosen_executor(arguments) if long else None
    if executor:  # from here the model travels to the workers
        arguments.device = "cpu"
    model, settings = prepare_model(arguments, console, task, hero)
    if long and run_windows(arguments, console, model, settings, hero, executor):
        return
    post_steps = getattr(arguments, "post_reconstruction", None)
    if post_steps is not None:
        check_steps(model, post_steps, "post_reconstruction")
    inputs = _prepare_inputs(arguments, console, task, sources, model, settings, hero)
    if arguments.command == "reconstruct" and any(note.endswith(LEFT_OUT) for note in inputs.notes):
        console.say("hint: --windows reconstructs the whole clip")
    result = _compute(arguments, console, model, inputs, settings, hero)
    _write(arguments, console, inputs, result)


def _prepare_inputs(
    arguments: argparse.Namespace,
    console: Console,
    task: str,
    sources: dict[str, str],
    model: AetherModel,
    settings: Settings,
    hero: Hero | None,
) -> Inputs:
    """Read the inputs, and report what will be done and what it takes."""
    from ..run import job

    inputs = job.gather(
        model,
        task,
        sources,
        size=arguments.size,
        frames=arguments.frames,
        fps=arguments.fps,
        raymap=arguments.raymap,
        camera=arguments.camera,
    )
    clip = inputs.frames, inputs.height, inputs.width
    say_job(console, model, task, (*clip, inputs.fps), settings)
    for note in inputs.notes:
        console.say(f"note: {note}")
    say_memory(console, model, task, clip, settings, hero, offload=arguments.offload)
    return inputs


def _compute(
    arguments: argparse.Namespace,
    console: Console,
    model: AetherModel,
    inputs: Inputs,
    settings: Settings,
    hero: Hero | None,
) -> Result:
    from ..run import job
    from ..run.post_reconstruction import post_reconstruct

    if arguments.compile:
        job.rehearse(model, inputs, settings, hero, console.steps("compiling"))
    result = job.run(model, inputs, settings, accelerator=hero, callback=console.steps("denoising"))
    steps = getattr(arguments, "post_reconstruction", None)
    if steps is None:
        return result
    watch = console.steps("reconstructing")
    return post_reconstruct(model, inputs, result, settings, steps=steps, callback=watch)


def _write(arguments: argparse.Namespace, console: Console, inputs: Inputs, result: Result) -> None:
    from ..formats.export import write_run

    console.stage("writing")
    files = write_run(
        arguments.out,
        result.decoded,
        result.cameras,
        inputs.fps,
        report=result.report,
        report_png=result.picture,
        source=inputs.pictures.get("video"),
        notes=inputs.notes,
        overwrite=arguments.overwrite,
        depth_format=arguments.depth_format,
    )
    console.figures(result.report)
    truth = result.report["depth_against_truth"]
    if truth:
        console.say(
            f"depth against the rendered truth, median aligned, sky left out: "
            f"Abs Rel {truth['abs_rel']:.3f}, delta1 {truth['delta1']:.3f} (for information)"
        )
    console.result(next(iter(files.values())).parent, files)


def _compare(arguments: argparse.Namespace, console: Console) -> None:
    """One job without and with HERO."""
    from ..formats.export import check_out_dir
    from ..run import job
    from ..run.compare import compare

    task, names = COMMANDS[arguments.task]
    if len(arguments.inputs) != len(names):
        raise InputError(
            "inputs", f"{arguments.task} takes {' and '.join(names)}, not {len(arguments.inputs)} inputs"
        )
    if arguments.repeats < 1:
        raise InputError("repeats", f"{arguments.repeats} is not a whole number from 1")
    sources = dict(zip(names, arguments.inputs, strict=True))
    check_out_dir(arguments.out, overwrite=arguments.overwrite, marks=("compare.json",))
    hero = chosen_hero(arguments)
    if hero is None:
        raise InputError("hero", "is off, so there is nothing to compare; name a preset")
    job.check_sources(sources)
    model, settings = prepare_model(arguments, console, task, hero)
    inputs = _prepare_inputs(arguments, console, task, sources, model, settings, hero)
    comparison = compare(model, inputs, settings, hero, repeats=arguments.repeats, callback=console.steps)
    _write_comparison(arguments, console, inputs, comparison)


def _write_comparison(
    arguments: argparse.Namespace, console: Console, inputs: Inputs, comparison: Comparison
) -> None:
    import json
    import textwrap

    from ..files import new_folder
    from ..formats.export import check_out_dir, write_run
    from ..run.compare import METHOD

    console.stage("writing")
    out = check_out_dir(arguments.out, overwrite=arguments.overwrite, marks=("compare.json",))
    shared = {
        "source": inputs.pictures.get("video"),
        "notes": inputs.notes,
        "depth_format": arguments.depth_format,
    }
    with new_folder(out) as folder:
        for name, result in (("plain", comparison.plain), ("hero", comparison.fast)):
            reports = {"report": result.report, "report_png": result.picture}
            write_run(folder / name, result.decoded, result.cameras, inputs.fps, **reports, **shared)
        (folder / "compare.json").write_text(json.dumps(comparison.to_dict(), indent=1), encoding="utf-8")
    console.say(f"\n{comparison.table()}\n\n{textwrap.fill(METHOD, 100)}\n")
    for doubt in comparison.doubts():
        console.say(f"note: {doubt}")
    console.result(out, ["plain/", "hero/", "compare.json"])
