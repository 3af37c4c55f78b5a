"""A comparison as Markdown, CSV and a picture."""

from __future__ import annotations

import hashlib
import io
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hero_engine.totals import TOLERANCE, speedup_limit

from ..table import as_csv, installed_version
from .contenders import HERO
from .summary import Row, Verdict, claim, verdicts

_PACKAGES = ("torch", "diffusers", "cache-dit", "numpy", "scikit-image", "evo")
_MARKERS = "osD^vPX<>hp"
# Of the methods but HERO, whose red none of them comes near.
_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#0b3c5d", "#d0a000", "#004d1a", "#4b0082", "#000000",
)  # fmt: skip
_EXPLANATION = """\
Speed-ups are over the unaccelerated run, by FLOPs: the engine's own accounting of the steps that ran; for \
other packages, every linear layer, convolution and attention that ran is counted. The error is that of the \
final latent relative to the unaccelerated run with the same sampler and noise: the mean over streams, tasks \
and scenes. Lower is better. MagCache is calibrated on the very run that it is compared with. "fewer steps" \
is the unaccelerated model with steps / speed steps from the same initial noise; the reference sampler also \
adds noise at every step, and that noise cannot be the same.

`results.csv` has one line per setting: speed-up by FLOPs and by the clock (one step in {every} was also run \
without acceleration, side by side; further above the FLOPs than {tolerance:.0%} it is `clock_noise` of a \
busy machine), the error by task and by stream, PSNR (dB) and SSIM of what is decoded \
against the unaccelerated run, Abs Rel and delta1 of reconstructions against the true depth (up to \
{far:g} times the nearest, aligned by scale-l1), RPE rotation (degrees) and ATE (after Sim(3)) against the \
true path, and the most megabytes of cached features in a run. `best.csv` has the setting behind each number \
below."""


