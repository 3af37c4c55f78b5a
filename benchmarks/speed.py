"""Speed of HERO and its peers, side by side in one run: every step of all of them in turn.

    python -m benchmarks.speed                      on a GPU at Aether's true size, else "medium" on the CPU
    python -m benchmarks.speed --size small --steps 50 --only untouched "HERO paper"
    python -m benchmarks.speed --compile --out results.md

Each contender denoises with a model of its own (the weights are shared), so that a stall of the machine meets
all of them alike. "Clock" is wall time, the scheduler included; "CPU time" that of the one thread which does
the work, the less noisy figure on a busy machine. On a GPU every step is waited for.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from evaluation.compare.meter import shared_copy
from hero_engine import MethodConfig
from hero_engine.command_options import whole_number
from hero_engine.cost import cached_step_flops, full_step_flops, speedup_bound
from hero_engine.models.joint_attention import JointAttention
from hero_engine.speed.backends import BACKENDS, trouble_with
from hero_engine.totals import TOLERANCE, speedup_limit

from .contenders import Attached, Contender, contenders, more_contenders
from .sizes import SIZES, Denoising, Size, build_model

BASE, NOISE = "untouched", "noise"


@dataclass
class Times:
    """Of one contender's steps, over all rounds.

    Attributes:
        full: of each step, whether it was a full one.
        clock, cpu: its seconds by the clock and of this thread.
        cached_bytes: held by caches, None where that is not known.
        peak_bytes: of the device's memory, None where it is not measured.
        memory_failures: steps that were full because there was no memory for the caches.
    """

    full: list[bool] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cached_bytes: int | None = None
    peak_bytes: int | None = None
    memory_failures: int = 0

    def marked(self, name: str) -> str:
        """The contender's name, and whether memory ran out: its times are then not the method's."""
        failures = self.memory_failures
        return f"{name} (out of memory in {failures} step(s))" if failures else name

    def median(self, seconds: list[float], full: bool) -> float | None:
        """Median of the full or of the cached steps; None where there are none."""
        chosen = [s for s, kind in zip(seconds, self.full, strict=True) if kind is full]
        return statistics.median(chosen) if chosen else None

    def share(self, seconds: list[float]) -> float | None:
        """Cached over full step, by medians."""
        cached, full = self.median(seconds, False), self.median(seconds, True)
        return None if cached is None or not full else cached / full

    def typical(self, seconds: list[float]) -> float:
        """Seconds of all steps where each takes the median of its kind."""
        kinds = {kind: self.median(seconds, kind) for kind in set(self.full)}
        return sum(kinds[kind] for kind in self.full)


def stopwatch(device: torch.device) -> Callable[[], tuple[float, float]]:
    """A function that waits for the device and gives (clock, CPU time of this thread)."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.thread_time()

    return now


def rehearse(attached: Attached, run: Denoising, steps: int, config: MethodConfig | None) -> None:
    """Take every kind of step, untimed: what comes with the first of its kind, such as compiling and the
    choice of kernels, is then no part of any step's time.

    Until a cached step and a full one after it have been taken; two steps where nothing is cached.
    """
    kinds: list[bool] = []
    for number in range(steps):
        with attached.around():
            run.step(number)
        kinds.append(attached.full())
        if (config is None and number) or kinds[-2:] == [False, True]:
            return


@torch.no_grad()
def race(
    named: dict[str, Contender],
    size: Size,
    steps: int,
    rounds: int,
    device: torch.device,
    *,
    peaks: bool = True,
) -> dict[str, Times]:
    """Measure all contenders side by side, each rehearsed before.

    Args:
        peaks: on a GPU, measure each one's peak of memory too, in steps of its own.
    """
    now, times = stopwatch(device), {name: Times() for name in named}
    model = build_model(size, device)
    for _ in range(rounds):
        with ExitStack() as stack:
            runs = {}
            for name, contender in named.items():
                own = shared_copy(model)
                attached = stack.enter_context(contender.attach(own, steps))
                if contender.repeatable:
                    rehearse(attached, Denoising(own, size, steps, device), steps, contender.config)
                runs[name] = attached, Denoising(own, size, steps, device)
            for number in range(steps):
                for name, (attached, run) in runs.items():
                    clock, cpu = now()
                    with attached.around():
                        run.step(number)
                    end_clock, end_cpu = now()
                    times[name].clock.append(end_clock - clock)
                    times[name].cpu.append(end_cpu - cpu)
                    times[name].full.append(attached.full())
            for name, (attached, _) in runs.items():
                if attached.run is not None:
                    times[name].cached_bytes = attached.run.report.bytes_cached
                    times[name].memory_failures += attached.run.report.memory_failures
    if peaks and device.type == "cuda":
        for name, contender in named.items():
            times[name].peak_bytes = peak_memory(model, contender, size, steps, device)
    return times


