"""The command line: `python -m aether reconstruct | predict | plan | compare`.

The one place where `aether` and `hero_engine` meet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .memory_errors import is_out_of_memory

if TYPE_CHECKING:
    from hero_engine import HeroConfig, HeroRun
    from hero_engine.flops import ModelShape

    from .job import Inputs, Result, Settings
    from .model import AetherModel
    from .sampling import Callback, StepInfo
    from .window_jobs import Executor, Progress

COMMANDS = {
    "reconstruct": ("reconstruction", ("video",)),
    "predict": ("prediction", ("image",)),
    "plan": ("planning", ("image", "goal")),
}
RECONSTRUCTION_STEPS = 30
"""As in HERO's tables. The reference's quick setting, 4, leaves nothing to accelerate."""

POST_STEPS = 4
"""As in Aether's demo."""

_HERO_OPTIONS = (
    "tau", "interval", "ratio", "threshold", "patch", "warmup", "cooldown", "context", "forecast",
    "text", "shallow", "feedback", "storage",
)  # fmt: skip
DTYPES = ("auto", "bfloat16", "float16", "float32", "float8")
"""float8: large weights are kept in it; the device computes in what "auto" is."""

_INTERRUPTED = 130
_FAILED, _REFUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, 1 where the device's memory did not do, 2 where an input or a setting cannot be
        used, 130 after Ctrl-C. Nothing is left of an output folder unless it is 0.
    """
    arguments = build_parser().parse_args(argv)
    console = Console(arguments.quiet)
    try:
        arguments.run(arguments, console)
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
        print(f"error: {error}", file=sys.stderr)
        return _REFUSED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m aether",
        description="Turn a clip, or one or two pictures, into RGB video, depth and cameras, accelerated by "
        'HERO. An input may also be "synthetic" or "synthetic:SEED": a rendered clip whose depth is known.',
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help_text in (
        ("reconstruct", "a clip's depth and cameras"),
        ("predict", "what follows a picture"),
        ("plan", "the way from one picture to another"),
    ):
        command = commands.add_parser(name, help=help_text, formatter_class=_HelpFormatter)
        for source in COMMANDS[name][1]:
            command.add_argument(source, metavar="CLIP" if source == "video" else source.upper())
        _add_common(command)
        if name == "reconstruct":
            _add_windows(command)
        else:
            command.add_argument(
                "--post-reconstruction",
                type=int,
                nargs="?",
                const=POST_STEPS,
                metavar="STEPS",
                help="find depth and cameras once more from the finished video, which is better; 4 steps",
            )
        command.set_defaults(run=_run, command=name)
    command = commands.add_parser(
        "compare", help="one job without and with HERO, side by side", formatter_class=_HelpFormatter
    )
    command.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="what the task takes: CLIP, IMAGE or IMAGE GOAL"
    )
    command.add_argument("--task", choices=COMMANDS, default="reconstruct", help="the job")
    command.add_argument("--repeats", type=int, default=1, help="runs of each; the fastest counts")
    _add_common(command)
    command.set_defaults(run=_compare)
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds defaults, but not where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _add_common(command: argparse.ArgumentParser) -> None:
    from hero_engine.cost_cli import ratio

    model = command.add_argument_group("model")
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
    model.add_argument("--cache-dir", help="where downloads are kept")
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

    job = command.add_argument_group("job")
    job.add_argument("--steps", type=int, help="denoising steps: 30 to reconstruct (4 is quick), else 50")
    job.add_argument("--guidance", type=float, help="guidance scale: 1 to reconstruct, else 3")
    job.add_argument(
        "--guidance-skip",
        type=float,
        default=0.0,
        metavar="TOLERANCE",
        help="leave the unconditional half out of steps whose guidance scale is at most 1 + this; 0.05 does "
        "so in 6 of 50",
    )
    job.add_argument("--seed", type=int, default=42, help="of the noise")
    job.add_argument("--scheduler", choices=("dpm", "ddim"), default="dpm", help="dpm is Aether's own")
    job.add_argument("--size", type=_size, metavar="HxW", help="height x width in pixels; the model's own")
    job.add_argument("--frames", type=int, help="17, 25, 33 or 41; what the clip fills")
    job.add_argument("--fps", type=int, help="8, 10, 12, 15 or 24; what suits the clip")
    job.add_argument("--raymap", metavar="FILE.npy", help="camera path to follow, (frames, 6, H/8, W/8)")
    job.add_argument(
        "--camera",
        metavar="MOVE[:AMOUNT]|FILE",
        help="camera path to follow: a move such as orbit-left:0.5 or dolly-in, of the clip's length, or a "
        "file: cameras.json, transforms.json, COLMAP's images.txt, TUM .txt, .glb, .npz, .npy; or a folder "
        "that holds one of the first three",
    )

    hero = command.add_argument_group("HERO", "Options after the first override the preset.")
    hero.add_argument("--hero", default="balanced", metavar="PRESET|off", help="preset, or off")
    hero.add_argument("--tau", type=_count_or_share, help="shallow blocks: a count, or a share such as 0.5")
    hero.add_argument("--interval", type=int, help="a full step at least every so many steps")
    hero.add_argument("--ratio", type=ratio, help="share of tokens refreshed on cached steps, such as 1/6")
    hero.add_argument("--threshold", type=float, help="drift that calls for a full step; 0: fixed interval")
    hero.add_argument("--warmup", type=_count_or_share, help="leading full steps: a count, or a share")
    hero.add_argument("--cooldown", type=_count_or_share, help="trailing full steps: a count, or a share")
    hero.add_argument("--context", help="what refreshed tokens attend to: selected or cached_kv")
    hero.add_argument("--forecast", help="linear, quadratic or fitted")
    hero.add_argument("--text", help="text tokens on cached steps: refresh or omit")
    hero.add_argument("--shallow", help="of tokens not refreshed: reuse (as published) or forecast")
    hero.add_argument("--feedback", type=float, help="share of errors that full steps make good, 0 to 1")
    hero.add_argument("--storage", help="of what is cached: model (as it is), float8 or host")
    hero.add_argument("--patch", type=_patch, metavar="TxHxW", help="tokens that the ratio is drawn from")
    hero.add_argument("--hero-seed", type=int, help="of the token sampling")

    output = command.add_argument_group("output")
    output.add_argument("--out", default="aether-output", metavar="DIR", help="folder to write")
    output.add_argument(
        "--overwrite", action="store_true", help="replace the folder if it holds an earlier run"
    )
    output.add_argument(
        "--depth-format",
        choices=("exr", "png16"),
        help="also write depth/, a picture a frame: exr holds depth as 32-bit floats, png16 disparity",
    )
    output.add_argument("--quiet", action="store_true", help="print the folder only")


def _add_windows(command: argparse.ArgumentParser) -> None:
    windows = command.add_argument_group("long clips", "Several runs that overlap, put together.")
    windows.add_argument(
        "--windows",
        action="store_true",
        help="reconstruct the whole clip, however long, in windows of --frames; a run that was stopped goes "
        "on where it was",
    )
    windows.add_argument("--stride", type=int, help="frames from one window to the next; 24 of 41")
    windows.add_argument(
        "--tiles",
        action="store_true",
        help="keep all of a wide or tall picture, in tiles of --size that overlap, instead of cropping it",
    )
    windows.add_argument(
        "--workers", type=int, help="windows on so many workers of Ray (pip install ray); one for each GPU"
    )
    windows.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster, such as auto; else this machine")


class Console:
    """What a person sees: notes on standard output, progress on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def stage(self, text: str) -> None:
        if not self.quiet:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def steps(self, name: str) -> Callback:
        """A sampling callback that draws a progress bar."""
        from tqdm import tqdm

        bar = None

        def advance(step: StepInfo) -> None:
            nonlocal bar
            if bar is None:
                # Every update is a line of its own where the output is a file.
                pause = 0.1 if sys.stderr.isatty() else 30
                bar = tqdm(total=step.steps, desc=name, unit="step", disable=self.quiet, mininterval=pause)
            bar.update()
            if step.index + 1 == step.steps:
                bar.close()

        return advance

    def windows(self) -> Callable[[Progress], None]:
        """A callback of `aether.long_run.reconstruct` that draws one progress bar for all windows."""
        from tqdm import tqdm

        bar = None

        def advance(progress: Progress) -> None:
            nonlocal bar
            if bar is None:
                pause = 0.1 if sys.stderr.isatty() else 30
                bar = tqdm(total=progress.total, unit="step", disable=self.quiet, mininterval=pause)
            bar.set_description(f"window {progress.window + 1} of {progress.windows}", refresh=False)
            bar.update(progress.done - bar.n)
            if bar.n == bar.total:
                bar.close()

        return advance


