"""What the wires of a workflow tell before anything is sampled: which stream of Aether Split comes in where.

ComfyUI asks a node with lazy inputs which of them it needs, before it runs what they hang on. The nodes
behind Aether Split look at their wires then, and refuse a wrong one before minutes of sampling. Their
``execute`` is async, though it awaits nothing, because ComfyUI turns to such nodes first.
"""

from __future__ import annotations

from typing import Any

from ...aether.errors import InputError
from ..latents import DISPARITY, RAYMAP, RGB, wrong_stream

SPLIT = "AetherSplit"
_OUTPUTS = (RGB, DISPARITY, RAYMAP)


def waiting(sockets: dict[str, Any]) -> list[str]:
    """The lazy inputs that a node still needs: all of them. The answer of ``check_lazy_status``."""
    return [name for name, value in sockets.items() if value is None]


def refuse_other_streams(hidden: Any, field: str, wanted: str | None = None) -> None:
    """
    Args:
        hidden: of the node: its id and the workflow that runs.
        field: the input to look at.
        wanted: its stream; None where the whole latent is wanted.

    Raises:
        InputError: the wire comes from another stream of Aether Split.
    """
    prompt, node_id = getattr(hidden, "dynprompt", None), getattr(hidden, "unique_id", None)
    if prompt is None or node_id is None:
        return
    found = _stream_at(prompt, prompt.get_node(node_id)["inputs"].get(field))
    if found not in (None, wanted):
        raise InputError(field, wrong_stream(found, wanted))


def _stream_at(prompt: Any, link: Any) -> str | None:
    """The stream that a link [node id, output] carries, also through nodes that hand a LATENT on."""
    if _type_of(prompt, link) is None:
        return None
    node_id, output = link
    node = prompt.get_node(node_id)
    if node["class_type"] == SPLIT:
        return _OUTPUTS[output]
    if _type_of(prompt, link) != "LATENT":
        return None
    before = (value for value in node["inputs"].values() if _type_of(prompt, value) == "LATENT")
    found = {_stream_at(prompt, value) for value in before}
    return found.pop() if len(found) == 1 else None


def _type_of(prompt: Any, link: Any) -> str | None:
    """What a link carries; None for the value of a widget."""
    from comfy_execution.graph_utils import is_link

    from nodes import NODE_CLASS_MAPPINGS  # ComfyUI's

    if not is_link(link):
        return None
    return NODE_CLASS_MAPPINGS[prompt.get_node(link[0])["class_type"]].RETURN_TYPES[link[1]]
