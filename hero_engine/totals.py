"""Figures of time in words, and several runs' reports as one. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from .cost.prediction import speedup_bound

TOLERANCE = 0.05
"""A measured speed-up this far above its bound cannot be the method's. Less may be: attention on few tokens
runs a little faster than its FLOPs say."""

_SUMS = (
    "steps", "full_steps", "cached_steps", "half_steps", "memory_failures", "seconds", "seconds_full",
    "seconds_cached",
)  # fmt: skip


def speedup_limit(bound: float) -> float:
    """The highest speed-up by the clock that is believed, for a bound by FLOPs."""
    return bound * (1 + TOLERANCE)


def speed_text(measured: float | None, bound: float) -> str:
    """A measured speed-up beside its bound."""
    clock = "not measured" if measured is None else f"{measured:.2f}x measured in the model"
    return f"{clock} (bound by FLOPs {bound:.2f}x)"


def doubts(measured: float | None, bound: float, cached_share: float | None) -> list[str]:
    """A sentence for each figure that cannot be the method's.

    Args:
        measured: speed-up by the clock.
        bound: the same by FLOPs.
        cached_share: time of a cached step over that of a full one.
    """
    found = []
    if measured is not None and measured > speedup_limit(bound):
        found.append("The measured speed-up is above its bound: that is noise of a busy machine.")
    if cached_share is not None and cached_share > 1 + TOLERANCE:
        found.append(
            "A cached step does less work than a full one: its time here holds compiling or other work of "
            "the machine."
        )
    return found


def total(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several runs with the same settings as one report.

    Args:
        reports: what ``RunReport.to_dict`` gave for each, at least one.

    Returns:
        the same keys, but for what each run resolved its settings to, and ``runs``, their number. Bytes are
        the most of any run; the measured speed-up is of the medians over all runs' steps.
    """
    first = reports[0]
    found: dict[str, Any] = {"method": first["method"], "config": first["config"], "runs": len(reports)}
    found |= {name: sum(report[name] for report in reports) for name in _SUMS}
    forwards = [forward for report in reports for forward in report["forwards"]]
    tokens = sum(forward["tokens"] for forward in forwards)
    cached_share = _cached_share(forwards)
    bound = found["steps"] / sum(report["steps"] / report["predicted_speedup"] for report in reports)
    measured = None
    if found["full_steps"]:
        measured = speedup_bound(found["steps"], found["full_steps"], cached_share or 0.0)
    found |= {
        "nothing_reused": not found["cached_steps"],
        "tokens_refreshed": sum(forward["tokens_refreshed"] for forward in forwards) / max(1, tokens),
        "bytes_cached": max(report["bytes_cached"] for report in reports),
        "cached_over_full_step": cached_share,
        "measured_speedup": measured,
        "predicted_speedup": bound,
        "speedup_limit": speedup_limit(bound),
    }
    return {**found, "summary": _summary(found, first["summary"]), "forwards": forwards}


def step_times(forwards: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bool, float]]:
    """(whether any branch ran in full, seconds) of each step; forwards of a step share their timestep."""
    for _, step in groupby(forwards, key=lambda forward: forward["timestep"]):
        branches = list(step)
        yield any(branch["full"] for branch in branches), sum(branch["seconds"] for branch in branches)


def _cached_share(forwards: Sequence[Mapping[str, Any]]) -> float | None:
    times: dict[bool, list[float]] = {True: [], False: []}
    for full, seconds in step_times(forwards):
        times[full].append(seconds)
    if not (times[True] and times[False]):
        return None
    full_time = statistics.median(times[True])
    return statistics.median(times[False]) / full_time if full_time else None


def _summary(found: Mapping[str, Any], first: str) -> str:
    """A few lines for a person; ``first`` is what the first run says of itself."""
    if found["runs"] == 1:
        return first
    counts = f"{found['full_steps']} full / {found['cached_steps']} cached steps in {found['runs']} runs"
    if found["nothing_reused"]:
        return f"{found['method']}: {counts}. Nothing was reused. Of the first run: {first}"
    measured, bound, share = (
        found[name] for name in ("measured_speedup", "predicted_speedup", "cached_over_full_step")
    )
    lines = [
        f"{found['method']}: {counts}, {speed_text(measured, bound)}, at most "
        f"{found['bytes_cached'] / 1e6:.1f} MB cached.",
        *doubts(measured, bound, share),
    ]
    if share is not None:
        lines.insert(1, f"A cached step took {share:.3f} of a full one.")
    if found["memory_failures"]:
        lines.append(f"Memory ran out in {found['memory_failures']} forwards, which ran without the caches.")
    return "\n".join(lines)
