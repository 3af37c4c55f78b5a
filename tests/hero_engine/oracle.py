"""The paper's own HERO, block by block, as the oracle for the residual form (test code only).

Every block caches its attention output and its feed-forward output, both before their gates, for all tokens:
shallow blocks recompute them for the selected tokens and reuse the rest, deep blocks extrapolate them
linearly; gates and norms follow the current timestep.
"""

from __future__ import annotations

import contextlib

import torch

from hero_engine import HeroConfig
from hero_engine.hero.token_sampling import PatchSampler
from hero_engine.models.families import adapter_for


class _Feature:
    """One cached output of a module: (batch, text + video tokens, width), and its slope."""

    def __init__(self):
        self.value = self.slope = None
        self.time = 0.0

    def observe(self, value, time):
        if self.value is not None:
            self.slope = (value - self.value) / (time - self.time)
        self.value, self.time = value.clone(), time

    def forecast(self, time):
        return self.value if self.slope is None else self.value + self.slope * (time - self.time)


class PerBlockHero:
    """Runs a CogVideoX transformer's blocks as in the paper. Use as a context manager."""

    def __init__(self, transformer, config: HeroConfig, steps: int | None = None):
        self.adapter = adapter_for(transformer)
        self.counts = config.resolve(len(self.adapter.blocks), steps)
        self.config = config
        self.schedule = config.schedule(self.counts)
        self.sampler = None
        self.features = [(_Feature(), _Feature()) for _ in self.adapter.blocks]

    def __enter__(self):
        self._undo = contextlib.ExitStack()
        model = self.adapter.model
        original = model.forward

        def forward(*args, **kwargs):
            call = self.adapter.read_call(args, kwargs)
            if self.sampler is None:
                self.sampler = PatchSampler(
                    call.shape.grid, self.config.patch, self.counts.tokens_per_patch, self.config.seed
                )
            self.time = call.timestep
            self.full = self.schedule.next().full
            if self.full:
                self.sampler.reset()
            else:
                self.index = self.sampler.draw()[0]
            return original(*args, **kwargs)

        model.forward = forward
        self._undo.callback(delattr, model, "forward")
        for number, block in enumerate(self.adapter.blocks):
            block.forward = self._block_forward(number, block)
            self._undo.callback(delattr, block, "forward")
        return self

    def __exit__(self, *_):
        self._undo.close()

    def _block_forward(self, number, block):
        def forward(hidden_states, encoder_hidden_states, temb, image_rotary_emb=None, attention_kwargs=None):
            video, text = hidden_states, encoder_hidden_states
            attention, feed_forward = self.features[number]

            def attend(video_in, text_in, index):
                rotary = image_rotary_emb
                if index is not None:
                    video_in, rotary = video_in[:, index], tuple(table[index] for table in rotary)
                    if self.config.text == "omit":
                        text_in = text_in[:, :0]
                out, text_out = block.attn1(
                    hidden_states=video_in, encoder_hidden_states=text_in, image_rotary_emb=rotary
                )
                return torch.cat([text_out, out], 1)

            def feed(video_in, text_in, index):
                if index is not None:
                    video_in = video_in[:, index]
                    if self.config.text == "omit":
                        text_in = text_in[:, :0]
                return block.ff(torch.cat([text_in, video_in], 1))

            for feature, norm, compute in (
                (attention, block.norm1, attend),
                (feed_forward, block.norm2, feed),
            ):
                video_in, text_in, gate, text_gate = norm(video, text, temb)
                value = self._feature(number, feature, compute, video_in, text_in)
                length = text.shape[1]
                video = video + gate * value[:, length:]
                text = text + text_gate * value[:, :length]
            return video, text

        return forward

    def _feature(self, number, feature, compute, video_in, text_in):
        if self.full:
            feature.observe(compute(video_in, text_in, None), self.time)
            return feature.value
        if number >= self.counts.tau:
            return feature.forecast(self.time)
        length = text_in.shape[1]
        kept = torch.arange(length if self.config.text == "refresh" else 0)
        rows = torch.cat([kept, self.index + length])
        feature.value[:, rows] = compute(video_in, text_in, self.index)
        return feature.value
