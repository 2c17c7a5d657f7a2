"""Binary layers: as they are trained, with real weights behind the signs, and as they are kept and run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from wellread.compress.binarise import signs
from wellread.compress.binarise.product import product


class BinaryLinear(nn.Module):
    """A linear layer of signs times signs, trained through the real weights behind them.

    y = (sign(x - threshold) B') * (scale * step) + bias, with B and scale as
    :func:`wellread.compress.binarise.signs.sign_weights` takes them from the weight.

    Attributes:
        weight: (outputs, inputs), real.
        bias: as in the layer that it replaces.
        threshold: (inputs,), learnt where ``elastic``, else zeros.
        step: scalar, learnt where ``elastic``, else one.
    """

    weight: Tensor
    bias: nn.Parameter | None
    threshold: Tensor
    step: Tensor

    def __init__(self, layer: nn.Linear, elastic: bool) -> None:
        super().__init__()
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)
        values = {"threshold": torch.zeros(layer.in_features), "step": torch.ones(())}
        for name, value in values.items():
            value = value.to(layer.weight.device)
            if elastic:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        with torch.autocast(inputs.device.type, enabled=False):  # half precision cannot count beyond 256
            step = self.step.abs()
            weights, scale = signs.sign_weights(self.weight)
            found = linear(signs.sign_inputs(inputs.float(), self.threshold, step), weights) * (scale * step)
            return found if self.bias is None else found + self.bias

    @torch.no_grad()
    def fit(self, inputs: Tensor) -> None:
        """Begin with the mean input as threshold and the mean distance from it as step."""
        rows = inputs.flatten(0, -2).float()
        self.threshold.copy_(rows.mean(0))
        self.step.copy_((rows - self.threshold).abs().mean().clamp_min(1e-6))

    @torch.no_grad()
    def packed(self, elastic: bool) -> PackedLinear:
        """The layer to keep and to run."""
        outputs, inputs = self.weight.shape
        found = PackedLinear(inputs, outputs, bias=self.bias is not None, elastic=elastic)
        weights, scale = signs.sign_weights(self.weight)
        found.signs.copy_(signs.pack(weights > 0))
        found.scale.copy_(scale * self.step.abs())
        if self.bias is not None:
            found.bias.copy_(self.bias)
        if elastic:
            found.threshold.copy_(self.threshold)
        return found


class PackedLinear(nn.Module):
    """A binary layer for predictions: inputs * outputs / 8 bytes, and a scale for each output.

    Attributes:
        signs: (outputs, ceil(inputs / 8)) uint8.
        scale: (outputs,), of weights and activations together.
        bias: (outputs,) or None.
        threshold: (inputs,) or None.
    """

    signs: Tensor
    scale: Tensor
    bias: Tensor
    threshold: Tensor

    def __init__(self, inputs: int, outputs: int, *, bias: bool, elastic: bool) -> None:
        super().__init__()
        self.register_buffer("signs", torch.zeros(outputs, -(-inputs // 8), dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(outputs))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)
        self.register_buffer("threshold", torch.zeros(inputs) if elastic else None)
        self._words: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs); equal to the trained layer to the bit."""
        if self._words is None or self._words.device != self.signs.device:
            self._words = signs.words(self.signs)
        with torch.autocast(inputs.device.type, enabled=False):
            return product(inputs.float(), self.signs, self._words, self.scale, self.bias, self.threshold)


class BinaryEmbedding(nn.Module):
    """A table of signs, each row with its scale, trained through the real table behind it."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.weight = table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., d)."""
        rows, found = torch.unique(ids, return_inverse=True)
        weights, scale = signs.sign_weights(self.weight[rows])
        return (weights * scale[:, None])[found]

    @torch.no_grad()
    def packed(self) -> PackedEmbedding:
        """The table to keep and to run."""
        found = PackedEmbedding(*self.weight.shape)
        weights, scale = signs.sign_weights(self.weight)
        found.signs.copy_(signs.pack(weights > 0))
        found.scale.copy_(scale)
        return found


class PackedEmbedding(nn.Module):
    """A binary table for predictions.

    Attributes:
        signs: (rows, ceil(d / 8)) uint8.
        scale: (rows,).
        width: d.
    """

    signs: Tensor
    scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("signs", torch.zeros(rows, -(-width // 8), dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(rows))
        self.width = width

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., d)."""
        positive = signs.unpack(self.signs[ids], self.width)
        scale = self.scale[ids][..., None]
        return torch.where(positive, scale, -scale)
