"""What a run takes of a device's memory: by part, and in all for each way of keeping the model.

    python -m benchmarks.memory              counted at Aether's size, on tensors without values; needs no GPU
    python -m benchmarks.memory --measure    beside it, whole runs on a GPU, with random weights

Counted are the bytes of all tensors alive at a time; what libraries take for themselves (cuDNN's and cuBLAS'
workspaces, the allocator's rounding) is not seen. Attention is counted as a kernel that keeps no scores.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aether.generation.latents import decode
from aether.generation.sampling import sample
from aether.generation.tasks import condition
from aether.memory_errors import unless_out_of_memory
from aether.model.lean_vae import make_lean
from aether.model.loading import VAE_CONFIG
from aether.model.memory import (
    bytes_text,
    enable_small_tiles,
    keep_in_float8,
    offload_blocks,
    run_bytes,
    step_bytes,
)
from aether.model.parts import AetherModel
from aether.model.schedulers import make_scheduler
from hero_engine import PRESETS, hero_session, optimize
from hero_engine.cost import predict

from .sizes import SIZES, Size, build_model, default_dtype
from .speed import machine, publish

STEPS, PRESET = 8, "balanced"
"""Of a measured run: full and cached steps, and everything that is cached in a longer one."""

WAYS = {
    "bfloat16": {},
    "float8": {"float8": True},
    "offload": {"offload": True},
    "float8, offload": {"float8": True, "offload": True},
}
"""How the transformer is kept (see :mod:`aether.model.memory`)."""

_SMALL_VAE = {"block_out_channels": (16, 32, 64, 64), "layers_per_block": 1, "norm_num_groups": 8}


class Peak(TorchDispatchMode):
    """Bytes of the tensors that are made within and alive at the same time, at most.

    Attributes:
        bytes: at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._alive: dict[int, int] = {}

    @property
    def now(self) -> int:
        """Bytes of those that are alive."""
        return sum(self._alive.values())

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operation(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in given | self._alive.keys():
                self._alive[storage._cdata] = storage.nbytes()
                self.bytes = max(self.bytes, self.now)
                weakref.finalize(storage, self._alive.pop, storage._cdata, None)
        return result


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class DevicePeak:
    """Bytes of a GPU that tensors take, also those that were there before, at most while this is open."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> DevicePeak:
        torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def bytes(self) -> int:
        """At most."""
        return torch.cuda.max_memory_allocated(self._device)

    @property
    def now(self) -> int:
        """Of those that are alive."""
        return torch.cuda.memory_allocated(self._device)


def build_vae(size: Size, device: torch.device) -> AutoencoderKLCogVideoX:
    """Aether's VAE, a narrow one for the small sizes; random weights."""
    _, height, width = size.clip
    widths = {} if size is SIZES["aether"] else _SMALL_VAE
    with torch.device(device), default_dtype(size.dtype):
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            sample_height=height,
            sample_width=width,
            **VAE_CONFIG | widths,
        )
    return vae.eval()


def counted(work: Callable[[], Any]) -> int:
    with torch.no_grad(), Peak() as peak:
        work()
    return peak.bytes


def step_peak(size: Size, optimized: bool = False) -> int:
    """Bytes that a full step takes besides the weights, with diffusers' attention or that of `optimize`."""
    frames, rows, columns = size.grid
    model = build_model(size, torch.device("cpu"))
    if optimized:
        optimize(model, "sdpa")
    latent = torch.empty(
        size.batch, frames, model.config.in_channels, 2 * rows, 2 * columns, dtype=size.dtype
    )
    text = torch.empty(size.batch, size.text_tokens, size.text_width, dtype=size.dtype)
    rotary = tuple(torch.empty(frames * rows * columns, size.head_width) for _ in range(2))
    steps = torch.empty(size.batch, dtype=torch.int64)
    return counted(lambda: model(latent, text, steps, image_rotary_emb=rotary, return_dict=False))


def vae_peaks(part: str, work: Callable[[AutoencoderKLCogVideoX], Any], size: Size) -> dict[str, int]:
    """Bytes that a part of a run takes besides the VAE's weights: as diffusers has it, as here, in tiles."""
    vae = build_vae(size, torch.device("cpu"))
    found = {f"{part}, diffusers as it is": counted(lambda: work(vae))}
    make_lean(vae)
    found[part] = counted(lambda: work(vae))
    enable_small_tiles(vae)
    found[f"{part} in small tiles"] = counted(lambda: work(vae))
    return found


