"""FORA, TaylorSeer, ToCa, DuCa and WorldCache in the sessions of HERO."""

import copy
import gc
import json
import math
from dataclasses import replace

import pytest
import torch

from hero_engine import (
    METHODS,
    ConfigError,
    DucaConfig,
    ForaConfig,
    HeroConfig,
    TaylorSeerConfig,
    TocaConfig,
    WorldCacheConfig,
    apply_hero,
    hero_session,
    remove_hero,
    report_png,
)
from hero_engine.baselines.output_path import OutputPath, damping
from hero_engine.baselines.taylor_feature import TaylorFeature
from hero_engine.baselines.token_scores import TokenQueue, best_of_patches, squares
from hero_engine.cost import AETHER, predict
from hero_engine.cost.__main__ import main
from hero_engine.models.adapter import MODULES
from hero_engine.models.comfy_cogvideox import ComfyCogVideoXAdapter
from hero_engine.schedule import ErrorSchedule, Reason, TaperedSchedule, step_ages

from .models import GRID, TEXT, denoise, inputs, relative, tiny_transformer
from .module_oracle import NaiveToken, NaiveWorldCache, PerModule
from .test_session import Interrupt, state

STEPS = 12
CONFIGS = [
    ForaConfig(),
    ForaConfig(interval=4),
    TaylorSeerConfig(),
    TaylorSeerConfig(order=2, interval=3),
    TocaConfig(ratio=0.3),
    TocaConfig(ratio=0.3, score="key", interval=3),
    TocaConfig(ratio=0.3, score="random", taper=0.4, interval=3),
    DucaConfig(ratio=0.3, interval=4),
    DucaConfig(ratio=0.3, first="aggressive"),
    WorldCacheConfig(warmup=4),
]
ONE_OF_EACH = [CONFIGS[0], CONFIGS[3], CONFIGS[4], CONFIGS[7], CONFIGS[9]]


def label(value):
    return f"{value.name}-{CONFIGS.index(value)}" if value in CONFIGS else None


every_config = pytest.mark.parametrize("config", CONFIGS, ids=label)
one_of_each = pytest.mark.parametrize("config", ONE_OF_EACH, ids=label)


@pytest.fixture(scope="module")
def model():
    return tiny_transformer()


@pytest.fixture(scope="module")
def truth(model):
    return denoise(model, steps=STEPS)


@pytest.fixture(scope="module")
def accelerated(model):
    """What a fresh run gives under each of `ONE_OF_EACH`."""
    results = {}
    for config in ONE_OF_EACH:
        with hero_session(model, config, STEPS):
            results[config] = denoise(model, steps=STEPS)
    return results


# Laws of every method


@every_config
def test_every_step_full_is_bit_identical(model, truth, config):
    with hero_session(model, replace(config, interval=1), STEPS) as run:
        assert torch.equal(denoise(model, steps=STEPS), truth)
    assert run.report.nothing_reused and "Nothing was reused" in run.report.summary()


@every_config
def test_after_the_session_the_model_is_untouched(model, truth, config):
    before, weights = state(model), copy.deepcopy(model.state_dict())
    with hero_session(model, config, STEPS) as run:
        accelerated = denoise(model, steps=STEPS)
        assert model.state_dict().keys() == weights.keys()
        assert run.cached_bytes > 0
    assert run.cached_bytes == 0
    assert run.report.cached_steps >= 2
    assert 0 < relative(accelerated, truth) < 0.05
    assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(denoise(model, steps=STEPS), truth)


@every_config
@pytest.mark.slow
def test_two_runs_and_two_passes_are_the_same(model, config):
    with hero_session(model, config, STEPS) as run:
        first = denoise(model, steps=STEPS)
        assert torch.equal(denoise(model, steps=STEPS), first)
        other = denoise(model, steps=STEPS, seed=5)
    assert len(run.reports) == 3
    with hero_session(model, config, STEPS):
        assert torch.equal(denoise(model, steps=STEPS, seed=5), other)


