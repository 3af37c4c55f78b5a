"""Training of the miniature's transformer: v-prediction on all three tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb

from aether.defaults import BASE_FPS
from aether.geometry import raymap as raymaps
from aether.miniature.model import TRANSFORMER
from aether.model.parts import AetherModel
from aether.model.rotary import rotary_embeddings

from .latents import STILLS, LatentClips
from .optimizer import MuonAdamW
from .parallel import average_gradients, join
from .state import Average, averaged, rate, restore, save

LEARNING_RATE = 1.5e-3
BATCH = 8
"""Clips in a step, of each process."""
SHORT_SHARE, SHORT, LONG = 0.5, 9, 17
"""The first share of the steps sees the clips' first 9 frames only, at half the cost: most of what is to be
learned shows in them."""
ROLLOUTS = 6
"""Clips of a batch that are reconstructed step by step as in sampling: see :class:`Rollout`."""
LONGEST_STRIDE = 400
"""Timesteps between two steps of a rollout, at most: it has about six."""
TASKS = ("prediction", "planning")
"""Of the other clips, one as often as the other."""
NO_PICTURES, NO_CAMERA = 0.1, 0.3
"""Shares of predictions and plans that are trained without their pictures (guidance's other branch), and
without a camera path."""
LAST = 999
LATE_SHARE, LATE, LAST_SHARE = 0.25, 500, 0.05
"""Shares of the samples with timesteps from LATE on, where little but the condition is to be seen, and at the
last one, where nothing else is."""
STREAM_WEIGHTS = (0.5, 4.0, 1.5)
"""Of the error of RGB, disparity and raymap: how well a model reconstructs is judged by the latter two, and
depth is the hardest to learn."""
SAVE_EVERY = 100


def new_transformer(seed: int) -> CogVideoXTransformer3DModel:
    """Weights to begin from: blocks that pass their input on, an output of zero."""
    torch.manual_seed(seed)
    transformer = CogVideoXTransformer3DModel(**TRANSFORMER)
    with torch.no_grad():
        for block in transformer.transformer_blocks:
            for linear in (block.norm1.linear, block.norm2.linear):
                linear.weight.zero_()
                linear.bias.zero_()
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    return transformer


def train_denoiser(
    model: AetherModel,
    clips: LatentClips,
    file: Path,
    steps: int,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train `model.transformer` (float32, in place) up to `steps` in all, going on from `file`, if any."""
    rank = join()
    transformer = model.transformer.requires_grad_(True)
    average = Average(transformer)
    optimizer = _optimizer(transformer)
    begin, started = restore(file, transformer, average, optimizer.parts), time.monotonic()
    worker = _worker(model)
    losses: list[np.ndarray] = []
    rollouts: list[Rollout] = []
    for step in range(begin, steps):
        frames = SHORT if step < SHORT_SHARE * steps else LONG
        if step % SAVE_EVERY == 0 or step == int(np.ceil(SHORT_SHARE * steps)):
            # A checkpoint holds none, so that going on from one is as never having stopped.
            rollouts = []
        errors, rollouts = _step(model, worker, clips, rollouts, frames, [seed, step, rank])
        losses.append(errors)
        _update(transformer, worker, optimizer, rate(step, steps))
        average.add(transformer, step)
        if rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
            rgb, disparity, raymap = np.mean(losses, axis=0)
            losses.clear()
            say(
                f"denoiser {step + 1}/{steps}: rgb {rgb:.4f}, disparity {disparity:.4f}, raymap {raymap:.4f},"
                f" {time.monotonic() - started:.0f} s"
            )
            save(file, step + 1, transformer, average, optimizer.parts)


def _optimizer(transformer: CogVideoXTransformer3DModel) -> MuonAdamW:
    """Matrices of the blocks by Muon, everything else by AdamW."""
    hidden = [value for value in transformer.transformer_blocks.parameters() if value.ndim == 2]
    chosen = {id(value) for value in hidden}
    rest = [value for value in transformer.parameters() if id(value) not in chosen]
    return MuonAdamW(hidden, rest, LEARNING_RATE)


def _update(
    transformer: CogVideoXTransformer3DModel,
    worker: CogVideoXTransformer3DModel,
    optimizer: MuonAdamW,
    share: float,
) -> None:
    """A step of the float32 weights by the worker's gradients, and the worker's weights after it."""
    pairs = list(zip(transformer.parameters(), worker.parameters(), strict=True))
    for parameter, copy in pairs:
        parameter.grad = None if copy.grad is None else copy.grad.float()
        copy.grad = None
    average_gradients(transformer.parameters())
    torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
    optimizer.step(share)
    with torch.no_grad():
        for parameter, copy in pairs:
            copy.copy_(parameter)


def _worker(model: AetherModel) -> CogVideoXTransformer3DModel:
    """A bfloat16 copy that does the passes, blocks compiled. The float32 weights stay the model's."""
    transformer = model.transformer
    worker = CogVideoXTransformer3DModel(**transformer.config).to(transformer.device, torch.bfloat16)
    worker.load_state_dict(transformer.state_dict())
    if transformer.device.type == "cpu":
        worker.set_attn_processor(_ExplicitAttention())
    for block in worker.transformer_blocks:
        block.compile(dynamic=False)
    return worker.train()


class _ExplicitAttention:
    """Attention by plain products. On CPUs the fused one is slow backwards; compiled, these take half."""

    def __call__(self, attn, hidden_states, encoder_hidden_states, image_rotary_emb=None, **_) -> tuple:
        text = encoder_hidden_states.shape[1]
        joined = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            project(joined).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = (
            torch.cat([part[:, :, :text], apply_rotary_emb(part[:, :, text:], image_rotary_emb)], dim=2)
            for part in (attn.norm_q(query), attn.norm_k(key))
        )
        weights = torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2), dim=-1)
        out = attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        return out[:, text:], out[:, :text]