class Hero:
    """HERO as an `aether.job.Accelerator`."""

    def __init__(self, config: HeroConfig) -> None:
        self.config = config
        self._run: HeroRun | None = None

    def check(self, model: AetherModel, steps: int) -> None:
        """Refuse settings that do not fit the model, before anything is computed."""
        self.config.resolve(len(model.transformer.transformer_blocks), steps)

    def rehearsal(self) -> Hero:
        """The same with two steps enough to see a full and a cached one."""
        interval = max(2, self.config.interval)
        return Hero(replace(self.config, warmup=1, interval=interval, threshold=0.0))

    def cached_bytes(self, shape: ModelShape, steps: int, batch: int, element_bytes: int) -> int:
        """Bytes that it will cache in a run, at most."""
        from hero_engine.cost import predict

        return predict(self.config, shape, steps, batch, element_bytes).cached_bytes

    def settings(self) -> dict[str, Any]:
        return asdict(self.config)

    def session(self, model: AetherModel, steps: int) -> AbstractContextManager:
        return self._remember(model, steps)

    @contextmanager
    def _remember(self, model: AetherModel, steps: int) -> Iterator[HeroRun]:
        import hero_engine

        with hero_engine.hero_session(model.transformer, self.config, steps, model.scheduler) as self._run:
            yield self._run

    def to_dict(self) -> dict[str, Any]:
        return self._run.report.to_dict()

    def summary(self) -> str:
        return self._run.report.summary()

    def picture(self) -> bytes:
        import hero_engine

        return hero_engine.report_png(self._run.report)


