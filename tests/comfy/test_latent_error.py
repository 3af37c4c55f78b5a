"""HERO Report with a reference: the measured error, and wires that are wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def runs(nodes: Any, miniature: SimpleNamespace, predicted: SimpleNamespace) -> SimpleNamespace:
    """A MODEL with HERO, its run's latent, and the one without HERO."""
    settings = {"steps": 8, "guidance": 1.0, "seed": 3, "scheduler": "ddim"}
    patched = nodes.HeroPatch(model=miniature.model, preset="paper")[0]
    latent, reference = (
        nodes.AetherSampler(model=model, **vars(predicted), **settings)[0]
        for model in (patched, miniature.model)
    )
    return SimpleNamespace(model=patched, latent=latent, reference=reference)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).double().norm() / b.double().norm())


@pytest.fixture
def events(part: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the page is sent."""
    sent: list[dict[str, Any]] = []
    module = part("nodes.bridge.hero_reports")
    monkeypatch.setattr(module, "send_event", lambda name, data: sent.append(data))
    return sent


def test_the_error_of_the_latent_and_of_its_streams(
    nodes: Any, part: Any, runs: SimpleNamespace, events: list[dict[str, Any]]
):
    text, picture = nodes.HeroReport(model=runs.model, latent=runs.latent, reference=runs.reference).args
    ours, plain = runs.latent["samples"], runs.reference["samples"]
    found = part("nodes.latent_error").latent_error(ours, plain, (16, 16, 24))
    assert found.whole == pytest.approx(relative(ours, plain), rel=1e-6)
    assert 0 < found.whole < 0.5
    parts = {"RGB": slice(0, 16), "depth": slice(16, 32), "camera": slice(32, 56)}
    for name, channels in parts.items():
        assert found.streams[name] == pytest.approx(relative(ours[:, channels], plain[:, channels]), rel=1e-6)
    lines = text.splitlines()
    assert lines[0].startswith("HERO: ") and lines[-1] == found.text()
    assert lines[-1].startswith("Measured error: ") and "camera" in lines[-1]
    assert picture.std() > 0.05
    (sent,) = events
    assert (sent["node"], sent["cached"]) == ("7", 2)
    assert sent["error"] == pytest.approx(found.whole)


def test_a_model_without_streams(nodes: Any, core_model: SimpleNamespace, ksampler: Any):
    patched = nodes.HeroPatch(model=core_model.model, preset="paper")[0]
    ours, plain = (ksampler(model, core_model.task) for model in (patched, core_model.model))
    text = nodes.HeroReport(model=patched, latent={"samples": ours}, reference={"samples": plain})[0]
    assert "Measured error: " in text and "camera" not in text


def test_a_bypassed_hero_has_no_error(
    nodes: Any, miniature: SimpleNamespace, runs: SimpleNamespace, events: list[dict[str, Any]]
):
    """Both runs are without HERO then: nothing is wrong with them."""
    text = nodes.HeroReport(model=miniature.model, latent=runs.reference, reference=runs.reference)[0]
    assert text.splitlines() == [
        "No HERO Patch or Cache Method is on this MODEL: every step was computed in full.",
        "Measured error: 0.00 % (RGB 0.00 %, depth 0.00 %, camera 0.00 %).",
    ]
    assert events == []


def test_wires_that_look_wrong(nodes: Any, runs: SimpleNamespace):
    report = nodes.HeroReport
    same = report(model=runs.model, latent=runs.latent, reference=runs.latent)[0]
    assert "The reference equals the latent, although steps were reused" in same.splitlines()[-1]
    other = {"samples": torch.randn(runs.latent["samples"].shape, generator=torch.Generator().manual_seed(0))}
    text = report(model=runs.model, latent=runs.latent, reference=other)[0]
    assert "same seed, steps and conditioning" in text.splitlines()[-1]


def test_what_cannot_be_compared(nodes: Any, runs: SimpleNamespace):
    ours = runs.latent["samples"]
    for other in (ours[:, :, :2], ours[:, :16], ours[..., :4], torch.cat([ours, ours])):
        with pytest.raises(ValueError, match=r"^reference: has shape .* the latent \(1, 56, 5, 4, 6\)"):
            nodes.HeroReport(model=runs.model, latent=runs.latent, reference={"samples": other})
    for value in (float("nan"), float("inf")):
        broken = ours.clone()
        broken[0, 0, 0, 0, 0] = value
        for field, pair in (("reference", (ours, broken)), ("latent", (broken, ours))):
            with pytest.raises(ValueError, match=rf"^{field}: holds NaN or infinite"):
                nodes.HeroReport(
                    model=runs.model, latent={"samples": pair[0]}, reference={"samples": pair[1]}
                )


@pytest.mark.parametrize(
    ("error", "words"),
    [(0.0, "0.00 %"), (3e-6, "<0.01 %"), (0.00567, "0.57 %"), (0.0173, "1.7 %"), (0.4, "40.0 %")],
)
def test_errors_in_percent(part: Any, error: float, words: str):
    assert part("nodes.latent_error").percent(error) == words


def test_a_reference_of_zeros(part: Any):
    zeros, ones = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    error = part("nodes.latent_error").latent_error
    assert error(zeros, zeros, (4,)).whole == 0
    assert error(ones, zeros, (4,)).whole == 1
