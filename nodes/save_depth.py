"""Aether Save Depth: float depth to an EXR or 16-bit PNG sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..aether.defaults import BASE_FPS
from ..aether.formats.depth_files import FORMATS, QUANTITIES, write_depth
from ..aether.geometry.cameras import METERS, NEAREST
from .camera_path import OUTPUT_FOLDER, output_stem
from .inputs import DEPTH, prefix_input
from .outputs import written_output
from .types import refuse_colors


class AetherSaveDepth(io.ComfyNode):
    """Depth to files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSaveDepth",
            display_name="Aether Save Depth",
            category="Aether/geometry",
            description="Saves depth as numbers for Blender, Nuke and others: a folder with one picture per "
            "frame, 32-bit EXR or 16-bit PNG, and a file that explains them.",
            search_aliases=["exr sequence", "save exr", "16 bit png", "z depth", "z pass", "nuke", "blender"],
            is_output_node=True,
            inputs=[
                DEPTH,
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="exr",
                    tooltip="exr: every value exactly, as 32-bit floats. png16: 65535 even steps over a "
                    "range.",
                ),
                io.Combo.Input(
                    "quantity",
                    options=list(QUANTITIES),
                    default="depth",
                    tooltip="depth: distance along the camera's axis. disparity: 1 / depth, better for "
                    "png16 because its steps are finer for near things.",
                ),
                prefix_input(f"{OUTPUT_FOLDER}/depth"),
                io.Float.Input(
                    "fps",
                    default=float(BASE_FPS),
                    min=0.01,
                    max=1000.0,
                    step=1.0,
                    tooltip="Frames per second, noted in depth.json. Connect fps of Aether Depth.",
                ),
                io.Float.Input(
                    "near",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=0.1,
                    advanced=True,
                    tooltip="For png16: the depth at which its range begins. Anything nearer is clipped. 0 "
                    "is the nearest depth of the clip.",
                ),
                io.Float.Input(
                    "far",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=0.1,
                    advanced=True,
                    tooltip="For png16: the depth at which its range ends. Anything farther is clipped. 0 "
                    "is the farthest depth of the clip.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Pixels to save as 0, which means no depth: edges of Aether Depth, for example.",
                ),
                io.Combo.Input(
                    "unit",
                    options=[NEAREST, METERS],
                    default=NEAREST,
                    optional=True,
                    tooltip="What depth.json says of the numbers. meters: for the depth of Aether Metric "
                    "Scale.",
                ),
            ],
            outputs=[written_output("folder")],
        )

    @classmethod
    def execute(
        cls,
        depth: torch.Tensor,
        format: str,
        quantity: str,
        filename_prefix: str,
        fps: float,
        near: float,
        far: float,
        unit: str = NEAREST,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from comfy.utils import ProgressBar

        refuse_colors(depth)
        root = Path(folder_paths.get_output_directory())
        stem = output_stem(filename_prefix, root, depth.shape[2], depth.shape[1])
        ranged = format == "png16"
        written = write_depth(
            stem.with_name(stem.name + format),
            depth[..., 0].float().cpu().numpy(),
            fps,
            format=format,
            quantity=quantity,
            mask=None if mask is None else mask.cpu().numpy(),
            near=near or None if ranged else None,
            far=far or None if ranged else None,
            unit=unit,
            callback=ProgressBar(len(depth)).update_absolute,
        )
        name = written.relative_to(root).as_posix()
        return io.NodeOutput(name, ui={"text": (name,)})


NODES: list[type[Any]] = [AetherSaveDepth]
