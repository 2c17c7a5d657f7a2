"""Gated residual networks as final layers (Lim et al., arXiv 1912.09363, as adapters in 2407.19299)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wellread.finetune.light.sites import attach
from wellread.settings import LightSettings


class GatedResidual(nn.Module):
    """LayerNorm(a + sigmoid(W4 v + b4) * (W5 v + b5)), v = W1 u + b1, u = ELU(W2 a + b2)."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.w2 = nn.Linear(hidden, inner)
        self.w1 = nn.Linear(inner, inner)
        self.w4 = nn.Linear(inner, hidden)
        self.w5 = nn.Linear(inner, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        inner = self.w1(nn.functional.elu(self.w2(hidden)))
        return self.norm(hidden + torch.sigmoid(self.w4(inner)) * self.w5(inner))


def equip(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """``settings.blocks`` of them, one after another, between the last hidden states and the head.

    They are not the identity at the start: the norm alone changes the hidden states.  The body has nothing
    to learn, so no gradient goes through it.

    Returns:
        The blocks: 3 * d * bottleneck + bottleneck ** 2 + 2 * bottleneck + 4 * d parameters each.
    """
    hidden = model.config.hidden_size
    blocks = nn.Sequential(*(GatedResidual(hidden, settings.bottleneck) for _ in range(settings.blocks)))
    attach(model.base_model, blocks, _on_top)
    return blocks


def _on_top(blocks: nn.Module, _body: nn.Module, _inputs: Any, output: Any) -> Any:
    output.last_hidden_state = blocks(output.last_hidden_state)
    return output
