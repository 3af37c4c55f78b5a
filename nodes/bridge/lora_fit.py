"""Whether what a LoRA file changes fits the matrices that it changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from ...aether.errors import InputError
from ...aether.model.lora_files import seems_for

_TWO_B_WIDTH = 1920
"""Of CogVideoX-2B, whose matrices are called as Aether's."""


def check_fit(lora: str, name: str, patch: Any, weight: torch.Tensor | None, keys: Iterable[str]) -> None:
    """Raise where a change does not fit its matrix; core would log that and leave the matrix out.

    Args:
        lora: the file, for messages.
        name: the matrix.
        patch: what core made of the file's tensors.
        weight: the matrix; None where the model has no such.
        keys: of the whole file, by which the model that it was made for is guessed.

    Raises:
        InputError: field "lora".
    """
    if weight is None:
        raise InputError("lora", f"{lora} was made for another model: this one has no {name}")
    if isinstance(patch, tuple):  # ("diff" or "set", (tensor,))
        given, wanted = tuple(patch[1][0].shape), tuple(weight.shape)
    elif patch.name in _SHAPES:
        given, wanted = _SHAPES[patch.name](patch.weights), _rows_columns(weight)
    elif patch.name in _BLOCKS:
        rows, columns = _rows_columns(weight)
        given, wanted = _turned(patch.weights[0], _BLOCKS[patch.name], columns), (rows, columns)
    else:
        raise InputError("lora", f"{lora} is of a kind that is not read ({patch.name}); use {_READ}")
    if _resizes(patch):
        raise InputError("lora", f"{lora} was made for another model: it changes the size of {name}")
    if given is None:
        raise InputError("lora", f"{lora} is damaged: the parts of {name} do not fit each other")
    if given != wanted:
        raise InputError(
            "lora",
            f"{lora} was made for another model: its {name} is {' x '.join(map(str, given))}, "
            f"this one's {' x '.join(map(str, wanted))}{_guess(given, keys)}",
        )


def _guess(given: tuple[int, ...], keys: Iterable[str]) -> str:
    family = "CogVideoX-2B" if _TWO_B_WIDTH in given else seems_for(keys)
    return f". It seems to be for {family}" if family else ""


def _rows_columns(matrix: torch.Tensor) -> tuple[int, int]:
    """What a matrix is to core: the further dimensions of a convolution's are columns."""
    return matrix.shape[0], math.prod(matrix.shape[1:])


def _product(
    up: torch.Tensor | None, down: torch.Tensor | None, core: torch.Tensor | None = None
) -> tuple[int, int] | None:
    """Rows and columns of two factors' product, or of a Tucker decomposition; None if they do not fit."""
    if up is None or down is None or up.ndim < 2 or down.ndim < 2:
        return None
    if core is None:
        inner = up.shape[1]
        return (up.shape[0], _rows_columns(down)[1]) if inner == down.shape[0] and inner else None
    if core.ndim < 2 or core.shape[:2] != (up.shape[0], down.shape[0]):
        return None
    return up.shape[1], down.shape[1] * math.prod(core.shape[2:])


def _lora_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    return _product(*weights[:2])


def _loha_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    up_1, down_1, _, up_2, down_2, core_1, core_2, _ = weights
    first, second = _product(up_1, down_1, core_1), _product(up_2, down_2, core_2)
    return first if first == second else None


def _lokr_shape(weights: tuple[Any, ...]) -> tuple[int, int] | None:
    whole_1, whole_2, _, up_1, down_1, up_2, down_2, core, _ = weights
    first = _product(up_1, down_1) if whole_1 is None else _rows_columns(whole_1)
    second = _product(up_2, down_2, core) if whole_2 is None else _rows_columns(whole_2)
    return first and second and (first[0] * second[0], first[1] * second[1])


_SHAPES = {"lora": _lora_shape, "loha": _loha_shape, "lokr": _lokr_shape}
"""By core's name of an adapter: rows and columns of what its parts make, None if they do not fit together."""

_BLOCKS = {"oft": 3, "boft": 4}
"""By core's name of an adapter that turns a matrix's rows in blocks: dimensions of the blocks' tensor."""

_READ = "LoRA, LoHa, LoKr or OFT"


def _turned(blocks: torch.Tensor, dimensions: int, columns: int) -> tuple[int, int] | None:
    """Rows and columns of the matrix whose rows these blocks turn."""
    if blocks.ndim != dimensions or blocks.shape[-1] != blocks.shape[-2]:
        return None
    return blocks.shape[-3] * blocks.shape[-1], columns


def _resizes(patch: Any) -> bool:
    """Whether a change makes its matrix larger, as those of Flux's control LoRAs do."""
    return not isinstance(patch, tuple) and patch.name == "lora" and patch.weights[5] is not None
