"""A custom node for tests: conditioning and an empty latent for a model of core_models.py, in place of text
encoders and of core's nodes for pictures. A server has core_models.py beside it."""

from __future__ import annotations

from typing import Any

import torch

from .core_models import CORE_MODELS, VACE, Size


class CoreTask:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING", "CONDITIONING", "LATENT"), "make", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        sizes = {name: ("INT", {"min": 1}) for name in ("frames", "rows", "columns", "tokens")}
        return {"required": {"model": ("STRING", {}), **sizes}}

    def make(self, model: str, **sizes: int) -> tuple[Any, ...]:
        made, size = (CORE_MODELS | {"vace": VACE})[model], Size(**sizes)
        latent = torch.zeros(1, made.latent[0], size.frames, size.rows, size.columns)
        return made.conditioning(1, size), made.conditioning(2, size), {"samples": latent}


NODE_CLASS_MAPPINGS = {"CoreTask": CoreTask}
