"""Aether's weights: where they are looked for, what is there, and the command that gets the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..model.downloads import AETHER_REPO, BASE_REPO, TEXT_ENCODER, TRANSFORMER, VAE
from ..model.hub import cached_folder, downloads_folder
from ..model.loading import kept_prompt
from ..model.memory import bytes_text
from ..model.prompt import PROMPT_FILE
from ..model.text_encoders import require_t5_xxl
from ..model.weight_folder import WEIGHTS, weight_files
from ..model.weights import read_header
from ..spec import AETHER_V1
from .report import Line, find

Shapes = dict[str, tuple[int, ...]]

_WHOLE = f"python -m aether reconstruct synthetic --model {AETHER_REPO}"


def miniature_text() -> str:
    """Build the bundled model, which shows that all it needs is there and works."""
    from ..miniature import build

    model = build()
    count = sum(weight.numel() for weight in model.transformer.parameters())
    return f"ready: {count / 1e6:.1f} million parameters, loaded just now"


def downloaded_lines(cache: Path | None) -> list[Line]:
    """What the command line has downloaded of the real model.

    Args:
        cache: as for :func:`aether.model.loading.load`.
    """
    own, base = cached_folder(AETHER_REPO, cache), cached_folder(BASE_REPO, cache)
    both = [folder for folder in (own, base) if folder is not None]
    lines = [
        *find("looked for in", lambda: str(downloads_folder(cache))),
        *find("transformer", lambda: part_text(both[:1] if own else [], "transformer", TRANSFORMER.command)),
        *find("vae", lambda: part_text(both, "vae", VAE.command)),
        *find("empty prompt", lambda: _prompt_text(own, both, cache)),
    ]
    missing = any("missing" in line.text for line in lines)
    return [*lines, *([Line("all of it, and a first run", _WHOLE)] if missing else [])]


def _prompt_text(own: Path | None, both: Iterable[Path], cache: Path | None) -> str:
    kept = kept_prompt(BASE_REPO, AETHER_V1.text_tokens, AETHER_V1.text_width, cache)
    for file in ([own / PROMPT_FILE] if own else []) + [kept]:
        if file.is_file():
            return f"found: {file}"
    return part_text(both, "text_encoder", TEXT_ENCODER.command, "model")


def part_text(pipelines: Iterable[Path], part: str, command: str, name: str = WEIGHTS) -> str:
    """The first of some pipelines' folders that has the part's own folder, and what is in it.

    Args:
        pipelines: folders that may hold a folder ``part``.
        part: "transformer", "vae" or "text_encoder".
        command: gets it.
        name: of the weights' files.
    """
    folder = next((root / part for root in pipelines if (root / part).is_dir()), None)
    if folder is None:
        return f"missing: {command}"
    try:
        files = weight_files(folder, part, name)
    except InputError as error:
        return f"incomplete, missing files: {error}; {command}"
    if not (folder / "config.json").is_file():
        return f"incomplete, missing config.json: {command}"
    size = sum(file.stat().st_size for file in files)
    return f"found: {folder}, {len(files)} file{'s' * (len(files) != 1)}, {bytes_text(size)}"


def holding(files: Iterable[Path], wanted: Callable[[Shapes], bool]) -> list[Path]:
    """Those of the safetensors files whose headers are of the wanted kind; of others nothing is read."""
    found = []
    for file in files:
        with suppress(InputError, OSError):
            if wanted(read_header(file, "file", quantised=True)):
                found.append(file)
    return found


def is_transformer(shapes: Shapes) -> bool:
    """Whether it is Aether's, of whatever width."""
    channels = (shape[1:2] for key, shape in shapes.items() if key.endswith("patch_embed.proj.weight"))
    return (AETHER_V1.in_channels,) in channels


def is_vae(shapes: Shapes) -> bool:
    """Whether it is CogVideoX's, in the names of diffusers."""
    return "decoder.up_blocks.0.resnets.0.norm1.norm_layer.weight" in shapes


def is_prompt(shapes: Shapes) -> bool:
    """Whether it is the empty prompt's embedding or a T5-XXL encoder."""
    if len(shapes) == 1:
        return next(iter(shapes.values()))[-1:] == (AETHER_V1.text_width,)
    with suppress(InputError):
        require_t5_xxl(shapes, "the file", "prompt")
        return True
    return False
