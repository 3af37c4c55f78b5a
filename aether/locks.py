"""One command at a time on a folder of work."""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

UNLOCKED = (
    "this file system has no locks: a second command on the same folder would not be noticed, so start none"
)

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def locked(folder: Path) -> Iterator[str | None]:
    """Keep other commands away from a folder, which need not exist, in the block.

    The lock is the system's own, on a file beside the folder: it ends with the process, however that ends, so
    that a file that was left behind locks nothing. The file names the process that holds it.

    Yields:
        a note where the file system has no locks, else None.

    Raises:
        InputError: field "out"; another process has the lock.
    """
    from filelock import FileLock, Timeout

    path = folder.with_name(f".{folder.name}.lock")
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(path), None
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            "out", f"{folder} is in use by {_holder(path)}; wait until it ends, or give another folder"
        ) from None
    except NotImplementedError:
        note = UNLOCKED
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        note = UNLOCKED
    try:
        with suppress(OSError):  # Windows lets nobody write to a locked file
            path.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}), encoding="utf-8")
        yield note
    finally:
        with suppress(OSError):  # Windows removes it as it is released
            path.unlink()  # while it is held, so that it is nobody else's
        lock.release()
        with suppress(OSError):
            for parent in made:
                parent.rmdir()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"another command (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "another command"