def _run(arguments: argparse.Namespace, console: Console) -> None:
    from . import job
    from .clips import LEFT_OUT
    from .export import check_out_dir, write_run
    from .post_reconstruction import post_reconstruct
    from .sampling import check_steps

    task, names = COMMANDS[arguments.command]
    sources = {name: getattr(arguments, name) for name in names}
    check_out_dir(arguments.out, overwrite=arguments.overwrite)
    hero = _hero(arguments)
    long = arguments.command == "reconstruct" and _wants_windows(arguments)
    job.check_sources(sources)
    executor = _executor(arguments) if long else None
    if executor:  # from here the model travels to the workers
        arguments.device = "cpu"
    model, settings = _prepare_model(arguments, console, task, hero)
    if long and _run_windows(arguments, console, model, settings, hero, executor):
        return
    post_steps = getattr(arguments, "post_reconstruction", None)
    if post_steps is not None:
        check_steps(model, post_steps, "post_reconstruction")
    inputs = _prepare_inputs(arguments, console, task, sources, model, settings)
    _say_memory(arguments, console, model, inputs, settings, hero)
    if arguments.command == "reconstruct" and any(note.endswith(LEFT_OUT) for note in inputs.notes):
        console.say("hint: --windows reconstructs the whole clip")
    result = job.run(model, inputs, settings, accelerator=hero, callback=console.steps("denoising"))
    if post_steps is not None:
        watch = console.steps("reconstructing")
        result = post_reconstruct(model, inputs, result, settings, steps=post_steps, callback=watch)
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
    _say_result(console, result, hero.summary() if hero else "HERO: off")
    folder = next(iter(files.values())).parent
    console.say(f"{folder}: {', '.join(files)}")
    if console.quiet:
        print(folder)


