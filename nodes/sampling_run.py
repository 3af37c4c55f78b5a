"""A whole sampling run, for nodes that measure one or several: as Aether Sampler makes it or, with a sampler
and sigmas of core's, as SamplerCustom does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..aether.defaults import TASKS, Task
from ..aether.errors import InputError
from ..aether.generation.sampling import StepInfo
from .sampler import guidance_problem, sample_latent

CORE_GUIDANCE = 6.0
"""CogVideoX's own; Aether's depends on the task."""
_CORE_SAMPLER, _CORE_SCHEDULER = "ddim", "sgm_uniform"

OnStep = Callable[[int, torch.Tensor, torch.Tensor, int], None]
"""As core's: step from 0, the clean latent as predicted, the latent, number of steps."""


@dataclass(frozen=True)
class SamplingRun:
    """What a sampler is given besides the MODEL.

    Args:
        positive to scheduler: Aether Sampler's inputs. Other models need ``steps``; 0 of ``guidance`` is 6.
        sampler, sigmas: of core's; they take the place of ``steps`` and ``scheduler``. Without them, models
            other than Aether are sampled with core's ddim.

    Raises:
        InputError: a guidance that cannot be used; one of ``sampler`` and ``sigmas`` without the other, or
            sigmas without a step.
    """

    positive: Any
    negative: Any
    latent: dict[str, Any]
    seed: int
    steps: int
    guidance: float
    scheduler: str
    sampler: Any = None
    sigmas: torch.Tensor | None = None

    def __post_init__(self) -> None:
        problem = guidance_problem(self.guidance)
        if problem is not None:
            raise InputError("guidance", problem)
        if (self.sampler is None) != (self.sigmas is None):
            there, missing = ("sigmas", "sampler") if self.sampler is None else ("sampler", "sigmas")
            raise InputError(missing, f"is missing: connect both {there} and {missing}, or neither")
        if self.sigmas is not None and len(self.sigmas) < 2:
            raise InputError("sigmas", "have no step: connect those of a scheduler with at least one step")

    def content(self) -> dict[str, Any]:
        """All that counts of it, by name."""
        unused = {"steps", "scheduler"} if self.sampler is not None else set()
        return {name: value for name, value in vars(self).items() if name not in unused}

    def number_of_steps(self, model: Any) -> int:
        """Steps of the run.

        Raises:
            InputError: ``steps`` is 0 for another model than Aether.
        """
        if self.sigmas is not None:
            return len(self.sigmas) - 1
        task = self._task(model)
        if not self.steps and task is None:
            raise InputError(
                "steps",
                "0 is the task's own number, which only Aether has: give the number of your sampler, or "
                "connect sampler and sigmas",
            )
        return self.steps or task.default_steps

    def about(self, model: Any) -> dict[str, str]:
        """What a recording keeps of it, by which the page finds it again."""
        from .bridge.recorded_run import RecordedRun

        own = self._is_aether(model) and self.sampler is None
        sampler = self.scheduler if own else self._core_sampler(model)[0]
        return RecordedRun.of(model, sampler, self.number_of_steps(model), self.latent["samples"]).about()

    def sample(self, model: Any, on_step: OnStep | None = None) -> torch.Tensor:
        """Run it.

        Args:
            model: a MODEL, as it is to be sampled.
            on_step: called after every step, in place of core's progress and preview.

        Returns:
            the samples of a LATENT.

        Raises:
            InputError: see :func:`~.sampler.sample_latent` and :meth:`number_of_steps`.
        """
        if self.sampler is None and self._is_aether(model):
            return self._as_aether_sampler(model, on_step)
        return self._as_core(model, on_step)

    def _is_aether(self, model: Any) -> bool:
        from .bridge.model import AetherBase

        return isinstance(model.model, AetherBase)

    def _task(self, model: Any) -> Task | None:
        """Aether's, as far as the conditioning says it."""
        if not self._is_aether(model) or not self.positive:
            return None
        return TASKS.get(self.positive[0][1].get("aether_task"))

    def _as_aether_sampler(self, model: Any, on_step: OnStep | None) -> torch.Tensor:
        def report(info: StepInfo) -> None:
            predicted, latent = (x.transpose(1, 2) for x in (info.predicted, info.latent))
            on_step(info.index, predicted, latent, info.steps)

        found = sample_latent(
            model,
            self.positive,
            self.negative,
            self.latent,
            self.seed,
            self.steps,
            self.guidance,
            self.scheduler,
            callback=report if on_step else None,
        )
        return found["samples"]

    def _as_core(self, model: Any, on_step: OnStep | None) -> torch.Tensor:
        import comfy.sample
        import comfy.utils
        import latent_preview

        steps, task = self.number_of_steps(model), self._task(model)
        samples = comfy.sample.fix_empty_latent_channels(
            model,
            self.latent["samples"],
            *(self.latent.get(f"downscale_ratio_{kind}") for kind in ("spacial", "temporal")),
        )
        return comfy.sample.sample_custom(
            model,
            comfy.sample.prepare_noise(samples, self.seed, self.latent.get("batch_index")),
            self.guidance or (task.default_guidance if task else CORE_GUIDANCE),
            *self._core_sampler(model),
            self.positive,
            self.negative,
            samples,
            noise_mask=self.latent.get("noise_mask"),
            callback=on_step or latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=self.seed,
        )

    def _core_sampler(self, model: Any) -> tuple[Any, torch.Tensor]:
        """(SAMPLER, SIGMAS)"""
        import comfy.samplers

        if self.sampler is not None:
            return self.sampler, self.sigmas
        sampling, steps = model.get_model_object("model_sampling"), self.number_of_steps(model)
        sigmas = comfy.samplers.calculate_sigmas(sampling, _CORE_SCHEDULER, steps)
        return comfy.samplers.sampler_object(_CORE_SAMPLER), sigmas
