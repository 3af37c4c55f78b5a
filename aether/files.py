"""What is written appears whole or not at all: made under a hidden name beside its target, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to, which takes its place at the end; any error removes it.

    Folders that are missing are made. The path ends in ``.part``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_file(target: Path, content: bytes | str) -> None:
    """Write a file; text as UTF-8."""
    with new_file(target) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
