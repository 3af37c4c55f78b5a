"""The pictures of a folder in the order of their numbers, and what is reported of their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from ..files import number_order
from .pictures import PICTURE_SUFFIXES

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
_SHOWN = 3

Key = tuple[tuple[int, int, str], ...]
"""A name in parts: (0, number, "") or (1, 0, text), see ``number_order``."""


def picture_files(path: Path, name: str) -> tuple[list[Path], list[str]]:
    """A folder's pictures, and notes of gaps in their numbers, several kinds of names and what is not read.

    Raises:
        InputError: field ``name``: fewer than two pictures; one number twice.
    """
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    entries = [entry for entry in entries if entry.name.lower() not in _SYSTEM_FILES]
    files = [entry for entry in entries if entry.suffix.lower() in PICTURE_SUFFIXES and not entry.is_dir()]
    unread = _unread([entry for entry in entries if entry not in set(files)])
    if len(files) < 2:
        raise InputError(
            name,
            f"the folder {path} holds {len(files)} pictures; at least 2 are needed"
            + (f" ({unread}: save them as PNG)" if unread else ""),
        )
    keys = _keys(files)
    files.sort(key=lambda file: (keys[file], file.name))
    _check_doubles([(keys[file], file) for file in files], path, name)
    alike: dict[Key, list[Path]] = {}
    for file in files:
        alike.setdefault(_kind(keys[file]), []).append(file)
    notes = [*_kind_notes(alike), *_negative_notes(files, keys)]
    for kind in alike.values():
        notes += _gap_notes([keys[file] for file in kind])
    return files, notes + ([unread] if unread else [])


def _unread(entries: Sequence[Path]) -> str:
    kinds = Counter("folder" if entry.is_dir() else entry.suffix.lower() or "no ending" for entry in entries)
    return "not read: " + ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) if kinds else ""


def _keys(files: Sequence[Path]) -> dict[Path, Key]:
    """Sort keys of names without their endings. A minus before the number is a sign if others lack it."""
    plain = {file: tuple(number_order(file.stem)) for file in files}
    kinds = {_kind(key) for key in plain.values()}
    signed = {file: _negated(key) for file, key in plain.items()}
    return {file: signed[file] if _kind(signed[file]) in kinds else plain[file] for file in files}


def _negated(key: Key) -> Key:
    """With the minus before the last number taken as its sign."""
    last = max((place for place, part in enumerate(key) if part[0] == 0), default=0)
    if not last or not key[last - 1][2].endswith("-"):
        return key
    return (*key[: last - 1], (1, 0, key[last - 1][2][:-1]), (0, -key[last][1], ""), *key[last + 1 :])


def _kind(key: Key) -> Key:
    """The name with every number as 0."""
    return tuple((is_text, 0, text) for is_text, _, text in key)


def _check_doubles(files: Sequence[tuple[Key, Path]], path: Path, name: str) -> None:
    doubles = [(first[1], second[1]) for first, second in pairwise(files) if first[0] == second[0]]
    if doubles:
        first, second = doubles[0]
        more = f", and {len(doubles) - 1} more such pairs" if len(doubles) > 1 else ""
        raise InputError(
            name, f"in {path}, {first.name} and {second.name} are the same frame{more}; keep one of each"
        )


def _kind_notes(kinds: dict[Key, list[Path]]) -> list[str]:
    if len(kinds) == 1 or max(map(len, kinds.values())) == 1:
        return []
    examples = ", ".join(files[0].name for files in list(kinds.values())[:_SHOWN])
    more = ", ..." if len(kinds) > _SHOWN else ""
    return [
        f"the pictures have {len(kinds)} kinds of names ({examples}{more}): all are taken, in their order"
    ]


def _negative_notes(files: Sequence[Path], keys: dict[Path, Key]) -> list[str]:
    negative = [file for file in files if any(number < 0 for _, number, _ in keys[file])]
    return [f"{negative[0].name} and others are taken as negative numbers, before 0"] if negative else []


def _gap_notes(keys: Sequence[Key]) -> list[str]:
    """What is missing in names that differ in one number only."""
    columns = [sorted({part[1] for part in column}) for column in zip(*keys, strict=True)]
    counting = [column for column in columns if len(column) > 1]
    if len(counting) != 1 or len(keys) < 3:
        return []
    numbers = counting[0]
    steps = [after - before for before, after in pairwise(numbers)]
    usual, often = Counter(steps).most_common(1)[0]
    if min(steps) < usual or often < len(steps) / 2:
        return [f"the numbers {', '.join(map(str, numbers[:_SHOWN]))}, ... are uneven: taken as even"]
    gaps = [(before + usual, after - usual) for before, after in pairwise(numbers) if after - before > usual]
    return _missing_notes(gaps) if gaps else []


def _missing_notes(gaps: Sequence[tuple[int, int]]) -> list[str]:
    ranges = [str(first) if first >= last else f"{first} to {last}" for first, last in gaps[:_SHOWN]]
    more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
    return [f"numbers are missing ({', '.join(ranges)}{more}): what is there follows without a gap"]