def _wants_windows(arguments: argparse.Namespace) -> bool:
    """Whether --windows is given, and nothing that does not go with it."""
    from . import job

    if not arguments.windows:
        for option in ("stride", "tiles", "workers", "ray"):
            if getattr(arguments, option) not in (None, False):
                raise InputError(option, "is for --windows, which is not given")
        return False
    if job.SYNTHETIC.fullmatch(arguments.video):
        raise InputError("video", "a rendered clip always fits into one window; leave --windows out")
    if arguments.raymap or arguments.camera:
        field = "raymap" if arguments.raymap else "camera"
        raise InputError(field, "cannot be given with --windows: every window has a world of its own")
    return True


def _executor(arguments: argparse.Namespace) -> Executor | None:
    """Ray's workers where they are asked for."""
    if arguments.workers is None and arguments.ray is None:
        return None
    attention = arguments.attention != "sdpa"  # it would be chosen for this process's device
    given = {"attention": attention, "compile": arguments.compile, "offload": arguments.offload}
    for option in given:
        if given[option]:
            raise InputError(option, "cannot be used with --workers, which are sent the model as it is")
    from .ray_windows import RayWindows

    device = arguments.device
    if device == "auto":
        device = "cuda" if arguments.ray else _auto_device()
    return RayWindows(arguments.workers, device=device, address=arguments.ray)


def _run_windows(
    arguments: argparse.Namespace,
    console: Console,
    model: AetherModel,
    settings: Settings,
    hero: Hero | None,
    executor: Executor | None,
) -> bool:
    """Reconstruct a long clip. False where it fits into one window, which makes it a run like any other."""
    from . import job
    from .export import check_out_dir
    from .long_clips import open_clip
    from .long_run import reconstruct, write_long_run

    clip = open_clip(
        arguments.video,
        arguments.fps,
        size=arguments.size or model.default_size,
        tiled=arguments.tiles,
        length=arguments.frames,
        stride=arguments.stride,
        max_length=model.default_frames,
    )
    if len(clip.starts) == 1 and not clip.tiles and not executor:
        return False
    out = check_out_dir(arguments.out, overwrite=arguments.overwrite)
    work = out.with_name(f"{out.name}.windows")
    _say_model(console, model)
    height, width = clip.size
    shape = f"{len(clip)} frames of {width} x {height} at {clip.fps} fps"
    steps = job.steps_of("reconstruction", settings)
    console.say(f"reconstruction: {shape}, {steps} steps, seed {settings.seed}")
    each = f", each in {len(clip.tiles)} tiles" if clip.tiles else ""
    console.say(
        f"{len(clip.starts)} windows of {clip.length} frames{each}, kept in {work} until all are done"
    )
    for note in clip.notes:
        console.say(f"note: video: {note}")
    try:
        watch = console.windows()
        result = reconstruct(model, clip, settings, work, accelerator=hero, executor=executor, callback=watch)
        if result.resumed:
            console.say(f"{result.resumed} windows were finished before")
        console.stage("writing")
        files = write_long_run(
            out, result, overwrite=arguments.overwrite, depth_format=arguments.depth_format
        )
    except KeyboardInterrupt:
        kept = f"finished windows are in {work}; the same command goes on from them"
        raise KeyboardInterrupt(kept if work.exists() else "") from None
    result.store.remove()
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.report["seconds"].items())
    console.say(f"time: {times}")
    console.say(f"{out}: {', '.join(files)}")
    if console.quiet:
        print(out)
    return True


