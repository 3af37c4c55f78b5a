"""What the command lines of this project share: option types, and errors that name the option. No torch."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .amounts import fraction
from .settings import MethodConfig

SETTING_HELP = "settings in place of a preset's, as one text: 'tau=25% text=omit mask=1110100'"


def whole_number(text: str) -> int:
    """``"30"``.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, such as 2") from None


def number(text: str) -> float:
    """``"1.5"`` or ``"2"``.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, such as 1.5") from None


def share(text: str) -> float:
    """``"0.25"``, ``"25%"`` or ``"1/4"``.

    Raises:
        argparse.ArgumentTypeError: none of them.
    """
    part = fraction(text.strip())
    try:
        return float(text) if part is None else float(part)
    except ValueError:
        problem = f"{text!r} is neither a number nor a share, such as 0.25, 25% or 1/4"
        raise argparse.ArgumentTypeError(problem) from None


def sides(text: str, names: str, example: str) -> tuple[int, ...]:
    """Whole numbers with an x between them.

    Args:
        names: what they are, such as "HEIGHTxWIDTH"; there are as many.

    Raises:
        argparse.ArgumentTypeError: another number of them, or something else.
    """
    parts = text.lower().split("x")
    if len(parts) != names.count("x") + 1 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not {names}, such as {example}")
    return tuple(map(whole_number, parts))


def add_settings(
    parser: argparse._ActionsContainer, kind: type[MethodConfig], renamed: Mapping[str, str] | None = None
) -> None:
    """An option for each setting of a method, with the first sentence of its documentation as help.

    Args:
        kind: the settings' class.
        renamed: setting to option, where an option of its name means something else.
    """
    hints, words = get_type_hints(kind), _documented(kind)
    for name in kind.setting_names():
        option = (renamed or {}).get(name, name)
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=reader_of(hints[name]),
            metavar=_placeholder(hints[name]),
            help=words[name].replace("%", "%%"),
        )


def given_settings(
    arguments: argparse.Namespace, kind: type[MethodConfig], renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The settings that were given, by name; arguments as for :func:`add_settings`."""
    options = {name: (renamed or {}).get(name, name) for name in kind.setting_names()}
    return {name: value for name, o in options.items() if (value := getattr(arguments, o)) is not None}


def reader_of(hint: Any) -> Callable[[str], Any]:
    """What makes a setting of its text. Settings check themselves; here only text becomes a number, and a
    count or a share stays text.

    Args:
        hint: the setting's type.
    """
    if get_origin(hint) is tuple:
        return _whole_numbers if Ellipsis in get_args(hint) else _patch
    readers: dict[Any, Callable[[str], Any]] = {int: whole_number, float: share}
    return readers.get(hint, str)


def _placeholder(hint: Any) -> str | None:
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    return "TxHxW" if get_origin(hint) is tuple else None


def _patch(text: str) -> tuple[int, ...]:
    return sides(text, "FRAMESxROWSxCOLUMNS", "1x2x3")


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(map(whole_number, text.lower().split("x")))


def _documented(kind: type[MethodConfig]) -> dict[str, str]:
    """The first sentence on each setting in the class's documentation."""
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(kind) or "", flags=re.M)
    texts = {name: " ".join(text.split()) for name, text in entries}
    first = {name: re.split(r"[.;](?= |$)", text)[0].replace("``", "") for name, text in texts.items()}
    return {name: first.get(name, "") for name in kind.setting_names()}


def error_text(
    error: Exception,
    arguments: argparse.Namespace,
    *,
    positionals: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> str:
    """An error's text with what was typed in place of the field it names.

    Args:
        error: with a ``field``, as ``ConfigError`` and ``InputError`` have it; others stay as they are.
        arguments: of the command line: fields that are there are options.
        positionals: arguments without dashes.
        renamed: field to argument, where a library has another name for it.
    """
    field = getattr(error, "field", None)
    if field is None:
        return str(error)
    name = (renamed or {}).get(field, field)
    if name in vars(arguments) and name not in positionals:
        name = f"--{name.replace('_', '-')}"
    return f"{name}: {str(error).removeprefix(f'{field}: ')}"
