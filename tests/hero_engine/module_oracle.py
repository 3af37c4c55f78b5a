"""The compared methods written out naively, as oracles for the engine's (test code only).

Blocks are run line by line, every value that a module gave on a full step is kept, and schedules are given as
the set of full steps.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch


class PerModule:
    """FORA, TaylorSeer, ToCa or DuCa on a CogVideoX transformer; a context manager.

    Args:
        full: numbers of the full steps.
        order: of the Taylor series.
        chooser: for ToCa: called with (block, values of text and video, cached steps so far) it gives the
            rows (text before video) whose feed-forward runs.
        aggressive: numbers of the steps that skip all blocks.
    """

    def __init__(self, model, full, order=0, chooser=None, aggressive=()):
        self.model, self.full, self.order = model, set(full), order
        self.chooser, self.aggressive = chooser, set(aggressive)
        self.history = {}
        self.values = {}
        self.stream = None
        self.step = -1

    def __enter__(self):
        self._undo = contextlib.ExitStack()
        handle = self.model.register_forward_pre_hook(self._count)
        self._undo.callback(handle.remove)
        for number, block in enumerate(self.model.transformer_blocks):
            block.forward = self._block(number, block)
            self._undo.callback(delattr, block, "forward")
        return self

    def __exit__(self, *_):
        self._undo.close()

    def _count(self, *_):
        self.step += 1

    def _block(self, number, block):
        last = number == len(self.model.transformer_blocks) - 1

        def forward(hidden_states, encoder_hidden_states, temb, image_rotary_emb=None, attention_kwargs=None):
            video, text = hidden_states, encoder_hidden_states
            if self.step in self.aggressive:
                return (self.stream if last else video), text
            for kind, norm in (("attention", block.norm1), ("feed-forward", block.norm2)):
                video_in, text_in, gate, text_gate = norm(video, text, temb)
                value = self._value(number, kind, block, video_in, text_in, image_rotary_emb)
                video = video + gate * value[:, text.shape[1] :]
                text = text + text_gate * value[:, : text.shape[1]]
            if last:
                self.stream = video
            return video, text

        return forward

    def _value(self, number, kind, block, video, text, rotary):
        joint = torch.cat([text, video], 1)
        history = self.history.setdefault((number, kind), [])
        if self.step in self.full:
            if kind == "attention":
                self.values[number] = block.attn1.to_v(joint).unflatten(-1, (block.attn1.heads, -1))
                out, text_out = block.attn1(
                    hidden_states=video, encoder_hidden_states=text, image_rotary_emb=rotary
                )
                value = torch.cat([text_out, out], 1)
            else:
                value = block.ff(joint)
            history.append((self.step, value))
            return value
        if kind == "feed-forward" and self.chooser is not None:
            rows = self.chooser(number, self.values[number], self.step)
            step, value = history[-1]
            value = value.clone()
            value[:, rows] = block.ff(joint[:, rows])
            history[-1] = (step, value)
        return taylor(history, self.step, self.order)


def taylor(history, step, order):
    """F + k F' + k^2/2 F'', each difference as it was taken at its own full step."""
    (step_2, f_2), (step_1, f_1), (step_0, f_0) = ([(None, None)] * 3 + history)[-3:]
    k = step - step_0
    value = f_0
    if order >= 1 and f_1 is not None:
        first = (f_0 - f_1) / (step_0 - step_1)
        value = value + k * first
        if order >= 2 and f_2 is not None:
            before = (f_1 - f_2) / (step_1 - step_2)
            value = value + k * k / 2 * (first - before) / (step_0 - step_1)
    return value


