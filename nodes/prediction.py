"""What the page shows under the settings of HERO Patch and Cache Method, computed from what the page knows of
the graph. Nothing is loaded and nothing runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..aether.defaults import SCHEDULERS
from ..aether.errors import InputError
from ..hero_engine import ConfigError, HeroConfig, MethodConfig
from ..hero_engine.checks import integer
from ..hero_engine.cost import ModelShape, Prediction, predict
from .bridge.core_samplers import adds_noise
from .bridge.model_before import ASSUMED, Clip, ModelBefore, model_before
from .bridge.recorded_run import RecordedRun
from .bridge.recordings import predict_error
from .hero import HeroPatch, make_config
from .hero_methods import make_method
from .inputs import MOST_PIXELS

_MOST_STEPS, _MOST_BATCH, _MOST_BYTES = 10_000, 4096, 8
_MOST_TOKENS = 2**22
"""More than any model takes; counting those that are recomputed would take long."""


def answer(request: Any) -> dict[str, Any]:
    """The prediction for a node.

    Args:
        request: by name,
            node: "HeroPatch" or "HeroMethod".
            widgets: its settings by name, None for those that are not known before the run. Cache Method's
            are "method" and the settings that come with it.
            model: see :func:`~.bridge.model_before.model_before`; None where none is connected.
            run: "steps"; and, where the graph says them, "batch" (forwards a step, 2 with guidance),
            "height", "width", "frames", "clip" (frames of a clip that is read, of which a model may take
            fewer), "bytes" of a number and "sampler" (see :class:`~.bridge.recorded_run.RecordedRun`).

    Returns:
        by name,
            steps, fullSteps, cachedSteps, strip (for each step, whether it is full), speedupBound and
            cachedBytes: of :class:`~hero_engine.cost.Prediction`.
            interval, adaptive (whether more steps may be full than these), blocks of the model.
            tau, mask: HERO's, None for other methods. A mask that is not empty decides in place of the
            interval.
            model, height, width, frames: what the prediction is for.
            settings: the value assumed for each widget that was None.
            unknownModel, unmeasured: whether Aether was assumed for the model, and whether quality was not
            measured on the model.
            addsNoise: whether the sampler is known to add noise in every step.
            accuracy: "error", relative, of the final latent, and "spread", a factor, or None; with None also
            "why", "known" and "wanted", see :class:`~.bridge.recordings.PredictedError`. None for Cache
            Method, where no model is connected and where nothing is reused.

        For anything impossible, {"error": {"field": ..., "reason": ...}}.
    """
    try:
        return _predicted(_mapping("request", request))
    except (ConfigError, InputError) as error:
        reason = str(error).removeprefix(f"{error.field}: ")
        return {"error": {"field": error.field, "reason": reason}}


@dataclass(frozen=True)
class _Settings:
    """A configuration, and what was assumed for settings that are not known."""

    config: MethodConfig
    assumed: dict[str, Any]


@dataclass(frozen=True)
class _Run:
    """What is run, all of it known or assumed."""

    steps: int
    batch: int
    clip: Clip
    element_bytes: int
    sampler: Mapping[str, Any]


def _predicted(request: Mapping[str, Any]) -> dict[str, Any]:
    node = request.get("node")
    if not isinstance(node, str) or node not in _NODES:
        raise ConfigError("node", f"{node!r} is not one of {', '.join(_NODES)}")
    settings = _NODES[node](_checked_widgets(_mapping("widgets", request.get("widgets"))))
    given = request.get("model")
    found = None if given is None else model_before(_mapping("model", given))
    model = found or ASSUMED
    run = _run_of(_mapping("run", request.get("run")), model)
    shape = _checked(model.shape(run.clip))
    prediction = predict(settings.config, shape, run.steps, run.batch, run.element_bytes)
    return {
        **_numbers(prediction),
        **vars(run.clip),
        "interval": settings.config.interval,
        **{name: getattr(settings.config, name, None) for name in ("tau", "mask")},
        "adaptive": settings.config.threshold > 0,
        "blocks": shape.blocks,
        "model": model.name,
        "settings": settings.assumed,
        "unknownModel": given is not None and found is None,
        "unmeasured": not model.measured,
        "addsNoise": _adds_noise(run.sampler),
        "accuracy": _accuracy(given, found, settings.config, run, prediction),
    }


def _adds_noise(sampler: Mapping[str, Any]) -> bool:
    if "aether" in sampler:
        return sampler["aether"] == SCHEDULERS[0]
    name = sampler.get("core")
    return isinstance(name, str) and adds_noise(name)


def _accuracy(
    given: Any, found: ModelBefore | None, config: MethodConfig, run: _Run, prediction: Prediction
) -> dict[str, Any] | None:
    if given is None or not isinstance(config, HeroConfig) or prediction.full_steps == prediction.steps:
        return None
    recorded = RecordedRun.before(given, found, run.sampler, run.steps, run.clip)
    return vars(predict_error(recorded, config))


def _numbers(prediction: Prediction) -> dict[str, Any]:
    return {
        "steps": prediction.steps,
        "fullSteps": prediction.full_steps,
        "cachedSteps": prediction.steps - prediction.full_steps,
        "strip": prediction.strip,
        "speedupBound": prediction.speedup_bound,
        "cachedBytes": prediction.cached_bytes,
    }


def _hero(widgets: Mapping[str, Any]) -> _Settings:
    inputs = _hero_defaults()
    for name in widgets:
        if name not in inputs:
            raise ConfigError(str(name), "HERO Patch has no such setting; reload the browser")
    known = {name: value for name, value in widgets.items() if value is not None}
    assumed = {name: inputs[name] for name in widgets if name not in known}
    return _Settings(make_config(**{**inputs, **known}), assumed)


@functools.cache
def _hero_defaults() -> dict[str, Any]:
    """HERO Patch's settings as a new node has them; None for what comes by a wire only."""
    inputs = HeroPatch.define_schema().inputs
    return {one.id: getattr(one, "default", None) for one in inputs if one.id != "model"}


