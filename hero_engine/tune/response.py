"""How a model answers an error of its latent.

For data of variance v around what is known of them, the clean latent that fits best answers an error of
the latent with ratio^2 / (ratio^2 + 1 / v) of it. v differs from direction to direction: with little
noise nearly every error is taken for content and kept, with much noise nearly every one is taken for noise.
What guidance and the rest of the model make of an error besides points elsewhere; guidance amplifies it.
"""

from __future__ import annotations

import numpy as np

from .sampled_steps import Steps
from .tables import SKETCH

_PRECISION = (0.3, 300.0)
"""1 / v, spread evenly by its logarithm over the numbers of a sketch. As the next two, found by trials on the
miniature (scenes 401 and 402); docs/tuner.md has what they give on others."""
_TURNED, _TURNED_WITH_NOISE = 0.5, 0.4
"""The least length of the answer at ratio 1, as a share of the error's; with samplers that add noise."""
_KEPT = 0.001
"""1 / v in directions that a clip is open in."""
_GUIDED = 0.3
"""Power of the length of the guidance weights in that share."""


class Response:
    """A model's answers to errors, at the steps of a run.

    Errors are (2, ``SKETCH``): along the data, and across it (of refreshed tokens, taken for noise). Those of
    a latent are relative to its noise.

    Args:
        sampling: of the run.
        guidance: (steps, parts) weights of what guidance combines.
        openness: share of the directions in which an error is kept almost from the first step on, as little
            is known of the clip in advance.
    """

    def __init__(self, sampling: Steps, guidance: np.ndarray, openness: float = 0.0):
        self._sampling = sampling
        least = _TURNED_WITH_NOISE if sampling.stochastic else _TURNED
        self._turned = least * np.linalg.norm(guidance, axis=1) ** _GUIDED
        random = np.random.default_rng(0)
        places = random.permutation(SKETCH) / SKETCH
        spread = _PRECISION[0] * (_PRECISION[1] / _PRECISION[0]) ** ((places - openness) / (1 - openness))
        self._precision = np.where(places < openness, _KEPT, spread)
        self._places = random.permutation(SKETCH)
        self._signs = random.choice((-1.0, 1.0), SKETCH)

    def full(self, step: int, error: np.ndarray) -> np.ndarray:
        """The error of a full step's clean latent."""
        ratio, length = self._sampling.ratios[step], float(np.linalg.norm(error))
        answer = np.zeros_like(error)
        if ratio <= 0 or not length:
            return answer
        answer[0] = error[0] * ratio / (ratio**2 + self._precision)
        missing = (self._turned[step] * length / ratio) ** 2 - float(np.sum(answer**2))
        if missing > 0:
            answer += error[:, self._places] * self._signs * (missing**0.5 / length)
        return answer

    def direct(self, step: int, error: np.ndarray) -> np.ndarray:
        """The part of it that does not go through the blocks."""
        return error * self._sampling.direct[step]