@dataclass(frozen=True)
class Rollout:
    """A clip on its way through sampling: a step of training is given what the model made of it in the step
    before, with less noise. Trained on noisy truths alone, it would keep to its own early mistakes; so it
    learns to mend them from the video.

    start: the latent (T, 56, h, w) that noise is put on, the model's last answer. noise: the one it saw in
    the last step, as the deterministic sampler keeps it, or None for a new one, as the stochastic one draws.
    """

    clip: int
    timestep: int
    start: torch.Tensor
    noise: torch.Tensor | None

    def next(self, answer: torch.Tensor, noise: torch.Tensor, rng: np.random.Generator) -> Rollout | None:
        """With the model's answer and the noise it implies; None at the end."""
        timestep = self.timestep - int(rng.integers(1, LONGEST_STRIDE + 1))
        if timestep < 0:
            return None
        return Rollout(self.clip, timestep, answer, noise if rng.random() < 0.5 else None)


def _step(
    model: AetherModel,
    worker: CogVideoXTransformer3DModel,
    clips: LatentClips,
    rollouts: list[Rollout],
    frames: int,
    seed: list[int],
) -> tuple[np.ndarray, list[Rollout]]:
    """Forward and backward of one batch: each stream's mean squared error, and the rollouts that go on."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    rollouts = rollouts + [
        Rollout(int(clip), LAST, target(model, clips, clip, frames), None)
        for clip in rng.integers(len(clips), size=ROLLOUTS - len(rollouts))
    ]
    others = rng.integers(len(clips), size=BATCH - ROLLOUTS)
    chosen = [*(rollout.clip for rollout in rollouts), *others]
    clean = torch.stack([target(model, clips, clip, frames) for clip in chosen])
    tasks = ["reconstruction"] * ROLLOUTS + [str(task) for task in rng.choice(TASKS, size=len(others))]
    condition = torch.stack(
        [
            random_condition(model, clips, clip, frames, task, rng)
            for clip, task in zip(chosen, tasks, strict=True)
        ]
    )
    timesteps = torch.tensor([*(rollout.timestep for rollout in rollouts), *_timesteps(rng)])
    start, noise = clean.clone(), torch.randn(clean.shape, generator=generator)
    for row, rollout in enumerate(rollouts):
        start[row] = rollout.start
        noise[row] = noise[row] if rollout.noise is None else rollout.noise
    noisy = model.scheduler.add_noise(start, noise, timesteps)
    signal, strength = _levels(model, timesteps)
    velocity = _velocity(model, worker, noisy, condition, timesteps)
    errors = _errors(model, velocity, (signal * noisy - clean) / strength, strength)
    (errors * torch.tensor(STREAM_WEIGHTS, device=errors.device)).sum().backward()
    velocity = velocity.detach().cpu()
    answers, implied = signal * noisy - strength * velocity, strength * noisy + signal * velocity
    later = (rollout.next(answers[row], implied[row], rng) for row, rollout in enumerate(rollouts))
    return errors.detach().cpu().numpy(), [rollout for rollout in later if rollout is not None]


def _errors(
    model: AetherModel, velocity: torch.Tensor, wanted: torch.Tensor, strength: torch.Tensor
) -> torch.Tensor:
    """(3,): the mean squared error of each stream. Rollouts' count as errors of the clean latent: with little
    noise, no velocity would lead from a mistake back to the truth."""
    squared = (velocity - wanted.to(velocity.device)).square()
    squared[:ROLLOUTS] *= strength[:ROLLOUTS].to(velocity.device) ** 2
    return torch.stack([part.mean() for part in squared.split(model.spec.stream_channels, dim=2)])


def _levels(model: AetherModel, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the clean latent and of the noise in a noisy latent, (B, 1, 1, 1, 1) each."""
    kept = model.scheduler.alphas_cumprod[timesteps][:, None, None, None, None].float()
    return kept.sqrt(), (1 - kept).sqrt()