class NaiveToken:
    """ToCa's choice, token by token in plain Python."""

    def __init__(self, ratio, staleness, bonus, grid, text, full):
        self.ratio, self.staleness, self.bonus = ratio, staleness, bonus
        self.grid, self.text, self.full = grid, text, set(full)
        self.ages, self.since = {}, {}

    def __call__(self, block, values, step):
        last_full = max(n for n in self.full if n < step)
        if self.since.get(block) != last_full:
            self.since[block] = last_full
            self.ages[block] = [0] * values.shape[1]
        rows = []
        for begin, end in ((0, self.text), (self.text, values.shape[1])):
            scores = self._scores(values[:, begin:end])
            ages = self.ages[block][begin:end]
            scores = [score + self.staleness * age for score, age in zip(scores, ages, strict=True)]
            if begin:
                scores = self._with_bonus(scores)
            count = int(self.ratio * len(scores))
            best = sorted(range(len(scores)), key=lambda n: -scores[n])[:count]
            for n in range(len(scores)):
                self.ages[block][begin + n] = 0 if n in best else ages[n] + 1
            rows += [begin + n for n in best]
        return rows

    @staticmethod
    def _scores(values):
        per_sample = []
        for sample in values:
            raw = [sum(1 - float(head.norm()) for head in token) for token in sample]
            size = sum(x * x for x in raw) ** 0.5
            per_sample.append([x / size for x in raw])
        return [sum(column) / len(per_sample) for column in zip(*per_sample, strict=True)]

    def _with_bonus(self, scores):
        frames, rows, columns = self.grid
        result = list(scores)
        for frame in range(frames):
            for top in range(0, rows, 2):
                for left in range(0, columns, 2):
                    members = [
                        (frame * rows + row) * columns + column
                        for row in range(top, min(top + 2, rows))
                        for column in range(left, min(left + 2, columns))
                    ]
                    best = max(members, key=lambda n: scores[n])
                    result[best] += self.bonus * abs(scores[best])
        return result


class NaiveWorldCache:
    """WorldCache around a model's forward, one latent position at a time in numpy; a context manager."""

    def __init__(self, model, steps, interval, warmup, threshold, stable, chaotic, streams):
        self.model, self.steps, self.interval, self.warmup = model, steps, interval, warmup
        self.threshold, self.stable, self.chaotic, self.streams = threshold, stable, chaotic, streams
        self.outputs = []
        self.error = 0.0
        self.step = -1
        self.kinds = []

    def __enter__(self):
        original = self.model.forward
        self.model.forward = lambda *args, **kwargs: self._forward(original, args, kwargs)
        return self

    def __exit__(self, *_):
        del self.model.forward

    def _forward(self, original, args, kwargs):
        self.step += 1
        since = self.step - self.outputs[-1][0] if self.outputs else 0
        full = (
            self.step < self.warmup
            or self.step == self.steps - 1
            or since > self.interval - 1
            or self.error >= self.threshold
        )
        self.kinds.append(full)
        if not full:
            return (self._predict(since),)
        result = original(*args, **kwargs)
        self.outputs.append((self.step, result[0].numpy().copy()))
        self.error = 0.0
        return result

    def _predict(self, k):
        (t2, f2), (t1, f1), (t0, f0) = self.outputs[-3:]
        slope, before = (f0 - f1) / (t0 - t1), (f1 - f2) / (t1 - t2)
        change = (slope - before) / (t0 - t1)
        bounds = np.cumsum([0, *self.streams])
        places = [
            (b, f, slice(bounds[s], bounds[s + 1]), y, x)
            for b in range(f0.shape[0])
            for f in range(f0.shape[1])
            for s in range(len(self.streams))
            for y in range(f0.shape[3])
            for x in range(f0.shape[4])
        ]
        bent = [np.linalg.norm(change[p]) / (np.linalg.norm(slope[p]) ** 2 + 1e-8) for p in places]
        low, high = np.quantile(bent, self.stable), np.quantile(bent, 1 - self.chaotic)

        def damped(p, steps):
            x = min(steps / (self.interval - 1), 1)
            weight = 3 * x**2 - 2 * x**3
            return steps * ((1 - weight) * slope[p] + weight * before[p])

        prediction, errors = f0.copy(), []
        for place, bend in zip(places, bent, strict=True):
            if bend >= high:
                prediction[place] += damped(place, k)
                errors.append(bend * np.linalg.norm(damped(place, k) - damped(place, k - 1)))
            elif bend >= low:
                prediction[place] += k * slope[place]
        self.error += sum(errors) / len(places)
        return torch.from_numpy(prediction)
