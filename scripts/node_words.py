"""What ComfyUI lists of a node, as the list of nodes that the tests read and as a locale's entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
AFTER = "control_after_generate"
"""The widget that the page adds below a seed."""


def shape_of(info: dict[str, Any]) -> dict[str, Any]:
    """Inputs with their types, widgets, outputs.

    Args:
        info: the node's part of /object_info.

    Returns:
        inputs: {name: type}; widgets: names; outputs: names. Where a choice brings settings of its own also
        settings: {input: {choice: names of the settings}}.
    """
    inputs = _inputs(info["input"])
    settings = {
        name: {option["key"]: list(_inputs(option["inputs"])) for option in _choices(options)}
        for name, (_, options) in inputs.items()
        if _choices(options)
    }
    shape = {
        "inputs": {name: kind if isinstance(kind, str) else "COMBO" for name, (kind, _) in inputs.items()},
        "widgets": list(_widgets(inputs)),
        "outputs": list(info["output_name"]),
    }
    return shape | ({"settings": settings} if settings else {})


def words_of(info: dict[str, Any]) -> dict[str, Any]:
    """The node's entry in a locale's nodeDefs.json.

    Raises:
        ValueError: a setting that several choices bring has different words with them.
    """
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": _input_words(_inputs(info["input"])),
        "outputs": {
            str(slot): {"name": name, "tooltip": tooltip}
            for slot, (name, tooltip) in enumerate(
                zip(info["output_name"], info["output_tooltips"], strict=True)
            )
        },
    }


def setting_key(name: str, setting: str) -> str:
    """What a locale calls a setting that comes with a choice: the page reads its dot as a path."""
    return f"{name}_{setting}"


def _inputs(parts: dict[str, Any]) -> dict[str, Any]:
    """{name: [type, options]}, in the order in which the node shows them."""
    return parts.get("required", {}) | parts.get("optional", {})


def _choices(options: dict[str, Any]) -> list[dict[str, Any]]:
    return [option for option in options.get("options", []) if isinstance(option, dict)]


def _widgets(inputs: dict[str, Any]) -> Iterator[str]:
    for name, (kind, options) in inputs.items():
        if (isinstance(kind, list) or kind in _WIDGETS) and not options.get("forceInput"):
            yield name
            if options.get(AFTER):
                yield AFTER


def _input_words(inputs: dict[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for name, (_, options) in inputs.items():
        words[name] = _words(name, options)
        for option in _choices(options):
            for setting, (_, own) in _inputs(option["inputs"]).items():
                key, found = setting_key(name, setting), _words(setting, own)
                if words.setdefault(key, found) != found:
                    raise ValueError(f"{key} has other words with {option['key']}: {found}")
    return words


def _words(name: str, options: dict[str, Any]) -> dict[str, str]:
    return {
        "name": options.get("display_name") or name.replace("_", " "),
        "tooltip": options.get("tooltip", ""),
    }
