"""Outputs that several nodes have."""

from __future__ import annotations

from comfy_api.latest import io

ACCELERATED = io.Model.Output(tooltip="The accelerated model. Goes to the sampler and to HERO Report.")
DEPTH = io.Image.Output(
    "depth",
    display_name="depth",
    tooltip="Depth as floating-point numbers, the same in all three channels: from 1, the nearest depth of "
    "the clip, to 1000. For Aether Save Depth.",
)
DISPARITY = io.Image.Output(
    "disparity",
    display_name="disparity",
    tooltip="1 / depth as floating-point numbers, the same in all three channels: 0 is far, about 1 the "
    "nearest.",
)
FRAME_RATE = io.Float.Output("fps", display_name="fps", tooltip="Frames per second of the clip.")


def written_output(name: str, note: str = "") -> io.Output:
    """What a node has saved. note: what else the reader should know of it."""
    return io.String.Output(
        name, display_name=name, tooltip=f"What was written, relative to the output folder.{note}"
    )
