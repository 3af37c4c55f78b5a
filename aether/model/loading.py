"""Loading a model: diffusers folders, a single safetensors transformer, or Hugging Face repositories by name.

Everything is checked against the file headers before any tensor is read: either a whole model comes back, or
an InputError that names the part and the file. No pickle is opened and no code from a repository is run.
"""

from __future__ import annotations

import hashlib
import math
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, reading
from ..spec import FRAMES
from .downloads import BASE_REPO
from .hub import Progress, existing, resolve
from .memory import enable_small_tiles, keep_in_float8, offload_blocks
from .parts import AetherModel
from .prompt import (
    PROMPT_FILE,
    check_prompt_embeds,
    encode_null_prompt,
    load_prompt_embeds,
    save_prompt_embeds,
)
from .schedulers import make_scheduler
from .weight_folder import refuse_shard, weight_files
from .weights import check_keys, read_header, read_json, read_tensors

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

VAE_CONFIG = {"scaling_factor": 0.7, "invert_scale_latents": True}
"""Where BASE_REPO's VAE differs from the defaults of its class."""

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

_LAYER_COUNTS = {"num_layers", "layers_per_block"}
_PREFIXES = ("transformer.", "model.diffusion_model.", "diffusion_model.")
_PATCH_WEIGHT = "patch_embed.proj.weight"

_ROOT_PATTERNS = (
    PROMPT_FILE,
    "config.json",
    "diffusion_pytorch_model*.json",
    "diffusion_pytorch_model*.safetensors",
)
_TRANSFORMER_PATTERNS = ("transformer/*.json", "transformer/*.safetensors")
_SCHEDULER_PATTERNS = ("scheduler/*.json",)
_VAE_PATTERNS = ("vae/*.json", "vae/*.safetensors")
_TEXT_PATTERNS = ("text_encoder/*.json", "text_encoder/*.safetensors")
_SOURCE_PATTERNS = _ROOT_PATTERNS + _TRANSFORMER_PATTERNS + _SCHEDULER_PATTERNS + _VAE_PATTERNS


