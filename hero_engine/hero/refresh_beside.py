"""HERO's refresh beside a full step: what selected tokens alone make of the blocks, while all tokens run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.adapter import BlockCall, Forward, ModelAdapter


class RefreshBeside:
    """The selected tokens of one forward, block after block.

    Args:
        adapter: of the model.
        drawn: (selected,) tokens of the stream, as ``PatchSampler.draw`` gives them.
        with_text: whether the prompt's tokens run along.

    Attributes:
        tokens: the selected ones, in the order in which they run.
        video: (batch, selected, width) the selected tokens, as they leave the latest block.
    """

    _call: BlockCall

    def __init__(self, adapter: ModelAdapter, drawn: Tensor, with_text: bool):
        self.tokens = drawn.sort().values if adapter.in_order else drawn
        self._adapter = adapter
        self._with_text = with_text

    @property
    def video(self) -> Tensor:
        return self._call.video

    def begin(self, call: BlockCall) -> None:
        """The tokens that enter the first block."""
        with torch.no_grad():
            self._call = self._adapter.select(call, self.tokens, self._with_text)

    def run(self, number: int, forward: Forward, call: BlockCall) -> None:
        """Block `number`, which all tokens enter with `call`."""
        with torch.no_grad():
            if number:
                self._enter(call)
            video, text = self._adapter.call_block(forward, self._call)
            self._call = replace(self._call, video=video, text=text)

    def _enter(self, call: BlockCall) -> None:
        """The next block, with what has left the one before."""
        positions = self._call.positions
        if call.kind != self._call.kind:
            positions = self._adapter.gather(call, self.tokens, self._with_text)
        self._call = replace(call, video=self._call.video, text=self._call.text, positions=positions)
