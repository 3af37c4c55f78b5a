"""Make the README's moving picture anew, from a reconstruction by the bundled miniature under HERO.

    python scripts/animation.py

Shows the clip, and the color, depth and camera path read from it; takes about a minute on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from aether.arrays import to_bytes  # noqa: E402 (the repository's, not one installed)
from aether.defaults import BASE_FPS, TASKS  # noqa: E402
from aether.formats.contact import color_depth, draw_path  # noqa: E402
from aether.generation import latents, sampling, tasks  # noqa: E402
from aether.geometry import raymap  # noqa: E402
from aether.miniature import build, random_scene, render  # noqa: E402
from hero_engine import hero_session  # noqa: E402

TARGET = ROOT / "docs/images/miniature.webp"
FRAMES, HEIGHT, WIDTH, FPS = 17, 64, 96, BASE_FPS
CELL = (384, 256)
GAP, LABEL = 6, 24
PAPER, INK = (24, 24, 27), (228, 228, 231)
PAUSE = 900
"""Milliseconds that the last frame stays."""


def panels(seed: int = 42) -> dict[str, list[Image.Image]]:
    """What the four cells show, by label: the run of `python -m aether compare synthetic`."""
    model = build()
    clip = render(random_scene(0), FRAMES, HEIGHT, WIDTH, FPS, samples=3).rgb
    generator = torch.Generator().manual_seed(seed)
    conditions = tasks.condition(model, "reconstruction", video=clip, generator=generator)
    with hero_session(model, "balanced"):
        latent = sampling.sample(
            model, conditions, steps=TASKS["reconstruction"].accelerated_steps, fps=FPS, generator=generator
        )
    found = latents.decode(model, latent)
    cameras = raymap.to_cameras(found.raymap, HEIGHT, WIDTH, square_pixels=True)
    return {
        "clip": _pictures(clip),
        "RGB": _pictures(found.rgb),
        "depth": _pictures(color_depth(found.disparity)),
        "camera path from above": [draw_path(cameras, frame, *CELL) for frame in range(FRAMES)],
    }


def _pictures(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(to_bytes(frame)).resize(CELL, Image.Resampling.LANCZOS) for frame in frames]


def sheet(cells: dict[str, Image.Image]) -> Image.Image:
    """One frame: two rows of two labelled cells."""
    width, height = CELL
    picture = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + GAP), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for number, (label, cell) in enumerate(cells.items()):
        row, column = divmod(number, 2)
        left, top = GAP + column * (width + GAP), row * (height + LABEL)
        draw.text((left, top + 3), label, INK, font)
        picture.paste(cell, (left, top + LABEL))
    return picture


def main() -> None:
    shown = panels()
    frames = [sheet({label: cells[number] for label, cells in shown.items()}) for number in range(FRAMES)]
    durations = [1000 // FPS] * (FRAMES - 1) + [PAUSE]
    frames[0].save(TARGET, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