def machine() -> str:
    """Processor, cores and system."""
    listed = Path("/proc/cpuinfo")
    text = listed.read_text(encoding="utf-8", errors="replace") if listed.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    processor = next(iter(names), "") or platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Of Python and the packages that matter; "not installed" where one is not."""
    found = {name: installed_version(name) or "not installed" for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def code_digest() -> str:
    """Of the project's own code that results hang on."""
    root = Path(__file__).parents[2]
    folders = ("hero_engine", "aether", "evaluation")
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in root.glob(f"{folder}/**/*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def markdown(rows: Sequence[Row], header: dict[str, str], targets: Sequence[float]) -> str:
    """The page: what was run, where HERO stands, and the lowest error of each method at each speed.

    Args:
        header: name to value, shown on top.
    """
    from ..world import DEEPEST
    from .meter import EVERY

    found = verdicts(rows, targets)
    parts = ["\n".join(f"- {name}: {value}" for name, value in header.items())]
    parts.append(_EXPLANATION.format(every=EVERY, far=DEEPEST, tolerance=TOLERANCE))
    parts.append("\n".join([f"**{claim(found)}**", "", *(f"- {verdict.line()}" for verdict in found)]))
    for sampler in dict.fromkeys(row.sampler for row in rows):
        parts.append(f"### {sampler} sampler\n\n{_lowest_errors(found, sampler)}")
    failed = [f"- {row.label}, {row.sampler} sampler: {row.failed}" for row in rows if row.failed]
    if failed:
        lines = (" ".join(line.replace("|", "/").split()) for line in dict.fromkeys(failed))
        parts.append("\n".join(["### Failed", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _lowest_errors(found: Sequence[Verdict], sampler: str) -> str:
    """A line for each method, a column for each speed; HERO first, then by the error at the first speeds."""
    columns = {verdict.target: _errors(verdict) for verdict in found if verdict.sampler == sampler}
    labels = dict.fromkeys(label for errors in columns.values() for label in errors)

    def order(label: str) -> tuple:
        errors = [column.get(label, math.nan) for column in columns.values()]
        return label != HERO, [math.inf if math.isnan(error) else error for error in errors]

    lines = [f"| lowest error at | {' | '.join(f'{target:g}x' for target in columns)} |"]
    lines.append("|---|" + "---|" * len(columns))
    for label in sorted(labels, key=order):
        errors = (column.get(label, math.nan) for column in columns.values())
        cells = ("-" if math.isnan(error) else f"{error:.4f}" for error in errors)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(verdict: Verdict) -> dict[str, float]:
    """The error of each method's best setting; NaN where none is fast enough or none ran."""
    errors = dict.fromkeys((*verdict.slow, *verdict.failed), math.nan)
    return errors | {row.label: row.error for row in verdict.best}


def numbers(row: Row) -> dict[str, float]:
    """All numbers of a row by name."""
    return {
        "flops_speedup": row.flops_speedup,
        "wall_speedup": row.wall_speedup,
        "error": row.error,
        **row.by_task,
        **row.by_stream,
        **row.quality,
        "megabytes": math.nan if row.contender is None else row.bytes / 1e6,
    }


def csv_text(rows: Sequence[Row]) -> str:
    """One line for each setting and sampler; what is not known is empty."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        known: dict[str, Any] = {}
        if not row.failed:
            known = {name: value for name, value in numbers(row).items() if not math.isnan(value)}
            known["clock_noise"] = row.wall_speedup > speedup_limit(row.flops_speedup)
        head = {"sampler": row.sampler, "method": row.label, "settings": row.title, "runs": row.runs}
        lines.append({**head, "failed": row.failed or "", **known})
    return as_csv(lines)


def best_csv(rows: Sequence[Row], targets: Sequence[float]) -> str:
    """One line per sampler, speed and method: the setting with the lowest error, where one is fast enough."""
    return as_csv(
        [
            {
                "sampler": verdict.sampler,
                "at_least": verdict.target,
                "method": row.label,
                "settings": row.title,
                "flops_speedup": row.flops_speedup,
                "error": row.error,
            }
            for verdict in verdicts(rows, targets)
            for row in verdict.best
        ]
    )


def frontier_png(rows: Sequence[Row]) -> bytes:
    """Speed against fidelity, one panel a sampler; empty bytes where nothing worked.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing the frontier needs matplotlib: pip install matplotlib") from error
    # What reused nothing has no error, and no place on a logarithmic axis.
    rows = [row for row in rows if row.contender is not None and row.counts and row.error > 0]
    samplers = list(dict.fromkeys(row.sampler for row in rows))
    if not samplers:
        return b""
    labels = sorted({row.label for row in rows}, key=lambda label: (label != HERO, label))
    looks = {label: _look(number, label) for number, label in enumerate(labels)}
    figure = Figure(figsize=(13, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(samplers), squeeze=False)[0]
    lines = {}
    for axes, sampler in zip(panels, samplers, strict=True):
        lines |= _draw_methods(axes, [row for row in rows if row.sampler == sampler], looks)
        axes.set_title(f"{sampler} sampler")
        _style_axes(axes)
    panels[0].set_ylabel("relative error of the final latent (lower is better)")
    shown = [label for label in labels if label in lines]
    figure.legend([lines[label] for label in shown], shown, loc="outside right center", fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_methods(axes: Any, rows: Sequence[Row], looks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rows of one sampler; gives each method's line by label."""
    lines = {}
    for label, look in looks.items():
        points = [(row.flops_speedup, row.error) for row in rows if row.label == label]
        if points:
            lines[label] = axes.plot(*zip(*undominated(points), strict=True), **look)[0]
            axes.scatter(*zip(*points, strict=True), s=8, color=look["color"], alpha=0.4)
    return lines


def _style_axes(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, ScalarFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("speed-up by FLOPs (times)")
    axes.grid(alpha=0.3)


def undominated(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (speed, error) points to which no other is both as fast and as accurate, from slow to fast."""
    kept: list[tuple[float, float]] = []
    for speed, error in sorted(points, key=lambda point: (-point[0], point[1])):
        if not kept or error < kept[-1][1]:
            kept.append((speed, error))
    return kept[::-1]


def _look(number: int, label: str) -> dict[str, Any]:
    if label == HERO:
        return {"color": "#c22f2f", "marker": "*", "markersize": 11, "linewidth": 2.2, "zorder": 5}
    marker = _MARKERS[number % len(_MARKERS)]
    return {"color": _COLORS[number % len(_COLORS)], "marker": marker, "markersize": 5, "linewidth": 1}
