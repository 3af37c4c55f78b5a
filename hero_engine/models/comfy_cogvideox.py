"""The names of ComfyUI's own CogVideoX: twin of :mod:`hero_engine.models.diffusers_cogvideox`. Imports
nothing of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import ModelShape
from ..host import TimestepReader
from ..noise import NoiseSchedule
from ..wrapping import watched
from .adapter import (
    ATTENTION,
    FEED_FORWARD,
    KEYS,
    VALUES,
    Attend,
    BlockCall,
    Forward,
    ModelCall,
    OutputCallback,
)
from .diffusers_cogvideox import gates_of

_OVERRIDE = "optimized_attention_override"


def is_comfy_cogvideox(model: Any) -> bool:
    """Whether this is ComfyUI's CogVideoX transformer (the ``diffusion_model`` of such a MODEL)."""
    kind = type(model)
    return kind.__name__ == "CogVideoXTransformer3DModel" and kind.__module__.endswith("ldm.cogvideo.model")


class ComfyCogVideoXAdapter:
    """Reads the calls of ComfyUI's CogVideoX transformer, latents (batch, channels, frames, rows, columns).

    Args:
        transformer: the model; see :func:`is_comfy_cogvideox`.
    """

    def __init__(self, transformer: Any):
        self.model: Any = transformer  # Any, like its blocks: their names are ComfyUI's
        self.given: nn.Module = transformer
        # Within the wrappers of core's DIFFUSION_MODEL, which may leave a step out (EasyCache).
        self.entry = "_forward"
        self.blocks: list[Any] = list(transformer.blocks)
        self._attend: Attend | None = None
        self._routed = 0
        self.noise: NoiseSchedule | None = None
        self._timesteps = TimestepReader()

    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        asked = _asked(args, kwargs)
        latent, text = asked["x"], asked["context"]
        return ModelCall(
            timestep=self._timesteps.read(asked["timestep"]),
            shape=self.shape(tuple(latent.shape), text.shape[1]),
            batch=latent.shape[0],
            device=latent.device,
            signature=(tuple(latent.shape), latent.dtype, latent.device, tuple(text.shape)),
        )

    def shape(self, latent_shape: tuple[int, ...], text_tokens: int) -> ModelShape:
        """Dimensions of a call with a latent (batch, channels, frames, rows, columns) of this shape. Its weights
        may be on the meta device."""
        model = self.model
        frames_per_patch = model.patch_size_t or 1
        # Latents are padded up to whole patches.
        frames, rows, columns = (
            -(-length // patch)
            for length, patch in zip(
                latent_shape[-3:], (frames_per_patch, model.patch_size, model.patch_size), strict=True
            )
        )
        return ModelShape(
            blocks=len(self.blocks),
            width=model.dim,
            time_width=model.time_embedding_linear_2.weight.shape[0],
            text_tokens=text_tokens,
            text_width=model.patch_embed.text_proj.weight.shape[1],
            grid=(frames, rows, columns),
            in_channels=model.in_channels * frames_per_patch,
            out_channels=model.out_channels * frames_per_patch,
            patch_size=model.patch_size,
        )

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        rest = dict(kwargs)
        call = BlockCall(
            video=rest.pop("hidden_states"),
            text=rest.pop("encoder_hidden_states"),
            rotary=rest.pop("image_rotary_emb", None),
            rest=rest,
        )
        if self._attend is not None and number < self._routed:
            options = rest.get("transformer_options") or {}
            routed = _routed_attention(number, self._attend, options.get(_OVERRIDE))
            rest["transformer_options"] = {**options, _OVERRIDE: routed}
        return call

    def call_block(self, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        video, text = forward(
            hidden_states=call.video,
            encoder_hidden_states=call.text,
            image_rotary_emb=call.rotary,
            **call.rest,
        )
        return video, text

    @contextmanager
    def attention(self, blocks: int, attend: Attend) -> Iterator[None]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        self._attend, self._routed = attend, blocks
        try:
            yield
        finally:
            self._attend, self._routed = None, 0

    @contextmanager
    def watch(self, kinds: Collection[str], on_output: OutputCallback) -> Iterator[None]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        with ExitStack() as undo:
            for number, block in enumerate(self.blocks):
                for kind in kinds:
                    undo.callback(
                        watched(_part(block, kind), _shown(on_output, number, kind, block), self).remove
                    )
            yield

    def gates(self, number: int, kind: str, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        block = self.blocks[number]
        return gates_of({ATTENTION: block.norm1, FEED_FORWARD: block.norm2}[kind], call.rest["temb"])

    def feed_forward(self, number: int, call: BlockCall) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        block = self.blocks[number]
        video, text, _, _ = block.norm2(call.video, call.text, call.rest["temb"])
        inner = block.ff_proj(torch.cat([text, video], dim=1))
        output: Tensor = block.ff_out(F.gelu(inner, approximate="tanh"))
        return output

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        latent: Tensor = _asked(args, kwargs)["x"].transpose(1, 2)[:, :, : self.model.out_channels]
        return latent

    def read_output(self, result: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result.transpose(1, 2)

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return latent.transpose(1, 2)


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(("x", "timestep", "context"), args, strict=False)), **kwargs}


def _part(block: nn.Module, kind: str) -> nn.Module:
    """The module that gives a part of a block."""
    name = {ATTENTION: "attn_out", FEED_FORWARD: "ff_out", KEYS: "k", VALUES: "v"}[kind]
    part: nn.Module | None = getattr(block, name, None)
    if part is None:
        raise ConfigError(
            "transformer", f"its blocks have no {name!r}, which this method needs; use HERO or WorldCache"
        )
    return part


def _shown(on_output: OutputCallback, number: int, kind: str, block: Any) -> Callable[[Tensor], None]:
    def shown(output: Tensor) -> None:
        on_output(
            number, kind, output.unflatten(-1, (block.num_heads, -1)) if kind in (KEYS, VALUES) else output
        )

    return shown


def _routed_attention(number: int, attend: Attend, inner: Callable[..., Any] | None) -> Callable[..., Any]:
    """An attention override for one block, around the one that is set already, if any."""

    def override(
        function: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        key, value = attend(number, key, value)
        if inner is not None:
            return inner(function, query, key, value, *args, **kwargs)
        return function(query, key, value, *args, **kwargs)

    return override
