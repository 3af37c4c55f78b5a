"""What each method's cached step costs and what it holds: measured on the CPU, predicted for Aether.

    python -m benchmarks.methods

Model: that of benchmarks.cached_step (42 blocks of width 256, random weights). Predicted: Aether at
480 x 720 x 41 in bfloat16 with guidance, 50 steps, the paper's 27 of them full where the method can.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from hero_engine import (
    PRESETS,
    DucaConfig,
    ForaConfig,
    MethodConfig,
    TaylorSeerConfig,
    TocaConfig,
    WorldCacheConfig,
    hero_session,
)
from hero_engine.cost import AETHER, predict

from .cached_step import GRID, build_model

CONFIGS: dict[str, MethodConfig] = {
    "HERO, preset paper": PRESETS["paper"],
    "FORA": ForaConfig(),
    "TaylorSeer, order 1": TaylorSeerConfig(),
    "TaylorSeer, order 2": TaylorSeerConfig(order=2),
    "ToCa, ratio 0.1": TocaConfig(),
    "ToCa, ratio 0.75": TocaConfig(ratio=0.75),
    "DuCa, ratio 0.1, N = 3": DucaConfig(),
    "WorldCache, N = 3": WorldCacheConfig(),
}


@torch.no_grad()
def measured_share(config: MethodConfig, forwards: int) -> float:
    """Median time of a cached step over that of a full one, with as many cached ones as the interval has."""
    model = build_model()
    rotary = get_3d_rotary_pos_embed(32, ((0, 0), GRID[1:]), GRID[1:], GRID[0])
    latent, text = torch.randn(1, GRID[0], 96, 2 * GRID[1], 2 * GRID[2]), torch.randn(1, 226, 64)
    changes = {"threshold": 1e6} if isinstance(config, WorldCacheConfig) else {}
    with hero_session(model, replace(config, warmup=3, **changes), forwards) as run:
        for step in range(forwards):
            model(latent, text, torch.tensor([999 - step]), image_rotary_emb=rotary)
    records = run.report.records[2:]
    cached = [record.watch.seconds for record in records if not record.reason.full]
    full = [record.watch.seconds for record in records if record.reason.full]
    # DuCa's cached steps are of two kinds: a mean of them, each a median over the run, as they alternate.
    kinds = config.interval - 1
    shares = [statistics.median(cached[kind::kinds]) for kind in range(kinds)]
    return statistics.fmean(shares) / statistics.median(full)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forwards", type=int, default=13, help="forwards measured, 3 of them warm-up (13)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| method | cached / full, measured | by FLOPs at Aether's size | full of 50 | bound | cached |")
    print("|---|---|---|---|---|---|")
    for name, config in CONFIGS.items():
        aether = predict(config, AETHER, 50, 2)
        print(
            f"| {name} | {measured_share(config, arguments.forwards):.3f} | {aether.cached_share:.4f} "
            f"| {aether.full_steps} | {aether.speedup_bound:.2f}x | {aether.cached_bytes / 1e9:.2f} GB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
