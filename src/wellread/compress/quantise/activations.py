"""The inputs of quantised matrices in 8 bits, each at the levels of one range.

The range is the smallest and largest value of some calibration texts; while a model is trained further it
follows the batches as an exponential mean (factor 0.99, as in Q-BERT's code).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wellread.compress.quantise import uniform

BITS, DECAY = 8, 0.99


class InputRange(nn.Module):
    """The range of one layer's inputs.

    ``low`` and ``high`` are parameters that no gradient reaches, so that whoever keeps the best moment of a
    training keeps the ranges of that moment with the weights.

    Attributes:
        observing: values pass through as they are and widen the range.
    """

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.observing = False

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs, of any shape, at the levels of the range."""
        if self.observing or self.training:
            self._follow(inputs.detach())
        if self.observing:
            return inputs
        with torch.no_grad():
            rounded = uniform.round_to_range(inputs, self.low, self.high, BITS)
        return uniform.straight_through(inputs, rounded)

    @torch.no_grad()
    def _follow(self, inputs: Tensor) -> None:
        low, high = inputs.amin().clamp(max=0), inputs.amax().clamp(min=0)
        if self.observing:
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        else:
            self.low.lerp_(low.to(self.low.dtype), 1 - DECAY)
            self.high.lerp_(high.to(self.high.dtype), 1 - DECAY)


def attach(model: nn.Module, names: Iterable[str]) -> None:
    """Give some modules an ``input_range`` that their inputs go through from now on.

    Args:
        model: that holds them.
        names: of linear modules; embeddings, whose inputs are numbers of words, are passed over.
    """
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Embedding):
            module.add_module("input_range", InputRange())
            module.register_forward_pre_hook(_through)


def calibrate(model: nn.Module, run: Callable[[], Any]) -> None:
    """Set the ranges of a model in evaluation mode from the inputs that ``run`` brings."""
    found = ranges(model)
    for each in found.values():
        each.observing = True
    try:
        run()
    finally:
        for each in found.values():
            each.observing = False


def ranges(model: nn.Module) -> dict[str, InputRange]:
    """All input ranges, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, InputRange)}


def _through(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    # Bound to no module, so that a deep copy of the model goes through its own ranges.
    return module.input_range(inputs[0]), *inputs[1:]
