"""HERO Analyzer: where to split a model's blocks."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io, ui

from ..hero_engine import HeroConfig, LayerAnalysis, LayersConfig, layers_png
from .inputs import SAMPLED_GUIDANCE, amount_input, sampled_inputs, sampled_scheduler, seed_input
from .sampler import guidance_problem
from .sampling_run import SamplingRun


class HeroAnalyzer(io.ComfyNode):
    """A denoising run without acceleration to a recommended tau."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroAnalyzer",
            display_name="HERO Analyzer",
            category="Aether/hero",
            description="Samples once without acceleration, measures how each layer's features change from "
            "step to step, and recommends how many layers HERO Patch should run on cached steps. Connect it "
            "like a sampler.",
            search_aliases=["hero analysis", "layers", "blocks", "tau", "calibrate", "variance"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From the loader. HERO on it is ignored, since the analysis needs every step in "
                    "full.",
                ),
                *sampled_inputs("Only its length and size matter."),
                seed_input("Seed of the noise.", most=2**64 - 1),
                io.Int.Input(
                    "steps",
                    default=30,
                    min=1,
                    max=1000,
                    tooltip="As many as your real runs have, and more than the warm-up. 20 or more give a "
                    "clear picture.",
                ),
                SAMPLED_GUIDANCE,
                sampled_scheduler(": the fresh noise of dpm makes features jitter and raises tau"),
                io.Int.Input(
                    "interval",
                    default=2,
                    min=2,
                    max=10,
                    tooltip="The interval that HERO Patch will use. The recommendation is for this one.",
                ),
                io.Float.Input(
                    "ratio",
                    default=0.17,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The ratio that HERO Patch will use, in patches of 1 x 2 x 3 tokens.",
                ),
                amount_input("warmup", "4", "The warm-up that HERO Patch will use.", advanced=True),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="The analysis as a chart."),
                io.Int.Output(
                    "tau",
                    display_name="tau",
                    tooltip="The recommended number of layers. Goes to tau blocks of HERO Patch.",
                ),
                io.String.Output("text", display_name="text", tooltip="The analysis as text."),
                io.String.Output(
                    "json", display_name="json", tooltip="All its numbers as JSON, for scripts."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, guidance: float | None) -> bool | str:
        # A linked value is not known yet. ComfyUI puts the input's name before the answer.
        return True if guidance is None else guidance_problem(guidance) or True

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent: dict[str, Any],
        seed: int,
        steps: int,
        guidance: float,
        scheduler: str,
        interval: int,
        ratio: float,
        warmup: str,
    ) -> io.NodeOutput:
        from .bridge.hero_reports import image_of
        from .bridge.hero_run import in_session

        sampling = SamplingRun(positive, negative, latent, seed, steps, guidance, scheduler)
        found: list[LayerAnalysis] = []
        config = LayersConfig(HeroConfig(interval=interval, ratio=ratio, warmup=warmup))
        watched = in_session(model, config, lambda run, _: found.append(run.method.analysis()))
        sampling.sample(watched)
        (analysis,) = found
        picture, text = image_of(layers_png(analysis)), analysis.summary()
        shown = {"text": (text,), "tau": (analysis.tau,)} | ui.PreviewImage(picture, cls=cls).as_dict()
        return io.NodeOutput(picture, analysis.tau, text, json.dumps(analysis.to_dict(), indent=1), ui=shown)


NODES: list[type[Any]] = [HeroAnalyzer]
