"""HERO on ComfyUI's own Wan 2.1 and 2.2."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.family_laws import FaultLaws

from .core_family import ComfyFamily

SIZES = {
    "patch_size": (1, 2, 2), "text_len": 16, "dim": 48, "ffn_dim": 96, "freq_dim": 32, "text_dim": 32,
    "num_heads": 2, "num_layers": 4, "out_dim": 16, "dtype": torch.float32, "device": "cpu",
}  # fmt: skip


class WanFamily(ComfyFamily):
    channels = 16
    kind = "t2v"
    settings: dict[str, Any] = {}
    model_class = "WanModel"

    def build(self) -> Any:
        import comfy.ldm.wan.model
        import comfy.ops

        settings = SIZES | {"model_type": self.kind, "in_dim": self.channels} | self.settings
        return getattr(comfy.ldm.wan.model, self.model_class)(**settings, operations=comfy.ops.manual_cast)

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        extra = self.channels - latent.shape[1]
        if not extra:
            return latent
        generator = torch.Generator().manual_seed(7)
        given = torch.randn(1, extra, *latent.shape[2:], generator=generator)
        return torch.cat([latent, given.expand(len(latent), -1, -1, -1, -1)], dim=1)


class TestTextToVideo(FaultLaws, WanFamily):
    pass


@pytest.mark.slow
class TestImageToVideo(WanFamily):
    """36 channels: noise, mask and picture; CLIP vision beside the prompt."""

    channels, kind = 36, "i2v"

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"clip_fea": torch.randn(1, 257, 1280, generator=generator).expand(batch, -1, -1)}


@pytest.mark.slow
class TestWan22ImageToVideo(WanFamily):
    """The 14B of 2.2: 36 channels, no CLIP vision."""

    channels = 36


@pytest.mark.slow
class TestFirstAndLastFrame(WanFamily):
    """Two pictures' CLIP vision."""

    channels, kind = 36, "i2v"
    settings = {"flf_pos_embed_token_number": 514}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"clip_fea": torch.randn(1, 514, 1280, generator=generator).expand(batch, -1, -1)}


class TestCamera(WanFamily):
    """Camera paths, added once at the patch embedding."""

    channels, kind, model_class = 36, "camera", "CameraWanModel"
    settings = {"in_dim_control_adapter": 24}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {
            "clip_fea": torch.randn(1, 257, 1280, generator=generator).expand(batch, -1, -1),
        }


@pytest.mark.slow
class TestTimestepForEachFrame(WanFamily):
    """The 5B of 2.2 as image-to-video: the given frame's timestep is 0."""

    latent = (2, 48, 3, 8, 12)
    channels = 48
    settings = {"out_dim": 48}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), latent.shape[2]), timestep)
        times[:, 0] = 0
        return times


@pytest.mark.slow
class TestReference(WanFamily):
    """Fun Control: a reference picture's tokens in front of the grid's."""

    channels = 36
    settings = {"in_dim_ref_conv": 16}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"reference_latent": torch.randn(1, 16, 8, 12, generator=generator).expand(batch, -1, -1, -1)}


@pytest.mark.slow
class TestContextLatents(WanFamily):
    """References behind the grid's tokens, of a size of their own."""

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {
            "context_latents": [
                torch.randn(1, 16, 1, 6, 10, generator=generator).expand(batch, -1, -1, -1, -1)
            ]
        }


@pytest.mark.slow
class TestAppendedFrames(WanFamily):
    """Phantom: frames behind the clip's own."""

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        frames = torch.randn(1, 16, 1, 8, 12, generator=generator)
        return {"time_dim_concat": frames.expand(batch, -1, -1, -1, -1)}


@pytest.mark.parametrize(
    "name", ["VaceWanModel", "WanModel_S2V", "HumoWanModel", "SCAILWanModel", "SCAIL2WanModel"]
)
def test_kinds_that_cannot_be_right_are_refused_by_name(part, name):
    import comfy.ldm.wan.model

    model = object.__new__(getattr(comfy.ldm.wan.model, name))
    torch.nn.Module.__init__(model)
    hero = part("hero_engine")
    with pytest.raises(hero.ConfigError, match=f"transformer: {name} is not supported: "):
        part("hero_engine.models.families").adapter_for(model)


@pytest.mark.parametrize("name", ["attn1_patch", "attn2_patch"])
def test_patches_inside_its_blocks_are_refused(part, name):
    """InfiniteTalk's view the stream as whole frames, which the tokens of a cached step are not."""
    hero, form = part("hero_engine"), TestTextToVideo()
    model = form.build()
    inputs = form.inputs(1) | {"transformer_options": {"patches": {name: [lambda arguments: arguments["x"]]}}}
    with (
        hero.hero_session(model, form.config(hero), 9),
        pytest.raises(hero.ConfigError, match="^model: .*InfiniteTalk.*bypass"),
    ):
        form.call(model, torch.randn(1, *form.latent[1:]), 900.0, inputs)
