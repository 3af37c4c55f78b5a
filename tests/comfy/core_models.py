"""Small models of families that core loads itself: weights from a seed, in files that its loader knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class CoreModel:
    """A family's checkpoint and what a run of it takes.

    Attributes:
        build: the diffusion model, of sizes that core's detection allows.
        context: (tokens, width) of the prompt's embedding.
        latent: (channels, frames, rows, columns).
        conditions: what stands in a CONDITIONING beside the prompt, from a generator.
    """

    build: Callable[[], torch.nn.Module]
    context: tuple[int, int]
    latent: tuple[int, int, int, int]
    conditions: Callable[[torch.Generator], dict[str, Any]] = field(default=lambda generator: {})

    def state(self) -> dict[str, torch.Tensor]:
        """The checkpoint's tensors."""
        torch.manual_seed(0)
        model = self.build()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self.state(), path)

    def load(self) -> Any:
        """The MODEL that core makes of it."""
        import comfy.sd

        return comfy.sd.load_diffusion_model_state_dict(self.state(), model_options={"dtype": torch.float32})

    def conditioning(self, seed: int) -> list[list[Any]]:
        """A CONDITIONING as text encoders and core's nodes would make it."""
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, *self.context, generator=generator)
        return [[text, self.conditions(generator)]]


def _wan(name: str = "WanModel", **settings: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import comfy.ldm.wan.model
        import comfy.ops

        sizes = {
            "model_type": "t2v", "dim": 256, "ffn_dim": 128, "num_heads": 2, "num_layers": 4,
            "cross_attn_norm": True, "dtype": torch.float32, "device": "cpu",
        }  # fmt: skip
        model_class = getattr(comfy.ldm.wan.model, name)
        return model_class(**sizes | settings, operations=comfy.ops.disable_weight_init)

    return build


def _picture(channels: int = 16) -> Callable[[torch.Generator], dict[str, Any]]:
    """A start image as WanImageToVideo gives it: its latent, and a mask of what is given."""

    def make(generator: torch.Generator) -> dict[str, Any]:
        latent = torch.randn(1, channels, 3, 8, 12, generator=generator)
        mask = torch.ones(1, 1, 3, 8, 12)
        mask[:, :, 0] = 0
        return {"concat_latent_image": latent, "concat_mask": mask}

    return make


def _kandinsky() -> torch.nn.Module:
    import comfy.ldm.kandinsky5.model
    import comfy.ops

    sizes = {"time_dim": 40, "model_dim": 128, "ff_dim": 128, "num_text_blocks": 1, "num_visual_blocks": 4}
    build = comfy.ldm.kandinsky5.model.Kandinsky5
    return build(**sizes, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)


def _pooled(generator: torch.Generator) -> dict[str, Any]:
    return {"pooled_output": torch.randn(1, 768, generator=generator)}


def _first_frame(generator: torch.Generator) -> dict[str, Any]:
    """A start image as Kandinsky5ImageToVideo gives it."""
    mask = torch.ones(1, 1, 3, 8, 12)
    mask[:, :, 0] = 0
    frame = torch.randn(1, 16, 1, 8, 12, generator=generator)
    return {"time_dim_replace": frame, "concat_mask": mask, **_pooled(generator)}


def _ltx() -> torch.nn.Module:
    import comfy.ldm.lightricks.model
    import comfy.ops

    sizes = {"attention_head_dim": 4, "cross_attention_dim": 128, "num_layers": 4}  # of 32 heads
    build = comfy.ldm.lightricks.model.LTXVModel
    return build(**sizes, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)


def _masked(generator: torch.Generator) -> dict[str, Any]:
    """The last two of the prompt's tokens are padding."""
    return {"attention_mask": (torch.arange(16) < 14).long()[None]}


def _masked_picture(generator: torch.Generator) -> dict[str, Any]:
    """A first frame that is given, so that every token has a timestep of its own."""
    mask = torch.ones(1, 1, 3, 4, 6)
    mask[:, :, 0] = 0
    return {"concat_mask": mask, **_masked(generator)}


WAN_TEXT = (16, 4096)
CORE_MODELS: dict[str, CoreModel] = {
    "wan_t2v": CoreModel(_wan(), WAN_TEXT, (16, 3, 8, 12)),
    "wan_i2v": CoreModel(_wan(in_dim=36), WAN_TEXT, (16, 3, 8, 12), _picture()),
    "wan_camera": CoreModel(
        _wan("CameraWanModel", model_type="camera", in_dim=32, in_dim_control_adapter=24),
        WAN_TEXT,
        (16, 3, 8, 12),
        lambda generator: {
            "camera_conditions": torch.randn(1, 24, 3, 64, 96, generator=generator),
            **_picture()(generator),
        },
    ),
    "wan_5b": CoreModel(_wan(in_dim=48, out_dim=48), WAN_TEXT, (48, 3, 4, 6)),
    "kandinsky_t2v": CoreModel(_kandinsky, (16, 3584), (16, 3, 8, 12), _pooled),
    "kandinsky_i2v": CoreModel(_kandinsky, (16, 3584), (16, 3, 8, 12), _first_frame),
    "ltx_t2v": CoreModel(_ltx, (16, 4096), (128, 3, 4, 6), _masked),
    "ltx_i2v": CoreModel(_ltx, (16, 4096), (128, 3, 4, 6), _masked_picture),
}