def _velocity(
    model: AetherModel,
    worker: CogVideoXTransformer3DModel,
    noisy: torch.Tensor,
    condition: torch.Tensor,
    timesteps: torch.Tensor,
) -> torch.Tensor:
    device, dtype = worker.device, worker.dtype
    batch, time, _, height, width = noisy.shape
    output = worker(
        torch.cat([noisy, condition], dim=2).to(device, dtype),
        model.prompt_embeds.to(device, dtype).expand(batch, -1, -1),
        timesteps.to(device),
        image_rotary_emb=rotary_embeddings(model.spec, time, height, width, BASE_FPS, model.device),
    ).sample
    return output.float()


def _timesteps(rng: np.random.Generator) -> np.ndarray:
    """Of the clips that are no rollouts."""
    size = BATCH - ROLLOUTS
    drawn, kind = rng.integers(0, 1000, size), rng.random(size)
    drawn = np.where(kind < LATE_SHARE, rng.integers(LATE, 1000, size), drawn)
    return np.where(kind > 1 - LAST_SHARE, LAST, drawn)


def target(model: AetherModel, clips: LatentClips, clip: int, frames: int) -> torch.Tensor:
    """The unified latent (T, 56, h, w) of a clip's first frames."""
    time = model.spec.latent_frames(frames)
    pictures = np.concatenate([clips.rgb[clip, :time], clips.disparity[clip, :time]], axis=1)
    packed = raymaps.pack(clips.raymap[clip, :frames].astype(np.float32))
    scaled = pictures.astype(np.float32) * model.vae.config.scaling_factor
    return torch.from_numpy(np.concatenate([scaled, packed], axis=1))


def random_condition(
    model: AetherModel,
    clips: LatentClips,
    clip: int,
    frames: int,
    task: str,
    rng: np.random.Generator,
) -> torch.Tensor:
    """(T, 40, h, w): the condition of a task as :func:`aether.generation.tasks.condition` makes it, at times
    without its pictures or its camera path."""
    time = model.spec.latent_frames(frames)
    rgb = np.zeros((time, *clips.rgb.shape[2:]), np.float32)
    packed = raymaps.pack(clips.raymap[clip, :frames].astype(np.float32))
    if task == "reconstruction":
        rgb[:] = clips.rgb[clip, :time]
    elif rng.random() >= NO_PICTURES:
        rgb[0] = clips.stills[clip, 0]
        if task == "planning":
            rgb[-1] = clips.stills[clip, STILLS.index(frames - 1)]
    if task == "reconstruction" or rng.random() < NO_CAMERA:
        packed = np.zeros_like(packed)
    return torch.from_numpy(np.concatenate([rgb / model.vae.config.scaling_factor, packed], axis=1))


def load_transformer(file: Path) -> CogVideoXTransformer3DModel:
    """The transformer of a checkpoint, with averaged weights."""
    transformer = CogVideoXTransformer3DModel(**TRANSFORMER)
    transformer.load_state_dict(averaged(file))
    return transformer.eval().requires_grad_(False)
