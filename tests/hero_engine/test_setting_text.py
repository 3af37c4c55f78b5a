"""Settings as a line of text."""

import pytest

from hero_engine import PRESETS, ConfigError, HeroConfig
from hero_engine.baselines.config import TocaConfig, WorldCacheConfig
from hero_engine.setting_text import from_text, to_text


def test_only_what_differs_is_written():
    assert HeroConfig().to_text() == "HERO"
    assert PRESETS["paper-fast"].to_text() == "interval=3 warmup=20% text=omit"
    config = HeroConfig(
        tau="1/3", ratio=0.1667, patch=(1, 4, 2), threshold=1e-05, shallow="forecast", feedback=1, mask="1101"
    )
    assert config.to_text() == (
        'tau=1/3 ratio=0.1667 threshold=1e-05 patch=1x4x2 shallow=forecast feedback=1 mask="3 of 4: 1101"'
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back(name):
    assert HeroConfig.from_text(PRESETS[name].to_text()) == PRESETS[name]


@pytest.mark.parametrize("config", [TocaConfig(ratio=0.25, score="key"), WorldCacheConfig(streams=(3, 4))])
def test_other_methods_come_back(config):
    assert from_text(type(config), to_text(config)) == config


WANTED = HeroConfig(tau="25%", ratio=0.5, patch=(1, 2, 3), mask="1101")


@pytest.mark.parametrize(
    "text",
    [
        'tau=25% ratio=0.5 mask="3 of 4: 1101"',
        "HERO tau=25% ratio=0.5 mask=1101",
        "hero: mask=1101\n tau=25%\r\n\tratio=1/2",
        "tau = 25%  ratio= 50% mask ='11 01'",
        "Tau=25% RATIO=.5 mask=“3 of 4: 11\u00a001”",
        "`tau=25% ratio=½ patch=1×2×3 mask=„3 of 4:\n1101“`",
        "\ufefftau=2\u200b5%\u2003ratio=0.5 mask=‘3 of 4: 1101’",
        "ｔａｕ＝２５％ ratio=0.5 mask=«1101»",
        "interval=2 tau=25% ratio=0.5 mask=1101 seed=0",
    ],
)
def test_what_people_paste_is_read(text):
    assert HeroConfig.from_text(text) == WANTED


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "is empty; write name=value"),
        (" \u200b\n", "is empty"),
        (None, "NoneType is not text"),
        (3, "int is not text"),
        ("tau=1 " * 1000, "6000 characters are too many"),
        ("FORA interval=3", "'FORA' is no setting with a value"),
        ("mask=3 of 4: 1101", "'of' is no setting with a value; .* values with spaces in quotation marks"),
        ('mask="3 of 4: 11', "a quotation mark has no second one"),
        ("tau=25%, interval=3", "tau: '25%,' is neither a count nor a share"),
        ("tau=25% tau=25%", "tau is there twice"),
        ("=3", "'=3' is no setting"),
        ("taau=3", "taau: HERO has no such setting; did you mean 'tau'"),
        ("interval=two", "interval: 'two' is not a whole number"),
        ("interval=0", "interval: 0 is out of range"),
        ("ratio=much", "ratio: 'much' is neither a number nor a share"),
        ("threshold=nan", "threshold: nan is out of range"),
        ("patch=1x2", "patch: '1x2' is not FRAMESxROWSxCOLUMNS"),
        ("text=Omit", "text: 'Omit' is not one of 'refresh', 'omit'"),
        ("mask='3 of 5: 1101'", "mask: says 3 of 5, and what follows is 3 of 4"),
        ("seed=" + "9" * 3000, "seed: 9+ is out of range"),
    ],
)
def test_what_cannot_be_read_names_the_setting(text, problem):
    with pytest.raises(ConfigError, match=f"^setting: {problem}") as caught:
        HeroConfig.from_text(text)
    assert caught.value.field == "setting"
