"""Bottleneck adapters after attention and feed-forward of every layer (Houlsby et al., arXiv 1902.00751)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from wellread.finetune.light.sites import attach, outputs, through
from wellread.settings import LightSettings

STD = 1e-2  # of the way down; the way up begins at zero


class Bottleneck(nn.Module):
    """h + W_up gelu(W_down h + b_down) + b_up, with W_up and b_up zero at the start."""

    def __init__(self, hidden: int, inner: int, *, bias: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, inner, bias=bias)
        self.up = nn.Linear(inner, hidden, bias=bias)
        nn.init.normal_(self.down.weight, std=STD)
        nn.init.zeros_(self.up.weight)
        if bias:
            nn.init.zeros_(self.down.bias)
            nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


def equip(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """An adapter of its own after each attention and each feed-forward block, before the residual sum.

    Returns:
        Two adapters a layer: 2 * d * bottleneck + d + bottleneck parameters each.
    """
    adapters = nn.ModuleList()
    for module in outputs(model, ffn=True):
        adapter = Bottleneck(model.config.hidden_size, settings.bottleneck)
        attach(module, adapter, through)
        adapters.append(adapter)
    return adapters


def equip_shared(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """The "lightweight" adapter: one bottleneck without biases, the same one in all places.

    Returns:
        One adapter: 2 * d * bottleneck parameters.
    """
    adapter = Bottleneck(model.config.hidden_size, settings.bottleneck, bias=False)
    for module in outputs(model, ffn=True):
        attach(module, adapter, through)
    return nn.ModuleList([adapter])
