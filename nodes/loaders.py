"""Aether Loader and Aether Miniature: files to MODEL and VAE."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.model.downloads import T5_FILE, TRANSFORMER, VAE
from ..aether.model.parts import AetherModel
from ..aether.model.weights import read_json
from .bridge import attention as attentions
from .bridge.messages import show_text

FROM_FOLDER = "from the folder"
DTYPES = {
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
_TRANSFORMER_CLASS = "CogVideoXTransformer3DModel"
_MODEL_OUTPUTS = [
    io.Model.Output(tooltip="The world model. Goes to HERO Patch, or straight to a sampler."),
    io.Vae.Output(
        tooltip="Turns pictures into latents and back. Goes to the task node, VAE Decode and Aether Depth."
    ),
]


class AetherLoader(io.ComfyNode):
    """Files in ComfyUI's model folders to MODEL and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folder_paths.get_filename_list
        return io.Schema(
            node_id="AetherLoader",
            display_name="Aether Loader",
            category="Aether/loaders",
            description="Loads the Aether world model: one network that sees a video and gives back color, "
            "depth and the camera's way through the scene.",
            search_aliases=["aether", "world model", "load aether", "cogvideox", "video depth camera"],
            inputs=[
                io.Combo.Input(
                    "transformer",
                    options=_transformers(),
                    tooltip="The world model itself: a file in models/diffusion_models, or a diffusers "
                    "folder in models/diffusers.",
                ),
                io.Combo.Input(
                    "vae",
                    options=[FROM_FOLDER, *files("vae")],
                    tooltip="The CogVideoX VAE, in models/vae. “from the folder” takes the one that lies "
                    "beside the transformer.",
                ),
                io.Combo.Input(
                    "prompt",
                    options=[FROM_FOLDER, *files("text_encoders")],
                    tooltip="Aether is not steered by words; it needs one fixed empty prompt. Choose a "
                    "small null-prompt file or a T5-XXL text encoder in models/text_encoders, or “from the "
                    "folder”.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    advanced=True,
                    tooltip="Precision of the weights. auto is right for most cards; fp8_e4m3fn halves the "
                    "memory and costs a little quality.",
                ),
                io.Combo.Input(
                    "attention",
                    options=attentions.installed(),
                    default="auto",
                    advanced=True,
                    tooltip="How attention is computed. auto is safe; flash and sage are offered only where "
                    "they are installed.",
                ),
            ],
            outputs=_MODEL_OUTPUTS,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, attention: str, transformer: str | None = None) -> bool | str:
        # ComfyUI repeats the answer for every input named here, and checks the others' lists itself.
        if problem := attentions.problem(attention):
            return problem
        if transformer is None or transformer in _transformers():
            return True
        return f"{transformer or 'the model'} is not in ComfyUI's model folders: {_how_to_get()}"

    @classmethod
    def execute(cls, transformer: str, vae: str, prompt: str, dtype: str, attention: str) -> io.NodeOutput:
        from .loading import load_parts

        for field, folder, choice in (("vae", "vae", vae), ("prompt", "text_encoders", prompt)):
            if choice == FROM_FOLDER and not transformer.endswith("/"):
                raise InputError(
                    field, f"{transformer} is a single file, which brings none: choose a file in {folder}"
                )
        model, storage = load_parts(
            _transformer_path(transformer),
            vae=_chosen("vae", vae),
            prompt=_chosen("text_encoders", prompt),
            dtype=DTYPES[dtype],
            progress=lambda text: show_text(cls.hidden.unique_id, f"loading: {text}"),
        )
        attentions.use(model.transformer, attention)
        output = _to_sockets(model, storage)
        billions = sum(weight.numel() for weight in model.transformer.parameters()) / 1e9
        kept = str(storage or model.dtype).removeprefix("torch.")
        show_text(cls.hidden.unique_id, f"{model.name}: {billions:.2f} billion parameters in {kept}")
        return output


class AetherMiniature(io.ComfyNode):
    """The bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherMiniature",
            display_name="Aether Miniature",
            category="Aether/loaders",
            description="A very small model of exactly Aether's form, built in. It lets every workflow run "
            "in about a minute on any machine, with nothing to download.",
            search_aliases=["aether", "world model", "demo model", "test model", "tiny", "try aether"],
            inputs=[],
            outputs=_MODEL_OUTPUTS,
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..aether.miniature import build

        return _to_sockets(build(), None)


def _to_sockets(model: AetherModel, storage: torch.dtype | None) -> io.NodeOutput:
    from .bridge.model import make_model
    from .bridge.vae import AetherVAE, fit_preview

    vae = AetherVAE(model)
    patcher = make_model(model, compute_dtype=model.dtype, storage_dtype=storage, preview=fit_preview(vae))
    return io.NodeOutput(patcher, vae)


def pipeline_folders() -> dict[str, Path]:
    """Folders of models/diffusers with a CogVideoX transformer in them, by their names, which end in /."""
    found: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for path in sorted(path for path in Path(root).glob("*") if path.is_dir() and _is_transformer(path)):
            found.setdefault(f"{path.name}/", path)
    return found


def _is_transformer(folder: Path) -> bool:
    for config in (folder / "transformer" / "config.json", folder / "config.json"):
        with suppress(InputError, OSError):
            if read_json(config, "transformer").get("_class_name") == _TRANSFORMER_CLASS:
                return True
    return False


def _transformer_path(name: str) -> Path:
    if not name.endswith("/"):
        return Path(folder_paths.get_full_path_or_raise("diffusion_models", name))
    if folder := pipeline_folders().get(name):
        return folder
    raise InputError("transformer", f"{name} is not in models/diffusers: {_how_to_get()}")


def _transformers() -> list[str]:
    return [*pipeline_folders(), *folder_paths.get_filename_list("diffusion_models")]


def _how_to_get() -> str:
    """What fetches Aether's files."""
    return (
        f"to get Aether (12 GB), run in ComfyUI's folder `{TRANSFORMER.command_in_comfyui}` and then "
        f"`{VAE.command_in_comfyui}`, and press R. For the empty prompt you "
        f"need a T5-XXL encoder too, if you have none: `{T5_FILE.command_in_comfyui}`"
    )


def _chosen(folder: str, name: str) -> Path | None:
    return None if name == FROM_FOLDER else Path(folder_paths.get_full_path_or_raise(folder, name))


NODES: list[type[Any]] = [AetherLoader, AetherMiniature]
