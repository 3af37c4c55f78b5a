"""Parts measured in a process of their own, which is replaced where one has broken it.

A kernel that fails can leave a device unusable to its process, a compiler can hang, a method can leave memory
behind: none of it may take the other parts along.
"""

from __future__ import annotations

import multiprocessing
import platform
import signal
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from .budget import PartError
from .record import Found, one_line
from .settings import Settings

LEFT = 2**27
"""Bytes that a part may leave on the device: what cuBLAS keeps is less."""


class Workers:
    """A process that measures parts, and the one after it where it is replaced.

    Args:
        settings: of all parts.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._worker: _Worker | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def machine(self, seconds: float) -> Found:
        """What is measured: the device, what runs on it, the model.

        Raises:
            PartError: there is no such device, something to import is missing, or that took longer than so
                many seconds.
        """
        return self._get(time.monotonic() + seconds).machine

    def measure(self, name: str, seconds: float) -> Iterator[Found]:
        """All that a part has found, again and again until it is done.

        Raises:
            PartError: it failed, or took longer than so many seconds.
        """
        end, left = time.monotonic() + seconds, None
        try:
            worker = self._get(end)
            worker.send((name, end - time.monotonic()))
            while left is None:
                kind, value = worker.receive(end)
                if kind == "found":
                    yield value
                else:
                    left = value
        finally:
            if left is None or left > LEFT:
                self.close()

    def _get(self, end: float) -> _Worker:
        if self._worker is None:
            self._worker = _Worker(self._settings)
            try:
                self._worker.begin(end)
            except PartError:
                self.close()
                raise
        return self._worker


class _Worker:
    """One process and the pipe to it."""

    machine: Found

    def __init__(self, settings: Settings):
        # Not forked: nothing of a device survives that.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, settings))
        self._process.start()
        theirs.close()

    def begin(self, end: float) -> None:
        """Wait until the process is ready."""
        _, self.machine = self.receive(end)

    def send(self, message: tuple[str, float]) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise self._ended() from None

    def receive(self, end: float) -> tuple[str, Any]:
        """The next message but an error, which is raised."""
        try:
            if not self._pipe.poll(max(0.0, end - time.monotonic())):
                raise PartError("stopped: its time was over")
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "error":
            raise PartError(value)
        return kind, value

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _ended(self) -> PartError:
        self._process.join(5)
        return PartError(f"its process ended (exit code {self._process.exitcode})")


def _serve(pipe: Connection, settings: Settings) -> None:
    """The process: says what the machine is, then measures what it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends this process
    try:
        import torch

        from . import work

        if settings.toy:
            torch.set_num_threads(1)
        pipe.send(("machine", machine(settings)))
        while True:
            name, seconds = pipe.recv()
            for found in work.WORK[name](settings, seconds):
                pipe.send(("found", found))
            pipe.send(("done", work.left_behind(settings)))
    except (EOFError, BrokenPipeError):
        pass  # the command has ended
    except Exception as error:
        if not isinstance(error, PartError):
            traceback.print_exc()  # the file has one line of it
        pipe.send(("error", sentence(error)))


def sentence(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, PartError):
        return str(error)
    from hero_engine.memory_errors import is_out_of_memory

    text = one_line(f"{type(error).__name__}: {str(error).strip()}").removesuffix(":")
    return f"out of memory ({text})" if is_out_of_memory(error) else text


def machine(settings: Settings) -> Found:
    """What is measured: the device, what runs on it, the model.

    Raises:
        PartError: there is no GPU.
    """
    import diffusers
    import torch

    from ..sizes import SIZES

    size = SIZES[settings.size]
    found: Found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "model": str(size),
        "clip": size.clip,
    }
    if settings.toy:
        return {"device": f"{platform.machine()} CPU", **found}
    if not torch.cuda.is_available():
        raise PartError("there is no GPU here that torch can use; --toy tries the command on a CPU")
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "device_bytes": properties.total_memory,
        **found,
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
    }
