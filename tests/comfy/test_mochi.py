"""HERO on ComfyUI's own Mochi."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.family_laws import FaultLaws

from .core_family import ComfyFamily

# The feed-forward's width is fixed in the model: 12288 before its rule.
SIZES = {
    "patch_size": 2, "in_channels": 12, "hidden_size_x": 48, "hidden_size_y": 24, "depth": 4, "num_heads": 2,
    "mlp_ratio_x": 256.0, "mlp_ratio_y": 4.0, "use_t5": True, "t5_feat_dim": 32, "t5_token_length": 10,
    "learn_sigma": False, "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0,
    "timestep_scale": 1000.0, "posenc_preserve_area": True, "dtype": torch.float32, "device": "cpu",
}  # fmt: skip


@pytest.mark.slow
class TestMochi(FaultLaws, ComfyFamily):
    """The prompt has ten rows, of which three are padding."""

    latent = (2, 12, 3, 4, 8)
    context = (10, 32)
    prompt = 7

    def build(self) -> Any:
        import comfy.ldm.genmo.joint_model.asymm_models_joint
        import comfy.ops

        made = comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint
        return made(**SIZES, operations=comfy.ops.manual_cast)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        mask = torch.arange(self.context[0]) < self.prompt
        return {"attention_mask": mask.long().expand(batch, -1), "num_tokens": self.prompt}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        return super().timestep(timestep, latent) / 1000  # the model multiplies

    @contextmanager
    def attending(self, inputs: dict[str, Any], keys: torch.Tensor, total: int):
        """The prompt stands behind the video in attention."""
        placed = torch.where(keys < self.prompt, keys + total - self.prompt, keys - self.prompt)
        with super().attending(inputs, placed, total) as narrowed:
            yield narrowed


def test_a_control_net_is_refused(part):
    hero, model = part("hero_engine"), TestMochi().build()
    inputs = {
        "context": torch.zeros(1, 10, 32),
        "attention_mask": torch.ones(1, 10),
        "control": {"output": []},
    }
    with (
        pytest.raises(hero.ConfigError, match="model: a ControlNet adds to its blocks"),
        hero.hero_session(model, hero.HeroConfig(), 4),
    ):
        model(torch.zeros(1, 12, 2, 8, 12), torch.ones(1), **inputs)
