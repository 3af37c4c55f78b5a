"""A method's settings as one line of text that people can read, share and edit. No torch.

tau=25% shallow=forecast text=omit feedback=1 mask="5 of 8: 11101001"
"""

from __future__ import annotations

import argparse
import re
import shlex
import unicodedata
from collections.abc import Iterator
from typing import Any, TypeVar, get_type_hints

from .command_options import reader_of
from .errors import ConfigError
from .settings import MethodConfig

Config = TypeVar("Config", bound=MethodConfig)

LONGEST = 4000
"""Characters of a text; the longest mask with a space after every step takes half of them."""
_ADVICE = (
    "write name=value with spaces between the settings, and values with spaces in quotation marks: "
    'tau=25% mask="4 of 7: 1110100"'
)
# What chats and documents put in place of plain characters, besides what NFKC undoes (such as spaces that do
# not break).
_PLAIN = (
    dict.fromkeys(map(ord, "“”„‟«»"), '"')
    | dict.fromkeys(map(ord, "‘’‚‛"), "'")
    | dict.fromkeys(map(ord, "`\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
    | {ord("×"): "x", ord("⁄"): "/"}
)


def to_text(config: MethodConfig) -> str:
    """The settings that differ from their class's defaults as text, which :func:`from_text` reads; the
    method's name where none does."""
    default = type(config)()
    values = ((name, getattr(config, name)) for name in config.setting_names())
    changed = [f"{name}={_written(value)}" for name, value in values if value != getattr(default, name)]
    return " ".join(changed) or config.name


def from_text(kind: type[Config], text: str) -> Config:
    """Settings from text: name=value pairs in any order, between spaces or line breaks; values with spaces
    in quotation marks. The method's name may stand in front. What is left out has its default. Curly
    quotation marks, spaces that do not break and the like are read as plain ones.

    Args:
        kind: the settings' class.
        text: as :func:`to_text` gives it, or written by hand; shares and numbers as on the command line.

    Raises:
        ConfigError: anything else (field ``"setting"``); the text names the setting that is wrong.
    """
    try:
        return kind.from_dict(dict(_pairs(kind, _words(kind, _plain(text)))))
    except ConfigError as error:
        problem = error.problem if error.field == "setting" else str(error)
        raise ConfigError("setting", problem) from error


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    text = str(value).removesuffix(".0")
    return f'"{text}"' if " " in text else text


def _plain(text: Any) -> str:
    if not isinstance(text, str):
        raise ConfigError("setting", f"{type(text).__name__} is not text; {_ADVICE}")
    if len(text) > LONGEST:
        raise ConfigError("setting", f"{len(text)} characters are too many; use at most {LONGEST}")
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return re.sub(r"\s*=\s*", "=", plain)


def _words(kind: type[MethodConfig], text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:
        raise ConfigError(
            "setting",
            'a quotation mark has no second one; write values with spaces as mask="4 of 7: 1110100"',
        ) from None
    if not words:
        raise ConfigError("setting", f"is empty; {_ADVICE}")
    named = words[0].removesuffix(":").lower() == kind.name.lower()
    return words[1:] if named else words


def _pairs(kind: type[MethodConfig], words: list[str]) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    seen = set()
    for word in words:
        name, equals, value = word.partition("=")
        name = name.lower()
        if not (name and equals):
            raise ConfigError("setting", f"{word!r} is no setting with a value; {_ADVICE}")
        if name in seen:
            raise ConfigError("setting", f"{name} is there twice; leave one of them out")
        seen.add(name)
        kind.check_names([name])
        try:
            yield name, reader_of(hints[name])(value)
        except argparse.ArgumentTypeError as error:
            raise ConfigError(name, str(error)) from error
