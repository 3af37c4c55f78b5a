import copy
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from hero_engine import METHODS, PRESETS, ConfigError, HeroConfig
from hero_engine.baselines.config import TaylorSeerConfig
from hero_engine.schedule import full_steps

NAN, INF = math.nan, math.inf
BAD = {
    "tau": [
        0,
        -1,
        "0",
        "-3",
        "0%",
        "-5%",
        "101%",
        "3/2",
        "0/4",
        "1/0",
        "half",
        "",
        "%",
        "5 6",
        "1e1",
        "50%%",
        "9" * 50,
        0.0,
        0.5,
        1.0,
        -0.5,
        1.5,
        NAN,
        INF,
        None,
        True,
        [6],
    ],  # fmt: skip
    "interval": [0, -2, 1001, 2.0, NAN, "2", None, True],
    "ratio": [0, 0.0, -0.1, 1.01, NAN, INF, "1/6", None, True, 0.05],
    "threshold": [-0.1, NAN, INF, 2e6, "0", None, True],
    "patch": [(1, 2), (1, 2, 3, 4), (0, 2, 3), (1, 2, 65), (1.0, 2, 3), "123", None, 6, (1, 2, None)],
    "warmup": [0, -1, 0.0, 0.2, 1.0, 1.2, NAN, INF, "0%", "200%", "-1", None, True],
    "cooldown": [-1, -0.1, 0.1, 2.0, NAN, "-1%", "101%", "-1", None, True],
    "seed": [-1, 2**63, 0.5, NAN, "0", None, True],
    "text": ["keep", "", "Omit", None, False],
    "shallow": ["linear", None, 2],
    "feedback": [-0.1, 1.01, NAN, INF, "1", None, True],
}


@pytest.mark.parametrize("field, value", [(f, v) for f, values in BAD.items() for v in values])
def test_bad_value_names_the_field(field, value):
    with pytest.raises(ConfigError, match=f"^{field}: ") as caught:
        HeroConfig(**{field: value})
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


def test_the_bad_values_are_many():
    assert sum(map(len, BAD.values())) >= 60


def test_overrides_and_replace_are_checked_too():
    with pytest.raises(ConfigError, match="^interval: "):
        HeroConfig.preset("paper", interval=0)
    with pytest.raises(ConfigError, match="^ratio: "):
        replace(HeroConfig(), ratio=2.0)
    with pytest.raises(ConfigError, match="^speed: HERO has no such setting"):
        HeroConfig.preset("paper", speed=2)
    for name in ("turbo", None, 3):
        with pytest.raises(ConfigError, match="^preset: "):
            HeroConfig.preset(name)


def test_numpy_numbers_are_numbers():
    config = HeroConfig(tau=np.int64(3), ratio=np.float32(0.5), patch=[1, np.int32(2), 3], warmup=np.int8(4))
    assert config == HeroConfig(tau=3, ratio=0.5, patch=(1, 2, 3), warmup=4)
    assert type(config.tau) is int and type(config.ratio) is float and type(config.patch) is tuple


@pytest.mark.parametrize(
    "given, kept, blocks",
    [
        (4, 4, 4), ("4", 4, 4), (" 04 ", 4, 4), ("50%", "50%", 21), ("1/2", "50%", 21), ("50.0 %", "50%", 21),
        ("5%", "5%", 2), ("1/3", "1/3", 14), ("2/6", "1/3", 14), ("33.3%", "33.3%", 14), (".5%", "0.5%", 1),
        ("100%", "100%", 42), ("1/1", "100%", 42), ("1/1000", "0.1%", 1),
    ],
)  # fmt: skip
def test_counts_and_shares_have_one_form(given, kept, blocks):
    config = HeroConfig(tau=given)
    assert config.tau == kept and type(config.tau) is type(kept)
    assert config == HeroConfig(tau=kept) and config.resolve(42).tau == blocks


def test_a_count_is_never_equal_to_a_share():
    assert HeroConfig(tau=1) != HeroConfig(tau="100%")
    assert HeroConfig(cooldown="0%") == HeroConfig(cooldown=0)


def test_a_float_is_answered_with_its_text():
    with pytest.raises(ConfigError, match=r"^tau: 0.25 is neither .*; write '25%' for that share"):
        HeroConfig(tau=0.25)
    with pytest.raises(ConfigError, match=r"^warmup: 1.0 is neither .*; write '100%'"):
        HeroConfig(warmup=1.0)


@pytest.mark.parametrize("config", [*PRESETS.values(), *(kind() for kind in METHODS.values())], ids=str)
def test_settings_go_through_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and type(again) is type(config)


def test_unknown_settings_are_refused_everywhere():
    for make in (
        lambda: HeroConfig(taau=3),
        lambda: HeroConfig.preset("paper", taau=3),
        lambda: HeroConfig.from_dict({"taau": 3}),
        lambda: replace(HeroConfig(), taau=3),
    ):
        with pytest.raises(ConfigError, match="^taau: HERO has no such setting; did you mean 'tau'") as error:
            make()
        assert error.value.field == "taau"
    with pytest.raises(ConfigError, match="^cooldown: WorldCache has no such setting; it has chaotic"):
        METHODS["worldcache"](cooldown=2)
    for nothing in (None, "paper", 3, [1]):
        with pytest.raises(ConfigError, match="^config: "):
            HeroConfig.from_dict(nothing)


def test_settings_are_copied_and_pickled():
    for again in (copy.deepcopy(PRESETS["fast"]), pickle.loads(pickle.dumps(PRESETS["fast"]))):
        assert again == PRESETS["fast"]


def test_resolve_turns_shares_into_counts():
    counts = HeroConfig(tau="50%", warmup="20%", ratio=1 / 6).resolve(42, 50)
    assert (counts.tau, counts.warmup, counts.tokens_per_patch) == (21, 10, 1)
    assert HeroConfig(tau="0.1%").resolve(12).tau == 1
    assert HeroConfig(tau="100%").resolve(12).tau == 12
    assert HeroConfig(tau=1).resolve(12).tau == 1
    assert [HeroConfig(ratio=k / 6).resolve(12).tokens_per_patch for k in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_resolve_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match="^tau: 43 is more than the model's 42 blocks"):
        HeroConfig(tau=43).resolve(42, 50)
    for needy in (HeroConfig(warmup="20%"), HeroConfig(cooldown=1), TaylorSeerConfig(cooldown=1)):
        with pytest.raises(ConfigError, match="^steps: needed"):
            needy.resolve(42)
    for steps in (0, -1, 2.5, True, "50"):
        with pytest.raises(ConfigError, match="^steps: "):
            HeroConfig().resolve(42, steps)


@pytest.mark.parametrize(
    "preset, steps, full",
    [("paper", 50, 27), ("paper", 30, 17), ("paper-fast", 50, 23), ("paper-fast", 30, 14)],
)
def test_presets_reproduce_the_papers_step_counts(preset, steps, full):
    config = PRESETS[preset]
    counts = config.resolve(42, steps)
    assert counts.tau == 21 and counts.tokens_per_patch == 1
    assert full_steps(config.interval, counts.warmup, steps) == full
