"""HERO on diffusers' own transformers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from hero_engine import ConfigError
from hero_engine.models.families import adapter_for
from tests.family_laws import FaultLaws

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


class TestWan(FaultLaws, WanFamily):
    pass


@pytest.mark.slow
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


class HunyuanFamily(DiffusersFamily):
    text_behind = 7
    settings: dict[str, Any] = {}

    def build(self) -> Any:
        sizes = {
            "num_attention_heads": 2, "attention_head_dim": 16, "text_embed_dim": 32, "num_layers": 2,
            "num_single_layers": 2, "num_refiner_layers": 1, "pooled_projection_dim": 24,
            "rope_axes_dim": (4, 6, 6),
        }  # fmt: skip
        return diffusers.HunyuanVideoTransformer3DModel(**(sizes | self.settings))

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        mask = torch.ones(batch, 7)
        mask[:, 5:] = 0  # a prompt shorter than its tokens
        return {
            "encoder_attention_mask": mask,
            "pooled_projections": torch.randn(1, 24, generator=generator).expand(batch, -1),
            "guidance": torch.full((batch,), 6000.0),
        }


class TestHunyuan(FaultLaws, HunyuanFamily):
    pass


@pytest.mark.slow
class TestHunyuanFirstFrameGiven(HunyuanFamily):
    """Image-to-video: the first frame's tokens have timestep 0."""

    settings = {"image_condition_type": "token_replace", "guidance_embeds": False}


@pytest.mark.slow
class TestHunyuanPictureBesideNoise(HunyuanFamily):
    """The other kind of image-to-video: 33 channels, noise, picture and mask."""

    settings = {"image_condition_type": "latent_concat", "in_channels": 33}

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        return self.with_channels(latent, 17)


class TestHunyuan15(DiffusersFamily):
    """Two prompts and a picture in one run of tokens; 65 channels, noise, picture and mask."""

    text_behind = 7 + 5 + 6
    latent = (2, 32, 3, 4, 6)

    def build(self) -> Any:
        return diffusers.HunyuanVideo15Transformer3DModel(
            num_attention_heads=2, attention_head_dim=16, text_embed_dim=32, num_layers=4,
            num_refiner_layers=1, text_embed_2_dim=24, image_embed_dim=20, rope_axes_dim=(4, 6, 6),
        )  # fmt: skip

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        return self.with_channels(latent, 33)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        mask, second_mask = torch.ones(batch, 7), torch.ones(batch, 5)
        mask[:, 5:], second_mask[:, 2:] = 0, 0
        return {
            "encoder_attention_mask": mask,
            "encoder_hidden_states_2": torch.randn(1, 5, 24, generator=generator).expand(batch, -1, -1),
            "encoder_attention_mask_2": second_mask,
            "image_embeds": torch.randn(1, 6, 20, generator=generator).expand(batch, -1, -1),
        }


class CosmosFamily(DiffusersFamily):
    settings: dict[str, Any] = {}
    fps: int | None = 16

    def build(self) -> Any:
        sizes = {
            "num_attention_heads": 2, "attention_head_dim": 24, "text_embed_dim": 32, "num_layers": 4,
            "adaln_lora_dim": 16, "max_size": (16, 24, 24),
        }  # fmt: skip
        return diffusers.CosmosTransformer3DModel(**(sizes | self.settings))

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        always = {"padding_mask": torch.zeros(1, 1, 64, 96), "fps": self.fps}
        return super().call(model, latent, timestep, inputs | always)


class TestCosmos(FaultLaws, CosmosFamily):
    """Cosmos 1: a learned position is added before every block."""


@pytest.mark.slow
class TestCosmosVideoToWorld(CosmosFamily):
    """Predict 2: a timestep for each frame, and a channel that says which are given."""

    settings = {"extra_pos_embed_type": None, "in_channels": 17}
    fps = None

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), 1, latent.shape[2], 1, 1), timestep)
        times[:, :, 0] = 0.1
        return times

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        given = torch.zeros_like(latent[:, :1])
        given[:, :, 0] = 1
        return super().call(model, latent, timestep, inputs | {"condition_mask": given})


