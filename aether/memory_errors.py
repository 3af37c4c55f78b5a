"""One answer to the question whether an error means that memory ran out, of the host or of a device.

``hero_engine.memory_errors`` answers alike (tests/test_memory_errors.py): neither package imports the other.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_WORDS = re.compile(
    r"out[ _]?of[ _]?((host|device)[ _]?)?memory"  # CUDA, HIP, MPS, XPU, NPU and their drivers
    r"|(can't|cannot|unable to|failed to) allocate memory"  # torch on the CPU, mmap
    r"|not enough (gpu video )?memory"  # torch on the CPU of Windows, DirectML
    r"|_status_alloc_failed"  # cuBLAS, cuDNN, cuSOLVER
    r"|invalid buffer size"  # MPS, of a tensor larger than the device gives at once
    r"|bad[_ ]alloc",  # C++
    re.IGNORECASE,
)

_TORCHS = "OutOfMemoryError"
_WINDOWS = (8, 14, 1455)
"""ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY and ERROR_COMMITMENT_LIMIT (the paging file is too small)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out.

    Python, NumPy and PyAV raise a MemoryError, the system an OSError with a number of its own, torch its
    OutOfMemoryError for most devices and a RuntimeError that says so for the CPU, MPS and libraries beneath.
    """
    # torch's by its name, so that torch need not be imported first.
    if isinstance(error, MemoryError) or any(kind.__name__ == _TORCHS for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


@contextmanager
def unless_out_of_memory() -> Iterator[None]:
    """Suppress an error that means that memory ran out, and no other.

    What the failed work held is freed only after the ``with`` block.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
