"""The bridge to MODEL and LATENT: a diffusers Aether transformer as something that core's samplers can run.

A LATENT of ours holds the unified latent (B, 56, T, h, w) with RGB (0-15) and disparity (16-31) as the VAE
takes and gives them, so that their slices can be decoded by core's VAE Decode; channels 32-55 are the packed
raymap. The model's own scale (times the VAE's scaling factor) exists only inside a sampling run: core
converts on the way in and out by the LatentFormat here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.supported_models_base
import torch

from ...aether.defaults import BASE_FPS
from ...aether.errors import InputError
from ...aether.generation.tasks import check_size
from ...aether.model.memory import step_bytes
from ...aether.model.parts import AetherModel, Denoiser
from ...aether.model.rotary import rotary_embeddings
from ...aether.spec import AetherSpec
from ...hero_engine.models.families import adapter_for
from .errors import on_canvas

KEY = "aether_hero"
"""Under which our wrappers, callbacks and attachments stand in ComfyUI's dictionaries."""

_MARGIN, _HELD = 1.25, 4
"""Of what a step takes by count; hidden states that HERO's presets keep beside it."""

OUR_LOADERS = "Aether Loader or Aether Miniature"
OUR_TASKS = "Aether Reconstruct, Aether Predict or Aether Plan"


