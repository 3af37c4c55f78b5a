"""A walk in a folder, so that it can be gone on from: world.json, the first picture, and the windows.

world.json holds the path that was asked for, to the last bit, and all that the windows hang on. Another
command reads it, adds a piece of path, and makes only the windows that are not there.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, reading
from ..geometry.cameras import Cameras
from ..run.job import Settings
from .chain import Chain
from .parts import Plan, longer, plan_windows
from .walk import Options, Walk

WORLD, FIRST, WINDOWS = "world.json", "first.png", "windows"
_FORMAT = "aether walk 1"
_NAMED = {
    "weights": ("model", "other weights"),
    "scheduler": ("scheduler", "another scheduler"),
    "accelerator": ("hero", "other settings of HERO"),
    "device": ("device", "another kind of device"),
    "dtype": ("dtype", "another precision"),
}
"""Parts of a signature: the field to name, and what it means that they differ."""


@dataclass(frozen=True)
class Earlier:
    """A walk that is there already.

    Attributes:
        folder: where it is.
        plan, picture, settings, options: what it was made with.
        signature: all that its windows hang on, but for picture and path.
        made_by: what else the caller kept, such as the options of a command.
    """

    folder: Path
    plan: Plan
    picture: np.ndarray
    settings: Settings
    options: Options
    signature: dict[str, Any]
    made_by: dict[str, Any]

    @property
    def windows(self) -> Path:
        """The folder of its windows."""
        return self.folder / WINDOWS

    def with_piece(self, piece: Cameras, at: int | None = None) -> Plan:
        """The plan of the walk that goes on along another piece of path.

        Args:
            piece: of the pictures' size; see :func:`aether.explore.parts.longer`.
            at: frame to go on from; the last by default.
        """
        return plan_windows(longer(self.plan.path, piece, at), self.plan.length, self.plan.overlap)

    def check_same(self, signature: Mapping[str, Any]) -> None:
        """
        Raises:
            InputError: the windows to come would be made with something else than those that are there; the
                field says what.
        """
        plain = json.loads(json.dumps(dict(signature), default=str))
        for name, (field, what) in _NAMED.items():
            if plain.get(name) != self.signature.get(name):
                raise InputError(
                    field,
                    f"{self.folder} was made with {what}; go on with the same, or begin a new walk from a "
                    "picture",
                )
        for name in plain:
            if plain[name] != self.signature.get(name):
                was = self.signature.get(name)
                raise InputError(name, f"{self.folder} was made with {was!r}, not {plain[name]!r}")

    def check_windows(self, chain: Chain, count: int) -> None:
        """Refuse a walk whose windows are gone.

        Args:
            chain: of the earlier plan, in :attr:`windows`.
            count: how many windows are needed.

        Raises:
            InputError: field "from"; a window is missing or damaged.
        """
        for window in range(count):
            if not chain.stores[window].is_whole(window, chain.shape):
                raise InputError(
                    "from",
                    f"window {window + 1} of {len(chain)} is missing or damaged: {chain.path(window)}; put "
                    "it back, or make the walk anew",
                )


def walk_files(
    walk: Walk, picture: np.ndarray, settings: Settings, options: Options, signature: Mapping[str, Any],
    made_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """world.json and the first picture, for ``extras`` of `aether.formats.export.write_run`.

    Args:
        picture: (H, W, 3) uint8.
        made_by: whatever the caller wants to find again.
    """
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    path = walk.plan.path
    document = {
        "format": _FORMAT,
        "settings": vars(settings),
        "options": vars(options),
        "window": walk.plan.length,
        "overlap": walk.plan.overlap,
        "signature": json.loads(json.dumps(dict(signature), default=str)),
        "made_by": dict(made_by or {}),
        "windows": [str(walk.chain.path(w).relative_to(walk.chain.work)) for w in range(walk.count)],
        "path": {
            "height": path.height,
            "width": path.width,
            "poses": path.poses.tolist(),
            "intrinsics": path.intrinsics.tolist(),
        },
    }
    return {WORLD: document, FIRST: png.getvalue()}


def move_windows(chain: Chain, folder: Path) -> None:
    """Put the finished windows into the folder of the walk, and remove what else is where they were made."""
    chain.keep_only()
    target = folder / WINDOWS
    if target.exists():
        shutil.rmtree(target)
    shutil.move(os.fspath(chain.work), os.fspath(target))


def read_walk(folder: str | Path) -> Earlier:
    """
    Raises:
        InputError: field "from"; no walk is there, or it is damaged.
    """
    folder = Path(folder)
    if not (folder / WORLD).is_file():
        raise InputError(
            "from", f"{folder} holds no walk: {WORLD} is missing; give a folder that explore wrote"
        )
    with reading("from", f"{folder / WORLD} cannot be read"):
        document = json.loads((folder / WORLD).read_text(encoding="utf-8"))
        if document.get("format") != _FORMAT:
            raise InputError("from", f"{folder / WORLD} is of another version: {document.get('format')!r}")
        path = document["path"]
        cameras = Cameras(path["poses"], path["intrinsics"], path["height"], path["width"])
        plan = plan_windows(cameras, document["window"], document["overlap"])
        settings, options = Settings(**document["settings"]), Options(**document["options"])
        signature, made_by = dict(document["signature"]), dict(document["made_by"])
    return Earlier(folder, plan, _first_picture(folder, plan), settings, options, signature, made_by)


def _first_picture(folder: Path, plan: Plan) -> np.ndarray:
    from PIL import Image

    size = (plan.path.height, plan.path.width)
    with reading("from", f"{folder / FIRST} cannot be read"):
        with Image.open(folder / FIRST) as image:
            pixels = np.array(image.convert("RGB"))
        if pixels.shape[:2] != size:
            raise InputError("from", f"{folder / FIRST} is not of the walk's size, {size[1]} x {size[0]}")
    return pixels
