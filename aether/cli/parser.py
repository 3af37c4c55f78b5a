"""The options of `python -m aether`."""

from __future__ import annotations

import argparse

from hero_engine import HeroConfig
from hero_engine.command_options import (
    SETTING_HELP,
    add_settings,
    error_text,
    number,
    share,
    sides,
    whole_number,
)

from ..defaults import DEPTH_FORMATS, SCHEDULERS, TASKS, steps_text
from ..errors import InputError

COMMANDS = {
    "reconstruct": ("reconstruction", ("video",)),
    "predict": ("prediction", ("image",)),
    "plan": ("planning", ("image", "goal")),
}
"""Command to its task and its inputs."""

_RECONSTRUCTION = TASKS["reconstruction"]

DTYPES = ("auto", "bfloat16", "float16", "float32", "float8")
"""float8: large weights are kept in it; the device computes in what "auto" is."""

_HERO_NOTE = "Options after the first two override the preset or the setting."
_TUNING = "aether-tuning"
"""The folder that `tune` writes by default."""

_INPUT_HELP = {
    "video": "a video, an animation, or a folder of pictures",
    "image": "the first picture",
    "goal": "the last picture",
}
_POSITIONALS = (*_INPUT_HELP, "inputs")
_INPUTS_HELP = "what the task takes: VIDEO, IMAGE or IMAGE GOAL"
HERO_RENAMED = {"seed": "hero_seed"}
"""Settings of HERO whose option has another name: --seed is that of the noise."""
_RENAMED = {"source": "model", "transformer": "model", "tiling": "vae_tiling", "folder": "out"}
"""What the library calls an option in its errors."""


def option_error(error: Exception, arguments: argparse.Namespace) -> str:
    """An error's text; it names the option that was typed."""
    return error_text(error, arguments, positionals=_POSITIONALS, renamed=_RENAMED)


def renamed(text: str) -> str:
    """A message ``field: ...`` of the library with its field as the command line has it."""
    field, colon, rest = text.partition(": ")
    return f"{_RENAMED.get(field, field)}{colon}{rest}"


def listed_inputs(arguments: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """The task, and its inputs by name, of a command that takes the inputs of any task.

    Raises:
        InputError: too many inputs for it, or too few.
    """
    task, names = COMMANDS[arguments.task]
    if len(arguments.inputs) != len(names):
        raise InputError(
            "inputs", f"{arguments.task} takes {' and '.join(names)}, not {len(arguments.inputs)} inputs"
        )
    return task, dict(zip(names, arguments.inputs, strict=True))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. ``command`` is the chosen one's name."""
    parser = argparse.ArgumentParser(
        prog="python -m aether",
        description="Turn a clip, or one or two pictures, into RGB video, depth and cameras, accelerated by "
        'HERO. An input may also be "synthetic" or "synthetic:SEED": a rendered clip whose depth is known.',
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, help_text in (
        ("reconstruct", "a clip's depth and cameras"),
        ("predict", "what follows a picture"),
        ("plan", "the way from one picture to another"),
    ):
        command = commands.add_parser(name, help=help_text, formatter_class=_HelpFormatter)
        for source in COMMANDS[name][1]:
            command.add_argument(source, metavar=source.upper(), help=_INPUT_HELP[source])
        _add_common(command)
        if name == "reconstruct":
            _add_windows(command)
        else:
            _add_post_reconstruction(command)
    _add_explore(
        commands.add_parser(
            "explore",
            help="a walk through a world, along a path of any length",
            formatter_class=_HelpFormatter,
        )
    )
    _add_compare(
        commands.add_parser(
            "compare", help="one job without and with HERO, side by side", formatter_class=_HelpFormatter
        )
    )
    _add_tune(
        commands.add_parser(
            "tune", help="a setting of HERO for a speed or an error", formatter_class=_HelpFormatter
        )
    )
    _add_doctor(
        commands.add_parser(
            "doctor", help="what is here, what is missing, what fits", formatter_class=_HelpFormatter
        )
    )
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds defaults, but not where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _add_explore(command: argparse.ArgumentParser) -> None:
    command.description = (
        "From a picture, along a camera path of any length, in windows that go on from each other, to video, "
        "depth, cameras and a point cloud. A walk that was stopped goes on where it was, and a finished one "
        "can be continued from its folder."
    )
    command.add_argument("image", metavar="IMAGE", nargs="?", help=_INPUT_HELP["image"])
    command.add_argument("--from", metavar="DIR", help="go on from an earlier walk, with its settings")
    command.add_argument(
        "--at", type=whole_number, metavar="FRAME", help="frame of the earlier walk to go on from; its last"
    )
    _add_model(command.add_argument_group("model"))
    job = command.add_argument_group("job")
    _add_sampling(job)
    job.add_argument("--frames", type=whole_number, help="of the path; 161 of a move, a file's own")
    job.add_argument("--fps", type=whole_number, help="8, 10, 12, 15 or 24; 12")
    walk = command.add_argument_group("walk")
    walk.add_argument(
        "--window", type=whole_number, help="frames of a window: 17, 25, 33 or 41; the model's own"
    )
    walk.add_argument("--overlap", type=whole_number, default=1, help="frames that windows share, 1 to 8")
    for name, help_text in (
        ("returns", "where the path comes back to a view seen before, end the window with that view"),
        ("colors", "keep colors from drifting"),
        ("steady", "keep the scale of depth from drifting"),
    ):
        walk.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=help_text)
    _add_post_reconstruction(command)
    _add_path(command.add_argument_group("camera path"), required=True)
    _add_hero(command.add_argument_group("HERO", _HERO_NOTE))
    _add_output(command.add_argument_group("output"))
    command.set_defaults(defaults={action.dest: action.default for action in command._actions})


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS_HELP)
    command.add_argument("--task", choices=COMMANDS, default="reconstruct", help="the job")
    command.add_argument("--repeats", type=whole_number, default=1, help="runs of each; the fastest counts")
    _add_common(command)


