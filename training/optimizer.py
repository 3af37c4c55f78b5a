"""One optimizer for both trainings: Muon for matrices and convolutions, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class MuonAdamW:
    """Muon (a convolution's kernel as a matrix, outputs x the rest) beside AdamW.

    Muon makes every update orthogonal and needs about half of AdamW's steps here. It is for hidden layers:
    first and last ones, biases and norms get AdamW.

    Args:
        hidden: parameters for Muon; of two dimensions or more.
        rest: parameters for AdamW.
        learning_rate: of both; Muon's updates are scaled to the size of AdamW's.

    Raises:
        ImportError: torch is older than 2.9, which brought Muon.
    """

    def __init__(
        self, hidden: Iterable[torch.nn.Parameter], rest: Iterable[torch.nn.Parameter], learning_rate: float
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ImportError(f"training needs torch 2.9 or newer, for its Muon; this is {torch.__version__}")
        self._hidden = list(hidden)
        # Views: what Muon writes to them is written to the parameters.
        self._matrices = [torch.nn.Parameter(value.data.flatten(1)) for value in self._hidden]
        muon = torch.optim.Muon(
            self._matrices, lr=learning_rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.parts = [muon, adamw]
        self._learning_rate = learning_rate

    def step(self, rate: float) -> None:
        """Update, with the learning rate times `rate`, and forget the gradients."""
        for matrix, parameter in zip(self._matrices, self._hidden, strict=True):
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
            parameter.grad = None
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self._learning_rate * rate
            part.step()
            part.zero_grad(set_to_none=True)
