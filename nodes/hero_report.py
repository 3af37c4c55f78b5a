"""HERO Report: what HERO did in a run, and how far the result is from the one without it."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from .latent_error import latent_error


class HeroReport(io.ComfyNode):
    """What HERO did in a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroReport",
            display_name="HERO Report",
            category="Aether/hero",
            description="Shows what HERO did in a run: which steps were reused, how much the features "
            "drifted, the time saved and the memory used. With a reference it also measures the error.",
            search_aliases=["hero report", "speedup", "cache report", "skip report", "benchmark", "error"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From HERO Patch or Cache Method: the same model that goes to the sampler.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="From the sampler, before Aether Split. The report waits for its run to end.",
                ),
                io.Latent.Input(
                    "reference",
                    optional=True,
                    tooltip="The latent of a second sampler that runs without HERO, with the same seed, "
                    "steps and conditioning. If connected, the report and HERO Patch show the measured "
                    "error.",
                ),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The report as text."),
                io.Image.Output("picture", display_name="picture", tooltip="The report as a chart."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model: Any, latent: dict[str, Any], reference: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        from ..hero_engine import report_png
        from .bridge.hero_reports import box_of, image_of
        from .bridge.hero_run import is_measured, output_streams

        samples = latent["samples"]
        error = None
        if reference is not None:
            error = latent_error(samples, reference["samples"], output_streams(model))
        box = box_of(model)
        report = None if box is None else box.find(samples)
        if box is None or report is None:
            text, picture = _why_none(box is None), torch.zeros(1, 64, 64, 3)
        else:
            text = report.summary() + ("" if is_measured(model) or error else f"\n{_UNMEASURED}")
            picture = image_of(report_png(report, note=error.text() if error else ""))
            if error:
                box.send(report, error.whole)
        if error:
            reused = report is not None and not report.nothing_reused
            text = "\n".join([text, error.text(), *error.doubts(reused)])
        shown = {"text": (text,)} | (ui.PreviewImage(picture, cls=cls).as_dict() if report else {})
        return io.NodeOutput(text, picture, ui=shown)


_UNMEASURED = (
    "The quality of HERO's presets was not measured on this kind of model: connect the latent of a run "
    "without HERO as reference to see the error."
)


def _why_none(unpatched: bool) -> str:
    if unpatched:
        return "No HERO Patch or Cache Method is on this MODEL: every step was computed in full."
    return (
        "No report for this latent: it was not made with this MODEL, or too long ago. Connect the latent of "
        "the sampler that runs this MODEL, and run again with another seed if it was cached."
    )


NODES: list[type[Any]] = [HeroReport]
