"""HERO on ComfyUI's own LTX-Video."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.family_laws import FaultLaws

from .core_family import ComfyFamily

SIZES = {
    "in_channels": 16, "cross_attention_dim": 48, "attention_head_dim": 24, "num_attention_heads": 2,
    "caption_channels": 32, "num_layers": 4, "causal_temporal_positioning": True, "dtype": torch.float32,
    "device": "cpu",
}  # fmt: skip


def made(**settings: Any) -> Any:
    import comfy.ldm.lightricks.model
    import comfy.ops

    return comfy.ldm.lightricks.model.LTXVModel(**SIZES | settings, operations=comfy.ops.manual_cast)


class LTXFamily(ComfyFamily):
    latent = (2, 16, 3, 4, 6)
    settings: dict[str, Any] = {}

    def build(self) -> Any:
        return made(**self.settings)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        """The prompt's mask hides its last two tokens."""
        mask = torch.ones(batch, self.context[0], dtype=torch.long)
        mask[:, -2:] = 0
        return {"attention_mask": mask, "frame_rate": 24}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        return super().timestep(timestep, latent) / 1000  # the model multiplies


@pytest.mark.slow
class TestTextToVideo(FaultLaws, LTXFamily):
    pass


@pytest.mark.slow
class TestImageToVideo(LTXFamily):
    """A timestep for each token: the given frame's is 0."""

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        batch, _, frames, rows, columns = latent.shape
        mask = torch.ones(batch, frames, rows, columns)
        mask[:, 0] = 0
        return (mask * timestep / 1000).reshape(batch, -1, 1)


@pytest.mark.slow
class TestModulatedPrompt(TestImageToVideo):
    """The cross-attention is modulated too, and halves are rotated instead of pairs; the prompt comes
    projected."""

    context = (7, 48)
    settings = {
        "cross_attention_adaln": True,
        "caption_proj_before_connector": True,
        "caption_projection_first_linear": False,
        "rope_type": "split",
    }


def guided(part: Any, tokens: int) -> torch.Tensor:
    """An answer under HERO to a call with so many guide tokens behind the clip's own."""
    hero, model = part("hero_engine"), made()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    with torch.no_grad(), hero.hero_session(model, hero.HeroConfig(patch=(1, 2, 2)), 4):
        return model(
            torch.randn(1, 16, 2, 4, 6),
            torch.full((1, 48, 1), 0.9),
            torch.randn(1, 7, 32),
            None,
            keyframe_idxs=torch.zeros(1, 3, tokens, 2),
            denoise_mask=torch.ones(1, 1, 2, 4, 6),
        )


def test_appended_guides_are_refused(part):
    with pytest.raises(part("hero_engine").ConfigError, match="model: guides appended to the clip"):
        guided(part, 24)


def test_no_guides_left_are_none(part):
    assert guided(part, 0).isfinite().all()


def test_sound_is_refused_by_name(part):
    import comfy.ldm.lightricks.av_model

    model = object.__new__(comfy.ldm.lightricks.av_model.LTXAVModel)
    torch.nn.Module.__init__(model)
    with pytest.raises(part("hero_engine").ConfigError, match="transformer: LTXAVModel is not supported: "):
        part("hero_engine.models.families").adapter_for(model)