def _add_tune(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Run once without acceleration, then with the most promising settings of HERO, and print the one "
        "that best meets the target, for --setting of the other commands."
    )
    command.add_argument("task", choices=COMMANDS, help="the job")
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS_HELP)
    target = command.add_argument_group("target").add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--speed",
        type=number,
        metavar="X",
        help="at least so many times less computation; of such settings the closest to the unaccelerated "
        "result",
    )
    target.add_argument(
        "--error",
        type=number,
        metavar="PERCENT",
        help="at most so much difference of the final latent from the unaccelerated one; of such settings "
        "the fastest",
    )
    _add_job_groups(command)
    output = command.add_argument_group("output")
    output.add_argument("--budget", type=whole_number, default=6, help="runs to make, 2 or more")
    output.add_argument(
        "--out",
        default=_TUNING,
        metavar="DIR",
        help="folder to write; the same command goes on from the runs that it holds",
    )
    output.add_argument("--quiet", action="store_true", help="print the setting only")


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print versions, device, memory, weights, and which settings fit this device, as text to copy into a "
        "report. The exit status is 1 where the bundled model cannot run. Nothing is downloaded."
    )
    _add_cache_dir(command)
    command.add_argument("--tuning", default=_TUNING, metavar="DIR", help="folder that tune wrote")
    command.set_defaults(quiet=False)


def _add_cache_dir(group: argparse._ActionsContainer) -> None:
    group.add_argument("--cache-dir", help="where downloads are kept")


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_job_groups(command)
    _add_hero(command.add_argument_group("HERO", _HERO_NOTE))
    _add_output(command.add_argument_group("output"))


def _add_job_groups(command: argparse.ArgumentParser) -> None:
    _add_model(command.add_argument_group("model"))
    _add_job(command.add_argument_group("job"))
    _add_camera(command.add_argument_group("camera path"))


