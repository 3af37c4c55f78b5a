"""`python -m training`: from nothing to the bundled weights.

Stages: scenes (rendered once), autoencoder, latents (encoded once), denoiser, reconstructions (of scenes of
their own, sampled once), decoder, export. Each goes on from what is in the work folder. With
`torchrun --nproc-per-node N -m training` N processes share it.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file

from aether.miniature.model import WEIGHTS, build, write_weights
from aether.model.parts import AetherModel

from .autoencoder import begin_autoencoder, load_autoencoder, train_autoencoder
from .data import Clips, load_clips
from .decoder import FIRST_SCENE, train_decoder
from .denoiser import load_transformer, new_transformer, train_denoiser
from .latents import LatentClips, load_latents
from .parallel import first_alone, join, own_device
from .reconstructions import load_reconstructions
from .state import begin_with

STAGES = ("scenes", "autoencoder", "latents", "denoiser", "reconstructions", "decoder", "export")
CODEC, DENOISER, DECODER = "autoencoder.safetensors", "denoiser.safetensors", "decoder.safetensors"
_say = partial(print, flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    options.device = own_device(options.device)
    work = options.work
    stages = STAGES[STAGES.index(options.first) : STAGES.index(options.last) + 1]
    if options.bundled:
        with first_alone():
            begin_with(work / CODEC, load_file(WEIGHTS / "vae.safetensors"))
            begin_with(work / DENOISER, load_file(WEIGHTS / "transformer.safetensors"))
    if not {"scenes", "autoencoder", "latents", "denoiser"}.isdisjoint(stages):
        _train_on_truth(options, stages)
    if not {"reconstructions", "decoder"}.isdisjoint(stages):
        _train_on_reconstructions(options, stages)
    if "export" in stages and join() == 0:
        write_weights(options.out, load_autoencoder(work / DECODER), load_transformer(work / DENOISER))
        _say(f"weights are in {options.out}")


def _train_on_truth(options: argparse.Namespace, stages: tuple[str, ...]) -> None:
    """The stages up to the denoiser."""
    work, device, seed = options.work, options.device, options.seed
    with first_alone():
        clips = load_clips(work / "scenes", options.scenes, options.workers, _say)
        begin_autoencoder(clips, work / CODEC, seed)
    if "autoencoder" in stages:
        train_autoencoder(clips, work / CODEC, options.autoencoder_steps, seed, device=device, say=_say)
    if "latents" in stages or "denoiser" in stages:
        latents = _latents(options, clips, "latents.npz")
        if "denoiser" in stages:
            del clips
            model = _model(options, new_transformer(seed))
            train_denoiser(model, latents, work / DENOISER, options.denoiser_steps, seed, _say)


def _train_on_reconstructions(options: argparse.Namespace, stages: tuple[str, ...]) -> None:
    """The stages between the denoiser and the export."""
    work, seed = options.work, options.seed
    with first_alone():
        clips = load_clips(work / "scenes", options.decoder_scenes, options.workers, _say, FIRST_SCENE)
    latents = _latents(options, clips, "decoder-latents.npz")
    model = _model(options, load_transformer(work / DENOISER))
    made = load_reconstructions(model, latents, work / "reconstructions", seed, _say)
    if "decoder" in stages:
        with first_alone():
            begin_with(work / DECODER, model.vae.state_dict())
        steps = options.decoder_steps
        train_decoder(made, latents, clips, work / DECODER, steps, seed, device=options.device, say=_say)


def _latents(options: argparse.Namespace, clips: Clips, name: str) -> LatentClips:
    vae = load_autoencoder(options.work / CODEC).to(options.device)
    with first_alone():
        return load_latents(vae.bfloat16(), clips, options.work / name, _say)


def _model(options: argparse.Namespace, transformer: CogVideoXTransformer3DModel) -> AetherModel:
    vae = load_autoencoder(options.work / CODEC)
    return replace(build(0), vae=vae, transformer=transformer).to(options.device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__.split("\n\n")[0].split(": ")[1]
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, latents and checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder the weights go to at the end")
    parser.add_argument("--scenes", type=int, default=1240, help="training clips")
    parser.add_argument("--autoencoder-steps", type=int, default=4000, help="in all, earlier ones included")
    parser.add_argument("--denoiser-steps", type=int, default=6000, help="in all, earlier ones included")
    parser.add_argument(
        "--decoder-scenes", type=int, default=400, help="whose reconstructions the decoder learns from"
    )
    parser.add_argument("--decoder-steps", type=int, default=1000, help="in all, earlier ones included")
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
