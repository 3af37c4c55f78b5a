"""Colors that do not drift: what a window changes on the picture it was given is taken back.

Every window shows the picture that it begins from once more, as the model and its VAE draw it: a little
brighter or duller, with guidance also with more contrast. The next window begins from that, and so on. The
mean and spread of every channel of the shared frames say by how much, and the whole window is corrected.
"""

from __future__ import annotations

import numpy as np

MOST_GAIN = 1.5
"""A channel's contrast is changed by this much at most, either way."""


def match_colors(shared: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset per channel that give ``shared`` the mean and spread of ``known``.

    Args:
        shared, known: (F, H, W, 3) in [0, 1], the same frames.

    Returns:
        (3,) and (3,) float32, for shared * factor + offset.
    """
    axes = (0, 1, 2)
    means, spreads = (
        [getattr(np, figure)(frames, axis=axes, dtype=np.float64) for frames in (shared, known)]
        for figure in ("mean", "std")
    )
    gain = np.clip(spreads[1] / np.maximum(spreads[0], 1e-3), 1 / MOST_GAIN, MOST_GAIN)
    return gain.astype(np.float32), (means[1] - gain * means[0]).astype(np.float32)


def corrected(rgb: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(F, H, W, 3) in [0, 1]."""
    return np.clip(rgb * gain + offset, 0, 1)
