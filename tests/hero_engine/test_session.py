import copy
import gc
import math

import pytest
import torch
from diffusers import CogVideoXPipeline

from hero_engine import ConfigError, HeroConfig, apply_hero, hero_session, remove_hero

from .models import GRID, denoise, inputs, relative, scheduler, tiny_transformer

STEPS = 12
EVERY_OPTION = [
    HeroConfig(shallow=shallow, text=text)
    for shallow in ("reuse", "forecast")
    for text in ("refresh", "omit")
]


@pytest.fixture(scope="module")
def model():
    return tiny_transformer()


@pytest.fixture(scope="module")
def truth(model):
    return denoise(model, steps=STEPS)


def state(model):
    """What must be the same before and after: attributes of every module, and the processors."""
    return {
        name: (
            sorted(vars(module)),
            type(module),
            module._compiled_call_impl,
            getattr(module, "processor", None),
        )
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("config", EVERY_OPTION, ids=str)
def test_every_step_full_is_bit_identical(model, truth, config):
    with hero_session(model, HeroConfig(**{**vars(config), "interval": 1}), STEPS):
        assert torch.equal(denoise(model, steps=STEPS), truth)


@pytest.mark.parametrize("config", EVERY_OPTION, ids=str)
def test_after_the_session_the_model_is_untouched(model, truth, config):
    before, weights = state(model), copy.deepcopy(model.state_dict())
    with hero_session(model, config, STEPS) as run:
        names = [name for name, _ in model.named_modules()]
        accelerated = denoise(model, steps=STEPS)
        assert names == list(before) and model.state_dict().keys() == weights.keys()
        assert run.cached_bytes > 0
    assert run.cached_bytes == 0
    assert 0 < relative(accelerated, truth) < 0.05
    assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(denoise(model, steps=STEPS), truth)


@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
def test_all_blocks_and_all_tokens_refreshed_is_the_model(model, truth, shallow):
    config = HeroConfig(tau="100%", ratio=1.0, interval=4, shallow=shallow)
    with hero_session(model, config, STEPS) as run:
        assert relative(denoise(model, steps=STEPS), truth) < 1e-5
    assert run.report.cached_steps == 6


@pytest.mark.parametrize("batch", [1, 2])
def test_cached_bytes_are_three_hidden_states(batch):
    model = tiny_transformer(width=128)
    with hero_session(model, HeroConfig(), STEPS) as run:
        denoise(model, steps=STEPS, batch=batch)
    hidden_state = batch * math.prod(GRID) * 128 * 4
    assert run.report.bytes_cached == pytest.approx(3 * hidden_state, rel=0.02)


def test_deep_blocks_and_unselected_tokens_do_not_run(model):
    lengths = []
    hooks = [
        block.ff.register_forward_hook(lambda _, args, __, n=n: lengths.append((n, args[0].shape[1])))
        for n, block in enumerate(model.transformer_blocks)
    ]
    with hero_session(model, HeroConfig(tau=2, warmup=1, text="omit")):
        denoise(model, steps=2)
    for hook in hooks:
        hook.remove()
    assert lengths == [(n, 128) for n in range(6)] + [(0, 20), (1, 20)]


def test_two_runs_are_the_same_and_the_seed_matters(model):
    def run(seed):
        with hero_session(model, HeroConfig(seed=seed), STEPS):
            return denoise(model, steps=STEPS)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_a_second_pass_in_one_session_equals_the_first(model):
    with hero_session(model, HeroConfig(), STEPS) as run:
        first = denoise(model, steps=STEPS)
        assert torch.equal(denoise(model, steps=STEPS), first)
        other = denoise(model, steps=STEPS, seed=5)
    assert [report.full_steps for report in run.reports] == [8, 8, 8]
    with hero_session(model, HeroConfig(), STEPS):
        assert torch.equal(denoise(model, steps=STEPS, seed=5), other)


@pytest.mark.parametrize("config", EVERY_OPTION, ids=str)
def test_branches_called_apart_equal_the_batch(model, config):
    with hero_session(model, config, STEPS) as run:
        together = denoise(model, steps=STEPS, batch=2)
        apart = denoise(model, steps=STEPS, batch=2, separate=True)
    assert relative(apart, together) < 1e-5
    assert {str(record.branch) for record in run.report.records} == {"call 1", "call 2"}
    assert (run.report.steps, run.report.full_steps) == (12, 8)


def test_named_branches_may_come_in_any_order(model):
    call, times = inputs(), [900, 800, 700, 600]

    def outputs(order):
        results = {"a": [], "b": []}
        with hero_session(model, HeroConfig(warmup=2)) as run, torch.no_grad():
            for i, time in enumerate(times):
                for name in order(i):
                    hidden = call["hidden_states"] * (1 if name == "a" else 2)
                    with run.branch(name):
                        out = model(**{**call, "hidden_states": hidden}, timestep=torch.tensor([time]))[0]
                    results[name].append(out)
        return results

    steady, swapped = outputs(lambda i: "ab"), outputs(lambda i: "ab" if i % 2 else "ba")
    for name in "ab":
        assert all(torch.equal(x, y) for x, y in zip(steady[name], swapped[name], strict=True))


@pytest.mark.parametrize("config", EVERY_OPTION, ids=str)
@pytest.mark.parametrize("name", [None, "positive"])
def test_a_model_asked_twice_at_one_timestep_stays_finite(model, config, name):
    with hero_session(model, config, 8) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400):
            for scale in (1.0, 0.9):
                call = {**inputs(), "hidden_states": scale * inputs()["hidden_states"]}
                with run.branch(name):
                    assert torch.isfinite(model(**call, timestep=torch.tensor([time]))[0]).all()
    assert run.report.cached_steps == 1
    assert len({str(record.branch) for record in run.report.records}) == 2