@every_config
@pytest.mark.parametrize("batch", [1, 2])
def test_predicted_bytes_and_counts_are_those_of_a_run(model, config, batch):
    if isinstance(config, WorldCacheConfig):
        config = replace(config, threshold=1e6)  # predicted is the fastest run
    with hero_session(model, config, STEPS) as run:
        denoise(model, steps=STEPS, batch=batch)
    report = run.report
    prediction = predict(config, report.shape, STEPS, batch=batch, element_bytes=4)
    assert report.bytes_cached == prediction.cached_bytes
    assert report.full_steps == prediction.full_steps
    assert report.predicted_speedup == pytest.approx(prediction.speedup_bound)
    assert prediction.speedup_bound == pytest.approx(prediction.unaccelerated_flops / prediction.flops)


@one_of_each
@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, Interrupt])
@pytest.mark.parametrize("step", [0, 4, 5])
@pytest.mark.slow
def test_whatever_ends_a_run_nothing_is_left(model, accelerated, config, error, step):
    calls, before, handles = 0, state(model), []

    def fail(*_):
        raise error("injected")

    def count(*_):
        nonlocal calls
        if calls == step:
            # Not every part runs on every kind of step; the norm at the end does, but for WorldCache.
            parts = [model.transformer_blocks[2], model.norm_final, model]
            handles.extend(part.register_forward_pre_hook(fail) for part in parts)
        calls += 1

    handles.append(model.register_forward_pre_hook(count))
    with pytest.raises(error), hero_session(model, config, STEPS) as run:
        denoise(model, steps=STEPS)
    for handle in handles:
        handle.remove()
    assert run.cached_bytes == 0 and state(model) == before
    with hero_session(model, config, STEPS):
        assert torch.equal(denoise(model, steps=STEPS), accelerated[config])


@pytest.mark.parametrize("config", ONE_OF_EACH[:4], ids=label)
def test_a_failed_step_drops_its_cache_within_the_session(model, config):
    config = replace(config, warmup=2, interval=10)
    with hero_session(model, config) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400):
            hook = None
            if time == 700:
                hook = model.norm_final.register_forward_pre_hook(lambda *_: 1 / 0)
            try:
                model(**inputs(), timestep=torch.tensor([time]))
            except ZeroDivisionError:
                assert run.cached_bytes == 0
            if hook is not None:
                hook.remove()
    reasons = [[record.reason.value for record in report.records] for report in run.reports]
    assert reasons == [["warm-up", "warm-up"], ["warm-up", "warm-up", "cached"]], "a new pass"


@one_of_each
def test_a_change_of_shape_computes_in_full(model, config):
    far = {"threshold": 1e6} if isinstance(config, WorldCacheConfig) else {}
    config = replace(config, interval=10, warmup=3, **far)
    with hero_session(model, config, 20) as run, torch.no_grad():
        for time, batch in ((900, 1), (800, 1), (700, 1), (600, 1), (500, 2), (400, 2), (300, 1)):
            model(**inputs(batch=batch), timestep=torch.full((batch,), time))
    reasons = [record.reason.value for record in run.report.records]
    # WorldCache has estimated no error there, and takes that for a large one.
    after = "threshold" if isinstance(config, WorldCacheConfig) else "cached"
    assert reasons == ["warm-up"] * 3 + ["cached", "nothing cached", after, "nothing cached"]


def test_worldcache_goes_on_once_three_outputs_of_a_branch_are_known(model):
    config = WorldCacheConfig(interval=10, warmup=3, threshold=1e6)
    with hero_session(model, config, 20) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400, 300, 200):
            with run.branch("a" if time > 600 else "b"):
                model(**inputs(), timestep=torch.tensor([time]))
    reasons = [record.reason.value for record in run.report.records]
    assert reasons[3:] == ["nothing cached", "threshold", "nothing cached", "threshold", "cached"]


