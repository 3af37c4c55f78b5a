"""Laws that hold for any values: schedules, the choice of tokens, residuals, raymaps, settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from aether.geometry.cameras import cameras_from_fov
from aether.geometry.raymap import from_cameras, pack, signed_log1p, signed_log1p_inverse, to_cameras, unpack
from hero_engine import ConfigError, HeroConfig
from hero_engine.hero.config import SHALLOWS, STORAGES, TEXTS
from hero_engine.hero.residuals import LinearForecast, Reuse, relative_change
from hero_engine.hero.token_sampling import PatchSampler, patch_members
from hero_engine.schedule import Reason, Schedule, TaperedSchedule, full_steps

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)

intervals, warmups, steps = st.integers(1, 12), st.integers(1, 12), st.integers(1, 60)
rates = st.lists(st.floats(0, 10) | st.just(math.nan), min_size=1, max_size=60)
grids = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**63 - 1)


# --- Schedule ---------------------------------------------------------------------------------------------


def decisions(schedule: Schedule, rates: list[float]) -> list[bool]:
    return [schedule.next(rate).full for rate in rates]


def longest_cached(full: list[bool]) -> int:
    return max(map(len, "".join(".#"[step] for step in full).split("#")))


@EXAMPLES
@given(intervals, warmups, steps)
@pytest.mark.slow
def test_a_fixed_schedule_warms_up_and_keeps_its_interval(interval, warmup, steps):
    full = decisions(Schedule(interval, warmup), [0.0] * steps)
    assert all(full[:warmup])
    assert longest_cached(full) <= interval - 1
    after = max(0, steps - warmup)
    assert sum(full) == full_steps(interval, warmup, steps) == min(steps, warmup) + after // interval


@EXAMPLES
@given(intervals, warmups, st.floats(0.01, 5), st.floats(1, 10), rates)
def test_a_smaller_threshold_never_gives_fewer_full_steps(interval, warmup, threshold, more, rates):
    small, large = (
        sum(decisions(Schedule(interval, warmup, bound), rates)) for bound in (threshold, threshold * more)
    )
    assert small >= large


@EXAMPLES
@given(intervals, warmups, st.floats(0.01, 5), rates)
def test_an_adaptive_schedule_reuses_only_below_its_threshold(interval, warmup, threshold, rates):
    schedule, total = Schedule(interval, warmup, threshold), 0.0
    cached = 0
    for rate in rates:
        total += rate if cached else 0.0
        if schedule.next(rate) is Reason.CACHED:
            assert total + rate < threshold  # false where a NaN is in it
            cached += 1
        else:
            cached, total = 0, 0.0
        assert cached < interval


@EXAMPLES
@given(st.integers(1, 8), st.integers(1, 6), st.floats(0, 0.9), st.integers(8, 60))
def test_a_tapered_schedule_only_gets_denser(interval, warmup, taper, steps):
    full = decisions(TaperedSchedule(interval, warmup, taper, steps), [0.0] * steps)
    places = [step for step, is_full in enumerate(full) if is_full and step >= warmup - 1]
    gaps = np.diff(places)
    assert (np.diff(gaps) <= 0).all()


# --- Choice of tokens -------------------------------------------------------------------------------------


@st.composite
def patches(draw):
    grid = draw(grids)
    return grid, tuple(draw(st.integers(1, side)) for side in grid)


@EXAMPLES
@given(patches())
def test_patches_part_the_grid(grid_and_patch):
    grid, patch = grid_and_patch
    members = patch_members(grid, patch)
    tokens = members[members >= 0]
    assert sorted(tokens.tolist()) == list(range(math.prod(grid)))
    places = np.stack(np.unravel_index(np.arange(math.prod(grid)), grid), axis=1)
    for row in members:
        inside = places[row[row >= 0].numpy()]
        assert (np.ptp(inside, axis=0) < patch).all()


@EXAMPLES
@given(patches(), st.integers(1, 8), seeds, st.integers(1, 6))
def test_every_draw_takes_its_share_of_every_patch(grid_and_patch, share, seed, draws):
    grid, patch = grid_and_patch
    members = patch_members(grid, patch)
    sampler = PatchSampler(grid, patch, share, seed)
    twin = PatchSampler(grid, patch, share, seed)
    for number in range(1, draws + 1):
        index, age = sampler.draw()
        assert torch.equal(index, twin.draw()[0])
        drawn = set(index.tolist())
        assert len(drawn) == len(index) == sampler.tokens
        for row in members:
            present = set(row[row >= 0].tolist())
            assert len(drawn & present) == min(share, len(present))
        assert 1 <= float(age) <= number
    sampler.reset()
    assert float(sampler.mean_age()) == 0


@EXAMPLES
@given(st.integers(2, 6), seeds)
def test_tokens_that_waited_longest_come_first_in_the_long_run(side, seed):
    sampler = PatchSampler((1, side, side), (1, side, side), 1, seed)
    seen = set()
    for _ in range(12 * side * side):
        seen |= set(sampler.draw()[0].tolist())
    assert len(seen) == side * side


# --- Residuals --------------------------------------------------------------------------------------------


def tensors(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, tokens, 3, generator=generator) for _ in range(2))


@EXAMPLES
@given(st.integers(1, 12), st.data(), st.integers(0, 1000))
def test_a_refresh_writes_its_tokens_and_no_others(tokens, data, seed):
    before, after = tensors(tokens, seed)
    index = torch.tensor(data.draw(st.lists(st.integers(0, tokens - 1), min_size=1, unique=True)))
    shallow = Reuse()
    shallow.observe(before, after, 900.0)
    new_before, new_after = tensors(len(index), seed + 1)
    error = shallow.refresh(index, new_before, new_after, 880.0)
    expected = after - before
    assert float(error) == pytest.approx(
        float(relative_change(expected[:, index], new_after - new_before)), rel=1e-4
    )
    expected[:, index] = new_after - new_before
    stream = before.clone()
    for _ in range(2):  # neither what came in nor what is cached has changed the second time
        assert torch.equal(shallow.add_to(stream, 860.0), before + expected)


@EXAMPLES
@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0.01, 100))
def test_relative_change_knows_no_scale(tokens, seed, scale):
    new, old = tensors(tokens, seed)
    change = float(relative_change(new, old))
    assert float(relative_change(new * scale, old * scale)) == pytest.approx(change, rel=1e-4)
    assert float(relative_change(old, old)) == 0


@EXAMPLES
@given(st.integers(0, 1000), st.floats(500, 999), st.floats(20, 400), st.floats(0, 100))
def test_a_line_is_forecast_exactly(seed, start, gap, beyond):
    base, slope = tensors(4, seed)
    deep, zero = LinearForecast(), torch.zeros_like(base)
    for time in (start, start - gap):
        error = deep.observe(zero, base + slope * time, time)
    assert error is not None and not error.isnan()
    time = start - gap - beyond
    torch.testing.assert_close(
        deep.add_to(zero.clone(), time), base + slope * time, rtol=1e-3, atol=1e-3 * start
    )


# --- Raymaps ----------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(2, 41), st.integers(1, 4), st.integers(1, 4))
def test_unpacking_undoes_packing(frames, rows, columns):
    raymap = np.random.default_rng(frames).normal(size=(frames, 6, rows, columns)).astype(np.float32)
    packed = pack(raymap)
    assert packed.shape == (math.ceil(frames / 4), 24, rows, columns)
    assert np.array_equal(unpack(packed, frames), raymap)


@EXAMPLES
@given(arrays(np.float64, 7, elements=st.floats(-1e6, 1e6)))
def test_the_logarithm_keeps_signs_and_order_and_can_be_undone(values):
    encoded = signed_log1p(values)
    np.testing.assert_allclose(signed_log1p_inverse(encoded), values, rtol=1e-9, atol=1e-12)
    assert (np.diff(encoded[np.argsort(values)]) >= 0).all()


@st.composite
def cameras(draw):
    frames, seed = draw(st.integers(1, 6)), draw(st.integers(0, 2**31))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.random(frames, random_state=seed).as_matrix()
    poses[:, :3, 3] = draw(arrays(np.float64, (frames, 3), elements=st.floats(-20, 20)))
    angles = [draw(arrays(np.float64, frames, elements=st.floats(0.3, 2.2))) for _ in range(2)]
    height, width = (8 * draw(st.integers(3, 20)) for _ in range(2))
    return cameras_from_fov(poses, *angles, height, width)


@EXAMPLES
@given(cameras())
def test_cameras_come_back_from_their_raymap(path):
    raymap = from_cameras(path.poses, path.intrinsics, path.height, path.width)
    read = to_cameras(raymap)
    np.testing.assert_allclose(read.poses, path.poses, atol=1e-3)
    np.testing.assert_allclose(read.intrinsics, path.intrinsics, rtol=1e-3)
    again = from_cameras(read.poses, read.intrinsics, read.height, read.width)
    np.testing.assert_allclose(again, raymap, atol=1e-4)


# --- Settings ---------------------------------------------------------------------------------------------

anything = st.one_of(
    *(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3)),
    *(st.integers(1, 6), st.floats(0, 1), st.tuples(*[st.integers(0, 5)] * 3), st.lists(st.integers())),
    st.sampled_from(["refresh", "omit", "reuse", "forecast"]),
)
FIELDS = ("tau", "interval", "ratio", "threshold", "patch", "warmup", "seed", "text", "shallow", "mask")


@settings(EXAMPLES, max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=3), st.integers(1, 50), steps)
def test_settings_are_refused_by_name_or_come_to_counts_that_fit(given_settings, blocks, steps):
    try:
        config = HeroConfig(**given_settings)
        counts = config.resolve(blocks, steps)
    except ConfigError as error:
        assert error.field in FIELDS and str(error).startswith(f"{error.field}: ")
        return
    assert 1 <= counts.tau <= blocks
    assert counts.warmup >= 1
    assert 1 <= counts.tokens_per_patch <= math.prod(config.patch)
    assert HeroConfig(**vars(config)) == config


shares = st.integers(1, 1000).map(lambda n: f"{n / 10:g}%") | st.integers(1, 9).map(lambda n: f"{n}/9")
amounts = st.integers(1, 99) | shares


@st.composite
def configs(draw):
    patch = draw(st.tuples(*[st.integers(1, 64)] * 3))
    return HeroConfig(
        tau=draw(amounts),
        interval=draw(st.integers(1, 1000)),
        ratio=draw(st.floats(0.5 / math.prod(patch), 1)),
        threshold=draw(st.floats(0, 1e6)),
        patch=patch,
        warmup=draw(amounts),
        cooldown=draw(st.just(0) | amounts),
        seed=draw(seeds),
        text=draw(st.sampled_from(TEXTS)),
        storage=draw(st.sampled_from(STORAGES)),
        shallow=draw(st.sampled_from(SHALLOWS)),
        feedback=draw(st.floats(0, 1)),
        mask=draw(st.just("") | st.text("01", max_size=999).map(lambda rest: "1" + rest)),
    )


@settings(EXAMPLES, max_examples=300)
@given(configs())
def test_settings_come_back_from_their_text(config):
    assert HeroConfig.from_text(config.to_text()) == config
    pasted = config.to_text().replace('"', "”").replace(" ", "\u00a0\n")
    assert HeroConfig.from_text(f"HERO {pasted}") == config


@settings(EXAMPLES, max_examples=300)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["tau", "mask", "=", "1", " ", '"', ":", "%", "\\"])).map("".join)
)
def test_any_text_is_a_setting_or_a_named_error(text):
    try:
        assert HeroConfig.from_text(HeroConfig.from_text(text).to_text()) == HeroConfig.from_text(text)
    except ConfigError as error:
        assert error.field == "setting" and error.problem
