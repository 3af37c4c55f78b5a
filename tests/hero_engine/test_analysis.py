"""The layer analysis: hand-computed cases, features recorded by other hooks, and what it leaves behind."""

import json
import math
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from hero_engine import ConfigError, HeroConfig, LayersConfig, hero_session, layers_png
from hero_engine.hero.layer_analysis import LayerAnalysis, LayerMotion
from hero_engine.schedule import Schedule

from .models import GRID, denoise, inputs, tiny_transformer

HERO = HeroConfig(warmup=2)


def analyze(states, hero=HERO, times=None, refreshed=slice(0, 10), off=0.0):
    """Of states[step] = (L + 1, batch, tokens, width).

    What the refresh gives for the tokens `refreshed` behind a block is the truth plus `off`.
    """
    sums = defaultdict(float)
    motion, schedule = LayerMotion(sums), Schedule(hero.interval, hero.warmup)
    for step, state in enumerate(states):
        rows = torch.arange(state.shape[2])[refreshed]
        refresh = None if schedule.next().full else (rows, state[:, :, rows] + off)
        motion.observe(state, times[step] if times else 999 - 20.0 * step, refresh)
    return LayerAnalysis.of(sums, hero, len(states), hero.warmup)


def stack(*residuals):
    """States x_0 to x_L of one step from what the blocks add, (tokens,), to a stream that starts at 1."""
    return torch.cumsum(torch.stack([torch.ones_like(residuals[0]), *residuals]), 0)[:, None, :, None]


def vector(seed):
    return torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_straight_and_square_by_hand():
    """Block 1 adds a + b s at step s, block 2 c s^2. Steps 0, 1 and 3 are full, 2 and 4 cached.

    At step 2 the line through steps 0 and 1 gives 2 c for 4 c, reuse gives 1 c; at step 4 the line through
    steps 1 and 3 gives 13 c for 16 c, reuse 9 c.
    """
    a, b, c = vector(1), vector(2), vector(3)
    found = analyze([stack(a + b * s, c * s**2) for s in range(5)])
    assert found.curvature[0] == pytest.approx(0, abs=1e-12)
    assert found.curvature[1] == pytest.approx(4 / ((0 + 1 + 16 + 81 + 256) / 5))
    energy = float((a + 2 * b) @ (a + 2 * b) + (a + 4 * b) @ (a + 4 * b))
    assert found.extrapolation == pytest.approx([0, math.sqrt((4 + 9) / 272)], abs=1e-7)
    assert found.reuse == pytest.approx([math.sqrt(2 * float(b @ b) / energy), math.sqrt((9 + 49) / 272)])
    assert found.deep_extrapolation == pytest.approx(found.extrapolation[1:])
    assert found.deep_reuse == pytest.approx(found.reuse[1:])

    def square(*vectors):
        return sum(float(v @ v) for v in vectors)

    whole = square(a + 2 * b + 4 * c, a + 4 * b + 16 * c)
    rest, some = slice(10, None), slice(0, 10)
    split = square((2 * c + b)[rest], (3 * c + b)[rest], 2 * c[some], 3 * c[some])
    assert found.cached == pytest.approx(
        [math.sqrt(split / whole), math.sqrt(square((3 * c + b)[rest], (7 * c + b)[rest]) / whole)]
    )
    # A refresh that is off by 0.5, where the line is off by -2 c and -3 c.
    off = square((2 * c + b)[rest], (3 * c + b)[rest], (0.5 - 2 * c)[some], (0.5 - 3 * c)[some])
    found = analyze([stack(a + b * s, c * s**2) for s in range(5)], off=0.5)
    assert found.cached[0] == pytest.approx(math.sqrt(off / whole))


def test_jitter_has_a_curvature_of_six():
    states = [stack(torch.cat([vector(100 * step + n) for n in range(40)])) for step in range(30)]
    assert analyze(states).curvature[0] == pytest.approx(6, rel=0.05)


def test_the_time_between_steps_counts():
    """Timesteps are rounded and may be unevenly spaced; the line is one in time."""
    times, a, b = [999, 900, 700, 650, 400, 100], vector(1), vector(2)
    found = analyze([stack(a + b * time) for time in times], times=times)
    assert found.extrapolation[0] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("interval", [2, 3, 5])
