"""What a tuning has measured, on disk: so that it goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import ConfigError
from .files import new_file
from .recording import Recording
from .trials import Trial

RECORDING, REFERENCE, TRIALS = "recording.safetensors", "reference.safetensors", "trials.jsonl"


@dataclass
class Measured:
    """All that was measured so far.

    Attributes:
        recording: of the unaccelerated run.
        latent: its result.
        fingerprints: (steps, numbers) of its latents, see :mod:`.sameness`.
        trials: what ran since.
    """

    recording: Recording
    latent: Tensor
    fingerprints: np.ndarray
    trials: list[Trial]

    def with_trial(self, trial: Trial) -> Measured:
        """The same with another trial, and the recording fitted to all that gave numbers."""
        trials = [*self.trials, trial]
        recording = self.recording.fitted([(one.config, one.error) for one in trials if not one.failed])
        return replace(self, trials=trials, recording=recording)


def finished_runs(folder: Path) -> int:
    """How many runs a folder holds, the unaccelerated one included."""
    if not (folder / RECORDING).exists():
        return 0
    trials = folder / TRIALS
    return 1 + (len(trials.read_bytes().splitlines()) if trials.exists() else 0)


class Store:
    """A folder, or nothing.

    Args:
        folder: made where it is missing; None to keep nothing.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder

    def read(self) -> Measured | None:
        """What is there; None where there is nothing.

        Raises:
            ConfigError: a damaged or foreign file (field ``"folder"``).
        """
        if self._folder is None or not (self._folder / RECORDING).exists():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            reference = load_file(self._folder / REFERENCE)
            lines = _text(self._folder / TRIALS).splitlines()
            trials = [Trial.from_dict(json.loads(line)) for line in lines]
            recording = Recording.load(self._folder / RECORDING)
            if any(trial.steps != recording.steps for trial in trials):
                raise ValueError(f"trials of another number of steps than {recording.steps}")
            return Measured(recording, reference["latent"], reference["fingerprints"].numpy(), trials)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                "folder",
                f"{self._folder} holds no tuning that can be read ({error}); use another or delete it",
            ) from error

    def begin(self, measured: Measured) -> None:
        """Keep the unaccelerated run."""
        if self._folder is None:
            return
        import torch
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "latent": measured.latent.detach().cpu().contiguous(),
            "fingerprints": torch.from_numpy(measured.fingerprints).contiguous(),
        }
        with new_file(self._folder / REFERENCE) as part:
            save_file(tensors, part)
        (self._folder / TRIALS).write_text("", encoding="utf-8")
        # The recording last: a folder with one is whole.
        measured.recording.save(self._folder / RECORDING)

    def keep(self, measured: Measured) -> None:
        """Keep the trials, and what the recording has learned from them."""
        if self._folder is None:
            return
        lines = [json.dumps(trial.to_dict()) for trial in measured.trials]
        with new_file(self._folder / TRIALS) as part:
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        measured.recording.save(self._folder / RECORDING)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
