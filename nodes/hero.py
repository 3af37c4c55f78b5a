"""HERO Patch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..hero_engine import PRESETS, HeroConfig
from ..hero_engine.amounts import share_of
from ..hero_engine.hero.config import SHALLOWS, STORAGES, TEXTS, TRENDS
from .bridge.wiring import waiting
from .inputs import BYPASS, HERO_MODEL, cooldown_input, interval_input, seed_input, warmup_input
from .outputs import ACCELERATED

CUSTOM, OFF = "custom", "off"
_SLIDER = io.NumberDisplay.slider


class HeroPatch(io.ComfyNode):
    """MODEL to an accelerated MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroPatch",
            display_name="HERO Patch",
            category="Aether/hero",
            description="Makes sampling faster. Some steps are computed in full; the steps between them "
            "reuse most of the work of the last full step. Put it between the loader and the sampler. "
            + BYPASS,
            search_aliases=[
                "hero",
                "speed up",
                "speed up video",
                "accelerate",
                "cache",
                "teacache",
                "faster",
                "fora",
                "toca",
            ],
            inputs=[
                HERO_MODEL,
                io.Combo.Input(
                    "preset",
                    options=[CUSTOM, *PRESETS, OFF],
                    default="balanced",
                    tooltip="Tested settings. balanced, quality (slower, closer to the unaccelerated "
                    "result) and fast are this pack's own. paper and paper-fast are the published ones: a "
                    "third less memory, rougher. A preset sets everything below but storage and seed; "
                    "moving a slider switches to custom. off runs every step in full.",
                ),
                io.Float.Input(
                    "tau",
                    default=0.25,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="How much of the model runs on a cached step, as a share of its layers. Higher "
                    "is slower, and not always more accurate. HERO Analyzer recommends a value.",
                ),
                interval_input(),
                io.Float.Input(
                    "ratio",
                    default=0.17,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="How much of the picture is recomputed on a cached step. Higher is slower, and "
                    "not always more accurate.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    display_mode=_SLIDER,
                    tooltip="0 keeps the fixed interval. Above 0, a full step also comes as soon as the "
                    "model's features have drifted by more than this since the last one. HERO Report draws "
                    "the drift.",
                ),
                warmup_input("5%", advanced=True),
                cooldown_input("10%", advanced=True),
                *(
                    io.Int.Input(
                        f"patch_{axis}",
                        default=default,
                        min=1,
                        max=64,
                        advanced=True,
                        tooltip=f"Size of a patch in {axis} of tokens, which are small blocks of pixels. "
                        "Cached steps recompute the share ratio of each patch, chosen at random.",
                    )
                    for axis, default in (("frames", 1), ("rows", 2), ("columns", 3))
                ),
                io.Combo.Input(
                    "shallow",
                    options=list(SHALLOWS),
                    default="forecast",
                    advanced=True,
                    tooltip="Shallow-layer values for tokens that are not recomputed. reuse: the last ones, "
                    "as published. forecast: extrapolated like the deep layers, much more accurate with "
                    "samplers that add no noise (ddim, euler).",
                ),
                io.Float.Input(
                    "feedback",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=_SLIDER,
                    advanced=True,
                    tooltip="How strongly the next full step corrects the error of the cached ones. Costs "
                    "almost nothing, and keeps long intervals close to the unaccelerated result. 0 is none, "
                    "as published.",
                ),
                io.Combo.Input(
                    "text",
                    options=list(TEXTS),
                    default="omit",
                    advanced=True,
                    tooltip="What happens to the prompt's tokens on cached steps. refresh: they are "
                    "computed. omit: they are left out, as published. Matters for Aether and CogVideoX only.",
                ),
                io.Combo.Input(
                    "storage",
                    options=list(STORAGES),
                    default="model",
                    advanced=True,
                    tooltip="Where reused features are kept, with presets too. model: as they are. float8: "
                    "half the memory, slightly rounded. host: in the computer's main memory, exact.",
                ),
                seed_input(
                    "Which tokens are recomputed. It is independent of the sampler's seed.", advanced=True
                ),
                io.Int.Input(
                    "tau_blocks",
                    optional=True,
                    force_input=True,
                    min=1,
                    max=1000,
                    tooltip="tau as a number of layers, from HERO Analyzer. If connected, it overrides the "
                    "slider, the preset and the setting.",
                ),
                io.String.Input(
                    "mask",
                    optional=True,
                    default="",
                    advanced=True,
                    tooltip="Which steps run in full, one by one: 1 for a full step, 0 for a reused one, "
                    "such as 1110100. Runs of other lengths keep the same share of full steps in every part. "
                    "If set, interval, warm-up and cool-down are not used.",
                ),
                io.String.Input(
                    "setting",
                    optional=True,
                    force_input=True,
                    tooltip="A whole setting as text, from HERO Tuner or from somebody else, such as "
                    'tau=25% text=omit mask="4 of 7: 1110100". What it leaves out has the engine\'s default. '
                    "If connected, it overrides the preset and everything but storage and seed.",
                ),
                io.Combo.Input(
                    "trend",
                    options=list(TRENDS),
                    optional=True,
                    default="linear",
                    advanced=True,
                    tooltip="How features go on between full steps. linear: as they changed last, as "
                    "published. damped: by the share of that change that lasts, which each full step "
                    "measures. Worth a try with long intervals and in short runs.",
                ),
            ],
            outputs=[ACCELERATED],
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
        from .bridge.hero_run import patched

        config = make_config(**settings)
        if settings["preset"] == OFF and settings.get("setting") is None:
            return io.NodeOutput(model)
        return io.NodeOutput(patched(model, config, cls.hidden.unique_id))


def make_config(
    preset: str,
    tau: float,
    seed: int,
    storage: str,
    patch_frames: int,
    patch_rows: int,
    patch_columns: int,
    tau_blocks: int | None = None,
    setting: str | None = None,
    **settings: Any,
) -> HeroConfig:
    """HERO Patch's widgets as a configuration.

    A `setting` goes over the preset, and the preset over the widgets, of which `seed` and `storage` always
    count; `tau_blocks` goes over the tau of all three. The preset "off" has every step full.

    Raises:
        ConfigError: a value out of range; names the field.
    """
    always = {"seed": seed, "storage": storage} | ({} if tau_blocks is None else {"tau": tau_blocks})
    if setting is not None:
        return replace(HeroConfig.from_text(setting), **always)
    if preset == OFF:
        return HeroConfig(interval=1, **always)
    if preset != CUSTOM:
        return HeroConfig.preset(preset, **always)
    patch = (patch_frames, patch_rows, patch_columns)
    return HeroConfig(**{"tau": share_of("tau", tau), "patch": patch} | settings | always)


NODES: list[type[Any]] = [HeroPatch]
