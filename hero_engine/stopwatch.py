"""Wall time of steps without stopping the device."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Started on construction; `stop`, then read `seconds` when the run is over.

    On CUDA the times are those of events on the current stream, so nothing waits until they are read.
    Elsewhere they are host time.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._start, self._started = self._mark()
        self._stop, self._stopped = self._start, self._started

    def _mark(self) -> tuple[float, torch.cuda.Event | None]:
        now = time.perf_counter()
        if self._device.type != "cuda":
            return now, None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return now, event

    def stop(self) -> None:
        self._stop, self._stopped = self._mark()

    def settle(self) -> None:
        """Read the time once for all, and let go of the device's events."""
        if self._started is not None:
            self._start, self._stop = 0.0, self.seconds
            self._started = self._stopped = None

    @property
    def seconds(self) -> float:
        if self._started is None or self._stopped is None:
            return self._stop - self._start
        self._stopped.synchronize()
        return float(self._started.elapsed_time(self._stopped)) / 1000