class AetherTransformer(torch.nn.Module):
    """The ``diffusion_model`` of a MODEL: core's calls turned into the transformer's.

    Args:
        parts: its transformer is taken in; its null prompt is what the text side gets.
        dtype: what the weights are stored in.
    """

    def __init__(self, parts: Denoiser, dtype: torch.dtype):
        super().__init__()
        self.transformer = parts.transformer
        self.dtype = dtype
        self.register_buffer("null_prompt", parts.prompt_embeds, persistent=False)
        self._spec = parts.spec

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(B, 96, T, h, w) to (B, 56, T, h, w), inside other nodes' wrappers of a ``diffusion_model``."""
        options = transformer_options or {}
        wrappers = comfy.patcher_extension.get_all_wrappers(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options
        )
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        # In core's order: wrappers look for the options at the end.
        return executor.execute(x, timesteps, context, options, **kwargs)

    def _forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None,
        transformer_options: dict[str, Any],
        fps: float = BASE_FPS,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Other arguments of core's (text, control) do not apply."""
        batch, _, frames, height, width = x.shape
        rotary = rotary_embeddings(self._spec, frames, height, width, fps=fps, device=x.device)
        output = self.transformer(
            hidden_states=x.transpose(1, 2),
            encoder_hidden_states=self.null_prompt.to(x.device, x.dtype).expand(batch, -1, -1),
            timestep=timesteps,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return output.transpose(1, 2)


class AetherLatent(comfy.latent_formats.LatentFormat):
    """How a LATENT relates to what the model works on, and how its previews are drawn.

    Args:
        spec: the model's numbers. RGB and disparity have the VAE's scaling factor, the raymap has not.
        preview: (factors (16, 3), bias (3,)) from latent to color in [-1, 1], see ``comfy_vae.fit_preview``.
    """

    latent_dimensions = 3
    spacial_downscale_ratio = 8
    temporal_downscale_ratio = 4

    def __init__(self, spec: AetherSpec, preview: tuple[list, list] | None):
        self.latent_channels = spec.out_channels
        self._scale = spec.scaling_factor
        self._pictures = 2 * spec.latent_channels
        if preview is not None:
            self.latent_rgb_factors, self.latent_rgb_factors_bias = preview
            self.latent_rgb_factors_reshape = self._side_by_side

    @on_canvas()
    def process_in(self, latent: torch.Tensor) -> torch.Tensor:
        return self._times(latent, self._scale)

    @on_canvas()
    def process_out(self, latent: torch.Tensor) -> torch.Tensor:
        return self._times(latent, 1 / self._scale)

    def _times(self, latent: torch.Tensor, factor: float) -> torch.Tensor:
        if latent.shape[1] != self.latent_channels:
            raise InputError(
                "latent",
                f"has {latent.shape[1]} channels, an Aether latent {self.latent_channels}: connect the "
                f"latent of {OUR_TASKS}, or what a sampler made of it (before Aether Split)",
            )
        pictures, raymap = latent[:, : self._pictures], latent[:, self._pictures :]
        return torch.cat([pictures * factor, raymap], dim=1)

    def _side_by_side(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, 56, T, h, w) to (B, 16, 1, h, 2 w): the middle frame, RGB left, disparity right."""
        middle = latent.shape[2] // 2
        rgb, disparity = latent[:, : self._pictures, middle : middle + 1].chunk(2, dim=1)
        return torch.cat([rgb, disparity], dim=-1)


class AetherBase(comfy.model_base.BaseModel):
    """Core's BaseModel around an Aether transformer.

    Attributes:
        parts: what was loaded of the model besides its VAE. They run where ComfyUI loads them.
        name: of what was loaded.
    """

    def __init__(self, model_config: Any, parts: Denoiser, dtype: torch.dtype, name: str):
        super().__init__(model_config, comfy.model_base.ModelType.V_PREDICTION)
        self.parts = parts
        self.name = name
        self.diffusion_model = AetherTransformer(parts, dtype)
        comfy.model_management.archive_model_dtypes(self.diffusion_model)

    def memory_required(self, input_shape: Sequence[int], cond_shapes: Any = None) -> float:
        """Bytes that a pass takes besides the weights. Core's rule, where attention may keep its scores; else
        it would ask for a third more than is needed, and leave as much of the weights on the host."""
        management = comfy.model_management
        if not (management.xformers_enabled() or management.pytorch_attention_flash_attention()):
            return super().memory_required(input_shape, cond_shapes or {})
        batch, channels, frames, *size = input_shape
        latent = (batch, frames, channels, *size)
        shape = adapter_for(self.parts.transformer).shape(latent, self.parts.prompt_embeds.shape[1])
        element = management.dtype_size(self.get_dtype_inference())
        held = _HELD * batch * shape.tokens * shape.width * element
        return _MARGIN * step_bytes(shape.tokens, shape.width, batch, element) + held

    @on_canvas()
    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """The condition channels and the frame rate, from the CONDITIONING that a task node made."""
        condition, noise = kwargs.get("concat_latent_image"), kwargs["noise"]
        if kwargs.get("aether_task") is None or condition is None:
            raise InputError(
                "positive, negative",
                f"an Aether MODEL takes no text: connect positive and negative of {OUR_TASKS}",
            )
        if condition.shape[2:] != noise.shape[2:]:
            raise InputError(
                "latent",
                f"is (time, height, width) = {tuple(noise.shape[2:])}, the conditioning is "
                f"{tuple(condition.shape[2:])}: connect positive, negative and latent of the same node",
            )
        spec = self.parts.spec
        check_size(spec, *(side * spec.spatial_scale for side in noise.shape[3:]), field="latent")
        return {
            "c_concat": comfy.conds.CONDNoiseShape(condition.to(kwargs["device"])),
            "fps": comfy.conds.CONDConstant(kwargs["aether_fps"]),
        }


def make_model(
    parts: AetherModel,
    *,
    compute_dtype: torch.dtype,
    storage_dtype: torch.dtype | None = None,
    preview: tuple[list, list] | None = None,
) -> comfy.model_patcher.ModelPatcher:
    """An Aether model as a MODEL, its weights in ComfyUI's hands.

    Args:
        parts: on the CPU; of its VAE only the numbers are kept.
        compute_dtype: what the model computes in.
        storage_dtype: what the large weights are kept in where that is something else (float8).
        preview: see :class:`AetherLatent`.
    """
    storage = storage_dtype or compute_dtype
    _use_core_layers(parts.transformer, cast=storage != compute_dtype)
    config = _model_config(parts)
    config.latent_format = AetherLatent(parts.spec, preview)
    config.set_inference_dtype(storage, compute_dtype if storage != compute_dtype else None)
    denoiser = Denoiser(parts.spec, parts.transformer, parts.scheduler, parts.prompt_embeds, parts.device)
    patcher = comfy.model_patcher.ModelPatcher(
        AetherBase(config, denoiser, storage, parts.name),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.add_callback_with_key(comfy.patcher_extension.CallbacksMP.ON_LOAD, KEY, _move_buffers)
    return patcher


def aether_parts(model: Any, field: str = "model") -> Denoiser:
    """The parts of the Aether model inside a MODEL.

    Raises:
        InputError: another kind of MODEL.
    """
    if not isinstance(model.model, AetherBase):
        raise InputError(field, f"is {kind_of(model)}, which is not an Aether model: connect {OUR_LOADERS}")
    return model.model.parts


def kind_of(model: Any) -> str:
    """What a MODEL is, as core calls it: SD15, Flux, CogVideoX_T2V."""
    return type(model.model.model_config).__name__


def _model_config(parts: AetherModel) -> Any:
    """Core's description of the model: its noise schedule is the scheduler's."""
    schedule = parts.scheduler.config
    if schedule.beta_schedule != "scaled_linear" or schedule.prediction_type != "v_prediction":
        raise InputError("transformer", "its scheduler is not Aether's (scaled_linear, v_prediction)")

    class Config(comfy.supported_models_base.BASE):
        # Core calls "linear" what diffusers calls "scaled_linear".
        sampling_settings = {
            "linear_start": schedule.beta_start,
            "linear_end": schedule.beta_end,
            "beta_schedule": "linear",
            "zsnr": schedule.rescale_betas_zero_snr,
        }

    return Config({"disable_unet_model_creation": True, "in_channels": parts.spec.in_channels})


def _use_core_layers(transformer: torch.nn.Module, *, cast: bool) -> None:
    """Let ComfyUI keep weights on the CPU, or in another dtype, and bring them over layer by layer.

    Its layers are torch's with a different forward; the numbers are the same.
    """
    layers = comfy.ops.manual_cast if cast else comfy.ops.disable_weight_init
    ours = {
        torch.nn.Linear: layers.Linear,
        torch.nn.LayerNorm: layers.LayerNorm,
        torch.nn.Conv2d: layers.Conv2d,
    }
    for module in transformer.modules():
        module.__class__ = ours.get(type(module), type(module))


def _move_buffers(patcher: Any, device: torch.device, *args: Any) -> None:
    """Core moves weights layer by layer and leaves other modules' buffers, such as learned positions."""
    for module in patcher.model.diffusion_model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