@one_of_each
def test_inputs_and_outputs_are_never_written(model, config):
    config = replace(config, warmup=3)
    call = inputs()
    kept = copy.deepcopy(call)
    with hero_session(model, config, 20), torch.no_grad():
        outputs = [model(**call, timestep=torch.tensor([time]))[0] for time in (900, 850, 800, 700)]
        copies = [out.clone() for out in outputs]
        for time in (600, 500, 400, 300):
            model(**call, timestep=torch.tensor([time]))
    assert all(torch.equal(a, b) for a, b in zip(outputs, copies, strict=True))
    assert torch.equal(call["hidden_states"], kept["hidden_states"])
    assert torch.equal(call["encoder_hidden_states"], kept["encoder_hidden_states"])


@pytest.mark.slow
def test_nothing_is_left_alive_after_a_session(model):
    def tensors():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    def run_all():
        for config in ONE_OF_EACH:
            with hero_session(model, config, STEPS):
                denoise(model, steps=STEPS)

    run_all()
    before = tensors()
    run_all()
    assert tensors() == before


# WorldCache sorts positions by all branches of a batch; value norms choose tokens by the mean of a batch.
APART = [ForaConfig(), TaylorSeerConfig(order=2), TocaConfig(score="random"), DucaConfig(score="random")]


@pytest.mark.parametrize("config", APART, ids=lambda config: config.name)
def test_branches_called_apart_equal_the_batch(model, config):
    with hero_session(model, config, STEPS) as run:
        together = denoise(model, steps=STEPS, batch=2)
        apart = denoise(model, steps=STEPS, batch=2, separate=True)
    assert relative(apart, together) < 1e-5
    assert {str(record.branch) for record in run.report.records} == {"call 1", "call 2"}
    assert run.report.steps == STEPS


@one_of_each
def test_half_precision(config):
    half = tiny_transformer().to(torch.bfloat16)
    call = inputs(dtype=torch.bfloat16)
    config = replace(config, warmup=3, interval=3)
    with hero_session(half, config, 20) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400):
            out = half(**call, timestep=torch.tensor([time]))[0]
            assert out.dtype is torch.bfloat16 and torch.isfinite(out).all()
    assert run.report.cached_steps >= 2


@pytest.mark.parametrize("config", [TocaConfig(ratio=0.3), DucaConfig(ratio=0.3)], ids=lambda c: c.name)
def test_fused_projections(model, config):
    with hero_session(model, config, STEPS):
        expected = denoise(model, steps=STEPS)
    fused = copy.deepcopy(model)
    fused.fuse_qkv_projections()
    with hero_session(fused, config, STEPS):
        assert relative(denoise(fused, steps=STEPS), expected) < 1e-5


@one_of_each
def test_with_gradients(model, config):
    """ToCa writes into what autograd may need."""
    config = replace(config, warmup=3)
    with hero_session(model, config, 20):
        outputs = [model(**inputs(), timestep=torch.tensor([t]))[0] for t in (900, 850, 800, 700)]
    (outputs[2].square().sum() + outputs[3].sum()).backward()
    model.zero_grad()


def test_apply_replaces_one_method_by_another(model, truth):
    run = apply_hero(model, ForaConfig(), STEPS)
    denoise(model, steps=STEPS)
    apply_hero(model, HeroConfig(), STEPS)
    assert run.cached_bytes == 0
    denoise(model, steps=STEPS)
    remove_hero(model)
    assert torch.equal(denoise(model, steps=STEPS), truth)


@one_of_each
def test_reports(model, config):
    with hero_session(model, config, STEPS) as run:
        denoise(model, steps=STEPS)
    report = run.report
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["method"] == config.name and read["warmup"] == 4 and len(read["forwards"]) == STEPS
    assert report.summary().startswith(f"{config.name}: {report.full_steps} full")
    assert report_png(report)[:4] == b"\x89PNG"
    assert 1 < report.predicted_speedup < STEPS


# Settings

