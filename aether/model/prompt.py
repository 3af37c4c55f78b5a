"""The empty prompt's embedding: all that the text side of CogVideoX ever contributes to Aether."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ..errors import InputError
from .hub import existing
from .text_encoders import identify
from .weight_folder import weight_files
from .weights import read_header, read_tensors, write_tensors

PROMPT_FILE = "null_prompt.safetensors"
"""What it is called beside a model."""
_KEY = "prompt_embeds"


def load_prompt_embeds(path: str | Path) -> torch.Tensor:
    """The empty prompt's embedding (1, tokens, width) from a .safetensors file with that one tensor.

    Raises:
        InputError: field "prompt".
    """
    field = "prompt"
    path = existing(path, field)
    shapes = read_header(path, field)
    if len(shapes) != 1:
        encoder = identify(shapes)
        held = f"is {encoder.name}" if encoder else f"holds {len(shapes)} tensors"
        raise InputError(
            field,
            f"{path} {held}; it must hold one tensor, the empty prompt's embedding. An encoder's folder is "
            "given as text_encoder",
        )
    (embeds,) = read_tensors(path, torch.device("cpu"), torch.float32).values()
    return check_prompt_embeds(embeds, path)


def save_prompt_embeds(path: str | Path, embeds: torch.Tensor) -> None:
    """Keep an embedding in a .safetensors file, in bfloat16, to which the reference rounds it (1.9 MB)."""
    write_tensors(Path(path), {_KEY: check_prompt_embeds(embeds, "the embedding").to(torch.bfloat16)})


@torch.no_grad()
def encode_null_prompt(
    folder: str | Path, tokens: int = 226, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The T5 encoder's embedding of the empty prompt, (1, tokens, width), computed on the CPU.

    T5-XXL takes its size on disk, 10 GB for CogVideoX's: a block is in ``dtype`` while it runs, and then
    gone. (With transformers 4, which loads everything in float32, 19 GB.)

    Args:
        folder: holds text_encoder/.
        tokens: length that the prompt is padded to.
        dtype: what is computed in; float32 as in the reference.

    Raises:
        InputError: field "text_encoder".
    """
    field = "text_encoder"
    folder = existing(folder, field) / "text_encoder"
    if not folder.is_dir():
        raise InputError(field, f"{folder.parent} has no folder text_encoder/; give the pipeline's folder")
    files = weight_files(folder, field, "model")
    encoder = identify({key: shape for file in files for key, shape in read_header(file, field).items()})
    if encoder is None or not encoder.t5:
        name = encoder.name if encoder else "no text encoder that is known"
        raise InputError(field, f"{folder} holds {name}, not T5; give the pipeline's own")
    try:
        from transformers import T5EncoderModel
    except ImportError as error:
        raise ImportError("the T5 encoder needs `pip install transformers`") from error

    # What transformers calls the version of the weights: "fp16" of "model.fp16.safetensors".
    variant = re.fullmatch(r"model\.(\w+?)(-\d+-of-\d+)?\.safetensors", files[0].name)
    model = T5EncoderModel.from_pretrained(
        folder,
        variant=variant and variant[1],
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    ).eval()
    stack = model.encoder
    model.shared.to(dtype)
    stack.final_layer_norm.to(dtype)
    for block in stack.block:
        block.register_forward_pre_hook(lambda block, _: block.to(dtype) and None)
        block.register_forward_hook(lambda block, *_: block.to("meta") and None)
    # What a T5 tokenizer makes of an empty text: its end, and padding.
    ids = torch.full((1, tokens), model.config.pad_token_id)
    ids[0, 0] = model.config.eos_token_id
    return model(ids)[0]


def check_prompt_embeds(embeds: torch.Tensor, where: object) -> torch.Tensor:
    """An embedding (1, tokens, width) of one (tokens, width) or of itself.

    Raises:
        InputError: field "prompt"; of another shape, or with values that no encoder gives.
    """
    embeds = embeds[None] if embeds.ndim == 2 else embeds
    if embeds.ndim != 3 or embeds.shape[0] != 1 or not embeds.is_floating_point():
        raise InputError(
            "prompt", f"{where} has shape {tuple(embeds.shape)}; it must be (1, tokens, width) floats"
        )
    if not torch.isfinite(embeds).all():
        raise InputError("prompt", f"{where} holds NaN or infinite values; make it again")
    if not embeds.any():
        raise InputError(
            "prompt",
            f"{where} holds zeros only, which no T5 gives, even of an empty text; make it again, or take "
            "another file",
        )
    return embeds
