"""HERO Patch and HERO Report."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..hero_engine import PRESETS, HeroConfig
from ..hero_engine.amounts import share_of
from ..hero_engine.config import CONTEXTS, FORECASTS, SHALLOWS, STORAGES, TEXTS
from .inputs import amount_input, seed_input
from .wiring import waiting

CUSTOM = "custom"
_SLIDER = io.NumberDisplay.slider


class HeroPatch(io.ComfyNode):
    """MODEL to an accelerated MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroPatch",
            display_name="HERO Patch",
            category="Aether/hero",
            description="Accelerates sampling (HERO): on most steps a part of the model runs on a part of "
            "the picture, the rest is extrapolated. Bypass or delete this node to undo it.",
            search_aliases=["hero", "speed up", "accelerate", "cache", "teacache", "faster", "fora", "toca"],
            inputs=[
                io.Model.Input(
                    "model", lazy=True, tooltip="An Aether MODEL, or a CogVideoX MODEL of core's loaders."
                ),
                io.Combo.Input(
                    "preset",
                    options=[CUSTOM, *PRESETS],
                    default="balanced",
                    tooltip="Named settings, which win over everything below but seed and storage. custom: "
                    "what is set below.",
                ),
                io.Float.Input(
                    "tau",
                    default=0.25,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="Share of the blocks that run on cached steps. Higher is slower, and not always "
                    "more accurate.",
                ),
                io.Int.Input(
                    "interval",
                    default=2,
                    min=1,
                    max=10,
                    display_mode=_SLIDER,
                    tooltip="N: at least one step in N is computed in full. 1 makes every step full.",
                ),
                io.Float.Input(
                    "ratio",
                    default=0.17,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="r: share of each patch of tokens that is computed on cached steps, in whole "
                    "tokens (0.17 of 1 x 2 x 3 is one). Higher is slower, and not always more accurate.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="0: full steps come by the interval alone. Above 0: also as soon as the model "
                    "has drifted by that much since the last one; HERO Report draws the drift.",
                ),
                amount_input("warmup", "5%", "Full steps at the beginning.", advanced=True),
                amount_input(
                    "cooldown",
                    "10%",
                    "Full steps at the end. They decide the details: with some, the result is far closer to "
                    "the one without HERO.",
                    advanced=True,
                ),
                *(
                    io.Int.Input(
                        f"patch_{axis}",
                        default=default,
                        min=1,
                        max=64,
                        advanced=True,
                        tooltip=f"Size of a patch in {axis} of tokens. In each, ratio is drawn at random.",
                    )
                    for axis, default in (("frames", 1), ("rows", 2), ("columns", 3))
                ),
                io.Combo.Input(
                    "context",
                    options=list(CONTEXTS),
                    default="selected",
                    advanced=True,
                    tooltip="What refreshed tokens attend to. selected: each other. cached_kv: all tokens, "
                    "as they last were; a lower error, and much more memory.",
                ),
                io.Combo.Input(
                    "forecast",
                    options=list(FORECASTS),
                    default="linear",
                    advanced=True,
                    tooltip="How features are extrapolated. linear: along a line. quadratic: along a curve, "
                    "more accurate with samplers without noise (DDIM, euler). fitted: by coefficients fitted "
                    "to its last errors; pays without a cool-down. The latter two hold more memory.",
                ),
                io.Combo.Input(
                    "shallow",
                    options=list(SHALLOWS),
                    default="forecast",
                    advanced=True,
                    tooltip="Shallow-layer values for tokens that are not recomputed. reuse: the last ones. "
                    "forecast: extrapolated like the deep layers; more accurate with samplers without noise "
                    "(DDIM, euler).",
                ),
                io.Float.Input(
                    "feedback",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=_SLIDER,
                    advanced=True,
                    tooltip="How strongly the next full step corrects the error of the cached ones. Free, "
                    "and keeps long intervals close to the result without HERO. 0: none, as published.",
                ),
                io.Combo.Input(
                    "text",
                    options=list(TEXTS),
                    default="omit",
                    advanced=True,
                    tooltip="Whether text tokens run along on cached steps. omit is what the paper counts.",
                ),
                io.Combo.Input(
                    "storage",
                    options=list(STORAGES),
                    default="model",
                    advanced=True,
                    tooltip="Where cached features wait, also with a preset. model: as they are. float8: "
                    "half the memory, slightly rounded. host: in the computer's memory, exact.",
                ),
                seed_input("Of the choice of tokens; independent of the sampler's seed.", advanced=True),
                io.Int.Input(
                    "tau_blocks",
                    optional=True,
                    force_input=True,
                    min=1,
                    max=1000,
                    tooltip="tau as a number of blocks, of HERO Analyzer say. Wins over tau and the preset.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The MODEL, accelerated. The one that came in stays as it was.")
            ],
            hidden=[io.Hidden.unique_id],
            # Its MODEL reports to this very node: no twin may be given it from the cache.
            not_idempotent=True,
        )

    @classmethod
    def check_lazy_status(cls, model: Any = None, **settings: Any) -> list[str]:
        make_config(**settings)
        return waiting({"model": model})

    @classmethod
    def execute(cls, model: Any, **settings: Any) -> io.NodeOutput:
        from .hero_run import patched

        return io.NodeOutput(patched(model, make_config(**settings), cls.hidden.unique_id))


def make_config(
    preset: str,
    tau: float,
    seed: int,
    storage: str,
    patch_frames: int,
    patch_rows: int,
    patch_columns: int,
    tau_blocks: int | None = None,
    **settings: Any,
) -> HeroConfig:
    """HERO Patch's widgets as a configuration.

    Raises:
        ConfigError: a value out of range; names the field.
    """
    if preset != CUSTOM:
        overrides = {} if tau_blocks is None else {"tau": tau_blocks}
        return HeroConfig.preset(preset, seed=seed, storage=storage, **overrides)
    return HeroConfig(
        tau=share_of("tau", tau) if tau_blocks is None else tau_blocks,
        patch=(patch_frames, patch_rows, patch_columns),
        seed=seed,
        storage=storage,
        **settings,
    )


class HeroReport(io.ComfyNode):
    """What HERO did in a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroReport",
            display_name="HERO Report",
            category="Aether/hero",
            description="What HERO did in the run that gave this latent: steps, drift, time, memory.",
            search_aliases=["hero report", "speedup", "cache report", "skip report", "benchmark"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The MODEL of HERO Patch or Cache Method that the sampler ran."
                ),
                io.Latent.Input("latent", tooltip="What the sampler made with it (before Aether Split)."),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The report in words."),
                io.Image.Output("picture", display_name="picture", tooltip="The report as a drawing."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, latent: dict[str, Any]) -> io.NodeOutput:
        from ..hero_engine import report_png
        from .hero_reports import box_of, image_of

        box = box_of(model)
        report = None if box is None else box.find(latent["samples"])
        if report is not None:
            text, picture = report.summary(), image_of(report_png(report))
        else:
            text = _why_none(box is None)
            picture = torch.zeros(1, 64, 64, 3)
        shown = {"text": (text,)} | (ui.PreviewImage(picture, cls=cls).as_dict() if report else {})
        return io.NodeOutput(text, picture, ui=shown)


def _why_none(unpatched: bool) -> str:
    if unpatched:
        return "No HERO Patch or Cache Method is on this MODEL: every step was computed in full."
    return (
        "No report for this latent: it was not made with this MODEL, or too long ago. Connect the latent of "
        "the sampler that runs this MODEL, and run again with another seed if it was cached."
    )


NODES: list[type[Any]] = [HeroPatch, HeroReport]
