"""HERO on ComfyUI's own Kandinsky 5."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.family_laws import FaultLaws

from .core_family import ComfyFamily

SIZES = {
    "in_text_dim": 32, "in_text_dim2": 24, "time_dim": 40, "model_dim": 64, "ff_dim": 128,
    "patch_size": (1, 2, 2), "num_text_blocks": 2, "num_visual_blocks": 4, "axes_dims": (8, 12, 12),
    "dtype": torch.float32, "device": "cpu",
}  # fmt: skip


class KandinskyFamily(ComfyFamily):
    channels = 33
    settings: dict[str, Any] = {"visual_embed_dim": 132}

    def build(self) -> Any:
        import comfy.ldm.kandinsky5.model
        import comfy.ops
        import comfy.patcher_extension  # used and not imported by the model's module

        made = comfy.ldm.kandinsky5.model.Kandinsky5
        return made(**SIZES | self.settings, operations=comfy.ops.manual_cast)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"y": torch.randn(1, 24, generator=generator).expand(batch, -1)}


@pytest.mark.slow
class TestVideo(KandinskyFamily):
    """33 channels: noise, an empty picture and a mask."""

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.cat([latent, torch.zeros_like(latent), self.mask(latent)], dim=1)

    def mask(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(latent[:, :1])


@pytest.mark.slow
class TestImageToVideo(TestVideo):
    """The given frame takes the place of the first one's noise, and the mask says so."""

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        frame = torch.randn(1, 16, 1, 8, 12, generator=generator).expand(batch, -1, -1, -1, -1)
        return super().conditions(batch, generator) | {"time_dim_replace": frame}

    def mask(self, latent: torch.Tensor) -> torch.Tensor:
        mask = super().mask(latent)
        mask[:, :, 0] = 1
        return mask


@pytest.mark.slow
class TestPicture(FaultLaws, KandinskyFamily):
    """A latent without a dimension of frames."""

    latent = (2, 16, 8, 12)
    settings = {"visual_embed_dim": 64, "rope_scale_factor": (1.0, 1.0, 1.0)}
