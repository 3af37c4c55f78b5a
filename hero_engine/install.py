"""Putting functions around the forwards of modules, and taking them off again."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from .errors import ConfigError

# (original forward, positional arguments, keyword arguments) -> result
Wrapper = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class WrappedForward:
    """Stands in for a module's ``forward``, or for another method of it; the module, its name and its
    parameters stay as they are.

    Args:
        module: the module.
        wrapper: is called in its stead, with the original.
        owner: whoever put it there.
        keep_compiled: what to do with a module compiled in place (``module.compile()``). True: stand around
            the compiled call, which goes on running compiled. False: it runs uncompiled meanwhile, for
            wrappers that reach inside it; a compiled call would bake one step's path in.
        method: what to stand in for.
    """

    def __init__(
        self,
        module: nn.Module,
        wrapper: Wrapper,
        owner: Any,
        keep_compiled: bool = False,
        method: str = "forward",
    ):
        # Libraries look at the signature of `forward` to see what a model takes.
        functools.update_wrapper(self, getattr(module, method))
        self.owner: Any | None = owner
        self._module = module
        self._wrapper: Wrapper | None = wrapper
        self._compiled_call = module._compiled_call_impl if method == "forward" else None
        compiled = self._compiled_call is not None
        self._place = "_compiled_call_impl" if compiled and keep_compiled else method
        self._had_own = self._place in vars(module)
        self._original = getattr(module, self._place)
        if compiled:
            module._compiled_call_impl = None
        setattr(module, self._place, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._wrapper is None:
            return self._original(*args, **kwargs)
        return self._wrapper(self._original, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the module has its original forward: what a run has cached belongs to one model."""
        return copy.deepcopy(self._original, memo)

    def remove(self) -> None:
        """Put the original forward back.

        Where somebody has wrapped the module again meanwhile, theirs stays and this one only passes through.
        """
        self._wrapper = self.owner = None
        module = vars(self._module)
        ours = module.get(self._place) is self
        if self._compiled_call is not None and self._place == "forward":
            self._module._compiled_call_impl = self._compiled_call
        if not ours:
            return
        if self._had_own:
            setattr(self._module, self._place, self._original)
        else:
            delattr(self._module, self._place)


def without_replicas(module: nn.Module, owner: Any) -> WrappedForward:
    """Refuse the copies that ``torch.nn.DataParallel`` makes, until the wrapper is removed.

    They take over a module's attributes as they are: wrapped forwards would run the original's weights, and
    all copies at once would write to what the one run has cached.
    """

    def refuse(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise ConfigError(
            "transformer",
            "DataParallel cannot copy a model while HERO is on it: what is cached belongs to one device. "
            "Give every device a process of its own, or take HERO off",
        )

    return WrappedForward(module, refuse, owner, method="_replicate_for_data_parallel")


def installed_owner(module: nn.Module) -> Any | None:
    """The owner of the wrapper on a module, or None."""
    forward = vars(module).get("forward")
    return forward.owner if isinstance(forward, WrappedForward) else None


def watched(module: nn.Module, see: Callable[[Any], None], owner: Any) -> WrappedForward:
    """Show `see` everything that a module returns, until the wrapper is removed."""

    def wrapper(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        see(result)
        return result

    return WrappedForward(module, wrapper, owner)
