"""How the time of a run grows with its steps and frames, beside what hero_engine.cost predicts.

    python -m benchmarks.scaling                    on a GPU at Aether's true size, else "medium" on the CPU
    python -m benchmarks.scaling --size small --only "HERO balanced" --rounds 3

A run of the base setting is the measure: of every other one, the predicted ratio to it (FLOPs) stands beside
the measured ones (clock, and CPU time of the one thread that does the work). Each step counts with the median
of its kind, so that a stall of the machine counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hero_engine.cost import full_step_flops, predict

from .contenders import Contender
from .race import Times, race
from .sizes import Size
from .speed import choose, common_options, machine, prepare, publish


@dataclass(frozen=True)
class Setting:
    """A run: latent frames of the clip, and denoising steps."""

    frames: int
    steps: int

    def of(self, size: Size) -> Size:
        return replace(size, grid=(self.frames, *size.grid[1:]))


def settings(frames: int, steps: int) -> Iterator[Setting]:
    """The base first; then half and twice its steps, about half and twice its frames."""
    yield Setting(frames, steps)
    yield Setting(frames, steps // 2)
    yield Setting(frames, 2 * steps)
    yield Setting((frames + 1) // 2, steps)
    yield Setting(2 * frames - 1, steps)


def predicted_flops(contender: Contender, size: Size, steps: int) -> float:
    if contender.config is None:
        return steps * full_step_flops(size.shape)
    return predict(contender.config, size.shape, steps).flops


def predicted_ratio(contender: Contender, size: Size, setting: Setting, base: Setting) -> float:
    """FLOPs of a run over those of the base's."""
    flops = [predicted_flops(contender, own.of(size), own.steps) for own in (setting, base)]
    return flops[0] / flops[1]


def table(named: dict[str, Contender], size: Size, times: dict[Setting, dict[str, Times]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| method | latent frames | steps | full | predicted | clock | off | CPU time | off |",
        "|---|" + "---|" * 8,
    ]
    base = next(iter(times))
    for name, contender in named.items():
        first = times[base][name]
        for setting, measured in times.items():
            own = measured[name]
            full = sum(own.full) * setting.steps // len(own.full)
            cells = [own.marked(name), setting.frames, setting.steps, full]
            if setting == base:
                cells += ["1", "1", "", "1", ""]
            else:
                ratio = predicted_ratio(contender, size, setting, base)
                cells.append(f"{ratio:.3f}")
                for seconds, unit in ((own.clock, first.clock), (own.cpu, first.cpu)):
                    found = own.typical(seconds) / first.typical(unit)
                    cells += [f"{found:.3f}", f"{found / ratio - 1:+.1%}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    arguments = common_options(__doc__, 10, ["HERO paper"]).parse_args(argv)
    size, device = prepare(arguments)
    named = choose(arguments.only, {})
    times = {
        setting: race(named, setting.of(size), setting.steps, arguments.rounds, device, peaks=False)
        for setting in settings(size.grid[0], arguments.steps)
    }
    head = f"{machine(device)}; {size}; {arguments.rounds} round(s)"
    publish(f"{head}\n\n{table(named, size, times)}", arguments.out)


if __name__ == "__main__":
    main()