def _add_model(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--model",
        default="miniature",
        help="miniature (built in: 64x96, knows a synthetic world), a diffusers folder, a .safetensors "
        "transformer, or the name of a Hugging Face repository such as AetherWorldModel/AetherV1, which is "
        "downloaded",
    )
    model.add_argument("--vae", help="folder, .safetensors file or repository, where the model has none")
    model.add_argument("--prompt", help=".safetensors file with the empty prompt's embedding")
    model.add_argument("--text-encoder", help="folder or repository that computes the embedding once")
    _add_cache_dir(model)
    model.add_argument(
        "--offload", action="store_true", help="blocks wait in the computer's memory and come one by one"
    )
    model.add_argument(
        "--vae-tiling",
        action=argparse.BooleanOptionalAction,
        help="less memory for the VAE, tile by tile; on for clips larger than its own size (480x720)",
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu")
    model.add_argument("--dtype", default="auto", choices=DTYPES)
    model.add_argument(
        "--attention",
        default="sdpa",
        choices=("auto", "sdpa", "cudnn", "flash", "flash3", "sage"),
        help="attention of the transformer: torch's own (sdpa), or a faster one, equal up to rounding (sage: "
        "to 8 bits); auto: the fastest that runs here and is not rounded to 8 bits",
    )
    model.add_argument("--compile", action="store_true", help="compile the transformer's blocks first")


def _guidance_text() -> str:
    return ", ".join(f"{task.default_guidance:g} for {task.name}" for task in TASKS.values())


def _add_job(job: argparse._ArgumentGroup) -> None:
    _add_sampling(job)
    job.add_argument("--frames", type=whole_number, help="17, 25, 33 or 41; what the clip fills")
    job.add_argument("--fps", type=whole_number, help="8, 10, 12, 15 or 24; what suits the clip")


def _add_sampling(job: argparse._ArgumentGroup) -> None:
    job.add_argument(
        "--steps",
        type=whole_number,
        help=f"denoising steps; default: {steps_text()} ({_RECONSTRUCTION.default_steps} is quick)",
    )
    job.add_argument("--guidance", type=number, help=f"guidance scale; default: {_guidance_text()}")
    job.add_argument(
        "--guidance-skip",
        type=share,
        default=0.0,
        metavar="TOLERANCE",
        help="leave the unconditional half out of steps whose guidance scale is at most 1 + this; 0.05 does "
        "so in 6 of 50",
    )
    job.add_argument("--seed", type=whole_number, default=42, help="of the noise")
    job.add_argument("--scheduler", choices=SCHEDULERS, default=SCHEDULERS[0], help="dpm is Aether's own")
    job.add_argument("--size", type=_size, metavar="HxW", help="height x width in pixels; the model's own")


def _add_camera(camera: argparse._ArgumentGroup) -> None:
    camera.add_argument("--raymap", metavar="FILE.npy", help="path to follow, (frames, 6, H/8, W/8)")
    _add_path(camera)


def _add_path(camera: argparse._ArgumentGroup, *, required: bool = False) -> None:
    camera.add_argument(
        "--camera",
        required=required,
        metavar="MOVE[:AMOUNT]|FILE",
        help="path to follow: a move such as orbit-left:0.5 or dolly-in, of the clip's length, or a file: "
        "cameras.json, transforms.json, COLMAP's images.bin or images.txt, .txt or .csv (TUM, KITTI, "
        "RealEstate10K, EuRoC), .glb, .gltf, .npz, .npy; COLMAP's .bin; or a folder that holds one of the "
        "first three",
    )
    camera.add_argument(
        "--lens",
        metavar="DEGREES|FX,FY,CX,CY|FILE",
        help="the clip's known lens, in place of the one that the model finds or a move assumes: horizontal "
        "angle of view in degrees, or focal lengths and principal point in pixels, both of the result; or a "
        "camera file that has a lens",
    )


def _add_hero(hero: argparse._ArgumentGroup) -> None:
    start = hero.add_mutually_exclusive_group()
    start.add_argument("--hero", default="balanced", metavar="PRESET|off", help="preset, or off")
    start.add_argument("--setting", metavar="TEXT", help=SETTING_HELP.replace("%", "%%"))
    add_settings(hero, HeroConfig, HERO_RENAMED)


def _add_output(output: argparse._ArgumentGroup) -> None:
    output.add_argument("--out", default="aether-output", metavar="DIR", help="folder to write")
    output.add_argument(
        "--overwrite", action="store_true", help="replace the folder if it holds an earlier run"
    )
    output.add_argument(
        "--depth-format",
        choices=DEPTH_FORMATS,
        help="also write depth/, a picture a frame: exr holds depth as 32-bit floats, png16 disparity",
    )
    output.add_argument(
        "--meters",
        metavar="HOW",
        help="write depth, cameras and points in meters, by something known: distance:METERS:X,Y:X,Y[:FRAME] "
        "between two pixels, height:METERS[:FRAME] of the camera above the ground, "
        "baseline:METERS[:FRAME:FRAME] between two frames' cameras, or depth:FILE in meters (a folder with "
        "depth.json, a .npy)",
    )
    output.add_argument("--quiet", action="store_true", help="print the folder only")


def _add_post_reconstruction(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--post-reconstruction",
        type=whole_number,
        nargs="?",
        const=_RECONSTRUCTION.default_steps,
        metavar="STEPS",
        help="find depth and cameras once more from the finished video, which is better; default: "
        f"{_RECONSTRUCTION.default_steps} steps",
    )


def _add_windows(command: argparse.ArgumentParser) -> None:
    windows = command.add_argument_group("long clips", "Several runs that overlap, put together.")
    windows.add_argument(
        "--windows",
        action="store_true",
        help="reconstruct the whole clip, however long, in windows of --frames; a run that was stopped goes "
        "on where it was",
    )
    windows.add_argument("--stride", type=whole_number, help="frames from one window to the next; 24 of 41")
    windows.add_argument(
        "--tiles",
        action="store_true",
        help="keep all of a wide or tall picture, in tiles of --size that overlap, instead of cropping it",
    )
    windows.add_argument(
        "--workers",
        type=whole_number,
        help="windows on so many workers of Ray (pip install ray); one for each GPU",
    )
    windows.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster, such as auto; else this machine")


def _size(text: str) -> tuple[int, ...]:
    return sides(text, "HEIGHTxWIDTH", "480x720")
