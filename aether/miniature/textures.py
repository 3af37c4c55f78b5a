"""Procedural textures of the synthetic world: tileable images baked once and read through a mip chain.

Baking patterns into images keeps a lookup at a handful of gathers however detailed the pattern is, and
the mip chain keeps far ground from shimmering, which a model would otherwise have to learn as motion.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

SIZE = 256
"""Texels along each side of a baked texture; a power of two."""

GAMMA = 2.2
"""Textures are painted in display values and lit in linear ones (display ** GAMMA)."""


class Texture:
    """A tileable color image with its mip chain, in linear light.

    Args:
        image: (SIZE, SIZE, 3) display colors in [0, 1].
    """

    def __init__(self, image: np.ndarray) -> None:
        level = image.astype(np.float32) ** np.float32(GAMMA)
        texels, starts, total = [], [], 0
        while True:
            starts.append(total)
            texels.append(level.reshape(-1, 3))
            total += level.shape[0] ** 2
            if level.shape[0] == 1:
                break
            half = level.shape[0] // 2
            level = level.reshape(half, 2, half, 2, 3).mean(axis=(1, 3))
        self._texels = np.concatenate(texels)
        self._starts = np.array(starts)

    def sample(self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Colors at texture coordinates, filtered over a footprint (trilinear).

        Args:
            u, v: (N,) coordinates; one whole number spans the texture, which repeats.
            footprint: (N,) width of what a sample stands for, in the same unit.

        Returns:
            (N, 3) linear colors.
        """
        level = np.log2(np.maximum(footprint * SIZE, 1.0))
        level = np.minimum(level, len(self._starts) - 1.001)
        fine = level.astype(np.int64)
        blend = (level - fine).astype(np.float32)[:, None]
        return (1 - blend) * self._bilinear(u, v, fine) + blend * self._bilinear(u, v, fine + 1)

    def _bilinear(self, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        side = SIZE >> level
        x, y = u * side - 0.5, v * side - 0.5
        left, top = np.floor(x), np.floor(y)
        fx, fy = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
        # Sides are powers of two, so `& (side - 1)` wraps negatives too.
        left, top = left.astype(np.int64), top.astype(np.int64)
        x0, x1 = left & (side - 1), (left + 1) & (side - 1)
        row0 = self._starts[level] + (top & (side - 1)) * side
        row1 = self._starts[level] + ((top + 1) & (side - 1)) * side
        take = self._texels.take
        upper = take(row0 + x0, axis=0) * (1 - fx) + take(row0 + x1, axis=0) * fx
        lower = take(row1 + x0, axis=0) * (1 - fx) + take(row1 + x1, axis=0) * fx
        return upper * (1 - fy) + lower * fy


def noise(rng: np.random.Generator, roughness: float = 1.0, stretch: float = 1.0) -> np.ndarray:
    """Tileable cloudy noise, (SIZE, SIZE) in [0, 1].

    Args:
        roughness: larger keeps more fine detail; 1 is about the look of plaster.
        stretch: larger draws the pattern out along the first axis, as wood grain.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    rows = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch
    columns = np.fft.rfftfreq(SIZE)[None, :] * SIZE
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf
    field = np.fft.irfft2(spectrum / radius ** (2.0 - 0.8 * roughness), s=(SIZE, SIZE))
    low, high = np.quantile(field, [0.01, 0.99])
    return np.clip((field - low) / (high - low), 0, 1)


Range = tuple[float, float]


def color(rng: np.random.Generator, saturation: Range, value: Range, hue: Range = (0, 1)) -> np.ndarray:
    """A random color, (3,) display values."""
    return np.array(colorsys.hsv_to_rgb(*(rng.uniform(*span) for span in (hue, saturation, value))))


def _mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return a + (b - a) * weight[..., None]


def _grain(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Speckle and stains over a flat pattern, so that every surface has something to track."""
    shade = 1 + strength * (noise(rng, 1.6) - 0.5) + 0.7 * strength * (noise(rng, 0.6) - 0.5)
    return np.clip(image * shade[..., None], 0, 1)


def _cells(columns: int, rows: int, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Cell indices and positions within the cell for a grid; odd rows are moved by `shift` cells."""
    y, x = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
    v = y / SIZE * rows
    row = v.astype(int)
    u = x / SIZE * columns + shift * (row % 2)
    return u.astype(int) % columns, row, u % 1, v % 1


def checker(rng: np.random.Generator) -> np.ndarray:
    """Two-colored squares, each a little different."""
    count = 2 * int(rng.integers(1, 4))
    column, row, _, _ = _cells(count, count)
    tint = rng.uniform(0.8, 1.0, (count, count))[row, column]
    light, dark = color(rng, (0.3, 0.9), (0.6, 1.0)), color(rng, (0.1, 0.7), (0.15, 0.6))
    image = _mix(light, dark, (column + row) % 2.0)
    return _grain(rng, image * tint[..., None], 0.25)


def bricks(rng: np.random.Generator) -> np.ndarray:
    """Running-bond brickwork with mortar."""
    columns, rows = (3, 6) if rng.random() < 0.5 else (4, 10)
    column, row, u, v = _cells(columns, rows, 0.5)
    base = color(rng, (0.3, 0.75), (0.4, 0.8))
    tint = rng.uniform(0.65, 1.15, (rows, columns))[row, column]
    mortar = (np.minimum(u, 1 - u) * rows / columns < 0.06) | (np.minimum(v, 1 - v) < 0.09)
    return _grain(rng, _mix(base * tint[..., None], np.array([0.78, 0.75, 0.7]), mortar * 1.0), 0.3)


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Bands of one to three colors, level or upright."""
    count = int(rng.integers(3, 8))
    column, row, _, _ = _cells(count, count)
    index = column if rng.random() < 0.5 else row
    paints = np.array([color(rng, (0.2, 0.9), (0.3, 1.0)) for _ in range(count)])
    return _grain(rng, paints[index], 0.25)


def dots(rng: np.random.Generator) -> np.ndarray:
    """Round spots in staggered rows."""
    count = 2 * int(rng.integers(2, 4))
    column, row, u, v = _cells(count, count, 0.5)
    radius = rng.uniform(0.2, 0.42, (count, count))[row, column]
    spot = np.hypot(u - 0.5, v - 0.5) < radius
    base, paint = color(rng, (0.2, 0.7), (0.6, 1.0)), color(rng, (0.5, 1.0), (0.2, 0.8))
    return _grain(rng, _mix(base, paint, spot * 1.0), 0.2)


def planks(rng: np.random.Generator) -> np.ndarray:
    """Boards with grain and dark joints."""
    count = int(rng.integers(4, 8))
    column, _, u, _ = _cells(count, 1)
    base = color(rng, (0.3, 0.65), (0.45, 0.85), hue=(0.04, 0.12))
    tint = rng.uniform(0.7, 1.1, count)[column]
    joint = np.minimum(u, 1 - u) < 0.04
    grain = 0.6 + 0.5 * noise(rng, 1.2, stretch=8.0)
    return np.clip(_mix(base * (tint * grain)[..., None], np.array([0.12, 0.09, 0.07]), joint * 1.0), 0, 1)


def windows(rng: np.random.Generator) -> np.ndarray:
    """A facade: dark or lit panes in a plastered wall."""
    columns, rows = int(rng.integers(3, 6)), int(rng.integers(3, 6))
    column, row, u, v = _cells(columns, rows)
    pane = (np.abs(u - 0.5) < rng.uniform(0.22, 0.36)) & (np.abs(v - 0.5) < rng.uniform(0.25, 0.38))
    wall = _grain(rng, np.broadcast_to(color(rng, (0.05, 0.45), (0.55, 0.95)), (SIZE, SIZE, 3)), 0.25)
    lit = rng.random((rows, columns))[row, column] < 0.2
    glass = _mix(np.array([0.14, 0.18, 0.25]), np.array([0.95, 0.85, 0.55]), lit * 1.0)
    glass = glass * (0.75 + 0.5 * v)[..., None]
    return np.clip(np.where(pane[..., None], glass, wall), 0, 1)


def marble(rng: np.random.Generator) -> np.ndarray:
    """Veined stone."""
    veins = 1 - np.abs(2 * noise(rng, 0.9) - 1) ** 0.5
    base, vein = color(rng, (0.1, 0.6), (0.6, 1.0)), color(rng, (0.2, 0.8), (0.1, 0.5))
    return _grain(rng, _mix(base, vein, veins), 0.2)


def grass(rng: np.random.Generator) -> np.ndarray:
    """Patchy green and ochre, with blades as fine noise."""
    image = _mix(np.array([0.22, 0.36, 0.12]), np.array([0.55, 0.55, 0.26]), noise(rng, 0.9))
    return np.clip(image * (0.55 + 0.9 * noise(rng, 2.2))[..., None], 0, 1)


def gravel(rng: np.random.Generator) -> np.ndarray:
    """Speckled asphalt, sand or earth."""
    base = color(rng, (0.05, 0.45), (0.4, 0.75), hue=(0.05, 0.14))
    return np.clip(base * (0.5 + 0.5 * noise(rng, 2.2) + 0.5 * noise(rng, 0.9))[..., None], 0, 1)


def paving(rng: np.random.Generator) -> np.ndarray:
    """Square slabs with dark joints."""
    count = 2 * int(rng.integers(2, 4))
    column, row, u, v = _cells(count, count)
    base = color(rng, (0.02, 0.3), (0.5, 0.8))
    tint = rng.uniform(0.7, 1.15, (count, count))[row, column]
    joint = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.035
    return _grain(rng, _mix(base * tint[..., None], np.array([0.18, 0.17, 0.16]), joint * 1.0), 0.35)


def clouds(rng: np.random.Generator) -> np.ndarray:
    """Cloud cover as grey levels: 0 clear, 1 white."""
    cover = np.clip((noise(rng, 0.75) - rng.uniform(0.35, 0.65)) * 2.2, 0, 1)
    return np.repeat(cover[..., None], 3, axis=-1)


Painter = Callable[[np.random.Generator], np.ndarray]
GROUND: tuple[Painter, ...] = (grass, gravel, paving, planks, checker)
WALL: tuple[Painter, ...] = (windows, bricks, windows, planks)
PROP: tuple[Painter, ...] = (checker, bricks, stripes, dots, planks, marble)
