"""An encoder to begin from: the VAE's own layers set so that they compute principal components.

Trained from random weights, the encoder passes brightness on long before it passes color. Set like this it
begins as a linear code of 8x8 pixels x 4 frames into 16 numbers, found by reduced-rank regression level by
level, and its nonlinear branches begin at zero.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

_CONSTANT = 6.0
"""Signals have size 1. The last normalization is over groups with two such constants, +c and -c: it then
divides by nearly the same number whatever the clip shows."""
_GROUP = 8
_LOG_VARIANCE = -6.0
_RIDGE = 1e-4


@torch.no_grad()
def set_linear_encoder(vae: AutoencoderKLCogVideoX, videos: np.ndarray) -> None:
    """Set `vae.encoder` from sample videos.

    Args:
        vae: three downsamplings, the first two in time as well.
        videos: (N, F, H, W, 3) in [-1, 1], F one more than a multiple of 4, H and W multiples of 8.
    """
    encoder = vae.encoder
    for block in [*encoder.down_blocks, encoder.mid_block]:
        for resnet in block.resnets:
            resnet.conv2.conv.weight.zero_()
            resnet.conv2.conv.bias.zero_()
            if resnet.in_channels != resnet.out_channels:
                _set_identity(resnet.conv_shortcut)
    features = _set_first_layer(encoder.conv_in.conv, videos)
    rows, pixels = features[:, 1:], videos[:, 1:]
    for level, block in enumerate(encoder.down_blocks[:3]):
        if level < 2:
            rows = rows.reshape(len(rows), -1, 2, *rows.shape[2:]).mean(axis=2)
        side, span = 2 ** (level + 1), pixels.shape[1] // rows.shape[1]
        inputs = _blocks(rows, 1, 2)
        targets = _blocks(pixels, span, side)
        outputs = block.downsamplers[0].conv.out_channels
        rank = min(outputs if level < 2 else vae.config.latent_channels, inputs.shape[-1])
        weight, bias = _reduced_rank(
            inputs.reshape(-1, inputs.shape[-1]), targets.reshape(-1, targets.shape[-1]), rank
        )
        rows = inputs @ weight.T + bias
        if level < 2:
            _set_downsampler(block.downsamplers[0].conv, weight, bias)
        else:
            _set_paired(block.downsamplers[0].conv, weight, bias)
    _set_last_layers(encoder, vae.config.latent_channels)


def _set_first_layer(conv: torch.nn.Conv3d, videos: np.ndarray) -> np.ndarray:
    """Colors, and their changes since one and two frames before: means over time keep the trend in them."""
    conv.weight.zero_()
    conv.bias.zero_()
    for color in range(3):
        for back, channel in ((0, color), (1, 3 + color), (2, 6 + color)):
            conv.weight[channel, color, 2, 1, 1] = 1
            if back:
                conv.weight[channel, color, 2 - back, 1, 1] = -1
    padded = np.concatenate([videos[:, :1], videos[:, :1], videos], axis=1)
    features = [videos, videos - padded[:, 1:-1], videos - padded[:, :-2]]
    rest = conv.out_channels - 9
    return np.concatenate([*features, np.zeros((*videos.shape[:-1], rest), videos.dtype)], axis=-1)


def _set_identity(conv: torch.nn.Module) -> None:
    conv = getattr(conv, "conv", conv)
    conv.weight.zero_()
    conv.bias.zero_()
    for channel in range(conv.in_channels):
        conv.weight[channel, channel] = 1


def _blocks(rows: np.ndarray, span: int, side: int) -> np.ndarray:
    """(N, T, H, W, C) to (N, T / span, H / side, W / side, span * side * side * C)."""
    n, t, h, w, c = rows.shape
    split = rows.reshape(n, t // span, span, h // side, side, w // side, side, c)
    return split.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, t // span, h // side, w // side, -1)


def _reduced_rank(inputs: np.ndarray, targets: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The `rank` linear features of `inputs` that predict `targets` best, each of mean 0.

    Their sizes go with the square root of what they explain, 1 in the mean: equal ones would make a denoiser
    care for the least as for the first, true ones would leave it blind to detail.

    Returns:
        weight (rank, inputs), bias (rank,).
    """
    mean = inputs.mean(axis=0)
    inputs, targets = inputs - mean, targets - targets.mean(axis=0)
    covariance = inputs.T @ inputs / len(inputs)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, _RIDGE * values[-1])
    whiten = vectors / np.sqrt(values) @ vectors.T
    cross = targets.T @ inputs / len(inputs) @ whiten
    _, sizes, right = np.linalg.svd(cross, full_matrices=False)
    wanted = np.sqrt(sizes[:rank] / sizes[:rank].mean())
    weight = wanted[:, None] * (right[:rank] @ whiten)
    return weight, -weight @ mean


def _set_downsampler(conv: torch.nn.Conv2d, weight: np.ndarray, bias: np.ndarray) -> None:
    """A function of 2x2 blocks as the convolution's: its taps 0 and 1 of 3 see a block, 2 the next one."""
    conv.weight.zero_()
    conv.bias.zero_()
    kernel = weight.reshape(len(weight), 2, 2, -1).transpose(0, 3, 1, 2)
    conv.weight[: len(weight), : kernel.shape[1], :2, :2] = torch.from_numpy(kernel).float()
    conv.bias[: len(bias)] = torch.from_numpy(bias).float()


def _places(count: int) -> list[int]:
    """Channels of the signals +s; -s is in the next one. Three pairs and two constants make a group."""
    return [signal // 3 * _GROUP + signal % 3 * 2 for signal in range(count)]


def _set_paired(conv: torch.nn.Conv2d, weight: np.ndarray, bias: np.ndarray) -> None:
    paired, offset = np.zeros((conv.out_channels, weight.shape[1])), np.zeros(conv.out_channels)
    for signal, channel in enumerate(_places(len(weight))):
        paired[[channel, channel + 1]] = weight[signal], -weight[signal]
        offset[[channel, channel + 1]] = bias[signal], -bias[signal]
    for first in range(0, conv.out_channels, _GROUP):
        offset[[first + 6, first + 7]] = _CONSTANT, -_CONSTANT
    _set_downsampler(conv, paired, offset)


def _set_last_layers(encoder: torch.nn.Module, channels: int) -> None:
    """Undo the normalization; silu(s) - silu(-s) = s."""
    encoder.norm_out.weight.fill_(_CONSTANT / 2)
    encoder.norm_out.bias.zero_()
    conv = encoder.conv_out.conv
    conv.weight.zero_()
    conv.bias.zero_()
    for signal, channel in enumerate(_places(channels)):
        conv.weight[signal, channel, 2, 1, 1] = 1
        conv.weight[signal, channel + 1, 2, 1, 1] = -1
    conv.bias[channels:] = _LOG_VARIANCE