NAN, INF = math.nan, math.inf
COUNTS = {
    "interval": [0, -1, 1001, 2.0, NAN, "2", None, True],
    "warmup": [0, -1, 0.0, 0.2, 1.2, NAN, INF, "0", "120%", None],
}
TOKENS = {
    "ratio": [0, 0.0, -0.1, 1.01, NAN, INF, "1/6", None, True],
    "score": ["attention", "", None, 1],
    "staleness": [-0.1, NAN, INF, "0", None],
    "bonus": [-0.1, 11, NAN, None],
    "taper": [-0.1, 1, NAN, "0"],
    "seed": [-1, 2**63, 0.5, None],
}
BAD = {
    "fora": COUNTS,
    "taylorseer": COUNTS | {"order": [0, 5, 1.0, "1", None, True, NAN]},
    "toca": COUNTS | TOKENS,
    "duca": COUNTS | TOKENS | {"first": ["ToCa", None, 1]},
    "worldcache": {
        "interval": COUNTS["interval"],
        "warmup": [*COUNTS["warmup"], 2],
        "threshold": [0, -1, NAN, INF, None, "0.2"],
        "stable": [-0.1, 1.1, NAN, None],
        "chaotic": [-0.1, 0.8, 1.1, NAN, None],
        "streams": [(), (0,), (16, -1), "abc", 56, None, (16.0,)],
    },
}


@pytest.mark.parametrize(
    "method, field, value", [(m, f, v) for m, fields in BAD.items() for f, vs in fields.items() for v in vs]
)
def test_bad_value_names_the_field(method, field, value):
    with pytest.raises(ConfigError, match=f"^{field}: ") as caught:
        METHODS[method](**{field: value})
    assert caught.value.field == field


def test_the_methods():
    assert list(METHODS) == ["hero", "fora", "taylorseer", "toca", "duca", "worldcache"]
    assert all(isinstance(kind(), kind) for kind in METHODS.values())
    assert len({kind.name for kind in METHODS.values()}) == 6


def test_missing_steps_are_asked_for(model):
    before = state(model)
    for config in (ForaConfig(warmup="20%"), TocaConfig(taper=0.4), WorldCacheConfig()):
        with pytest.raises(ConfigError, match="^steps: needed"):
            apply_hero(model, config)
        with pytest.raises(ConfigError, match="^steps: "):
            apply_hero(model, config, 0)
    assert state(model) == before


def test_streams_that_are_not_the_models_are_reported_at_the_first_step(model):
    before = state(model)
    with (
        pytest.raises(ConfigError, match=r"^streams: \(16,\) are 16 channels, but the model gives 56"),
        hero_session(model, WorldCacheConfig(streams=(16,)), STEPS) as run,
    ):
        denoise(model, steps=STEPS)
    assert run.cached_bytes == 0 and state(model) == before


def test_blocks_of_comfyui_that_lack_a_part_are_refused():
    class Other:
        blocks = (torch.nn.Module(),)

        def _forward(self, x, timestep, context):
            raise NotImplementedError

    adapter = ComfyCogVideoXAdapter(Other())
    with pytest.raises(ConfigError, match="^transformer: its blocks have no 'attn_out'"):
        adapter.watch(MODULES, print).__enter__()


# Schedules and costs


@pytest.mark.parametrize(
    "config", [ForaConfig(), TaylorSeerConfig(), TaylorSeerConfig(order=2), TocaConfig()]
)
def test_counts_of_the_paper(config):
    assert [predict(config, AETHER, steps).full_steps for steps in (50, 30)] == [27, 17]
    faster = replace(config, interval=3, warmup="20%")
    assert [predict(faster, AETHER, steps).full_steps for steps in (50, 30)] == [23, 14]


def test_worldcache_at_its_defaults_is_full_at_24_of_50_steps():
    assert predict(WorldCacheConfig(), AETHER, 50).full_steps == 24


def test_flops_of_the_paper():
    for config in (ForaConfig(), TaylorSeerConfig()):
        assert predict(config, AETHER, 50, 2).linear_flops / 1e12 == pytest.approx(7753.18, rel=1e-3)
        assert predict(config, AETHER, 30, 1).linear_flops / 1e12 == pytest.approx(2440.64, rel=1e-3)


