"""The denoising loop: noise order, guidance, schedule, session and callback."""

import math

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from aether import InputError, SamplingStopped
from aether.generation.sampling import dynamic_guidance, sample
from aether.generation.tasks import condition
from aether.model.rotary import rotary_embeddings


def run(model, tiny, task="planning", seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    conditions = condition(model, task, **tiny.inputs(task), generator=generator)
    return sample(model, conditions, **{"steps": 3, "generator": generator, **options})


class Session:
    def __init__(self):
        self.events = []

    def __enter__(self):
        self.events.append("enter")

    def __exit__(self, *error):
        self.events.append("exit")


def test_the_seed_decides(model, tiny):
    first, again, other = (run(model, tiny, seed=seed) for seed in (1, 1, 2))
    assert first.shape == (1, 5, 56, 4, 6) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_without_a_generator_torchs_global_one_is_used(model, tiny):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(sample(model, condition(model, "planning", **tiny.inputs("planning")), steps=2))
    assert torch.equal(*results)


def test_dynamic_guidance_is_evaluated_on_the_raw_timestep():
    timesteps = np.round(np.arange(1000, 0, -20)).astype(int) - 1
    scales = np.array([dynamic_guidance(3, t, 50) for t in timesteps])
    assert scales.min() >= 1 and scales.max() <= 4
    assert (scales < 1.1).sum() == 9  # jumps, and hardly guides at 9 of the 50 steps
    by_hand = 1 + 3 * (1 - math.cos(math.pi * ((50 - 19) / 50) ** 5)) / 2
    assert dynamic_guidance(3, 19, 50) == pytest.approx(by_hand, rel=1e-12)
    assert dynamic_guidance(3, 50, 50) == 1


@pytest.mark.parametrize("dynamic", [True, False])
def test_guided_steps_mix_the_two_branches(tiny, dynamic):
    """One deterministic step from pure noise (v prediction, zero SNR) gives minus the guided output."""
    model, calls = tiny.model(ddim=True), []
    hook = model.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append((kwargs, output[0])), with_kwargs=True
    )
    result = run(model, tiny, steps=1, guidance=2.5, dynamic_guidance=dynamic)
    hook.remove()
    [(kwargs, output)] = calls
    hidden = kwargs["hidden_states"]
    assert hidden.shape == (2, 5, 96, 4, 6) and torch.equal(hidden[0, :, :56], hidden[1, :, :56])
    assert not hidden[0, :, 56:72].any() and hidden[1, 0, 56:72].any()  # unconditional first
    scale = dynamic_guidance(2.5, 999, 1) if dynamic else 2.5
    expected = -(output[0] + scale * (output[1] - output[0]))
    torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-4)


def test_guidance_of_one_runs_the_conditional_branch_alone(tiny, model):
    batches = []
    hook = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    run(model, tiny, steps=2, guidance=1)
    run(model, tiny, "reconstruction", steps=2)
    run(model, tiny, steps=2)
    hook.remove()
    assert batches == [1, 1, 1, 1, 2, 2]


def test_the_dpm_scheduler_adds_noise_and_ddim_does_not(tiny, model):
    for chosen, same in ((model, False), (tiny.model(ddim=True), True)):
        conditions = condition(chosen, "planning", **tiny.inputs("planning"))
        states = []
        for _ in range(2):
            generator = torch.Generator().manual_seed(4)
            sample(
                chosen,
                conditions,
                steps=3,
                generator=generator,
                callback=lambda info, g=generator, s=states: s.append(g.get_state()),
            )
        assert torch.equal(states[0], states[1]) is same


def test_the_schedule_is_trailing_and_without_negative_steps(model, tiny):
    def timesteps(steps):
        seen = []
        run(model, tiny, "reconstruction", steps=steps, callback=lambda info: seen.append(info.timestep))
        return seen

    assert timesteps(4) == [999, 749, 499, 249]
    assert timesteps(1) == [999]
    sixty_one = timesteps(61)
    assert len(sixty_one) == 61 and sixty_one[0] == 999 and min(sixty_one) >= 0


@pytest.mark.slow
def test_a_thousand_steps_stay_finite(model, tiny):
    assert torch.isfinite(run(model, tiny, "reconstruction", steps=1000)).all()


def test_the_models_own_scheduler_is_left_alone(model, tiny):
    before = dict(vars(model.scheduler))
    run(model, tiny)
    assert all(vars(model.scheduler)[name] is value for name, value in before.items())


