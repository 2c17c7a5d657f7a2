"""An exponential moving average of the weights beside pre-training: validated and saved in their place.

Training goes on with its own weights.  The mean itself is that of fine-tuning, in
finetune/stability/averaging.py; here is what pre-training adds: it survives an interruption, and follows
sparse weights that move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wellread.errors import RecipeError
from wellread.finetune.stability import averaging
from wellread.finetune.stability.averaging import Average


def begin(model: Any, decay: float) -> Average | None:
    """An average without points, or None for a decay of 0."""
    kind = "ema" if decay else "none"
    return averaging.begin(model, kind, 0, ema_decay=decay, swa_last=1.0)  # type: ignore[arg-type]


def check(decay: float, steps: int) -> None:
    """Refuse an average that reaches back over more steps than there are.

    Raises:
        RecipeError: 1 / (1 - decay), the mean age of what it holds, is more than ``steps``.
    """
    reach = 1 / (1 - decay)
    if decay and steps and reach > steps + 0.5:
        raise RecipeError(
            f"the average would reach back over {reach:,.0f} steps, and the run has {steps:,}: it would be "
            "the mean of everything since the start",
            where="pretrain.ema_decay",
            fix=f"lower it to {max(0.0, 1 - 10 / steps):.4g} (a tenth of the run) or less, or leave it out",
        )


def with_means(
    average: Average | None, moments: Callable[[nn.Parameter], list[Tensor]]
) -> Callable[[nn.Parameter], Iterable[Tensor]]:
    """What goes along when sparse weights move: the optimiser's moments and the mean of a parameter.

    A weight that dies so leaves the mean at once, and one that comes to life begins at zero there as well:
    the averaged model is as sparse as the newest.
    """
    if average is None or not average.means:
        return moments
    means = {id(weight): mean for weight, mean in zip(average.weights, average.means, strict=True)}
    return lambda parameter: [*moments(parameter), means[id(parameter)]]


def state(average: Average | None, model: nn.Module) -> dict[str, Tensor]:
    """The means for a checkpoint, by the names of their parameters."""
    if average is None or not average.means:  # before the first step there are none
        return {}
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return {f"ema.{name}": mean for name, mean in zip(names, average.means, strict=True)}


def load(average: Average | None, model: nn.Module, tensors: Mapping[str, Tensor], points: int) -> None:
    """Take over what :func:`state` gave after ``points`` steps; values are copied, as the optimiser's are."""
    if average is None or not points:
        return
    average.points = points
    average.means = [
        torch.empty_like(weight).copy_(tensors[f"ema.{name}"])
        for name, weight in model.named_parameters()
        if weight.requires_grad
    ]
