"""What is written appears whole or not at all: made under a hidden name beside its target, then renamed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to, which takes its place at the end; any error removes it.

    Folders that are missing are made. The path ends in ``.part``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target, "part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_file(target: Path, content: bytes | str) -> None:
    """Write a file; text as UTF-8."""
    with new_file(target) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to write into, which takes its place at the end; any error removes it.

    What is at ``target`` is replaced: ask `export.check_out_dir` before.
    """
    made = [folder for folder in target.parents if not folder.exists()]  # deepest first
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _beside(target, "part")
    try:
        folder.mkdir()
        yield folder
        _put_in_place(folder, target)
    except BaseException:  # a run that is stopped with Ctrl-C must not leave half a folder either
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


def _put_in_place(folder: Path, target: Path) -> None:
    if not target.exists():
        os.rename(folder, target)
        return
    old = _beside(target, "old")
    os.rename(target, old)
    try:
        os.rename(folder, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{ending}")


def number_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key of file names under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
