"""The empty prompt's embedding: all that the text side of CogVideoX ever contributes to Aether."""

from __future__ import annotations

from pathlib import Path

import torch

from .errors import InputError
from .hub import existing
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
        raise InputError(
            field, f"{path} holds {len(shapes)} tensors; it must hold one, the empty prompt's embedding"
        )
    (embeds,) = read_tensors(path, torch.device("cpu"), torch.float32).values()
    return check_prompt_embeds(embeds, path)


def save_prompt_embeds(path: str | Path, embeds: torch.Tensor) -> None:
    """Keep an embedding in a .safetensors file, in bfloat16, to which the reference rounds it (1.9 MB)."""
    write_tensors(Path(path), {_KEY: check_prompt_embeds(embeds, "the embedding").to(torch.bfloat16)})


@torch.no_grad()
def encode_null_prompt(
    folder: str | Path,
    tokens: int = 226,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The T5 encoder's embedding of the empty prompt, (1, tokens, width).

    Args:
        folder: holds text_encoder/ and tokenizer/.
        tokens: length that the prompt is padded to.
        dtype: of the encoder. float32, as in the reference, needs 19 GB for T5-XXL; bfloat16 half.

    Raises:
        InputError: field "text_encoder".
    """
    field = "text_encoder"
    folder = existing(folder, field)
    for part in ("text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise InputError(field, f"{folder} has no folder {part}/; give the folder of the whole pipeline")
    if not any((folder / "text_encoder").glob("*.safetensors")):
        raise InputError(field, f"{folder / 'text_encoder'} holds no .safetensors file; download it again")
    try:
        from transformers import AutoTokenizer, T5EncoderModel
    except ImportError as error:
        raise ImportError("the T5 encoder needs `pip install transformers sentencepiece`") from error

    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", **options)
    encoder = T5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True, **options)
    encoder = encoder.to(device, dtype).eval()
    ids = tokenizer(
        "", padding="max_length", max_length=tokens, truncation=True, return_tensors="pt"
    ).input_ids
    return encoder(ids.to(device))[0]


def check_prompt_embeds(embeds: torch.Tensor, where: object) -> torch.Tensor:
    embeds = embeds[None] if embeds.ndim == 2 else embeds
    if embeds.ndim != 3 or embeds.shape[0] != 1 or not embeds.is_floating_point():
        raise InputError(
            "prompt", f"{where} has shape {tuple(embeds.shape)}; it must be (1, tokens, width) floats"
        )
    if not torch.isfinite(embeds).all():
        raise InputError("prompt", f"{where} holds NaN or infinite values")
    return embeds
