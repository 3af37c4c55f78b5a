"""`python -m aether.miniature.train`: from nothing to the bundled weights.

Stages: scenes (rendered once), autoencoder, latents (encoded once), denoiser, export. Each goes on from what
is in the work folder. With `torchrun --nproc-per-node N -m aether.miniature.train` N processes share it.
"""

from __future__ import annotations

import argparse
import copy
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..model import WEIGHTS, build, write_weights
from .autoencoder import begin_autoencoder, load_autoencoder, train_autoencoder
from .data import load_clips
from .denoiser import load_transformer, new_transformer, train_denoiser
from .latents import load_latents
from .parallel import first_alone, join
from .state import begin_with

STAGES = ("scenes", "autoencoder", "latents", "denoiser", "export")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    work, device = options.work, options.device
    codec, denoiser = work / "autoencoder.safetensors", work / "denoiser.safetensors"
    stages = STAGES[STAGES.index(options.first) : STAGES.index(options.last) + 1]
    clips = None
    with first_alone():
        if options.bundled:
            begin_with(codec, load_file(WEIGHTS / "vae.safetensors"))
            begin_with(denoiser, load_file(WEIGHTS / "transformer.safetensors"))
        if stages[0] != "export":
            clips = load_clips(work / "scenes", options.scenes, options.workers, _say)
            begin_autoencoder(clips, codec, options.seed)
    if "autoencoder" in stages:
        train_autoencoder(clips, codec, options.autoencoder_steps, options.seed, device=device, say=_say)
    if "latents" in stages or "denoiser" in stages:
        vae = load_autoencoder(codec).to(device)
        with first_alone():
            latents = load_latents(copy.deepcopy(vae).bfloat16(), clips, work / "latents.npz", _say)
        if "denoiser" in stages:
            del clips
            model = replace(build(0), vae=vae, transformer=new_transformer(options.seed))
            train_denoiser(model.to(device), latents, denoiser, options.denoiser_steps, options.seed, _say)
    if "export" in stages and join() == 0:
        write_weights(options.out, load_autoencoder(codec), load_transformer(denoiser))
        _say(f"weights are in {options.out}")


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aether.miniature.train", description=__doc__.split("\n\n")[0].split(": ")[1]
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, latents and checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder the weights go to at the end")
    parser.add_argument("--scenes", type=int, default=1240, help="training clips")
    parser.add_argument("--autoencoder-steps", type=int, default=4000, help="in all, earlier ones included")
    parser.add_argument("--denoiser-steps", type=int, default=6000, help="in all, earlier ones included")
    parser.add_argument(
        "--bundled", action="store_true", help="begin with the bundled weights where there is no checkpoint"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that render scenes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--first", choices=STAGES, default=STAGES[0], help="stage to begin with")
    parser.add_argument("--last", choices=STAGES, default=STAGES[-1], help="stage to end with")
    return parser


if __name__ == "__main__":
    main()
