"""How far a run's latent is from the one of the same run without HERO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..aether.errors import InputError
from ..hero_engine.relative_error import percent, relative_error

_NAMES = ("RGB", "depth", "camera")
"""Of Aether's streams, in the order of its latent."""
_OTHER_RUN = 0.5
"""An error that no setting of HERO leaves: two runs of other noise differ by more than this."""


@dataclass(frozen=True)
class LatentError:
    """Relative errors, |latent - reference| / |reference| in the Euclidean norm, 0 or more.

    Attributes:
        whole: of the whole latent.
        streams: of its streams by name; empty where the latent is one.
    """

    whole: float
    streams: Mapping[str, float]

    def text(self) -> str:
        """A line for a person."""
        parts = ", ".join(f"{name} {percent(error)}" for name, error in self.streams.items())
        return f"Measured error: {percent(self.whole)}" + (f" ({parts})." if parts else ".")

    def doubts(self, reused: bool) -> list[str]:
        """Lines on what looks like a wrong wire.

        Args:
            reused: whether steps of the run were reused.
        """
        if reused and self.whole == 0:
            return [
                "The reference equals the latent, although steps were reused: connect the latent of a second "
                "sampler that runs without HERO."
            ]
        if self.whole > _OTHER_RUN:
            return [
                "That is more than HERO causes. Check that both samplers have the same seed, steps and "
                "conditioning."
            ]
        return []


def latent_error(latent: torch.Tensor, reference: torch.Tensor, channels: Sequence[int]) -> LatentError:
    """Compare two latents.

    Args:
        latent, reference: (B, C, T, h, w), or (B, C, h, w) of a picture.
        channels: of each stream, in order; their sum is C.

    Raises:
        InputError: latents of other sizes (field "reference"), or values that are not finite (field
            "reference" or "latent").
    """
    if latent.shape != reference.shape:
        raise InputError(
            "reference",
            f"has shape {tuple(reference.shape)}, the latent {tuple(latent.shape)}: connect the latent of "
            "the same run without HERO, with the same size and number of frames",
        )
    for field, values in (("latent", latent), ("reference", reference)):
        if not torch.isfinite(values).all():
            raise InputError(field, "holds NaN or infinite values, so that no error can be measured")
    streams: dict[str, float] = {}
    if len(channels) == len(_NAMES) and sum(channels) == latent.shape[1]:
        parts = (values.split(tuple(channels), dim=1) for values in (latent, reference))
        streams = {
            name: relative_error(*pair) for name, pair in zip(_NAMES, zip(*parts, strict=True), strict=True)
        }
    return LatentError(relative_error(latent, reference), streams)
