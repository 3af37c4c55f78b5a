"""Words to whoever looks at the canvas."""

from __future__ import annotations

import sys
from typing import Any

MINIATURE = "miniature"
"""Name of the bundled model."""


def show_text(node_id: str | None, text: str) -> None:
    """Text on a node, in place of the one before. Does nothing where no server runs.

    Lines after the first get a bullet: Nodes 2.0 shows all of them in one paragraph.
    """
    server = running_server()
    if server is not None and node_id is not None:
        server.send_progress_text(text.replace("\n", "\n• "), node_id, server.client_id)


def show_notes(node_id: str | None, notes: list[str]) -> None:
    """What was assumed, on a node. web/notes.js clears the text of the run before."""
    if notes:
        show_text(node_id, "\n".join(notes))


def send_event(name: str, data: dict[str, Any]) -> None:
    """An event for the pack's JavaScript. Does nothing where no server runs."""
    server = running_server()
    if server is not None:
        server.send_sync(name, data, server.client_id)


def running_server() -> Any | None:
    """ComfyUI's ``PromptServer``; None where the nodes are used without one."""
    # A server that runs has imported its module; importing it here would load all of ComfyUI.
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
