"""What diffusers' models have in common: how they are called."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from typing import Any

from torch import Tensor

from ..flops import ModelShape
from ..wrapping import CALLS
from .adapter import ModelAdapter, ModelCall


class DiffusersAdapter(ModelAdapter):
    """Reads the calls of one of diffusers' transformers.

    Args:
        transformer: the model, also where ``torch.compile`` has wrapped it.

    Attributes:
        channel_dim: dimension of channels in its latents.
    """

    entry = CALLS
    channel_dim = 1

    def __init__(self, transformer: Any):
        super().__init__(transformer)
        self._signature = inspect.signature(type(self.model).forward)

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.transformer_blocks)

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a forward by name."""
        return self._signature.bind(self.model, *args, **kwargs).arguments

    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        asked = self.asked(args, kwargs)
        self.check(asked)
        latent, shape = asked["hidden_states"], self.shape_of_call(asked)
        adapters = self._adapters(asked.get("attention_kwargs"))
        return ModelCall(
            timestep=self._timesteps.read(self.timestep_of(asked)),
            shape=shape,
            batch=latent.shape[0],
            device=latent.device,
            signature=(tuple(latent.shape), latent.dtype, latent.device, shape, adapters),
        )

    def timestep_of(self, asked: dict[str, Any]) -> Tensor | float:
        """The scheduler's timestep, the highest of one per frame or token: given frames have lower ones."""
        timestep: Tensor | float = asked["timestep"]
        return timestep.amax() if isinstance(timestep, Tensor) and timestep.ndim > 1 else timestep

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """The dimensions of a call with these arguments."""
        return self.shape(tuple(asked["hidden_states"].shape), asked["encoder_hidden_states"].shape[1])

    def check(self, asked: dict[str, Any]) -> None:
        """Refuse what cached steps cannot follow.

        Raises:
            ConfigError: names what it is (field ``"transformer"``).
        """

    def _adapters(self, attention_kwargs: dict[str, Any] | None) -> tuple[Hashable, ...]:
        """The adapters of peft at work and their strengths; they change what the blocks compute."""
        if not getattr(self.model, "peft_config", None):
            return ()
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        strengths = {
            (layer.disable_adapters, tuple(layer.active_adapters), tuple(sorted(_scaling(layer).items())))
            for layer in layers
        }
        return frozenset(strengths), (attention_kwargs or {}).get("scale")

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        latent: Tensor = self.asked(args, kwargs)["hidden_states"]
        return latent.narrow(self.channel_dim, 0, self.out_channels)

    @property
    def out_channels(self) -> int:
        """Channels of the model's answer."""
        return int(self.model.config.out_channels)

    def read_output(self, result: Any) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        latent: Tensor = result[0]
        return latent

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        asked = self.asked(args, kwargs)
        return Transformer2DModelOutput(sample=latent) if asked.get("return_dict", True) else (latent,)


def _scaling(layer: Any) -> dict[str, float]:
    """Strength of each adapter of a layer, for the kinds that have one."""
    return getattr(layer, "scaling", {})
