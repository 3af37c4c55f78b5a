"""What counts as running out of memory, to both packages alike, and what becomes of it."""

from __future__ import annotations

import errno
import mmap

import av
import numpy as np
import pytest
import torch

import aether.memory_errors
import hero_engine.memory_errors
from aether.cli import commands as cli
from aether.errors import InputError, reading
from aether.generation.latents import decode_pixels
from aether.memory_errors import unless_out_of_memory
from hero_engine import HeroConfig, hero_session

from .aether import tiny
from .hero_engine.models import denoise, relative, tiny_transformer

BOTH = (aether.memory_errors.is_out_of_memory, hero_engine.memory_errors.is_out_of_memory)

CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
LEVEL_ZERO = "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
)


class Windows(OSError):
    """An OSError as Windows gives it; elsewhere `winerror` is not kept."""

    def __init__(self, number):
        super().__init__(22, "The paging file is too small for this operation to complete")
        self.winerror = number


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 GiB"),
    torch.OutOfMemoryError("XPU out of memory. Tried to allocate 20.00 GiB"),
    torch.OutOfMemoryError("Allocation on device"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, max allowed: 18.1 GB)"),
    RuntimeError("Invalid buffer size: 20.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("HIP error: out of memory"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError(CUBLAS),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError(LEVEL_ZERO),
    RuntimeError("Native API failed. Native API returns: -6 (PI_ERROR_OUT_OF_HOST_MEMORY)"),
    RuntimeError("NPU out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("Could not allocate tensor. There is not enough GPU video memory available!"),
    RuntimeError(f"{ALLOCATOR} allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"
    ),
    RuntimeError("unable to mmap 209715280 bytes from file <x>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("bad allocation"),
    MemoryError(),
    MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64"),
    MemoryError("Cannot allocate memory (os error 12)"),
    av.error.MemoryError(12, "Cannot allocate memory"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    Windows(1455),
    Windows(8),
    Windows(14),
]

OTHERS = [
    RuntimeError("injected"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("out of resource: shared memory, Required: 114688, Hardware limit: 101376"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904]"),
    RuntimeError("memory format option is only supported by strided tensors"),
    ValueError("config: out of memory is no policy"),
    KeyError("out of memory"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "out of memory.mp4"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError("CUDA out of memory"),
    Windows(112),
    InputError("offload", "pinning the blocks needs 11 GB, more than it gives: out of memory"),
    KeyboardInterrupt("out of memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_memory_that_ran_out_is_recognised(error):
    assert [is_it(error) for is_it in BOTH] == [True, True]
    with unless_out_of_memory():
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_nothing_else_is_taken_for_it(error):
    assert [is_it(error) for is_it in BOTH] == [False, False]
    with pytest.raises(type(error)), unless_out_of_memory():
        raise error


# More memory than any machine has, which is refused before any is taken.
TOO_MUCH = {
    "numpy": lambda: np.empty(2**48, np.uint8),
    "torch": lambda: torch.empty(2**48, dtype=torch.uint8),
    "python": lambda: bytearray(2**60),
    "mmap": lambda: mmap.mmap(-1, 2**60),
}


@pytest.mark.parametrize("ask", TOO_MUCH.values(), ids=TOO_MUCH)
def test_real_errors_of_the_host(ask):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (which, is what is tested)
        ask()
    assert [is_it(caught.value) for is_it in BOTH] == [True, True]


def test_reading_a_file_that_is_too_large_says_so():
    with pytest.raises(InputError, match="^video: a.mp4 cannot be read .out of memory: it is larger than"):
        with reading("video", "a.mp4 cannot be read"):
            np.empty(2**48, np.uint8)
    with pytest.raises(InputError, match="^video: a.mp4 cannot be read .KeyError: 'x'"):
        with reading("video", "a.mp4 cannot be read"):
            raise KeyError("x")


SAMPLES = (*OUT_OF_MEMORY[3:5], MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"))


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_the_command_line_says_the_same_of_every_device(monkeypatch, tmp_path, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["reconstruct", "synthetic", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith(
        "error: device: out of memory; take fewer --frames, a smaller --size"
    )


@pytest.mark.parametrize("error", [RuntimeError("injected"), KeyError("x"), ValueError("a bug")], ids=repr)
def test_the_command_line_does_not_hide_bugs(monkeypatch, tmp_path, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    with pytest.raises(type(error)):
        cli.main(["reconstruct", "synthetic", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_a_step_is_finished_without_the_caches(error):
    model, steps, seen = tiny_transformer(4), 8, []

    def fail(*_):
        seen.append(None)
        if len(seen) == 6:
            raise error

    with hero_session(model, HeroConfig(), steps) as run:
        hook = model.transformer_blocks[1].register_forward_pre_hook(fail)
        result = denoise(model, steps=steps)
        hook.remove()
    assert run.report.memory_failures == 1
    assert relative(result, denoise(model, steps=steps)) < 0.05


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_a_stream_is_decoded_in_tiles(monkeypatch, caplog, error):
    model = tiny.model(vae_config={"sample_height": 32, "sample_width": 48})
    decode, seen = type(model.vae).decode, []

    def fail(vae, latent):
        seen.append(vae.use_tiling and vae.tile_sample_min_height)
        if len(seen) == 1:
            raise error
        return decode(vae, latent)

    monkeypatch.setattr(type(model.vae), "decode", fail)
    decode_pixels(model, torch.zeros(1, 3, 16, 4, 6))
    assert seen == [False, 16]
    assert "not enough memory: decoding tile by tile" in caplog.text
