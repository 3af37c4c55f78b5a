"""Averages of each setting over its runs, and the method with the lowest error at each speed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ..models import SAMPLERS
from .contenders import HERO, Contender, reaches
from .runs import PLAIN, STREAMS

Record = dict[str, Any]
_QUALITY = {
    "rgb_psnr": ("fidelity", "rgb_psnr"),
    "rgb_ssim": ("fidelity", "rgb_ssim"),
    "disparity_psnr": ("fidelity", "disparity_psnr"),
    "disparity_ssim": ("fidelity", "disparity_ssim"),
    "raymap_psnr": ("fidelity", "raymap_psnr"),
    "abs_rel": ("depth", "abs_rel"),
    "delta1": ("depth", "delta1"),
    "rpe_rot": ("pose", "rpe_rot"),
    "ate": ("pose", "ate"),
}


@dataclass(frozen=True)
class Row:
    """One setting with one sampler, over its runs.

    Attributes:
        contender: None is the unaccelerated run.
        runs: how many count.
        failed: why one of them could not be made or measured; such a row has no numbers.
        flops_speedup, wall_speedup: from the mean share of work and time over the runs, so that each task
            weighs alike; NaN where unknown.
        error: relative error of the final latent against the unaccelerated run, mean over streams, then tasks
            and scenes.
        by_stream, by_task: means of the same.
        quality: means of PSNR, SSIM, depth and pose where there are any; NaN otherwise.
        bytes: most that was cached in a run.
    """

    sampler: str
    contender: Contender | None
    runs: int
    failed: str | None = None
    flops_speedup: float = math.nan
    wall_speedup: float = math.nan
    error: float = math.nan
    by_stream: dict[str, float] = field(default_factory=dict)
    by_task: dict[str, float] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    bytes: int = 0

    @property
    def label(self) -> str:
        return PLAIN if self.contender is None else self.contender.label

    @property
    def title(self) -> str:
        return "" if self.contender is None else self.contender.title

    @property
    def is_hero(self) -> bool:
        return self.label == HERO

    @property
    def counts(self) -> bool:
        """Whether it has numbers to compare."""
        return self.failed is None and math.isfinite(self.error)


def rows_of(records: Iterable[Record], runs: int | None = None) -> list[Row]:
    """One row for each setting and sampler, in the order in which they were first run.

    Args:
        runs: how many runs a row needs; one that lacks some is left out, as it cannot be compared.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        contender = _contender(record)
        groups[record["sampler"], contender.key if contender else PLAIN].append(record)
    enough = [found for found in groups.values() if runs is None or len(found) >= runs]
    return [_row(found) for found in sorted(enough, key=lambda found: SAMPLERS.index(found[0]["sampler"]))]


def _contender(record: Record) -> Contender | None:
    return None if record["method"] == PLAIN else Contender(record["method"], record["settings"])


def _row(records: list[Record]) -> Row:
    sampler, contender = records[0]["sampler"], _contender(records[0])
    wrong = [record for record in records if record.get("failed")]
    if wrong:
        where = f"{wrong[0]['task']}, scene {wrong[0]['scene']}"
        return Row(sampler, contender, len(records), failed=f"{wrong[0]['failed']} ({where})")
    if contender is None:
        return Row(
            sampler, None, len(records), flops_speedup=1.0, wall_speedup=1.0, quality=_quality(records)
        )
    errors = [fmean(record["latent"].values()) for record in records]
    tasks = dict.fromkeys(record["task"] for record in records)
    return Row(
        sampler,
        contender,
        len(records),
        flops_speedup=_speedup(records, "flops_speedup"),
        wall_speedup=_speedup(records, "wall_speedup"),
        error=fmean(errors),
        by_stream={name: fmean(record["latent"][name] for record in records) for name in STREAMS},
        by_task={
            task: fmean(e for e, record in zip(errors, records, strict=True) if record["task"] == task)
            for task in tasks
        },
        quality=_quality(records),
        bytes=max(record.get("bytes", 0) for record in records),
    )


