"""The same job without and with HERO, side by side: time, and how far the results are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..generation.sampling import Callback
from ..geometry.metrics import stream_psnr
from ..model.parts import AetherModel
from .job import Accelerator, Inputs, Result, Settings, rehearse, run

METHOD = (
    "Both runs in one process on one device with the same seed, the plain one first, after a rehearsal that "
    "takes every kind of step and is thrown away. Time is that of the denoising loop, the device waited for; "
    "with repeats the runs alternate and the fastest of each counts. The bound is the speed-up by FLOPs: "
    "steps / (full + cached c), c being the share of a full step's FLOPs that a cached one takes. PSNR is "
    "between the two results: RGB and disparity (limited to 0..1) with peak 1, the raymap with its range in "
    "the plain result."
)
NOISE = (
    "the speed-up of {speedup:.2f}x is above its bound of {bound:.2f}x, which cannot be: it is noise of a "
    "busy machine. Repeat the runs (--repeats 3) while nothing else is running"
)


@dataclass(frozen=True)
class Comparison:
    """Two results of one job.

    Attributes:
        plain, fast: without and with the accelerator.
        speedup: denoising time of the one over the other.
        bound: the same by FLOPs, for the steps that were full.
        psnr: dB by stream ("rgb", "disparity", "raymap"); infinite where they are equal.
    """

    plain: Result
    fast: Result

    @property
    def speedup(self) -> float:
        return _denoising(self.plain) / _denoising(self.fast)

    @property
    def bound(self) -> float:
        return self.fast.report["hero"]["predicted_speedup"]

    @property
    def is_noise(self) -> bool:
        """Whether the speed-up is further above the bound than is believed."""
        return self.speedup > self.fast.report["hero"]["speedup_limit"]

    def doubts(self) -> list[str]:
        """A sentence for each figure that cannot be."""
        return [NOISE.format(speedup=self.speedup, bound=self.bound)] if self.is_noise else []

    @property
    def psnr(self) -> dict[str, float]:
        return stream_psnr(self.plain.decoded, self.fast.decoded)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON (an infinite PSNR is None)."""
        return {
            "method": METHOD,
            "speedup": self.speedup,
            "speedup_bound": self.bound,
            "speedup_is_noise": self.is_noise,
            "psnr": {name: value if np.isfinite(value) else None for name, value in self.psnr.items()},
            "plain": self.plain.report,
            "hero": self.fast.report,
        }

    def table(self) -> str:
        """The comparison as text."""
        hero, quality = self.fast.report["hero"], self.psnr
        steps = self.plain.report["settings"]["steps"]
        head = ["", "denoising", "speed-up", "bound", "full steps", "cached"]
        head += ["PSNR rgb", "disparity", "raymap"]
        plain = ["plain", _seconds(self.plain), "1.00x", "1.00x", f"{steps} of {steps}", "-", "-", "-", "-"]
        noise = " (noise)" if self.is_noise else ""
        fast = ["HERO", _seconds(self.fast), f"{self.speedup:.2f}x{noise}", f"{self.bound:.2f}x"]
        fast += [f"{hero['full_steps']} of {hero['steps']}", f"{hero['bytes_cached'] / 1e6:.1f} MB"]
        fast += [f"{quality[name]:.1f} dB" for name in ("rgb", "disparity", "raymap")]
        rows = [head, plain, fast]
        truths = [result.report["depth_against_truth"] for result in (self.plain, self.fast)]
        if all(truths):
            head += ["Abs Rel", "delta1"]
            for row, truth in zip((plain, fast), truths, strict=True):
                row += [f"{truth['abs_rel']:.3f}", f"{truth['delta1']:.3f}"]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def compare(
    model: AetherModel,
    inputs: Inputs,
    settings: Settings,
    accelerator: Accelerator,
    *,
    repeats: int = 1,
    callback: Callable[[str], Callback | None] = lambda name: None,
) -> Comparison:
    """Run a job without and with an accelerator; see `METHOD`.

    Args:
        repeats: how often each is run.
        callback: from "warm-up", "plain" or "HERO" to the callback of that run.
    """
    for chosen in (None, accelerator):
        rehearse(model, inputs, settings, chosen, callback("warm-up"))
    results: dict[str, list[Result]] = {"plain": [], "HERO": []}
    for _ in range(repeats):
        for name, chosen in (("plain", None), ("HERO", accelerator)):
            results[name].append(run(model, inputs, settings, accelerator=chosen, callback=callback(name)))
    return Comparison(*(min(runs, key=_denoising) for runs in results.values()))


def _denoising(result: Result) -> float:
    return result.seconds["denoise"]


def _seconds(result: Result) -> str:
    return f"{_denoising(result):.2f} s"
