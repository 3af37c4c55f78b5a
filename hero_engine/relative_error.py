"""How far two latents are apart, as a number and for a person."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_error(latent: Tensor, reference: Tensor) -> float:
    """|latent - reference| / |reference| in the Euclidean norm, in float64.

    Args:
        latent, reference: of one shape.

    Returns:
        0 or more; of a reference that is zero everywhere, 0 where the latent is too and 1 where it is not.
    """
    size = torch.linalg.vector_norm(reference, dtype=torch.float64)
    difference = torch.linalg.vector_norm(latent.double() - reference.double().to(latent.device))
    return float(difference / size) if size > 0 else float(difference > 0)


def percent(error: float) -> str:
    """A relative error for a person: "0.57 %"; web/text.js writes it alike."""
    value = 100 * error
    if 0 < value < 0.01:
        return "<0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %"
