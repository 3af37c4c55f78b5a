"""The command line: `python -m aether reconstruct | predict | plan | explore | compare | tune | doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import InputError
from ..memory_errors import is_out_of_memory
from .console import Console
from .doctor import run_doctor
from .exploring import run_exploring
from .hero import chosen_hero
from .model import prepare
from .parser import COMMANDS, build_parser, listed_inputs, option_error
from .tuning import run_tuning
from .windows import chosen_executor, run_windows, wants_windows

if TYPE_CHECKING:
    from ..run.compare import Comparison
    from ..run.job import Inputs

_INTERRUPTED = 130
_FAILED, _REFUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, 1 where the device's memory did not do or `doctor` found that the miniature cannot
        run, 2 where an input or a setting cannot be used, 130 after Ctrl-C. Nothing is left of an output
        folder unless it is 0, but for what can go on later: finished windows, and finished runs of a tuning.
    """
    arguments = build_parser().parse_args(argv)
    try:
        # A progress bar ends before anything is printed of an error.
        with closing(Console(arguments.quiet)) as console:
            return _COMMANDS.get(arguments.command, _run)(arguments, console) or 0
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


def _run(arguments: argparse.Namespace, console: Console) -> None:
    """Reconstruct, predict or plan."""
    from ..clips.frame_plan import LEFT_OUT
    from ..formats.export import check_out_dir
    from ..generation.sampling import check_steps
    from ..run import job
    from ..run.post_reconstruction import post_reconstruct

    task, names = COMMANDS[arguments.command]
    sources = {name: getattr(arguments, name) for name in names}
    check_out_dir(arguments.out, overwrite=arguments.overwrite)
    hero = chosen_hero(arguments)
    long = arguments.command == "reconstruct" and wants_windows(arguments)
    job.check_sources(sources)
    executor = chosen_executor(arguments) if long else None
    if executor:  # from here the model travels to the workers
        arguments.device = "cpu"
    work = prepare(arguments, console, task, hero)
    model, settings = work.model, work.settings
    if long and run_windows(work, executor):
        return
    post_steps = getattr(arguments, "post_reconstruction", None)
    if post_steps is not None:
        check_steps(model.scheduler, post_steps, "post_reconstruction")
    inputs = work.gather(sources)
    if arguments.command == "reconstruct" and any(note.endswith(LEFT_OUT) for note in inputs.notes):
        console.say("hint: --windows reconstructs the whole clip")
    if arguments.compile:
        job.rehearse(model, inputs, settings, hero, console.steps("compiling"))
    result = job.run(model, inputs, settings, accelerator=hero, callback=console.steps("denoising"))
    if post_steps is not None:
        watch = console.steps("reconstructing")
        result = post_reconstruct(model, inputs, result, settings, steps=post_steps, callback=watch)
    work.write(result.decoded, result.cameras, inputs.fps, result, inputs.pictures.get("video"), inputs.asked)


def _compare(arguments: argparse.Namespace, console: Console) -> None:
    """One job without and with HERO."""
    from ..formats.export import check_out_dir
    from ..run import job
    from ..run.compare import compare

    task, sources = listed_inputs(arguments)
    if arguments.repeats < 1:
        raise InputError("repeats", f"{arguments.repeats} is not a whole number from 1")
    check_out_dir(arguments.out, overwrite=arguments.overwrite, marks=("compare.json",))
    hero = chosen_hero(arguments)
    if hero is None:
        raise InputError("hero", "is off, so there is nothing to compare; name a preset")
    job.check_sources(sources)
    work = prepare(arguments, console, task, hero)
    inputs = work.gather(sources)
    comparison = compare(
        work.model, inputs, work.settings, hero, repeats=arguments.repeats, callback=console.steps
    )
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
        "asked": inputs.asked,
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


_COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int | None]] = {
    "explore": run_exploring,
    "compare": _compare,
    "tune": run_tuning,
    "doctor": run_doctor,
}
"""Those with ways of their own."""
