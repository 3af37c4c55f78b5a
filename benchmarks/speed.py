"""Speed of HERO and its peers, side by side in one run: every step of all of them in turn.

    python -m benchmarks.speed                      on a GPU at Aether's true size, else "medium" on the CPU
    python -m benchmarks.speed --size small --steps 50 --only untouched "HERO paper"
    python -m benchmarks.speed --compile --out results.md

race.py says what is timed, and in which order.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from hero_engine.command_options import whole_number
from hero_engine.cost import cached_step_flops, full_step_flops, speedup_bound
from hero_engine.totals import TOLERANCE, speedup_limit

from .contenders import Contender, contenders, more_contenders
from .race import Times, race
from .rates import attention_rates, matrix_rate
from .sizes import SIZES, Size

BASE, NOISE = "untouched", "noise"


@dataclass(frozen=True)
class Figures:
    """What the times of whole rounds say of a contender; None where there is nothing to say.

    Attributes:
        full_steps: of a round.
        full, cached: median seconds of a full and of a cached step.
        clock, cpu, flops: a cached step over a full one: by the clock, by CPU time, by FLOPs.
        speedups: end to end: by the clock, by the clock where each step takes the median of its kind, by CPU
            time.
        bound: of the speed-up, by FLOPs.
        limit: the highest speed-up that is believed.
        rate: FLOP/s of a full step.
    """

    full_steps: float
    full: float | None
    cached: float | None
    clock: float | None
    cpu: float | None
    flops: float | None
    speedups: tuple[float, float, float]
    bound: float | None
    limit: float
    rate: float | None


def figures(contender: Contender, own: Times, base: Times, size: Size, steps: int) -> Figures:
    """A contender's figures beside those of the untouched model."""
    full_steps, flops, config = sum(own.full) / (len(own.full) / steps), None, contender.config
    if config is not None:  # of a cached step over a full one's
        counts = config.resolve(size.shape.blocks, steps)
        flops = cached_step_flops(size.shape, config, counts) / full_step_flops(size.shape)
    bound = speedup_bound(steps, full_steps, flops or 0.0) if full_steps else None
    full = own.median(own.clock, True)
    return Figures(
        full_steps=full_steps,
        full=full,
        cached=own.median(own.clock, False),
        clock=own.share(own.clock),
        cpu=own.share(own.cpu),
        flops=flops,
        speedups=(
            sum(base.clock) / sum(own.clock),
            base.typical(base.clock) / own.typical(own.clock),
            sum(base.cpu) / sum(own.cpu),
        ),
        bound=bound,
        limit=speedup_limit(bound) if bound and contender.plain_steps else float("inf"),
        rate=full and size.batch * full_step_flops(size.shape) / full,
    )


def table(named: dict[str, Contender], times: dict[str, Times], size: Size, steps: int, rate: float) -> str:
    """The results as a Markdown table."""
    lines = [
        "| method | full of "
        f"{steps} | full step | cached step | cached / full: clock | CPU time | by FLOPs "
        "| end to end: clock, sum | clock, medians | CPU time | bound | cached | peak | matrix rate |",
        "|---|" + "---|" * 13,
    ]
    for name, own in times.items():
        cells = _row(own.marked(name), own, figures(named[name], own, times[BASE], size, steps), rate)
        lines.append("| " + " | ".join(cells) + " |")
    if any(NOISE in line for line in lines):
        lines += [
            "",
            f"({NOISE}: more than {TOLERANCE:.0%} above the bound, which only a busy machine gives)",
        ]
    return "\n".join(lines)


def _row(name: str, own: Times, found: Figures, rate: float) -> list[str]:
    return [
        name,
        f"{found.full_steps:g}",
        _text(found.full, "{:.3f} s"),
        _text(found.cached, "{:.4f} s"),
        _text(found.clock, "{:.4f}"),
        _text(found.cpu, "{:.4f}"),
        _text(found.flops, "{:.4f}"),
        *(f"{speedup:.3f}x{f' ({NOISE})' if speedup > found.limit else ''}" for speedup in found.speedups),
        _text(found.bound, "{:.2f}x"),
        _text(own.cached_bytes, "{:.3f} GB", 1e-9),
        _text(own.peak_bytes, "{:.1f} GB", 1e-9),
        _text(found.rate, "{:.1f} %", 100 / rate),
    ]


def _text(value: float | None, pattern: str, scale: float = 1) -> str:
    return "" if value is None else pattern.format(scale * value)


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def common_options(description: str | None, steps: int, only: list[str] | None) -> argparse.ArgumentParser:
    """Options of the benchmarks that race contenders; `steps` and `only` are defaults."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="cuda" if cuda else "cpu", help="where (a GPU where there is one)"
    )
    parser.add_argument("--size", choices=SIZES, help="of the model (aether on a GPU, else medium)")
    parser.add_argument("--steps", type=whole_number, default=steps, help=f"denoising steps ({steps})")
    parser.add_argument("--rounds", type=whole_number, default=1, help="runs of each contender (1)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=only, help="contenders beside untouched; 'all': all"
    )
    parser.add_argument("--threads", type=whole_number, default=1, help="CPU threads (1)")
    parser.add_argument("--out", type=Path, help="write the results there as well")
    return parser


def prepare(arguments: argparse.Namespace) -> tuple[Size, torch.device]:
    """What is raced, and where."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    return SIZES[arguments.size or ("aether" if device.type == "cuda" else "medium")], device


def publish(text: str, out: Path | None) -> None:
    """Print the results, and write them where `out` says."""
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def choose(only: list[str] | None, optimizations: dict) -> dict[str, Contender]:
    """The contenders of this run."""
    usual = contenders(optimizations)
    every = {**usual, **more_contenders()}
    if only is None:
        return usual
    if only == ["all"]:
        return every
    unknown = [name for name in only if name not in every]
    if unknown:
        raise SystemExit(f"error: --only: {unknown[0]!r} is not one of {', '.join(every)}")
    return {name: every[name] for name in (BASE, *dict.fromkeys(n for n in only if n != BASE))}


def main(argv: list[str] | None = None) -> None:
    parser = common_options(__doc__, 50, None)
    parser.add_argument("--attention", default="auto", help="of the optimized contenders (auto)")
    parser.add_argument("--compile", action="store_true", help="compile the optimized contenders' blocks")
    parser.add_argument("--fuse-qkv", action="store_true", help="fuse their projections")
    arguments = parser.parse_args(argv)
    size, device = prepare(arguments)
    named = choose(
        arguments.only,
        {"attention": arguments.attention, "compile": arguments.compile, "fuse_qkv": arguments.fuse_qkv},
    )
    rate = matrix_rate(device, size.dtype)
    times = race(named, size, arguments.steps, arguments.rounds, device)
    text = [
        f"{machine(device)}; {size}; {arguments.rounds} round(s); matrix rate {rate / 1e12:.3g} TFLOP/s",
        "",
        table(named, times, size, arguments.steps, rate),
    ]
    if device.type == "cuda":
        text += ["", "| attention | TFLOP/s |", "|---|---|"]
        for name, found in attention_rates(size, device):
            text.append(f"| {name} | {found if isinstance(found, str) else f'{found / 1e12:.0f}'} |")
    publish("\n".join(text), arguments.out)


if __name__ == "__main__":
    main()
