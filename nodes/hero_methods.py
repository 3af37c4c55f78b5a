"""Cache Method: what HERO is compared with, on a MODEL."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hero_engine import METHODS, ConfigError, MethodConfig
from ..hero_engine.baselines.config import FIRSTS, SCORES
from .bridge.wiring import waiting
from .inputs import BYPASS, HERO_MODEL, cooldown_input, interval_input, seed_input, warmup_input
from .outputs import ACCELERATED

_SLIDER = io.NumberDisplay.slider


def _share(name: str, default: float, tooltip: str, **settings: Any) -> io.Float.Input:
    limits = {"min": 0.0, "max": 1.0, "step": 0.01} | settings
    return io.Float.Input(name, default=default, tooltip=tooltip, **limits)


def _toca(interval: int) -> list[Any]:
    return [
        interval_input(interval),
        warmup_input("4"),
        cooldown_input("0"),
        _share(
            "ratio",
            0.1,
            "Share of the tokens that are computed on cached steps. Higher is slower and more accurate.",
            min=0.01,
            display_mode=_SLIDER,
        ),
        io.Combo.Input(
            "score",
            options=list(SCORES),
            default="value",
            tooltip="Which tokens are computed. value: those with a small value norm. key: those with a "
            "large key norm. random: a random choice.",
        ),
        _share(
            "staleness",
            0.25,
            "Weight of the steps since a token was last computed. The higher it is, the less any "
            "token waits.",
            max=10.0,
            advanced=True,
        ),
        _share(
            "bonus",
            0.6,
            "Added to the score of the best token of every 2 x 2, so that tokens are chosen all over the "
            "picture.",
            max=10.0,
            advanced=True,
        ),
        _share(
            "taper",
            0.0,
            "How much the interval shrinks over the run. 0: not at all.",
            max=0.99,
            advanced=True,
        ),
        seed_input("Which tokens are computed where score is random.", advanced=True),
    ]


def _options() -> dict[str, list[Any]]:
    """Inputs of each method, named as its settings."""
    order = io.Int.Input(
        "order",
        default=1,
        min=1,
        max=4,
        tooltip="1 extrapolates along a line, 2 along a parabola, and so on. Each order needs as much "
        "memory again.",
    )
    first = io.Combo.Input(
        "first",
        options=list(FIRSTS),
        default=FIRSTS[0],
        advanced=True,
        tooltip="Which kind of cached step follows a full one. toca computes some tokens, aggressive none.",
    )
    return {
        "fora": [interval_input(), warmup_input("4"), cooldown_input("0")],
        "taylorseer": [order, interval_input(), warmup_input("4"), cooldown_input("0")],
        "toca": _toca(2),
        "duca": [*_toca(3), first],
        "worldcache": [
            interval_input(3),
            warmup_input("10"),
            _share(
                "threshold",
                0.2,
                "Cached steps go on while their estimated error stays below this. Lower is slower and "
                "more accurate.",
                min=0.01,
                max=10.0,
            ),
            _share(
                "stable",
                0.3,
                "Share of the picture that is reused unchanged: the part that moves least.",
                advanced=True,
            ),
            _share(
                "chaotic",
                0.4,
                "Share of the picture whose motion is damped: the part that moves least steadily.",
                advanced=True,
            ),
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
            description="Makes sampling faster with one of the methods that HERO is compared with: FORA, "
            "TaylorSeer, ToCa, DuCa or WorldCache. Use it in place of HERO Patch. " + BYPASS,
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
                HERO_MODEL,
                io.DynamicCombo.Input(
                    "method",
                    options=[io.DynamicCombo.Option(name, inputs) for name, inputs in _options().items()],
                    tooltip="The method; its settings appear below. fora reuses, taylorseer extrapolates, "
                    "toca and duca also compute some tokens, worldcache predicts the model's output. All "
                    "but worldcache need a lot of memory; the help page has figures.",
                ),
            ],
            outputs=[ACCELERATED],
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
        from .bridge.hero_run import output_streams, patched

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