def _compare(arguments: argparse.Namespace, console: Console) -> None:
    import json
    import textwrap

    from .compare import METHOD, compare
    from .export import check_out_dir, write_run
    from .files import new_folder

    task, names = COMMANDS[arguments.task]
    if len(arguments.inputs) != len(names):
        raise InputError(
            "inputs", f"{arguments.task} takes {' and '.join(names)}, not {len(arguments.inputs)} inputs"
        )
    if arguments.repeats < 1:
        raise InputError("repeats", f"{arguments.repeats} is not an integer from 1")
    sources = dict(zip(names, arguments.inputs, strict=True))
    out = check_out_dir(arguments.out, overwrite=arguments.overwrite, marks=("compare.json",))
    hero = _hero(arguments)
    if hero is None:
        raise InputError("hero", "is off, so there is nothing to compare; name a preset")
    model, inputs, settings = _prepare(arguments, console, task, sources, hero)
    comparison = compare(
        model,
        inputs,
        settings,
        hero,
        rehearsal=hero.rehearsal(),
        repeats=arguments.repeats,
        callback=console.steps,
    )
    console.stage("writing")
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
    console.say(f"{out}: plain/, hero/, compare.json")
    if console.quiet:
        print(out)


def _prepare(
    arguments: argparse.Namespace, console: Console, task: str, sources: dict[str, str], hero: Hero | None
) -> tuple[AetherModel, Inputs, Settings]:
    """Load the model and the inputs, check everything, and say what will be done."""
    from . import job

    job.check_sources(sources)
    model, settings = _prepare_model(arguments, console, task, hero)
    return model, _prepare_inputs(arguments, console, task, sources, model, settings), settings


def _prepare_inputs(
    arguments: argparse.Namespace,
    console: Console,
    task: str,
    sources: dict[str, str],
    model: AetherModel,
    settings: Settings,
) -> Inputs:
    """Read the inputs, and say what will be done."""
    from . import job

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
    _say_model(console, model)
    shape = f"{inputs.frames} frames of {inputs.width} x {inputs.height} at {inputs.fps} fps"
    console.say(f"{task}: {shape}, {job.steps_of(task, settings)} steps, seed {settings.seed}")
    for note in inputs.notes:
        console.say(f"note: {note}")
    return inputs


def _prepare_model(
    arguments: argparse.Namespace, console: Console, task: str, hero: Hero | None
) -> tuple[AetherModel, Settings]:
    """Load the model and check the settings with it."""
    from . import job

    steps = arguments.steps
    if steps is None and task == "reconstruction":
        steps = RECONSTRUCTION_STEPS
    settings = job.Settings(steps, arguments.guidance, arguments.seed, arguments.guidance_skip)
    model = _load(arguments, console)
    job.make_generator(model, settings.seed)
    if hero:
        hero.check(model, job.steps_of(task, settings))
    _optimize(arguments, model)
    return model, settings


def _optimize(arguments: argparse.Namespace, model: AetherModel) -> None:
    if arguments.attention != "sdpa" or arguments.compile:
        import hero_engine

        hero_engine.optimize(model.transformer, arguments.attention, compile=arguments.compile)


def _say_model(console: Console, model: AetherModel) -> None:
    trained = "" if model.trained else " (untrained: its pictures mean nothing yet)"
    console.say(f"model: {model.name}{trained} on {model.device}, {str(model.dtype).removeprefix('torch.')}")


