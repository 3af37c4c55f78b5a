"""A GPU that is not there: its tensors lie on the CPU and say that they are on "cuda:0".

As on a GPU, tensors of it and of the CPU cannot be mixed, and every point where the host would wait for the
device is noted. Computing is the CPU's, so that results can be compared bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # not while torch.Generator is another
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")

aten = torch.ops.aten

_ANSWERING = {
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.item.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
}
"""Operations whose result the host must know to go on."""

_MOVES = {aten.to.device, aten.to.dtype, aten.to.dtype_layout, aten.to.other}

_WHOLE = {torch.quantile}
"""Functions that make tensors of their own, on what torch's own code takes for the device: the CPU."""


class PretendTensor(Tensor):
    """A tensor of the GPU.

    Attributes:
        lies: the tensor of the CPU that it stands for.
    """

    lies: Tensor
    _gpu: PretendGPU

    @staticmethod
    def __new__(cls, lies: Tensor, gpu: PretendGPU) -> PretendTensor:
        # torch's own code is told of the CPU, which it has.
        with torch.inference_mode(lies.is_inference()):
            made = Tensor._make_wrapper_subclass(
                cls,
                lies.shape,
                strides=lies.stride(),
                storage_offset=lies.storage_offset(),
                dtype=lies.dtype,
                device="cpu",
            )
        made.lies, made._gpu = lies, gpu
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def is_cuda(self) -> bool:
        return True

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.lies.untyped_storage()

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def record_stream(self, stream: Any) -> None:
        pass

    def to(self, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        device, dtype, unwaited, _ = torch._C._nn._parse_to(*args, **kwargs)
        if args and isinstance(args[0], Tensor):
            device = args[0].device
        moved = self
        if dtype not in (None, self.dtype):
            moved = self._gpu.run(aten._to_copy.default, (self,), {"dtype": dtype})
        if device is None or device.type != "cpu":
            return moved.clone() if copy and moved is self else moved
        self._gpu.note_wait("to the CPU", unwaited)
        return moved.lies.clone()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._has_compatible_shallow_copy_type:
            return False  # so that Module.to() makes new parameters
        if func in _WHOLE:
            return _gpu_of(args, kwargs).run(func, args, kwargs or {})
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _gpu_of(args, kwargs).run(func, args, kwargs or {})


class PretendGPU(TorchDispatchMode):
    """Context in which torch has the GPU, its streams, events and generators.

    Attributes:
        waits: what the host has waited for, one text for each time: an answer of the device, or a tensor on
            its way in either direction.
        memory: bytes that it says it has.
        taken, peak: bytes of its tensors that are alive, and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory = 1 << 40
        self.peak = 0
        self._storages: dict[int, int] = {}
        self.waits: list[str] = []
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> PretendGPU:
        generator = torch.Generator

        class Generator(generator):  # type: ignore[misc, valid-type]
            def __new__(cls, device: Any = "cpu") -> Any:
                return super().__new__(cls)

        # Classes, as annotations of modules that are imported meanwhile want them.
        event = type("Event", (_Event,), {"gpu": self})
        stream = type("Stream", (_Stream,), {"event": event})
        for name, value in {
            "torch.cuda._lazy_init": lambda: None,
            "torch.cuda.Event": event,
            "torch.cuda.Stream": stream,
            "torch.cuda.current_stream": stream,
            "torch.cuda.stream": lambda _: contextlib.nullcontext(),
            "torch.cuda.get_device_properties": lambda *_: SimpleNamespace(
                total_memory=self.memory, major=9, minor=0
            ),
            "torch.cuda.memory_allocated": lambda *_: self.taken,
            "torch.cuda.max_memory_allocated": lambda *_: self.peak,
            "torch.cuda.reset_peak_memory_stats": self._forget_peak,
            "torch.cuda.empty_cache": lambda: None,
            "torch.cuda.synchronize": lambda *_: self.note_wait("synchronize"),
            "torch.Tensor.pin_memory": lambda tensor: tensor,
            "torch.Generator": Generator,
        }.items():
            self._patches.enter_context(mock.patch(name, value))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def note_wait(self, what: object, unwaited: bool = False) -> None:
        if not unwaited:
            self.waits.append(str(what))

    @property
    def taken(self) -> int:
        return sum(self._storages.values())

    def _forget_peak(self, *_: Any) -> None:
        self.peak = self.taken

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._storages:
            self._storages[storage._cdata] = storage.nbytes()
            self.peak = max(self.peak, self.taken)
            weakref.finalize(storage, self._storages.pop, storage._cdata, None)

    def tensor(self, lies: Tensor) -> PretendTensor:
        """A tensor of the CPU, from now on of the GPU."""
        self._count(lies.untyped_storage())
        return PretendTensor(lies.detach(), self)

    def module(self, module: nn.Module) -> nn.Module:
        """A copy of a module of the CPU, on the GPU."""
        made = copy.deepcopy(module)
        for part in made.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = nn.Parameter(self.tensor(weight), requires_grad=False)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = self.tensor(buffer)
        return made

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation, on the CPU, as if it were on the GPU."""
        if func is aten.copy_.default:
            return self._copy(func, args, kwargs)
        if func in _MOVES:
            return self._move(*args, **kwargs)
        if func is aten._has_compatible_shallow_copy_type.default:
            return False  # likewise in inference mode
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [tensor for tensor in given if isinstance(tensor, PretendTensor)]
        asked = kwargs.get("device")
        on_gpu = bool(here) if asked is None else torch.device(asked).type == "cuda"
        if func is aten._to_copy.default:
            if on_gpu != bool(here):
                self.note_wait(func, kwargs.get("non_blocking", False))
        elif here:
            _refuse_mixing(func, given)
            if func in _ANSWERING or _is_masked(func, args):
                self.note_wait(func)
        if not here and not on_gpu:
            return func(*args, **{**kwargs, **_unpinned(kwargs)})
        results = func(
            *tree_map(_lies, args), **{**tree_map(_lies, kwargs), **_unpinned(kwargs), **_cpu(asked)}
        )
        if not on_gpu:
            return results
        known = {id(tensor.lies): tensor for tensor in here}  # what was written in place

        def taken(result: Any) -> Any:
            if not isinstance(result, Tensor):
                return result
            return known[id(result)] if id(result) in known else self.tensor(result)

        return tree_map(taken, results)

    def _move(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor.to` as a whole, as inference mode has it."""
        kwargs.pop("layout", None)
        if isinstance(tensor, PretendTensor):
            return tensor.to(*args, **kwargs)
        device, dtype, unwaited, _ = torch._C._nn._parse_to(*args, **kwargs)
        moved = tensor if dtype is None else aten._to_copy.default(tensor, dtype=dtype)
        if device is None or device.type == "cpu":
            return moved
        self.note_wait("to the GPU", unwaited)
        return self.tensor(moved)

    def _copy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        target, source, *unwaited = args
        if isinstance(target, PretendTensor) != isinstance(source, PretendTensor):
            self.note_wait(func, (unwaited or [kwargs.get("non_blocking", False)])[0])
        func(_lies(target), _lies(source))
        return target


class _Event:
    gpu: PretendGPU

    def __init__(self, enable_timing: bool = False):
        pass

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        self.gpu.note_wait("event")

    def elapsed_time(self, later: _Event) -> float:
        return 1.0


class _Stream:
    event: type[_Event]

    def __init__(self, device: Any = None):
        pass

    def wait_stream(self, other: _Stream) -> None:
        pass

    def wait_event(self, event: _Event) -> None:
        pass

    def synchronize(self) -> None:
        self.event.gpu.note_wait("stream")

    def record_event(self) -> _Event:
        return self.event()


def _gpu_of(args: Any, kwargs: Any) -> PretendGPU:
    return next(leaf._gpu for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PretendTensor))


def _refuse_mixing(func: Any, given: list[Tensor]) -> None:
    strange = [tuple(t.shape) for t in given if not isinstance(t, PretendTensor) and t.ndim]
    if strange:
        raise RuntimeError(f"{func} of tensors on cuda:0 and on cpu, the latter of shapes {strange}")


def _lies(value: Any) -> Any:
    return value.lies if isinstance(value, PretendTensor) else value


def _is_masked(func: Any, args: Any) -> bool:
    """Whether it picks by a mask, so that the size of its result is not known before."""
    return func is aten.index.Tensor and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )


def _unpinned(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"pin_memory": False} if kwargs.get("pin_memory") else {}


def _cpu(asked: Any) -> dict[str, Any]:
    return {} if asked is None else {"device": torch.device("cpu")}
