"""ComfyUI-Aether-HERO: the Aether world model in ComfyUI, accelerated with HERO."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"

if __package__:  # not where pytest, or another tool, imports this file on its own

    async def comfy_entrypoint() -> Any:
        """What ComfyUI calls to learn of our nodes."""
        from .nodes.extension import make_extension

        return make_extension()
