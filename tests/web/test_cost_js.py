"""web/cost.js and hero_engine.cost are one formula."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aether.miniature.model import TRANSFORMER
from hero_engine import METHODS, PRESETS, ConfigError, HeroConfig
from hero_engine.amounts import amount, fraction
from hero_engine.cost import ModelShape, aether_shape, predict

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed: web/cost.js is not run")


def ask(
    cases: list[dict[str, Any]],
    clips: Sequence[tuple[str, int, int, int]] = (),
    amounts: Sequence[tuple[str, str, int]] = (),
) -> dict[str, Any]:
    """What web/cost.js answers, run in node."""
    command = [str(NODE), str(Path(__file__).with_name("cost_cases.mjs")), str(ROOT / "web" / "cost.js")]
    text = json.dumps({"cases": cases, "clips": clips, "amounts": amounts})
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def js_shape(shape: ModelShape) -> dict[str, Any]:
    return {
        "blocks": shape.blocks,
        "width": shape.width,
        "timeWidth": shape.time_width,
        "textTokens": shape.text_tokens,
        "textWidth": shape.text_width,
        "grid": list(shape.grid),
        "inChannels": shape.in_channels,
        "outChannels": shape.out_channels,
        "patchSize": shape.patch_size,
    }


def js_amount(value: int | str) -> dict[str, Any]:
    if isinstance(value, int):
        return {"count": value}
    part, whole = (value[:-1], 100) if value.endswith("%") else value.split("/")
    return {"share": [float(part), float(whole)]}


def js_config(config: HeroConfig) -> dict[str, Any]:
    names = (
        "interval", "ratio", "threshold", "patch", "context", "forecast", "text", "shallow", "storage",
        "feedback",
    )  # fmt: skip
    amounts = {name: js_amount(getattr(config, name)) for name in ("tau", "warmup", "cooldown")}
    return {**{name: getattr(config, name) for name in names}, **amounts}


def random_shape(rng: random.Random) -> ModelShape:
    return ModelShape(
        blocks=rng.randint(1, 60),
        width=32 * rng.randint(1, 128),
        time_width=rng.choice([64, 256, 512]),
        text_tokens=rng.choice([0, 1, 8, 226]),
        text_width=rng.choice([64, 4096]),
        grid=(rng.randint(1, 13), rng.randint(1, 48), rng.randint(1, 90)),
        in_channels=rng.choice([32, 96]),
        out_channels=rng.choice([16, 56]),
        patch_size=rng.choice([1, 2]),
    )


def random_share(rng: random.Random, least: int = 1) -> str:
    return rng.choice([f"{rng.randint(least, 100)}%", f"{rng.randint(10 * least, 1000) / 10}%", "1/6", "2/3"])


def random_setting(rng: random.Random, shape: ModelShape) -> dict[str, Any]:
    """Widget-like values, on slider steps as well as between them."""
    return {
        # Shares in hundredths of the blocks meet halves, which round to even.
        "tau": rng.randint(1, shape.blocks + 1) if rng.random() < 0.3 else random_share(rng, 5),
        "interval": rng.randint(1, 12),
        "ratio": rng.choice([rng.randint(5, 100) / 100, rng.uniform(0.01, 1.0), 1 / 6]),
        "threshold": rng.choice([0.0, 0.3]),
        "patch": tuple(rng.randint(1, high) for high in (3, 4, 4)),
        "warmup": rng.randint(1, 20) if rng.random() < 0.5 else random_share(rng),
        "cooldown": rng.choice([0, rng.randint(1, 20), random_share(rng)]),
        "context": rng.choice(["selected", "cached_kv"]),
        "forecast": rng.choice(["linear", "quadratic", "fitted"]),
        "text": rng.choice(["refresh", "omit"]),
        "shallow": rng.choice(["reuse", "forecast"]),
        "storage": rng.choice(["model", "float8", "host"]),
        "feedback": rng.choice([0.0, 0.5, 1.0]),
    }


def python_answer(
    setting: dict[str, Any], shape: ModelShape, steps: int, batch: int, size: int
) -> dict[str, Any]:
    try:
        found = predict(HeroConfig(**setting), shape, steps, batch, size)
    except ConfigError as error:
        return {"error": error.field}
    return {
        "steps": found.steps,
        "fullSteps": found.full_steps,
        "cachedShare": found.cached_share,
        "linearFlops": found.linear_flops,
        "unacceleratedLinearFlops": found.unaccelerated_linear_flops,
        "flops": found.flops,
        "unacceleratedFlops": found.unaccelerated_flops,
        "cachedBytes": found.cached_bytes,
        "speedupBound": found.speedup_bound,
    }


def test_a_thousand_random_settings_agree():
    rng = random.Random(20261120)
    cases, expected = [], []
    for _ in range(1000):
        shape = (
            random_shape(rng) if rng.random() < 0.7 else aether_shape(480, 720, rng.choice([17, 25, 33, 41]))
        )
        setting, steps = random_setting(rng, shape), rng.choice([1, 4, 30, 50, rng.randint(1, 120)])
        batch, size = rng.randint(1, 2), rng.choice([2, 4])
        given = {name: js_amount(setting[name]) for name in ("tau", "warmup", "cooldown")}
        config = {**setting, **given}
        cases.append(
            {"config": config, "shape": js_shape(shape), "steps": steps, "batch": batch, "elementBytes": size}
        )
        expected.append(python_answer(setting, shape, steps, batch, size))
    answers = ask(cases)["answers"]
    assert sum("error" not in case for case in expected) > 600
    assert {case["error"] for case in expected if "error" in case} == {"tau", "ratio", "patch"}
    for case, ours, theirs in zip(cases, expected, answers, strict=True):
        for name, value in ours.items():
            exact = isinstance(value, str) or name in ("steps", "fullSteps", "cachedBytes")
            assert theirs[name] == (value if exact else pytest.approx(value, rel=1e-12)), (name, case)


@pytest.mark.parametrize(
    "text",
    ["4", " 4 ", "0", "-1", "5%", "5 %", "0%", "100%", "100.5%", ".5%", "1/4", "5/4", "0/3", "1/0", "", "%",
     "x", "1e1", "4.0", "1/2/3", "50%%"],
)  # fmt: skip
@pytest.mark.parametrize("low", [0, 1])
def test_amounts_are_read_alike(text, low):
    try:
        ours = amount("warmup", text, "steps", low)
    except ConfigError as error:
        assert ask([], amounts=[["warmup", text, low]])["amounts"] == [{"error": error.field}]
        return
    (theirs,) = ask([], amounts=[["warmup", text, low]])["amounts"]
    if "share" in theirs:
        part, whole = theirs["share"]
        assert part / whole == pytest.approx(float(fraction(str(ours))))
    else:
        assert theirs == {"count": ours}


def random_method(rng: random.Random, name: str) -> dict[str, Any]:
    """Widget-like values of Cache Method."""
    warmup = rng.choice([rng.randint(3 if name == "worldcache" else 1, 20), random_share(rng)])
    settings = {"interval": rng.randint(1, 10), "warmup": warmup}
    if name != "worldcache":
        settings["cooldown"] = rng.choice([0, rng.randint(1, 20), random_share(rng)])
    if name == "taylorseer":
        settings["order"] = rng.randint(1, 4)
    if name in ("toca", "duca"):
        settings |= {"ratio": rng.randint(1, 100) / 100, "taper": rng.choice([0.0, rng.randint(0, 99) / 100])}
    if name == "duca":
        settings["first"] = rng.choice(["toca", "aggressive"])
    return settings


@pytest.mark.parametrize("name", [name for name in METHODS if name != "hero"])
def test_two_hundred_random_settings_of_other_methods_agree(name):
    rng = random.Random(f"20261128 {name}")
    cases, expected = [], []
    for _ in range(200):
        shape, steps = random_shape(rng), rng.choice([1, 4, 30, 50, rng.randint(1, 120)])
        settings, batch, size = random_method(rng, name), rng.randint(1, 2), rng.choice([2, 4])
        case = {"method": name, "config": settings, "shape": js_shape(shape), "steps": steps}
        cases.append(case | {"batch": batch, "elementBytes": size})
        expected.append(predict(METHODS[name](**settings), shape, steps, batch, size))
    found = ask(cases)
    defaults = found["defaults"][name]
    ours = {setting: getattr(METHODS[name](), setting) for setting in defaults}
    texts = {setting: str(ours[setting]) for setting in ("warmup", "cooldown") if setting in ours}
    assert defaults == ours | texts
    assert settings.keys() <= defaults.keys()
    for case, ours, theirs in zip(cases, expected, found["answers"], strict=True):
        counts = (theirs["steps"], theirs["fullSteps"], theirs["cachedBytes"])
        assert counts == (ours.steps, ours.full_steps, ours.cached_bytes), case
        assert theirs["cachedSteps"] == len(theirs["strip"]) - sum(theirs["strip"])
        assert theirs["speedupBound"] == pytest.approx(ours.speedup_bound, rel=1e-12), case


def test_presets_are_the_engines():
    """The ratio's slider has steps of 0.01 (0.17 for 1/6): the same number of tokens, so the same run."""
    shape = aether_shape(480, 720, 41)
    presets = ask([])["presets"]
    assert set(presets) == set(PRESETS)
    for name, config in presets.items():
        ours = js_config(replace(PRESETS[name], ratio=0.17))
        assert config == {**ours, "patch": list(ours["patch"])}
        assert PRESETS[name].resolve(42, 50) == replace(PRESETS[name], ratio=0.17).resolve(42, 50)
        answer = ask(
            [{"config": config, "shape": js_shape(shape), "steps": 50, "batch": 2, "elementBytes": 2}]
        )
        expected = predict(PRESETS[name], shape, 50, 2, 2)
        assert answer["answers"][0]["speedupBound"] == pytest.approx(expected.speedup_bound, rel=1e-12)


def test_shapes_of_the_two_models():
    answer = ask([], [("aether", 480, 720, 41), ("aether", 320, 480, 17), ("miniature", 64, 96, 17)])
    assert answer["shapes"][0] == js_shape(aether_shape(480, 720, 41))
    assert answer["shapes"][1] == js_shape(aether_shape(320, 480, 17))
    mini = answer["shapes"][2]
    assert mini["grid"] == [5, 8, 12]
    assert mini["width"] == TRANSFORMER["num_attention_heads"] * TRANSFORMER["attention_head_dim"]
    assert mini["blocks"] == TRANSFORMER["num_layers"]
    assert mini["timeWidth"] == TRANSFORMER["time_embed_dim"]
    assert mini["textTokens"] == TRANSFORMER["max_text_seq_length"]
    assert mini["textWidth"] == TRANSFORMER["text_embed_dim"]
    assert mini["patchSize"] == TRANSFORMER["patch_size"]
    own = answer["models"]["miniature"]
    assert (own["height"], own["width"], own["frames"]) == tuple(
        TRANSFORMER[f"sample_{name}"] * scale for name, scale in (("height", 8), ("width", 8), ("frames", 1))
    )