@pytest.mark.slow
class TestCosmosPicture(CosmosFamily):
    """Predict 2.5: a picture is attended to beside the prompt, which is projected."""

    settings = {
        "extra_pos_embed_type": None, "img_context_dim_in": 20, "img_context_dim_out": 48,
        "use_crossattn_projection": True, "crossattn_proj_in_channels": 40,
        "encoder_hidden_states_channels": 32,
    }  # fmt: skip
    text = (7, 40)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        picture = torch.randn(1, 6, 20, generator=generator).expand(batch, -1, -1)
        return {"picture": picture}

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        picture = inputs["picture"]
        rest = {name: value for name, value in inputs.items() if name != "picture"}
        both = {"encoder_hidden_states": (inputs["encoder_hidden_states"], picture)}
        return super().call(model, latent, timestep, rest | both)


class LTXFamily(DiffusersFamily):
    """Packed latents: the laws' are packed and unpacked around the call."""

    latent = (2, 16, 3, 4, 6)
    text = (7, 40)

    def build(self) -> Any:
        return diffusers.LTXVideoTransformer3DModel(
            in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16,
            cross_attention_dim=32, num_layers=4, caption_channels=40,
        )  # fmt: skip

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        mask = torch.ones(batch, 7)
        mask[:, 5:] = 0
        return {"encoder_attention_mask": mask, "rope_interpolation_scale": (0.3, 32, 32)}

    def place(self, latent: torch.Tensor) -> dict[str, Any]:
        """The arguments that say where the tokens are."""
        _, _, frames, rows, columns = latent.shape
        return {"num_frames": frames, "height": rows, "width": columns}

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        packed = super().call(model, latent, timestep, inputs | self.place(latent))
        clip = packed[:, packed.shape[1] - latent[0, 0].numel() :]
        return clip.transpose(1, 2).unflatten(2, latent.shape[2:])

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.flatten(2).transpose(1, 2)


class TestLTX(FaultLaws, LTXFamily):
    pass


class TestLTXImageToVideo(LTXFamily):
    """A timestep for each token: the given frame's are 0."""

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), latent.shape[2], latent[0, 0, 0].numel()), timestep)
        times[:, 0] = 0
        return times.flatten(1)


@pytest.mark.slow
class TestLTXConditions(LTXFamily):
    """Coordinates of the tokens instead of sizes: a given later frame's stand in front of the clip's."""

    one_by_one = False  # which tokens are a frame is not known, and the given one's have another timestep

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(7)
        given = torch.randn(1, latent[0, 0, 0].numel(), 16, generator=generator)
        return torch.cat([given.expand(len(latent), -1, -1), super().prepared(latent)], dim=1)

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), latent.shape[2] + 1, latent[0, 0, 0].numel()), timestep)
        times[:, 0] = 0
        return times.flatten(1)

    def place(self, latent: torch.Tensor) -> dict[str, Any]:
        frames, rows, columns = latent.shape[2:]
        times = torch.tensor([8 * frames - 8, *range(frames)]) * 0.3
        axes = torch.meshgrid(times, torch.arange(rows) * 32.0, torch.arange(columns) * 32.0, indexing="ij")
        return {"video_coords": torch.stack(axes).flatten(1)[None].expand(len(latent), -1, -1)}


REFUSED = (
    "WanVACETransformer3DModel",
    "WanAnimateTransformer3DModel",
    "WanAnimate2Transformer3DModel",
    "HunyuanVideoFramepackTransformer3DModel",
    "Cosmos3OmniTransformer",
    "LTX2VideoTransformer3DModel",
)


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_that_cannot_be_right_are_refused_by_name(name: str) -> None:
    model = object.__new__(getattr(diffusers, name))
    torch.nn.Module.__init__(model)
    with pytest.raises(ConfigError, match=f"transformer: {name} is not supported: "):
        adapter_for(model)
