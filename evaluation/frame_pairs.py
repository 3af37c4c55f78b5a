"""First and last frames that planning runs go between, and how well a clip keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aether.clips.pictures import PICTURE_SUFFIXES, read_image
from aether.errors import InputError
from aether.geometry.metrics import psnr

_ENDS = ("first", "last")


@dataclass(frozen=True)
class FramePair:
    """Two pictures by path."""

    name: str
    first: Path
    last: Path


def open_pairs(folder: str | Path) -> dict[str, FramePair]:
    """Pairs by name: NAME_first.png and NAME_last.png, or NAME/first.png and NAME/last.png, or any other
    format of pictures.

    Raises:
        InputError: no pairs, half a pair, or a frame given twice.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError("pairs", f"{folder} is not a folder")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")):
        inside = path.parent != folder
        name, _, end = (path.parent.name, "", path.stem) if inside else path.stem.rpartition("_")
        if path.suffix.lower() not in PICTURE_SUFFIXES or end not in _ENDS or not name:
            continue
        if end in found.setdefault(name, {}):
            raise InputError("pairs", f"{folder} holds the {end} frame of {name} twice")
        found[name][end] = path
    if not found:
        raise InputError("pairs", f"{folder} holds no NAME_first.png and NAME_last.png, nor NAME/first.png")
    for name, ends in found.items():
        for end in _ENDS:
            if end not in ends:
                raise InputError("pairs", f"{folder} holds no {end} frame of {name}")
    return {name: FramePair(name, ends["first"], ends["last"]) for name, ends in sorted(found.items())}


def kept_ends(frames: np.ndarray, pair: FramePair) -> dict[str, float]:
    """PSNR in dB of a clip's first and last frame against the pair, brought to the clip's size as
    ``python -m aether plan`` does.

    Args:
        frames: (F, H, W, 3) uint8.

    Raises:
        InputError: a picture that cannot be read; a clip of one frame.
    """
    if len(frames) < 2:
        raise InputError("videos", f"the clip of {pair.name} has 1 frame; at least 2 are needed")
    size = frames.shape[1:3]
    ends = {"first": (frames[0], pair.first), "last": (frames[-1], pair.last)}
    return {
        f"{end}_psnr": psnr(frame / 255, read_image(path, size=size, name="pairs").pixels)
        for end, (frame, path) in ends.items()
    }