def _speedup(records: Sequence[Record], name: str) -> float:
    if any(name not in record for record in records):
        return math.nan
    return 1 / fmean(1 / record[name] for record in records)


def _quality(records: Sequence[Record]) -> dict[str, float]:
    means = {}
    for name, (part, key) in _QUALITY.items():
        values = [record[part][key] for record in records if record.get(part, {}).get(key) is not None]
        means[name] = fmean(values) if values else math.nan
    return means


@dataclass(frozen=True)
class Verdict:
    """Whether HERO's error is the lowest, or equal to it, with one sampler at one speed.

    Attributes:
        hero: HERO's setting with the lowest error that is fast enough; None where none is.
        others: the same of every other method, the lowest error first.
        slow: methods without one.
        failed: methods without any setting that worked; they cannot be compared.
        hero_ran: False where no setting of HERO worked; None where none took part.
    """

    sampler: str
    target: float
    hero: Row | None
    others: tuple[Row, ...]
    slow: tuple[str, ...]
    failed: tuple[str, ...]
    hero_ran: bool | None = True

    @property
    def holds(self) -> bool:
        return self.hero is not None and all(self.hero.error <= other.error for other in self.others)

    @property
    def best(self) -> list[Row]:
        """Of each method its setting with the lowest error that is fast enough, the lowest first."""
        return sorted([*([self.hero] if self.hero else []), *self.others], key=lambda row: row.error)

    def line(self) -> str:
        """One sentence, beginning with yes or no."""
        what = f"{self.target:g}x, {self.sampler} sampler"
        if self.hero_ran is None:
            return f"{what}: HERO took no part."
        if self.hero is None:
            return f"no: {what}: no setting of HERO {'is this fast' if self.hero_ran else 'ran; see below'}."
        own = f"HERO {self.hero.error:.4f}"
        if not self.others:
            return f"yes: {what}: {own}; no other method is this fast."
        best = self.others[0]
        rival = f"{best.label} {best.error:.4f}"
        if self.holds:
            return f"yes: {what}: {own}; next {rival}."
        ahead = [f"{one.label} {one.error:.4f}" for one in self.others if one.error < self.hero.error]
        return f"no: {what}: {own}; lower: {', '.join(ahead)}."


def verdicts(rows: Sequence[Row], targets: Sequence[float]) -> list[Verdict]:
    """One for each sampler and target."""
    found = []
    for sampler in dict.fromkeys(row.sampler for row in rows):
        own = [row for row in rows if row.sampler == sampler]
        found += [_verdict(own, sampler, target) for target in targets]
    return found


def _verdict(rows: Sequence[Row], sampler: str, target: float) -> Verdict:
    rows = [row for row in rows if row.contender is not None]
    best: dict[str, Row] = {}
    for row in rows:
        better = row.label not in best or row.error < best[row.label].error
        if row.counts and reaches(row.flops_speedup, target) and better:
            best[row.label] = row
    hero = best.pop(HERO, None)
    labels = dict.fromkeys(row.label for row in rows if not row.is_hero)
    working = {row.label for row in rows if row.counts}
    return Verdict(
        sampler,
        target,
        hero,
        tuple(sorted(best.values(), key=lambda row: row.error)),
        tuple(label for label in labels if label in working and label not in best),
        tuple(label for label in labels if label not in working),
        HERO in working if any(row.is_hero for row in rows) else None,
    )


def claim(found: Sequence[Verdict]) -> str:
    """The whole in one line, yes or no."""
    won = sum(verdict.holds for verdict in found)
    answer = "yes" if found and won == len(found) else "no"
    silent = sorted({label for verdict in found for label in verdict.failed})
    without = f"; not compared, since no setting of theirs ran: {', '.join(silent)}" if silent else ""
    if all(verdict.hero_ran is None for verdict in found):
        return f"HERO took no part{without}"
    speeds = "/".join(f"{target:g}" for target in dict.fromkeys(verdict.target for verdict in found))
    return (
        f"At {speeds}x FLOPs, HERO's best setting has the lowest error of all methods, "
        f"or an equal one: {answer} ({won} of {len(found)}){without}"
    )