def count_parts(size: Size) -> dict[str, int]:
    """Bytes of the parts of a run, besides the weights."""
    frames, height, width = size.clip
    with FakeTensorMode():
        clip = torch.empty(1, 3, frames, height, width, dtype=size.dtype)
        latent = torch.empty(1, 16, size.grid[0], height // 8, width // 8, dtype=size.dtype)
        # A block's tensors go when the next begins: two stand for all.
        two = size.with_blocks(2)
        return (
            vae_peaks("encoding", lambda vae: vae.encode(clip), size)
            | {f"a step, batch {size.batch}": step_peak(two)}
            | {"a step, attention `sdpa`": step_peak(two, optimized=True)}
            | vae_peaks("decoding", lambda vae: vae.decode(latent), size)
        )


def build_whole(size: Size, device: torch.device, float8: bool = False, offload: bool = False) -> AetherModel:
    """A model with random weights, kept in one of the ways.

    The weights are drawn on the device, also those that wait on the host, where it has room for them: a GPU
    needs a second for them, a CPU minutes.
    """
    transformer = _drawn(size, device) if offload else build_model(size, device)
    if float8:
        keep_in_float8(transformer, size.dtype)
    if offload:
        offload_blocks(transformer.to("cpu"), device)
    vae = build_vae(size, device)
    make_lean(vae)
    prompt = torch.zeros(1, size.text_tokens, size.text_width, dtype=size.dtype, device=device)
    return AetherModel(transformer, vae, make_scheduler(), prompt, name="random", trained=False)


def _drawn(size: Size, device: torch.device) -> CogVideoXTransformer3DModel:
    """A transformer that goes to the host."""
    with unless_out_of_memory():
        return build_model(size, device)
    return build_model(size, torch.device("cpu"))


def sampled(model: AetherModel, size: Size) -> torch.Tensor:
    """The latent of a plan from one gray picture to another under HERO."""
    frames, height, width = size.clip
    picture, generator = np.full((height, width, 3), 0.5, np.float32), torch.Generator().manual_seed(0)
    conditions = condition(model, "planning", image=picture, goal=picture, frames=frames, generator=generator)
    session = hero_session(model.transformer, PRESETS[PRESET], STEPS, model.scheduler)
    return sample(model, conditions, steps=STEPS, generator=generator, session=session)


def whole_run(model: AetherModel, size: Size) -> None:
    """The plan, decoded."""
    decode(model, sampled(model, size))


def fresh_whole(size: Size, device: torch.device, way: dict[str, bool]) -> AetherModel:
    """A model kept in one of the ways, on a device without the one before."""
    # Hooks of diffusers hold that one in cycles.
    gc.collect()
    torch.cuda.empty_cache()
    return build_whole(size, device, **way)


def measured(size: Size, device: torch.device, way: dict[str, bool]) -> int:
    """Bytes of the GPU that a whole run takes at most, its weights included."""
    model = fresh_whole(size, device, way)
    with DevicePeak(device) as peak:
        whole_run(model, size)
    return peak.bytes


def foretold(size: Size, way: dict[str, bool]) -> dict[str, int]:
    """Bytes of the weights on the device, of a step and of decoding, and of a whole run at most."""
    transformer, vae = (build(size, torch.device("meta")) for build in (build_model, build_vae))
    if way.get("float8"):
        keep_in_float8(transformer, size.dtype)
    shape = size.shape
    values = size.batch, size.dtype.itemsize
    cached = predict(PRESETS[PRESET], shape, 50, *values).cached_bytes
    step = step_bytes(shape.tokens, shape.width, *values) + cached
    found = run_bytes(transformer, vae, step, *size.clip[1:], offload=way.get("offload", False))
    return {
        "weights": found.weights,
        "step": found.step,
        "decoding": found.decoding,
        "in all": found.whole,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="aether", help="of the model (aether)")
    parser.add_argument("--measure", action="store_true", help="measure whole runs on the GPU too")
    parser.add_argument("--out", type=Path, help="write the results there as well")
    arguments = parser.parse_args(argv)
    size, device = SIZES[arguments.size], torch.device("cuda")
    if arguments.measure and not torch.cuda.is_available():
        parser.error("--measure: there is no GPU here that torch can use")
    frames, height, width = size.clip
    text = [
        f"{frames} frames of {width} x {height}; {size}",
        "",
        "| besides the weights | counted |",
        "|---|---|",
    ]
    text += [f"| {part} | {bytes_text(count)} |" for part, count in count_parts(size).items()]
    text += ["", f"| whole run, HERO `{PRESET}` | weights there | step and cache | decoding | in all |"]
    text[-1] += " measured |" if arguments.measure else ""
    text.append("|---" * text[-1].count("|", 1) + "|")
    for name, way in WAYS.items():
        cells = [name, *map(bytes_text, foretold(size, way).values())]
        if arguments.measure:
            cells.append(bytes_text(measured(size, device, way)))
        text.append(f"| {' | '.join(cells)} |")
    if arguments.measure:
        text += ["", machine(device)]
    publish("\n".join(text), arguments.out)


if __name__ == "__main__":
    main()
