"""Settings from the model in front of you: measure a few runs, and choose what fits a target.

:func:`tune` is the whole of it. A :class:`Recording` of one unaccelerated run predicts the error of settings
that never ran.
"""

from __future__ import annotations

from .recording import Recording
from .trials import Progress, Target, Trial, Tuning
from .tuner import tune
from .weights import weights_digest

__all__ = ["Progress", "Recording", "Target", "Trial", "Tuning", "tune", "weights_digest"]
