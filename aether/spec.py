"""A model's numbers without its weights: channels, scales, sizes and lengths.

They stand in the configs of its transformer and its VAE. Whoever has no more of a model than that, as
ComfyUI's nodes, or needs no more, goes by an :class:`AetherSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import InputError

FRAMES = (17, 25, 33, 41)
"""Lengths of a clip that Aether was trained on."""
RAYMAP_VALUES = 6
"""Numbers a video frame's raymap holds per pixel: three for the ray's direction, three for its origin."""


@dataclass(frozen=True)
class AetherSpec:
    """What can be known of an Aether model without its weights. AetherV1's values in brackets.

    Attributes:
        latent_channels: of one VAE latent (16): the RGB stream has them, and the disparity stream.
        spatial_scale: pixels per latent cell and axis (8).
        temporal_scale: video frames per latent frame (4).
        scaling_factor: what the VAE's latents are multiplied by for the transformer (0.7).
        divides_conditions: conditions are divided by ``scaling_factor`` instead, as CogVideoX-5b-I2V's were;
            the VAE's config calls it invert_scale_latents (True).
        patch_size: latent cells per token and axis (2).
        default_size: (height, width) in pixels that the model was made for (480, 720).
        default_frames: length that it was made for, one of ``FRAMES`` (41).
        head_dim: width of an attention head (64).
        rotary: positions are rotary embeddings (True).
        fixed_size: learned positional embeddings allow ``default_size`` only (False).
        text_tokens, text_width: shape of the prompt's embedding (226, 4096).
    """

    latent_channels: int
    spatial_scale: int
    temporal_scale: int
    scaling_factor: float
    divides_conditions: bool
    patch_size: int
    default_size: tuple[int, int]
    default_frames: int
    head_dim: int
    rotary: bool
    fixed_size: bool
    text_tokens: int
    text_width: int

    @classmethod
    def of(cls, transformer: Any, vae: Any) -> AetherSpec:
        """Read off the configs of diffusers' CogVideoX transformer and autoencoder.

        Raises:
            InputError: field "transformer"; it is another model's, or does not fit the VAE.
        """
        if transformer.patch_size_t is not None or transformer.ofs_embed_dim is not None:
            raise InputError(
                "transformer",
                "has CogVideoX 1.5's form (patch_size_t, ofs_embed_dim); Aether's is CogVideoX 1.0's",
            )
        scale, frames = 2 ** (len(vae.block_out_channels) - 1), transformer.sample_frames
        spec = cls(
            latent_channels=vae.latent_channels,
            spatial_scale=scale,
            temporal_scale=int(vae.temporal_compression_ratio),
            scaling_factor=vae.scaling_factor,
            divides_conditions=bool(vae.invert_scale_latents),
            patch_size=transformer.patch_size,
            default_size=(transformer.sample_height * scale, transformer.sample_width * scale),
            default_frames=frames if frames in FRAMES else FRAMES[-1],
            head_dim=transformer.attention_head_dim,
            rotary=bool(transformer.use_rotary_positional_embeddings),
            fixed_size=bool(transformer.use_learned_positional_embeddings),
            text_tokens=transformer.max_text_seq_length,
            text_width=transformer.text_embed_dim,
        )
        takes, returns = transformer.in_channels, transformer.out_channels
        if (takes, returns) != (spec.in_channels, spec.out_channels):
            raise InputError(
                "transformer",
                f"takes {takes} and returns {returns} channels; Aether's takes {spec.in_channels} and "
                f"returns {spec.out_channels}. Use the transformer of AetherV1, not the CogVideoX model that "
                "it was tuned from",
            )
        return spec

    @property
    def raymap_channels(self) -> int:
        """Channels of a packed raymap (24)."""
        return RAYMAP_VALUES * self.temporal_scale

    @property
    def condition_channels(self) -> int:
        """RGB condition and raymap condition (40)."""
        return self.latent_channels + self.raymap_channels

    @property
    def stream_channels(self) -> tuple[int, int, int]:
        """Channels of RGB, disparity and raymap (16, 16, 24), in the order of the unified latent."""
        return self.latent_channels, self.latent_channels, self.raymap_channels

    @property
    def out_channels(self) -> int:
        """Channels of the unified latent (56)."""
        return sum(self.stream_channels)

    @property
    def in_channels(self) -> int:
        """Channels that the transformer takes (96): noisy latent and condition."""
        return self.out_channels + self.condition_channels

    @property
    def size_multiple(self) -> int:
        """Height and width of a clip are multiples of this (16)."""
        return self.spatial_scale * self.patch_size

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) in latent cells of a size in pixels."""
        return height // self.spatial_scale, width // self.spatial_scale

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip: the first video frame has one to itself, every further four share one."""
        return (frames - 1) // self.temporal_scale + 1

    def video_frames(self, latent_frames: int) -> int:
        """Video frames of a latent; the inverse of :meth:`latent_frames`."""
        return (latent_frames - 1) * self.temporal_scale + 1

    def check_prompt(self, shape: tuple[int, ...]) -> None:
        """
        Raises:
            InputError: field "prompt"; this is not the shape of an embedding that the transformer takes.
        """
        if len(shape) != 3 or shape[0] != 1:
            raise InputError("prompt", f"has shape {tuple(shape)}; it must be (1, tokens, width)")
        if shape[2] != self.text_width:
            raise InputError(
                "prompt",
                f"the embedding is {shape[2]} wide, the transformer expects {self.text_width}; "
                "use the embedding made with this model's own text encoder",
            )
        counts_tokens = self.fixed_size or not self.rotary  # in a table of positions
        if counts_tokens and shape[1] != self.text_tokens:
            raise InputError(
                "prompt",
                f"the embedding has {shape[1]} tokens, the transformer's positional embeddings count "
                f"{self.text_tokens}",
            )


AETHER_V1 = AetherSpec(
    latent_channels=16,
    spatial_scale=8,
    temporal_scale=4,
    scaling_factor=0.7,
    divides_conditions=True,
    patch_size=2,
    default_size=(480, 720),
    default_frames=41,
    head_dim=64,
    rotary=True,
    fixed_size=False,
    text_tokens=226,
    text_width=4096,
)
"""The published model."""
