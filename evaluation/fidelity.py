"""How true a result is to another, stream by stream: PSNR, SSIM and LPIPS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aether.arrays import finite_array
from aether.errors import InputError
from aether.geometry.metrics import psnr, stream_pairs

from .sources import Streams

Distance = Callable[[np.ndarray, np.ndarray], float]
"""Of two clips (F, H, W, 3) in [0, 1]."""
SSIM_WINDOW = 11
"""Pixels. Smaller pictures have no SSIM."""


def fidelity(a: Any, b: Any, *, lpips: Distance | None = None) -> dict[str, float]:
    """Measure ``b`` against ``a``.

    Args:
        a, b: results with rgb (F, H, W, 3) in [0, 1], disparity (F, H, W) and raymap (F, 6, h, w); what is
            None in either is left out.
        lpips: see :func:`load_lpips`.

    Returns:
        "rgb_psnr", "disparity_psnr" and "raymap_psnr" in dB, infinite where equal (see
        ``aether.geometry.metrics.stream_pairs`` for ranges and peaks); "rgb_ssim" and "disparity_ssim",
        means over frames; with ``lpips``, "rgb_lpips" and "disparity_lpips".

    Raises:
        InputError: nothing in common, different shapes, NaN or infinities; the field is the stream.
        ImportError: scikit-image is missing.
    """
    result = {}
    for name, (left, right, peak) in stream_pairs(_finite(a), _finite(b)).items():
        if left.shape != right.shape:
            raise InputError(name, f"has shape {left.shape} in one result and {right.shape} in the other")
        if peak == 0:
            raise InputError(name, "is the same everywhere in the first result, so its PSNR has no peak")
        result[f"{name}_psnr"] = psnr(left, right, peak)
        if name == "raymap":
            continue
        if min(left.shape[1:3]) >= SSIM_WINDOW:
            result[f"{name}_ssim"] = ssim(left, right)
        if lpips is not None:
            result[f"{name}_lpips"] = lpips(_colors(left), _colors(right))
    if not result:
        raise InputError("streams", "the results have none in common, so there is nothing to compare")
    return result


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity, mean over frames, of clips (F, H, W) or (F, H, W, 3) in [0, 1].

    By scikit-image with the settings of Wang et al. (2004): Gaussian window of 11 pixels, sigma 1.5.

    Raises:
        ImportError: scikit-image is missing.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError('SSIM is measured by scikit-image: pip install ".[evaluation]"') from error
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    channels = -1 if a.ndim == 4 else None
    frames = zip(a.astype(np.float64), b.astype(np.float64), strict=True)
    return float(np.mean([structural_similarity(x, y, channel_axis=channels, **settings) for x, y in frames]))


def load_lpips(device: str = "cpu") -> Distance:
    """Learned perceptual distance with AlexNet features, mean over frames; 0 is equal.

    The package downloads AlexNet's weights the first time.

    Raises:
        ImportError: the package lpips is missing.
    """
    import torch

    try:
        import lpips
    except ImportError as error:
        raise ImportError("LPIPS is measured by the package lpips: pip install lpips") from error
    network = lpips.LPIPS(net="alex", verbose=False).to(device).eval()

    def tensor(frame: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frame).float().permute(2, 0, 1)[None].to(device) * 2 - 1

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        with torch.inference_mode():
            return float(np.mean([network(tensor(x), tensor(y)).item() for x, y in zip(a, b, strict=True)]))

    return distance


def _finite(result: Any) -> Streams:
    streams = {name: getattr(result, name) for name in ("rgb", "disparity", "raymap")}
    return Streams(
        **{
            name: None if stream is None else finite_array(stream, name, (None,) * np.ndim(stream))
            for name, stream in streams.items()
        }
    )


def _colors(clip: np.ndarray) -> np.ndarray:
    return clip if clip.ndim == 4 else np.repeat(clip[..., None], 3, axis=-1)
