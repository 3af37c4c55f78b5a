"""`python -m aether doctor`: what is here, what is missing, and what fits, as text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..doctor.packages import packages_section
from ..doctor.report import Report
from ..doctor.sections import (
    attention_section,
    fit_section,
    machine_section,
    measured_section,
    weights_section,
)
from ..spec import AETHER_V1
from .console import Console
from .model import auto_device

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from ..doctor.fits import Way
    from ..doctor.report import Line


def run_doctor(arguments: argparse.Namespace, console: Console) -> int:
    """Print the report.

    Returns:
        the exit status: 1 where the bundled miniature lacks something, else 0.
    """
    report = examine(Path(arguments.tuning), arguments.cache_dir and Path(arguments.cache_dir).expanduser())
    # A name that the terminal's encoding has no letters for is no reason to fail.
    encoding = sys.stdout.encoding or "utf-8"
    console.answer(str(report).encode(encoding, "replace").decode(encoding))
    return 0 if report.ready else 1


def examine(tuning: Path, cache: Path | None) -> Report:
    """The command line's report.

    Args:
        tuning: folder that `tune` wrote; it need not be there.
        cache: where downloads are kept; None for Hugging Face's own.
    """
    from hero_engine import doctor

    def measured() -> str:
        return f"{tuning}: {doctor.tuning_text(tuning)}"

    return Report(
        (
            packages_section(),
            machine_section(_device),
            attention_section(lambda: doctor.attention_texts(_device(), AETHER_V1.head_dim)),
            weights_section(lambda: _downloaded(cache)),
            fit_section(_device, _ways, doctor.aether_cache),
            measured_section(measured),
        )
    )


def _device() -> torch.device:
    import torch

    return torch.device(auto_device())


def _downloaded(cache: Path | None) -> Iterable[Line]:
    from ..doctor.weights import downloaded_lines

    return downloaded_lines(cache)


def _ways() -> tuple[Way, ...]:
    """By the command line's options."""
    from ..doctor.fits import Way

    return (
        Way("the defaults"),
        Way("--vae-tiling", tiling=True),
        Way("--dtype float8", float8=True),
        Way("--dtype float8 --vae-tiling", float8=True, tiling=True),
        Way("--offload", offload=True),
        Way("--offload --vae-tiling", offload=True, tiling=True),
        Way("--dtype float8 --offload --vae-tiling", float8=True, offload=True, tiling=True),
    )
