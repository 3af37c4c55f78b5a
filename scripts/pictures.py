"""Make the templates' thumbnails and the screenshot of the README anew, from runs in a real ComfyUI.

    python scripts/pictures.py [TEMPLATE ...]

Opens each template in a real browser and presses Run, as the browser tests do, and needs what they need.
Templates on models that core loads, which are not here, are shown as graphs.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hero_engine import HeroConfig  # noqa: E402 (the repository's, whatever is installed)
from hero_engine.schedule import step_ages  # noqa: E402
from tests.comfy.browser import (  # noqa: E402
    CORE_TEMPLATES,
    FIRST,
    WORKFLOWS,
    Page,
    comfyui_page,
    frames_of,
)
from tests.comfy.client import Server  # noqa: E402
from tests.comfy.conftest import find_comfyui  # noqa: E402
from tests.comfy.template_files import put_files  # noqa: E402

SIDE, GAP = 512, 4
BACKGROUND = (24, 24, 27)
BRIGHT, DIM = (120, 226, 180), (52, 84, 74)
SOURCE = "source"
STITCHED = 8
"""Pixels between two videos side by side."""
TILES: dict[str, tuple[tuple[str, float], ...]] = {
    FIRST: ((SOURCE, 0), ("color", 1), ("depth", 1), ("camera", 1)),
    "8 Compare with and without HERO": (
        *(("compare, left", 1), ("compare, right", 1)),
        *(("compare_depth, left", 1), ("compare_depth, right", 1)),
    ),
    "13 Tune for this model": (
        *(("tuned, left", 1), ("tuned, right", 1)),
        *(("tuned_depth, left", 1), ("tuned_depth, right", 1)),
    ),
    "4 From one picture to another": ((SOURCE, 0), (SOURCE, 1), ("color", 0.5), ("depth", 0.5)),
    "9 With core samplers": ((SOURCE, 0), ("color", 1), ("depth", 0), ("depth", 1)),
    "3 Picture along a camera path": ((SOURCE, 0), ("camera", 1), ("color", 1), ("depth", 1)),
    "14 Explore a world": (
        *(("walk_color", 0), ("walk_color", 1)),
        *(("walk_depth", 1), ("walk_camera", 1)),
    ),
    "5 Long video": (("long_color", 0), ("long_color", 1), ("long_depth", 0), ("long_depth", 1)),
    "2 Video to depth and camera": ((SOURCE, 0.5), ("color", 0.5), ("depth", 0.5), ("true_depth", 0.5)),
    "6 Video to Blender and Nuke": (
        *((SOURCE, 0), (SOURCE, 1)),
        *(("blender_depth_video", 0), ("blender_depth_video", 1)),
    ),
}
"""What a thumbnail shows, row by row: a video that the template saves, and when (0 first frame, 1 last)."""
CLOUD = "7 Video to point cloud"
"""Shows its 3D view instead."""
TURN, FILLED = (60, -35), 420
"""How the mouse turns the 3D view, in pixels to the right and down, and how large the points have to be."""
BAR, AXES = 64, 170
"""Pixels of the 3D view's picture: bars above and below, the square of the axes in the lower left."""
ACCELERATED = {
    FIRST, "3 Picture along a camera path", "4 From one picture to another",
    "8 Compare with and without HERO", "9 With core samplers",
}  # fmt: skip
"""Those that show the strip of full and cached steps."""
CLOSE = (760, 377)
"""Width and height, on the canvas, of what is shown around HERO Patch of a graph that is not run."""
GROUPS = """() => {
    const boxes = app.graph.groups.map(({ pos, size }) => [...pos, ...size]);
    const x = Math.min(...boxes.map(box => box[0])), y = Math.min(...boxes.map(box => box[1]));
    const right = Math.max(...boxes.map(box => box[0] + box[2]));
    const bottom = Math.max(...boxes.map(box => box[1] + box[3]));
    return [x, y, right - x, bottom - y];
}"""
AROUND_HERO = """([width, height]) => {
    const { pos } = app.graph.nodes.find(node => node.type === "HeroPatch");
    return [pos[0] - 120, pos[1] - 40, width, height];
}"""
ON_PAGE = """([x, y, width, height]) => {
    const { scale, offset } = app.canvas.ds, edge = app.canvas.canvas.getBoundingClientRect();
    const [left, top] = [edge.left + (x + offset[0]) * scale, edge.top + (y + offset[1]) * scale];
    return { x: left, y: top, width: width * scale, height: height * scale };
}"""


