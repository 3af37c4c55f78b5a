"""How a run's report finds its way from the sampler to HERO Report and to the canvas."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from typing import Any

import comfy.model_management
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image

from ...hero_engine import RunReport
from ..types import color_image
from .messages import send_event
from .model import KEY

EVENT = "aether_hero.report"
_KEPT = 16


class ReportBox:
    """The latest reports of a HERO Patch or Cache Method, each by the fingerprint of its run's latent.

    Made when that node runs, and attached to the MODEL that it gives out.
    """

    def __init__(self, node_id: str | None):
        self._node_id = node_id
        self._reports: OrderedDict[str, RunReport] = OrderedDict()

    def add(self, report: RunReport, latent: torch.Tensor) -> None:
        """Keep a report, and have the page show it on the node."""
        self._reports[fingerprint(latent)] = report
        while len(self._reports) > _KEPT:
            self._reports.popitem(last=False)
        self.send(report)

    def send(self, report: RunReport, error: float | None = None) -> None:
        """Have the page show a report on the node.

        Args:
            error: relative error of the run's latent, where it was measured.
        """
        context = get_executing_context()
        prompt = context.prompt_id if context else None
        send_event(EVENT, {"node": self._node_id, "prompt": prompt, **_numbers(report), "error": error})

    def find(self, latent: torch.Tensor) -> RunReport | None:
        return self._reports.get(fingerprint(latent))


def box_of(model: Any) -> ReportBox | None:
    """The box on a MODEL, None where neither node is on it."""
    return model.get_attachment(KEY)


def image_of(png: bytes) -> torch.Tensor:
    """A PNG file as IMAGE: (1, H, W, 3) in [0, 1]."""
    return color_image([Image.open(io.BytesIO(png)).convert("RGB")])


def fingerprint(latent: torch.Tensor) -> str:
    """The same before and after core has moved a latent to where it keeps them."""
    values = latent.detach().to("cpu", comfy.model_management.intermediate_dtype()).float().contiguous()
    digest = hashlib.sha256(repr(tuple(values.shape)).encode())
    digest.update(values.numpy())
    return digest.hexdigest()


def _numbers(report: RunReport) -> dict[str, Any]:
    return {
        "summary": report.summary(),
        "steps": report.steps,
        "full": report.full_steps,
        "cached": report.cached_steps,
        "speedup": report.measured_speedup,
        "predicted": report.predicted_speedup,
        "bytes": report.bytes_cached,
        "seconds": report.seconds(),
        "reused": not report.nothing_reused,
    }
