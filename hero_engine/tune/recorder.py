"""Recording an unaccelerated run: what cached steps would have answered, of a few tokens.

Every step runs in full. Behind it, the part of the model after the blocks is run again on what earlier steps'
residuals would have made of the stream. At a few steps HERO's refresh runs beside, as its error does not come
from the age of what is cached.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..checks import integer
from ..errors import ConfigError
from ..flops import ModelShape, Work, full_step
from ..hero.config import HeroConfig
from ..hero.feedback import CallContext
from ..hero.refresh_beside import RefreshBeside
from ..hero.token_sampling import PatchSampler
from ..method import Method, Moment, Step
from ..models.adapter import BlockCall, Forward, ModelCall
from ..noise import NoiseSchedule
from ..settings import Counts, MethodConfig
from ..storage import held_bytes
from .recording import Recording
from .sampled_steps import Steps
from .sketch import Sketch
from .slots import Slots, per_token
from .tables import LAGS, SHALLOW_LAGS, SHARES, SKETCH, Sums, Tables, recorded_lags

LEAST_STEPS = 6
_REFRESHES = 5
"""Steps at which the refresh runs beside."""
_PER_TOKEN = 0.02
"""Relative error up to which variants of tokens in other places count as answered right."""


@dataclass(frozen=True)
class RecordingConfig(MethodConfig):
    """Settings of a recording. Given to ``hero_session`` in place of a method's; every step runs in full.

    After the denoising run, ``run.method.recording()`` is the :class:`~hero_engine.tune.Recording`.

    Args:
        hero: whose refresh (ratio and patch) is tried.
        tokens: about how many to look at. At Aether's size with guidance, 128 take about 0.1 GB while it
            runs.

    Raises:
        ConfigError: ``tokens`` is not a count.
    """

    name: ClassVar[str] = "HERO Tuner"
    # Not settings: every step is full.
    interval = 1
    warmup = 1

    hero: HeroConfig = field(default_factory=lambda: HeroConfig.preset("balanced"))
    tokens: int = 128

    def __post_init__(self) -> None:
        self._set(tokens=integer("tokens", self.tokens, 1))

    def resolve(self, blocks: int, steps: int | None = None) -> Counts:
        """See :class:`~hero_engine.settings.MethodConfig`.

        Raises:
            ConfigError: the number of steps is not known, or too small (field ``"steps"``).
        """
        if steps is None:
            raise ConfigError("steps", "needed to choose which of them are full; give the number of steps")
        check_steps(steps)
        return super().resolve(blocks, steps)

    @property
    def needs_noise(self) -> bool:
        """See :class:`~hero_engine.settings.MethodConfig`. Without it nothing is predicted."""
        return True

    def check(self, shape: ModelShape) -> None:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        self.hero.check(shape)

    def work(self, shape: ModelShape, counts: Counts, age: int) -> Work:
        """Everything: no step is cached."""
        return full_step(shape)

    def cached_numbers(self, shape: ModelShape, counts: Counts) -> int:
        """The residuals of the tokens looked at, of the steps that can be reused."""
        return max(LAGS) * (1 + len(SHARES)) * min(self.tokens, shape.video_tokens) * shape.width

    def computed(self, shape: ModelShape, counts: Counts) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the {shape.blocks} blocks"


def check_steps(steps: int) -> None:
    """
    Raises:
        ConfigError: too few steps for a recording.
    """
    if steps < LEAST_STEPS:
        raise ConfigError("steps", f"{steps} leave nothing to choose; HERO Tuner needs {LEAST_STEPS} or more")


class Past(NamedTuple):
    """Residuals of the tokens looked at, at an earlier step of a branch.

    Attributes:
        step: its number.
        whole: (batch, tokens, width) what all blocks added.
        shallow: the same of the shallow ones, one for each of ``SHARES``.
    """

    step: int
    whole: Tensor
    shallow: list[Tensor]


class _Pass:
    """A recording that grows: what the branches of a run have answered, summed as guidance does.

    Attributes:
        timesteps: of the steps so far.
        sums: of them. The refresh's are not lengths yet: (parts, tokens refreshed, numbers).
        off: of each call, how far variants of tokens in other places were answered wrong, relative.
    """

    def __init__(self, call: ModelCall, tokens: int):
        self.shape = call.shape
        self.slots = Slots(call.shape.grid, tokens, call.shape.extra[0], call.device)
        self.timesteps: list[float] = []
        self.sums = Sums({}, {}, {}, {}, {})
        self.refreshed: dict[tuple[int, int], Tensor] = {}
        self.off: list[Tensor] = []
        self._sketch: Sketch | None = None

    def sketch(self, answers: Tensor) -> Tensor:
        """(variants, parts, tokens, numbers) as (variants, ``SKETCH``)."""
        lined = answers.flatten(1)
        if self._sketch is None:
            self._sketch = Sketch(lined.shape[1], SKETCH, lined.device)
        return self._sketch(lined)

    def summed(self) -> Sums:
        """All of it, the refresh's lengths those that as many tokens as are looked at would have."""
        looked_at = len(self.slots.index)
        return self.sums._replace(
            refreshed={
                key: math.sqrt(float(errors.square().sum()) / errors.shape[1] * looked_at)
                for key, errors in self.refreshed.items()
            }
        )


