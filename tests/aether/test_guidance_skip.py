"""Steps whose guidance scale is 1, or nearly, run without the unconditional pass."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from aether import InputError
from aether.generation import sampling as sampling_module
from aether.generation.sampling import sample, skipped_steps
from aether.generation.tasks import condition
from hero_engine import HeroConfig, apply_hero, current_run, hero_session, remove_hero


def run(model, tiny, *, steps=8, **options):
    generator = torch.Generator().manual_seed(3)
    conditions = condition(model, "planning", **tiny.inputs("planning"), generator=generator)
    return sample(model, conditions, steps=steps, generator=generator, **options)


@pytest.fixture
def scales(monkeypatch):
    """Sets the guidance scale of each step, which otherwise hang on the number of steps."""

    def set_scales(*values):
        def scale(_, timestep, steps):
            return values[round((999 - timestep) * steps / 1000)]

        monkeypatch.setattr(sampling_module, "dynamic_guidance", scale)

    return set_scales


@pytest.fixture
def batches(model):
    """Batch size of every call of the model."""
    sizes = []
    hook = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    yield sizes
    hook.remove()


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_of_aethers_fifty_steps_up_to_nine_are_left_out(model):
    found = {t: skipped_steps(model, "planning", guidance_skip=t) for t in (0, 1e-5, 0.05, 0.1)}
    assert found[0] == [] and found[1e-5] == [47, 48]
    assert found[0.05] == [6, 10, 27, 46, 47, 48] and len(found[0.1]) == 9
    assert skipped_steps(model, "planning", steps=31) == [30]  # its last timestep is 31: a scale of exactly 1
    assert skipped_steps(model, "planning", guidance=1.0, guidance_skip=0.1) == []
    assert skipped_steps(model, "reconstruction", guidance_skip=0.1) == []
    assert skipped_steps(model, "planning", guidance=1.05, dynamic_guidance=False, guidance_skip=0.1) == [
        *range(50)
    ]


def test_a_scale_of_exactly_one_is_the_conditional_pass_alone(model, tiny, scales, batches):
    scales(*[1.0] * 8)
    result = run(model, tiny)
    assert torch.equal(result, run(model, tiny, guidance=1.0))
    assert set(batches) == {1}


def test_only_steps_within_the_tolerance_are_left_out(model, tiny, scales, batches):
    scales(3, 1.04, 3, 1.0, 3, 1.06, 2, 3)
    results = [run(model, tiny, guidance_skip=tolerance) for tolerance in (0.0, 0.05, 0.1)]
    assert batches[:8] == [2, 2, 2, 1, 2, 2, 2, 2]
    assert batches[8:16] == [2, 1, 2, 1, 2, 2, 2, 2]
    assert batches[16:] == [2, 1, 2, 1, 2, 1, 2, 2]
    assert 0 < relative(results[1], results[0]) < relative(results[2], results[0]) < 0.1


def test_hero_with_every_step_full_changes_nothing_but_rounding(model, tiny, scales):
    scales(3, 1.0, 3, 3, 1.0, 1.0, 1.0, 3)
    plain = run(model, tiny)
    session = hero_session(model.transformer, HeroConfig(interval=1), 8)
    assert relative(run(model, tiny, session=session), plain) < 1e-5


def test_under_hero_the_halves_run_apart_and_are_counted(model, tiny, scales, batches):
    # Left out of a cached step and of the cool-down, but not of step 5, from which step 6 goes on.
    config = HeroConfig(warmup=2, interval=2, cooldown=1, patch=(1, 1, 3))
    scales(3, 3, 1.0, 3, 3, 1.0, 3, 1.0)
    entered = []

    class Remembering:
        def __init__(self, inner):
            self.inner = inner

        def __enter__(self):
            entered.append(self.inner.__enter__())
            return entered[0]

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    session = hero_session(model.transformer, config, 8)
    accelerated = run(model, tiny, session=Remembering(session))
    report = entered[0].report
    assert set(batches) == {1} and len(batches) == 14
    by_step = {}
    for record in report.records:
        by_step.setdefault(record.timestep, []).append(str(record.branch))
    by_step = list(by_step.values())
    assert by_step[0] == ["unconditional", "conditional"] and by_step[2] == by_step[7] == ["conditional"]
    assert by_step[5] == by_step[0]
    assert report.half_steps == 2 and "2 of them with one branch left out" in report.summary()
    assert report.full_steps == 5 and report.cached_steps == 3
    # Neither a cached step nor the last one leaves anything behind that is missed.
    scales(3, 3, 1 + 1e-9, 3, 3, 1 + 1e-9, 3, 1 + 1e-9)
    with hero_session(model.transformer, config, 8):
        batched = run(model, tiny)
    assert relative(accelerated, batched) < 1e-4 < relative(batched, run(model, tiny))


@pytest.mark.slow
def test_leaving_out_costs_little_under_a_preset_of_few_full_steps():
    from aether.miniature import build, random_scene, render

    miniature = build()
    clip = render(random_scene(0), 17, 48, 64, 12).rgb

    def plan(**options):
        generator = torch.Generator().manual_seed(0)
        pictures = {"image": clip[0], "goal": clip[-1]}
        conditions = condition(miniature, "planning", **pictures, generator=generator)
        return sample(miniature, conditions, generator=generator, **options)

    plain = plan()
    config = HeroConfig.preset("fast")
    errors = [
        relative(
            plan(
                guidance_skip=tolerance,
                session=hero_session(miniature.transformer, config, 50, miniature.scheduler),
            ),
            plain,
        )
        for tolerance in (0.0, 0.05)
    ]
    assert errors[1] < 1.5 * errors[0] < 0.1


@pytest.mark.parametrize(
    "jumps, names, told",
    [
        ((3, 1.5), [None, None], [(-2, 3), (-0.5, 1.5)]),
        (
            (3, 1.0, 1.5),
            ["unconditional", "conditional"] + ["conditional"] + ["unconditional", "conditional"],
            [(-2,), (3,), (1,), (-0.5,), (1.5,)],
        ),
    ],
)
def test_a_session_is_told_what_each_half_weighs(model, tiny, scales, jumps, names, told):
    scales(*jumps)
    calls, begun = [], []

    class Listening:
        def branch(self, name, *, weights):
            calls.append((name, weights))
            return nullcontext()

        def begin_pass(self, scheduler, steps):
            begun.append((type(scheduler), steps))

        def needs_all(self, timestep):
            return False

    run(model, tiny, steps=len(jumps), session=nullcontext(Listening()))
    assert begun == [(type(model.scheduler), len(jumps))]
    assert [name for name, _ in calls] == names
    assert [weights for _, weights in calls] == [pytest.approx(weights) for weights in told]


def test_error_feedback_is_right_for_halves_apart_as_for_a_batch(model, tiny, scales):
    """One step leaves a half out in the one run, and weighs it with nothing in the other."""
    config = HeroConfig(warmup=2, interval=3, patch=(1, 1, 3), feedback=1.0)
    runs = []
    for weightless in (1.0, 1 + 1e-9):
        scales(3, 1.2, 3, 2, 1.05, 4, 2, weightless)
        runs.append(run(model, tiny, session=hero_session(model.transformer, config, 8, model.scheduler)))
    without = run(model, tiny, session=hero_session(model.transformer, replace(config, feedback=0.0), 8))
    assert relative(*runs) < 1e-4 < 1e-3 < relative(without, runs[0])


def test_without_steps_to_leave_out_both_halves_stay_one_batch(model, tiny, scales, batches):
    scales(*[3] * 8)
    with hero_session(model.transformer, HeroConfig(patch=(1, 1, 3)), 8) as session:
        assert current_run(model.transformer) is session
        run(model, tiny)
    assert set(batches) == {2} and current_run(model.transformer) is None


def test_hero_is_found_however_it_was_put_on_the_model(tiny, scales):
    """Its passes are named and weighed as those of a session that the sampler is given."""
    model = tiny.model()
    scales(3, 3, 3, 3, 1.0, 3, 3, 3)
    config = HeroConfig(warmup=1, interval=3, patch=(1, 1, 3), feedback=1.0)
    given = run(model, tiny, session=hero_session(model, config))
    with hero_session(model, config) as inside:
        assert torch.equal(run(model, tiny), given)
    assert inside.report.counts.planned_steps == 8
    hero = apply_hero(model.transformer, config, scheduler=model.scheduler)
    assert torch.equal(run(model, tiny), given)
    assert {str(record.branch) for record in hero.report.records} == {"conditional", "unconditional"}
    remove_hero(model)
    assert not torch.equal(run(model, tiny), given)


@pytest.mark.parametrize("tolerance", [-0.1, 1.5, float("nan"), "0.1", True, None])
def test_bad_tolerances_are_named(model, tiny, tolerance):
    with pytest.raises(InputError, match="^guidance_skip: .* such as 0.05"):
        run(model, tiny, guidance_skip=tolerance)
