"""What a cached step costs, as a share of a full one: both measured side by side in one run, on the CPU.

    python -m benchmarks.cached_step

Model: 42 blocks of width 256 (8 heads), random weights, 5 x 16 x 24 video tokens and 226 text tokens; tau 21,
r 1/6, full and cached steps in turn. The time of an untouched forward is measured between them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from hero_engine import HeroConfig, hero_session

GRID = (5, 16, 24)


def build_model() -> CogVideoXTransformer3DModel:
    """The benchmark's transformer, from a seed."""
    torch.manual_seed(0)
    return CogVideoXTransformer3DModel(
        num_attention_heads=8,
        attention_head_dim=32,
        in_channels=96,
        out_channels=56,
        num_layers=42,
        text_embed_dim=64,
        sample_height=2 * GRID[1],
        sample_width=2 * GRID[2],
        patch_size=2,
        use_rotary_positional_embeddings=True,
    ).eval()


@torch.no_grad()
def measure(config: HeroConfig, pairs: int) -> tuple[float, float, float]:
    """Median seconds of (untouched, full, cached) forwards."""
    model = build_model()
    rotary = get_3d_rotary_pos_embed(32, ((0, 0), GRID[1:]), GRID[1:], GRID[0])
    latent, text = torch.randn(1, GRID[0], 96, 2 * GRID[1], 2 * GRID[2]), torch.randn(1, 226, 64)

    def forward(timestep: int) -> float:
        start = time.perf_counter()
        model(latent, text, torch.tensor([timestep]), image_rotary_emb=rotary)
        return time.perf_counter() - start

    forward(0)
    untouched = []
    with hero_session(model, replace(config, interval=2, warmup=2)) as run:
        for step in range(2 + 2 * pairs):
            forward(999 - step)
    # Side by side in time as well: untouched forwards right after, on the same tensors.
    untouched = [forward(0) for _ in range(pairs)]
    records = run.report.records[2:]
    seconds = [
        statistics.median(r.watch.seconds for r in records if r.reason.full is kind) for kind in (True, False)
    ]
    return statistics.median(untouched), *seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8, help="full and cached steps measured (8)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {
        "selected, text omitted (paper)": HeroConfig(tau=21, text="omit"),
        "selected, text refreshed": HeroConfig(tau=21),
        "cached keys and values, text omitted": HeroConfig(tau=21, text="omit", context="cached_kv"),
        "selected, text omitted, fitted": HeroConfig(tau=21, text="omit", forecast="fitted"),
    }
    print(f"{'setting':<38} {'full/untouched':>14} {'cached/full':>12}")
    for name, config in settings.items():
        untouched, full, cached = measure(config, arguments.pairs)
        print(f"{name:<38} {full / untouched:>14.3f} {cached / full:>12.4f}", flush=True)


if __name__ == "__main__":
    main()
