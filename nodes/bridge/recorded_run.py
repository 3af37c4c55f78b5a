"""Which run a recording of HERO Tuner is of, in words that both a run and the page's graph can find.

A run has the MODEL object, the sampler and the latent; the page has names of files and widgets, before
anything is loaded. What is compared is what both know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PureWindowsPath
from typing import Any

import comfy.samplers
import torch

from ...hero_engine.models.families import adapter_for
from . import core_samplers
from .hero_run import transformer_of
from .model import AetherBase, kind_of
from .model_before import Clip, ModelBefore

_COUNTS = ("steps", "width", "height", "frames")


@dataclass(frozen=True)
class RecordedRun:
    """A run, as far as its recording is found by it.

    Attributes:
        file: of the model, without its folders, or the folder's name; "" where it is not known.
        form: core's name of the kind of model, and its number of blocks; "" for Aether, whose file is known.
        patched: "yes" where a LoRA or the like is on the weights, else "no".
        sampler: core's name of the function, such as euler, or Aether's scheduler: dpm, ddim; "" where it is
            not known.
        steps: of the run, 1 or more.
        width, height, frames: of the clip, in pixels, as the latent has them.
    """

    file: str
    form: str
    patched: str
    sampler: str
    steps: int
    width: int
    height: int
    frames: int

    @classmethod
    def of(cls, model: Any, sampler: Any, steps: int, latent: torch.Tensor) -> RecordedRun:
        """What a node knows of a run.

        Args:
            model: the MODEL.
            sampler: core's SAMPLER, or Aether's scheduler as in Aether Sampler ("dpm", "ddim").
            steps: of the run.
            latent: (B, C, T, h, w) that the MODEL works on, or (B, C, h, w) of a picture.

        Raises:
            InputError: a kind of model that HERO does not support.
        """
        latents = model.model.latent_format
        frames = latent.shape[2] if latent.ndim == 5 else 1
        height, width = (side * latents.spacial_downscale_ratio for side in latent.shape[-2:])
        return cls(
            file=_file_of(model),
            form="" if isinstance(model.model, AetherBase) else _form_of(model),
            patched=_yes_no(bool(model.patches)),
            sampler=sampler if isinstance(sampler, str) else core_samplers.name_of(sampler),
            steps=steps,
            width=width,
            height=height,
            frames=(frames - 1) * latents.temporal_downscale_ratio + 1,
        )

    @classmethod
    def before(
        cls,
        model: Mapping[str, Any],
        found: ModelBefore | None,
        sampler: Mapping[str, Any],
        steps: int,
        clip: Clip,
    ) -> RecordedRun:
        """What the page knows of a run.

        Args:
            model: see :func:`~.model_before.model_before`, with "patched" where a LoRA or the like comes
                after the loader.
            found: what that gave.
            sampler: core's name as "core", with "denoise" where it is less than 1, or Aether's scheduler as
                "aether"; empty where the graph does not say it.
            steps: of the run.
            clip: what is made.
        """
        side, length = ModelBefore.cell if found is None else found.cell
        return cls(
            file=_file_before(model),
            form=_form_before(model, found, clip),
            patched=_yes_no(bool(model.get("patched"))),
            sampler=_sampler_before(sampler),
            steps=steps,
            width=clip.width // side * side,
            height=clip.height // side * side,
            frames=(clip.frames - 1) // length * length + 1,
        )

    @classmethod
    def read(cls, about: Mapping[str, str]) -> RecordedRun | None:
        """From :attr:`about` of a recording; None for one that lacks something, as others may write them."""
        try:
            return cls(**{name: int(about[name]) if name in _COUNTS else about[name] for name in _NAMES})
        except (KeyError, ValueError):
            return None

    def about(self) -> dict[str, str]:
        """What a recording keeps of it."""
        return {name: str(value) for name, value in asdict(self).items()}

    def has_model_of(self, other: RecordedRun) -> bool:
        """Whether both are of one model: the same file or, where one is not known, the same form."""
        if self.patched != other.patched:
            return False
        if self.file and other.file:
            return self.file == other.file
        return bool(self.form) and self.form == other.form

    def differences(self, other: RecordedRun) -> dict[str, Any]:
        """What is different in this one: of "sampler", "steps" and "size" (width, height, frames)."""
        mine, others = self.compared(), other.compared()
        unknown = {"sampler"} if not self.sampler else set()
        return {name: mine[name] for name in mine if name in unknown or mine[name] != others[name]}

    def compared(self) -> dict[str, Any]:
        """What must be equal for a recording of the same model to count."""
        size = [self.width, self.height, self.frames]
        return {"sampler": self.sampler, "steps": self.steps, "size": size}


_NAMES = tuple(RecordedRun.__dataclass_fields__)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _file_of(model: Any) -> str:
    if isinstance(model.model, AetherBase):
        return str(model.model.name)
    # How core would load it anew: (function, (path, ...)).
    source = getattr(model, "cached_patcher_init", None)
    path = source[1][0] if source and source[1] else None
    return PureWindowsPath(path).name if isinstance(path, str) else ""


def _form_of(model: Any) -> str:
    return _form(kind_of(model), len(adapter_for(transformer_of(model)).blocks))


def _form(kind: str, blocks: int) -> str:
    return f"{kind}, {blocks} blocks"


def _file_before(model: Mapping[str, Any]) -> str:
    loader, file = model.get("loader"), model.get("file")
    if loader == "AetherMiniature":
        return "miniature"
    if not isinstance(file, str):
        return ""
    path = PureWindowsPath(file)  # splits at both kinds of slash
    return path.stem if loader == "AetherLoader" else path.name


def _form_before(model: Mapping[str, Any], found: ModelBefore | None, clip: Clip) -> str:
    if found is None or model.get("loader") in ("AetherMiniature", "AetherLoader"):
        return ""
    return _form(found.name, found.shape(clip).blocks)


def _sampler_before(sampler: Mapping[str, Any]) -> str:
    own, core = sampler.get("aether"), sampler.get("core")
    if isinstance(own, str):
        return own
    if not isinstance(core, str) or core not in comfy.samplers.SAMPLER_NAMES:
        return ""
    name, denoise = core_samplers.name_of(comfy.samplers.sampler_object(core)), sampler.get("denoise")
    # Such a run is never recorded: HERO Tuner begins with noise alone.
    return name if denoise is None else f"{name} with denoise {denoise}"
