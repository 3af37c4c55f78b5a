"""Cheaper full steps on diffusers' CogVideoX: attention backend, fused projections, compiled blocks."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from ..models.diffusers_cogvideox import CogVideoXAdapter
from ..models.families import adapter_for
from ..models.joint_attention import JointAttention
from ..wrapping import installed_owner
from .backends import BACKENDS, choose_backend

# They record CUDA graphs, which write a new result over the last one; sessions keep what blocks returned.
_GRAPH_MODES = ("reduce-overhead", "max-autotune")


class Optimization:
    """What :func:`optimize` put on a model, until its ``with`` block ends or :meth:`remove` is called.

    Attributes:
        attention: the backend in use, one of ``hero_engine.speed.backends.BACKENDS``.
    """

    def __init__(self, attention: str, undo: ExitStack):
        self.attention = attention
        self._undo = undo

    def remove(self) -> None:
        """Put everything back as it was; further calls do nothing. Sessions begun meanwhile must be over."""
        self._undo.close()

    def __enter__(self) -> Optimization:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def optimize(
    transformer: Any,
    attention: str = "auto",
    fuse_qkv: bool = False,
    compile: bool | Mapping[str, Any] = False,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Optimization:
    """Make the model's full steps cheaper, also inside the HERO sessions that begin later.

    Args:
        transformer: diffusers' ``CogVideoXTransformer3DModel``.
        attention: ``"auto"``: the fastest that runs here and computes exactly (see
            :func:`~hero_engine.speed.backends.choose_backend`); ``"sdpa"``: torch's own, bit-identical to
            the model as it is; ``"cudnn"``; ``"flash"`` (flash-attn 2); ``"flash3"``; ``"sage"``, which
            rounds queries and keys to 8 bits.
        fuse_qkv: one projection instead of three, equal up to rounding. Holds a copy of their weights (2.4 GB
            in bfloat16 at Aether's size).
        compile: True compiles the blocks with ``torch.compile``, equal up to rounding. Each length of
            sequence is a variant of its own (full and cached steps make two), compiled when it first comes. A
            mapping gives arguments of ``torch.compile``, such as ``{"mode": "max-autotune-no-cudagraphs"}``.
            Methods that reach inside the blocks (FORA, TaylorSeer, ToCa, DuCa) run them uncompiled. Before
            torch 2.5 every block is a variant.
        device, dtype: where and in what the model will run, if its weights are elsewhere now or stored
            otherwise (diffusers' own group offloading and layerwise casting are known). Only the choice of
            attention asks for them.

    Returns:
        an :class:`Optimization`, which is a context manager.

    Raises:
        ConfigError: the model is not supported or under HERO already, the backend does not run here, the
            projections cannot be fused, or the mode of compilation uses CUDA graphs.
    """
    adapter = adapter_for(transformer)
    if not isinstance(adapter, CogVideoXAdapter):
        raise ConfigError("transformer", "is not diffusers' CogVideoX, which is what can be optimized here")
    if installed_owner(adapter.model) is not None:
        raise ConfigError("transformer", "HERO is on it; optimize first, then begin the session")
    arguments = _compile_arguments(compile)
    attentions = [block.attn1 for block in adapter.blocks]
    backend = choose_backend(
        attention,
        torch.device(device or adapter.model.device),
        dtype or adapter.model.dtype,
        adapter.model.config.attention_head_dim,
    )
    with ExitStack() as undo:
        for module in attentions:
            _put(module, "processor", JointAttention(BACKENDS[backend]), undo)
        if fuse_qkv:
            _fuse(attentions, undo)
        if arguments is not None:
            _compile(adapter.blocks, arguments, undo)
        return Optimization(backend, undo.pop_all())


def _put(module: nn.Module, name: str, value: Any, undo: ExitStack) -> None:
    """Set an attribute until `undo` is closed."""
    if name in vars(module):
        undo.callback(setattr, module, name, vars(module)[name])
    else:
        undo.callback(delattr, module, name)
    setattr(module, name, value)


def _fuse(attentions: Sequence[Any], undo: ExitStack) -> None:
    apart = [attention for attention in attentions if not attention.fused_projections]
    for attention in apart:
        projections = (attention.to_q, attention.to_k, attention.to_v)
        # LoRA and 8-bit layers are other classes; offloading and casts on the fly replace `forward`.
        if any(type(layer) is not nn.Linear or "forward" in vars(layer) for layer in projections):
            raise ConfigError(
                "fuse_qkv",
                "the projections are not plain layers; merge LoRA (fuse_lora) and put offloading and 8-bit "
                "storage on afterwards, or leave fuse_qkv off",
            )
    for attention in apart:
        undo.callback(_take_apart, attention)
        with torch.no_grad():
            attention.fuse_projections()


def _take_apart(attention: Any) -> None:
    attention.fused_projections = False
    del attention.to_qkv


def _compile_arguments(given: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    if given is False:
        return None
    # Variants of fixed lengths run faster than one of any length, and a run has only two.
    arguments = {"dynamic": False, **({} if given is True else given)}
    if arguments.get("mode") in _GRAPH_MODES:
        raise ConfigError(
            "compile",
            f"mode {arguments['mode']!r} records CUDA graphs, whose results do not last; "
            "use 'max-autotune-no-cudagraphs' or no mode",
        )
    return arguments


def _compile(blocks: Sequence[nn.Module], arguments: dict[str, Any], undo: ExitStack) -> None:
    # A code object of its own: there dynamo keeps the variants, counts them and lets go of them.
    own = types.FunctionType(_call.__code__.replace(), globals())
    compiled = torch.compile(own, **arguments)
    first, *others = blocks
    _put(first, "_compiled_call_impl", functools.partial(_call_copied, compiled, first), undo)
    for block in others:
        _put(block, "_compiled_call_impl", functools.partial(compiled, block), undo)


def _call(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return block._call_impl(*args, **kwargs)


def _call_copied(compiled: Any, block: nn.Module, **kwargs: Any) -> Any:
    """The first block is given slices of one tensor, whose strides would make variants of their own."""
    for name in ("hidden_states", "encoder_hidden_states"):
        kwargs[name] = kwargs[name].clone(memory_format=torch.contiguous_format)
    return compiled(block, **kwargs)
