"""What a sampling run hangs on, as one short text: equal for equal content, also in another process."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from ...hero_engine.tune.weights import all_bytes, sampled_bytes
from .model import KEY, kind_of

_DEEPEST = 16  # objects within objects
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def digest(model: Any, *things: Any) -> str:
    """64 hexadecimal digits.

    Args:
        model: a MODEL. Its weights are sampled, with what is patched onto them; HERO on it does not count.
        things: tensors, which are read whole, and containers, functions and objects with such in them.
    """
    found = hashlib.sha256()
    for part in (*_model(model), *_parts(things, _Reading())):
        found.update(part)
        found.update(b"\0")
    return found.hexdigest()


def _model(model: Any) -> Iterator[bytes]:
    yield kind_of(model).encode()
    wrappers = {
        kind: {key: found for key, found in named.items() if key != KEY}
        for kind, named in model.wrappers.items()
    }
    beside = (
        model.model_options,
        {kind: named for kind, named in wrappers.items() if named},
        model.object_patches,
        model.hook_patches,
        model.get_model_object("model_sampling"),
    )
    # Weights that are patched in place are in its backup.
    weights = {name: [first[0], *rest] for name, (first, *rest) in model.get_key_patches().items()}
    yield from _parts((weights, *beside), _Reading(sampled=True))


class _Reading:
    """Where a reading is: objects that it is within, and whether it samples tensors."""

    def __init__(self, *, sampled: bool = False, within: frozenset[int] = frozenset()):
        self.sampled = sampled
        self.within = within

    def inside(self, value: Any) -> _Reading | None:
        """Of the parts of a value; None where that would go in a circle, or too deep."""
        if id(value) in self.within or len(self.within) >= _DEEPEST:
            return None
        return _Reading(sampled=self.sampled, within=self.within | {id(value)})


def _parts(value: Any, reading: _Reading) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, _PLAIN):
        yield repr(value).encode()
        return
    if isinstance(value, torch.Tensor):
        yield from _numbers(value, reading.sampled)
        return
    inner = reading.inside(value)
    if inner is None:
        return
    for part in _members(value):
        yield from _parts(part, inner)


def _members(value: Any) -> Iterator[Any]:
    """What a container, a function or an object is made of."""
    if isinstance(value, Mapping):
        yield from sorted(value.items(), key=lambda item: repr(item[0]))
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        yield from (value.__module__, value.__qualname__, value.__defaults__)
        yield from (cell.cell_contents for cell in cells)
    elif isinstance(value, torch.nn.Module):
        yield [kind.__qualname__ for kind in type(value).__mro__]
        yield {name: found for name, found in vars(value).items() if isinstance(found, int | float | str)}
        yield value.state_dict()
    else:
        yield getattr(value, "__dict__", None)


def _numbers(tensor: torch.Tensor, sampled: bool) -> Iterator[bytes]:
    yield repr((tuple(tensor.shape), tensor.dtype)).encode()
    yield sampled_bytes(tensor) if sampled else all_bytes(tensor)
