"""Small models of families that core loads itself: weights from a seed, in files that its loader knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch


@dataclass(frozen=True)
class Size:
    """Of a latent, and of the prompt in tokens."""

    frames: int
    rows: int
    columns: int
    tokens: int


Conditions = Callable[[torch.Generator, Size], dict[str, Any]]


@dataclass(frozen=True)
class CoreModel:
    """A family's checkpoint and what a run of it takes.

    Attributes:
        build: the diffusion model, of sizes that core's detection allows.
        context: (tokens, width) of the prompt's embedding.
        latent: (channels, frames, rows, columns).
        conditions: what stands in a CONDITIONING beside the prompt, from a generator and for a size.
        measured: whether it is of Aether's form, whose quality under HERO is measured and which every
            method takes.
        cell: frames, and pixels of a side, that a position of the latent stands for.
    """

    build: Callable[[], torch.nn.Module]
    context: tuple[int, int]
    latent: tuple[int, int, int, int]
    conditions: Conditions = field(default=lambda generator, size: {})
    measured: bool = False
    cell: tuple[int, int] = (4, 8)

    @property
    def size(self) -> Size:
        return Size(*self.latent[1:], self.context[0])

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

    def conditioning(self, seed: int, size: Size | None = None) -> list[list[Any]]:
        """A CONDITIONING as text encoders and core's nodes would make it; size: its own where None."""
        size = size or self.size
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, size.tokens, self.context[1], generator=generator)
        return [[text, self.conditions(generator, size)]]


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


def _mask(size: Size) -> torch.Tensor:
    """1 where a latent is to be made: everywhere but in the first frame."""
    mask = torch.ones(1, 1, size.frames, size.rows, size.columns)
    mask[:, :, 0] = 0
    return mask


def _picture(channels: int = 16) -> Conditions:
    """A start image as WanImageToVideo gives it: its latent, and a mask of what is given."""

    def make(generator: torch.Generator, size: Size) -> dict[str, Any]:
        latent = torch.randn(1, channels, size.frames, size.rows, size.columns, generator=generator)
        return {"concat_latent_image": latent, "concat_mask": _mask(size)}

    return make


