"""Training clips: scenes rendered once into shards on disk, and what is read off them.

Scenes from `FIRST_SCENE` on are trained on; those below are held out, for tests, examples and the bench.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aether.defaults import BASE_FPS
from aether.files import new_file
from aether.miniature.raycast import WorldClip, render
from aether.miniature.world import random_scene

FIRST_SCENE = 10_000
SHARD = 20
"""Scenes in a file."""
FRAMES, HEIGHT, WIDTH, FPS = 17, 64, 96, BASE_FPS
_SAMPLES = 2
_NAMES = ("rgb", "depth", "poses", "k")


@dataclass(frozen=True)
class Clips:
    """Rendered clips.

    rgb: (N, F, H, W, 3) uint8. depth: (N, F, H, W) float32, meters. poses: (N, F, 4, 4) camera to world, the
    first the identity. intrinsics: (N, 3, 3), one lens a clip.
    """

    rgb: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray

    def __len__(self) -> int:
        return len(self.rgb)

    @functools.cached_property
    def nearest(self) -> np.ndarray:
        """(N,) the smallest depth of each clip, Aether's unit of length."""
        return self.depth.min(axis=(1, 2, 3))

    def roots(self, clips: int | slice = slice(None)) -> np.ndarray:
        """([N,] F, H, W) float32 in [0, 1]: the square root of the disparity, as Aether encodes it."""
        return np.sqrt(self.nearest[:, None, None, None][clips] / self.depth[clips])


def load_clips(
    folder: Path,
    scenes: int,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
    first_scene: int = FIRST_SCENE,
) -> Clips:
    """`scenes` clips from `first_scene` on, rounded up to whole shards; renders those that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with ProcessPoolExecutor(workers) as pool:
        for first in range(first_scene, first_scene + scenes, SHARD):
            file = folder / f"{first:06d}.npz"
            files.append(file)
            if not file.is_file():
                parts = zip(*pool.map(_rendered, range(first, first + SHARD)), strict=True)
                write_arrays(file, dict(zip(_NAMES, map(np.stack, parts), strict=True)))
                say(f"rendered scenes {first} to {first + SHARD - 1}")
    shards = [np.load(file) for file in files]
    return Clips(*(np.concatenate([shard[name] for shard in shards]) for name in _NAMES))


def render_scene(seed: int) -> WorldClip:
    """A scene as the miniature sees it."""
    return render(random_scene(seed), FRAMES, HEIGHT, WIDTH, FPS, samples=_SAMPLES)


def _rendered(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    clip = render_scene(seed)
    return np.rint(clip.rgb * 255).astype(np.uint8), clip.depth, clip.poses, clip.intrinsics[0]


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """A .npz file, whole or not at all."""
    with new_file(file) as part, part.open("wb") as opened:
        np.savez(opened, **arrays)
