"""HERO on ComfyUI's own HunyuanVideo 1 and 1.5, and HunyuanImage 2.1."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.family_laws import STEPS, FaultLaws

from .core_family import ComfyFamily

SIZES = {
    "in_channels": 16, "out_channels": 16, "vec_in_dim": 24, "context_in_dim": 32, "hidden_size": 32,
    "num_heads": 2, "mlp_ratio": 4.0, "depth": 2, "depth_single_blocks": 2, "patch_size": [1, 2, 2],
    "axes_dim": [4, 6, 6], "theta": 256, "qkv_bias": True, "guidance_embed": True, "byt5": False,
    "meanflow": False, "meanflow_sum": False, "use_cond_type_embedding": False, "vision_in_dim": None,
    "dtype": torch.float32, "device": "cpu",
}  # fmt: skip
LATER = {"vec_in_dim": None, "guidance_embed": False, "byt5": True}
V1_5 = LATER | {
    "depth": 4, "depth_single_blocks": 0, "patch_size": [1, 1, 1], "out_channels": 32,
    "use_cond_type_embedding": True, "vision_in_dim": 48,
}  # fmt: skip
GLYPHS, VISION = (3, 1472), (5, 48)
"""Tokens and width of byT5 and of CLIP vision."""


class HunyuanFamily(ComfyFamily):
    flops_tolerance = 1e-9
    settings: dict[str, Any] = {}

    def build(self) -> Any:
        import comfy.ldm.hunyuan_video.model
        import comfy.ops

        return comfy.ldm.hunyuan_video.model.HunyuanVideo(
            **SIZES | self.settings, operations=comfy.ops.manual_cast
        )

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        pooled = torch.randn(1, 24, generator=generator).expand(batch, -1)
        return {"y": pooled, "guidance": torch.tensor([6.0])}

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        extra = (SIZES | self.settings)["in_channels"] - latent.shape[1]
        given = torch.randn(1, extra, *latent.shape[2:], generator=torch.Generator().manual_seed(7))
        return torch.cat([latent, given.expand(len(latent), *given.shape[1:])], dim=1)

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        # Core takes these for one sample only, which stands for all.
        once = {
            name: inputs[name][:1]
            for name in ("guidance", "guiding_frame_index", "attention_mask")
            if name in inputs
        }
        return super().call(model, latent, timestep, inputs | once)


class TestTextToVideo(FaultLaws, HunyuanFamily):
    def test_patches_of_the_attention_find_the_video(self, family: Any, hero: Any) -> None:
        """In blocks of both kinds, on full and on cached steps."""
        seen = []

        def patch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra_options: Any, **_: Any) -> Any:
            seen.append((q.shape[2], *extra_options["img_slice"]))
            return {}

        options = {"transformer_options": {"patches": {"attn1_patch": [patch]}}}
        latent, inputs = torch.randn(1, *self.latent[1:]), self.inputs(1)
        config = self.config(hero, tau="100%", ratio=0.25, warmup=1)
        with torch.no_grad(), hero.hero_session(family.model, config, 4):
            for timestep in (900.0, 800.0):
                self.call(family.model, latent, timestep, inputs | options)
        grid, words = 3 * 4 * 6, self.context[0]
        assert seen == [
            (words + video, words, words + video) for video in (grid, grid // 4) for _ in range(4)
        ]


@pytest.mark.slow
class TestPictureInChannels(HunyuanFamily):
    """Image-to-video: picture and mask beside the noise; a prompt that is masked where it is padded."""

    settings = {"in_channels": 33, "depth": 1, "depth_single_blocks": 3}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        mask = (torch.arange(7) < 5).long()[None]
        return super().conditions(batch, generator) | {"attention_mask": mask}


@pytest.mark.slow
class TestGivenFrame(HunyuanFamily):
    """Image-to-video: the first frame's tokens are modulated as if they were at timestep 0."""

    settings = {"depth": 1, "depth_single_blocks": 3}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return super().conditions(batch, generator) | {"guiding_frame_index": torch.tensor([0.0])}


@pytest.mark.slow
class TestReference(HunyuanFamily):
    """A reference picture's tokens in front of the grid's, beside a given first frame."""

    settings = {"depth": 3, "depth_single_blocks": 1}

    def build(self) -> Any:
        model = super().build()
        # Core writes to positions that are a view for more than one sample, which fails.
        model.img_ids = lambda latent: type(model).img_ids(model, latent).clone()
        return model

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        reference = torch.randn(1, 16, 1, 6, 10, generator=generator).expand(batch, -1, -1, -1, -1)
        given = {"ref_latent": reference, "guiding_frame_index": torch.tensor([0.0])}
        return super().conditions(batch, generator) | given

    def test_the_reference_stands_in_front_of_the_grid(self, family: Any, hero: Any) -> None:
        with hero.hero_session(family.model, self.config(hero), STEPS) as run:
            self.run(family.model, steps=1)
        assert run.report.shape.extra == (3 * 5, 0)

    def test_the_layer_analysis_follows_both_kinds_of_blocks(self, family: Any, hero: Any) -> None:
        """With every token refreshed, nothing is wrong behind the last block."""
        config = self.config(hero, ratio=1.0)
        with hero.hero_session(family.model, hero.LayersConfig(config, tokens=1000), STEPS) as run:
            assert torch.equal(self.run(family.model), family.truth)
            *cut, whole = run.method.analysis().cached
        assert whole < 1e-5 and min(cut) > 1e-2


class TestHunyuanVideo15(HunyuanFamily):
    """Blocks of two streams alone; byT5 and CLIP vision with the prompt; a picture beside the noise."""

    latent = (2, 32, 3, 4, 6)
    settings = V1_5 | {"in_channels": 65}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {
            "txt_byt5": torch.randn(1, *GLYPHS, generator=generator).expand(batch, -1, -1),
            "clip_fea": torch.randn(1, *VISION, generator=generator).expand(batch, -1, -1),
        }


@pytest.mark.slow
class TestPicture(HunyuanFamily):
    """HunyuanImage, distilled: latents without frames; the next timestep is given beside the step's own."""

    latent = (2, 16, 1, 12, 16)
    settings = LATER | {"patch_size": [1, 1], "axes_dim": [8, 8], "meanflow": True}

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"txt_byt5": torch.randn(1, *GLYPHS, generator=generator).expand(batch, -1, -1)}

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        sigmas = {
            "sigmas": torch.tensor([timestep / 1000]),
            "sample_sigmas": torch.tensor([timestep, timestep - 50, 0.0]) / 1000,
        }
        options = {"transformer_options": inputs["transformer_options"] | sigmas}
        picture = super().call(model, latent.flatten(2, 3), timestep, inputs | options)
        return picture.reshape(latent.shape)

    def test_feedback_corrects_an_answer_without_frames(self, family: Any, hero: Any) -> None:
        times = [950.0 - 900.0 * number / STEPS for number in range(STEPS)]
        sigmas = [time / 1000 for time in times]
        noise = hero.StepNoise(
            tuple(times), tuple(1 / sigma - 1 for sigma in sigmas), tuple((1.0, -sigma) for sigma in sigmas)
        )
        results = []
        for feedback in (0.0, 1.0):
            with hero.hero_session(
                family.model, self.config(hero, feedback=feedback), STEPS, scheduler=noise
            ) as run:
                results.append(self.run(family.model))
            assert run.report.cached_steps > 3
        without, corrected = results
        assert 0 < float((corrected - without).norm() / family.truth.norm()) < 0.1
