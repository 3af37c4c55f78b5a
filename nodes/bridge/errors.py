"""How the libraries' errors reach the canvas: as a sentence, without a Python path before it.

ComfyUI shows ``full.name.of.the.Type: text``, and leaves the module out for Python's own types only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from ...aether.errors import InputError
from ...hero_engine import ConfigError


class CanvasError(ValueError):
    """An error about an input, in the words that the artist reads: ``Aether: field: text``."""


CanvasError.__module__ = "builtins"
CanvasError.__qualname__ = "Aether"


@contextmanager
def on_canvas() -> Iterator[None]:
    """Around whatever ComfyUI calls: errors about a field, its message unchanged, become CanvasErrors.

    Raises:
        CanvasError: in place of InputError and ConfigError, which stay attached as its cause.
    """
    try:
        yield
    except (InputError, ConfigError) as error:
        raise CanvasError(str(error)) from error


def with_plain_errors(node: type[Any]) -> type[Any]:
    """A node like this one, whose errors are shown plainly."""
    own = {name: vars(node).get(name) for name in ("check_lazy_status", "execute")}
    plain = {name: classmethod(_plain(method.__func__)) for name, method in own.items() if method}
    return type(node.__name__, (node,), {"__module__": node.__module__, "__doc__": node.__doc__} | plain)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    if not iscoroutinefunction(function):
        return on_canvas()(function)

    @wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with on_canvas():
            return await function(*args, **kwargs)

    return run
