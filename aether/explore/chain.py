"""Where the windows of walks are kept: a window's file hangs on all that came before it, on nothing after.

So two walks that begin alike share their files, a longer walk finds those of a shorter one, and a walk that
was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files import new_file
from ..long.store import StoredArray, WindowStore
from .parts import Plan


class Chain:
    """The stores of a plan's windows, one each.

    Args:
        work: folder of the files.
        signature: all that every window hangs on, but for its part of the path.
        picture: (H, W, 3) uint8, the first.
        plan: the path in windows.
    """

    def __init__(self, work: Path, signature: Mapping[str, Any], picture: np.ndarray, plan: Plan) -> None:
        digest = hashlib.sha256(np.ascontiguousarray(picture).tobytes())
        digest.update(f"{picture.shape} {plan.length} {plan.overlap}".encode())
        self.work, self.shape = work, (plan.length, *picture.shape[:2])
        self.stores = []
        for window in range(len(plan.starts)):
            part = plan.part(window)
            digest.update(part.poses.tobytes() + part.intrinsics.tobytes())
            self.stores.append(WindowStore(work, {**signature, "way": digest.hexdigest()}))

    def __len__(self) -> int:
        return len(self.stores)

    def finished(self) -> int:
        """How many windows are there without a gap; those behind one cannot be relied on."""
        whole = (store.is_whole(window, self.shape) for window, store in enumerate(self.stores))
        return next((window for window, there in enumerate(whole) if not there), len(self))

    def array(self, window: int, name: str) -> StoredArray:
        """See `WindowStore.array`."""
        return self.stores[window].array(window, name)

    def report(self, window: int) -> dict[str, Any]:
        """See `WindowStore.report`."""
        return self.stores[window].report(window)

    def path(self, window: int) -> Path:
        """A window's file."""
        return self.stores[window].path(window)

    def take_from(self, earlier: Path) -> int:
        """Take over the windows of this walk that another folder has, without a copy where files can have two
        names. How many were there."""
        taken = 0
        for window, store in enumerate(self.stores):
            there = earlier / store.folder.name / store.path(window).name
            if there.is_file() and not store.path(window).exists():
                store.folder.mkdir(parents=True, exist_ok=True)
                _link(there, store.path(window))
                taken += 1
        return taken

    def keep_only(self) -> None:
        """Delete what else is in the folder: previews, and other walks' windows, such as the last of a path
        that ended within it."""
        own = {store.folder.name for store in self.stores}
        for other in self.work.iterdir():
            if other.is_file():
                other.unlink()
            elif other.name not in own:
                shutil.rmtree(other, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another drive, or a file system without such names
        with new_file(target) as part:
            shutil.copyfile(source, part)
