"""Results as a table on the screen, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from aether.files import new_folder
from aether.formats.export import check_out_dir

FILES = ("results.csv", "results.json")
_NAME_WIDTH, _NUMBER_WIDTH = 8, 6  # of tables whose rows are printed before the others are there


@dataclass(frozen=True)
class Column:
    """Key in the rows, heading, and format of numbers."""

    key: str
    title: str
    format: str = ".3f"


@dataclass(frozen=True)
class Table:
    """What a command found.

    Attributes:
        command: its name.
        columns: what is shown; rows may have more, which goes into the files.
        rows: one per sequence, each with a "name".
        average: over the sequences; None where they are not of one data set.
        protocol: how it was measured.
        notes: sentences that the reader needs.
        packages: distributions whose versions matter.
        details: anything more for the JSON file.
        pictures: more files, by name.
        printed: whether :func:`print_rows` has printed the rows.
    """

    command: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]
    average: dict[str, Any] | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    packages: Sequence[str] = ("numpy",)
    details: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    printed: bool = False

    def text(self) -> str:
        """The table, then the notes; without what was printed already."""
        cells = [_titles(self.columns), *(_cells(self.columns, row) for row in self._all())]
        fitting = [max(map(len, column)) for column in zip(*cells, strict=True)]
        widths = _usual_widths(self.columns) if self.printed else fitting
        lines = [_line(line, widths) for line in cells]
        rule = "-" * max(map(len, lines))
        if self.average:
            lines.insert(-1, rule)
        lines = lines[1 + len(self.rows) :] if self.printed else [lines[0], rule, *lines[1:]]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def csv(self) -> str:
        """One line per sequence, then the average; what is missing is empty."""
        return as_csv(self._all())

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: infinite and missing numbers are None."""
        return _plain(
            {
                "command": self.command,
                "protocol": self.protocol,
                "notes": list(self.notes),
                "rows": list(self.rows),
                "average": self.average,
                "versions": {name: installed_version(name) for name in self.packages},
                **self.details,
            }
        )

    def write(self, out: str | Path, *, overwrite: bool = False) -> None:
        """results.csv, results.json and the pictures in a folder of their own; all appear, or nothing.

        Raises:
            InputError: see `aether.formats.export.check_out_dir`.
        """
        target = check_out_dir(out, overwrite=overwrite, marks=FILES)
        with new_folder(target) as folder:
            contents = (self.csv(), json.dumps(self.to_dict(), indent=1, allow_nan=False))
            for name, content in zip(FILES, contents, strict=True):
                (folder / name).write_text(content, encoding="utf-8")
            for name, picture in self.pictures.items():
                (folder / name).write_bytes(picture)

    def _all(self) -> list[dict[str, Any]]:
        return [*self.rows, *([{"name": "average", **self.average}] if self.average else [])]


def print_rows(columns: Sequence[Column], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a table's head, and each row as it comes. Returns the rows, for a table that is ``printed``."""
    widths = _usual_widths(columns)
    head = _line(_titles(columns), widths)
    print(head, "-" * len(head), sep="\n", flush=True)
    kept = []
    for row in rows:
        print(_line(_cells(columns, row), widths), flush=True)
        kept.append(row)
    return kept


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line per row under a head of all their keys; what is missing is empty."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def installed_version(name: str) -> str | None:
    """Of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _usual_widths(columns: Sequence[Column]) -> list[int]:
    return [_NAME_WIDTH, *(max(len(column.title), _NUMBER_WIDTH) for column in columns)]


def _titles(columns: Sequence[Column]) -> list[str]:
    return ["", *(column.title for column in columns)]


def _cells(columns: Sequence[Column], row: dict[str, Any]) -> list[str]:
    values = ((row.get(column.key), column.format) for column in columns)
    return [row["name"], *("-" if value is None else format(value, form) for value, form in values)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
