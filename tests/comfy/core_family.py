"""The laws of model families on classes of ComfyUI's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.family_laws import FamilyLaws


class ComfyFamily(FamilyLaws):
    """A model of core's class: ``forward(x, timestep, context, **inputs)``."""

    context: tuple[int, int] = (7, 32)
    """Tokens and width of the prompt."""

    @pytest.fixture
    def hero(self, part: Any) -> Any:
        """The engine of the pack."""
        part("hero_engine.hero.steps")
        return part("hero_engine")

    def inputs(self, batch: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(2)
        return {
            "context": torch.randn(1, *self.context, generator=generator).expand(batch, -1, -1),
            "transformer_options": {},
        } | self.conditions(batch, generator)

    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        """Further arguments of the model."""
        return {}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        return torch.full((len(latent),), timestep)

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        """The latent with the conditions that stand beside it as channels."""
        return latent

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        return model(self.prepared(latent), self.timestep(timestep, latent), **inputs)

    @contextmanager
    def attending(self, inputs: dict[str, Any], keys: torch.Tensor, total: int):
        def narrowed(function: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
            axis = 2 if kwargs.get("skip_reshape") else 1
            if k.shape[axis] == total:
                k, v = k.index_select(axis, keys), v.index_select(axis, keys)
                if kwargs.get("mask") is not None:
                    kwargs = kwargs | {"mask": kwargs["mask"][..., keys]}
            return function(q, k, v, *args, **kwargs)

        yield inputs | {"transformer_options": {"optimized_attention_override": narrowed}}