def peak_memory(model, contender: Contender, size: Size, steps: int, device: torch.device) -> int:
    """Most bytes of the device in use while a contender takes its first steps, alone."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    own = shared_copy(model)
    with contender.attach(own, steps) as attached:
        run = Denoising(own, size, steps, device)
        for number in range(min(steps, 14)):
            with attached.around():
                run.step(number)
    return torch.cuda.max_memory_allocated(device)


@torch.no_grad()
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large product of square matrices, the best of ten."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    now, best = stopwatch(device), float("inf")
    for _ in range(10):
        start, _ = now()
        left @ right
        best = min(best, now()[0] - start)
    return 2 * side**3 / best


@torch.no_grad()
def attention_rates(size: Size, device: torch.device) -> dict[str, float | str]:
    """FLOP/s of each attention backend on a full step's sequence, or why it does not run."""
    shape, now = size.shape, stopwatch(device)
    tokens = torch.randn(3, size.batch, shape.tokens, size.heads, size.head_width, device=device)
    query, key, value = tokens.to(size.dtype)
    found: dict[str, float | str] = {}
    for name, backend in BACKENDS.items():
        trouble = trouble_with(name, device, size.dtype, size.head_width)
        if trouble is not None:
            found[name] = trouble
            continue
        seconds = []
        for _ in range(6):
            start, _ = now()
            JointAttention(backend).attend(query, key, value, None)
            seconds.append(now()[0] - start)
        found[name] = 4 * size.batch * shape.tokens**2 * shape.width / statistics.median(seconds[1:])
    return found


def table(named: dict[str, Contender], times: dict[str, Times], size: Size, steps: int, rate: float) -> str:
    """The results as a Markdown table."""
    lines = [
        "| method | full of "
        f"{steps} | full step | cached step | cached / full: clock | CPU time | by FLOPs "
        "| end to end: clock, sum | clock, medians | CPU time | bound | cached | peak | matrix rate |",
        "|---|" + "---|" * 13,
    ]
    for name, own in times.items():
        cells = _row(name, named[name], own, times[BASE], size, steps, rate)
        lines.append("| " + " | ".join(cells) + " |")
    if any(NOISE in line for line in lines):
        lines += [
            "",
            f"({NOISE}: more than {TOLERANCE:.0%} above the bound, which only a busy machine gives)",
        ]
    return "\n".join(lines)


def _row(
    name: str, contender: Contender, own: Times, base: Times, size: Size, steps: int, rate: float
) -> list[str]:
    full, flops, config = sum(own.full) / (len(own.full) / steps), None, contender.config
    if config is not None:  # of a cached step over a full one's
        counts = config.resolve(size.shape.blocks, steps)
        flops = cached_step_flops(size.shape, config, counts) / full_step_flops(size.shape)
    bound = speedup_bound(steps, full, flops or 0.0) if full else None
    limit = speedup_limit(bound) if bound and contender.plain_steps else float("inf")
    full_seconds = own.median(own.clock, True)
    speedups = [
        sum(base.clock) / sum(own.clock),
        base.typical(base.clock) / own.typical(own.clock),
        sum(base.cpu) / sum(own.cpu),
    ]
    return [
        own.marked(name),
        f"{full:g}",
        _text(full_seconds, "{:.3f} s"),
        _text(own.median(own.clock, False), "{:.4f} s"),
        _text(own.share(own.clock), "{:.4f}"),
        _text(own.share(own.cpu), "{:.4f}"),
        _text(flops, "{:.4f}"),
        *(f"{speedup:.3f}x{f' ({NOISE})' if speedup > limit else ''}" for speedup in speedups),
        _text(bound, "{:.2f}x"),
        _text(own.cached_bytes, "{:.3f} GB", 1e-9),
        _text(own.peak_bytes, "{:.1f} GB", 1e-9),
        _text(
            full_seconds and size.batch * full_step_flops(size.shape) / full_seconds / rate, "{:.1f} %", 100
        ),
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
        for name, found in attention_rates(size, device).items():
            text.append(f"| {name} | {found if isinstance(found, str) else f'{found / 1e12:.0f}'} |")
    publish("\n".join(text), arguments.out)


if __name__ == "__main__":
    main()