@contextmanager
def comfyui_in_a_browser(folder: Path) -> Iterator[Page]:
    put_files(folder / "base")
    (folder / "base/input").mkdir()
    shutil.copy(find_comfyui() / "input/example.png", folder / "base/input")
    server = Server(find_comfyui(), folder / "base", ROOT).wait()
    try:
        with comfyui_page(server, folder, scale=1.5) as page:
            # Words on nodes also where the whole graph is in view.
            page.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
            page.setting("Comfy.Minimap.Visible", False)
            yield page
    finally:
        server.stop()


def source_of(name: str) -> np.ndarray:
    """The clip that the template's Aether Example Clip renders."""
    from aether.miniature import random_scene, render

    node = next(node for node in WORKFLOWS[name]["nodes"] if node["type"] == "AetherExample")
    scene, frames, width, height = node["widgets_values"]
    return render(random_scene(scene), int(frames), height, width, samples=2).rgb


def clips_of(name: str, entry: dict[str, Any], output: Path) -> dict[str, np.ndarray]:
    """The videos of a run by the name that the template saves them under, their halves, and its source."""
    clips = {SOURCE: source_of(name)}
    kinds = {str(node["id"]): node for node in WORKFLOWS[name]["nodes"]}
    for key, found in entry["outputs"].items():
        if kinds[key]["type"] == "SaveVideo":
            (video,) = found["images"]
            saved_as = Path(kinds[key]["widgets_values"][0]).name
            clip = frames_of(output / video["subfolder"] / video["filename"])
            width = (clip.shape[2] - STITCHED) // 2
            clips[saved_as] = clip
            clips |= {f"{saved_as}, left": clip[:, :, :width], f"{saved_as}, right": clip[:, :, -width:]}
    return clips


def thumbnail(name: str, clips: dict[str, np.ndarray]) -> Image.Image:
    canvas = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    tiles = TILES[name]
    columns = len(tiles) // 2
    width, height = (SIDE - GAP * (columns - 1)) // columns, (SIDE - GAP) // 2
    for number, (clip, when) in enumerate(tiles):
        frame = clips[clip][round(when * (len(clips[clip]) - 1))]
        row, column = divmod(number, columns)
        picture = Image.fromarray(np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8))
        canvas.paste(_cover(picture, width, height), (column * (width + GAP), row * (height + GAP)))
    if name in ACCELERATED:
        _draw_strip(ImageDraw.Draw(canvas))
    return canvas


def cloud_thumbnail(page: Page) -> Image.Image:
    """The 3D view without its grid, seen from behind the camera and a little above."""
    page.look_at("PreviewPointCloud", 1.0)
    page.tab.get_by_role("button", name="Show grid").click()
    view = page.tab.locator("canvas.outline-none")
    box, mouse = view.bounding_box(), page.tab.mouse
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + TURN[0], y + TURN[1], steps=10)
    mouse.up()
    for _ in range(50):
        pixels = np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB"))[BAR:-BAR].copy()
        top, left, side = _around_points(pixels)
        if side >= FILLED:
            square = (left, top, left + side, top + side)
            return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS, square)
        for _ in range(3):
            mouse.wheel(0, -120)
            page.tab.wait_for_timeout(100)
    raise SystemExit(f"{CLOUD}: the mouse wheel does not bring the points near")


