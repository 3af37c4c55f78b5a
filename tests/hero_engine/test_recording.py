"""Files of recordings."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hero_engine import ConfigError, HeroConfig
from hero_engine.tune import Recording
from hero_engine.tune.tables import Tables

from .tuning import STEPS, recorded, small_model


@pytest.fixture(scope="module")
def recording():
    return replace(recorded(small_model()), about={"sampler": "ddim"}, scale=1.5, spread=1.25)


@pytest.fixture
def file(recording, tmp_path):
    recording.save(tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def contents(file):
    """The arrays of a file, and the facts beside them."""
    with safe_open(file, framework="numpy") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return arrays, json.loads(opened.metadata()["recording"])


def rewrite(file, arrays, facts):
    save_file(arrays, file, {"recording": json.dumps(facts)})


def refused(file, words=""):
    with pytest.raises(
        ConfigError, match=rf"^recording: mine\.safetensors cannot be read \(.*{words}.*HERO Tuner"
    ):
        Recording.load(file)


def test_a_file_gives_the_same_recording(recording, file):
    found = Recording.load(file)
    assert replace(found, tables=recording.tables) == recording
    for name, array in vars(recording.tables).items():
        assert np.array_equal(getattr(found.tables, name), array)
    config = HeroConfig.preset("fast")
    assert found.predict_error(config) == recording.predict_error(config) > 0
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_recording_that_predicts_nothing_is_kept_too(recording, file):
    replace(recording, sampling=None, spread=None).save(file)
    found = Recording.load(file)
    assert found.sampling is None and found.spread is None
    assert found.predict_error(HeroConfig.preset("fast")) is None


def test_a_save_that_fails_leaves_the_file_before(recording, file):
    before = file.read_bytes()
    with pytest.raises(TypeError):
        replace(recording, about={"sampler": object()}).save(file)
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused(file, number):
    arrays, facts = contents(file)
    rewrite(file, arrays, facts | {"format": number})
    refused(file, "of another version")


@pytest.mark.parametrize("name", ["clean", "guidance", "stale", "stale_shallow", "refreshed"])
def test_arrays_that_do_not_fit_are_refused(file, name):
    arrays, facts = contents(file)
    good = arrays[name]
    for array in (good[:-1], good[..., :-1], good[..., None], good.astype(np.int32)):
        rewrite(file, arrays | {name: np.ascontiguousarray(array)}, facts)
        refused(file)
    del arrays[name]
    rewrite(file, arrays, facts)
    refused(file)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(file, value):
    arrays, facts = contents(file)
    arrays["stale"][3, 0, 5] = value
    rewrite(file, arrays, facts)
    refused(file, "NaN or infinite")


CHANGES = {
    "fewer timesteps": lambda facts: facts["sampling"]["timesteps"].pop(),
    "more weights": lambda facts: facts["sampling"]["weights"].append(1.0),
    "a weight of none": lambda facts: facts["sampling"].update(weights=[0.0] * (STEPS - 1)),
    "a text for a ratio": lambda facts: facts["sampling"]["ratios"].__setitem__(0, "1"),
    "noise of another kind": lambda facts: facts["sampling"].update(stochastic=3),
    "no word of noise": lambda facts: facts["sampling"].pop("stochastic"),
    "too many carries": lambda facts: facts["sampling"]["carries"].append(0.0),
    "too much trust": lambda facts: facts["sampling"].update(trust=2),
    "too many uncorrected": lambda facts: facts["sampling"].update(uncorrected=99),
    "no blocks": lambda facts: facts["shape"].update(stack=[]),
    "no tokens": lambda facts: facts["shape"].update(grid=[0, 3, 4]),
    "no grid": lambda facts: facts["shape"].update(grid="2x3x4"),
    "settings that cannot be": lambda facts: facts["hero"].update(ratio=7),
    "no scale": lambda facts: facts.update(scale=0),
    "a scale of text": lambda facts: facts.update(scale="1"),
    "a negative spread": lambda facts: facts.update(spread=-1),
    "a number in about": lambda facts: facts["about"].update(steps=9),
    "about of text": lambda facts: facts.update(about=[1]),
    "a model without a name": lambda facts: facts.update(model=None),
    "something else": lambda facts: facts.update(more=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_edited_facts_are_refused(file, change):
    arrays, facts = contents(file)
    CHANGES[change](facts)
    rewrite(file, arrays, facts)
    refused(file)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 64])
def test_other_files_are_refused(file, content):
    file.write_bytes(content)
    refused(file)


def test_a_file_that_is_cut_or_missing_is_refused(file):
    file.write_bytes(file.read_bytes()[:-1000])
    refused(file)
    file.unlink()
    refused(file)


def test_a_file_without_facts_is_refused(file):
    arrays, _ = contents(file)
    save_file(arrays, file)
    refused(file)


def test_tables_of_other_shapes_are_named(recording):
    tables = recording.tables
    tables.check()
    wrong = Tables(**vars(tables) | {"stale": tables.stale[:, :-1]})
    with pytest.raises(ValueError, match=r"^stale is float32 \(9, 15, 512\), not floats \(9, 16, 512\)$"):
        wrong.check()
