"""A GPU that is not there: its tensors lie on the CPU and say that they are on "cuda:0".

As on a GPU, tensors of it and of the CPU cannot be mixed. Every point where the host would wait for the device,
and every tensor that is sent to it, is noted. Computing is the CPU's, so that results can be compared bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # refuses to be imported later, where torch.Generator is another
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")

aten = torch.ops.aten
_WAITING = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
}
"""Operations whose result the host must know to go on."""

_WHOLE = {torch.quantile}
"""Functions that make tensors beside those given on what torch's own code takes for their device, the CPU."""


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

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, unwaited, _ = torch._C._nn._parse_to(*args, **kwargs)
        if args and isinstance(args[0], Tensor):
            device = args[0].device
        moved = self if dtype in (None, self.dtype) else super().to(dtype)
        if device is None or device.type != "cpu":
            return moved
        if not unwaited:
            self._gpu.note_wait("to cpu")
        return moved.lies.clone()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _WHOLE:
            return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})
        gpu = next(leaf._gpu for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PretendTensor))
        return gpu.run(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu = next(leaf._gpu for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PretendTensor))
        return gpu.run(func, args, kwargs or {})


class PretendGPU(TorchDispatchMode):
    """Context in which torch has the GPU, its streams, events and generators.

    Attributes:
        waits: what the host has waited for, one text for each time.
        sent: operations that sent a tensor of the CPU to the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.sent: list[str] = []
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> PretendGPU:
        generator = torch.Generator

        class Generator(generator):  # type: ignore[misc, valid-type]
            def __new__(cls, device: Any = "cpu") -> Any:
                return super().__new__(cls)

        stream = mock.MagicMock()
        stream.record_event.side_effect = lambda: _Event(self)
        for name, value in {
            "torch.cuda._lazy_init": lambda: None,
            "torch.cuda.Event": lambda **_: _Event(self),
            "torch.cuda.Stream": lambda *_: stream,
            "torch.cuda.current_stream": lambda *_: stream,
            "torch.cuda.stream": lambda _: contextlib.nullcontext(),
            "torch.Generator": Generator,
        }.items():
            self._patches.enter_context(mock.patch(name, value))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def note_wait(self, what: object) -> None:
        self.waits.append(str(what))

    def tensor(self, lies: Tensor) -> PretendTensor:
        """A tensor of the CPU, from now on of the GPU."""
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
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [tensor for tensor in given if isinstance(tensor, PretendTensor)]
        if func is aten.copy_.default:
            return self._copy(func, args, kwargs)
        asked = kwargs.get("device")
        on_gpu = bool(here) if asked is None else torch.device(asked).type == "cuda"
        if func is aten._to_copy.default:
            self._note_move(func, bool(here), on_gpu, kwargs)
        elif here:
            self._refuse_mixing(func, given)
            if func in _WAITING or _is_masked(func, args):
                self.note_wait(func)
        if not here and not on_gpu:
            return func(*args, **{**kwargs, **_unpinned(kwargs)})
        results = func(*tree_map(_lies, args), **{**tree_map(_lies, kwargs), **_unpinned(kwargs), **_cpu(asked)})
        if not on_gpu:
            return results
        known = {id(tensor.lies): tensor for tensor in here}  # what was written in place

        def taken(result: Any) -> Any:
            if not isinstance(result, Tensor):
                return result
            return known[id(result)] if id(result) in known else self.tensor(result)

        return tree_map(taken, results)

    def _copy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        target, source, *unwaited = args
        to_gpu, from_gpu = isinstance(target, PretendTensor), isinstance(source, PretendTensor)
        if from_gpu and not to_gpu and not (unwaited or [kwargs.get("non_blocking")])[0]:
            self.note_wait(func)
        if to_gpu and not from_gpu:
            self.sent.append(str(func))
        func(_lies(target), _lies(source))
        return target

    def _note_move(self, func: Any, was_here: bool, on_gpu: bool, kwargs: dict[str, Any]) -> None:
        if was_here and not on_gpu and not kwargs.get("non_blocking"):
            self.note_wait(func)
        if on_gpu and not was_here:
            self.sent.append(str(func))

    @staticmethod
    def _refuse_mixing(func: Any, given: list[Tensor]) -> None:
        strange = [tuple(t.shape) for t in given if not isinstance(t, PretendTensor) and t.ndim]
        if strange:
            raise RuntimeError(f"{func} of tensors on cuda:0 and on cpu, the latter of shapes {strange}")


class _Event:
    def __init__(self, gpu: PretendGPU):
        self._gpu = gpu

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        self._gpu.note_wait("event")

    def elapsed_time(self, later: _Event) -> float:
        return 1.0


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