def _around_points(pixels: np.ndarray) -> tuple[float, float, float]:
    """The square around all points but stray ones: top, left, side. Paints over the axes."""
    background = np.median(pixels, axis=(0, 1)).astype(np.uint8)
    pixels[-AXES:, :AXES] = background
    points = np.stack(np.nonzero(np.abs(pixels.astype(int) - background).max(axis=2) > 24))
    low, high = np.percentile(points, (1, 99), axis=1)
    side = min(1.15 * (high - low).max(), *pixels.shape[:2])
    top, left = np.clip((low + high - side) / 2, 0, np.array(pixels.shape[:2]) - side)
    return top, left, side


def graph_thumbnail(page: Page) -> Image.Image:
    """The whole graph above, HERO Patch below: for templates whose models are not here to be run."""
    half = (SIDE - GAP) // 2
    canvas = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    page.js("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    whole = _shot_of(page, page.js(GROUPS))
    whole.thumbnail((SIDE, half), Image.Resampling.LANCZOS)
    canvas.paste(whole, ((SIDE - whole.width) // 2, (half - whole.height) // 2))
    page.look_at("HeroPatch", 1.0)
    canvas.paste(_cover(_shot_of(page, page.js(AROUND_HERO, CLOSE)), SIDE, half), (0, half + GAP))
    return canvas


def _shot_of(page: Page, box: list[float]) -> Image.Image:
    """A part of the canvas: x, y, width and height there."""
    page.tab.wait_for_timeout(3000)
    return Image.open(io.BytesIO(page.tab.screenshot(clip=page.js(ON_PAGE, box)))).convert("RGB")


def _cover(picture: Image.Image, width: int, height: int) -> Image.Image:
    """As large as needed, its middle."""
    scale = max(width / picture.width, height / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return picture.resize(size, Image.Resampling.LANCZOS).crop((left, top, left + width, top + height))


def _draw_strip(draw: ImageDraw.ImageDraw, steps: int = 50) -> None:
    """The template's steps: bright ones are full."""
    left, right, middle = 20, SIDE - 20, SIDE // 2
    draw.rounded_rectangle((left, middle - 16, right, middle + 16), 10, BACKGROUND)
    each = (right - left - 16) / steps
    config = HeroConfig.preset("balanced")
    counts = config.resolve(blocks=12, steps=steps)
    for number, age in enumerate(step_ages(config.schedule(counts), steps)):
        x = left + 8 + number * each
        draw.rectangle((x, middle - 8, x + each - 2, middle + 8), DIM if age else BRIGHT)


def run_thumbnail(page: Page, name: str, folder: Path) -> Image.Image:
    """From the videos or the 3D view of a run of the open template."""
    entry = page.run()
    if entry["status"]["status_str"] != "success":
        raise SystemExit(f"{name}: {entry['status']['messages'][-1]}")
    if name == CLOUD:
        return cloud_thumbnail(page)
    return thumbnail(name, clips_of(name, entry, folder / "base/output"))


def readme_picture(page: Page, folder: Path) -> None:
    """The open template after its run."""
    page.js("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.tab.wait_for_timeout(3000)
    page.shot("readme")
    shot = Image.open(folder / "readme.png").convert("RGB")
    shot.resize((1800, 1000)).save(ROOT / "docs/images/comfyui.jpg", quality=80)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, comfyui_in_a_browser(Path(scratch)) as page:
        for name in names or (*TILES, CLOUD, *CORE_TEMPLATES):
            page.open_template(name)
            on_core = name in CORE_TEMPLATES
            picture = graph_thumbnail(page) if on_core else run_thumbnail(page, name, Path(scratch))
            picture.save(ROOT / "workflows" / f"{name}.jpg", quality=85)
            if name == FIRST:
                readme_picture(page, Path(scratch))
            print(f"{name}: done")


if __name__ == "__main__":
    main(sys.argv[1:])
