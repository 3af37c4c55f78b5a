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
        self._start = self._mark()
        self._stop = self._start

    def _mark(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def stop(self) -> None:
        self._stop = self._mark()

    @property
    def seconds(self) -> float:
        if isinstance(self._start, float):
            return self._stop - self._start
        self._stop.synchronize()
        return self._start.elapsed_time(self._stop) / 1000
