"""Signs: with gradients for training, packed eight to a byte for the disk and for the kernels.

Zero counts as positive throughout: ``torch.sign(0) = 0`` would be a third value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

WORD = 64  # bits that the kernels take at a time
BLOCK = 8  # outputs that they take at a time


def sign(values: Tensor) -> Tensor:
    """+1.0 where a value is zero or more, else -1.0."""
    return torch.where(values >= 0, 1.0, -1.0)


def sign_weights(weight: Tensor) -> tuple[Tensor, Tensor]:
    """BiBERT's binary weights (arXiv 2203.06390): W' = scale * signs, row by row.

    scale = mean |W| of the row, without gradient; signs = sign(W - mean of the row).  The gradient passes as
    if W' were clamp(W - mean of the row, -1, 1).

    Args:
        weight: (outputs, inputs).

    Returns:
        Signs (outputs, inputs), and scale (outputs,).
    """
    scale = weight.detach().abs().mean(1)
    centred = weight - weight.mean(1, keepdim=True)
    passing = centred.clamp(-1, 1)
    # The difference is zero; divided by the scale because W' multiplies the signs by it.
    signs = sign(centred.detach()) + (passing - passing.detach()) / scale.clamp_min(1e-8)[:, None]
    return signs, scale


def sign_inputs(values: Tensor, threshold: Tensor, step: Tensor) -> Tensor:
    """+1 where a value reaches its threshold, else -1; times ``step`` this is a binary activation.

    Gradients are those of clamp((x - threshold) / step, -1, 1), and so the step learns as in BiT (Liu and
    others, arXiv 2205.13016).  With threshold 0 and step 1 this is BiBERT's sign.

    Args:
        values: (..., inputs).
        threshold: (inputs,).
        step: scalar above zero.
    """
    return _Sign.apply(values, threshold, step)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, step: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values, threshold, step)
        return torch.where(values >= threshold, 1.0, -1.0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        values, threshold, step = ctx.saved_tensors
        units = (values - threshold) / step
        passed = torch.where(units.abs() <= 1, gradient, 0.0) / step
        return passed, -passed.flatten(0, -2).sum(0), -(passed * units).sum().view_as(step)


def pack(positive: Tensor) -> Tensor:
    """(rows, n) bool -> (rows, ceil(n / 8)) uint8; bit j % 8 of byte j // 8 is column j."""
    return torch.from_numpy(np.packbits(positive.cpu().numpy(), axis=1, bitorder="little"))


def unpack(packed: Tensor, columns: int) -> Tensor:
    """The way back: (rows, ceil(columns / 8)) uint8 -> (rows, columns) bool."""
    bits = packed[..., None] >> torch.arange(8, dtype=torch.uint8, device=packed.device) & 1
    return bits.flatten(-2)[..., :columns].bool()


def words(packed: Tensor) -> Tensor:
    """Packed rows as the kernel reads them, zero-padded: (outputs, bytes) -> (blocks, words, 8) int64."""
    outputs, width = packed.shape
    full = packed.new_zeros(-(-outputs // BLOCK) * BLOCK, -(-width // 8) * 8)
    full[:outputs, :width] = packed
    return full.view(torch.int64).view(-1, BLOCK, full.shape[1] // 8).transpose(1, 2).contiguous()
