"""The laws of a cache that may be trusted, on the engine itself.

Nothing of one run reaches another, whatever changed between them and however a run ended. Each test counts
what it tried; the soak takes its size from AETHER_HERO_SOAK (runs, default 100, nightly 500).
"""

from __future__ import annotations

import copy
import gc
import itertools
import os
import random
import threading

import pytest
import torch

from hero_engine import ForaConfig, HeroConfig, apply_hero, hero_session, remove_hero

from ..hero_engine.models import denoise, inputs, noise, tiny_transformer

SOAK_RUNS = int(os.environ.get("AETHER_HERO_SOAK", "100"))


class Interrupt(BaseException):
    """Like ComfyUI's and like Ctrl-C: not an Exception."""


ERRORS = (RuntimeError, torch.OutOfMemoryError, Interrupt)


def modules_state(model):
    """Everything that a session might leave behind on a module."""
    return {name: (sorted(vars(module)), type(module)) for name, module in model.named_modules()}


def failing_at(model, step, block, error):
    """Make `block` raise at forward number `step` of the model; returns what undoes it."""
    seen, hooks = itertools.count(), []

    def arm(*_):
        if next(seen) == step:
            hooks.append(model.transformer_blocks[block].register_forward_pre_hook(fail))

    def fail(*_):
        raise error("injected")

    hooks.append(model.register_forward_pre_hook(arm))
    return lambda: [hook.remove() for hook in hooks]


# 4 blocks x 6 steps x 3 errors = 72 faults; blocks before, at and behind tau, steps of every kind.
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", [0, 1, 4, 5, 6, 7])
@pytest.mark.parametrize("block", [0, 2, 3, 5])
@pytest.mark.slow
def test_a_fault_leaves_nothing(fault_model, block, step, error):
    model, config, expected, before = fault_model
    undo = failing_at(model, step, block, error)
    try:
        with pytest.raises(error), hero_session(model, config, 8, noise()) as run:
            denoise(model, steps=8)
    finally:
        undo()
    assert run.cached_bytes == 0
    assert modules_state(model) == before
    with hero_session(model, config, 8, noise()):
        assert torch.equal(denoise(model, steps=8), expected)


@pytest.mark.parametrize("error", ERRORS)
def test_a_step_that_ended_in_its_middle_is_never_reused(error):
    model = tiny_transformer(4)
    undo = failing_at(model, 2, 1, error)
    with hero_session(model, HeroConfig(warmup=2, interval=10)) as run, torch.no_grad():
        for time in (900, 800, 700, 600, 500, 400):
            try:
                model(**inputs(), timestep=torch.tensor([time]))
            except error:
                assert time == 700 and run.cached_bytes == 0
                undo()
    reasons = [[record.reason.value for record in report.records] for report in run.reports]
    assert reasons == [["warm-up", "warm-up"], ["warm-up", "warm-up", "cached"]], "a new pass"


@pytest.fixture(scope="module")
def fault_model():
    model, config = tiny_transformer(), HeroConfig(feedback=1.0)
    before = modules_state(model)
    with hero_session(model, config, 8, noise()):
        expected = denoise(model, steps=8)
    return model, config, expected, before


ASPECTS = ("resolution", "frames", "batch", "branches", "dtype", "steps", "lora", "config")


class Situation:
    """One persistent HERO on one model; `set` changes aspects, `run` denoises."""

    def __init__(self):
        peft = pytest.importorskip("peft")
        self.model = tiny_transformer(4)
        lora = peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)
        self.model.add_adapter(lora, "style")
        self.changed: frozenset[str] = frozenset()

    def set(self, changed):
        self.changed = frozenset(changed)
        self.model.to(torch.bfloat16 if "dtype" in changed else torch.float32)
        (self.model.disable_adapters if "lora" in changed else self.model.enable_adapters)()

    @property
    def config(self):
        changes = {"shallow": "forecast", "text": "omit", "interval": 3}
        return HeroConfig(feedback=1.0, **(changes if "config" in self.changed else {}))

    def run(self):
        grid = (7 if "frames" in self.changed else 5, 4, 9 if "resolution" in self.changed else 6)
        return denoise(
            self.model,
            steps=8 if "steps" in self.changed else 7,
            grid=grid,
            batch=2 if self.changed & {"batch", "branches"} else 1,
            separate="branches" in self.changed,
            dtype=torch.bfloat16 if "dtype" in self.changed else torch.float32,
        )

    def fresh(self):
        remove_hero(self.model)
        with hero_session(self.model, self.config, scheduler=noise()):
            return self.run()


