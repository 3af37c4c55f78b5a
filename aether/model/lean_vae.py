"""diffusers' CogVideoX VAE with less memory, half of it in decoding, for the same values up to rounding.

Three things in it take memory that no result needs. The decoder's norms scale and shift by two pointwise
convolutions of the latent, enlarged to the picture before: enlarged after, which is the same since nearest
neighbors are copies, they cost next to nothing, and a frame at a time can go into the norm's output in place.
Every pointwise convolution keeps its whole input for the next frames, which only those with a kernel longer
than one frame read; those get their new frames into the old ones' place. And what norms give can be activated
in place.

What the decoder gives is float32 whatever it runs in: its last convolution is computed so. Rounded to
bfloat16, depth has some 270 levels, which show as terraces in point clouds and graded pictures.

At 480 x 720 x 41 in bfloat16 decoding takes 8.2 GB besides weights, before 15.8, and encoding 5.5, before
6.6, by count (`python -m benchmarks.memory`).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXResnetBlock3D,
    CogVideoXSpatialNorm3D,
)
from torch import Tensor, nn
from torch.nn.functional import conv3d, interpolate, silu


class _Norm(CogVideoXSpatialNorm3D):
    def forward(self, f: Tensor, zq: Tensor, conv_cache: dict[str, Tensor] | None = None):
        if torch.is_grad_enabled():
            return super().forward(f, zq, conv_cache)
        scale, shift = self.conv_y.conv(zq), self.conv_b.conv(zq)
        normed = self.norm_layer(f)
        for number, source in enumerate(_sources(f.shape[2], zq.shape[2])):
            frame, size = normed[:, :, number], f.shape[-2:]
            frame.mul_(interpolate(scale[:, :, source], size=size))
            frame.add_(interpolate(shift[:, :, source], size=size))
        return normed, {}


class _CausalConv(CogVideoXCausalConv3d):
    def forward(self, inputs: Tensor, conv_cache: Tensor | None = None):
        if torch.is_grad_enabled() or self.pad_mode == "replicate":
            return super().forward(inputs, conv_cache)
        padded = self.fake_context_parallel_forward(inputs, conv_cache)
        kept = self.time_kernel_size - 1
        latest = padded[:, :, padded.shape[2] - kept :]
        cache = latest.clone() if conv_cache is None else conv_cache.copy_(latest)
        return self._convolved(padded), cache

    def _convolved(self, padded: Tensor) -> Tensor:
        if not _would_unfold(padded):
            return self.conv(padded)
        conv, cudnn = self.conv, torch.backends.cudnn
        flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
        out = torch.cudnn_convolution(
            padded, conv.weight, conv.padding, conv.stride, conv.dilation, conv.groups, *flags
        )
        return out if conv.bias is None else out.add_(conv.bias[:, None, None, None])


class _LastConv(_CausalConv):
    def _convolved(self, padded: Tensor) -> Tensor:
        if padded.dtype == torch.float32:
            return super()._convolved(padded)
        weight, bias, kernel = self.conv.weight.float(), self.conv.bias.float(), self.time_kernel_size
        # A frame at a time, so that it takes little memory.
        frames = [
            conv3d(padded[:, :, start : start + kernel].float(), weight, bias, padding=self.conv.padding)
            for start in range(padded.shape[2] - kernel + 1)
        ]
        return torch.cat(frames, dim=2)


class _SiLU(nn.SiLU):
    def forward(self, input: Tensor) -> Tensor:
        return silu(input, inplace=not torch.is_grad_enabled())


def make_lean(vae: AutoencoderKLCogVideoX) -> None:
    """Let this VAE, and whatever shares its modules, need less memory, and decode to float32.

    That is without gradients; with them it runs as before. Weights and their names stay.
    """
    for module in vae.modules():
        if type(module) is CogVideoXSpatialNorm3D:
            module.__class__ = _Norm
        elif type(module) is CogVideoXCausalConv3d:
            module.__class__ = _CausalConv
        elif type(module) is CogVideoXResnetBlock3D and type(module.nonlinearity) is nn.SiLU:
            module.nonlinearity = _SiLU()
    vae.decoder.conv_out.__class__ = _LastConv


def _would_unfold(padded: Tensor) -> bool:
    """Whether torch would convolve without cuDNN, by a matrix of all neighborhoods: 43 GB at Aether's size.

    torch 2.9 and later do so in half precision with cuDNN 9.8 to 9.14 (pytorch issue 166643); asked by name,
    cuDNN does it as before.
    """
    if padded.device.type != "cuda" or padded.dtype == torch.float32 or torch.__version__ < "2.9":
        return False
    return 90800 <= (torch.backends.cudnn.version() or 0) < 91500


def _sources(frames: int, latents: int) -> list[int]:
    """The latent frame that each frame belongs to: of an odd number the first has one to itself."""
    alone = int(frames > 1 and frames % 2 == 1)
    together = frames - alone
    return [0] * alone + [alone + frame * (latents - alone) // together for frame in range(together)]
