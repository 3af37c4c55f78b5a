"""The laws of model families on diffusers' classes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.family_laws import FamilyLaws


class DiffusersFamily(FamilyLaws):
    """A model of a diffusers class: ``forward(hidden_states, timestep=, **inputs)``."""

    text: tuple[int, int] = (7, 32)
    """Tokens and width of the prompt."""
    text_behind = 0
    """Tokens of the prompt behind the video's in the attention; 0 with cross-attention."""

    def inputs(self, batch: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(2)
        text = torch.randn(1, *self.text, generator=generator).expand(batch, -1, -1)
        return {"encoder_hidden_states": text} | self.conditions(batch, generator)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        """Further arguments of the model."""
        return {}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        return torch.full((len(latent),), timestep)

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        """The latent with the conditions that stand beside it as channels."""
        return latent

    def with_channels(self, latent: torch.Tensor, channels: int) -> torch.Tensor:
        """The latent with so many channels of condition behind its own."""
        generator = torch.Generator().manual_seed(7)
        given = torch.randn(1, channels, *latent.shape[2:], generator=generator)
        return torch.cat([latent, given.expand(len(latent), -1, -1, -1, -1)], dim=1)

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        times = self.timestep(timestep, latent)
        with sdpa_kernel(SDPBackend.MATH):  # the others' FLOPs torch does not count on a CPU
            return model(self.prepared(latent), timestep=times, return_dict=False, **inputs)[0]

    @contextmanager
    def attending(self, inputs: dict[str, Any], keys: torch.Tensor, total: int):
        # The laws number text in front of video.
        keys = (keys - self.text_behind) % total
        original = F.scaled_dot_product_attention

        def narrowed(query: Any, key: Any, value: Any, attn_mask: Any = None, **options: Any) -> Any:
            if key.shape[-2] == total:
                key, value = key.index_select(-2, keys), value.index_select(-2, keys)
                attn_mask = None if attn_mask is None else attn_mask[..., keys]
            return original(query, key, value, attn_mask=attn_mask, **options)

        with patch.object(F, "scaled_dot_product_attention", narrowed):
            yield inputs
