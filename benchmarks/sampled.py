"""Runs of the bundled miniature in a real ComfyUI, as its nodes make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from aether.miniature import WorldClip, random_scene, render

from .comfyui import find_comfyui, load_pack, part

OWN_SAMPLERS = ("dpm", "ddim")
"""Of Aether Sampler; every other name is one of core's."""
FRAMES, HEIGHT, WIDTH, FPS = 17, 64, 96, 12


@dataclass(frozen=True)
class Clip:
    """What is asked of the model.

    scene: of the synthetic world. task: "prediction" or "planning". with_camera: whether the model is given
    the scene's camera path.
    """

    scene: int
    task: str
    with_camera: bool

    def world(self) -> WorldClip:
        """The scene."""
        return render(random_scene(self.scene), FRAMES, HEIGHT, WIDTH, FPS)


class Miniature:
    """The miniature in ComfyUI (``$COMFYUI_PATH``, else ``~/comfy/ComfyUI``).

    Raises:
        SystemExit: ComfyUI is not there.
    """

    def __init__(self) -> None:
        comfyui = find_comfyui()
        if comfyui is None:
            raise SystemExit("ComfyUI is not here: set COMFYUI_PATH, or put it at ~/comfy/ComfyUI")
        load_pack(comfyui)
        self._model, self._vae = run_node("nodes.loaders", "AetherMiniature")

    def sampling(self, clip: Clip, sampler: str, steps: int, seed: int) -> Any:
        """A run as ``nodes.sampling_run`` has it; core's samplers have its sgm_uniform sigmas."""
        core: dict[str, Any] = {}
        if sampler not in OWN_SAMPLERS:
            import comfy.samplers

            noise = self._model.get_model_object("model_sampling")
            core["sampler"] = comfy.samplers.sampler_object(sampler)
            core["sigmas"] = comfy.samplers.calculate_sigmas(noise, "sgm_uniform", steps)
        scheduler = OWN_SAMPLERS[0] if core else sampler
        run = part("nodes.sampling_run").SamplingRun
        return run(*self._conditioning(clip), seed, steps, 0.0, scheduler, **core)

    def sample(self, sampling: Any, config: Any = None) -> torch.Tensor:
        """The samples of a run, (1, 56, T, h, w), with HERO's settings or none."""
        model = self._model
        if config is not None:
            own = part("hero_engine").HeroConfig.from_text(config.to_text())
            model = part("nodes.bridge.hero_run").patched(model, own, None)
        return _sampled(sampling, model)

    def runner(self, sampling: Any) -> Callable[[Any], torch.Tensor]:
        """The same, in the sessions of ``hero_engine.tune``."""
        opened = part("nodes.bridge.hero_run").in_sessions_of

        def run(session: Any) -> torch.Tensor:
            model = opened(self._model, lambda whole, steps, noise: session(whole, steps, noise()))
            return _sampled(sampling, model)

        return run

    def _conditioning(self, clip: Clip) -> Any:
        world = clip.world()
        pictures = torch.from_numpy(world.rgb)
        given: dict[str, Any] = {"image": pictures[:1]}
        if clip.task == "planning":
            given = {"start": pictures[:1], "goal": pictures[-1:]}
        if clip.with_camera:
            cameras = part("aether.geometry.cameras").Cameras(world.poses, world.intrinsics, HEIGHT, WIDTH)
            given["camera"] = {"cameras": cameras, "fps": FPS}
        size = {"frames": str(FRAMES), "width": WIDTH, "height": HEIGHT}
        node = {"prediction": "AetherPredict", "planning": "AetherPlan"}[clip.task]
        return run_node("nodes.tasks", node, vae=self._vae, **size, **given)


def _sampled(sampling: Any, model: Any) -> torch.Tensor:
    with torch.inference_mode():
        samples: torch.Tensor = sampling.sample(model, lambda *step: None)
    return samples


def run_node(module: str, name: str, **given: Any) -> Any:
    """The outputs of a node of the pack, run as ComfyUI would; what is not given has its default."""
    node = next(one for one in part(module).NODES if one.define_schema().node_id == name)
    inputs = node.define_schema().inputs
    defaults = {one.id: one.default for one in inputs if getattr(one, "default", None) is not None}
    ready = node.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    with torch.inference_mode():
        return getattr(ready, ready.FUNCTION)(**(defaults | given)).args
