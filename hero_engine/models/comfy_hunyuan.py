"""ComfyUI's own HunyuanVideo 1 and 1.5, and HunyuanImage 2.1, which is the same class: blocks with two
streams, text and video, followed by blocks with one that holds both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .comfy import ComfyAdapter
from .gathering import picked

_DOUBLE = ("img", "txt", "vec", "pe", "attn_mask", "modulation_dims_img", "modulation_dims_txt")
_SINGLE = ("x", "vec", "pe", "attn_mask", "modulation_dims")
"""Arguments of the two kinds of blocks in order."""

# (first token, the one after the last or None for all that follow, row of the modulation)
Range = tuple[int, int | None, int]


@dataclass(frozen=True)
class Conditions:
    """What a call is given in addition to the prompt.

    Attributes:
        reference: tokens of a reference latent, before the grid's.
        beside: tokens that run with the prompt's: of byT5 (text to be rendered) and of CLIP vision.
        replaced: whether the first frame is given, with its own timestep.
    """

    reference: int = 0
    beside: tuple[int, int] = (0, 0)
    replaced: bool = False


class HunyuanAdapter(ComfyAdapter):
    """Reads the calls of core's ``HunyuanVideo``: latents (batch, channels, frames, rows, columns), without
    frames where its patches have none."""

    in_place = True
    in_order = True  # modulation is by ranges of tokens

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return [*self.model.double_blocks, *self.model.single_blocks]

    def shape(
        self, latent: tuple[int, ...], text_tokens: int, conditions: Conditions | None = None
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            conditions: None for a prompt alone.
        """
        conditions = conditions or Conditions()
        model, width = self.model, self.model.hidden_size
        patch = math.prod(model.patch_size)
        *frames, rows, columns = _tokens(latent[2:], model.patch_size)
        grid = (math.prod(frames), rows, columns)
        entering = (math.prod(grid) + conditions.reference) * latent[1]
        leaving = math.prod(grid) * model.out_channels
        return ModelShape(
            stack=self._stack(conditions),
            width=width,
            grid=grid,
            text_tokens=text_tokens + sum(conditions.beside),
            outside=(entering + leaving) * width * patch + self._embedding(text_tokens, conditions),
            token_numbers=model.out_channels * patch,
            extra=(conditions.reference, 0),
            keeps_text=True,  # the blocks cannot split an empty text stream into heads
        )

    def _stack(self, conditions: Conditions) -> tuple[BlockShape, ...]:
        """1.5 has no blocks of one stream."""
        shapes = {"double_blocks": _double_shape, "single_blocks": _single_shape}
        stacks = ((getattr(self.model, name), shape) for name, shape in shapes.items())
        return tuple(shape(blocks, 1 + conditions.replaced) for blocks, shape in stacks if len(blocks))

    def _embedding(self, text_tokens: int, conditions: Conditions) -> int:
        """Multiplications for the text tokens, and for what modulates the blocks."""
        model, prompt = self.model, self.model.txt_in
        refiners = prompt.individual_token_refiner.blocks
        timesteps = _linear(model.time_in, model.final_layer.adaLN_modulation)
        once = _linear(model.vector_in, model.guidance_in, model.time_r_in)
        once += _linear(prompt.t_embedder, prompt.c_embedder)
        word = _linear(prompt.input_embedder)
        for block in refiners:
            once += _linear(block.adaLN_modulation)
            word += _linear(block.self_attn, block.mlp)
        attention = 2 * len(refiners) * text_tokens * model.hidden_size
        glyphs, pictures = conditions.beside
        total: int = (
            (1 + conditions.replaced) * timesteps
            + once
            + text_tokens * (word + attention)
            + glyphs * _linear(model.byt5_in)
            + pictures * _linear(model.vision_in)
        )
        return total

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return self.shape(tuple(asked["x"].shape), asked["context"].shape[1], *self.variant(asked))

    def variant(self, asked: dict[str, Any]) -> tuple[Any, ...]:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        reference, glyphs, pictures = (asked.get(name) for name in ("ref_latent", "txt_byt5", "clip_fea"))
        in_front = () if reference is None else _tokens(reference.shape[2:], self.model.patch_size)
        conditions = Conditions(
            reference=math.prod(in_front) if in_front else 0,
            beside=(
                0 if glyphs is None or self.model.byt5_in is None else glyphs.shape[1],
                0 if pictures is None else pictures.shape[1],
            ),
            replaced=asked.get("guiding_frame_index") is not None,
        )
        return (conditions,)

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        double = number < len(self.model.double_blocks)
        named = {**dict(zip(_DOUBLE if double else _SINGLE, args, strict=False)), **kwargs}
        if double:
            video, text = unchanged = named.pop("img"), named.pop("txt")
        else:
            unchanged = named.pop("x")
            words = named["transformer_options"]["img_slice"][0]
            text, video = unchanged[:, :words], unchanged[:, words:]
        ranges = "modulation_dims_img" if double else "modulation_dims"
        positions = {name: named.pop(name) for name in ("pe", "attn_mask", ranges)}
        kind = "double" if double else "single"
        return BlockCall(args, kwargs, unchanged, video, text, positions, named, kind)

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        if call.kind == "double":
            return {"img": call.video, "txt": call.text, **call.positions, **call.rest}
        joint = torch.cat([call.text, call.video], dim=1)
        # For patches of the attention: where the video's tokens are.
        place = {"img_slice": [call.text.shape[1], joint.shape[1]]}
        options = {"transformer_options": call.rest["transformer_options"] | place}
        return {"x": joint, **call.positions, **call.rest, **options}

    def unpack(self, call: BlockCall, result: Any) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        if call.kind == "double":
            video, text = result
            return video, text
        words = call.text.shape[1]
        return result[:, words:], result[:, :words]

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> Any:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return (video, text) if call.kind == "double" else torch.cat([text, video], dim=1)

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. The text tokens are always there. Ranges of
        modulation are of the video in blocks of two streams, and of text and video in those of one."""
        words = call.text.shape[1]
        joint = torch.cat([torch.arange(words, device=tokens.device), tokens + words])
        gathered: dict[str, Any] = {}
        for name, value in call.positions.items():
            if name.startswith("modulation_dims"):
                gathered[name] = _ranges(value, tokens if call.kind == "double" else joint)
            else:
                gathered[name] = picked(value, 2, joint)
        return gathered

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return self.read_output(self.asked(args, kwargs)["x"][:, : self.out_channels])

    def read_output(self, result: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return super().read_output(result if self._has_frames else result.unsqueeze(2))

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        output = super().make_output(latent, args, kwargs)
        return output if self._has_frames else output.squeeze(2)

    @property
    def _has_frames(self) -> bool:
        """Whether latents have frames; those of pictures have none."""
        return len(self.model.patch_size) == 3


def _double_shape(blocks: Sequence[Any], timesteps: int) -> BlockShape:
    """Blocks of two streams, modulated by this many timesteps."""
    block = blocks[0]
    return BlockShape(
        count=len(blocks),
        token=_linear(block.img_attn, block.img_mlp),  # the text's own have the same size
        feed_forward=_linear(block.img_mlp),
        fixed=timesteps * _linear(block.img_mod, block.txt_mod),
        attention=block.hidden_size,
    )


def _single_shape(blocks: Sequence[Any], timesteps: int) -> BlockShape:
    """Blocks of one stream, modulated by this many timesteps."""
    block = blocks[0]
    return BlockShape(
        count=len(blocks),
        token=_linear(block.linear1, block.linear2),
        feed_forward=2 * block.hidden_size * block.mlp_hidden_dim,
        fixed=timesteps * _linear(block.modulation),
        attention=block.hidden_size,
    )


def _tokens(sides: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Tokens along each side of a latent; it is padded up to whole patches."""
    return tuple(-(-side // part) for side, part in zip(sides, patch, strict=True))


def _linear(*modules: Any) -> int:
    """Multiplications that the linear layers inside make for a token."""
    parts: Iterator[Any] = (part for module in modules if module is not None for part in module.modules())
    return sum(part.in_features * part.out_features for part in parts if hasattr(part, "in_features"))


def _ranges(ranges: Sequence[Range] | None, tokens: Tensor) -> list[Range] | None:
    """Ranges of a sequence, as ranges of some of its tokens.

    Args:
        tokens: their numbers in the sequence, ascending.
    """
    if ranges is None:
        return None
    edges = [edge for first, last, _ in ranges for edge in (first, last) if edge is not None]
    places = torch.searchsorted(tokens, torch.tensor(edges, device=tokens.device)).tolist()
    place = dict(zip(edges, places, strict=True))
    return [(place[first], None if last is None else place[last], row) for first, last, row in ranges]
