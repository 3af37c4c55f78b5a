"""How a model is taken to answer an error of its latent; how steps weigh."""

import math

import numpy as np
import pytest
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from hero_engine.noise import NoiseSchedule
from hero_engine.tune.response import Response
from hero_engine.tune.sampled_steps import Steps
from hero_engine.tune.tables import SKETCH

STEPS = 8
GUIDED, UNGUIDED = (-2.0, 3.0), (0.0, 1.0)


def sampled(kind=CogVideoXDDIMScheduler):
    scheduler = kind(prediction_type="v_prediction")
    scheduler.set_timesteps(STEPS)
    return Steps.of(NoiseSchedule.of(scheduler), [float(time) for time in scheduler.timesteps])


def answers(weights=UNGUIDED, sampling=None):
    return Response(sampling or sampled(), np.tile(weights, (STEPS, 1)))


@pytest.fixture
def error():
    return np.random.default_rng(0).standard_normal((2, SKETCH))


def length(values):
    return float(np.linalg.norm(values))


def test_more_of_an_error_is_kept_the_less_noise_there_is(error):
    sampling, response = sampled(), answers()
    error[1] = 0
    kept = [
        float(np.vdot(response.full(step, error), error)) * sampling.ratios[step] / length(error) ** 2
        for step in range(STEPS)
    ]
    assert kept == sorted(kept) and kept[0] < 0.1 and 0.5 < kept[-1] <= 1


def test_answers_are_in_proportion_and_none_to_no_error(error):
    response = answers()
    assert np.allclose(response.full(3, 2 * error), 2 * response.full(3, error))
    assert not response.full(3, 0 * error).any()


def test_in_an_open_clip_early_errors_are_kept_too(error):
    error[1] = 0
    kept = [
        float(np.vdot(Response(sampled(), np.ones((STEPS, 1)), openness).full(2, error), error))
        for openness in (0.0, 0.1, 0.3)
    ]
    assert kept == sorted(kept) and kept[2] > 2 * kept[0]


def test_guidance_lengthens_answers(error):
    assert length(answers(GUIDED).full(2, error)) > 1.2 * length(answers().full(2, error))


def test_what_goes_past_the_blocks_is_the_latents_own_part(error):
    """For v: x_0 = a x - s v, and the latent's noise is s: a s = ratio / (1 + ratio^2)."""
    sampling = sampled()
    for step, ratio in enumerate(sampling.ratios):
        assert np.allclose(answers().direct(step, error), error * ratio / (1 + ratio**2))


def test_a_multistep_sampler_carries_half_of_the_change_over_even_steps():
    """DPM-Solver++ 2M: h / (2 h_before), with h the step in log(signal / noise)."""
    sampling = sampled(CogVideoXDPMScheduler)
    logs = [math.log(ratio) if ratio else -math.inf for ratio in sampling.ratios]
    wanted = (logs[4] - logs[3]) / (logs[3] - logs[2]) / 2
    assert sampling.stochastic and sampling.carries[3] == pytest.approx(wanted)
    assert sampling.carries[0] == 0 and len(sampling.carries) == STEPS - 1
    assert not any(sampled().carries)
