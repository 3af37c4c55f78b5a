"""Animated pictures: GIF, APNG, WebP and AVIF, each frame shown for its own time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, reading
from .pictures import picture_formats, upright

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
_SHORTEST, _INSTEAD = 10.0, 100.0
"""Browsers show frames of up to 10 ms for 100 ms, because many files say 0."""


def is_animation(path: Path) -> bool:
    """Whether a file is a picture of several frames."""
    with suppress(Exception), _open(path) as picture:
        return bool(getattr(picture, "is_animated", False))
    return False  # whatever is wrong with it, it is no picture


def animation_frames(path: Path, name: str) -> Iterator[tuple[float, Image]]:
    """(milliseconds, RGB or RGBA picture) of each frame, up to the first that is damaged.

    Raises:
        InputError: field ``name``: not even the first can be read.
    """
    problem = f"{path} cannot be read as an animation"
    with reading(name, problem):
        picture = _open(path)
    with picture:
        first = _first(picture)
        for number in count(first):
            try:
                with reading(name, problem):
                    if not _reached(picture, number):
                        return
                    frame = upright(picture, path, name)
            except InputError:
                if number == first:
                    raise
                return
            shown = float(picture.info.get("duration") or 0)
            yield (shown if shown > _SHORTEST else _INSTEAD), frame


def animation_times(path: Path, name: str) -> tuple[list[float], list[str]]:
    """When each frame begins, in seconds, and what is reported of the file. Decodes all frames."""
    shown = [milliseconds / 1000 for milliseconds, _ in animation_frames(path, name)]
    whole = False
    with suppress(Exception), _open(path) as picture:
        whole = picture.n_frames - _first(picture) == len(shown)
    notes = [] if whole else [f"the file is damaged: nothing after frame {len(shown)} can be read"]
    return list(accumulate(shown[:-1], initial=0.0)), notes


def _open(path: Path) -> Image:
    from PIL import Image

    return Image.open(path, formats=picture_formats(_FORMATS))


def _first(picture: Image) -> int:
    # An APNG may begin with a picture for those who cannot show the animation.
    return 1 if picture.info.get("default_image") else 0


def _reached(picture: Image, number: int) -> bool:
    try:
        picture.seek(number)
    except EOFError:
        return False
    return True
