"""The parts of a loaded Aether model, all together or those that one stage needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ..spec import AetherSpec

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel


@dataclass(frozen=True)
class AetherModel:
    """Everything sampling needs. The reference keeps the same parts in one diffusers pipeline.

    Where a stage alone is wanted, a :class:`Denoiser` or an :class:`Encoder` takes its place.

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
        self.spec.check_prompt(self.prompt_embeds.shape)

    @property
    def spec(self) -> AetherSpec:
        """The model's numbers."""
        return AetherSpec.of(self.transformer.config, self.vae.config)

    @property
    def device(self) -> torch.device:
        # diffusers' own, which knows where offloaded blocks run.
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """What latents are kept in between steps: the dtype of the prompt embedding, as in the reference."""
        return self.prompt_embeds.dtype

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> AetherModel:
        """The model with its parts on ``device`` and in ``dtype``. The parts themselves move, as in torch."""
        return replace(
            self,
            transformer=_moved(self.transformer, device, dtype),
            vae=_moved(self.vae, device, dtype),
            prompt_embeds=self.prompt_embeds.to(device=device, dtype=dtype),
        )


@dataclass(frozen=True)
class Denoiser:
    """A model without its VAE: what `aether.generation.sampling.sample` needs.

    Args:
        spec: the whole model's.
        transformer, scheduler, prompt_embeds: as in :class:`AetherModel`.
        device: where the transformer runs, wherever its weights are kept.
    """

    spec: AetherSpec
    transformer: CogVideoXTransformer3DModel
    scheduler: Any
    prompt_embeds: torch.Tensor
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """As in :class:`AetherModel`."""
        return self.prompt_embeds.dtype


@dataclass(frozen=True)
class Encoder:
    """A model without its transformer: what `aether.generation.tasks.condition` needs.

    Args:
        spec: the whole model's.
        vae: as in :class:`AetherModel`.
        device, dtype: where conditions go, and in what.
    """

    spec: AetherSpec
    vae: AutoencoderKLCogVideoX
    device: torch.device
    dtype: torch.dtype


def _moved(module: torch.nn.Module, device: str | torch.device | None, dtype: torch.dtype | None):
    # diffusers' own `to` warns of float32 modules on every change of dtype; these two models have none.
    module = module if dtype is None else torch.nn.Module.to(module, dtype=dtype)
    return module if device is None else module.to(device)