def test_the_command_predicts_any_method(capsys):
    assert main("--method taylorseer --order 2 --interval 3".split()) == 0
    out = capsys.readouterr().out
    assert "19 full / 31 cached" in out and "46.684 GB" in out
    assert main("--method fora --ratio 0.5".split()) == 2
    assert capsys.readouterr().err.startswith(
        "error: --ratio: FORA has no such setting; it has cooldown, interval, warmup"
    )
    assert main("--method fora --preset paper".split()) == 2
    assert capsys.readouterr().err.startswith("error: --preset: FORA has no such setting")
    assert main("--method teacache".split()) == 2
    assert capsys.readouterr().err.startswith("error: --method: 'teacache' is not one of hero, fora")


def test_a_cached_step_of_toca_is_what_its_modules_compute(model):
    counted = 0

    def count(module, args, output):
        nonlocal counted
        counted += 2 * module.weight.numel() * (output.numel() // module.weight.shape[0])

    config = TocaConfig(ratio=0.3, warmup=1)
    with hero_session(model, config) as run, torch.no_grad():
        model(**inputs(), timestep=torch.tensor([900]))
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        hooks = [module.register_forward_hook(count) for module in linear]
        model(**inputs(), timestep=torch.tensor([800]))
    for hook in hooks:
        hook.remove()
    assert run.report.records[1].refreshed == 36
    # Both norms of a block are asked for their gates, the second for its modulation too.
    again = 6 * 2 * 6 * 64 * 32
    assert counted - again == config.work(run.report.shape, run.report.counts, 1).linear


def test_ducas_cached_steps_alternate():
    assert [DucaConfig().aggressive(age) for age in (1, 2, 3)] == [False, True, False]
    assert [DucaConfig(first="aggressive").aggressive(age) for age in (1, 2, 3)] == [True, False, True]


def test_the_tapered_interval_shrinks():
    schedule = TaperedSchedule(4, 1, 0.4, 40)
    full = [n for n in range(40) if schedule.next().full]
    gaps = [b - a for a, b in zip(full, full[1:], strict=False)]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] == round(4 / 0.6) and gaps[-1] == 3
    assert step_ages(TaperedSchedule(2, 4, 0.0, 12), 12) == [0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_the_error_schedule():
    schedule = ErrorSchedule(4, 2, 0.5, end=11)
    rates = [math.nan, math.nan, math.nan, 0.2, 0.2, 0.2, math.nan, 0.6, math.nan, math.nan, 0.1, math.nan]
    expected = ["warm-up"] * 2 + ["cached"] * 3 + ["interval", "cached", "threshold", "cached", "threshold"]
    expected += ["cached", "cool-down"]
    assert [schedule.next(rate).value for rate in rates] == expected


# Against the oracles


@pytest.mark.parametrize(
    "config, full",
    [
        (ForaConfig(), {0, 1, 2, 3, 5, 7, 9, 11}),
        (ForaConfig(interval=4), {0, 1, 2, 3, 7, 11}),
        (TaylorSeerConfig(), {0, 1, 2, 3, 5, 7, 9, 11}),
        (TaylorSeerConfig(interval=3), {0, 1, 2, 3, 6, 9}),
        (TaylorSeerConfig(interval=3, warmup=1), {0, 3, 6, 9}),
        (TaylorSeerConfig(order=2, warmup=1), {0, 2, 4, 6, 8, 10}),
    ],
)
def test_fora_and_taylorseer(model, truth, config, full):
    with PerModule(model, full, config.order), torch.no_grad():
        expected = denoise(model, steps=STEPS)
    with hero_session(model, config, STEPS) as run:
        result = denoise(model, steps=STEPS)
    assert {n for n, record in enumerate(run.report.records) if record.reason.full} == full
    assert relative(result, expected) < 1e-6
    assert relative(result, truth) > 1e-4


def test_taylorseers_differences_begin_with_the_last_of_the_warmup(model):
    """With order 2 and a warm-up of 4, the first cached step sees a first difference only."""
    config = TaylorSeerConfig(order=2, warmup=4)
    with PerModule(model, {0, 1, 2, 3}, 1), torch.no_grad():
        expected = denoise(model, steps=5)
    with hero_session(model, config) as run:
        assert relative(denoise(model, steps=5), expected) < 1e-6
    assert run.report.cached_steps == 1


@pytest.mark.parametrize(
    "config, order, warmup",
    [(ForaConfig(), 0, 4), (TaylorSeerConfig(), 1, 4), (TaylorSeerConfig(order=2, warmup=1), 2, 1)],
)
def test_diffusers_own_taylorseer_agrees(model, config, order, warmup):
    """At an interval of 2, where its schedule is the same."""
    hooks = pytest.importorskip("diffusers.hooks.taylorseer_cache")
    theirs = copy.deepcopy(model)
    theirs.enable_cache(
        hooks.TaylorSeerCacheConfig(
            cache_interval=2,
            disable_cache_before_step=warmup,
            max_order=order,
            taylor_factors_dtype=torch.float32,
            cache_identifiers=[r"transformer_blocks\.\d+\.(attn1|ff)"],
        )
    )
    with theirs.cache_context("run"):
        expected = denoise(theirs, steps=STEPS)
    with hero_session(model, config, STEPS):
        assert relative(denoise(model, steps=STEPS), expected) < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("ratio, staleness, bonus", [(0.3, 0.25, 0.6), (0.3, 0.0, 0.0), (0.6, 2.0, 0.6)])
def test_toca(model, ratio, staleness, bonus, batch):
    config = TocaConfig(interval=4, ratio=ratio, staleness=staleness, bonus=bonus)
    full = {0, 1, 2, 3, 7, 11}
    chooser = NaiveToken(ratio, staleness / 4, bonus, GRID, TEXT, full)
    with PerModule(model, full, chooser=chooser), torch.no_grad():
        expected = denoise(model, steps=STEPS, batch=batch)
    with hero_session(model, config, STEPS):
        result = denoise(model, steps=STEPS, batch=batch)
    assert relative(result, expected) < 1e-6


def test_toca_with_every_token_reuses_the_attention_only(model, truth):
    full = {0, 1, 2, 3, 5, 7, 9, 11}
    everything = PerModule(model, full, chooser=lambda *_: list(range(TEXT + math.prod(GRID))))
    with everything, torch.no_grad():
        expected = denoise(model, steps=STEPS)
    with hero_session(model, TocaConfig(ratio=1.0), STEPS) as run:
        result = denoise(model, steps=STEPS)
    assert relative(result, expected) < 1e-6 < relative(result, truth)
    assert run.report.tokens_refreshed == 1


def test_toca_with_hardly_a_token_is_fora(model):
    with hero_session(model, ForaConfig(), STEPS):
        expected = denoise(model, steps=STEPS)
    with hero_session(model, TocaConfig(ratio=1e-4), STEPS):
        assert relative(denoise(model, steps=STEPS), expected) < 1e-6


@pytest.mark.parametrize("first, aggressive", [("toca", {5, 9}), ("aggressive", {4, 6, 8, 10})])
def test_duca(model, first, aggressive):
    full = {0, 1, 2, 3, 7, 11}
    chooser = NaiveToken(0.3, 0.25 / 4, 0.6, GRID, TEXT, full)
    with PerModule(model, full, chooser=chooser, aggressive=aggressive), torch.no_grad():
        expected = denoise(model, steps=STEPS)
    with hero_session(model, DucaConfig(interval=4, ratio=0.3, first=first), STEPS) as run:
        result = denoise(model, steps=STEPS)
    assert relative(result, expected) < 1e-6
    skipped = {n for n, record in enumerate(run.report.records) if record.refreshed == 0}
    assert skipped == aggressive


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("interval, threshold", [(3, 1e6), (4, 0.05), (4, 0.2)])
def test_worldcache(model, interval, threshold, batch):
    config = WorldCacheConfig(interval=interval, warmup=4, threshold=threshold)
    oracle = NaiveWorldCache(model, STEPS, interval, 4, threshold, 0.3, 0.4, (16, 16, 24))
    with oracle, torch.no_grad():
        expected = denoise(model, steps=STEPS, batch=batch)
    with hero_session(model, config, STEPS) as run:
        result = denoise(model, steps=STEPS, batch=batch)
    assert [record.reason.full for record in run.report.records] == oracle.kinds
    assert not all(oracle.kinds)
    # The naive sums round differently, and a position may change sides.
    assert relative(result, expected) < 1e-4


def test_a_smaller_threshold_never_gives_fewer_full_steps(model):
    counts = []
    for threshold in (1e-9, 0.02, 0.1, 0.5, 1e6):
        with hero_session(model, WorldCacheConfig(threshold=threshold, interval=6, warmup=3), 30) as run:
            denoise(model, steps=30)
        counts.append(run.report.full_steps)
    # An error above the threshold is seen only after the step that made it.
    assert counts == sorted(counts, reverse=True) and counts[0] == 17 and counts[-1] == 8


# Parts, by hand


def test_a_taylor_series_by_hand():
    feature = TaylorFeature(2)
    for step, value in ((2, 1.0), (3, 3.0), (5, 9.0)):
        feature.observe(torch.tensor([[value]]), step, differences=True)
    # Slopes 2 and 3, their change per step 1/2: 9 + 3 * 2 + 1/2 * 2^2 / 2.
    assert float(feature.forecast(7)) == 16.0
    assert feature.bytes == 12
    feature.observe(torch.tensor([[4.0]]), 6, differences=False)
    assert float(feature.forecast(9)) == 4.0


def test_a_queue_by_hand():
    queue = TokenQueue(4)
    queue.score = torch.tensor([0.4, 0.3, 0.2, 0.1])
    chosen = [queue.choose(1, staleness=0.15).tolist() for _ in range(4)]
    # Scores plus 0.15 an age: then .4 .45 .35 .25; then .55 .3 .5 .4; then .4 .45 .65 .55.
    assert chosen == [[0], [1], [0], [2]]


def test_the_best_of_each_2_by_2():
    score = torch.arange(2 * 3 * 3, dtype=torch.float32).roll(1)
    # Frames of 3 x 3: patches of 4, 2, 2 and 1 tokens.
    assert best_of_patches(score, squares((2, 3, 3))).tolist() == [0, 5, 7, 8, 13, 14, 16, 17]
    assert best_of_patches(score[:3], squares((1, 1, 3))).tolist() == [0, 2]


def test_a_path_by_hand():
    """Three positions of one stream: still, straight and turning."""
    path = OutputPath((1,), stable=0.3, chaotic=0.4, most=2)
    for step, values in ((0, (5.0, 0.0, 0.0)), (1, (6.0, 1.0, 1.0)), (3, (8.0, 3.2, 1.5))):
        assert not path.ready
        path.observe(torch.tensor(values).view(1, 1, 1, 1, 3), step)
    # Slopes 1, 1.1, 0.25 after 1, 1, 1: bent by 0, 0.05 / 1.21 and 0.375 / 0.0625 = 6.
    prediction, error = path.predict(4)
    assert prediction.flatten().tolist() == pytest.approx([8.0, 3.2 + 1.1, 1.5 + (0.25 + 1) / 2])
    assert float(error) == pytest.approx(6 * 0.625 / 3, rel=1e-4)
    prediction, error = path.predict(5)
    assert prediction.flatten().tolist() == pytest.approx([8.0, 3.2 + 2.2, 1.5 + 2 * 1])
    assert float(error) == pytest.approx(6 * (2 - 0.625) / 3, rel=1e-4)


def test_damping_goes_from_0_to_1():
    assert [damping(k, 2) for k in (0, 1, 2, 3)] == [0, 0.5, 1, 1]


def test_nan_computes():
    """An output that is not a number must not be taken for one that hardly moves."""
    schedule = ErrorSchedule(5, 1, 0.5, end=9)
    reasons = [schedule.next(rate) for rate in (math.nan, math.nan, math.nan)]
    assert reasons == [Reason.WARMUP, Reason.CACHED, Reason.THRESHOLD]
