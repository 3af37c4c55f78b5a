"""Aether Explore: a walk through a world along a camera path of any length, and on from its end."""

from __future__ import annotations

import json
from typing import Any, TypedDict

import numpy as np
import torch
from comfy_api.latest import io

from ..aether.arrays import to_bytes
from ..aether.clips.pictures import fit_frames
from ..aether.defaults import TASKS
from ..aether.errors import InputError
from ..aether.explore.chain import Chain
from ..aether.explore.parts import Plan, longer, plan_windows
from ..aether.explore.walk import TASK, Options, Walk, explore_windows
from ..aether.geometry import trajectory
from .bridge.messages import show_text
from .bridge.wiring import waiting
from .conditioning import check_size, made, read_colors, renamed, size_of, spec_of
from .inputs import AUTO, SCHEDULER, VAE, size_inputs
from .sampler import guidance_problem
from .types import CameraPath, CamerasValue
from .windows import (
    JOINED_OUTPUTS,
    MODEL,
    SEED,
    Show,
    WindowRun,
    joined_outputs,
    token,
    window_folder,
    window_input,
)

World = io.Custom("AETHER_WORLD")


class WorldValue(TypedDict):
    """AETHER_WORLD: a walk to go on from.

    picture: (H, W, 3) uint8, the first. plan: the path so far. fps: its rate. signature: all that its windows
    hang on besides.
    """

    picture: np.ndarray
    plan: Plan
    fps: int
    signature: dict[str, Any]


