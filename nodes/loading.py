"""Files to an AetherModel, with ComfyUI's choices of dtype and device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import torch

from ..aether.errors import InputError
from ..aether.model.downloads import VAE
from ..aether.model.loading import find_prompt, load_transformer, load_vae
from ..aether.model.parts import AetherModel
from ..aether.model.prompt import check_prompt_embeds, load_prompt_embeds
from ..aether.model.schedulers import make_scheduler
from ..aether.model.text_encoders import TextEncoder, require_t5_xxl
from ..aether.model.weight_folder import refuse_shard
from ..aether.model.weights import read_header
from .bridge.vae import default_dtype

_PROMPT = "prompt"
_BLOCKS = "transformer_blocks"


def load_parts(
    transformer: Path,
    *,
    vae: Path | None,
    prompt: Path | None,
    dtype: torch.dtype | None,
    progress: Callable[[str], None],
) -> tuple[AetherModel, torch.dtype | None]:
    """Load from ComfyUI's folders, onto the CPU.

    Args:
        transformer: diffusers folder or .safetensors file.
        vae: .safetensors file; None for the folder's.
        prompt: .safetensors file with the embedding or with a T5-XXL encoder; None for the folder's.
        dtype: for the transformer; None leaves it to ComfyUI. float8 is for the weights of the blocks.
        progress: called with the name of each part.

    Returns:
        the model, and what the blocks' weights are stored in if that is not what it computes in.

    Raises:
        InputError: see ``aether.model.loading``.
    """
    compute, storage = _dtypes(dtype)
    progress("transformer")
    module = load_transformer(transformer, dtype=compute)
    if storage is not None:
        for layer in getattr(module, _BLOCKS).modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(storage)
    progress("vae")
    if vae is None and not (transformer / "vae").is_dir():
        get = VAE.command_in_comfyui
        raise InputError(
            "vae", f"{transformer.name} has no folder vae/: choose a file of models/vae, or run `{get}`"
        )
    autoencoder = load_vae(vae or transformer / "vae", dtype=default_dtype())
    embeds = _prompt(prompt, transformer, module.config, progress).to(compute)
    scheduler = make_scheduler("dpm", transformer / "scheduler" / "scheduler_config.json")
    return AetherModel(module, autoencoder, scheduler, embeds, transformer.stem), storage


def _dtypes(asked: torch.dtype | None) -> tuple[torch.dtype, torch.dtype | None]:
    """What to compute in, and what to store in where that differs."""
    device = comfy.model_management.get_torch_device()
    # float16 is left out: Aether's activations do not fit in it.
    usual = comfy.model_management.unet_dtype(device, supported_dtypes=[torch.bfloat16, torch.float32])
    if asked is None:
        asked = usual
    if asked.itemsize > 1:
        return asked, None
    wide = torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32
    return wide, asked


def _prompt(prompt: Path | None, transformer: Path, config, progress) -> torch.Tensor:
    if prompt is None:
        return find_prompt(None, None, transformer, None, config, None, progress)
    refuse_shard(prompt, _PROMPT)
    # Core's loader takes quantised encoders, as most T5-XXL files are.
    shapes = read_header(prompt, _PROMPT, quantised=True)
    if len(shapes) == 1:
        return load_prompt_embeds(prompt)
    encoder = require_t5_xxl(shapes, prompt, _PROMPT)
    progress("text encoder: the empty prompt, once")
    clip = _clip(prompt, encoder)
    embeds = clip.encode_from_tokens(clip.tokenize("")).float().cpu()
    return check_prompt_embeds(embeds[:, : config.max_text_seq_length], prompt)


def _clip(file: Path, encoder: TextEncoder) -> comfy.sd.CLIP:
    """The encoder as core runs it."""
    kind = comfy.sd.CLIPType.COGVIDEOX
    if encoder.has_usual_names:
        return comfy.sd.load_clip([str(file)], clip_type=kind)
    weights, metadata = comfy.utils.load_torch_file(str(file), safe_load=True, return_metadata=True)
    named = {name: weight for key, weight in weights.items() if (name := encoder.usual_name(key))}
    named, _ = comfy.utils.convert_old_quants(named, metadata=metadata)
    return comfy.sd.load_text_encoder_state_dicts([named], clip_type=kind)
