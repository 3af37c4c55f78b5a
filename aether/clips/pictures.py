"""Still pictures in, and frames of any source brought to RGB and one size."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import finite_array, to_bytes, to_floats
from ..errors import InputError, reading

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".gif"),
}
# Not all that Pillow knows: for EPS it would start another program, Ghostscript.
_PICTURE_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "GIF")
_DEEP_FORMATS = ("PNG", "PPM")  # Pillow gives integers of 32 bits for their 16
_ROUNDING = 1e-3
_NOTES_SHOWN = 5


@dataclass(frozen=True)
class Still:
    """One picture: pixels (H, W, 3) float32 in [0, 1], and notes as for a clip."""

    pixels: np.ndarray
    notes: list[str] = field(default_factory=list)


def read_image(path: str | Path, *, size: tuple[int, int] | None = None, name: str = "image") -> Still:
    """Read one picture: turned as its EXIF says, alpha over black, grey to RGB, 16 bits and floats to 8 bits.

    Of a file with several pictures the first is read. White is the largest number of 8 or 16 bits, and 1 for
    floats.

    Args:
        size: (height, width) to crop and resize to, see :func:`fit_frames`. Default: the picture's own.
        name: the field that errors name.

    Raises:
        InputError: missing file, a folder, a file that is not a picture, floats outside [0, 1], 32-bit
            integers.
    """
    path = existing_path(path, name)
    if path.is_dir():
        raise InputError(name, f"{path} is a folder; give one picture")
    check_pixels(size)
    pictures = Pictures(size, name)
    pixels = pictures.add_file(path)
    return Still(to_floats(pixels), pictures.notes())


def open_picture(path: Path, name: str) -> tuple[Image, list[str]]:
    """A file's picture as RGB or RGBA, upright, and what is reported of the file.

    Raises:
        InputError: field ``name``: it cannot be read, or its numbers have no agreed white.
    """
    from PIL import Image

    with (
        reading(name, f"{path} cannot be read as a picture"),
        Image.open(path, formats=picture_formats(_PICTURE_FORMATS)) as picture,
    ):
        # A second picture in a JPEG (MPO) is a gain map or another eye's view.
        several = picture.format != "MPO" and getattr(picture, "is_animated", False)
        notes = [f"{path.name} holds several pictures: the first is used"] if several else []
        return upright(picture, path, name), notes


def picture_formats(names: Sequence[str]) -> list[str]:
    """Those of Pillow's formats that it was built with."""
    from PIL import Image

    Image.init()
    return [name for name in names if name in Image.OPEN]


def upright(picture: Image, path: Path, name: str) -> Image:
    """An opened file's picture as RGB or RGBA, turned as its EXIF says."""
    from PIL import ImageOps

    # The copy that is turned no longer has a format.
    top = 65535 if picture.format in _DEEP_FORMATS or picture.mode.startswith("I;16") else None
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep(np.asarray(picture), top, path, name)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _from_deep(grey: np.ndarray, top: int | None, path: Path, name: str) -> Image:
    """Grey of more than 8 bits, which Pillow would clip at 255, as RGB; white is ``top``, or 1 for floats."""
    from PIL import Image

    integers = grey.dtype.kind in "ui"
    if integers and top is None:
        raise InputError(
            name,
            f"{path} holds 32-bit integers from {grey.min()} to {grey.max()}, whose white is not known; "
            "save it with 8 or 16 bits",
        )
    scaled = grey / (top if integers else 1.0)
    if not (scaled.min() >= -_ROUNDING and scaled.max() <= 1 + _ROUNDING):
        raise InputError(
            name,
            f"{path} holds numbers from {grey.min():.4g} to {grey.max():.4g}; they must be in [0, 1]: "
            "tone-map or scale it, and save it with 8 or 16 bits",
        )
    return Image.fromarray(to_bytes(scaled)).convert("RGB")


class Pictures:
    """Brings pictures to RGB and one size, and remembers what had to be done to them."""

    def __init__(self, size: tuple[int, int] | None, name: str) -> None:
        self.size = size
        self.name = name
        self.first: tuple[int, int] | None = None
        self.had_alpha = False
        self.found: dict[str, None] = {}
        """Notes of single pictures, each once."""

    def add(self, picture: Image, origin: str, notes: Sequence[str] = ()) -> np.ndarray:
        """(height, width, 3) uint8.

        Args:
            notes: what is reported of this picture.
        """
        self.found |= dict.fromkeys(notes)
        height_width = picture.size[::-1]
        if self.size is None and height_width != (self.first or height_width):
            raise InputError(
                self.name,
                f"{origin} is {_by(height_width)}, the first {_by(self.first)}; give a size for all",
            )
        self.first = self.first or height_width
        return np.asarray(_fill(self._opaque(picture), *(self.size or height_width)))

    def add_file(self, path: Path) -> np.ndarray:
        """The same for a file's picture."""
        picture, notes = open_picture(path, self.name)
        return self.add(picture, str(path), notes)

    def notes(self) -> list[str]:
        notes = ["transparent parts were put on black"] if self.had_alpha else []
        notes += list(self.found)[:_NOTES_SHOWN]
        if (more := len(self.found) - _NOTES_SHOWN) > 0:
            notes.append(f"and {more} more notes of this kind")
        return notes + (crop_notes(*self.first, *self.size) if self.size else [])

    def _opaque(self, picture: Image) -> Image:
        from PIL import Image

        if picture.mode != "RGBA":
            return picture
        if picture.getextrema()[3][0] == 255:
            return picture.convert("RGB")
        self.had_alpha = True
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture).convert("RGB")


