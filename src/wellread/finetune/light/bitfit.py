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
    for module in model.base_model.modules():
        _give_bias(module, model.config)
    for name, weight in model.base_model.named_parameters():
        if name.endswith("bias"):
            weight.requires_grad_(True)


def _give_bias(module: nn.Module, config: Any) -> None:
    if config.model_type not in SWITCHES or getattr(module, "bias", 0) is not None:
        return
    if isinstance(module, nn.LayerNorm | nn.Linear):
        weight: Any = module.weight
        module.bias = nn.Parameter(torch.zeros(weight.shape[0]))
