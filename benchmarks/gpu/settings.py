"""What is measured, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Of all parts.

    Attributes:
        device: "cuda:0", or "cpu" for a rehearsal of the command.
        size: of the model, one of ``benchmarks.sizes.SIZES``.
        steps: of the runs end to end, the most first; those are taken that fit the time.
        short_steps: of the other runs.
        frames: latent frames of the runs whose growth is measured, the base first.
        runs: after which memory is read.
        compile: as ``hero_engine.optimize`` takes it.
    """

    device: str = "cuda:0"
    size: str = "aether"
    steps: tuple[int, ...] = (50, 30, 20, 12)
    short_steps: int = 8
    frames: tuple[int, ...] = (11, 5, 21)
    runs: tuple[int, ...] = (1, 3, 5)
    compile: bool | Mapping[str, Any] = True

    @property
    def toy(self) -> bool:
        """Whether no time that is measured says anything of a GPU."""
        return self.device == "cpu"


TOY = Settings("cpu", "tiny", steps=(8,), frames=(5, 3), runs=(1, 2), compile={"backend": "eager"})
"""All parts on a CPU, in seconds."""
