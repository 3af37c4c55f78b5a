"""Animated pictures: GIF, APNG, WebP and AVIF, each frame shown for its own time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, reading
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
        picture, first = _open(path), None
    with picture:
        for number in _frames(picture):
            try:
                with reading(name, problem):
                    picture.seek(number)
                    frame = upright(picture, path, name)
            except InputError:
                if first is None:
                    raise
                return
            first = number
            yield _milliseconds(picture), frame


def animation_times(path: Path, name: str) -> tuple[list[float], list[str]]:
    """When each frame begins, in seconds, and what is reported of the file. Decodes all frames."""
    shown = [milliseconds / 1000 for milliseconds, _ in animation_frames(path, name)]
    with _open(path) as picture:
        lost = len(_frames(picture)) - len(shown)
    notes = [f"the file is damaged: its last frames ({lost}) cannot be read"] if lost else []
    return list(accumulate(shown[:-1], initial=0.0)), notes


def _open(path: Path) -> Image:
    from PIL import Image

    return Image.open(path, formats=picture_formats(_FORMATS))


def _frames(picture: Image) -> range:
    # An APNG may begin with a picture for those who cannot show the animation.
    return range(1 if picture.info.get("default_image") else 0, picture.n_frames)


def _milliseconds(picture: Image) -> float:
    shown = float(picture.info.get("duration") or 0)
    return shown if shown > _SHORTEST else _INSTEAD
