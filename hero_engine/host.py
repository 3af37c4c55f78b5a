"""Numbers of the device on the host, with as little waiting as can be."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_SCHEDULE = 1 << 16  # bytes


class TimestepReader:
    """Reads timesteps. One on a device is mostly a view of its schedule, which is read whole and once.

    Reading it for itself would make the host wait, at every step, until the device has done the step before.
    That is what happens where the timestep is a tensor of its own.
    """

    def __init__(self) -> None:
        self._schedule: torch.UntypedStorage | None = None
        self._state: tuple[object, ...] = ()
        self._values: list[float] = []

    def read(self, timestep: Tensor | float) -> float:
        """The (first) timestep."""
        if not isinstance(timestep, Tensor):
            return float(timestep)
        # Tensors of inference mode do not tell when they were written to.
        if timestep.device.type == "cpu" or timestep.is_inference():
            return float(timestep.flatten()[0])
        return self.read_view(timestep)

    def read_view(self, timestep: Tensor) -> float:
        """The same, through the schedule."""
        storage = timestep.untyped_storage()
        if storage.nbytes() > _LARGEST_SCHEDULE:
            return float(timestep.flatten()[0])
        # The storage is held, so that nothing else comes to lie at its address.
        state = (storage.data_ptr(), timestep.device, timestep.dtype, timestep._version)
        if state != self._state:
            self._values = torch.empty(0, dtype=timestep.dtype, device=timestep.device).set_(storage).tolist()
            self._schedule, self._state = storage, state
        return float(self._values[timestep.storage_offset()])


class AsyncScalar:
    """A number on its way to the host: reading it waits for it alone, not for the device's later work.

    Args:
        value: scalar tensor.
    """

    def __init__(self, value: Tensor):
        self._value = value
        self._arrived: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._value = torch.empty_like(value, device="cpu", pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(value.device))

    def read(self) -> float:
        """The number."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._value)
