"""`python -m evaluation layers`: how each block's features move over a denoising run, and a tau for HERO."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from aether.defaults import TASKS, steps_text
from aether.errors import InputError
from hero_engine.command_options import share, whole_number

from .models import SAMPLERS, STEPS, load_model, with_sampler
from .table import Column, Table

if TYPE_CHECKING:
    from aether.model.parts import AetherModel
    from aether.run.job import Inputs
    from hero_engine import LayerAnalysis

PICTURE = "layers.png"

_COLUMNS = (
    Column("curvature", "curvature", ".4f"),
    Column("extrapolation", "extrapolated", ".4f"),
    Column("reuse", "reused", ".4f"),
    Column("deep_extrapolation", "all deeper: extrapolated", ".4f"),
    Column("deep_reuse", "reused", ".4f"),
    Column("cached", "cached step, tau here", ".4f"),
)


def add_layers_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes beside ``--out``."""
    command.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="what the task takes: CLIP, IMAGE or IMAGE GOAL; default: a rendered scene, synthetic:0",
    )
    command.add_argument("--task", choices=TASKS, default="reconstruction", help="default: %(default)s")
    command.add_argument(
        "--model", default="miniature", help="miniature (built in), or a diffusers folder or repository name"
    )
    command.add_argument("--steps", type=whole_number, help=f"denoising steps; default: {steps_text()}")
    command.add_argument(
        "--sampler", choices=SAMPLERS, default="reference", help="Aether's own, or ddim; default: %(default)s"
    )
    command.add_argument("--seed", type=whole_number, default=0, help="of the noise; default: 0")
    command.add_argument("--interval", type=whole_number, default=2, help="N of HERO; default: 2")
    command.add_argument(
        "--warmup", type=whole_number, default=4, help="leading full steps of HERO; default: 4"
    )
    command.add_argument("--ratio", type=share, default=1 / 6, help="r of HERO; default: 1/6")
    command.add_argument("--tokens", type=whole_number, default=256, help="tokens looked at; default: 256")
    command.add_argument("--device", default="cpu", help="default: cpu")


def layers(arguments: argparse.Namespace) -> Table:
    """Run a task without acceleration and look at the features of its blocks.

    Raises:
        InputError: an argument or an input cannot be used, too few steps, or features that are not finite.
        ImportError: matplotlib, which draws, is missing.
    """
    from aether.model.loading import check_device
    from aether.run import job
    from hero_engine import ConfigError, HeroConfig, LayersConfig, layers_png

    names = TASKS[arguments.task].inputs
    given = arguments.inputs or ["synthetic:0"] * len(names)
    if len(given) != len(names):
        raise InputError("inputs", f"{arguments.task} takes {' and '.join(names)}, not {len(given)} inputs")
    sources = dict(zip(names, given, strict=True))
    steps = STEPS[arguments.task] if arguments.steps is None else arguments.steps
    try:
        config = LayersConfig(
            HeroConfig(interval=arguments.interval, warmup=arguments.warmup, ratio=arguments.ratio),
            arguments.tokens,
        )
        job.check_sources(sources)
        device = check_device(arguments.device)
        model = with_sampler(load_model(arguments.model).to(device), arguments.sampler)
        config.resolve(len(model.transformer.transformer_blocks), steps)
        inputs = job.gather(model, arguments.task, sources)
        found = analyze(model, inputs, config, steps, arguments.seed)
    except ConfigError as error:
        raise InputError(error.field, str(error).partition(": ")[2]) from error
    return Table(
        "layers",
        _COLUMNS,
        _rows(found),
        protocol={
            "model": model.name,
            "trained": model.trained,
            "task": inputs.task,
            "inputs": inputs.sources,
            "sampler": arguments.sampler,
            "steps": steps,
            "seed": arguments.seed,
            "tokens": arguments.tokens,
        },
        notes=[
            "errors relative to what the block, the deeper blocks, or all blocks add; see docs/hero.md",
            *found.summary().splitlines(),
        ],
        packages=("torch", "diffusers"),
        details={"analysis": found.to_dict()},
        pictures={PICTURE: layers_png(found)},
    )


def analyze(model: AetherModel, inputs: Inputs, config: Any, steps: int, seed: int) -> LayerAnalysis:
    """The analysis of one run; progress on standard error.

    Args:
        config: a :class:`~hero_engine.LayersConfig`.
    """
    from aether.generation.sampling import StepInfo, sample
    from aether.run.job import condition_on, make_generator
    from hero_engine import hero_session

    def progress(step: StepInfo) -> None:
        print(f"\rstep {step.index + 1} of {step.steps}", end="", file=sys.stderr, flush=True)

    generator = make_generator(model, seed)
    conditions = condition_on(model, inputs, generator)
    with hero_session(model.transformer, config, steps=steps) as run:
        sample(model, conditions, steps=steps, fps=inputs.fps, generator=generator, callback=progress)
        print(file=sys.stderr)
        return run.method.analysis()


def _rows(found: LayerAnalysis) -> list[dict[str, Any]]:
    columns = {column.key: getattr(found, column.key) for column in _COLUMNS}
    return [
        {
            "name": f"block {block + 1}",
            # Behind the last block there is nothing deeper.
            **{key: values[block] for key, values in columns.items() if block < len(values)},
        }
        for block in range(found.blocks)
    ]
