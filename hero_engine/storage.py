"""Where cached features wait between steps: on the device as they are or in float8, or on the host.

Pure tensors; never sees a model. Every store holds one tensor (batch, tokens, ...) at a time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import ConfigError
from .memory_errors import is_out_of_memory
from .optional import require

_FLOAT8 = torch.float8_e4m3fn
_LARGEST = 8  # scaled, numbers are below 2 to this; float8_e4m3fn goes up to 448


def held_bytes(*tensors: Tensor | None) -> int:
    """Bytes of the tensors that are there."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


class Store:
    """As it is, on the device."""

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    @property
    def filled(self) -> bool:
        return self._kept is not None

    def put(self, tensor: Tensor) -> None:
        """Keep a tensor, which must not be changed afterwards, instead of the one before."""
        self._kept = tensor

    def read(self) -> Tensor:
        """The tensor, in its dtype on its device. Not to be written to."""
        return require(self._kept)

    def write(self, index: Tensor, part: Tensor) -> None:
        """Write those tokens (second dimension) anew."""
        require(self._kept).index_copy_(1, index, part)

    def prefetch(self) -> None:
        """`read` will come soon."""

    def release(self) -> None:
        """`read` will not come again in this step."""

    @property
    def bytes(self) -> int:
        """Bytes held between steps, wherever they are."""
        return held_bytes(self._kept)


class Float8Store(Store):
    """float8_e4m3fn, with one scale per token: the power of two that brings its largest to 128 ... 256.

    Multiplying by it is exact, so that what comes back differs by the rounding to three bits of mantissa
    alone: by at most 2^-4 of a number, and by 2^-17 of the token's largest for the numbers below 2^-13 of
    it. A token with infinities or NaN comes back with NaN.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scale: Tensor | None = None
        self._shape = torch.Size()

    def put(self, tensor: Tensor) -> None:
        self._shape = tensor.shape
        self._kept, self._scale = _to_float8(tensor.flatten(2))

    def read(self) -> Tensor:
        scale = require(self._scale)
        return (require(self._kept).to(scale.dtype) * scale).view(self._shape)

    def write(self, index: Tensor, part: Tensor) -> None:
        kept, scale = _to_float8(part.flatten(2))
        # As bytes: not every device copies rows of float8.
        require(self._kept).view(torch.uint8).index_copy_(1, index, kept.view(torch.uint8))
        require(self._scale).index_copy_(1, index, scale)

    @property
    def bytes(self) -> int:
        return held_bytes(self._kept, self._scale)


def _to_float8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, tokens, width) as float8, and scales (batch, tokens, 1) in the tensor's dtype."""
    largest = torch.linalg.vector_norm(tensor, ord=math.inf, dim=-1, keepdim=True).float()
    exponent = torch.frexp(largest).exponent - _LARGEST  # frexp's mantissa is 1/2 to 1
    lowest = math.frexp(torch.finfo(tensor.dtype).tiny)[1] - 1
    scale = torch.ldexp(torch.ones_like(largest), exponent.clamp(min=lowest)).to(tensor.dtype)
    return (tensor / scale).to(_FLOAT8), scale


class HostStore(Store):
    """In the host's memory, exactly as it is.

    On CUDA that is pinned, nothing waits for the way there, and :meth:`prefetch` starts the way back on a
    stream of its own while the model runs. Elsewhere both are plain copies; on the CPU there are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._device = torch.device("cpu")
        self._near: Tensor | None = None  # the copy on the device, while it is needed
        self._arrived: torch.cuda.Event | None = None

    def put(self, tensor: Tensor) -> None:
        self.release()
        self._device = tensor.device
        if self._device.type == "cpu":
            self._kept = tensor
            return
        if self._kept is None:
            pinned = self._device.type == "cuda"
            self._kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        self._send(tensor)

    def read(self) -> Tensor:
        if self._near is None:
            self._near = self._fetch()
        elif self._arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._arrived)
            self._near.record_stream(current)
        self._arrived = None
        return self._near

    def write(self, index: Tensor, part: Tensor) -> None:
        near = self.read()
        near.index_copy_(1, index, part)
        if near is not self._kept:
            self._send(near)

    def prefetch(self) -> None:
        if self._device.type != "cuda" or self._kept is None:
            return
        stream = _side_stream(self._device)
        # Behind what is still on its way to the host.
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            self._near = self._fetch()
            self._arrived = stream.record_event()

    def release(self) -> None:
        self._near = self._arrived = None

    def _fetch(self) -> Tensor:
        return require(self._kept).to(self._device, non_blocking=True)

    def _send(self, tensor: Tensor) -> None:
        # Only CUDA keeps the order of copies that nobody waits for.
        require(self._kept).copy_(tensor, non_blocking=self._device.type == "cuda")


_SIDE_STREAMS: dict[torch.device, torch.cuda.Stream] = {}


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream per device for all copies."""
    if device not in _SIDE_STREAMS:
        _SIDE_STREAMS[device] = torch.cuda.Stream(device)
    return _SIDE_STREAMS[device]


STORES: dict[str, type[Store]] = {"model": Store, "float8": Float8Store, "host": HostStore}


def check_storage(storage: str, device: torch.device) -> None:
    """Refuse float8 where the device does not have it.

    Raises:
        ConfigError: field ``"storage"``.
    """
    if storage != "float8":
        return
    try:
        torch.ones(1, device=device).to(_FLOAT8).float()
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(
            "storage", f"'float8' is not possible on {device.type}; use 'model' or 'host'"
        ) from error