def test_a_change_of_shape_computes_in_full_and_goes_on(model):
    with hero_session(model, HeroConfig(interval=10, warmup=1)) as run, torch.no_grad():
        for time, batch in ((900, 1), (800, 1), (700, 2), (600, 2), (500, 1)):
            model(**inputs(batch=batch), timestep=torch.full((batch,), time))
    assert [record.reason.value for record in run.report.records] == [
        "warm-up",
        "cached",
        "nothing cached",
        "cached",
        "nothing cached",
    ]


@pytest.mark.slow
def test_a_smaller_threshold_never_gives_fewer_full_steps(model):
    counts = []
    for threshold in (1e-6, 0.2, 0.5, 1.0, 2.0, 4.0, 1e6):
        with hero_session(model, HeroConfig(threshold=threshold, interval=8, warmup=2), 30) as run:
            denoise(model, steps=30)
        counts.append(run.report.full_steps)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 30 and counts[-1] == 5 and len(set(counts)) >= 4


class Interrupt(BaseException):
    pass


@pytest.fixture(scope="module")
def undisturbed(model):
    """What a run gives that nothing ends, by `shallow`."""
    results = {}
    for shallow in ("reuse", "forecast"):
        with hero_session(model, HeroConfig(shallow=shallow), STEPS):
            results[shallow] = denoise(model, steps=STEPS)
    return results


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, Interrupt])
@pytest.mark.parametrize("block", [0, 2, 5])
@pytest.mark.parametrize("step", [0, 4, 5])
@pytest.mark.parametrize("shallow", ["reuse", pytest.param("forecast", marks=pytest.mark.slow)])
def test_whatever_ends_a_run_nothing_is_left(model, undisturbed, error, block, step, shallow):
    config, calls = HeroConfig(shallow=shallow), 0
    before = state(model)

    def fail(*_):
        raise error("injected")

    def count(*_):
        nonlocal calls
        if calls == step:
            handle.append(model.transformer_blocks[block].register_forward_pre_hook(fail))
        calls += 1

    handle = [model.register_forward_pre_hook(count)]
    with pytest.raises(error), hero_session(model, config, STEPS) as run:
        denoise(model, steps=STEPS)
    for hook in handle:
        hook.remove()
    assert run.cached_bytes == 0 and state(model) == before
    with hero_session(model, config, STEPS):
        assert torch.equal(denoise(model, steps=STEPS), undisturbed[shallow])


def test_a_failed_step_drops_its_cache_within_the_session(model):
    broken = model.transformer_blocks[1]
    with hero_session(model, HeroConfig(warmup=2, interval=10)) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400):
            hook = None
            if time == 700:
                hook = broken.attn1.register_forward_pre_hook(lambda *_: 1 / 0)
            try:
                model(**inputs(), timestep=torch.tensor([time]))
            except ZeroDivisionError:
                assert run.cached_bytes == 0
            if hook is not None:
                hook.remove()
    reasons = [[record.reason.value for record in report.records] for report in run.reports]
    assert reasons == [["warm-up", "warm-up"], ["warm-up", "warm-up", "cached"]], "a new pass"


