"""A cached step relative to a full one on each model family of ComfyUI's own, at 40 blocks on a CPU.

    COMFYUI_PATH=~/comfy/ComfyUI python -m benchmarks.families

Core's own classes with random weights, narrow (width 256), with so many tokens that attention takes about
two thirds of a full step's FLOPs, as in Wan 14B between 480p and 720p. HERO as published: half of the
blocks, a sixth of the tokens, text omitted where it can be. One thread; full and cached steps alternate in
one run; medians of each by the thread's CPU time and by the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hero_engine import HeroConfig, hero_session
from hero_engine.command_options import whole_number
from hero_engine.cost.prediction import cached_step_flops, full_step_flops

GRID = (10, 16, 18)
WIDTH, HEADS = 256, 2
TEXT = 64
_PATCH = 2


@dataclass(frozen=True)
class Family:
    """How a family's model is built and called.

    Attributes:
        build: takes the number of blocks and core's layers.
        channels: of its latent.
        text_width: of the prompt's embedding.
        inputs: further arguments of a call.
    """

    build: Callable[[int, Any], torch.nn.Module]
    channels: int
    text_width: int
    inputs: dict[str, Any]


def _wan(blocks: int, operations: Any) -> torch.nn.Module:
    from comfy.ldm.wan.model import WanModel

    return WanModel(
        model_type="t2v", dim=WIDTH, ffn_dim=690, num_heads=HEADS, num_layers=blocks, text_dim=TEXT,
        cross_attn_norm=True, dtype=torch.float32, device="cpu", operations=operations,
    )  # fmt: skip


def _hunyuan(blocks: int, operations: Any) -> torch.nn.Module:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    double = blocks // 3
    return HunyuanVideo(
        in_channels=16, out_channels=16, vec_in_dim=TEXT, context_in_dim=TEXT, hidden_size=WIDTH,
        num_heads=HEADS, mlp_ratio=4.0, depth=double, depth_single_blocks=blocks - double,
        patch_size=[1, 2, 2], axes_dim=[16, 56, 56], theta=256, qkv_bias=True, guidance_embed=True,
        byt5=False,
        meanflow=False, meanflow_sum=False, use_cond_type_embedding=False, vision_in_dim=None,
        dtype=torch.float32, device="cpu", operations=operations,
    )  # fmt: skip


def _cosmos(blocks: int, operations: Any) -> torch.nn.Module:
    from comfy.ldm.cosmos.predict2 import MiniTrainDIT

    return MiniTrainDIT(
        max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16, patch_spatial=2,
        patch_temporal=1, model_channels=WIDTH, num_blocks=blocks, num_heads=HEADS,
        crossattn_emb_channels=TEXT, pos_emb_cls="rope3d", pos_emb_learnable=True, use_adaln_lora=True,
        adaln_lora_dim=32,
        dtype=torch.float32, device="cpu", operations=operations,
    )  # fmt: skip


def _kandinsky(blocks: int, operations: Any) -> torch.nn.Module:
    from comfy.ldm.kandinsky5.model import Kandinsky5

    return Kandinsky5(
        visual_embed_dim=64, in_text_dim=TEXT, in_text_dim2=TEXT, time_dim=64, model_dim=WIDTH,
        ff_dim=4 * WIDTH, axes_dims=(32, 48, 48), num_visual_blocks=blocks, dtype=torch.float32, device="cpu",
        operations=operations,
    )  # fmt: skip


def _ltx(blocks: int, operations: Any) -> torch.nn.Module:
    from comfy.ldm.lightricks.model import LTXVModel

    return LTXVModel(
        in_channels=16, cross_attention_dim=WIDTH, attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS, caption_channels=TEXT, num_layers=blocks, dtype=torch.float32,
        device="cpu", operations=operations,
    )  # fmt: skip


FAMILIES = {
    "Wan": Family(_wan, 16, TEXT, {}),
    "HunyuanVideo": Family(_hunyuan, 16, TEXT, {"y": torch.zeros(1, TEXT), "guidance": torch.tensor([6.0])}),
    "Cosmos Predict2": Family(_cosmos, 16, TEXT, {"fps": 24}),
    "Kandinsky 5": Family(_kandinsky, 16, TEXT, {"y": torch.zeros(1, TEXT)}),
    "LTX-Video": Family(_ltx, 16, TEXT, {"attention_mask": None}),
}


@torch.no_grad()
def measure(family: Family, blocks: int, rounds: int) -> dict[str, float]:
    """Cached over full step: by FLOPs, CPU time and clock."""
    import comfy.ops

    torch.manual_seed(0)
    model = family.build(blocks, comfy.ops.disable_weight_init).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    frames, rows, columns = GRID
    side = 1 if family is FAMILIES["LTX-Video"] else _PATCH
    latent = torch.randn(1, family.channels, frames, side * rows, side * columns)
    text = torch.randn(1, TEXT, family.text_width)
    config = HeroConfig(tau="50%", warmup=2, interval=2, ratio=1 / 6, text="omit")
    seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with hero_session(model, config) as run:
        for number in range(2 * rounds + 3):
            start = time.thread_time(), time.perf_counter()
            timestep = torch.tensor([950.0 - 900.0 * number / (2 * rounds + 3)])
            model(latent, timestep, context=text, transformer_options={}, **family.inputs)
            spent = time.thread_time() - start[0], time.perf_counter() - start[1]
            if number > 2:
                seconds[run.report.records[-1].reason.full].append(spent)
        report = run.report
    shares = [
        statistics.median(spent[kind] for spent in seconds[False])
        / statistics.median(spent[kind] for spent in seconds[True])
        for kind in (0, 1)
    ]
    flops = cached_step_flops(report.shape, config, report.counts) / full_step_flops(report.shape)
    return {"flops": flops, "cpu": shares[0], "clock": shares[1]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=whole_number, default=40)
    parser.add_argument(
        "--rounds", type=whole_number, default=5, help="full and cached steps of each; default: 5"
    )
    options = parser.parse_args(arguments)
    comfyui = Path(os.environ.get("COMFYUI_PATH") or "~/comfy/ComfyUI").expanduser()
    if not (comfyui / "comfyui_version.py").is_file():
        parser.error(f"ComfyUI is not at {comfyui}: set COMFYUI_PATH")
    sys.path.insert(0, str(comfyui))
    from comfy.cli_args import args

    args.cpu = True
    torch.set_num_threads(1)
    print(f"{options.blocks} blocks of width {WIDTH}, {GRID[0]} x {GRID[1]} x {GRID[2]} tokens, one thread")
    print("cached step over full step      FLOPs   CPU time   clock")
    for name, family in FAMILIES.items():
        found = measure(family, options.blocks, options.rounds)
        print(f"{name:<30} {found['flops']:>6.3f} {found['cpu']:>10.3f} {found['clock']:>7.3f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
