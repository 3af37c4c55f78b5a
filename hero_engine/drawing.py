"""Pictures of a run's report, of a layer analysis and of a tuning. Need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .hero.layer_analysis import LayerAnalysis
    from .report import RunReport
    from .tune.trials import Trial, Tuning

_FULL, _CACHED = "#3b6fb6", "#f2a33a"
_LARGE, _MIDDLE, _SMALL = 15, 12, 11
"""Points of a report's type."""


def report_png(
    report: RunReport | Mapping[str, Any],
    width: float = 7.5,
    height: float = 6.0,
    dpi: int = 130,
    note: str = "",
) -> bytes:
    """Draw a report: time of each forward, drift of each forward, share of the time by kind of step.

    Its type can be read on a node, at half its size.

    Args:
        report: of a pass with at least one step; or its ``to_dict()``, or several of these by
            :func:`hero_engine.totals.total`.
        width, height: inches.
        dpi: dots per inch.
        note: a line below the headline.

    Returns:
        the PNG file's bytes.

    Raises:
        ImportError: matplotlib is missing; says how to get it.
    """
    shown = report if isinstance(report, Mapping) else report.to_dict()
    figure = _new_figure(width, height, dpi)
    axes = figure.subplot_mosaic([["time", "time", "time", "share"], ["drift", "drift", "drift", "share"]])
    figure.suptitle(headline(shown) + (f"\n{note}" if note else ""), fontsize=_LARGE, wrap=True)
    _draw_time(axes["time"], shown["forwards"])
    # Methods that never adapt have no such setting.
    _draw_drift(axes["drift"], shown["forwards"], shown["config"].get("threshold", 0.0))
    axes["drift"].sharex(axes["time"])
    _draw_share(axes["share"], shown)
    for part in axes.values():
        part.tick_params(labelsize=_SMALL)
    return _png(figure)


def headline(shown: Mapping[str, Any]) -> str:
    """What matters of a report: "1.60x faster: 6 steps computed, 4 reused, 2.9 MB"."""
    if not shown["cached_steps"]:
        return f"No speed-up: all {shown['full_steps']} steps computed, none reused"
    measured, bound = shown["measured_speedup"], shown["predicted_speedup"]
    speed = f"up to {bound:.2f}x" if measured is None else f"{measured:.2f}x"
    return (
        f"{speed} faster: {shown['full_steps']} steps computed, {shown['cached_steps']} reused, "
        f"{shown['bytes_cached'] / 1e6:.1f} MB"
    )


def layers_png(analysis: LayerAnalysis, width: float = 9.0, height: float = 7.5, dpi: int = 110) -> bytes:
    """Draw a layer analysis: curvature of each block, its forecast errors, error of a cached step by tau.

    Args:
        analysis: what to draw.
        width, height: inches.
        dpi: dots per inch.

    Returns:
        the PNG file's bytes.

    Raises:
        ImportError: matplotlib is missing; says how to get it.
    """
    figure = _new_figure(width, height, dpi)
    bend, errors, split = figure.subplots(3, 1, sharex=True)
    figure.suptitle(analysis.summary().split(". ")[0], fontsize=11)
    blocks = range(1, analysis.blocks + 1)
    colours = [_FULL if block <= analysis.tau else _CACHED for block in blocks]
    bend.bar(blocks, analysis.curvature, color=colours)
    bend.set_ylabel("curvature\n(variance of second\ndifferences, normalized)")
    errors.plot(blocks, analysis.extrapolation, "o-", markersize=4, color=_CACHED, label="extrapolated")
    errors.plot(blocks, analysis.reuse, "s-", markersize=4, color=_FULL, label="reused")
    errors.set_ylabel("error of a block")
    split.plot(blocks, analysis.cached, "o-", markersize=4, color="black", label="cached step")
    deep = blocks[:-1]
    split.plot(deep, analysis.deep_extrapolation, "--", color=_CACHED, label="deep blocks, extrapolated")
    split.plot(deep, analysis.deep_reuse, "--", color=_FULL, label="deep blocks, reused")
    split.set_ylabel("error with tau there")
    split.set_xlabel("block")
    split.xaxis.get_major_locator().set_params(integer=True)
    for axes in (errors, split):
        axes.legend(fontsize=8)
    for axes in (bend, errors, split):
        axes.axvline(analysis.tau + 0.5, linestyle=":", linewidth=1, color="gray")
        axes.set_ylim(bottom=0)
    return _png(figure)


