"""The bridge to VAE: diffusers' CogVideoX autoencoder as a VAE that core's nodes can use.

Core has a CogVideoX autoencoder of its own. It cuts a clip at other frames, and the autoencoder normalizes
over what is between cuts, so its latents and pictures differ from those that Aether was made and published
with; and it gives no sample of the posterior, which Aether's conditions are. So ours runs diffusers'. A VAE
of core's Load VAE works on our nodes as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import comfy.ldm.cogvideo.vae
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch

from ...aether.errors import InputError
from ...aether.memory_errors import unless_out_of_memory
from ...aether.model.memory import decoding_bytes, encoding_bytes
from ...aether.model.parts import AetherModel, Encoder
from ...aether.spec import AETHER_V1, AetherSpec
from .errors import on_canvas
from .model import OUR_LOADERS

Result = TypeVar("Result")

_TILE = 32
"""Side, in latent cells, of a tile that is decoded where memory is short; core's own."""


class _Autoencoder(torch.nn.Module):
    """Core's calls turned into diffusers'."""

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, F, H, W) in [-1, 1] to (B, 16, T, h, w), the mean of the posterior."""
        return self.vae.encode(pixels).latent_dist.mode()

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, 16, T, h, w) to (B, 3, F, H, W) in about [-1, 1]."""
        return self.vae.decode(latent).sample


