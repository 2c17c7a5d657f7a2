"""LoRA: each chosen matrix W becomes W + alpha / rank * B A with a low rank (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from wellread.finetune.light.sites import attach, detach, sites
from wellread.settings import LightSettings


class LowRank(nn.Module):
    """The change of one matrix: A is (rank, d_in), random; B is (d_out, rank), zero at the start."""

    def __init__(self, inputs: int, outputs: int, settings: LightSettings, dropout: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(settings.rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, settings.rank))
        self.scale = settings.alpha / settings.rank
        self.dropout = nn.Dropout(dropout)
        self.begin, self.end = 0, outputs
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        return nn.functional.linear(nn.functional.linear(self.dropout(inputs), self.a), self.b) * self.scale


def equip(model: Any, settings: LightSettings, dropout: float) -> nn.Module:
    """Give every matrix of ``settings.targets`` a change; fused projections get one for each third wanted.

    Args:
        model: a stock model.
        settings: ``rank``, ``alpha``, ``targets``.
        dropout: of the changes' inputs.

    Returns:
        The changes: rank * (d_in + d_out) parameters for each matrix.
    """
    changes = nn.ModuleList()
    for site in sites(model, settings.targets):
        change = LowRank(site.inputs, site.end - site.begin, settings, dropout)
        change.begin, change.end = site.begin, site.end
        attach(site.module, change, _add)
        changes.append(change)
    return changes


@torch.no_grad()
def merge(model: Any, settings: LightSettings) -> None:
    """Write the changes into the stock weights and take them away; the outputs stay the same."""
    for site, change in zip(sites(model, settings.targets), model.light, strict=True):
        site.weight.add_(change.b @ change.a, alpha=change.scale)
        detach(change)
    del model.light


def _add(change: LowRank, _module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    # Not in place: of a frozen first layer the output needs no gradient and may not be written to.
    beside = (change.begin, output.shape[-1] - change.end)
    return output + nn.functional.pad(change(inputs[0]), beside)
