"""Depth and cameras of a generated clip, found once more from its colors alone.

What prediction and planning give beside the video is sampled with it and rougher than what reconstruction
finds in a finished video. So the reference's demo does (``--post_reconstruction``): 4 steps, no guidance, the
run's seed again, no camera path.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..defaults import TASKS
from ..errors import InputError
from ..generation.latents import Decoded
from ..generation.sampling import Callback, check_steps
from ..model.parts import AetherModel
from . import job

STEPS = TASKS["reconstruction"].default_steps


def post_reconstruct(
    model: AetherModel,
    inputs: job.Inputs,
    result: job.Result,
    settings: job.Settings,
    *,
    steps: int = STEPS,
    callback: Callback | None = None,
) -> job.Result:
    """Reconstruct what a run has generated.

    Args:
        inputs, result, settings: of the run; the seed is taken again.
        steps: of the reconstruction.
        callback: called after every step, see `aether.generation.sampling.sample`.

    Returns:
        the run's result with its colors, and new disparity, raymap and cameras.

    Raises:
        InputError: a number of steps that cannot be used; a run that was a reconstruction already.
        SamplingStopped: the callback returned False.
    """
    if inputs.task == "reconstruction":
        raise InputError("task", "reconstruction cannot be reconstructed again: it kept no colors of its own")
    steps = check_steps(model.scheduler, steps, "post_reconstruction")
    again = job.run(
        model,
        replace(inputs, task="reconstruction", pictures={"video": result.decoded.rgb}, raymap=None),
        job.Settings(steps=steps, seed=settings.seed),
        callback=callback,
    )
    colors = model.spec.latent_channels
    seconds = {**result.seconds, "post-reconstruction": sum(again.seconds.values())}
    return replace(
        result,
        latent=torch.cat([result.latent[:, :, :colors], again.latent[:, :, colors:]], dim=2),
        decoded=Decoded(result.decoded.rgb, again.decoded.disparity, again.decoded.raymap),
        cameras=again.cameras,
        seconds=seconds,
        report={
            **result.report,
            "seconds": seconds,
            "camera_in_video": job.camera_report(inputs, again.cameras),
            "post_reconstruction": {"steps": steps},
        },
    )