class AetherVAE(comfy.sd.VAE):
    """A VAE around diffusers' CogVideoX autoencoder.

    Args:
        model: its VAE is taken in; its numbers and dtype are what the task nodes go by.
        device, dtype: where the VAE runs and in what; by default ComfyUI's choice.
    """

    def __init__(
        self, model: AetherModel, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        with _without_warning("No VAE weights detected"):
            super().__init__(sd={})  # all that core keeps on a VAE, without a model
        self.spec = model.spec
        self.condition_dtype = model.dtype
        self.latent_channels = self.spec.latent_channels
        self.latent_dim = 3
        space, time = self.spec.spatial_scale, self.spec.temporal_scale
        self.upscale_ratio = (lambda frames: max(0, frames * time - time + 1), space, space)
        self.upscale_index_formula = (time, space, space)
        self.downscale_ratio = (lambda frames: max(0, math.ceil(frames / time)), space, space)
        self.downscale_index_formula = (time, space, space)
        vae = model.vae  # not the whole model, which would stay as long as this
        self.memory_used_encode = lambda shape, dtype: 1.1 * encoding_bytes(vae, *shape[3:])
        self.memory_used_decode = lambda shape, dtype: (
            1.1 * decoding_bytes(vae, space * shape[3], space * shape[4])
        )

        # Its layers are not core's, which alone can be brought to the device one by one.
        self.disable_offload = True
        self.device = device or comfy.model_management.vae_device()
        self.vae_dtype = dtype or default_dtype(self.device)
        self.output_device = comfy.model_management.intermediate_device()
        self.first_stage_model = _Autoencoder(torch.nn.Module.to(model.vae, dtype=self.vae_dtype)).eval()
        comfy.model_management.archive_model_dtypes(self.first_stage_model)
        offload = comfy.model_management.vae_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=offload
        )
        self.model_size()

    def decode(self, samples_in: torch.Tensor, vae_options: dict[str, Any] | None = None) -> torch.Tensor:
        """As core's; tile by tile where the device is too small for the whole, which Windows would answer by
        swapping it to the host, at a crawl, and not by an error.

        Raises:
            InputError: a unified latent, or another with more or fewer channels than a picture's.
        """
        self._check_channels(samples_in)
        if not self.is_too_large(samples_in):
            # Core tries again in tiles on CUDA only.
            with _unless_out_of_memory():
                return super().decode(samples_in, vae_options or {})
        return _decode_tiled(self, samples_in)

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor:
        """As core's; tile by tile where memory runs out, of whatever device."""
        with _unless_out_of_memory():
            return super().encode(pixel_samples)
        logging.warning("Aether: not enough memory, encoding tile by tile")
        pixels = 8 * _TILE
        return super().encode_tiled(pixel_samples, tile_x=pixels, tile_y=pixels, overlap=pixels // 4)

    def decode_tiled(self, samples: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As core's. Raises: as :meth:`decode`."""
        self._check_channels(samples)
        return super().decode_tiled(samples, *args, **kwargs)

    @on_canvas()
    def _check_channels(self, latent: torch.Tensor) -> None:
        if latent.shape[1] != self.latent_channels:
            raise InputError(
                "samples",
                f"have {latent.shape[1]} channels, a video's latent {self.latent_channels}: put Aether Split "
                "between the sampler and VAE Decode, and decode its rgb or disparity",
            )

    def is_too_large(self, latent: torch.Tensor) -> bool:
        """Whether to decode the latent as a whole takes more memory than the device has."""
        needed = self.memory_used_decode(latent.shape, self.vae_dtype)
        return bool(needed > comfy.model_management.get_total_memory(self.device))


def default_dtype(device: torch.device | None = None) -> torch.dtype:
    """What ComfyUI would run this VAE in."""
    device = device or comfy.model_management.vae_device()
    return comfy.model_management.vae_dtype(device, [torch.bfloat16, torch.float16, torch.float32])


def spec_of(vae: comfy.sd.VAE) -> AetherSpec:
    """The numbers of the model that a VAE came with; AetherV1's for one of core's.

    Raises:
        InputError: another kind of VAE.
    """
    if isinstance(vae, AetherVAE):
        return vae.spec
    if _is_core_cogvideox(vae):
        return AETHER_V1
    kind = type(vae.first_stage_model).__name__
    raise InputError("vae", f"is a {kind}, which is not Aether's: connect the VAE of {OUR_LOADERS}")


def encoder_of(vae: comfy.sd.VAE) -> Encoder:
    """What makes conditions with a VAE, on the CPU. Load the VAE before encoding.

    Raises:
        InputError: another kind of VAE.
    """
    spec, cpu = spec_of(vae), torch.device("cpu")
    if isinstance(vae, AetherVAE):
        return Encoder(spec, vae.first_stage_model.vae, cpu, vae.condition_dtype)
    return Encoder(spec, _CoreEncoder(vae), cpu, torch.float32)


@contextmanager
def loaded(vae: comfy.sd.VAE, memory: float) -> Iterator[None]:
    """The VAE on its device, with room for ``memory`` bytes."""
    with comfy.model_management.cuda_device_context(vae.device):
        comfy.model_management.load_models_gpu(
            [vae.patcher], memory_required=memory, force_full_load=vae.disable_offload
        )
        yield


def encode_conditions(
    vae: comfy.sd.VAE, frames: int, height: int, width: int, make: Callable[[], Result]
) -> Result:
    """Call ``make``, which encodes clips of up to that size, with the VAE loaded."""
    with loaded(vae, vae.memory_used_encode((1, 3, frames, height, width), vae.vae_dtype)):
        return make()


def decode_raw(vae: comfy.sd.VAE, latent: torch.Tensor) -> torch.Tensor:
    """(1, 16, T, h, w) to (1, 3, F, H, W) in about [-1, 1], float32 on the CPU.

    As core's decoding, but not cut off at -1 and 1. Only where memory is short does it go tile by tile, and
    then it is cut off.
    """
    if not (isinstance(vae, AetherVAE) and vae.is_too_large(latent)):
        with _unless_out_of_memory(), loaded(vae, vae.memory_used_decode(latent.shape, vae.vae_dtype)):
            return vae.first_stage_model.decode(latent.to(vae.device, vae.vae_dtype)).float().cpu()
    return _decode_tiled(vae, latent).movedim(-1, 1).float().cpu() * 2 - 1


@contextmanager
def _unless_out_of_memory() -> Iterator[None]:
    """As ``aether.memory_errors.unless_out_of_memory``, and CUDA forgets the error, too."""
    with unless_out_of_memory():
        try:
            yield
        except Exception as error:
            comfy.model_management.is_oom(error)  # clears what CUDA still holds of it
            raise


def _decode_tiled(vae: comfy.sd.VAE, latent: torch.Tensor) -> torch.Tensor:
    """(1, 16, T, h, w) to (1, F, H, W, 3) in [0, 1]."""
    logging.warning("Aether: not enough memory, decoding tile by tile")
    return vae.decode_tiled(latent, tile_x=_TILE, tile_y=_TILE, overlap=_TILE // 4)


def fit_preview(vae: AetherVAE) -> tuple[list[list[float]], list[float]]:
    """Factors (16, 3) and bias (3,) from one latent cell, as the sampler sees it, to a color in [-1, 1].

    Least squares over a short rendered clip, encoded with this very VAE.
    """
    import numpy as np

    from ...aether.miniature import random_scene, render

    pixels = torch.from_numpy(render(random_scene(0), 5, 64, 96).rgb)
    # The second latent frame stands for four frames, as all do but the first.
    latent = vae.encode(pixels)[0, :, 1].float().cpu() * vae.spec.scaling_factor
    cell = pixels.shape[1] // latent.shape[1]
    colors = torch.nn.functional.avg_pool2d(pixels[1:].mean(dim=0).permute(2, 0, 1) * 2 - 1, cell)
    known = torch.cat([latent.flatten(1).T, torch.ones(latent[0].numel(), 1)], dim=1)
    solution = np.linalg.lstsq(known.numpy(), colors.flatten(1).T.numpy(), rcond=None)[0]
    return solution[:-1].tolist(), solution[-1].tolist()


class _CoreConfig(NamedTuple):
    """CogVideoX's autoencoder, which has one form only, in the words of diffusers' config."""

    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    sample_height: int = 480
    sample_width: int = 720


@dataclass(frozen=True)
class _Mean:
    """An encoder's output as diffusers gives it, of a posterior without width: a sample is the mean."""

    mean: torch.Tensor

    @property
    def latent_dist(self) -> _Mean:
        return self

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.mean


class _CoreEncoder:
    """Core's CogVideoX VAE with the methods of diffusers' that encoding calls."""

    config = _CoreConfig()
    use_tiling = False
    _tile: tuple[int, int] | None = None

    def __init__(self, vae: comfy.sd.VAE):
        self._vae = vae
        self.device, self.dtype = vae.device, vae.vae_dtype

    def enable_tiling(self, height: int, width: int) -> None:
        """Encode in tiles of so many pixels from now on."""
        self._tile = height, width

    def encode(self, pixels: torch.Tensor) -> _Mean:
        if self._tile is None:
            return _Mean(self._vae.first_stage_model.encode(pixels))
        # Core takes pixels from 0 to 1, and calls a tile's height x.
        height, width = self._tile
        return _Mean(self._vae.encode_tiled_3d(pixels / 2 + 0.5, tile_x=height, tile_y=width))


def _is_core_cogvideox(vae: comfy.sd.VAE) -> bool:
    return isinstance(vae.first_stage_model, comfy.ldm.cogvideo.vae.AutoencoderKLCogVideoX)


@contextmanager
def _without_warning(start: str) -> Iterator[None]:
    """Keep a warning that starts so out of the log."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().removeprefix("WARNING: ").startswith(start)

    logger = logging.getLogger()
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