class AetherExplore(io.ComfyNode):
    """A walk in windows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherExplore",
            display_name="Aether Explore",
            category="Aether",
            description="One picture and a camera path of any length in, a walk through its world out: "
            "video, depth and cameras in one piece. Add a move to the path and run again, and only the new "
            "part is computed.",
            search_aliases=["world model", "long video", "walk", "fly through", "camera path", "infinite"],
            inputs=[
                MODEL,
                VAE,
                CameraPath.Input(
                    "camera",
                    tooltip="The path, of any length: each of its frames becomes a frame of the walk. "
                    "Lengths are in units of the nearest depth of the first window.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Where the walk begins; of several, the first counts. Leave it out if world is "
                    "connected.",
                ),
                World.Input(
                    "world",
                    optional=True,
                    tooltip="Instead of an image: a walk of another Aether Explore that this path continues. "
                    "Two that continue the same walk share its beginning.",
                ),
                *size_inputs(" A walk that continues another has its size."),
                window_input("path"),
                SEED,
                io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Steps for each window. 0 is 50."),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Guidance of every window; 0 is 3, as in a prediction. With 1 there is none: "
                    "half the time, and colors that stay softer on a long way.",
                ),
                SCHEDULER,
                io.Boolean.Input(
                    "returns",
                    default=True,
                    tooltip="Where the path comes back to a view seen before, the window leads to that very "
                    "frame, so that the place is the same. Off: it is imagined anew.",
                ),
                io.Boolean.Input(
                    "steady",
                    default=True,
                    advanced=True,
                    tooltip="Keeps colors and the scale of depth from drifting from window to window.",
                ),
            ],
            outputs=[
                *JOINED_OUTPUTS,
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How the windows were joined and whether the path was followed, as JSON text.",
                ),
                World.Output(
                    "world",
                    display_name="world",
                    tooltip="This walk, for another Aether Explore that continues it.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(
        cls, width: int, height: int, guidance: float, vae: Any = None, **others: Any
    ) -> list[str]:
        check_size(width, height)
        problem = guidance_problem(guidance)
        if problem is not None:
            raise InputError("guidance", problem)
        return waiting({"vae": vae})

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        camera: CamerasValue,
        width: int,
        height: int,
        frames: str,
        seed: int,
        steps: int,
        guidance: float,
        scheduler: str,
        returns: bool,
        steady: bool,
        image: torch.Tensor | None = None,
        world: WorldValue | None = None,
    ) -> io.NodeOutput:
        settings = {
            "seed": seed,
            "steps": steps or TASKS[TASK].default_steps,
            "guidance": guidance,
            "scheduler": scheduler,
        }
        begun = {"model": token(model), "vae": token(vae), **settings, "returns": returns, "steady": steady}
        if (image is None) == (world is None):
            raise InputError(
                "image", "connect a picture to begin with, or a world to go on from, one of the two"
            )
        if world is None:
            picture, plan = _begin(vae, image, camera, width, height, frames)
            fps = camera["fps"]
        else:
            plan = _go_on(world, camera, begun, size_of(vae, width, height) if width else None, frames)
            picture, fps = world["picture"], world["fps"]
        options = Options(fps=fps, returns=returns, colors=steady, steady=steady)
        signature = {**begun, **vars(options)}
        with renamed("out", "temp"):
            walk = explore_windows(
                picture,
                Chain(window_folder(), signature, picture, plan),
                plan,
                WindowRun(model, vae, settings),
                settings["steps"],
                options,
                callback=Show(cls.hidden.unique_id, model),
                preview=_show_picture,
            )
        show_text(cls.hidden.unique_id, _summary(walk, fps))
        value: WorldValue = {"picture": picture, "plan": plan, "fps": fps, "signature": begun}
        report = json.dumps(walk.report, indent=1)
        return io.NodeOutput(*joined_outputs(walk, walk.cameras, fps), report, value)


def _begin(
    vae: Any, image: torch.Tensor, camera: CamerasValue, width: int, height: int, frames: str
) -> tuple[np.ndarray, Plan]:
    """The first picture in 8 bits, and the path in windows."""
    size = size_of(vae, width, height)
    with renamed("video", "image"):
        picture = fit_frames(read_colors(image[:1], "image"), *size)[0]
    path = trajectory.fitted(camera["cameras"], *size)
    length = None if frames == AUTO else int(frames)
    with renamed("window", "frames"):
        return to_bytes(picture), plan_windows(path, length, default=spec_of(vae).default_frames)


def _go_on(
    world: WorldValue,
    camera: CamerasValue,
    begun: dict[str, Any],
    size: tuple[int, int] | None,
    frames: str,
) -> Plan:
    """The path of a walk with another piece, in windows.

    Raises:
        InputError: the walk was made with something else; the field says what.
    """
    plan = world["plan"]
    for name, value in begun.items():
        if world["signature"][name] != value:
            raise InputError(name, "is not what the connected world was made with; give both nodes the same")
    if size not in (None, (plan.path.height, plan.path.width)):
        raise InputError(
            "width, height",
            f"the connected world is {plan.path.width} x {plan.path.height}; give the same, or 0 for both",
        )
    if frames not in (AUTO, str(plan.length)):
        raise InputError(
            "frames", f"the connected world has windows of {plan.length}; give the same, or auto"
        )
    piece = trajectory.fitted(camera["cameras"], plan.path.height, plan.path.width)
    return plan_windows(longer(plan.path, piece), plan.length, plan.overlap)


def _show_picture(walk: Walk) -> None:
    """The last frame so far, as the node's preview."""
    import comfy.utils
    from PIL import Image

    done = len(walk.report["windows"])
    picture = Image.fromarray(walk.rgb[len(walk) - 1])
    bar = comfy.utils.ProgressBar(len(walk.plan.starts))
    bar.update_absolute(done, preview=("JPEG", picture, max(picture.size)))


def _summary(walk: Walk, fps: int) -> str:
    windows = walk.report["windows"]
    size = (walk.cameras.height, walk.cameras.width)
    parts = [f"{made(len(walk), size, fps)}: {len(windows)} windows of {walk.plan.length}"]
    if walk.resumed:
        parts[0] += f", {walk.resumed} done before"
    astray = [str(n) for n, window in enumerate(windows, 1) if not window["following"]["followed"]]
    if astray:
        parts.append(f"the camera path was not followed in window {', '.join(astray)}")
    back = [f"{n} (frame {w['goal'] + 1})" for n, w in enumerate(windows, 1) if w["goal"] is not None]
    if back:
        parts.append(f"back at a known view at the end of window {', '.join(back)}")
    return "\n".join([*parts, *walk.report["notes"]])


NODES: list[type[Any]] = [AetherExplore]
