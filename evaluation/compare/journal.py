"""Runs on disk as they finish, one JSON line each, so that what was interrupted goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aether.errors import InputError, reading
from aether.files import write_file


class Journal:
    """A file of records behind a first line that says what they belong to.

    Args:
        path: the file; it need not exist. A last line that was cut off is dropped.
        setup: what all records have in common; records of another setup cannot be joined to them.

    Attributes:
        records: all that are in the file, in their order.

    Raises:
        InputError: field "out": the file is of another setup, or damaged before its last line.
    """

    def __init__(self, path: Path, setup: dict[str, Any]):
        self._path = path
        self.records: list[dict[str, Any]] = []
        setup = json.loads(_line(setup))
        if not self._read(setup):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write_whole([setup])

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; it is on disk when this returns."""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def _read(self, setup: dict[str, Any]) -> bool:
        """Whether there was anything to read."""
        if not self._path.exists():
            return False
        lines = self._path.read_bytes().split(b"\n")
        kept = [self._parsed(number, line) for number, line in enumerate(lines[:-1], 1)]
        if not kept:
            return False
        found, *self.records = kept
        different = [name for name in {**setup, **found} if setup.get(name) != found.get(name)]
        if different:
            raise InputError(
                "out",
                f"{self._path} holds runs of another setup ({', '.join(sorted(different))} differ); "
                "give another folder, or remove it",
            )
        if lines[-1]:
            self._write_whole(kept)
        return True

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        with reading("out", f"{self._path} is damaged in line {number}; remove that line"):
            return dict(json.loads(line))

    def _write_whole(self, lines: Iterable[dict[str, Any]]) -> None:
        write_file(self._path, "".join(map(_line, lines)))


def _line(record: dict[str, Any]) -> str:
    # Infinity is written as JSON has it not: of equal results the PSNR is infinite, and Python reads it back.
    return json.dumps(record) + "\n"
