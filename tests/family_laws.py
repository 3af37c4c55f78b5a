"""What HERO must hold on every model family, as tests that a family's own file inherits.

A file has a class for each form of a model, ``class TestWanCamera(ComfyFamily)``, which says how the model is
built and called. Models have their true form and small widths, and random weights.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

STEPS = 9
SHALLOW = 2


class FamilyLaws:
    """The laws; a class that inherits gives the model and its calls.

    Attributes:
        latent: (batch, channels, frames, rows, columns) of the noisy latent alone.
        flops_tolerance: relative, of the count before the run against torch's.
        one_by_one: whether what follows the blocks treats the tokens of a frame alike and one by one, so that
            a recording can ask it about a few.
    """

    latent: tuple[int, ...] = (2, 16, 3, 8, 12)
    flops_tolerance = 0.01
    one_by_one = True

    def build(self) -> Any:
        """The model, random weights."""
        raise NotImplementedError

    def inputs(self, batch: int) -> dict[str, Any]:
        """The call's arguments besides latent and timestep, from a seed."""
        return {}

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        """The model's answer, in the latent's shape."""
        raise NotImplementedError

    @contextmanager
    def attending(self, inputs: dict[str, Any], keys: torch.Tensor, total: int):
        """Inputs with which self-attention over `total` tokens sees only some keys (their numbers)."""
        raise NotImplementedError
        yield inputs

    @pytest.fixture
    def hero(self) -> Any:
        """The engine."""
        import hero_engine.hero.steps

        return hero_engine

    @pytest.fixture
    def family(self, hero: Any) -> SimpleNamespace:
        """The model and the run without acceleration; made once for the class."""
        made = type(self).__dict__.get("_family")
        if made is None:
            torch.manual_seed(0)
            model = self.build().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    torch.nn.init.normal_(parameter, std=0.08)
            made = SimpleNamespace(model=model, truth=self.run(model))
            type(self)._family = made
        return made

    @torch.no_grad()
    def run(self, model: Any, steps: int = STEPS, batch: int | None = None, seed: int = 1, scale: int = 1):
        """A denoising-like run: the last latent."""
        batch = batch or self.latent[0]
        _, channels, frames, *size = self.latent
        shape = (batch, channels, frames * scale, *size)
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        inputs = self.inputs(batch)
        for number in range(steps):
            timestep = 950.0 - 900.0 * number / steps
            latent = latent - 0.05 * self.call(model, latent, timestep, inputs)
        return latent

    def config(self, hero: Any, **settings: Any) -> Any:
        return hero.HeroConfig(**{"tau": SHALLOW, "warmup": 2, "interval": 3, "patch": (1, 2, 2)} | settings)

    def test_every_step_full_is_bit_identical_and_nothing_is_left(self, family: Any, hero: Any) -> None:
        before = set(vars(family.model))
        with hero.hero_session(family.model, self.config(hero, interval=1), STEPS):
            assert torch.equal(self.run(family.model), family.truth)
        assert torch.equal(self.run(family.model), family.truth)
        assert set(vars(family.model)) == before

    def test_a_recording_leaves_the_run_as_it_is(self, family: Any, hero: Any) -> None:
        """And predicts errors, or says that it cannot."""
        recorder = importlib.import_module(f"{hero.__name__}.tune.recorder")
        noise = hero.VPredictionNoise(tuple(1 - (number + 1) / 1001 for number in range(1000)))
        before = set(vars(family.model))
        with hero.hero_session(family.model, recorder.RecordingConfig(tokens=12), STEPS, noise) as run:
            assert torch.equal(self.run(family.model), family.truth)
            recording = run.method.recording()
        assert set(vars(family.model)) == before and run.cached_bytes == 0
        predicted = [recording.predict_error(hero.HeroConfig(mask=mask)) for mask in ("1" * 9, "110101011")]
        if self.one_by_one:
            assert predicted[0] == 0 < predicted[1] < 1
        else:
            assert predicted == [None, None]

    def test_all_blocks_and_tokens_refreshed_is_the_model(self, family: Any, hero: Any) -> None:
        config = self.config(hero, tau="100%", ratio=1.0, text="refresh")
        with hero.hero_session(family.model, config, STEPS) as run:
            result = self.run(family.model)
        assert float((result - family.truth).norm() / family.truth.norm()) < 1e-5
        assert run.report.cached_steps > 3

    @pytest.mark.parametrize("text", ["refresh", "omit"])
    def test_selected_tokens_have_their_own_positions_and_modulation(
        self, family: Any, hero: Any, text: str
    ) -> None:
        """What a cached step computes for the selected tokens is what the whole sequence gives for them where
        attention sees only the tokens that run."""
        model, inputs = family.model, self.inputs(self.latent[0])
        latent = torch.randn(self.latent, generator=torch.Generator().manual_seed(3))
        config = self.config(hero, tau="100%", ratio=0.5, text=text, warmup=1, interval=4)
        seen: dict[str, Any] = {}
        with torch.no_grad(), hero.hero_session(model, config, 4) as run:
            self.call(model, latent, 900.0, inputs)
            original = hero.hero.steps.CachedStep._leave

            def leave(step: Any, refreshed: torch.Tensor) -> torch.Tensor:
                seen.update(index=step.index, refreshed=refreshed.clone())
                return original(step, refreshed)

            hero.hero.steps.CachedStep._leave = leave
            try:
                self.call(model, latent, 800.0, inputs)
            finally:
                hero.hero.steps.CachedStep._leave = original
            shape = run.report.shape
            adapter = run._adapter
        assert 0 < len(seen["index"]) < shape.video_tokens
        with_text = text == "refresh" or shape.keeps_text
        lead = torch.arange(shape.text_tokens if with_text else 0)
        keys = torch.cat([lead, seen["index"] + shape.text_tokens])
        streams = []

        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> None:
            call = adapter.read_block(len(adapter.blocks) - 1, args, kwargs)
            streams.append(adapter.unpack(call, result)[0].clone())

        handle = adapter.blocks[-1].register_forward_hook(hook, with_kwargs=True)
        try:
            with torch.no_grad(), self.attending(inputs, keys, shape.tokens) as narrowed:
                self.call(model, latent, 800.0, narrowed)
        finally:
            handle.remove()
        wanted = streams[0].index_select(1, seen["index"])
        assert float((seen["refreshed"] - wanted).norm() / wanted.norm()) < 1e-5

    def test_the_model_has_all_tokens_between_its_blocks(
        self, family: Any, hero: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On cached steps as well, so that whatever it does with them there does not matter."""
        step_class = hero.hero.steps.CachedStep
        original, sizes = step_class.block, []

        def block(step: Any, number: int, forward: Any, call: Any) -> Any:
            result = original(step, number, forward, call)
            sizes.append(step._adapter.unpack(call, result)[0].shape)
            return result

        monkeypatch.setattr(step_class, "block", block)
        with hero.hero_session(family.model, self.config(hero, warmup=1), 2) as run:
            self.run(family.model, steps=2)
        batch, shape = self.latent[0], run.report.shape
        assert sizes == [(batch, shape.video_tokens, shape.width)] * shape.blocks

    def test_it_is_accelerated_and_the_second_run_like_the_first(self, family: Any, hero: Any) -> None:
        config = self.config(hero, text="omit", ratio=0.25)
        with hero.hero_session(family.model, config, STEPS) as run:
            first = self.run(family.model)
            second = self.run(family.model)
        error = float((first - family.truth).norm() / family.truth.norm())
        assert 0 < error < 0.1
        assert torch.equal(first, second)
        counts = {(report.full_steps, report.cached_steps) for report in run.reports}
        assert len(run.reports) == 2 and len(counts) == 1 and run.report.cached_steps > 3

    def test_bytes_are_as_predicted(self, family: Any, hero: Any) -> None:
        for settings in ({"shallow": "reuse"}, {"shallow": "forecast"}, {"tau": "100%"}):
            config = self.config(hero, **settings)
            with hero.hero_session(family.model, config, STEPS) as run:
                self.run(family.model)
            report = run.report
            predicted = hero.cost.cached_bytes(report.shape, config, report.counts, self.latent[0], 4)
            assert report.bytes_cached == predicted

    def test_flops_are_torchs(self, family: Any, hero: Any) -> None:
        """Of a full step and of a cached one."""
        config = self.config(hero, text="omit", ratio=0.25, warmup=1)
        inputs, latent = self.inputs(1), torch.randn(1, *self.latent[1:])
        counted = []
        with torch.no_grad(), hero.hero_session(family.model, config, 4) as run:
            for timestep in (900.0, 800.0):
                with FlopCounterMode(display=False) as counter:
                    self.call(family.model, latent, timestep, inputs)
                counted.append(counter.get_total_flops())
            report = run.report
        predicted = [
            hero.cost.full_step_flops(report.shape),
            hero.cost.cached_step_flops(report.shape, config, report.counts),
        ]
        assert report.cached_steps == 1
        assert predicted == pytest.approx(counted, rel=self.flops_tolerance)

    def test_size_batch_and_branches_may_change_from_run_to_run(self, family: Any, hero: Any) -> None:
        """Each as in a session of its own."""
        runs = ({"batch": 1}, {"batch": 1, "scale": 2}, {"batch": 3}, {"batch": 1, "seed": 2})
        config = self.config(hero, ratio=0.5)
        alone = []
        for run in runs:
            with hero.hero_session(family.model, config, STEPS):
                alone.append(self.run(family.model, **run))
        with hero.hero_session(family.model, config, STEPS):
            together = [self.run(family.model, **run) for run in runs]
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))

    def test_halves_of_a_batch_called_apart_are_the_batch(self, family: Any, hero: Any) -> None:
        """Guidance calls both at once where memory allows, else one after the other."""
        config = self.config(hero, ratio=0.5)
        one = torch.randn(1, *self.latent[1:], generator=torch.Generator().manual_seed(5))
        answers: dict[bool, list[torch.Tensor]] = {False: [], True: []}
        inputs = self.inputs(1)
        doubled = repeated(inputs)
        for apart, found in answers.items():
            with torch.no_grad(), hero.hero_session(family.model, config, STEPS) as run:
                for timestep in (900.0, 800.0, 700.0, 600.0):
                    # Two different latents with the same conditions.
                    if apart:
                        halves = []
                        for name, part in (("a", one), ("b", 2 * one)):
                            with run.branch(name):
                                halves.append(self.call(family.model, part, timestep, inputs))
                        found.append(torch.cat(halves))
                    else:
                        with run.branch(("a", "b")):
                            both = self.call(family.model, torch.cat([one, 2 * one]), timestep, doubled)
                        found.append(both)
        together, separate = torch.stack(answers[False]), torch.stack(answers[True])
        assert float((together - separate).norm() / together.norm()) < 1e-5


class Interrupt(BaseException):
    """Like ComfyUI's and like Ctrl-C: not an Exception."""


class FaultLaws(FamilyLaws):
    """What holds besides, for one form of a family: (2 shallow blocks x 8 steps + 2 deep ones x 4 full steps)
    x 3 errors = 72 faults."""

    @pytest.mark.parametrize(
        "error",
        [RuntimeError]
        + [pytest.param(error, marks=pytest.mark.slow) for error in (torch.OutOfMemoryError, Interrupt)],
    )
    def test_a_fault_in_any_block_and_step_leaves_nothing(self, family: Any, hero: Any, error: type) -> None:
        config, inputs = self.config(hero, ratio=0.5), self.inputs(1)  # full: steps 0, 1, 4, 7
        latent = torch.randn(1, *self.latent[1:], generator=torch.Generator().manual_seed(4))

        def run(fault: tuple[int, int] | None = None) -> tuple[torch.Tensor, Any]:
            with torch.no_grad(), hero.hero_session(family.model, config, 8) as session:
                for step in range(8):
                    hook = None
                    if fault is not None and fault[1] == step:
                        block = session._adapter.blocks[fault[0]]
                        hook = block.register_forward_pre_hook(lambda *_: throw(error))
                    try:
                        answer = self.call(family.model, latent, 950.0 - 100 * step, inputs)
                    except error:
                        assert session.cached_bytes == 0
                        return None, session
                    finally:
                        if hook is not None:
                            hook.remove()
            return answer, session

        expected, session = run()
        assert [record.reason.full for record in session.report.records] == [
            True,
            True,
            *(False, False, True) * 2,
        ]
        last = len(session._adapter.blocks) - 1
        faults = [(block, step) for block in (0, SHALLOW - 1) for step in range(8)]
        faults += [(block, step) for block in (SHALLOW, last) for step in (0, 1, 4, 7)]
        before = set(vars(family.model))
        for fault in faults:
            answer, session = run(fault)
            assert answer is None and session.cached_bytes == 0, fault
            assert set(vars(family.model)) == before, fault
        assert torch.equal(run()[0], expected)


def throw(error: type) -> None:
    raise error("injected")


def repeated(value: Any) -> Any:
    """Inputs of one sample as those of two."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value]) if value.ndim and value.shape[0] == 1 else value
    if isinstance(value, dict):
        return {name: repeated(part) for name, part in value.items()}
    if isinstance(value, list):
        return [repeated(part) for part in value]
    return value
