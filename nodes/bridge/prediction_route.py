"""The address at which the page asks for predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .messages import running_server

PATH = "/aether_hero/predict"


def serve_predictions(answer: Callable[[Any], dict[str, Any]]) -> None:
    """Have ComfyUI's server give `answer` of what is posted to ``PATH``. Does nothing where no server runs.

    Args:
        answer: takes and gives what JSON can hold; raises nothing. It is called in a thread of its own.
    """
    server = running_server()
    if server is None:
        return

    @server.routes.post(PATH)
    async def predict(request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except (ValueError, RecursionError) as error:
            reason = f"is not JSON ({type(error).__name__})"
            return web.json_response({"error": {"field": "request", "reason": reason}}, status=400)
        return web.json_response(await asyncio.to_thread(answer, asked))