def _say_memory(
    arguments: argparse.Namespace,
    console: Console,
    model: AetherModel,
    inputs: Inputs,
    settings: Settings,
    hero: Hero | None,
) -> None:
    """What it takes, before anything runs."""
    from hero_engine.cogvideox import CogVideoXAdapter

    from . import job
    from .latents import latent_frames
    from .memory import bytes_text, decoding_bytes, step_bytes, weight_bytes
    from .sampling import is_guided

    place = " (blocks in the computer's memory)" if arguments.offload else ""
    parts = [f"weights {bytes_text(weight_bytes(model.transformer, model.vae))}{place}"]
    shape = CogVideoXAdapter(model.transformer).shape(
        latent_frames(model, inputs.frames),
        inputs.height // model.spatial_scale,
        inputs.width // model.spatial_scale,
        model.prompt_embeds.shape[1],
    )
    element_bytes = model.prompt_embeds.element_size()
    batch = 2 if is_guided(inputs.task, settings.guidance) else 1
    if hero:
        cached = hero.cached_bytes(shape, job.steps_of(inputs.task, settings), batch, element_bytes)
        parts.append(f"cached by HERO at most {bytes_text(cached)} (storage {hero.config.storage})")
    step = step_bytes(shape.tokens, shape.width, batch, element_bytes)
    decoding = decoding_bytes(model.vae, inputs.height, inputs.width)
    console.say(
        f"memory: {', '.join(parts)}; besides, a step takes about {bytes_text(step)}, "
        f"decoding {bytes_text(decoding)}"
    )


def _load(arguments: argparse.Namespace, console: Console) -> AetherModel:
    import torch

    from .loading import check_device, load, make_scheduler
    from .memory import keep_in_float8, offload_blocks

    float8 = arguments.dtype == "float8"
    computed = "auto" if float8 else arguments.dtype
    device = check_device(_auto_device() if arguments.device == "auto" else arguments.device, "try auto")
    if arguments.model == "miniature":
        from .miniature import build

        # Small enough for exact arithmetic everywhere.
        dtype = torch.float32 if computed == "auto" else getattr(torch, computed)
        model = build(dtype=dtype).to(device)
        if float8:
            keep_in_float8(model.transformer, dtype)
        if arguments.offload:
            offload_blocks(model.transformer, device)
        return replace(model, scheduler=make_scheduler(arguments.scheduler))
    return load(
        arguments.model,
        vae=arguments.vae,
        prompt=arguments.prompt,
        text_encoder=arguments.text_encoder,
        scheduler=arguments.scheduler,
        device=device,
        dtype=torch.bfloat16 if computed == "auto" else getattr(torch, computed),
        float8=float8,
        offload=arguments.offload,
        tiling=arguments.vae_tiling,
        cache_dir=arguments.cache_dir,
        progress=console.stage,
    )


def _auto_device() -> str:
    """The best device there is. ROCm's is "cuda" too."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if torch.xpu.is_available():
        return "xpu"
    return "cpu"


def _hero(arguments: argparse.Namespace) -> Hero | None:
    if arguments.hero == "off":
        return None
    import hero_engine

    overrides = {name: getattr(arguments, name) for name in _HERO_OPTIONS}
    overrides["seed"] = arguments.hero_seed
    given = {name: value for name, value in overrides.items() if value is not None}
    return Hero(hero_engine.HeroConfig.preset(arguments.hero, **given))


def _say_result(console: Console, result: Result, summary: str) -> None:
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
    console.say(f"time: {times}")
    console.say(summary)
    truth = result.report["depth_against_truth"]
    if truth:
        console.say(
            f"depth against the rendered truth, median aligned, sky left out: "
            f"Abs Rel {truth['abs_rel']:.3f}, delta1 {truth['delta1']:.3f} (for information)"
        )


def _size(text: str) -> tuple[int, int]:
    """Height x width: "480x720"."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 480x720")
    return int(parts[0]), int(parts[1])


def _patch(text: str) -> tuple[int, ...]:
    """Frames x rows x columns of tokens: "1x2x3"."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not FRAMESxROWSxCOLUMNS, such as 1x2x3")
    return tuple(int(part) for part in parts)


def _count_or_share(text: str) -> int | float:
    """A count like "21", or a share like "0.5"."""
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
