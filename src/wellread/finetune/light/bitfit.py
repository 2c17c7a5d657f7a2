"""BitFit: only the biases are trained (Ben Zaken et al., arXiv 2106.10199)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from wellread.settings import LightSettings

# Layouts that have no biases but whose stock configuration can switch them on.
SWITCHES = {
    "modernbert": ("attention_bias", "mlp_bias", "norm_bias"),
    "llama": ("attention_bias", "mlp_bias"),
}


def equip(model: Any, _settings: LightSettings, _dropout: float) -> None:
    """Let the biases of the body be trained.

    ModernBERT and Llama models have none: they get biases of zero, which change nothing, and their
    configuration says so, so that the result is a stock checkpoint of the same layout.
    """
    for switch in SWITCHES.get(model.config.model_type, ()):
        setattr(model.config, switch, True)
    body = set(model.base_model.modules())
    for module in model.modules():
        # The switches turn on the biases of all norms, the head's too, but of the body's projections only.
        if isinstance(module, nn.LayerNorm) or (isinstance(module, nn.Linear) and module in body):
            _give_bias(module, model.config.model_type)
    for name, weight in model.base_model.named_parameters():
        if name.endswith("bias"):
            weight.requires_grad_(True)


def _give_bias(module: nn.LayerNorm | nn.Linear, layout: str) -> None:
    if layout in SWITCHES and module.bias is None:
        module.bias = nn.Parameter(torch.zeros(module.weight.shape[0]))
