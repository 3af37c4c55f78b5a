"""One run of one contender, against the unaccelerated run of the same noise, and against the truth."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from aether.errors import InputError
from aether.generation.latents import Decoded, decode, decode_raymap, split
from aether.generation.sampling import Callback, sample
from aether.generation.tasks import Conditions
from aether.geometry.depth import disparity_to_depth
from aether.geometry.metrics import depth_errors
from aether.geometry.raymap import to_cameras
from aether.miniature import WorldClip, random_scene, render
from aether.model.parts import AetherModel

from ..fidelity import fidelity
from ..models import with_sampler
from ..pose import pose_errors, rotation_error
from ..world import DEEPEST, FPS, world_conditions
from .contenders import FEWER_STEPS, Contender
from .meter import Meter, counted, shared_copy
from .packages import MAGCACHE, Occasion, magcache_calibration

STREAMS = ("rgb", "disparity", "raymap")
PLAIN = "unaccelerated"


@dataclass(frozen=True)
class Group:
    """What runs have in common that are compared with one unaccelerated run."""

    scene: int
    task: str
    sampler: str
    steps: int

    @property
    def name(self) -> str:
        return f"scene {self.scene}, {self.task}, {self.sampler} sampler"


@dataclass
class Reference:
    """The unaccelerated run of a group, and all that is needed to repeat it with a method."""

    model: AetherModel
    conditions: Conditions
    noise: torch.Tensor
    world: WorldClip
    latent: torch.Tensor
    decoded: Decoded | None
    flops: float
    mag_ratios: list[float] | None


def run_group(
    model: AetherModel, group: Group, contenders: Sequence[Contender], *, brief: bool = False
) -> Iterator[dict[str, Any]]:
    """Run a group: the unaccelerated run, then each contender.

    Args:
        brief: only FLOPs and the latents' errors, as the search needs them: nothing is timed or decoded, and
            the unaccelerated run has no record.

    Yields:
        records ready for JSON: the group, the contender, and what :func:`_measured` found, or "failed" with
        the reason.
    """
    calibrate = any(contender.method == MAGCACHE for contender in contenders)
    reference = _unaccelerated(with_sampler(model, group.sampler), group, brief, calibrate)
    if not brief:
        yield {**_identity(group, None), **_quality(reference, reference.latent)}
    for contender in contenders:
        try:
            measured = _measured(reference, group, contender, brief)
        except Exception as error:  # noqa: BLE001 (a method of any package may fail in any way: its row says how)
            measured = {"failed": f"{type(error).__name__}: {error}".strip()[:500]}
        yield {**_identity(group, contender), **measured}


def sampled(model: AetherModel, group: Group, steps: int, marks: list[float]) -> torch.Tensor:
    """The final latent of an unaccelerated run of other steps, for timing.

    Args:
        marks: gets the time, of ``time.perf_counter``, at the end of each step.
    """
    group = replace(group, steps=steps)
    generator = torch.Generator(model.device).manual_seed(group.scene)
    conditions = world_conditions(model, group.task, _world(model, group.scene), generator)
    meter = Meter(shared_copy(model.transformer))
    noise = generator.get_state()
    return _sample(
        model, meter, conditions, group, noise, callback=lambda _: marks.append(time.perf_counter())
    )


def _identity(group: Group, contender: Contender | None) -> dict[str, Any]:
    chosen = {"method": PLAIN, "settings": {}} if contender is None else asdict(contender)
    return {**asdict(group), **chosen}


def _world(model: AetherModel, scene: int) -> WorldClip:
    return _rendered(scene, model.spec.default_frames, *model.spec.default_size)


@functools.lru_cache(maxsize=4)
def _rendered(scene: int, frames: int, height: int, width: int) -> WorldClip:
    return render(random_scene(scene), frames, height, width, FPS)


def _unaccelerated(model: AetherModel, group: Group, brief: bool, calibrate: bool) -> Reference:
    world = _world(model, group.scene)
    generator = torch.Generator(model.device).manual_seed(group.scene)
    conditions = world_conditions(model, group.task, world, generator)
    noise = generator.get_state()
    plain = shared_copy(model.transformer)
    # MagCache's ratios are those of the very run that it is compared with: the best it can get.
    calibration = magcache_calibration(plain, group.steps) if calibrate else nullcontext()
    with calibration as ratios, counted(plain) as counter:
        latent = _sample(model, Meter(plain), conditions, group, noise)
    if not torch.isfinite(latent).all():
        raise InputError("model", f"the unaccelerated run of {group.name} gives NaN or infinite values")
    decoded = None if brief else decode(model, latent)
    return Reference(model, conditions, noise, world, latent, decoded, counter.flops, ratios)


def _sample(
    model: AetherModel,
    meter: Meter,
    conditions: Conditions,
    group: Group,
    noise: torch.Tensor,
    run: Any = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    generator = torch.Generator(model.device)
    generator.set_state(noise)
    return sample(
        replace(model, transformer=meter),
        conditions,
        steps=group.steps,
        dynamic_guidance=group.sampler == "reference" and conditions.uncond is not None,
        fps=FPS,
        generator=generator,
        session=nullcontext(run),
        callback=callback,
    )


def _measured(reference: Reference, group: Group, contender: Contender, brief: bool) -> dict[str, Any]:
    """Run a contender: "flops_speedup", "latent" errors; unless brief, "wall_speedup", "bytes", quality."""
    fast = shared_copy(reference.model.transformer)
    meter = Meter(fast, None if brief else reference.model.transformer)
    guided = reference.conditions.uncond is not None
    shorter = replace(group, steps=contender.steps(group.steps))
    occasion = Occasion(
        shorter.steps, guided, lambda: meter.timestep, reference.mag_ratios, reference.model.scheduler
    )
    own = contender.config() is not None
    with (
        nullcontext() if own else counted(fast) as counter,
        warnings.catch_warnings(),
        contender.session(fast, occasion) as run,
    ):
        warnings.simplefilter("ignore")
        latent = _sample(reference.model, meter, reference.conditions, shorter, reference.noise, run)
    if not torch.isfinite(latent).all():
        return {"failed": "NaN or infinite values in the final latent"}
    by_steps = group.steps / shorter.steps
    flops = run.report.predicted_speedup if own else reference.flops / counter.flops
    result = {
        # Of fewer steps, so that a step whose guidance happens to need one pass makes no difference.
        "flops_speedup": by_steps if contender.method == FEWER_STEPS else flops,
        "latent": latent_errors(reference.model, latent, reference.latent),
    }
    if brief:
        return result
    return {
        **result,
        "wall_speedup": meter.plain_seconds * by_steps / meter.seconds,
        "seconds": meter.seconds,
        "bytes": run.report.bytes_cached if own else meter.held_bytes,
        **_quality(reference, latent),
    }


def latent_errors(model: AetherModel, latent: torch.Tensor, plain: torch.Tensor) -> dict[str, float]:
    """|a - b| / |b| of each stream of two final latents, in float64."""
    pairs = zip(STREAMS, split(model.spec, latent.double()), split(model.spec, plain.double()), strict=True)
    return {name: float((a - b).norm() / b.norm()) for name, a, b in pairs}


def _quality(reference: Reference, latent: torch.Tensor) -> dict[str, Any]:
    """ "fidelity" to the unaccelerated run, "depth" (reconstruction only, where the whole clip is given) and
    "pose" against the truth."""
    decoded = reference.decoded if latent is reference.latent else decode(reference.model, latent)
    world, result = reference.world, {}
    if decoded is not reference.decoded:
        result["fidelity"] = fidelity(reference.decoded, decoded)
    if reference.conditions.task == "reconstruction":
        result["depth"] = _depth(decoded, world)
    height, width = world.depth.shape[1:]
    raymap = decode_raymap(reference.model, split(reference.model.spec, latent).raymap)
    return {**result, "pose": _pose(raymap, world, height, width)}


def _depth(decoded: Decoded, world: WorldClip) -> dict[str, float]:
    truth = np.where(world.sky, np.nan, world.depth)
    errors = depth_errors(
        disparity_to_depth(decoded.disparity),
        truth,
        align="scale-l1",
        max_depth=DEEPEST * float(np.nanmin(truth)),
    )
    return {"abs_rel": errors.abs_rel, "delta1": errors.delta1}


def _pose(raymap: np.ndarray, world: WorldClip, height: int, width: int) -> dict[str, float | None]:
    """ATE is None where a path stays in one place or on one line: nothing can be aligned to it."""
    try:
        poses = to_cameras(raymap, height, width, square_pixels=True).poses
    except InputError:
        return {"rpe_rot": None, "ate": None}
    try:
        return {"rpe_rot": rotation_error(poses, world.poses), "ate": pose_errors(poses, world.poses).ate}
    except InputError:
        return {"rpe_rot": rotation_error(poses, world.poses), "ate": None}
