"""Error feedback: the next full step corrects the error of the cached steps before it."""

import gc
import math
import weakref
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from hero_engine import (
    PRESETS,
    ConfigError,
    HeroConfig,
    NoiseSchedule,
    StepNoise,
    VPredictionNoise,
    apply_hero,
    current_run,
    hero_session,
)
from hero_engine.hero import feedback as module
from hero_engine.hero.feedback import CallContext, Feedback, Ledger

from .models import denoise, noise, relative, scheduler, tiny_transformer

MODEL = tiny_transformer()
STEPS = 12
SHAPE = (1, 2, 3, 4, 5)


def random(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def velocity_to(noise: NoiseSchedule, latent: torch.Tensor, clean: torch.Tensor, timestep: float):
    signal, strength = noise.levels(timestep)
    return (signal * latent - clean) / strength


def new(noise: NoiseSchedule | None = None, share: float = 1.0, ledger: Ledger | None = None) -> Feedback:
    return Feedback(share, noise or NoiseSchedule.of(scheduler()), ledger or Ledger())


def ddim(noise: NoiseSchedule, latent, clean, timestep: float, later: float):
    (signal, strength), (next_signal, next_strength) = noise.levels(timestep), noise.levels(later)
    return next_signal * clean + next_strength * (latent - signal * clean) / strength


def sde(noise: NoiseSchedule, latent, clean, timestep: float, later: float):
    """First-order SDE-DPM-Solver++ without its fresh noise (arXiv 2211.01095, algorithm 3 with k = 1)."""
    (signal, strength), (next_signal, next_strength) = noise.levels(timestep), noise.levels(later)
    decay = (signal / strength) / (next_signal / next_strength)  # e^-h
    return next_strength / strength * decay * latent + next_signal * (1 - decay**2) * clean


TIMES = [800, 760, 720, 680, 640, 600, 560]


@pytest.mark.parametrize("cached", [[2], [1, 2], [1, 2, 3]])
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_sampler_arrives_where_it_would_have_without_the_mistakes(cached, stochastic, monkeypatch):
    """Clean latents on a line in time; cached steps answer with mistakes. Behind the next full step the
    latent is that of the run without them."""
    noise = NoiseSchedule.of(scheduler())
    step = sde if stochastic else ddim
    feedback = new(VPredictionNoise(noise.alphas_cumprod, stochastic))
    monkeypatch.setattr(module, "TRUST", 1.0)  # the solver of this test adds no noise
    times = TIMES[: max(cached) + 3]
    begin, change = random(1), random(2)
    right = wrong = random(3)
    for number, (time, later) in enumerate(zip(times, times[1:], strict=False)):
        clean = begin + change * (time - times[0]) / 100
        right = step(noise, right, clean, time, later)
        asked = CallContext(time, number)
        if number in cached:
            said = clean + random(10 + number)
            feedback.cached(wrong, velocity_to(noise, wrong, said, time), asked)
        else:
            velocity = velocity_to(noise, wrong, clean, time)
            mended = feedback.full(wrong, velocity, asked)
            assert (mended is None) == (number - 1 not in cached)
            signal, strength = noise.levels(time)
            said = clean if mended is None else signal * wrong - strength * mended
        wrong = step(noise, wrong, said, time, later)
        if number in cached:
            assert relative(wrong, right) > 0.003
    assert relative(wrong, right) < 2e-5


def test_uneven_gaps_are_each_corrected():
    """As above, with gaps of one, three and two cached steps, as a mask may have them."""
    full = [True, True, False, True, False, False, False, True, False, False, True, True]
    times = list(range(800, 800 - 40 * len(full) - 1, -40))
    noise, begin, change = NoiseSchedule.of(scheduler()), random(1), random(2)
    feedback, right, wrong, off = new(noise), random(3), random(3), []
    for number, (time, later) in enumerate(pairwise(times)):
        clean = begin + change * (time - times[0]) / 100
        right = ddim(noise, right, clean, time, later)
        said, call = clean, CallContext(time, number)
        if not full[number]:
            said = clean + random(10 + number)
            feedback.cached(wrong, velocity_to(noise, wrong, said, time), call)
        elif (velocity := feedback.full(wrong, velocity_to(noise, wrong, clean, time), call)) is not None:
            signal, strength = noise.levels(time)
            said = signal * wrong - strength * velocity
        wrong = ddim(noise, wrong, said, time, later)
        off.append(relative(wrong, right))
    assert [error < 2e-5 for error in off] == full


def shifted(steps: int, shift: float = 8.0) -> list[float]:
    """A flow's sigmas with a shift, as Wan's samplers have them: steps grow towards the end."""
    even = [1 - number / steps for number in range(steps)]
    return [shift * sigma / (1 + (shift - 1) * sigma) for sigma in even]


@pytest.mark.parametrize("cached", [[2], [1, 2], [1, 2, 3]])
def test_a_flow_arrives_where_it_would_have_without_the_mistakes(cached):
    """The same with Euler's steps of a flow, which are not even."""
    sigmas = shifted(8)[: max(cached) + 3]
    times = [1000 * sigma for sigma in sigmas]
    noise = StepNoise(
        tuple(times), tuple(1 / sigma - 1 for sigma in sigmas), tuple((1.0, -sigma) for sigma in sigmas)
    )
    feedback, begin, change = new(noise), random(1), random(2)
    right = wrong = random(3)
    for number, (sigma, later) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        clean = begin + change * (sigma - sigmas[0])
        right = right + (later - sigma) * (right - clean) / sigma
        asked = CallContext(times[number], number)
        velocity = (wrong - clean) / sigma
        if number in cached:
            velocity = velocity + random(10 + number)
            feedback.cached(wrong, velocity, asked)
        elif (mended := feedback.full(wrong, velocity, asked)) is not None:
            velocity = mended
        wrong = wrong + (later - sigma) * velocity
        if number in cached:
            assert relative(wrong, right) > 0.003
    assert relative(wrong, right) < 2e-5


def test_a_flows_schedulers_are_read():
    euler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    euler.set_timesteps(6)
    noise = NoiseSchedule.of(euler)
    assert noise.timesteps == pytest.approx(euler.timesteps.tolist())
    assert noise.ratios == pytest.approx([1 / sigma - 1 for sigma in euler.sigmas[:-1].tolist()])
    latent, velocity, time = random(1), random(2), float(euler.timesteps[2])
    sigma = float(euler.sigmas[2])
    assert relative(noise.clean(latent, velocity, time), (latent - sigma * velocity).float()) < 1e-6
    assert noise.next(time, 1.0) == pytest.approx(float(euler.timesteps[3]))
    last = float(euler.timesteps[-1])
    assert noise.ends_within(1.0, last, 1.0) and not noise.ends_within(1.0, time, 1.0)
    unipc = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    unipc.set_timesteps(6)
    assert NoiseSchedule.of(unipc).multistep and not NoiseSchedule.of(unipc).stochastic


def test_a_steps_time_computed_anew_is_no_step_of_its_own():
    times, sigmas = (900.0, 762.15857, 0.5), (0.9, 0.76, 0.0005)
    noise = StepNoise(
        times, tuple(1 / sigma - 1 for sigma in sigmas), tuple((1.0, -sigma) for sigma in sigmas)
    )
    for time in (762.15851, 762.15857, 762.15863):
        assert noise.next(time, 1.0) == 0.5
        assert noise.ends_within(2, time, 1.0) and not noise.ends_within(1, time, 1.0)
        assert noise.ratio(time) == pytest.approx(1 / 0.76 - 1, rel=1e-3)


def test_steps_of_no_length_or_without_noise_correct_nothing():
    noise = StepNoise(
        (900.0, 800.0, 0.0, 0.0),
        (1 / 9, 0.25, math.inf, math.inf),
        ((1.0, -0.9), (1.0, -0.8)) + ((1.0, 0.0),) * 2,
    )
    feedback = new(noise)
    assert feedback.full(random(1), random(2), CallContext(900.0, 0)) is None
    feedback.cached(random(1), random(2), CallContext(800.0, 1))
    assert feedback.full(random(1), random(2), CallContext(0.0, 2)) is None


@pytest.mark.parametrize("times", [(), (1.0, 2.0)])
def test_steps_that_cannot_be_are_refused(times):
    with pytest.raises(ConfigError, match="^scheduler: its timesteps must fall"):
        StepNoise(times, times, tuple((1.0, -time) for time in times))


@pytest.mark.parametrize(
    "scales", [(1, 3, 1.2, 4, 2), (4, 1.1, 3, 2, 1.02), (3, 3, 3, 3, 3), (2, 1.0, 3, 4, 2), (2, 3, 1.0, 4, 2)]
)
@pytest.mark.parametrize("calls", ["batch", "unconditional first", "conditional first"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_guidance_may_jump_between_a_mistake_and_its_mending(scales, calls, stochastic, monkeypatch):
    """As above with two branches, each with mistakes of its own, and a scale for every step. Called one by
    one, the unconditional branch sits out cached steps in which it counts for nothing."""
    noise = NoiseSchedule.of(scheduler())
    step = sde if stochastic else ddim
    monkeypatch.setattr(module, "GUIDED_TRUST", 1.0)
    ledger, told = Ledger(), VPredictionNoise(noise.alphas_cumprod, stochastic)
    feedbacks = [new(told, ledger=ledger) for _ in range(1 if calls == "batch" else 2)]
    right = wrong = random(3)
    for number, scale in enumerate(scales):
        time, later = TIMES[number : number + 2]
        weights = torch.tensor([1 - scale, scale]).double()
        clean = torch.cat(
            [random(branch) + random(8 + branch) * (time - TIMES[0]) / 100 for branch in (1, 2)]
        )
        both = torch.cat([wrong] * 2)
        cached = number in (1, 2)
        said = clean + torch.cat([random(20 + number), random(30 + number)]) * cached
        rows = {"batch": [[0, 1]], "unconditional first": [[0], [1]], "conditional first": [[1], [0]]}[calls]
        answers = velocity_to(noise, both, said, time)
        if cached and scale == 1.0 and calls != "batch":
            rows = [[1]]
        for row in rows:
            feedback = feedbacks[row[0] if len(row) == 1 else 0]
            asked = CallContext(time, number, tuple(weights[row].tolist()))
            if cached:
                feedback.cached(both[row], answers[row], asked)
            elif (mended := feedback.full(both[row], answers[row], asked)) is not None:
                answers[row] = mended
        signal, strength = noise.levels(time)
        guided = torch.tensordot(weights, signal * both - strength * answers, 1)[None]
        wrong = step(noise, wrong, guided, time, later)
        right = step(noise, right, torch.tensordot(weights, clean, 1)[None], time, later)
        if number == 2:
            assert relative(wrong, right) > 0.003
        if number == 3:
            assert relative(wrong, right) < 2e-5
    assert relative(wrong, right) < 2e-5


def test_its_share_counts_and_noise_takes_some_of_it():
    table = NoiseSchedule.of(scheduler()).alphas_cumprod
    latent, velocity = random(1), random(2)

    def moved(share: float, stochastic: bool, weights: tuple[float, ...] | None = None) -> torch.Tensor:
        feedback = new(VPredictionNoise(table, stochastic), share)
        assert feedback.full(latent, velocity, CallContext(700, 0, weights)) is None
        feedback.cached(latent, random(3), CallContext(660, 1, weights))
        return feedback.full(latent, velocity, CallContext(620, 2, weights)) - velocity

    assert relative(moved(0.3, False), 0.3 * moved(1.0, False)) < 1e-5
    assert relative(moved(1.0, False, (1.0,)), moved(1.0, False)) < 1e-5
    assert relative(moved(1.0, True) * module.GUIDED_TRUST, moved(1.0, True, (1.0,)) * module.TRUST) < 1e-5
    assert 0 < module.TRUST < module.GUIDED_TRUST < 1


def test_weights_passed_half_way_correct_nothing():
    feedback = new()
    feedback.full(random(1), random(2), CallContext(800, 0))
    feedback.cached(random(1), random(3), CallContext(760, 1))
    assert feedback.full(random(1), random(4), CallContext(720, 2, (1.0,))) is None


def test_a_branch_of_little_weight_leaves_it_to_the_other():
    ledger = Ledger()
    small, large = CallContext(720, 2, (-0.05,)), CallContext(720, 2, (1.05,))
    assert ledger.settle(random(1), small) is None
    assert torch.allclose(ledger.settle(None, large), random(1) / 1.05)
    assert ledger.settle(None, large) is None
    assert ledger.settle(random(1), small) is None
    ledger.enter(object(), CallContext(680, 3, (1.0,)), full=True)
    assert ledger.settle(None, CallContext(680, 3, (1.0,))) is None, "of another step"


@pytest.mark.parametrize(
    "timestep, stochastic, mended",
    [(79, False, True), (39, False, False), (159, True, True), (119, True, False), (39, True, False)],
)
def test_the_last_steps_are_left_as_they_are(timestep, stochastic, mended):
    feedback = new(VPredictionNoise(NoiseSchedule.of(scheduler()).alphas_cumprod, stochastic))
    feedback.full(random(1), random(2), CallContext(timestep + 80, 0))
    feedback.cached(random(1), random(3), CallContext(timestep + 40, 1))
    assert (feedback.full(random(1), random(4), CallContext(timestep, 2)) is not None) == mended


def test_a_branch_that_sat_out_begins_anew():
    feedback = new()
    feedback.full(random(1), random(2), CallContext(800, 0))
    feedback.cached(random(1), random(3), CallContext(760, 1))
    assert feedback.full(random(1), random(4), CallContext(680, 3)) is None
    assert feedback.full(random(1), random(4), CallContext(640, 4)) is None


def test_alone_a_branch_pays_for_nothing():
    """The conditional half of a full step, without the half that takes most of what it missed away."""
    ledger = Ledger()
    unconditional, conditional = new(ledger=ledger), new(ledger=ledger)

    def ask(time: float, number: int, cached: bool, halves=(unconditional, conditional)):
        paid = []
        for half in halves:
            weight = {1: 1.0}.get(len(halves), -1.0 if half is unconditional else 2.0)
            call = (random(1), random(number + (half is conditional)), CallContext(time, number, (weight,)))
            paid.append(half.cached(*call) if cached else half.full(*call))
        return [payment is not None for payment in paid]

    ask(800, 0, cached=False)
    ask(760, 1, cached=True)
    assert ask(720, 2, cached=False, halves=[conditional]) == [False]
    ask(680, 3, cached=True)
    assert ask(640, 4, cached=False) == [False, False], "one of them goes on from an older step"
    ask(600, 5, cached=True)
    assert ask(560, 6, cached=False) == [True, True]
    ask(520, 7, cached=True, halves=[conditional])
    assert ask(480, 8, cached=False) == [False, True], "a cached step may be sat out"


def test_nothing_is_written_to_what_came_in():
    feedback = new()
    tensors = [random(seed).float() for seed in range(3)]
    before = [tensor.clone() for tensor in tensors]
    feedback.full(tensors[0], tensors[1], CallContext(800, 0))
    feedback.cached(tensors[0], tensors[2], CallContext(760, 1))
    feedback.full(tensors[0], tensors[1], CallContext(720, 2))
    assert all(map(torch.equal, tensors, before))
    assert feedback.bytes == before[0].nbytes


def test_what_it_keeps_goes_with_it():
    """Not when the collector comes by: on a GPU that is too late."""
    ledger = Ledger()
    feedback = new(ledger=ledger)
    feedback.full(random(1), random(2), CallContext(800, 0))
    feedback.cached(random(1), random(3), CallContext(760, 1))
    kept = [weakref.ref(clean) for _, clean in [feedback._full, *feedback._given]]
    gc.disable()
    try:
        del feedback
        assert [reference() for reference in kept] == [None, None] and ledger is not None
    finally:
        gc.enable()


def test_the_answer_keeps_its_dtype():
    feedback = new()
    latent, velocity = random(1).bfloat16(), random(2).bfloat16()
    feedback.full(latent, velocity, CallContext(800, 0))
    feedback.cached(latent, random(3).bfloat16(), CallContext(760, 1))
    mended = feedback.full(latent, velocity, CallContext(720, 2))
    assert mended.dtype == torch.bfloat16 and mended.isfinite().all() and not torch.equal(mended, velocity)


def run(config: HeroConfig, steps: int = STEPS, **options):
    with hero_session(MODEL, config, steps, noise()) as session:
        latent = denoise(MODEL, steps=steps, **options)
    return latent, session.report


def test_branches_in_one_batch_or_one_by_one_are_mended_alike():
    config = HeroConfig(interval=3, warmup=2, feedback=1.0)
    together, apart = (run(config, batch=2, separate=separate)[0] for separate in (False, True))
    assert relative(apart, together) < 1e-5
    assert relative(together, run(HeroConfig(interval=3, warmup=2), batch=2)[0]) > 1e-3


def test_a_run_tells_it_the_weights():
    """Two branches averaged, once as samples that stand for themselves and once as parts of one answer."""
    config = HeroConfig(interval=3, warmup=2, feedback=1.0)
    alone, _ = run(config, batch=2)
    with hero_session(MODEL, config, STEPS, noise()) as session, session.branch(None, weights=(0.5, 0.5)):
        together = denoise(MODEL, steps=STEPS, batch=2)
    assert relative(together, alone) < 1e-4, "what is the same for both is the same in sum"
    with hero_session(MODEL, config, STEPS, noise()) as session, session.branch(None, weights=(-2, 3)):
        assert relative(denoise(MODEL, steps=STEPS, batch=2), alone) > 1e-3


@pytest.mark.parametrize("weights", ["half", (), (float("nan"),), (True,), ("1",), 3])
def test_weights_that_cannot_be_are_refused(weights):
    with hero_session(MODEL, HeroConfig(), STEPS) as session:
        with pytest.raises(ConfigError, match="^weights: "), session.branch("refused", weights=weights):
            pass
        denoise(MODEL, steps=STEPS)
    assert {str(record.branch) for record in session.report.records} == {"call 1"}, "its name is not kept"


def test_weights_must_divide_the_batch():
    with hero_session(MODEL, HeroConfig(), STEPS) as session, session.branch(None, weights=(1, 1, -1)):
        with pytest.raises(ConfigError, match="^weights: 3 cannot be those of equal parts of a batch of 2"):
            denoise(MODEL, steps=STEPS, batch=2)


def test_it_changes_no_step_and_no_run_without_cached_ones():
    settings = {"warmup": 2, "interval": 3, "cooldown": 2}
    reasons = [
        [record.reason for record in run(HeroConfig(**settings, feedback=share))[1].records]
        for share in (0.0, 1.0)
    ]
    assert reasons[0] == reasons[1]
    assert torch.equal(run(HeroConfig(interval=1, feedback=1.0))[0], denoise(MODEL, steps=STEPS))


@pytest.mark.parametrize("interval", [2, 3, 4])
@pytest.mark.parametrize("storage", ["model", "float8"])
def test_its_bytes_are_predicted_and_freed(interval, storage):
    from hero_engine.cost import predict

    found = {}
    for share in (0.0, 1.0):
        config = HeroConfig(interval=interval, storage=storage, feedback=share)
        with hero_session(MODEL, config, STEPS, noise()) as session:
            denoise(MODEL, steps=STEPS, batch=2)
        found[share] = session.report.bytes_cached
        assert found[share] == predict(config, session.report.shape, STEPS, 2, 4).cached_bytes
        assert session.cached_bytes == 0
    assert found[1.0] - found[0.0] == interval * 2 * 4 * 5 * 56 * 4 * 6


@pytest.mark.parametrize("preset", ["quality", "balanced", "fast"])
def test_a_session_needs_the_scheduler(preset):
    for attach in (
        lambda config: hero_session(MODEL, config, 30).__enter__(),
        lambda c: apply_hero(MODEL, c, 30),
    ):
        with pytest.raises(ConfigError, match="^scheduler: feedback needs it: pass the pipeline") as caught:
            attach(PRESETS[preset])
        assert caught.value.field == "scheduler" and current_run(MODEL) is None
    with hero_session(MODEL, PRESETS["paper"], 30):
        pass


@pytest.mark.parametrize(
    "other",
    [
        object(),
        SimpleNamespace(alphas_cumprod=[0.9, 0.5], config=SimpleNamespace(prediction_type="v_prediction")),
        CogVideoXDDIMScheduler(prediction_type="epsilon"),
    ],
)
def test_other_schedulers_are_refused(other):
    with pytest.raises(ConfigError, match="^scheduler: .* neither predicts v by a table"):
        hero_session(MODEL, HeroConfig(feedback=1.0), STEPS, other).__enter__()
    assert current_run(MODEL) is None


@pytest.mark.parametrize("table", [[], [0.5], [0.5, 0.6], [1.0, 0.5], [0.5, -0.1], [float("nan"), 0.1]])
def test_tables_that_cannot_be_are_refused(table):
    with pytest.raises(ConfigError, match="^scheduler: its alphas_cumprod must be"):
        VPredictionNoise(table)


def test_which_schedulers_add_noise():
    v = {"prediction_type": "v_prediction"}
    assert not NoiseSchedule.of(CogVideoXDDIMScheduler(**v)).stochastic
    assert NoiseSchedule.of(CogVideoXDPMScheduler(**v)).stochastic
    assert not NoiseSchedule.of(DPMSolverMultistepScheduler(**v)).stochastic
    assert NoiseSchedule.of(DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **v)).stochastic
    given = VPredictionNoise((0.9, 0.1))
    assert NoiseSchedule.of(given) is given
    assert given.levels(0.5) == pytest.approx((0.5**0.5, 0.5**0.5))
    assert given.levels(-1) == given.levels(0) and given.levels(7) == given.levels(1)