def test_tau_is_where_jitter_ends(interval):
    """Two blocks whose features jitter, then four whose features move in straight lines."""
    generator = torch.Generator().manual_seed(0)

    def state(step):
        jitter = [torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2)]
        straight = [vector(n) + 0.3 * step * vector(n + 10) for n in range(4)]
        return stack(*jitter, *straight)

    found = analyze([state(step) for step in range(40)], replace(HERO, interval=interval))
    assert found.tau == 2 and min(found.cached) == found.cached[1]
    assert all(a > b for a, b in zip(found.extrapolation[:2], found.reuse[:2], strict=True))
    assert found.extrapolation[2:] == pytest.approx([0] * 4, abs=1e-7)


def test_tau_at_the_ends():
    straight = [stack(*(vector(n) + 0.1 * step * vector(n + 10) for n in range(5))) for step in range(20)]
    assert analyze(straight).tau == 1
    jitter = [stack(*(vector(100 * step + n) for n in range(5))) for step in range(20)]
    assert analyze(jitter).tau == 5


def test_of_equally_good_taus_the_smallest():
    base = dict(
        hero=HERO, steps=9, curvature=(1.0,) * 4, extrapolation=(1.0,) * 4, reuse=(1.0,) * 4,
        deep_extrapolation=(1.0,) * 3, deep_reuse=(1.0,) * 3,
    )  # fmt: skip
    assert LayerAnalysis(**base, cached=(0.5, 0.2019, 0.2, 0.3)).tau == 2
    assert LayerAnalysis(**base, cached=(0.5, 0.2021, 0.2, 0.3)).tau == 3


def record(model, steps, **settings):
    """The states of every step, all tokens, by hooks of this test's own, and the timesteps."""
    states, times = [], []
    blocks = model.transformer_blocks

    def before(_, args, kwargs):
        times.append(float(kwargs["timestep"][0]))
        states.append([])

    hooks = [model.register_forward_pre_hook(before, with_kwargs=True)]
    hooks.append(
        blocks[0].register_forward_pre_hook(
            lambda _, args, kwargs: states[-1].append(kwargs["hidden_states"].clone()), with_kwargs=True
        )
    )
    hooks += [block.register_forward_hook(lambda *a: states[-1].append(a[-1][0].clone())) for block in blocks]
    result = denoise(model, steps=steps, **settings)
    for hook in hooks:
        hook.remove()
    return [torch.stack(each) for each in states], times, result


@pytest.fixture(scope="module")
def model():
    return tiny_transformer()