def test_inputs_and_outputs_are_never_written(model):
    call = inputs()
    kept = copy.deepcopy(call)
    with hero_session(model, HeroConfig(warmup=2)), torch.no_grad():
        outputs = [model(**call, timestep=torch.tensor([time]))[0] for time in (900, 800, 700)]
        copies = [out.clone() for out in outputs]
        for time in (600, 500, 400):
            model(**call, timestep=torch.tensor([time]))
    assert all(torch.equal(a, b) for a, b in zip(outputs, copies, strict=True))
    assert torch.equal(call["hidden_states"], kept["hidden_states"])
    assert torch.equal(call["encoder_hidden_states"], kept["encoder_hidden_states"])


def test_nothing_is_left_alive_after_a_session(model):
    def tensors():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    def one_run():
        with hero_session(model, HeroConfig(shallow="forecast"), STEPS):
            denoise(model, steps=STEPS)

    one_run()
    before = tensors()
    for _ in range(3):
        one_run()
    assert tensors() == before


def test_apply_and_remove(model, truth):
    before = state(model)
    run = apply_hero(model, HeroConfig(), STEPS)
    accelerated = denoise(model, steps=STEPS)
    again = apply_hero(model, HeroConfig(interval=1), STEPS)
    assert run.cached_bytes == 0 and run.report.full_steps == 8
    assert torch.equal(denoise(model, steps=STEPS), truth) and again.report.full_steps == 12
    remove_hero(model)
    remove_hero(model)
    assert state(model) == before
    with hero_session(model, HeroConfig(), STEPS):
        assert torch.equal(denoise(model, steps=STEPS), accelerated)


def test_bad_settings_leave_the_model_alone(model):
    before = state(model)
    cases = [
        (HeroConfig(tau=7), None, "tau"),
        (HeroConfig(warmup="50%"), None, "steps"),
        (HeroConfig(), 0, "steps"),
        ("turbo", None, "preset"),
        (None, None, "config"),
    ]
    for config, steps, field in cases:
        with pytest.raises(ConfigError, match=f"^{field}: "), hero_session(model, config, steps):
            raise AssertionError("the session was entered")
        with pytest.raises(ConfigError, match=f"^{field}: "):
            apply_hero(model, config, steps)
    assert state(model) == before


def test_a_patch_larger_than_the_grid_is_reported_at_the_first_step(model):
    with (
        pytest.raises(ConfigError, match="^patch: 1x5x6 is larger than the token grid 5x4x6"),
        hero_session(model, HeroConfig(patch=(1, 5, 6))),
    ):
        denoise(model, steps=2)


@pytest.mark.parametrize("thing", [None, torch.nn.Linear(2, 2), "model", object()])
def test_unsupported_models_are_named(thing):
    with pytest.raises(ConfigError, match=f"^transformer: {type(thing).__name__} is not supported"):
        apply_hero(thing, HeroConfig())


def test_only_one_session_at_a_time(model):
    with hero_session(model, HeroConfig(), STEPS):
        with pytest.raises(ConfigError, match="^transformer: HERO is already on it"):
            hero_session(model, HeroConfig(), STEPS).__enter__()
        denoise(model, steps=2)