def _add(sums: dict[Any, Tensor], key: Any, value: Tensor) -> None:
    sums[key] = sums[key] + value if key in sums else value


class Recorder(Method[RecordingConfig]):
    """A recording on one model. It holds that of the latest pass."""

    _pass: _Pass | None = None

    def branch(self, call: ModelCall) -> RecorderBranch:
        """See :class:`~hero_engine.method.Method`."""
        return RecorderBranch(self)

    @property
    def marks(self) -> list[int]:
        """Numbers of shallow blocks at ``SHARES`` of the model's."""
        blocks = len(self.adapter.blocks)
        return [max(1, round(share * blocks)) for share in SHARES]

    def enter(self, call: ModelCall, moment: Moment) -> _Pass:
        """A forward begins; the first of a pass begins a recording.

        Raises:
            ConfigError: the clip has another size than at the pass's first step.
        """
        current = self._pass
        if current is None or (moment.number == 0 and call.timestep > current.timesteps[-1]):
            self.config.check(call.shape)
            self._pass = current = _Pass(call, self.config.tokens)
        elif call.shape.grid != current.shape.grid:
            raise ConfigError(
                "latent",
                f"changed from {current.shape.grid} to {call.shape.grid} tokens in the run; keep one size",
            )
        if len(current.timesteps) == moment.number:
            current.timesteps.append(call.timestep)
        return current

    def drawn(self, call: ModelCall, number: int) -> Tensor | None:
        """The tokens that HERO's refresh would take, at the steps where it is tried."""
        every = max(1, self.counts.planned_steps // _REFRESHES)
        if number % every != every // 2:
            return None
        shape, hero = call.shape, self.config.hero
        counts = hero.resolve(shape.blocks, self.counts.planned_steps)
        seed = (hero.seed + number) % 2**63
        sampler = PatchSampler(
            shape.grid, hero.patch, counts.tokens_per_patch, seed, call.device, shape.extra
        )
        return sampler.draw()[0]

    def recording(self) -> Recording:
        """Of the latest pass.

        Raises:
            ConfigError: nothing has run, or it gave NaN or infinite values.
        """
        current = self._pass
        if current is None:
            raise ConfigError("steps", "nothing has run yet: call the model inside the session first")
        noise, per_token = self.adapter.noise, bool((torch.stack(current.off) < _PER_TOKEN).all())
        sampling = Steps.of(noise, current.timesteps) if noise and per_token else None
        tables = Tables.of(current.summed(), len(current.timesteps))
        return Recording(
            model=type(self.adapter.model).__name__,
            shape=current.shape,
            hero=self.config.hero,
            sampling=sampling if sampling and sampling.known and tables.finite else None,
            tables=tables,
        )


class RecorderBranch:
    """One branch's residuals of the latest steps."""

    ready = False  # no step is cached

    def __init__(self, method: Recorder):
        self.method = method
        self.past: deque[Past] = deque(maxlen=max(LAGS))

    @property
    def bytes(self) -> int:
        return sum(held_bytes(past.whole, *past.shallow) for past in self.past)

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        current = self.method.enter(call, moment)
        return RecorderStep(self, current, call, moment, self.method.drawn(call, moment.number))

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        raise NotImplementedError("a recording caches nothing")


class RecorderStep(Step):
    """All runs unmodified; then the part behind the blocks again, on what would have been reused."""

    def __init__(
        self, branch: RecorderBranch, current: _Pass, call: ModelCall, moment: Moment, drawn: Tensor | None
    ):
        super().__init__(branch.method.adapter, call.shape.video_tokens)
        self._branch, self._pass, self._call, self._number = branch, current, call, moment.number
        self._marks = branch.method.marks
        self._guided = CallContext(call.timestep, moment.number, call.weights)
        self._marked: list[Tensor] = []
        self._gaps: list[Tensor] = []
        self._given: Tensor | None = None
        with_text = branch.method.config.hero.text == "refresh" or call.shape.keeps_text
        self._beside = None if drawn is None else RefreshBeside(self._adapter, drawn, with_text)

    def forward(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The whole model, once for the run and again for what is recorded."""
        result = super().forward(original, args, kwargs)
        with torch.no_grad():
            latent = self._per_token(self._adapter.read_latent(args, kwargs))
            self._answer = self._per_token(self._adapter.read_output(result))
            self._record(latent, lambda stream: self._head(stream, original, args, kwargs))
        return result

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        last = number == len(self._adapter.blocks) - 1
        if self._given is not None:
            return self._adapter.pack(call, self._given, self._text) if last else call.unchanged
        if number == 0:
            self._begin(call)
        if self._beside:
            self._beside.run(number, forward, call)
        result = super().block(number, forward, call)
        if last or number + 1 in self._marks:
            with torch.no_grad():
                self._mark(number + 1, *self._adapter.unpack(call, result), last)
        return result

    def _begin(self, call: BlockCall) -> None:
        with torch.no_grad():
            self._before = self._pass.slots.pick(call.video)
        if self._beside:
            self._beside.begin(call)

    def _mark(self, number: int, video: Tensor, text: Tensor, last: bool) -> None:
        """The stream behind some shallow blocks, or behind the last one."""
        for _ in range(self._marks.count(number)):
            self._marked.append(self._pass.slots.pick(video) - self._before)
            if self._beside:
                self._gaps.append(self._beside.video - video.index_select(1, self._beside.tokens))
        if last:
            self._stream = video.clone() if self._adapter.in_place else video
            self._text = text.clone() if self._adapter.in_place else text

    def _per_token(self, latent: Tensor) -> Tensor:
        return per_token(latent, self._call.shape.grid, self._adapter.channel_dim)

    def _head(
        self, stream: Tensor, original: Forward, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """What the model answers with this stream behind its last block, per token."""
        self._given = stream
        return self._per_token(self._adapter.read_output(original(*args, **kwargs)))

    def _record(self, latent: Tensor, head: Any) -> None:
        current, slots = self._pass, self._pass.slots
        number, grid = self._number, slots.index
        variants, keys = self._variants()
        answers = slots.read([head(stream) for stream in slots.fill(self._stream, variants)], len(variants))
        true = self._answer.index_select(1, grid)
        current.off.append((answers[0] - true).norm() / true.norm())
        noise = self._adapter.noise
        self._record_parts(_clean(noise, latent.index_select(1, grid), true, self._call.timestep))
        scale = _of_prediction(noise, self._call.timestep)
        for (table, key), answer in zip(keys, answers[1:], strict=True):
            _add(table, key, current.sketch(self._weigh((answer - true) * scale)[None])[0])
        self._record_refresh(head, scale)
        whole = slots.pick(self._stream) - self._before
        self._branch.past.append(Past(number, whole, self._marked))

    def _record_parts(self, clean: Tensor) -> None:
        """The clean latents that guidance combines, behind those of the step's earlier calls."""
        sums, number = self._pass.sums, self._number
        weights = self._call.weights
        parts = [clean.mean(0, keepdim=True)] if weights is None else clean.chunk(len(weights))
        before = sum(step == number for step, _ in sums.clean)
        for part, (one, weight) in enumerate(zip(parts, weights or (1.0,), strict=True), before):
            sums.clean[number, part] = self._pass.sketch(one[None])[0]
            sums.guidance[number, part] = weight

    def _variants(self) -> tuple[Tensor, list[tuple[dict[Any, Tensor], Any]]]:
        """The stream behind the last block as it is, and as earlier residuals would have made it; and which
        table each of those goes into, under which key."""
        number, sums = self._number, self._pass.sums
        past = {number - one.step: one for one in self._branch.past}
        now = self._pass.slots.pick(self._stream)
        variants: list[Tensor] = [now]
        keys: list[tuple[dict[Any, Tensor], Any]] = []
        for lag in recorded_lags(number, LAGS):
            if lag in past:
                variants.append(self._before + past[lag].whole)
                keys.append((sums.stale, (number, lag)))
        for lag in recorded_lags(number, SHALLOW_LAGS):
            for share, shallow in enumerate(self._marked):
                if lag in past:
                    variants.append(now - shallow + past[lag].shallow[share])
                    keys.append((sums.stale_shallow, (number, share, lag)))
        return torch.stack(variants), keys

    def _record_refresh(self, head: Any, scale: float) -> None:
        """How far the answer is off where tokens were refreshed without the others."""
        if not self._beside:
            return
        before, tokens = self._call.shape.extra[0], self._beside.tokens
        inside = (tokens >= before) & (tokens < before + self._call.shape.grid_tokens)
        grid = tokens[inside] - before
        for share, gap in enumerate(self._gaps):
            off = head(self._stream.index_add(1, tokens, gap)) - self._answer
            error = self._weigh(off.index_select(1, grid) * scale)
            _add(self._pass.refreshed, (self._number, share), error)

    def _weigh(self, parts: Tensor) -> Tensor:
        """The sum of the branches in the batch by their weights; their mean where those are not known."""
        if self._call.weights is None:
            return parts.float().mean(0, keepdim=True)
        return self._guided.weigh(parts.float())


def _clean(noise: NoiseSchedule | None, latent: Tensor, answer: Tensor, timestep: float) -> Tensor:
    return answer.float() if noise is None else noise.clean(latent, answer, timestep)


def _of_prediction(noise: NoiseSchedule | None, timestep: float) -> float:
    return 1.0 if noise is None else noise.factors(timestep)[1]
