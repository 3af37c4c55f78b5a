"""HERO on diffusers' own transformers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from hero_engine import ConfigError
from hero_engine.models.families import adapter_for

from .diffusers_family import DiffusersFamily


class WanFamily(DiffusersFamily):
    text = (512, 32)  # of CLIP vision's tokens, what stands in front of the last 512
    settings: dict[str, Any] = {}

    def build(self) -> Any:
        sizes = {
            "num_attention_heads": 2, "attention_head_dim": 24, "text_dim": 32, "freq_dim": 32, "ffn_dim": 96,
            "num_layers": 4,
        }  # fmt: skip
        return diffusers.WanTransformer3DModel(**(sizes | self.settings))


class TestWan(WanFamily):
    pass


class TestWanImageToVideo(WanFamily):
    """2.1: 36 channels, noise, mask and picture; CLIP vision beside the prompt."""

    settings = {"in_channels": 36, "image_dim": 40, "added_kv_proj_dim": 48}

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        return self.with_channels(latent, 20)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        picture = torch.randn(1, 257, 40, generator=generator).expand(batch, -1, -1)
        return {"encoder_hidden_states_image": picture}


class TestWanTimestepForEachToken(WanFamily):
    """The 5B of 2.2 as image-to-video: the given frame's timesteps are 0."""

    latent = (2, 48, 3, 8, 12)
    settings = {"in_channels": 48, "out_channels": 48}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), latent.shape[2], 4 * 6), timestep)
        times[:, 0] = 0
        return times.flatten(1)


@pytest.mark.parametrize(
    "name", ["WanVACETransformer3DModel", "WanAnimateTransformer3DModel", "WanAnimate2Transformer3DModel"]
)
def test_kinds_that_cannot_be_right_are_refused_by_name(name: str) -> None:
    model = object.__new__(getattr(diffusers, name))
    torch.nn.Module.__init__(model)
    with pytest.raises(ConfigError, match=f"transformer: {name} is not supported: "):
        adapter_for(model)