def test_an_attention_processor_of_the_users_own_is_used_on_every_step():
    model, lengths = tiny_transformer(2), []
    shipped = model.transformer_blocks[0].attn1.processor

    class Other:
        def __call__(self, attn, hidden_states, *args, **kwargs):
            lengths.append(hidden_states.shape[1])
            return shipped(attn, hidden_states, *args, **kwargs)

    model.transformer_blocks[0].attn1.processor = Other()
    before = state(model)
    with hero_session(model, HeroConfig(tau=1, warmup=1)):
        denoise(model, steps=2)
    assert lengths == [math.prod(GRID), math.prod(GRID) // 6]
    assert state(model) == before


def test_a_wrapper_put_on_top_meanwhile_survives(model, truth):
    run = apply_hero(model, HeroConfig(), STEPS)
    inner, calls = vars(model)["_compiled_call_impl"], []

    def outer(*args, **kwargs):
        calls.append(1)
        return inner(*args, **kwargs)

    vars(model)["_compiled_call_impl"] = outer
    inner.owner.remove()
    assert torch.equal(denoise(model, steps=STEPS), truth) and len(calls) == STEPS
    assert run.cached_bytes == 0
    del vars(model)["_compiled_call_impl"]


def test_a_forward_replaced_meanwhile_is_what_hero_runs_on(model, truth):
    forward, calls = model.forward, []

    def replaced(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    with hero_session(model, HeroConfig(interval=1), STEPS) as run:
        model.forward = replaced
        assert torch.equal(denoise(model, steps=STEPS), truth) and len(calls) == STEPS
        assert len(run.report.records) == STEPS
    del model.forward


def test_fused_projections():
    model = tiny_transformer()
    with hero_session(model, HeroConfig(), STEPS):
        accelerated = denoise(model, steps=STEPS)
    model.fuse_qkv_projections()
    fused = denoise(model, steps=STEPS)
    with hero_session(model, HeroConfig(interval=1), STEPS):
        assert torch.equal(denoise(model, steps=STEPS), fused)
    with hero_session(model, HeroConfig(), STEPS):
        assert relative(denoise(model, steps=STEPS), accelerated) < 1e-5


def test_learned_positions_without_rotary():
    model = tiny_transformer(
        use_rotary_positional_embeddings=False, spatial_interpolation_scale=1.0, sample_frames=17
    )
    call = {**inputs(), "image_rotary_emb": None}
    with hero_session(model, HeroConfig(warmup=2)) as run, torch.no_grad():
        for time in (900, 800, 700):
            model(**call, timestep=torch.tensor([time]))
    assert run.report.cached_steps == 1


def test_half_precision(model):
    half = tiny_transformer().to(torch.bfloat16)
    call = inputs(dtype=torch.bfloat16)
    for config in EVERY_OPTION:
        with hero_session(half, HeroConfig(**{**vars(config), "warmup": 3})) as run, torch.no_grad():
            for time in (900, 800, 700, 600, 500, 400):
                out = half(**call, timestep=torch.tensor([time]))[0]
        assert out.dtype is torch.bfloat16 and torch.isfinite(out).all()
        assert run.report.cached_steps == 2


def test_inside_a_diffusers_pipeline():
    model = tiny_transformer(4, in_channels=16, out_channels=16)
    pipeline = CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=model, scheduler=scheduler()
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae_scale_factor_spatial = 8
    pipeline._prepare_rotary_positional_embeddings = lambda *_: inputs()["image_rotary_emb"]
    text = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(3))

    def video():
        return pipeline(
            prompt_embeds=text,
            negative_prompt_embeds=torch.zeros_like(text),
            height=32,
            width=48,
            num_frames=17,
            num_inference_steps=STEPS,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames

    plain = video()
    run = apply_hero(model, HeroConfig.preset("paper"))
    accelerated = video()
    assert run.report.full_steps == 8 and run.report.batch == 2
    assert 0 < relative(accelerated, plain) < 0.2
    remove_hero(model)
    assert torch.equal(video(), plain)


def test_lora_stays_and_a_switched_adapter_recomputes():
    peft = pytest.importorskip("peft")
    model = tiny_transformer()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "style")
    tuned = denoise(model, steps=STEPS)
    with hero_session(model, HeroConfig(interval=1), STEPS):
        assert torch.equal(denoise(model, steps=STEPS), tuned)
    with hero_session(model, HeroConfig(interval=10, warmup=1)) as run, torch.no_grad():
        for time in (900, 800, 700, 600):
            if time == 700:
                model.disable_adapters()
            model(**inputs(), timestep=torch.tensor([time]))
    assert model.peft_config.keys() == {"style"}
    assert [r.reason.value for r in run.report.records] == ["warm-up", "cached", "nothing cached", "cached"]


@pytest.mark.slow
def test_compiled_models_run_right():
    model = tiny_transformer(2)
    truth = denoise(model, steps=6)
    with hero_session(model, HeroConfig(tau=1, warmup=2), 6):
        accelerated = denoise(model, steps=6)
    compiled = torch.compile(model, backend="aot_eager")  # the blocks below are compiled to machine code
    with hero_session(compiled, HeroConfig(tau=1, warmup=2), 6) as run:
        assert relative(denoise(compiled, steps=6), accelerated) < 1e-5
    assert run.report.cached_steps == 2
    for block in model.transformer_blocks:
        block.compile()
    with hero_session(model, HeroConfig(tau=1, warmup=2), 6) as run:
        assert relative(denoise(model, steps=6), accelerated) < 1e-5
    assert run.report.cached_steps == 2
    assert relative(denoise(model, steps=6), truth) < 1e-5


def steps_of(model, times, seed, batch=1):
    """The first forwards of a run of its own latent."""
    call = inputs(seed=seed, batch=batch)
    with torch.no_grad():
        return [model(**call, timestep=torch.tensor([time]).expand(batch))[0] for time in times]


def test_what_a_run_cached_that_was_stopped_in_its_first_step_is_not_used(model):
    config, times = HeroConfig(warmup=1, interval=2), (900, 800, 700, 600)
    with hero_session(model, config) as run:
        steps_of(model, times[:1], seed=0)
        steps_of(model, times, seed=1)
    reasons = [(str(record.branch), record.reason.value) for record in run.report.records]
    assert reasons[2:] == [("call 1", "nothing cached"), ("call 1", "interval"), ("call 1", "cached")]


def test_latents_that_take_turns_are_branches(model):
    """Tiles, or clips one by one: what each gets is what it gets alone, but for one more full step."""
    config, times = HeroConfig(warmup=2, interval=2), (900, 800, 700, 600, 500, 400)
    alone = {}
    for seed in (0, 1):
        with hero_session(model, config):
            alone[seed] = steps_of(model, times, seed)
    with hero_session(model, config) as run:
        turns = {0: [], 1: []}
        for time in times:
            for seed in turns:
                turns[seed] += steps_of(model, [time], seed)
    assert len(run.reports) == 1 and run.report.cached_steps == 2
    for seed in turns:
        # Without the first step, the first forecast has no slope yet.
        assert all(relative(mine, its) < 0.1 for mine, its in zip(turns[seed], alone[seed], strict=True))
        assert torch.equal(turns[seed][-1], alone[seed][-1])


def test_runs_of_one_step_do_not_pile_up(model):
    with hero_session(model, HeroConfig()) as run:
        held = set()
        for seed in range(3):
            steps_of(model, [900], seed)
            held.add(run.cached_bytes)
    assert len(held) == 1


def test_two_calls_of_one_latent_are_two_branches(model):
    with hero_session(model, HeroConfig()) as run:
        steps_of(model, [900, 900, 800, 800], seed=0)
    assert len(run.reports) == 1
    assert [str(record.branch) for record in run.report.records] == ["call 1", "call 2"] * 2


@pytest.mark.parametrize("rounded", [799.99994, 800.00006])
def test_timesteps_that_differ_by_rounding_are_one_step(model, rounded):
    """Samplers of higher order ask for the next step's time as they compute it, and then as it is given."""
    with hero_session(model, HeroConfig()) as run:
        steps_of(model, [900.0, rounded, 800.0, 700.0], seed=0)
    assert len(run.reports) == 1
    assert [str(record.branch) for record in run.report.records] == ["call 1", "call 1", "call 2", "call 1"]
    assert run.report.steps == 3


def test_a_step_has_the_timestep_that_is_passed(model):
    """Whatever the model is given, as for frames that are kept."""
    with hero_session(model, HeroConfig(warmup=1, interval=3)) as run:
        for time in (900.0, 800.0, 700.0):
            with run.branch("kept", timestep=time):
                steps_of(model, [0.5 * time], seed=0)
            with run.branch("made", timestep=time):
                steps_of(model, [time], seed=0)
    assert [record.timestep for record in run.report.records] == [900, 900, 800, 800, 700, 700]
    assert (run.report.full_steps, run.report.cached_steps) == (1, 2)


def test_a_branch_that_nobody_asks_for_any_more_is_freed(model):
    """ComfyUI calls both halves in one batch, and one by one where memory gets short."""
    with hero_session(model, HeroConfig(interval=2, warmup=2)) as run:
        with run.branch("a b"):
            steps_of(model, [990, 980, 970], seed=0, batch=2)
        together = run.cached_bytes
        held = []
        for time in range(960, 900, -10):
            for name in "ab":
                with run.branch(name):
                    steps_of(model, [time], seed=0)
            held.append(run.cached_bytes)
    assert max(held) == 2 * together and held[-1] == together


def test_another_number_of_steps_is_reported(model):
    for told, said in ((STEPS, False), (STEPS + 10, True)):
        with hero_session(model, HeroConfig(warmup="20%", cooldown=1), told) as run:
            denoise(model, steps=STEPS)
        assert (f"{STEPS} of {told} planned steps ran" in run.report.summary()) is said
