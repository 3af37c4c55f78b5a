"""HERO Tuner: the settings of HERO Patch for one model and one kind of run, measured on the spot."""

from __future__ import annotations

import time
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..aether.errors import InputError
from ..hero_engine import HeroConfig
from ..hero_engine.hero.widgets import widgets_of
from .hero import CUSTOM
from .inputs import SAMPLED_GUIDANCE, sampled_inputs, sampled_scheduler, seed_input
from .sampler import guidance_problem
from .sampling_run import SamplingRun

_SLIDER = io.NumberDisplay.slider


class HeroTuner(io.ComfyNode):
    """A few denoising runs to the setting that best meets a target."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroTuner",
            display_name="HERO Tuner",
            category="Aether/hero",
            description="Finds settings for HERO Patch by measuring on your model. It samples once without "
            "acceleration, then with the most promising settings, and gives out those that best meet your "
            "target. Connect it like a sampler.",
            search_aliases=["hero tune", "auto settings", "calibrate", "optimize", "benchmark", "speed"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The same as for HERO Patch. HERO on it is ignored: the tuner puts on its own.",
                ),
                *sampled_inputs(),
                seed_input("Seed of the noise, the same in all of its runs.", most=2**64 - 1),
                io.Combo.Input(
                    "target",
                    options=["speed", "error"],
                    default="speed",
                    tooltip="speed: the closest to the unaccelerated result at this speed. error: the "
                    "fastest within this error.",
                ),
                io.Float.Input(
                    "speed",
                    default=2.0,
                    min=1.2,
                    max=5.0,
                    step=0.1,
                    display_mode=_SLIDER,
                    tooltip="For the target speed: at least so many times less computation than without "
                    "HERO.",
                ),
                io.Float.Input(
                    "error",
                    default=1.0,
                    min=0.05,
                    max=20.0,
                    step=0.05,
                    display_mode=_SLIDER,
                    tooltip="For the target error: at most so many percent of difference from the result "
                    "without HERO.",
                ),
                io.Int.Input(
                    "budget",
                    default=6,
                    min=2,
                    max=24,
                    tooltip="Most runs to make; the first is without acceleration. More find better "
                    "settings. Runs made before for the same inputs are not made again.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="As many as your real runs have, at least 6. 0 takes the task's own.",
                ),
                SAMPLED_GUIDANCE,
                sampled_scheduler(),
                io.Sampler.Input(
                    "sampler",
                    optional=True,
                    tooltip="For ComfyUI's own samplers: the same as in SamplerCustom. Needs sigmas too; "
                    "scheduler and steps are not used then.",
                ),
                io.Sigmas.Input(
                    "sigmas", optional=True, tooltip="The same as in SamplerCustom, with sampler."
                ),
            ],
            outputs=[
                io.String.Output(
                    "setting",
                    display_name="setting",
                    tooltip="The settings that were found, as a line of text. Goes to setting of HERO Patch.",
                ),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="Speed and error of all settings that were measured, with the chosen one.",
                ),
                io.String.Output("text", display_name="text", tooltip="The same as a table."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, guidance: float | None) -> bool | str:
        # A linked value is not known yet. ComfyUI puts the input's name before the answer.
        return True if guidance is None else guidance_problem(guidance) or True

    @classmethod
    def execute(
        cls, model: Any, target: str, speed: float, error: float, budget: int, **sampling: Any
    ) -> io.NodeOutput:
        from ..hero_engine import tuning_png
        from .bridge.hero_reports import image_of
        from .bridge.messages import show_text

        node_id = cls.hidden.unique_id
        folder, found = _tune(
            model, SamplingRun(**sampling), make_target(target, speed, error), budget, node_id
        )
        picture, text = image_of(tuning_png(found)), f"{found.summary()}\n\n{found.table()}"
        show_text(node_id, found.summary())
        shown = {
            "text": (text,),
            "setting": (found.setting,),
            "widgets": (patch_widgets(found.choice.config, found.recording.blocks),),
            "recording": (folder.name,),
        }
        shown |= ui.PreviewImage(picture, cls=cls).as_dict()
        return io.NodeOutput(found.setting, picture, text, ui=shown)


def make_target(target: str, speed: float, error: float) -> Any:
    """The node's widgets as the engine's ``Target``.

    Raises:
        ConfigError: a value out of range; names the field.
    """
    from ..hero_engine.tune import Target

    return Target(speed=speed) if target == "speed" else Target(error=error / 100)


def patch_widgets(config: HeroConfig, blocks: int) -> dict[str, Any]:
    """A setting as the values of HERO Patch's widgets, by name; seed and storage stay as they are there."""
    return {"preset": CUSTOM, **widgets_of(config, blocks)}


def _tune(
    model: Any, sampling: SamplingRun, target: Any, budget: int, node_id: str | None
) -> tuple[Any, Any]:
    """(folder, the engine's ``Tuning``)."""
    from ..hero_engine.tune import tune
    from .bridge.content import digest
    from .bridge.core_samplers import goes_back
    from .bridge.hero_run import in_sessions_of, transformer_of
    from .bridge.measurements import folder_of

    transformer_of(model)  # refuses what HERO does not take
    if goes_back(sampling.sampler):
        raise InputError(
            "sampler",
            "goes back and forth in time, so that nothing can be reused; use another, such as euler",
        )
    show = _Show(node_id, model, sampling.number_of_steps(model))
    folder = folder_of(digest(model, sampling.content()))

    def run(session: Any) -> torch.Tensor:
        opened = in_sessions_of(model, lambda whole, steps, noise: session(whole, steps, noise()))
        return sampling.sample(opened, show.step)

    found = tune(
        run,
        target,
        budget,
        folder=folder,
        streams=_streams(model),
        progress=show.begin,
        about=sampling.about(model),
    )
    return folder, found


def _streams(model: Any) -> Any:
    """How a latent of a MODEL is taken apart; None where it is one."""
    from .bridge.model import AetherBase
    from .latents import streams_of

    return streams_of if isinstance(model.model, AetherBase) else None


class _Show:
    """Progress over all runs, with the time left and core's preview; ends a run when ComfyUI is asked to.

    Args:
        steps: of each run.
    """

    def __init__(self, node_id: str | None, model: Any, steps: int):
        self._node_id, self._model, self._steps = node_id, model, steps
        self._show, self._run, self._text, self._said = None, None, "", ""
        self._first, self._made = 0.0, 0

    def begin(self, run: Any) -> None:
        """A run begins: the engine's ``Progress``."""
        import latent_preview

        self._run = run
        if self._show is None:
            self._show = latent_preview.prepare_callback(self._model, run.total * self._steps)
        self._say(f"run {run.number} of {run.total}: {run.text}")

    def step(self, index: int, predicted: torch.Tensor, latent: torch.Tensor, steps: int) -> None:
        """A step is done, as core's samplers report it."""
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
        run, self._made = self._run, self._made + 1
        done, total = (run.number - 1) * steps + index + 1, run.total * steps
        self._show(done - 1, predicted, latent, total)
        self._say(f"run {run.number} of {run.total}: {run.text}{self._left(total - done)}")

    def _left(self, steps: int) -> str:
        """The time that so many steps will take, in words. The first step, which warms up, does not count."""
        now = time.monotonic()
        if self._made == 1:
            self._first = now
            return ""
        seconds = (now - self._first) / (self._made - 1) * steps
        return f"\nat most about {_duration(seconds)} left"

    def _say(self, text: str) -> None:
        from .bridge.messages import show_text

        if text != self._said:
            self._said = text
            show_text(self._node_id, text)


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


NODES: list[type[Any]] = [HeroTuner]