def _method(widgets: Mapping[str, Any]) -> _Settings:
    if widgets.get("method") is None:
        raise ConfigError("method", "is not known; choose a method")
    config = make_method(dict(widgets))
    assumed = {
        name: value for name, value in config.to_dict().items() if name in widgets and widgets[name] is None
    }
    return _Settings(config, assumed)


_NODES: dict[str, Callable[[Mapping[str, Any]], _Settings]] = {"HeroPatch": _hero, "HeroMethod": _method}


def _run_of(run: Mapping[str, Any], model: ModelBefore) -> _Run:
    def number(name: str, most: int, otherwise: int) -> int:
        value = run.get(name)
        return otherwise if value is None else integer(name, value, 1, most)

    read = number("clip", MOST_PIXELS, model.clip.frames)
    return _Run(
        steps=integer("steps", run.get("steps"), 1, _MOST_STEPS),
        batch=number("batch", _MOST_BATCH, 1),
        clip=Clip(
            height=number("height", MOST_PIXELS, model.clip.height),
            width=number("width", MOST_PIXELS, model.clip.width),
            frames=number("frames", MOST_PIXELS, min(read, model.clip.frames)),
        ),
        element_bytes=number("bytes", _MOST_BYTES, model.element_bytes),
        sampler=_mapping("sampler", run.get("sampler") or {}),
    )


def _checked(shape: ModelShape) -> ModelShape:
    if not 1 <= shape.video_tokens <= _MOST_TOKENS:
        raise ConfigError("size", f"{shape.video_tokens} tokens are too few or too many for a prediction")
    return shape


def _checked_widgets(widgets: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in widgets.items():
        if value is not None and not isinstance(value, str | int | float):
            raise ConfigError(str(name), "must be text or a number")
    return widgets


def _mapping(field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(field, "must hold values by name")
    return value