def load(
    source: str | Path,
    *,
    vae: str | Path | None = None,
    prompt: str | Path | torch.Tensor | None = None,
    text_encoder: str | Path | None = None,
    scheduler: str = "dpm",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    float8: bool = False,
    offload: bool = False,
    tiling: bool | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> AetherModel:
    """Load an Aether model.

    Args:
        source: a pipeline folder (transformer/, and vae/, scheduler/, null prompt or text encoder where it
            has them), a transformer folder, a single .safetensors transformer, or a Hugging Face repository
            "org/name", which is downloaded (resumed if it broke off) and completed from BASE_REPO.
        vae: folder (its own, or a pipeline's), .safetensors file or repository; by default the source's own.
        prompt: the empty prompt's embedding, (1, tokens, width): a tensor, or a small .safetensors file (see
            :func:`save_prompt_embeds`); by default the source's null_prompt.safetensors.
        text_encoder: folder or repository with text_encoder/ (T5), from which the embedding is computed, on
            the CPU, where there is none. The result is kept in ``cache_dir``, so that it is done once.
        scheduler: "dpm" as in the reference (adds fresh noise each step), or "ddim" (deterministic).
        device, dtype: where the model goes and in what; bfloat16, float16 or float32.
        float8, offload: keep the transformer's large weights in float8, or its blocks in the host's memory
            (see :mod:`aether.model.memory`).
        tiling: let the VAE work in tiles of half its own size (240 x 360 pixels): less memory, a little
            slower, and results change slightly. By default tiles are of its own size (480 x 720): up to there
            nothing changes, and beyond memory does not grow with the picture; they get smaller where memory
            runs out (see :func:`aether.generation.latents.decode_pixels`). The reference's demo has it on.
        cache_dir: for downloads and the computed embedding; by default Hugging Face's cache and
            ~/.cache/aether-hero.
        progress: called with a line of text when a part is begun.

    Raises:
        InputError: a part is missing, damaged, or not of Aether's form; its field is the part's argument.
    """
    device, dtype = check_device(device), _check_dtype(dtype)
    say = progress or (lambda text: None)
    cache = Path(cache_dir).expanduser() if cache_dir else None
    root = resolve(source, "source", cache, _SOURCE_PATTERNS, say)
    from_hub = not Path(source).expanduser().exists()
    base = BASE_REPO if from_hub else None

    say("transformer")
    transformer = load_transformer(root, device="cpu" if offload else device, dtype=dtype)
    vae_source = vae or (root / "vae" if (root / "vae").is_dir() else base)
    if vae_source is None:
        raise InputError(
            "vae", f"is missing: {source} has none; give the folder of Aether's VAE ({BASE_REPO}'s)"
        )
    # Before offloading, which fills the host's memory.
    embeds = find_prompt(prompt, text_encoder, root, base, transformer.config, cache, say)
    if float8:
        keep_in_float8(transformer, dtype)
    if offload:
        offload_blocks(transformer, device)
    vae_root = resolve(vae_source, "vae", cache, _VAE_PATTERNS, say)
    say("vae")
    autoencoder = load_vae(vae_root, device=device, dtype=dtype)
    if tiling:
        enable_small_tiles(autoencoder)
    elif tiling is None:
        own = autoencoder.config
        autoencoder.enable_tiling(own.sample_height, own.sample_width)
    return AetherModel(
        transformer=transformer,
        vae=autoencoder,
        scheduler=make_scheduler(scheduler, root / "scheduler" / "scheduler_config.json"),
        prompt_embeds=embeds.to(device, dtype),
        name=str(source) if from_hub else Path(source).expanduser().stem,
    )


def load_transformer(
    path: str | Path,
    *,
    config: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
) -> CogVideoXTransformer3DModel:
    """Load a transformer from a diffusers folder (its own or a pipeline's) or a single .safetensors file.

    A file's dimensions are read off its tensors (see :func:`infer_config`), its key names may have the prefix
    "transformer." or "model.diffusion_model.". A config.json beside the file, and then ``config``, go before
    what was inferred: the size that the model was made for cannot be seen in tensors.

    Raises:
        InputError: field "transformer".
    """
    from diffusers import CogVideoXTransformer3DModel

    def settings(beside: dict[str, Any] | None, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        return infer_config(shapes, path) | (beside or {})

    return _load_part(CogVideoXTransformer3DModel, "transformer", path, settings, config, device, dtype)


def infer_config(shapes: dict[str, tuple[int, ...]], where: object = "the file") -> dict[str, Any]:
    """A CogVideoX transformer's config from the shapes of its tensors.

    Width, channels and patch size are those of the patch convolution; the head size is the length of the
    query norm, which CogVideoX applies per head; the number of blocks is counted. Rotary embeddings leave no
    trace and are taken as given, as in Aether; learned positions are there where their table is. The size
    cannot be seen and is taken to be Aether's, 480 x 720; the length is read off the table, else 41 frames.

    Raises:
        InputError: field "transformer", if the tensors are not a CogVideoX 1.0 transformer's.
    """

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        found = shapes.get(key)
        if found is None or len(found) != dimensions:
            problem = "is missing" if found is None else f"has shape {found}"
            raise InputError(
                "transformer", f"{where} is not a CogVideoX 1.0 transformer, as Aether's is: {key} {problem}"
            )
        return found

    width, in_channels, patch, _ = shape(_PATCH_WEIGHT, 4)
    time_dim, _ = shape("time_embedding.linear_1.weight", 2)
    _, text_dim = shape("patch_embed.text_proj.weight", 2)
    (head_dim,) = shape("transformer_blocks.0.attn1.norm_q.weight", 1)
    outputs, _ = shape("proj_out.weight", 2)
    table = "patch_embed.pos_embedding"
    blocks = {key.split(".")[1] for key in shapes if key.startswith("transformer_blocks.")}
    frames = FRAMES[-1]
    if table in shapes:  # (1, tokens, width), of them 226 of the text, for 480 x 720 pixels
        cells = (60 // patch) * (90 // patch)
        frames = (max(shapes[table][1] - 226, cells) // cells - 1) * 4 + 1
    return {
        "num_layers": len(blocks),
        "num_attention_heads": width // head_dim,
        "attention_head_dim": head_dim,
        "in_channels": in_channels,
        "out_channels": outputs // patch**2,
        "patch_size": patch,
        "patch_bias": "patch_embed.proj.bias" in shapes,
        "text_embed_dim": text_dim,
        "time_embed_dim": time_dim,
        "attention_bias": "transformer_blocks.0.attn1.to_q.bias" in shapes,
        "norm_elementwise_affine": "norm_final.weight" in shapes,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": table in shapes,
        "sample_frames": frames,
    }


def load_vae(
    path: str | Path,
    *,
    config: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    lean: bool = True,
) -> AutoencoderKLCogVideoX:
    """Load the VAE from a diffusers folder (its own or a pipeline's) or a single .safetensors file.

    A file without a config.json beside it is taken for CogVideoX-5b-I2V's.

    Args:
        path: the folder or the file.
        config: goes before what is read.
        device, dtype: where it goes and in what.
        lean: half the memory for decoding and less for encoding, the same values up to rounding (see
            :mod:`aether.model.lean_vae`).

    Raises:
        InputError: field "vae".
    """
    from diffusers import AutoencoderKLCogVideoX

    from .lean_vae import make_lean

    def settings(beside: dict[str, Any] | None, _: object) -> dict[str, Any]:
        return VAE_CONFIG if beside is None else beside

    vae = _load_part(AutoencoderKLCogVideoX, "vae", path, settings, config, device, dtype)
    scale = vae.config.scaling_factor
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 < scale < math.inf:
        raise InputError("vae", f"{path}: scaling_factor in its config is {scale!r}, not a number above 0")
    if lean:
        make_lean(vae)
    return vae


def check_device(device: str | torch.device, advice: str = "try cpu") -> torch.device:
    """The device, if tensors can be made on it.

    Raises:
        InputError: field "device"; ends with ``advice``.
    """
    try:
        device = torch.device(device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError("device", f"{device!r} cannot be used here ({reason}); {advice}") from error
    return device


def _check_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPES:
        raise InputError("dtype", f"{dtype!r} cannot be used; give one of {', '.join(map(str, DTYPES))}")
    return dtype


def _read_config(file: Path, class_name: str, field: str) -> dict[str, Any]:
    config = read_json(file, field)
    if config.get("_class_name") != class_name:
        raise InputError(
            field, f"{file} describes {config.get('_class_name')!r}; Aether needs a {class_name}"
        )
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _load_part(cls, field, path, settings, config, device, dtype):
    """An instance of ``cls`` from a diffusers folder, its own or a pipeline's, or a single file.

    Args:
        settings: a file's, from those of the config.json beside it, or None, and its tensors' shapes.
        config: goes before what is read.
    """
    path = existing(path, field)
    if path.is_dir():
        folder = path / field if (path / field).is_dir() else path
        read, files = _read_config(folder / "config.json", cls.__name__, field), weight_files(folder, field)
    else:
        refuse_shard(path, field)
        files, beside = [path], path.with_name("config.json")
        read = _read_config(beside, cls.__name__, field) if beside.is_file() else None
    names, found = {}, {}  # of every file its names to diffusers', which have no prefix; and all shapes
    for file in files:
        shapes = read_header(file, field)
        prefix = next((prefix for prefix in _PREFIXES if prefix + _PATCH_WEIGHT in shapes), "")
        names[file] = {key: key.removeprefix(prefix) for key in shapes}
        found |= {names[file][key]: shape for key, shape in shapes.items()}
    own = read if path.is_dir() else settings(read, found)
    return _build(cls, own | (config or {}), names, found, field, path, device, dtype)


def _build(cls, config, names, found, field, where, device, dtype):
    """An instance of ``cls`` with the weights of the files in ``names`` (file to names to new names)."""
    with reading(field, f"the config of {where} cannot be used"):
        for key in _LAYER_COUNTS & config.keys():
            if config[key] > len(found):
                raise ValueError(f"{config[key]} {key}, and {len(found)} tensors")
        with torch.device("meta"):
            module = cls.from_config(config)
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    check_keys(found, wanted, where, field)
    if any(key not in wanted for key, _ in module.named_buffers()):
        module = cls.from_config(config)  # it computes tables that no file holds
    device = torch.device(device)
    for file, renamed in names.items():
        module.load_state_dict(read_tensors(file, device, dtype, renamed), strict=False, assign=True)
    return module.to(device).eval().requires_grad_(False)


def find_prompt(prompt, text_encoder, root, base, config, cache, say) -> torch.Tensor:
    """The embedding given, else the source's file, else the one kept from before, else computed.

    Args:
        prompt, text_encoder, cache, say: as for :func:`load` (cache: cache_dir, say: progress).
        root: the source's folder. base: repository to fall back on, or None. config: the transformer's.
    """
    if isinstance(prompt, torch.Tensor):
        return check_prompt_embeds(prompt, "the embedding")
    if prompt is not None:
        return load_prompt_embeds(prompt)
    if (root / PROMPT_FILE).is_file():
        return load_prompt_embeds(root / PROMPT_FILE)
    own = root if (root / "text_encoder").is_dir() else None
    encoder = text_encoder or own or base
    if encoder is None:
        raise InputError(
            "prompt",
            "is missing: give the empty prompt's embedding as a .safetensors file, or text_encoder=, a "
            f"folder with the T5 encoder ({BASE_REPO} has it), from which it is computed once",
        )
    kept = kept_prompt(encoder, config.max_text_seq_length, config.text_embed_dim, cache)
    if kept.is_file():
        return load_prompt_embeds(kept)
    folder = resolve(encoder, "text_encoder", cache, _TEXT_PATTERNS, say)
    say("text encoder: the empty prompt, once")
    embeds = encode_null_prompt(folder, config.max_text_seq_length)
    save_prompt_embeds(kept, embeds)
    return load_prompt_embeds(kept)


def kept_prompt(encoder: str | Path, tokens: int, width: int, cache: Path | None) -> Path:
    """Where the empty prompt's embedding (1, tokens, width) is kept once an encoder has computed it."""
    path = Path(encoder).expanduser()
    key = f"{path.resolve() if path.exists() else encoder}|{tokens}|{width}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return (cache or Path.home() / ".cache" / "aether-hero") / f"null_prompt_{digest}.safetensors"