def _fill(picture: Image, height: int, width: int) -> Image:
    """Scaled to fill height x width, the rest cut; the same rounding as diffusers' ``resize_mode="crop"``."""
    from PIL import Image

    if picture.size == (width, height):
        return picture
    wide, high = picture.size
    narrower = wide / high < width / height
    scaled_width = width if narrower else wide * height // high
    scaled_height = high * width // wide if narrower else height
    left, top = scaled_width // 2 - width // 2, scaled_height // 2 - height // 2
    scaled = picture.resize((scaled_width, scaled_height), Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + width, top + height))


def crop_notes(from_height: int, from_width: int, height: int, width: int) -> list[str]:
    """What filling a size from another one takes."""
    if (from_height, from_width) == (height, width):
        return []
    text = f"resized from {from_width} x {from_height} to {width} x {height}"
    kept = (width / height) / (from_width / from_height)
    if kept < 0.995:
        return [f"{text}; {1 - kept:.0%} of the width is cut, half at each side"]
    if kept > 1.005:
        return [f"{text}; {1 - 1 / kept:.0%} of the height is cut, half at the top and half at the bottom"]
    return [text]


def fit_frames(frames: Any, height: int, width: int) -> np.ndarray:
    """Scale so that the picture fills height x width, and cut what sticks out, half at each side.

    Frames already of that size are returned as they are. Otherwise an antialiased Lanczos filter (Pillow's)
    is used, as the reference does for pictures; for videos given as arrays the reference crops and then takes
    the nearest pixel, which aliases.

    Args:
        frames: (F, H, W, 3) in [0, 1], or uint8.

    Returns:
        (F, height, width, 3) float32 in [0, 1].

    Raises:
        InputError: see :func:`check_frames`; a size below 1.
    """
    from PIL import Image

    frames = check_frames(frames)
    check_pixels((height, width))
    if frames.shape[1:3] == (height, width):
        return frames
    fitted = np.empty((len(frames), height, width, 3), dtype=np.float32)
    for source, target in zip(frames, fitted, strict=True):
        for channel in range(3):
            picture = Image.fromarray(np.ascontiguousarray(source[..., channel]))
            target[..., channel] = _fill(picture, height, width)
    return np.clip(fitted, 0, 1, out=fitted)


def check_frames(frames: Any, name: str = "video") -> np.ndarray:
    """An array or tensor of pictures as (F, H, W, 3) float32 in [0, 1].

    Args:
        frames: (F, H, W, 3): floats in [0, 1], or uint8, which is divided by 255.

    Returns:
        the same memory where nothing had to be changed: not to be written into.

    Raises:
        InputError: wrong shape, no frames, NaN, infinities, values outside [0, 1] by more than rounding.
    """
    array = finite_array(frames, name, (None, None, None, 3))
    if array.dtype == np.uint8:
        return to_floats(array)
    low, high = array.min(), array.max()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(name, f"values reach from {low:.3g} to {high:.3g}; they must be in [0, 1]")
    inside = array if low >= 0 and high <= 1 else np.clip(array, 0, 1)
    return inside.astype(np.float32, copy=False)


def existing_path(path: str | Path, name: str) -> Path:
    """
    Raises:
        InputError: field ``name``: there is no file or folder there.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(name, f"{path} does not exist") from error
    except OSError as error:  # no right to look, or too long a name
        raise InputError(name, f"{path} cannot be opened ({error.strerror})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(name, f"{path} is neither a file nor a folder; save the clip in a file")
    return path


def check_pixels(size: tuple[int, int] | None) -> None:
    """
    Raises:
        InputError: height or width is not a whole number from 1.
    """
    for what, pixels in zip(("height", "width"), size or (), strict=False):
        if isinstance(pixels, bool) or not isinstance(pixels, int | np.integer) or pixels < 1:
            raise InputError(what, f"{pixels!r} must be a whole number of pixels, 1 or more")


def _by(height_width: tuple[int, int] | None) -> str:
    height, width = height_width or (0, 0)
    return f"{width} x {height}"