def test_the_callback_follows_and_the_last_prediction_is_the_result(model, tiny):
    infos = []
    result = run(model, tiny, callback=infos.append)
    assert [(info.index, info.steps, info.timestep) for info in infos] == [
        (0, 3, 999),
        (1, 3, 666),
        (2, 3, 332),
    ]
    assert torch.equal(infos[-1].latent, result)
    torch.testing.assert_close(infos[-1].predicted, result)
    assert not torch.allclose(infos[0].predicted, result)


def test_the_callback_may_stop_the_run_and_the_session_is_left(model, tiny):
    session = Session()
    with pytest.raises(SamplingStopped, match="step 2 of 3") as error:
        run(model, tiny, session=session, callback=lambda info: info.index < 1)
    assert (error.value.step, error.value.steps) == (2, 3)
    assert session.events == ["enter", "exit"]


def test_the_session_wraps_the_loop_alone_and_is_left_on_any_error(model, tiny):
    session = Session()

    def fail(info):
        assert session.events == ["enter"]
        raise KeyError("out of patience")

    with pytest.raises(KeyError):
        run(model, tiny, session=session, callback=fail)
    assert session.events == ["enter", "exit"]
    with pytest.raises(InputError):
        run(model, tiny, session=session, steps=0)
    assert session.events == ["enter", "exit"]


def test_half_precision_latents_stay_in_the_embeddings_dtype(tiny):
    latents = []
    result = run(
        tiny.model().to(dtype=torch.bfloat16), tiny, callback=lambda info: latents.append(info.latent)
    )
    assert {latent.dtype for latent in latents} == {result.dtype} == {torch.bfloat16}


def test_at_base_fps_and_size_rotary_positions_are_diffusers_own(model):
    ours = rotary_embeddings(model.spec, 5, 4, 6, fps=12)
    theirs = get_3d_rotary_pos_embed(16, ((0, 0), (2, 3)), (2, 3), 5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_fps_stretches_time_alone(model):
    cosines, sines = rotary_embeddings(model.spec, 5, 4, 6, fps=8)
    angles = torch.atan2(sines, cosines).view(5, 2, 3, 16)
    assert angles[1, 0, 0, 0] == pytest.approx(1.5)  # a frame later: 12 / 8 positions
    slow, _ = rotary_embeddings(model.spec, 5, 4, 6, fps=12)
    assert torch.equal(cosines[:, 4:], slow[:, 4:]) and not torch.equal(cosines[:, :4], slow[:, :4])


def test_a_model_without_rotary_positions_gets_none(tiny):
    plain = tiny.model(use_rotary_positional_embeddings=False)
    assert rotary_embeddings(plain.spec, 5, 4, 6, fps=12) is None
    assert torch.isfinite(run(plain, tiny, steps=2)).all()


@pytest.mark.parametrize(
    "options, field, message",
    [
        ({"steps": 0}, "steps", "1 to 1000"),
        ({"steps": 1001}, "steps", "1 to 1000"),
        ({"steps": 4.0}, "steps", "whole number"),
        ({"steps": True}, "steps", "whole number"),
        ({"guidance": 0.5}, "guidance", "from 1"),
        ({"guidance": float("nan")}, "guidance", "from 1"),
        ({"guidance": float("inf")}, "guidance", "from 1"),
        ({"guidance": "3"}, "guidance", "from 1"),
        ({"fps": 13}, "fps", "8, 10, 12, 15 or 24"),
        ({"fps": None}, "fps", "8, 10, 12, 15 or 24"),
        ({"session": 3}, "session", "context manager"),
        ({"generator": 3}, "generator", "torch.Generator"),
    ],
)
def test_bad_options_are_named(model, tiny, options, field, message):
    conditions = condition(model, "planning", **tiny.inputs("planning"))
    with pytest.raises(InputError, match=message) as error:
        sample(model, conditions, **options)
    assert error.value.field == field


def test_reconstruction_refuses_guidance(model, tiny):
    with pytest.raises(InputError, match="reconstruction has none") as error:
        run(model, tiny, "reconstruction", guidance=3)
    assert error.value.field == "guidance"


def test_conditions_of_another_form_are_refused(model, tiny):
    conditions = condition(model, "planning", **tiny.inputs("planning"))
    object.__setattr__(conditions, "cond", conditions.cond[:, :, :16])
    for wrong in (conditions, {"cond": 1}):
        with pytest.raises(InputError) as error:
            sample(model, wrong)
        assert error.value.field == "conditions"