@pytest.mark.parametrize("batch", [1, 2])
def test_on_a_model(model, batch):
    states, times, plain = record(model, 8, batch=batch)
    before = {name: sorted(vars(module)) for name, module in model.named_modules()}
    hero = HeroConfig(warmup=3, interval=3)
    with hero_session(model, LayersConfig(hero, tokens=10_000), steps=8) as run:
        assert torch.equal(denoise(model, steps=8, batch=batch), plain)
        found = run.method.analysis()
        held = run.report.bytes_cached
    assert {name: sorted(vars(module)) for name, module in model.named_modules()} == before
    expected = analyze([state.double() for state in states], hero, times)
    for name in ("curvature", "extrapolation", "reuse", "deep_extrapolation", "deep_reuse"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    assert found.steps == 8 and found.blocks == 6
    # Not the whole run: four steps.
    assert held <= 4 * 7 * batch * math.prod(GRID) * 64 * 4


@pytest.mark.parametrize("text, shallow", [("refresh", "reuse"), ("omit", "reuse"), ("omit", "forecast")])
def test_the_error_is_that_of_heros_own_step(model, text, shallow):
    """One cached step, the last: what HERO itself makes of it behind the last block, for every tau."""
    states, _, _ = record(model, 5)
    whole = (states[4][-1] - states[4][0]).norm()
    hero = HeroConfig(text=text, shallow=shallow, seed=3)
    with hero_session(model, LayersConfig(hero, tokens=10_000), steps=5) as run:
        denoise(model, steps=5)
        found = run.method.analysis()
    for tau, error in enumerate(found.cached, 1):
        behind = []
        hook = model.norm_final.register_forward_pre_hook(
            lambda _, args, behind=behind: behind.append(args[0][:, -math.prod(GRID) :].clone())
        )
        with hero_session(model, replace(hero, tau=tau), steps=5) as run:
            denoise(model, steps=5)
        hook.remove()
        assert run.report.cached_steps == 1 and len(behind) == 5
        assert float((behind[4] - states[4][-1]).norm() / whole) == pytest.approx(error, rel=1e-3)


def test_a_share_of_the_tokens_tells_nearly_the_same(model):
    def found(tokens):
        with hero_session(model, LayersConfig(tokens=tokens), steps=8) as run:
            denoise(model, steps=8)
            return run.method.analysis()

    assert found(40).reuse == pytest.approx(found(120).reuse, rel=0.15)
    assert found(40).cached != found(120).cached
    assert found(40) == found(40)


def test_branches_called_apart_and_passes(model):
    with hero_session(model, LayersConfig(), steps=8) as run:
        denoise(model, steps=8, batch=2)
        together = run.method.analysis()
        denoise(model, steps=8, batch=2, separate=True)
        assert run.method.analysis().cached == pytest.approx(together.cached, rel=1e-4)
        denoise(model, steps=8, batch=2)
        assert run.method.analysis() == together


def test_without_rotary_positions():
    model = tiny_transformer(use_rotary_positional_embeddings=False)
    call = inputs()
    call["image_rotary_emb"] = None
    with hero_session(model, LayersConfig(HERO)) as run, torch.no_grad():
        for time in (900, 700, 500, 300):
            model(**call, timestep=torch.tensor([time]))
        found = run.method.analysis()
    assert all(value > 0 for value in (*found.curvature, *found.reuse, *found.cached))


@pytest.mark.parametrize("steps, least", [(1, 5), (4, 5)])
def test_too_few_steps_are_refused_before_they_run(model, steps, least):
    with pytest.raises(ConfigError, match=rf"^steps: {steps} is too few .* use at least {least}"):
        with hero_session(model, LayersConfig(), steps=steps):
            pass


def test_too_few_steps_ran(model):
    call = inputs()
    with hero_session(model, LayersConfig(HERO)) as run, torch.no_grad():
        with pytest.raises(ConfigError, match="^steps: nothing has run yet"):
            run.method.analysis()
        for time in (900, 700):
            model(**call, timestep=torch.tensor([time]))
        with pytest.raises(ConfigError, match="^steps: 2 is too few"):
            run.method.analysis()


def test_branches_that_never_come_twice(model):
    call = inputs()
    with hero_session(model, LayersConfig(HERO)) as run, torch.no_grad():
        for time in (900, 700, 500, 300):
            with run.branch(time):
                model(**call, timestep=torch.tensor([time]))
        with pytest.raises(ConfigError, match="^steps: no branch was called in enough steps"):
            run.method.analysis()


def test_another_size_in_the_run_is_refused(model):
    with hero_session(model, LayersConfig(HERO)), torch.no_grad():
        model(**inputs(), timestep=torch.tensor([900]))
        with pytest.raises(ConfigError, match=r"^latent: changed from \(5, 4, 6\) to \(3, 4, 6\) tokens"):
            model(**inputs(grid=(3, 4, 6)), timestep=torch.tensor([700]))
    assert "_compiled_call_impl" not in vars(model)


def test_not_a_number_is_named():
    model = tiny_transformer()
    with torch.no_grad():
        model.transformer_blocks[2].ff.net[2].weight[0, 0] = math.nan
    with pytest.raises(ConfigError, match="^transformer: block 3 of 6 gives features that are NaN"):
        with hero_session(model, LayersConfig(), steps=6):
            denoise(model, steps=6)
    assert "_compiled_call_impl" not in vars(model)


def test_a_block_that_adds_nothing_is_named():
    with pytest.raises(ConfigError, match="^transformer: block 2 of 2 adds nothing"):
        analyze([stack(vector(step), torch.zeros(50, dtype=torch.float64)) for step in range(6)])


def test_settings():
    with pytest.raises(ConfigError, match="^interval: 1 makes every step full"):
        LayersConfig(HeroConfig(interval=1))
    with pytest.raises(ConfigError, match="^tokens: "):
        LayersConfig(tokens=0)
    with pytest.raises(ConfigError, match="^patch: .* is larger than the token grid"):
        model = tiny_transformer(2)
        with hero_session(model, LayersConfig(HeroConfig(patch=(9, 2, 3)))), torch.no_grad():
            model(**inputs(), timestep=torch.tensor([900]))
    with pytest.raises(ConfigError, match="^transformer: Linear is not supported"):
        with hero_session(torch.nn.Linear(2, 2), LayersConfig()):
            pass


def test_words_numbers_and_picture(model):
    with hero_session(model, LayersConfig(), steps=8) as run:
        denoise(model, steps=8)
        found = run.method.analysis()
    assert found.summary().startswith(f"Recommended tau: {found.tau} of 6 blocks. A cached step is off by ")
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["tau"] == found.tau and document["hero"]["interval"] == 2
    assert document["cached"] == list(found.cached)
    assert layers_png(found)[:8] == b"\x89PNG\r\n\x1a\n"