def _camera(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """A start image and a camera path in pixels."""
    rays = torch.randn(1, 24, size.frames, 8 * size.rows, 8 * size.columns, generator=generator)
    return {"camera_conditions": rays, **_picture()(generator, size)}


def _kandinsky() -> torch.nn.Module:
    import comfy.ldm.kandinsky5.model
    import comfy.ops

    sizes = {"time_dim": 40, "model_dim": 128, "ff_dim": 128, "num_text_blocks": 1, "num_visual_blocks": 4}
    build = comfy.ldm.kandinsky5.model.Kandinsky5
    return build(**sizes, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)


def _pooled(generator: torch.Generator, size: Size) -> dict[str, Any]:
    return {"pooled_output": torch.randn(1, 768, generator=generator)}


def _first_frame(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """A start image as Kandinsky5ImageToVideo gives it."""
    frame = torch.randn(1, 16, 1, size.rows, size.columns, generator=generator)
    return {"time_dim_replace": frame, "concat_mask": _mask(size), **_pooled(generator, size)}


def _ltx() -> torch.nn.Module:
    import comfy.ldm.lightricks.model
    import comfy.ops

    sizes = {"attention_head_dim": 4, "cross_attention_dim": 128, "num_layers": 4}  # of 32 heads
    build = comfy.ldm.lightricks.model.LTXVModel
    return build(**sizes, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)


def _masked(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """The last two of the prompt's tokens are padding."""
    return {"attention_mask": (torch.arange(size.tokens) < size.tokens - 2).long()[None]}


def _masked_picture(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """A first frame that is given, so that every token has a timestep of its own."""
    return {"concat_mask": _mask(size), **_masked(generator, size)}


def _hunyuan(**settings: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import comfy.ldm.hunyuan_video.model
        import comfy.ops

        sizes = {
            "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 512,
            "hidden_size": 256, "num_heads": 2, "mlp_ratio": 4.0, "depth": 2, "depth_single_blocks": 2,
            "patch_size": [1, 2, 2], "axes_dim": [16, 56, 56], "theta": 256, "qkv_bias": True,
            "guidance_embed": True, "byt5": False, "meanflow": False, "meanflow_sum": False,
            "use_cond_type_embedding": False, "vision_in_dim": None, "dtype": torch.float32, "device": "cpu",
        }  # fmt: skip
        build = comfy.ldm.hunyuan_video.model.HunyuanVideo
        return build(**sizes | settings, operations=comfy.ops.disable_weight_init)

    return build


HUNYUAN15 = {
    "in_channels": 65, "out_channels": 32, "vec_in_dim": None, "depth": 4, "depth_single_blocks": 0,
    "patch_size": [1, 1, 1], "guidance_embed": False, "use_cond_type_embedding": True, "vision_in_dim": 1152,
    "meanflow_sum": True,
}  # fmt: skip


def _seen(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """A start image as HunyuanVideo15ImageToVideo gives it, also to the eye of CLIP."""
    vision = SimpleNamespace(last_hidden_state=torch.randn(1, 9, 1152, generator=generator))
    return {"clip_vision_output": vision, **_picture(32)(generator, size), **_pooled(generator, size)}


def _predict2(channels: int) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import comfy.ldm.cosmos.predict2
        import comfy.ops

        sizes = {
            "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": channels,
            "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 256,
            "num_blocks": 4, "pos_emb_cls": "rope3d", "use_adaln_lora": True, "dtype": torch.float32,
            "device": "cpu",
        }  # fmt: skip
        build = comfy.ldm.cosmos.predict2.MiniTrainDIT
        return build(**sizes, operations=comfy.ops.disable_weight_init)

    return build


def _given(generator: torch.Generator, size: Size) -> dict[str, Any]:
    """A first frame that is given: its timestep is 0."""
    return {"concat_mask": _mask(size)}


def _cogvideox(channels: int) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import comfy.ldm.cogvideo.model
        import comfy.ops

        sizes = {
            "num_attention_heads": 2, "in_channels": channels, "time_embed_dim": 64, "num_layers": 4,
            "use_rotary_positional_embeddings": True, "dtype": torch.float32, "device": "cpu",
        }  # fmt: skip
        build = comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel
        return build(**sizes, operations=comfy.ops.disable_weight_init)

    return build


WAN_TEXT = (16, 4096)
CORE_MODELS: dict[str, CoreModel] = {
    "wan_t2v": CoreModel(_wan(), WAN_TEXT, (16, 3, 8, 12)),
    "wan_i2v": CoreModel(_wan(in_dim=36), WAN_TEXT, (16, 3, 8, 12), _picture()),
    "wan_camera": CoreModel(
        _wan("CameraWanModel", model_type="camera", in_dim=32, in_dim_control_adapter=24),
        WAN_TEXT,
        (16, 3, 8, 12),
        _camera,
    ),
    "wan_5b": CoreModel(_wan(in_dim=48, out_dim=48), WAN_TEXT, (48, 3, 4, 6), cell=(4, 16)),
    "kandinsky_t2v": CoreModel(_kandinsky, (16, 3584), (16, 3, 8, 12), _pooled),
    "kandinsky_i2v": CoreModel(_kandinsky, (16, 3584), (16, 3, 8, 12), _first_frame),
    "ltx_t2v": CoreModel(_ltx, (16, 4096), (128, 3, 4, 6), _masked, cell=(8, 32)),
    "ltx_i2v": CoreModel(_ltx, (16, 4096), (128, 3, 4, 6), _masked_picture, cell=(8, 32)),
    "hunyuan_t2v": CoreModel(_hunyuan(), (16, 512), (16, 3, 8, 12), _pooled),
    "hunyuan15_t2v": CoreModel(_hunyuan(**HUNYUAN15), (16, 512), (32, 3, 4, 6), _pooled, cell=(4, 16)),
    "hunyuan15_i2v": CoreModel(_hunyuan(**HUNYUAN15), (16, 512), (32, 3, 4, 6), _seen, cell=(4, 16)),
    "cosmos_predict2_t2i": CoreModel(_predict2(16), (16, 1024), (16, 1, 8, 12)),
    "cosmos_predict2_i2v": CoreModel(_predict2(17), (16, 1024), (16, 3, 8, 12), _given),
    "cogvideox_t2v": CoreModel(_cogvideox(16), (16, 4096), (16, 3, 8, 12), measured=True),
    "cogvideox_i2v": CoreModel(_cogvideox(32), (16, 4096), (16, 3, 8, 12), _picture(), measured=True),
}
VACE = CoreModel(_wan("VaceWanModel", vace_layers=2, vace_in_dim=96), WAN_TEXT, (16, 3, 8, 12))
"""One that HERO refuses."""
