"""What ComfyUI's own models have in common: how they are called, and what is refused on them. Imports nothing
of ComfyUI."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..flops import ModelShape
from ..wrapping import CALLS
from .adapter import ModelAdapter, ModelCall

_BETWEEN_BLOCKS = ("double_block", "single_block")


class ComfyAdapter(ModelAdapter):
    """Reads the calls of one of core's ``diffusion_model``: latents (batch, channels, frames, rows, columns).

    Args:
        transformer: the ``diffusion_model`` of a MODEL.
    """

    # Within the wrappers of core's DIFFUSION_MODEL, which may leave a step out (EasyCache).
    entry = "_forward"
    patches_inside: tuple[str, ...] = ()
    """Kinds of patches that its blocks apply and that may go by the place of a token in the whole stream."""

    def __init__(self, transformer: Any):
        super().__init__(transformer)
        method = "forward" if self.entry == CALLS else self.entry
        self._signature = inspect.signature(getattr(type(self.model), method))

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a forward by name, including those in ``**kwargs``; the timestep as "timestep"."""
        bound = self._signature.bind(self.model, *args, **kwargs).arguments
        rest = bound.pop("kwargs", {})
        named = {**bound, **rest}
        if "timesteps" in named:
            named["timestep"] = named.pop("timesteps")
        return named

    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        asked = self.asked(args, kwargs)
        self.check(asked)
        latent, text, timestep = asked["x"], asked["context"], asked["timestep"]
        if timestep.ndim > 1:  # one per frame: those of given pictures are 0
            timestep = timestep.amax()
        return ModelCall(
            timestep=self._timesteps.read(timestep),
            shape=self.shape_of_call(asked),
            batch=latent.shape[0],
            device=latent.device,
            signature=(
                tuple(latent.shape),
                latent.dtype,
                latent.device,
                tuple(text.shape),
                self.variant(asked),
            ),
        )

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """The dimensions of a call with these arguments."""
        return self.shape(tuple(asked["x"].shape), asked["context"].shape[1])

    def variant(self, asked: dict[str, Any]) -> tuple[Any, ...]:
        """What else of the arguments decides how many tokens there are."""
        return ()

    def check(self, asked: dict[str, Any]) -> None:
        """Refuse whatever acts between the blocks or replaces them, since cached steps leave it out.

        Raises:
            ConfigError: names what it is (field ``"model"``).
        """
        options = asked.get("transformer_options") or {}
        replaced = options.get("patches_replace", {}).get("dit")
        if replaced or any(options.get("patches", {}).get(name) for name in _BETWEEN_BLOCKS):
            raise ConfigError(
                "model",
                "another node replaces its blocks or adds to their output (Skip Layer Guidance, a control "
                "patch), which cached steps would leave out: bypass HERO or that node",
            )
        if asked.get("control") is not None:
            raise ConfigError(
                "model",
                "a ControlNet adds to its blocks, which cached steps leave out: bypass one of the two",
            )
        if any(options.get("patches", {}).get(name) for name in self.patches_inside):
            raise ConfigError(
                "model",
                "another node changes its attention or feed-forward token by token (InfiniteTalk, Anima "
                "LLLite), which does not fit the selected tokens of cached steps: bypass HERO or that node",
            )

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        latent: Tensor = self.asked(args, kwargs)["x"].transpose(1, 2)
        return latent[:, :, : self.out_channels]

    @property
    def out_channels(self) -> int:
        """Channels of the model's answer."""
        return int(self.model.out_channels)

    def read_output(self, result: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result.transpose(1, 2)

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return latent.transpose(1, 2)