def tuning_png(tuning: Tuning, width: float = 9.0, height: float = 6.0, dpi: int = 110) -> bytes:
    """Draw a tuning: error against speed of every trial that did not fail, their frontier, the choice and its
    full steps.

    Args:
        tuning: what to draw.
        width, height: inches.
        dpi: dots per inch.

    Returns:
        the PNG file's bytes.

    Raises:
        ImportError: matplotlib is missing; says how to get it.
    """
    figure = _new_figure(width, height, dpi)
    trade, strip = figure.subplots(2, 1, height_ratios=(12, 1))
    choice = tuning.choice
    figure.suptitle(tuning.summary().splitlines()[0], fontsize=11, wrap=True)
    _plot_trials(trade, tuning.successful, "o", color=_FULL, label="tried")
    _plot_trials(trade, tuning.frontier, "-", color=_FULL, linewidth=1, label="best of these")
    _plot_trials(trade, [choice], "*", color=_CACHED, markersize=18, label="chosen")
    if tuning.target.speed is not None:
        trade.axvline(tuning.target.speed, linestyle=":", color="gray", label="target")
    else:
        trade.axhline(100 * (tuning.target.error or 0.0), linestyle=":", color="gray", label="target")
    trade.plot([1], [0], "o", color="gray", label="without HERO")
    trade.set_ylim(bottom=0)
    trade.yaxis.set_major_formatter("{x:.3g}")
    trade.xaxis.set_major_formatter("{x:.3g}x")
    trade.set_xlabel("speed-up by FLOPs")
    trade.set_ylabel("error (%)")
    trade.grid(alpha=0.3)
    trade.legend(fontsize=8, loc="upper left")
    colours = [_FULL if full else _CACHED for full in choice.strip]
    strip.bar(range(1, choice.steps + 1), 1, width=0.9, color=colours)
    strip.set_yticks([])
    strip.xaxis.get_major_locator().set_params(integer=True)
    strip.set_xlabel("step (blue: in full)")
    strip.margins(x=0.01)
    return _png(figure)


def _plot_trials(axes: Axes, trials: Sequence[Trial], marker: str, **style: Any) -> None:
    speeds, errors = [trial.speedup for trial in trials], [100 * trial.error for trial in trials]
    axes.plot(speeds, errors, marker, **style)


def _new_figure(width: float, height: float, dpi: int) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing a report needs matplotlib: pip install matplotlib") from error
    # Not through pyplot, which keeps figures and picks a display.
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_time(axes: Axes, forwards: Sequence[Mapping[str, Any]]) -> None:
    # One patch for all of a kind: windows of a long clip have thousands of forwards.
    edges = [number + 0.5 for number in range(len(forwards) + 1)]
    for label, full, colour in (("computed", True, _FULL), ("reused", False, _CACHED)):
        times = [1000 * forward["seconds"] * (forward["full"] is full) for forward in forwards]
        if any(times):
            axes.stairs(times, edges, fill=True, color=colour, label=label)
    axes.set_title("time of each pass of the model", fontsize=_MIDDLE)
    axes.set_ylabel("ms", fontsize=_MIDDLE)
    axes.margins(y=0.35)
    axes.legend(loc="upper right", ncols=2, fontsize=_SMALL)


def _draw_drift(axes: Axes, forwards: Sequence[Mapping[str, Any]], threshold: float) -> None:
    curves = (("drift", "drift", "o"), ("forecast_error", "forecast error", "x"))
    for name, label, marker in curves:
        points = [
            (number, forward[name]) for number, forward in enumerate(forwards, 1) if forward[name] is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker, markersize=5, label=label)
    if threshold > 0:
        axes.axhline(threshold, linestyle="--", linewidth=1, color="gray", label="threshold")
    axes.set_title("how much the features changed", fontsize=_MIDDLE)
    axes.set_xlabel("pass", fontsize=_MIDDLE)
    axes.locator_params(axis="x", integer=True)
    axes.margins(y=0.4)
    axes.set_ylim(bottom=0)
    if axes.has_data():
        axes.legend(loc="upper right", ncols=3, fontsize=_SMALL, handletextpad=0.2, columnspacing=0.8)


def _draw_share(axes: Axes, report: Mapping[str, Any]) -> None:
    rows = {
        "time": (report["seconds_full"], report["seconds_cached"]),
        "steps": (report["full_steps"], report["cached_steps"]),
    }
    for name, (full, cached) in rows.items():
        share = 100 * full / max(full + cached, 1e-12)
        axes.bar([name], [share], color=_FULL)
        axes.bar([name], [100 - share], bottom=[share], color=_CACHED)
    axes.set_title("share in %", fontsize=_MIDDLE)
    axes.set_ylim(0, 100)
