"""Aether Doctor: what is here, what is missing, and what fits, as text for a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io

from ..aether.doctor.report import Line, Report, Section, find
from .bridge import attention as attentions
from .bridge.compat import OLDEST_COMFYUI, comfyui_version, is_supported
from .bridge.recordings import last_folder
from .loaders import pipeline_folders

if TYPE_CHECKING:
    import torch

    from ..aether.doctor.fits import Way
    from ..aether.doctor.weights import Shapes

_PACK = Path(__file__).parents[1]
_NAME = "ComfyUI-Aether-HERO"


class AetherDoctor(io.ComfyNode):
    """What a report about a problem should hold."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherDoctor",
            display_name="Aether Doctor",
            category="Aether",
            description="Looks at versions, device, memory, model files and which settings fit your card, "
            "and writes it down as text that you can copy into a report.",
            search_aliases=["aether", "diagnose", "debug", "versions", "system info", "bug report", "memory"],
            inputs=[],
            outputs=[
                io.String.Output(
                    "text",
                    display_name="text",
                    tooltip="The findings as plain text. Your home directory is shortened to ~.",
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls) -> int:
        # Another one each time, so that every run looks again.
        return time.time_ns()

    @classmethod
    def execute(cls) -> io.NodeOutput:
        text = str(examine())
        return io.NodeOutput(text, ui={"text": (text,)})


def examine() -> Report:
    """The report on this ComfyUI."""
    from ..aether.doctor.packages import packages_section
    from ..aether.doctor.sections import (
        attention_section,
        fit_section,
        machine_section,
        measured_section,
        weights_section,
    )
    from ..hero_engine import doctor

    return Report(
        (
            Section("ComfyUI", (*find("version", _version), *find("this pack", _place))),
            packages_section(),
            machine_section(_device),
            attention_section(attentions.texts),
            weights_section(_weights),
            fit_section(_device, _ways, doctor.aether_cache),
            measured_section(_measured),
        )
    )


def _version() -> str:
    found = comfyui_version()
    return found if is_supported(found) else f"{found}, but {OLDEST_COMFYUI} is needed: update ComfyUI"


def _place() -> str:
    """Where the pack lies, and whether there is another copy."""
    roots = [Path(root) for root in folder_paths.get_folder_paths("custom_nodes")]
    if _PACK.parent not in roots:
        return f"{_PACK}, which is not in custom_nodes: move it there"
    copies = [path.name for root in roots for path in root.glob("*") if (path / "hero_engine").is_dir()]
    if len(copies) > 1:
        return f"{len(copies)} copies in custom_nodes, keep one: {', '.join(sorted(copies))}"
    usual = "" if _PACK.name == _NAME else f" (its usual name is {_NAME})"
    return f"custom_nodes/{_PACK.name}{usual}"


def _device() -> torch.device:
    import comfy.model_management

    return comfy.model_management.get_torch_device()


def _ways() -> tuple[Way, ...]:
    """By Aether Loader's dtype; core decodes in tiles by itself where memory runs out."""
    from ..aether.doctor.fits import Way

    tiles = "decoding in tiles"
    return (
        Way("dtype auto"),
        Way(f"dtype auto, {tiles}", tiling=True),
        Way("dtype fp8_e4m3fn", float8=True),
        Way(f"dtype fp8_e4m3fn, {tiles}", float8=True, tiling=True),
        Way(f"dtype auto, blocks in RAM, {tiles}", offload=True, tiling=True),
        Way(f"dtype fp8_e4m3fn, blocks in RAM, {tiles}", float8=True, offload=True, tiling=True),
    )


def _measured() -> str:
    from ..hero_engine.doctor import tuning_text

    folder = last_folder()
    return "nothing yet" if folder is None else tuning_text(folder)


def _weights() -> Iterator[Line]:
    """Aether's files in ComfyUI's model folders."""
    from ..aether.doctor import weights
    from ..aether.model.downloads import T5_FILE, TRANSFORMER, VAE

    yield Line("looked for in", folder_paths.models_dir)
    folders = list(pipeline_folders().values())
    for part, kind, files, command in (
        ("transformer", weights.is_transformer, "diffusion_models", TRANSFORMER.command_in_comfyui),
        ("vae", weights.is_vae, "vae", VAE.command_in_comfyui),
        ("prompt", weights.is_prompt, "text_encoders", T5_FILE.command_in_comfyui),
    ):
        yield from find(part, lambda p=part, k=kind, f=files, c=command: _part(p, k, f, c, folders))


def _part(part: str, kind: Callable[[Shapes], bool], files: str, command: str, folders: list[Path]) -> str:
    """Single files of a kind, else the folder of a pipeline."""
    from ..aether.doctor.weights import holding, part_text
    from ..aether.model.prompt import PROMPT_FILE
    from ..aether.model.weight_folder import WEIGHTS

    names = folder_paths.get_filename_list(files)
    paths = {Path(folder_paths.get_full_path_or_raise(files, name)): name for name in names}
    found = [f"models/{files}/{paths[path]}" for path in holding(paths, kind)]
    if part == "transformer":  # a folder may be the transformer's own
        found += [str(root) for root in folders if not (root / part).is_dir()]
    if part == "prompt":
        found += [str(root / PROMPT_FILE) for root in folders if (root / PROMPT_FILE).is_file()]
    if found:
        return f"found: {', '.join(found)}"
    folder, name = ("text_encoder", "model") if part == "prompt" else (part, WEIGHTS)
    return part_text(folders, folder, command, name)


NODES: list[type[Any]] = [AetherDoctor]
