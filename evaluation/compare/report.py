"""A comparison as Markdown, CSV and a picture."""

from __future__ import annotations

import hashlib
import io
import math
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hero_engine.totals import TOLERANCE, speedup_limit

from ..table import as_csv, installed_version
from .contenders import HERO
from .summary import Row, Verdict, claim, verdicts

_PACKAGES = ("torch", "diffusers", "cache-dit", "numpy", "scikit-image", "evo")
_HEADINGS = {
    "flops_speedup": "FLOPs",
    "wall_speedup": "clock",
    "error": "error",
    "rgb": "rgb",
    "disparity": "disparity",
    "raymap": "raymap",
    "rgb_psnr": "RGB PSNR",
    "rgb_ssim": "SSIM",
    "disparity_psnr": "disp. PSNR",
    "disparity_ssim": "SSIM",
    "raymap_psnr": "raymap PSNR",
    "abs_rel": "Abs Rel",
    "delta1": "delta1",
    "rpe_rot": "RPE rot",
    "ate": "ATE",
    "megabytes": "MB",
}
_FORMATS = {
    "flops_speedup": ".2f",
    "wall_speedup": ".2f",
    "rgb_psnr": ".1f",
    "disparity_psnr": ".1f",
    "raymap_psnr": ".1f",
    "megabytes": ".1f",
    "rpe_rot": ".2f",
    "abs_rel": ".3f",
    "delta1": ".3f",
    "rgb_ssim": ".3f",
    "disparity_ssim": ".3f",
    "ate": ".3f",
}
_MARKERS = "osD^vPX<>hp"
# Of the methods but HERO, whose red none of them comes near.
_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#0b3c5d", "#d0a000", "#004d1a", "#4b0082",
)  # fmt: skip
_EXPLANATION = """\
Speed-ups are over the unaccelerated run. *FLOPs*: by the engine's own accounting of the steps that ran; of \
other packages, every linear layer, convolution and attention that really ran is counted. *clock*: time in \
the model, one step in {every} having been run without acceleration too, beside the run; FLOPs bound it, and \
what is further above them than {tolerance:.0%} is marked as noise of a busy machine. *error*: relative \
error of the final latent against the unaccelerated run with the same sampler and noise (smaller is truer), \
mean over streams, tasks and scenes; then by task and by stream. PSNR (dB) and SSIM: of what is decoded, \
against the same. Abs Rel and delta1: reconstruction against the true depth, up to {far:g} times the \
nearest, aligned by scale-l1. RPE rotation (degrees) and ATE (after Sim(3)): all tasks, against the true \
path. MB: most bytes of cached features in a run. MagCache is calibrated on the very run that it is compared \
with."""


def machine() -> str:
    """Processor, cores and system."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if names.exists():
        for line in names.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and the packages that matter; "not installed" where one is not."""
    found = {name: installed_version(name) or "not installed" for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def code_digest() -> str:
    """Of the project's own code that results hang on."""
    root = Path(__file__).parents[2]
    files = [*root.glob("hero_engine/**/*.py"), *root.glob("aether/*.py"), *root.glob("evaluation/**/*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def command_line() -> str:
    """What was typed."""
    return " ".join(["python -m evaluation", *sys.argv[1:]])


def markdown(rows: Sequence[Row], header: dict[str, str], targets: Sequence[float]) -> str:
    """The whole report.

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
        parts.append(f"### {sampler} sampler\n\n{_table([row for row in rows if row.sampler == sampler])}")
        parts.append(_best(found, sampler))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    tasks = list(dict.fromkeys(task for row in rows for task in row.by_task))
    names = list(_HEADINGS)
    split = names.index("rgb")
    names[split:split] = tasks
    heads = ["method", "settings", *(_HEADINGS.get(name, name) for name in names)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in sorted(rows, key=_order):
        if row.failed:
            why = f"**failed: {_escaped(row.failed)}**"
            lines.append(f"| {row.label} | {row.title} | {why} |" + " |" * (len(names) - 1))
            continue
        values = numbers(row)
        cells = [format_number(name, values.get(name, math.nan)) for name in names]
        if row.wall_speedup > speedup_limit(row.flops_speedup):
            cells[names.index("wall_speedup")] += " (noise)"
        lines.append(f"| {row.label} | {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _order(row: Row) -> tuple:
    return (row.contender is not None, row.label != HERO, row.label, row.flops_speedup)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


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


def format_number(name: str, value: float) -> str:
    """As the tables show it; what is not known is a dash."""
    return "-" if math.isnan(value) else format(value, _FORMATS.get(name, ".4f"))


def _best(found: Sequence[Verdict], sampler: str) -> str:
    """Of each method the truest setting at each target."""
    lines = ["| at least | method | settings | FLOPs | error |", "|---|---|---|---|---|"]
    for verdict in found:
        if verdict.sampler != sampler:
            continue
        best = [*([verdict.hero] if verdict.hero else []), *verdict.others]
        for row in sorted(best, key=lambda row: row.error):
            speed_and_error = f"{row.flops_speedup:.2f} | {row.error:.4f}"
            lines.append(f"| {verdict.target:g}x | {row.label} | {row.title} | {speed_and_error} |")
        for label in verdict.slow:
            lines.append(f"| {verdict.target:g}x | {label} | none is this fast | - | - |")
        for label in verdict.failed:
            lines.append(f"| {verdict.target:g}x | {label} | failed, see above | - | - |")
    return "\n".join(lines)


def csv_text(rows: Sequence[Row]) -> str:
    """One line for each setting and sampler; what is not known is empty."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        known = {} if row.failed else {k: v for k, v in numbers(row).items() if not math.isnan(v)}
        head = {"sampler": row.sampler, "method": row.label, "settings": row.title, "runs": row.runs}
        lines.append({**head, "failed": row.failed or "", **known})
    return as_csv(lines)


def frontier_png(rows: Sequence[Row], width: float = 13.0, height: float = 6.0, dpi: int = 110) -> bytes:
    """Speed against fidelity, one panel a sampler; empty bytes where nothing worked.

    Args:
        width, height: inches.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, ScalarFormatter
    except ImportError as error:
        raise ImportError("drawing the frontier needs matplotlib: pip install matplotlib") from error
    # What reused nothing has no error, and no place on a logarithmic axis.
    rows = [row for row in rows if row.contender is not None and row.counts and row.error > 0]
    samplers = list(dict.fromkeys(row.sampler for row in rows))
    if not samplers:
        return b""
    labels = sorted({row.label for row in rows}, key=lambda label: (label != HERO, label))
    looks = {label: _look(number, label) for number, label in enumerate(labels)}
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(samplers), squeeze=False)[0]
    lines = {}
    for axes, sampler in zip(panels, samplers, strict=True):
        for label in labels:
            points = [(r.flops_speedup, r.error) for r in rows if (r.sampler, r.label) == (sampler, label)]
            if not points:
                continue
            look = looks[label]
            lines[label] = axes.plot(*zip(*undominated(points), strict=True), **look)[0]
            axes.scatter(*zip(*points, strict=True), s=8, color=look["color"], alpha=0.4)
        axes.set_title(f"{sampler} sampler")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("speed-up by FLOPs (times)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("relative error of the final latent (lower is truer)")
    shown = [label for label in labels if label in lines]
    figure.legend([lines[label] for label in shown], shown, loc="outside right center", fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def undominated(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (speed, error) points to which no other is both as fast and as true, from slow to fast."""
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
