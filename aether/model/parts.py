"""The parts of a loaded Aether model, and what can be read off them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

FRAMES = (17, 25, 33, 41)
RAYMAP_VALUES = 6
"""Numbers a video frame's raymap holds per pixel: three for the ray's direction, three for its origin."""


@dataclass(frozen=True)
class AetherModel:
    """Everything sampling needs. The reference keeps the same parts in one diffusers pipeline.

    Args:
        transformer: diffusers' CogVideoX transformer; takes noisy latent and condition, channels joined.
        vae: diffusers' CogVideoX autoencoder.
        scheduler: a CogVideoXDPMScheduler (Aether's own) or CogVideoXDDIMScheduler (deterministic). It is
            never changed: every run works on a copy.
        prompt_embeds: the empty prompt's embedding, (1, tokens, width). Latents are kept in its dtype.
        name: for messages and reports.
        trained: False for a model that was only built from a seed.

    Raises:
        InputError: where the parts do not fit each other.
    """

    transformer: CogVideoXTransformer3DModel
    vae: AutoencoderKLCogVideoX
    scheduler: Any
    prompt_embeds: torch.Tensor
    name: str = "aether"
    trained: bool = True

    def __post_init__(self) -> None:
        _check_parts(self)

    @property
    def device(self) -> torch.device:
        # diffusers' own, which knows where offloaded blocks run.
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """What latents are kept in between steps: the dtype of the prompt embedding, as in the reference."""
        return self.prompt_embeds.dtype

    @property
    def latent_channels(self) -> int:
        """Channels of one VAE latent (16): the RGB stream has them, and the disparity stream."""
        return self.vae.config.latent_channels

    @property
    def raymap_channels(self) -> int:
        """Channels of a packed raymap (24)."""
        return RAYMAP_VALUES * self.temporal_scale

    @property
    def condition_channels(self) -> int:
        """RGB condition and raymap condition (40)."""
        return self.latent_channels + self.raymap_channels

    @property
    def out_channels(self) -> int:
        """Channels of the unified latent (56): RGB, disparity, raymap."""
        return 2 * self.latent_channels + self.raymap_channels

    @property
    def spatial_scale(self) -> int:
        """Pixels per latent cell and axis (8)."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def temporal_scale(self) -> int:
        """Video frames per latent frame (4)."""
        return int(self.vae.config.temporal_compression_ratio)

    @property
    def patch_size(self) -> int:
        """Latent cells per token and axis."""
        return self.transformer.config.patch_size

    @property
    def size_multiple(self) -> int:
        """Height and width of a clip are multiples of this."""
        return self.spatial_scale * self.patch_size

    @property
    def fixed_size(self) -> bool:
        """True where learned positional embeddings allow one height and width only."""
        return bool(self.transformer.config.use_learned_positional_embeddings)

    @property
    def default_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model was made for."""
        config = self.transformer.config
        return config.sample_height * self.spatial_scale, config.sample_width * self.spatial_scale

    @property
    def default_frames(self) -> int:
        frames = self.transformer.config.sample_frames
        return frames if frames in FRAMES else FRAMES[-1]

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> AetherModel:
        """The model with its parts on ``device`` and in ``dtype``. The parts themselves move, as in torch."""
        return replace(
            self,
            transformer=_moved(self.transformer, device, dtype),
            vae=_moved(self.vae, device, dtype),
            prompt_embeds=self.prompt_embeds.to(device=device, dtype=dtype),
        )


def _moved(module: torch.nn.Module, device: str | torch.device | None, dtype: torch.dtype | None):
    # diffusers' own `to` warns of float32 modules on every change of dtype; these two models have none.
    module = module if dtype is None else torch.nn.Module.to(module, dtype=dtype)
    return module if device is None else module.to(device)


def _check_parts(model: AetherModel) -> None:
    config = model.transformer.config
    if config.patch_size_t is not None or config.ofs_embed_dim is not None:
        raise InputError(
            "transformer",
            "has CogVideoX 1.5's form (patch_size_t, ofs_embed_dim); Aether's is CogVideoX 1.0's",
        )
    channels = (config.in_channels, config.out_channels)
    wanted = (model.out_channels + model.condition_channels, model.out_channels)
    if channels != wanted:
        raise InputError(
            "transformer",
            f"takes {channels[0]} and returns {channels[1]} channels; Aether's takes {wanted[0]} and returns "
            f"{wanted[1]}. Use the transformer of AetherV1, not the CogVideoX model that it was tuned from",
        )
    embeds = model.prompt_embeds
    if embeds.ndim != 3 or embeds.shape[0] != 1:
        raise InputError("prompt", f"has shape {tuple(embeds.shape)}; it must be (1, tokens, width)")
    if embeds.shape[2] != config.text_embed_dim:
        raise InputError(
            "prompt",
            f"the embedding is {embeds.shape[2]} wide, the transformer expects {config.text_embed_dim}; "
            "use the embedding made with this model's own text encoder",
        )
    uses_table = config.use_learned_positional_embeddings or not config.use_rotary_positional_embeddings
    if uses_table and embeds.shape[1] != config.max_text_seq_length:
        raise InputError(
            "prompt",
            f"the embedding has {embeds.shape[1]} tokens, the transformer's positional embeddings count "
            f"{config.max_text_seq_length}",
        )
