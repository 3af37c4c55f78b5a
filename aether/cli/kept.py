"""What a command that can go on later says where it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .console import Console


@contextmanager
def reporting_kept(console: Console, folder: Path, finished: Callable[[], int], what: str) -> Iterator[None]:
    """Whatever ends the block early, how much is finished is reported.

    Args:
        folder: where it is kept.
        finished: counts it.
        what: "window" or the like.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_text(folder, finished(), what)) from None
    except Exception:
        if kept := _text(folder, finished(), what):
            console.note(kept)
        raise


def _text(folder: Path, count: int, what: str) -> str:
    kept = f"1 finished {what} is" if count == 1 else f"{count} finished {what}s are"
    return f"{kept} kept in {folder}; the same command goes on from there" if count else ""
