"""``hero_engine.tune``: what it finds, what it refuses, and what it keeps."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from hero_engine import ConfigError, HeroConfig, hero_session, tuning_png
from hero_engine.tune import Progress, Target, Trial, Tuning, tune, weights_digest

from .models import denoise, noise, relative
from .test_session import state
from .tuning import GRID, STEPS, WayToRun, small_model


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def found(model):
    """A tuning for a speed, with streams, and the calls of its progress."""
    calls = []
    run = WayToRun(model)
    tuning = tune(run, Target(speed=1.5), 4, streams=halves, progress=calls.append, about={"sampler": "ddim"})
    return tuning, calls, run.count


def halves(latent):
    return {"first": latent[:, :, :28], "second": latent[:, :, 28:]}


def told(trial: Trial) -> dict:
    """A trial without its time."""
    return trial.to_dict() | {"clock": None}


def test_a_speed_is_reached_in_as_many_runs_as_the_budget(found):
    tuning, _, count = found
    assert count == 4 and len(tuning.trials) == 3
    assert tuning.reached and all(trial.speedup >= 1.5 for trial in tuning.trials)
    assert tuning.choice.error == min(trial.error for trial in tuning.trials)


def test_progress_is_called_before_each_run(found):
    _, calls, _ = found
    assert [(call.number, call.total) for call in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert isinstance(calls[0], Progress) and "recorded" in calls[0].text
    assert all(call.text.endswith("x by FLOPs") for call in calls[1:])


def test_errors_are_those_of_the_setting_run_again(model, found):
    tuning, _, _ = found
    truth = denoise(model, steps=STEPS, grid=GRID)
    with hero_session(model, HeroConfig.from_text(tuning.setting), STEPS, noise()) as run:
        latent = denoise(model, steps=STEPS, grid=GRID)
    choice = tuning.choice
    assert choice.error == pytest.approx(relative(latent, truth), rel=1e-5)
    parts, true_parts = halves(latent), halves(truth)
    assert choice.errors == pytest.approx(
        {name: relative(parts[name], true_parts[name]) for name in parts}, rel=1e-5
    )
    assert list(choice.strip) == run.report.strip
    assert choice.speedup == pytest.approx(run.report.predicted_speedup)


def test_predictions_are_near_what_was_measured(found):
    for trial in found[0].trials:
        assert 1 / 8 < trial.predicted_error / trial.error < 8


def test_the_recording_learns_from_the_trials(found):
    tuning, _, _ = found
    recording = tuning.recording
    assert recording.about == {"sampler": "ddim"} and recording.spread >= 1
    logs = [math.log(recording.predict_error(trial.config) / trial.error) for trial in tuning.trials]
    assert sorted(logs)[1] == pytest.approx(0, abs=1e-9), "the median is right"
    assert recording.spread == pytest.approx(math.exp(sum(map(abs, logs)) / 3))


def test_the_frontier_is_what_no_other_trial_beats():
    trials = tuple(trial_of(*pair) for pair in ((2, 0.5), (1.5, 0.1), (1.6, 0.1), (3, 0.4), (1.2, 0.2)))
    tuning = Tuning(Target(speed=1.5), None, trials)
    assert tuning.frontier == (trials[2], trials[3])
    assert tuning.choice is trials[1] and tuning.reached


@pytest.mark.parametrize(
    "target, choice, reached",
    [
        (Target(speed=1.7), 1, True),
        (Target(speed=4), 2, False),
        (Target(error=0.2), 1, True),
        (Target(error=0.05), 0, False),
    ],
)
def test_the_choice_is_what_meets_the_target_best(target, choice, reached):
    trials = tuple(trial_of(*pair) for pair in ((1.5, 0.1), (2, 0.15), (3, 0.4)))
    tuning = Tuning(target, None, trials)
    assert tuning.choice is trials[choice] and tuning.reached is reached
    assert ("was not reached in 3 trials" in tuning.summary()) is not reached


def trial_of(speedup: float, error: float) -> Trial:
    return Trial(HeroConfig(), error, {}, None, speedup, None, (True, False))


def test_a_tuning_as_text_json_and_a_chart(found):
    tuning, _, _ = found
    assert tuning.setting in tuning.summary()
    head, *rows = tuning.table().splitlines()
    assert "predicted" in head and "first" in head and "second" in head
    assert [row.startswith(">") for row in rows] == [trial is tuning.choice for trial in tuning.trials]
    document = json.loads(json.dumps(tuning.to_dict()))
    assert HeroConfig.from_text(document["setting"]) == tuning.choice.config
    assert [Trial.from_dict(one) for one in document["trials"]] == list(tuning.trials)
    assert document["target"] == {"speed": 1.5, "error": None} and document["reached"] is True
    assert [tuning.trials[place] for place in document["frontier"]] == list(tuning.frontier)
    assert tuning_png(tuning)[:4] == b"\x89PNG"


def test_an_error_is_reached_with_the_fewest_full_steps_found(model):
    tuning = tune(WayToRun(model), Target(error=0.05), 5)
    assert tuning.reached and tuning.choice.error <= 0.05
    good = [trial for trial in tuning.trials if trial.error <= 0.05]
    assert tuning.choice.speedup == max(trial.speedup for trial in good)
    counts = [trial.full_steps for trial in tuning.trials]
    assert len(set(counts)) == len(counts), "no number of full steps is tried twice"


@pytest.mark.parametrize("target", [Target(speed=20), Target(error=1e-7)], ids=str)
def test_a_target_out_of_reach_gives_the_nearest_that_was_found(model, target):
    tuning = tune(WayToRun(model), target, 3)
    assert not tuning.reached and tuning.summary().startswith(f"The target ({target}) was not reached")
    trials = tuning.trials
    best = max(trials, key=lambda t: t.speedup) if target.speed else min(trials, key=lambda t: t.error)
    assert tuning.choice is best


def test_the_same_inputs_give_the_same_trials(model, found):
    again = tune(WayToRun(model), Target(speed=1.5), 4, streams=halves, about={"sampler": "ddim"})
    assert again.setting == found[0].setting
    assert [told(trial) for trial in again.trials] == [told(trial) for trial in found[0].trials]


@pytest.mark.parametrize("target", [Target(speed=1.4), Target(error=0.05)], ids=str)
def test_without_a_scheduler_other_settings_are_tried_each_time(model, target):
    """Nothing is predicted, and nothing is corrected by feedback."""
    tuning = tune(WayToRun(model, scheduler=False), target, 4)
    configs = [trial.config for trial in tuning.trials]
    assert len(set(configs)) == len(configs) >= 2
    assert all(config.feedback == 0 for config in configs)
    assert all(trial.predicted_error is None for trial in tuning.trials)
    assert tuning.reached and tuning.recording.spread is None


@pytest.mark.parametrize(
    "given, words",
    [
        ({}, "give either a speed or an error"),
        ({"speed": 2.0, "error": 0.1}, "give either a speed or an error"),
        ({"speed": 1.0}, "speed: 1.0 is out of range; use a number from 1.1 to 20"),
        ({"speed": math.nan}, "speed: nan is out of range"),
        ({"error": 0}, "error: 0.0 is out of range"),
        ({"error": "1%"}, "error: '1%' is not a number"),
    ],
)
def test_targets_that_are_none(given, words):
    with pytest.raises(ConfigError, match=words):
        Target(**given)


@pytest.mark.parametrize("budget", [1, 0, True, "6"])
def test_a_budget_that_leaves_no_trial_is_refused_before_anything_runs(model, budget):
    run = WayToRun(model)
    with pytest.raises(ConfigError, match="^budget: .*of at least 2"):
        tune(run, Target(speed=1.5), budget)
    assert run.count == 0


def test_four_steps_are_refused(model):
    before = state(model)
    with pytest.raises(ConfigError, match="^steps: 4 leave nothing to choose; .*needs 6 or more"):
        tune(WayToRun(model, steps=4), Target(speed=1.5), 3)
    assert state(model) == before


class Interrupted(WayToRun):
    """Ctrl+C in the middle of run number `at`."""

    def __init__(self, model, at: int):
        super().__init__(model)
        self._at = at

    def denoised(self):
        if self.count < self._at:
            return super().denoised()
        calls = []

        def count(*_):
            calls.append(None)
            if len(calls) == 5:
                raise KeyboardInterrupt

        handle = self.model.register_forward_pre_hook(count)
        try:
            return super().denoised()
        finally:
            handle.remove()


@pytest.mark.parametrize("at", [1, *(pytest.param(at, marks=pytest.mark.slow) for at in (2, 3))])
def test_after_an_interrupt_the_same_call_goes_on_and_nothing_runs_twice(model, found, at, tmp_path):
    before, folder = state(model), tmp_path / "tuning"
    options = {"streams": halves, "about": {"sampler": "ddim"}, "folder": folder}
    with pytest.raises(KeyboardInterrupt):
        tune(Interrupted(model, at), Target(speed=1.5), 4, **options)
    assert state(model) == before
    run, calls = WayToRun(model), []
    tuning = tune(run, Target(speed=1.5), 4, progress=calls.append, **options)
    assert run.count == 4 - (at - 1) and [call.number for call in calls] == list(range(at, 5))
    assert [told(trial) for trial in tuning.trials] == [told(trial) for trial in found[0].trials]
    assert tuning.recording.spread == pytest.approx(found[0].recording.spread)
    assert state(model) == before


def test_a_larger_budget_or_another_target_goes_on_from_what_is_there(model, tmp_path):
    first = tune(WayToRun(model), Target(speed=1.5), 3, folder=tmp_path)
    run = WayToRun(model)
    assert tune(run, Target(speed=1.5), 3, folder=tmp_path).trials == first.trials and run.count == 0
    second = tune(run, Target(error=0.2), 4, folder=tmp_path)
    assert run.count == 1 and second.trials[:2] == first.trials


class Broken(WayToRun):
    """Something is done before run number `at`, and to its result."""

    def __init__(self, model, at: int, before=lambda: None, after=lambda latent: latent):
        super().__init__(model)
        self._at, self._before, self._after = at, before, after

    def denoised(self):
        if self.count != self._at:
            return super().denoised()
        self._before()
        return self._after(super().denoised())


def spoiled(model):
    """NaN in a weight of the last block."""
    with torch.no_grad():
        model.transformer_blocks[-1].ff.net[2].bias[0] = math.nan


def test_nan_in_the_reference_is_refused_and_nothing_is_kept(tmp_path):
    model = small_model()
    spoiled(model)
    with pytest.raises(ConfigError, match="^model: the unaccelerated run gives NaN"):
        tune(WayToRun(model), Target(speed=1.5), 3, folder=tmp_path / "tuning")
    assert not (tmp_path / "tuning").exists()


def nan(latent):
    return latent * math.nan


def first_nan(latent):
    """NaN in one number of the first half."""
    latent = latent.clone()
    latent[0, 0, 3, 1, 2] = math.nan
    return latent


@pytest.mark.parametrize(
    "target, at", [(Target(speed=1.5), 2), (Target(speed=1.5), 3), (Target(error=0.05), 2)], ids=str
)
def test_a_trial_that_gives_nan_is_noted_and_others_run(model, target, at, tmp_path):
    run = Broken(model, at=at, after=nan)
    tuning = tune(run, target, 5, folder=tmp_path, streams=halves)
    failed = tuning.trials[at - 2]
    assert run.count > at and [trial.failed for trial in tuning.trials].count(True) == 1
    assert failed.failed and failed.error == math.inf and failed.speedup > 1
    assert tuning.choice is not failed and failed not in tuning.frontier
    configs = [trial.config for trial in tuning.trials]
    assert len(set(configs)) == len(configs) == run.count - 1, "what failed is not tried again"
    again = WayToRun(model)
    assert tune(again, target, 5, folder=tmp_path, streams=halves).trials == tuning.trials
    assert again.count == 0


def test_a_failed_trial_in_text_json_and_chart(model):
    tuning = tune(Broken(model, at=3, after=first_nan), Target(speed=1.5), 4, streams=halves)
    failed = tuning.trials[1]
    assert failed.failed and failed.errors["first"] == math.inf and failed.errors["second"] < 1
    row = tuning.table().splitlines()[2].split()
    assert "failed" in row and row[-2] != "-" and row[-1] == "%" and "-" in row
    assert "1 of 3 trials failed: they gave NaN or infinite values" in tuning.summary()
    document = json.loads(json.dumps(tuning.to_dict(), allow_nan=False))
    assert document["trials"][1]["error"] is None and document["trials"][1]["errors"]["first"] is None
    assert 1 not in document["frontier"]
    assert [Trial.from_dict(one) for one in document["trials"]] == list(tuning.trials)
    assert tuning_png(tuning)[:4] == b"\x89PNG"


def test_the_recording_learns_nothing_from_a_failed_trial(model):
    tuning = tune(Broken(model, at=4, after=nan), Target(speed=1.5), 4)
    pairs = [(trial.config, trial.error) for trial in tuning.trials[:2]]
    fitted = replace(tuning.recording, scale=1.0, spread=None).fitted(pairs)
    assert tuning.recording.scale == pytest.approx(fitted.scale) and fitted.scale < math.inf
    assert tuning.recording.spread == pytest.approx(fitted.spread)


def test_where_no_trial_gives_numbers_that_is_refused_and_kept(model, tmp_path):
    class Nan(WayToRun):
        def denoised(self):
            return super().denoised() * (math.nan if self.count > 1 else 1)

    run = Nan(model)
    for count in (3, 3):  # the second call runs nothing
        with pytest.raises(ConfigError, match="^model: gives NaN or infinite values with HERO, in all of 2"):
            tune(run, Target(speed=1.5), 3, folder=tmp_path)
        assert run.count == count
    again = WayToRun(model)
    found = tune(again, Target(speed=1.5), 4, folder=tmp_path)
    assert again.count == 1 and found.choice is found.trials[2]


def test_a_failed_trial_is_never_chosen():
    trials = tuple(trial_of(*pair) for pair in ((3, math.inf), (1.5, 0.1), (2, 0.5)))
    assert Tuning(Target(speed=2.5), None, trials).choice is trials[2]
    assert Tuning(Target(speed=1.2), None, trials).choice is trials[1]
    assert Tuning(Target(error=0.01), None, trials).choice is trials[1]
    assert Tuning(Target(error=1), None, trials).choice is trials[2]
    assert Tuning(Target(speed=2.5), None, trials).reached is False
    assert Tuning(Target(speed=2.5), None, trials).frontier == trials[1:]


@pytest.mark.parametrize("at", [2, 3])
def test_a_model_that_changes_between_runs_is_refused(at, tmp_path):
    model, other = small_model(), small_model(seed=1)
    run = Broken(model, at, before=lambda: model.load_state_dict(other.state_dict()))
    with pytest.raises(ConfigError, match="^model: differs from the recorded run before anything is reused"):
        tune(run, Target(speed=1.5), 4, folder=tmp_path)


def test_a_slight_change_of_the_weights_is_noticed():
    model = small_model()

    def change():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)

    with pytest.raises(ConfigError, match="^model: differs"):
        tune(Broken(model, 2, before=change), Target(speed=1.5), 4)


class Unseeded(WayToRun):
    """Noise that the seed does not decide: at the beginning, or within the run."""

    def __init__(self, model, begins: bool):
        super().__init__(model)
        self._begins = begins

    def denoised(self):
        if self._begins:
            return denoise(self.model, steps=self.steps, grid=GRID, seed=self.count)
        with torch.no_grad(), disturbed(self.model, self.count):
            return super().denoised()


class disturbed:
    """Noise on every answer of a model but the first, from a seed."""

    def __init__(self, model, seed: int):
        self._model, self._generator = model, torch.Generator().manual_seed(seed)

    def __enter__(self):
        self._handle = self._model.register_forward_hook(self._disturb)

    def __exit__(self, *_):
        self._handle.remove()

    def _disturb(self, _module, _inputs, result):
        return (result[0] + 0.5 * torch.randn(result[0].shape, generator=self._generator),)


def test_a_run_that_begins_with_other_noise_each_time_is_refused(model):
    with pytest.raises(ConfigError, match="^run: begins with other noise"):
        tune(Unseeded(model, begins=True), Target(speed=1.5), 3)


def test_a_sampler_that_draws_noise_outside_the_seed_is_refused(model):
    with pytest.raises(ConfigError, match="sampler draws noise that the seed does not decide"):
        tune(Unseeded(model, begins=False), Target(speed=1.5), 3)


def test_a_run_without_the_session_is_refused(model):
    def run(session):
        with session(model, STEPS, noise()):
            pass
        return denoise(model, steps=STEPS, grid=GRID)

    for way in (run, lambda session: denoise(model, steps=STEPS, grid=GRID)):
        with pytest.raises(ConfigError, match="^run: did not sample inside the session"):
            tune(way, Target(speed=1.5), 3)


def test_a_run_that_returns_no_latent_is_refused(model):
    def run(session):
        WayToRun(model)(session)

    with pytest.raises(ConfigError, match="^run: returned NoneType, not the final latent as a tensor"):
        tune(run, Target(speed=1.5), 3)


def test_a_run_of_another_size_or_length_is_refused(model):
    sizes = iter([GRID, (2, 3, 6)])

    def run(session):
        with session(model, STEPS, noise()):
            return denoise(model, steps=STEPS, grid=next(sizes))

    with pytest.raises(
        ConfigError, match=r"^run: gave a latent of \(1, 2, 56, 3, 6\), not \(1, 2, 56, 3, 4\)"
    ):
        tune(run, Target(speed=1.5), 3)

    steps = iter([9, 8])

    def shorter(session):
        return WayToRun(model, steps=next(steps))(session)

    with pytest.raises(ConfigError, match="^run: is not the recorded one.*8 steps against 9"):
        tune(shorter, Target(speed=1.5), 3)


def test_a_folder_of_another_tuning_is_refused_and_left_as_it_is(model, tmp_path):
    tune(WayToRun(model), Target(speed=1.5), 2, folder=tmp_path, about={"seed": "1", "size": "a"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cases = [
        (WayToRun(model), {"seed": "2", "size": "a"}, "^folder: .*seed: 1 there, 2 here"),
        (WayToRun(model), {"seed": "1"}, "^folder: .*size: a there, nothing here"),
        (WayToRun(small_model(blocks=3)), {"seed": "1", "size": "a"}, "^model: has 3 blocks.*of 4"),
        (WayToRun(small_model(seed=1)), {"seed": "1", "size": "a"}, "^model: differs from the recorded run"),
    ]
    for run, about, words in cases:
        with pytest.raises(ConfigError, match=words):
            tune(run, Target(speed=1.5), 3, folder=tmp_path, about=about)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_swapped_model_is_noticed_by_its_digest_where_nothing_runs(model, tmp_path):
    about = {"weights": weights_digest(model)}
    tune(WayToRun(model), Target(speed=1.5), 2, folder=tmp_path, about=about)
    other = small_model(seed=1)
    run = WayToRun(other)
    with pytest.raises(ConfigError, match="^folder: holds a tuning of something else .weights: "):
        tune(run, Target(speed=1.5), 2, folder=tmp_path, about={"weights": weights_digest(other)})
    assert run.count == 0


@pytest.mark.parametrize("name", ["recording.safetensors", "reference.safetensors", "trials.jsonl"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"{}\n", b'{"config": 3}\n', b"\xff\xfe\n"])
def test_a_damaged_folder_is_refused_before_anything_runs(model, tmp_path, kept, name, content):
    for file in kept.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes(content)
    if name == "trials.jsonl" and not content:
        return  # a tuning without trials
    run = WayToRun(model)
    with pytest.raises(ConfigError, match="^folder: .*use another or delete it"):
        tune(run, Target(speed=1.5), 2, folder=tmp_path)
    assert run.count == 0


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory):
    """The folder of a tuning."""
    folder = tmp_path_factory.mktemp("kept")
    tune(WayToRun(model), Target(speed=1.5), 2, folder=folder)
    return folder


def test_trials_of_another_run_in_the_folder_are_refused(model, tmp_path, kept):
    for file in kept.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    trial = json.loads((tmp_path / "trials.jsonl").read_text())
    (tmp_path / "trials.jsonl").write_text(json.dumps(trial | {"strip": [True, False]}))
    with pytest.raises(ConfigError, match="^folder: .*trials of another number of steps than 9"):
        tune(WayToRun(model), Target(speed=1.5), 2, folder=tmp_path)


def test_a_folder_with_other_files_keeps_them(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    tune(WayToRun(model), Target(speed=1.5), 2, folder=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "recording.safetensors", "reference.safetensors", "trials.jsonl"}


def test_nothing_is_left_on_the_model(model):
    before, weights = state(model), {name: value.clone() for name, value in model.state_dict().items()}
    truth = denoise(model, steps=STEPS, grid=GRID)
    tune(WayToRun(model), Target(speed=1.5), 3)
    assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(denoise(model, steps=STEPS, grid=GRID), truth)


def test_trials_with_equal_values_are_equal(found):
    one = found[0].trials[0]
    assert replace(one) == one and asdict(one)["error"] == one.error
