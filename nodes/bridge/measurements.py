"""Where HERO Tuner keeps what it has measured: a folder for each run that it was asked about."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import folder_paths

_MOST_FOLDERS, _MOST_BYTES = 100, 10**9
_PLACE = ("aether_hero", "tuner")


def all_folders() -> Path:
    """The folder of the folders, in ComfyUI's user folder; it may not be there yet."""
    return Path(folder_paths.get_user_directory()).joinpath(*_PLACE)


def folder_of(key: str) -> Path:
    """The folder of a run, which may not be there yet; it counts as used now. Of the others, those that were
    used longest ago are removed where there are more than 100, or all of them take more than 1 GB.

    Args:
        key: names the run, see `content.digest`.
    """
    folder = all_folders() / key
    if folder.is_dir():
        os.utime(folder)
    others = sorted(_folders(except_for=folder), key=lambda other: other.stat().st_mtime, reverse=True)
    held = _size(folder)
    for number, other in enumerate(others, 2):
        held += _size(other)
        if number > _MOST_FOLDERS or held > _MOST_BYTES:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _folders(except_for: Path) -> list[Path]:
    parent = except_for.parent
    found = parent.iterdir() if parent.is_dir() else ()
    return [other for other in found if other.is_dir() and not other.is_symlink() and other != except_for]


def _size(folder: Path) -> int:
    """Bytes in the files of a folder."""
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
