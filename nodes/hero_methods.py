"""Cache Method: what HERO is compared with, on a MODEL."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hero_engine import METHODS, ConfigError, MethodConfig
from ..hero_engine.baselines import FIRSTS, SCORES
from .inputs import amount_input, seed_input
from .wiring import waiting

_SLIDER = io.NumberDisplay.slider


def _interval(default: int = 2) -> io.Int.Input:
    return io.Int.Input(
        "interval",
        default=default,
        min=1,
        max=10,
        display_mode=_SLIDER,
        tooltip="N: at least one step in N is computed in full. 1 makes every step full.",
    )


def _warmup(default: str = "4") -> io.Input:
    return amount_input("warmup", default, "Full steps at the beginning.")


def _cooldown() -> io.Input:
    return amount_input("cooldown", "0", "Full steps at the end; none as published.")


def _share(name: str, default: float, tooltip: str, **settings: Any) -> io.Float.Input:
    limits = {"min": 0.0, "max": 1.0, "step": 0.01} | settings
    return io.Float.Input(name, default=default, tooltip=tooltip, **limits)


def _toca(interval: int) -> list[Any]:
    return [
        _interval(interval),
        _warmup(),
        _cooldown(),
        _share(
            "ratio",
            0.1,
            "Share of the tokens whose feed-forward is computed on cached steps. More is truer and slower.",
            min=0.01,
            display_mode=_SLIDER,
        ),
        io.Combo.Input(
            "score",
            options=list(SCORES),
            default="value",
            tooltip="What makes a token worth computing: a small value norm, a large key norm, or chance.",
        ),
        _share(
            "staleness",
            0.25,
            "Weight of the steps since a token was computed.",
            max=10.0,
            advanced=True,
        ),
        _share("bonus", 0.6, "What the best of 2 x 2 tokens gets on top.", max=10.0, advanced=True),
        _share("taper", 0.0, "How much the interval shrinks over the run.", max=0.99, advanced=True),
        seed_input("Of the score by chance.", advanced=True),
    ]


def _options() -> dict[str, list[Any]]:
    """Inputs of each method, named as its settings."""
    order = io.Int.Input(
        "order",
        default=1,
        min=1,
        max=4,
        tooltip="Of the Taylor series. Each order takes as much memory again.",
    )
    first = io.Combo.Input(
        "first",
        options=list(FIRSTS),
        default=FIRSTS[0],
        advanced=True,
        tooltip="Which kind of cached step follows a full one.",
    )
    return {
        "fora": [_interval(), _warmup(), _cooldown()],
        "taylorseer": [order, _interval(), _warmup(), _cooldown()],
        "toca": _toca(2),
        "duca": [*_toca(3), first],
        "worldcache": [
            _interval(3),
            _warmup("10"),
            _share(
                "threshold",
                0.2,
                "Cached steps go on while the error that they are estimated to make stays below this. "
                "Less is truer and slower.",
                min=0.01,
                max=10.0,
            ),
            _share("stable", 0.3, "Share of the positions that reuse the output.", advanced=True),
            _share("chaotic", 0.4, "Share of the positions whose path is damped.", advanced=True),
        ],
    }


class HeroMethod(io.ComfyNode):
    """MODEL to a MODEL accelerated by another method."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeroMethod",
            display_name="Cache Method",
            category="Aether/hero",
            description="Accelerates sampling by one of the methods that HERO is compared with, in place of "
            "HERO Patch. HERO Report tells what it did. Bypass or delete this node to undo it.",
            search_aliases=[
                "fora",
                "taylorseer",
                "toca",
                "duca",
                "worldcache",
                "cache",
                "baseline",
                "compare",
            ],
            inputs=[
                io.Model.Input(
                    "model", lazy=True, tooltip="An Aether MODEL, or a CogVideoX MODEL of core's loaders."
                ),
                io.DynamicCombo.Input(
                    "method",
                    options=[io.DynamicCombo.Option(name, inputs) for name, inputs in _options().items()],
                    tooltip="All but worldcache hold features of every block: 16 GB and more for Aether. See "
                    "the help page.",
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
    def check_lazy_status(cls, method: dict[str, Any], model: Any = None) -> list[str]:
        # ComfyUI gives the settings that come with a method as (value, name of the input).
        make_method({name: value[0] for name, value in method.items()})
        return waiting({"model": model})

    @classmethod
    def execute(cls, model: Any, method: dict[str, Any]) -> io.NodeOutput:
        from .hero_run import output_streams, patched

        return io.NodeOutput(patched(model, make_method(method, output_streams(model)), cls.hidden.unique_id))


def make_method(method: dict[str, Any], streams: tuple[int, ...] | None = None) -> MethodConfig:
    """The node's widgets as a method's settings.

    Args:
        method: its name as "method", and its settings; None for those that a saved prompt lacks.
        streams: of the model's output, which WorldCache has to know.

    Raises:
        ConfigError: a value out of range; names the field.
    """
    settings = {name: value for name, value in method.items() if value is not None}
    name = settings.pop("method")
    if name not in _options():
        raise ConfigError("method", f"{name!r} is not one of {', '.join(_options())}")
    if name == "worldcache" and streams is not None:
        settings["streams"] = streams
    return METHODS[name](**settings)


NODES: list[type[Any]] = [HeroMethod]
