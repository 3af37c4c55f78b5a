"""`python -m evaluation compare`: arguments, and what is written where."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether.defaults import steps_text
from aether.errors import InputError
from hero_engine.command_options import number, whole_number

if TYPE_CHECKING:
    from .comparison import Plan

HELP = "every method against the unaccelerated run: speed, fidelity, depth and pose; or a search for settings"
SCENES, SEARCH_SCENES = "0,1", "100,101"


def add_compare(commands: Any) -> None:
    """Add the command to the parser's commands."""
    command = commands.add_parser("compare", help=HELP, description=HELP[:1].upper() + HELP[1:])
    command.add_argument(
        "--out",
        dest="folder",
        metavar="DIR",
        help="where runs are kept and results are written; the same command goes on where it was interrupted",
    )
    command.add_argument(
        "--model", default="miniature", help="miniature (built in), or a diffusers folder or repository name"
    )
    command.add_argument("--scenes", help=f"seeds; default: {SCENES}; of a search {SEARCH_SCENES}")
    command.add_argument("--tasks", default="reconstruction,prediction,planning", help="default: %(default)s")
    command.add_argument("--steps", type=whole_number, help=f"for every task; default: {steps_text()}")
    command.add_argument("--samplers", default="reference,deterministic", help="default: %(default)s")
    command.add_argument("--targets", default="1.5,1.75,2,2.5", help="speed-ups by FLOPs; default: all four")
    command.add_argument("--methods", help="only these, such as hero,fora,cache-dit,fewer-steps")
    command.add_argument("--settings", metavar="FILE", help="of a search; default: a fixed selection")
    command.add_argument(
        "--workers", type=whole_number, default=1, help="processes of one thread each; default: 1"
    )
    command.add_argument("--dry-run", action="store_true", help="say how many runs there are, and the time")
    command.add_argument("--search", action="store_true", help="look for the best settings: settings.json")
    command.add_argument("--minutes", type=number, default=30, help="that the search may take; default: 30")
    command.set_defaults(run=run_compare, out=None)


def run_compare(arguments: argparse.Namespace) -> str:
    """Compare, or search, or say what that would take; what is printed in the end.

    Raises:
        InputError: an argument that cannot be used.
        ImportError: a package that measures is missing.
    """
    import torch

    try:
        import evo  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise ImportError('evo and scikit-image measure: pip install ".[evaluation]"') from error

    from . import comparison

    plan = _checked(arguments)
    torch.set_num_threads(1)
    act = comparison.find_settings if arguments.search else comparison.compare
    return act(plan, arguments.dry_run)


def _checked(arguments: argparse.Namespace) -> Plan:
    from ..models import SAMPLERS, STEPS
    from .comparison import Plan
    from .contenders import known_methods

    _check_numbers(arguments)
    scenes = arguments.scenes or (SEARCH_SCENES if arguments.search else SCENES)
    seeds, targets = _numbers("scenes", scenes, int), _numbers("targets", arguments.targets, float)
    if any(seed < 0 for seed in seeds):
        raise InputError("scenes", f"{scenes} are not all seeds from 0")
    if any(not (math.isfinite(target) and target > 1) for target in targets):
        raise InputError("targets", f"{arguments.targets} are not all above 1")
    tasks = _names("tasks", arguments.tasks, STEPS)
    methods = arguments.methods and _names("methods", arguments.methods, known_methods())
    return Plan(
        folder=None if arguments.folder is None else Path(arguments.folder).expanduser(),
        source=arguments.model,
        scenes=seeds,
        tasks={task: arguments.steps or STEPS[task] for task in tasks},
        samplers=_names("samplers", arguments.samplers, SAMPLERS),
        targets=targets,
        methods=methods,
        settings=arguments.settings,
        workers=arguments.workers,
        minutes=arguments.minutes,
    )


def _check_numbers(arguments: argparse.Namespace) -> None:
    if arguments.folder is None and not arguments.dry_run:
        raise InputError("out", "is needed: a folder for the runs, so that they are not lost")
    if arguments.steps is not None and not 2 <= arguments.steps <= 1000:
        raise InputError("steps", f"{arguments.steps} is not from 2 to 1000")
    if arguments.workers < 1:
        raise InputError("workers", f"{arguments.workers} is not at least 1")
    if not (math.isfinite(arguments.minutes) and arguments.minutes > 0):
        raise InputError("minutes", f"{arguments.minutes} is not a number above 0")


def _numbers(field: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        raise InputError(field, f"{text!r} is not a list of numbers such as 1,2") from None


def _names(field: str, text: str, known: Any) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise InputError(field, f"{name!r} is not one of {', '.join(known)}")
    return names
