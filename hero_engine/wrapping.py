"""Putting functions around the calls of modules, and taking them off again."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

from torch import nn

from .errors import ConfigError

# (original call, positional arguments, keyword arguments) -> result
Wrapper = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

CALLS = "_compiled_call_impl"
"""Where a torch module keeps what is called in its stead."""


class Wrapped:
    """Stands around the calls of a module; the module, its ``forward``, name and parameters stay as they are.

    It takes the place that ``module.compile()`` has, in front of ``forward`` and its hooks: accelerate and
    diffusers put hooks on ``forward`` and take them off again while they offload, and would take whatever is
    on top of them along. A copy of the module has no wrapper: what a run has cached belongs to one model.

    Args:
        module: the module.
        wrapper: is called in its stead, with the original.
        owner: whoever put it there.
        keep_compiled: what to do with a module compiled in place (``module.compile()``). True: stand around
            the compiled call, which goes on running compiled. False: it runs uncompiled meanwhile, for
            wrappers that reach inside it; a compiled call would bake one step's path in.
        method: what to stand in for, if not calls as such.
    """

    def __init__(
        self,
        module: nn.Module,
        wrapper: Wrapper,
        owner: Any,
        keep_compiled: bool = False,
        method: str = CALLS,
    ):
        self.owner: Any | None = owner
        self._wrapper: Wrapper | None = wrapper
        self._method, self._keep_compiled = method, keep_compiled
        # In a module of torch.compile(), attributes set as usual go to the module within.
        self._attributes = vars(module)
        self._before = self._attributes.get(method)
        compiled = self._before if keep_compiled else None
        self._original = compiled or getattr(module, "_call_impl" if method == CALLS else method)
        self._attributes[method] = self
        self._sign: Any = None
        if method == CALLS and not compiled and "forward" not in self._attributes:
            # Where a module has its class's forward, dynamo inlines that and passes calls by.
            self._sign = self._attributes["forward"] = types.MethodType(type(module).forward, module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._wrapper is None:
            return self._original(*args, **kwargs)
        return self._wrapper(self._original, args, kwargs)

    @property
    def run(self) -> Any:
        """The owner's run, for samplers that look for it on the model (``aether/generation/sampling.py``)."""
        return getattr(self.owner, "run", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._original, memo)

    def stay_on_top(
        self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Stands around ``module.compile()``, which takes the same place: what it compiles comes beneath."""
        original(*args, **kwargs)
        self._before = self._attributes[self._method]
        if self._keep_compiled:
            self._original = self._before
        self._attributes[self._method] = self

    def remove(self) -> None:
        """Put back what was there before.

        Where somebody has wrapped the module again meanwhile, theirs stays and this one only passes through.
        """
        self._wrapper = self.owner = None
        if self._sign is not None and self._attributes.get("forward") is self._sign:
            del self._attributes["forward"]
        if self._attributes.get(self._method) is not self:
            return
        if self._before is None:
            del self._attributes[self._method]
        else:
            self._attributes[self._method] = self._before


def without_replicas(module: nn.Module, owner: Any) -> Wrapped:
    """Refuse the copies that ``torch.nn.DataParallel`` makes, until the wrapper is removed.

    They take over a module's attributes as they are: wrapped modules would run the original's weights, and
    all copies at once would write to what the one run has cached.
    """

    def refuse(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise ConfigError(
            "transformer",
            "DataParallel cannot copy a model while HERO is on it: what is cached belongs to one device. "
            "Give every device a process of its own, or take HERO off",
        )

    return Wrapped(module, refuse, owner, method="_replicate_for_data_parallel")


def installed_owner(module: nn.Module) -> Any | None:
    """The owner of the wrapper on a module, or None."""
    wrappers = (value for value in vars(module).values() if isinstance(value, Wrapped))
    return next((wrapper.owner for wrapper in wrappers if wrapper.owner is not None), None)


def watched(module: nn.Module, on_output: Callable[[Any], None], owner: Any) -> Wrapped:
    """Call `on_output` with everything that a module returns, until the wrapper is removed."""

    def wrapper(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        on_output(result)
        return result

    return Wrapped(module, wrapper, owner)
