"""The optimiser of fine-tuning: AdamW over the weights that are trained, each at its own peak rate."""

from __future__ import annotations

from typing import Any

import torch

from wellread.finetune.stability.correction import uncorrected
from wellread.finetune.stability.decay import peak_rates
from wellread.settings import FinetuneSettings

BETAS = (0.9, 0.999)


def optimizer(model: Any, settings: FinetuneSettings) -> torch.optim.AdamW:
    """Fused AdamW over :func:`parameter_groups`."""
    groups = parameter_groups(model, settings)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=settings.eps, fused=True)


def parameter_groups(model: Any, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """Groups of the parameters that are trained, for an optimiser.

    Weight decay holds for matrices only, not for biases and norms.  Each group carries its own ``peak`` rate
    and its ``decay`` of weights, from which :func:`set_rates` works out a step's.
    """
    peaks = peak_rates(model, settings.learning_rate, settings.layer_decay)
    groups: dict[tuple[bool, float], list[Any]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault((weight.ndim >= 2, peaks[name]), []).append(weight)
    found = []
    for (matrix, peak), weights in groups.items():
        decay = settings.weight_decay if matrix else 0.0
        found.append({"params": weights, "peak": peak, "weight_decay": decay, "decay": decay})
    return found


def set_rates(optimiser: torch.optim.Optimizer, settings: FinetuneSettings, step: int, factor: float) -> None:
    """Set what the groups need for a step.

    Args:
        optimiser: from :func:`optimizer`.
        settings: of the run.
        step: which step, from 0.
        factor: of the schedule, on the peak rates.
    """
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
        if not settings.bias_correction:
            group.update(uncorrected(step + 1, group["lr"], settings.eps, group["decay"], BETAS))