TRANSITIONS = [
    *(((), (aspect,)) for aspect in ASPECTS),
    *(((aspect,), ()) for aspect in ASPECTS),
    *(((), pair) for pair in itertools.combinations(ASPECTS, 2)),
]


def test_the_transitions_are_44():
    assert len(TRANSITIONS) == 44


@pytest.mark.parametrize("before, after", TRANSITIONS, ids=lambda side: "+".join(side) or "base")
@pytest.mark.slow
def test_a_transition_equals_a_fresh_run(situation, before, after):
    situation.set(before)
    run = apply_hero(situation.model, situation.config, scheduler=noise())
    situation.run()
    situation.set(after)
    if "config" in {*before, *after}:
        run = apply_hero(situation.model, situation.config, scheduler=noise())
    result = situation.run()
    assert run.report.cached_steps > 0
    assert torch.equal(result, situation.fresh())


@pytest.fixture(scope="module")
def situation():
    return Situation()


def test_a_hundred_cycles_leave_the_module_as_it_was():
    model = tiny_transformer(4)
    before, weights = modules_state(model), copy.deepcopy(model.state_dict())
    truth = denoise(model, steps=2)
    configs = [HeroConfig(), ForaConfig(), HeroConfig(interval=1)]
    for cycle in range(100):
        apply_hero(model, configs[cycle % 3])
        if cycle % 10 == 0:
            denoise(model, steps=2)
        remove_hero(model)
    assert modules_state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(denoise(model, steps=2), truth)


def random_run(model, rng, device="cpu"):
    """One run with random settings, one in ten interrupted; the result, or None."""
    config = HeroConfig(
        tau=rng.randint(1, 4),
        interval=rng.randint(1, 4),
        ratio=rng.choice([1 / 6, 0.5, 1.0]),
        threshold=rng.choice([0.0, 0.5]),
        warmup=rng.randint(1, 3),
        shallow=rng.choice(["reuse", "forecast"]),
        text=rng.choice(["refresh", "omit"]),
        feedback=rng.choice([0.0, 1.0]),
        seed=rng.randint(0, 5),
    )
    steps, options = rng.randint(2, 6), {"batch": rng.randint(1, 2), "separate": rng.random() < 0.3}
    stop = rng.random() < 0.1
    undo = failing_at(model, rng.randrange(steps), 0, Interrupt) if stop else lambda: None
    try:
        with hero_session(model, config, steps, noise()):
            return denoise(model, steps=steps, device=device, **options)
    except Interrupt:
        return None
    finally:
        undo()


def live_tensors():
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


@pytest.mark.slow
def test_a_soak_leaves_no_tensor_behind(capsys):
    model, rng = tiny_transformer(4), random.Random(0)
    before, stopped, after_ten = modules_state(model), 0, None
    for number in range(1, SOAK_RUNS + 1):
        stopped += random_run(model, rng) is None
        if number == 10:
            after_ten = live_tensors()
    assert live_tensors() == after_ten
    assert modules_state(model) == before
    assert stopped > SOAK_RUNS / 30
    with capsys.disabled():
        print(f"\nsoak: {SOAK_RUNS} runs, {stopped} interrupted; live tensors: {after_ten}")


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory of a GPU needs one")
def test_fifty_runs_on_a_gpu_keep_its_memory(capsys):
    model, rng, allocated = tiny_transformer(4).to("cuda"), random.Random(0), {}
    for number in range(1, 51):
        random_run(model, rng, "cuda")
        gc.collect()
        allocated[number] = torch.cuda.memory_allocated()
    with capsys.disabled():
        print(f"\n50 runs on a GPU: {allocated[10]} bytes allocated after 10, {allocated[50]} after 50")
    assert allocated[50] == allocated[10]


@pytest.mark.slow
def test_two_threads_with_a_model_each_equal_the_serial_results():
    runs = 50

    def results(model, seed):
        rng = random.Random(seed)
        return [random_run(model, rng) for _ in range(runs)]

    models = [tiny_transformer(4, seed=seed) for seed in (0, 1)]
    serial = [results(model, seed) for seed, model in enumerate(models)]
    parallel: list = [None, None]

    def work(number):
        parallel[number] = results(models[number], number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(serial, parallel, strict=True):
        assert len(other) == runs
        for a, b in zip(one, other, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
