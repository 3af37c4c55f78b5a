"""Arrays from .npy and .npz files that somebody else made, and .npz files of clips.

Nothing is read that is a Python object, or takes more memory than the file gives reason for: a header's shape
must fit the bytes that are there, and a packed array may not unpack to more than 64 MB and 200 times its
size, as bombs do.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import InputError, reading
from .frames import Frames

LARGEST_UNASKED = 2**26
LARGEST_RATIO = 200
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: str | Path, field: str) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        InputError: another kind of file, a damaged one, an array of objects.
    """
    with reading(field, f"{path} cannot be read as a .npy array"), open(path, "rb") as file:
        return _read(file, Path(path).stat().st_size)


def read_npz(path: str | Path, field: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Those of the named arrays (default: all) that a .npz file has.

    Raises:
        InputError: as for :func:`read_npy`, or an array that is larger than its file gives reason for.
    """
    with reading(field, f"{path} cannot be read as .npz"), zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        wanted = members if names is None else [name for name in names if name in members]
        return {name: _read_member(archive, members[name]) for name in wanted}


def npz_names(path: str | Path, field: str) -> list[str]:
    """The names of a .npz file's arrays; none of them is read.

    Raises:
        InputError: another kind of file, a damaged one.
    """
    with reading(field, f"{path} cannot be read as .npz"), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def write_npz(path: Path, arrays: Mapping[str, Frames]) -> None:
    """Float32 arrays, as `numpy.savez_compressed` writes them, but a frame at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, frames in arrays.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": frames.shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for frame in frames:
                    member.write(np.ascontiguousarray(frame, dtype="<f4").tobytes())


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.file_size > max(LARGEST_UNASKED, LARGEST_RATIO * member.compress_size):
        raise ValueError(
            f"{member.filename} would unpack from {member.compress_size} to {member.file_size} bytes"
        )
    with archive.open(member) as stream:
        return _read(stream, member.file_size)


def _read(stream: IO[bytes], size: int) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format is not read")
    shape, by_column, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are pickles")
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != size - stream.tell():
        raise ValueError(f"{shape} of {dtype} is not what its {size - stream.tell()} bytes are")
    values = np.frombuffer(stream.read(expected), dtype)
    return values.reshape(shape, order="F" if by_column else "C").copy()


def to_floats(pixels: np.ndarray) -> np.ndarray:
    """Colors as floats in [0, 1]: bytes divided by 255, others as they are."""
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Colors as bytes: floats cut to [0, 1] and rounded, bytes as they are."""
    return pixels if pixels.dtype == np.uint8 else (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def finite_array(value: Any, field: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """``value`` (array or CPU or GPU tensor) as a NumPy array, its shape (None: any length) and numbers
    checked.

    Raises:
        InputError: wrong shape, not numbers, NaN or infinite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.dtype.itemsize < 4 else value
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(field, f"has shape {array.shape}; it must be ({wanted})")
    if array.dtype.kind not in "buif":
        raise InputError(field, f"holds {array.dtype}, not numbers")
    if array.size == 0:
        raise InputError(field, "is empty")
    if not np.isfinite(array).all():
        raise InputError(field, "holds NaN or infinite values")
    return array
