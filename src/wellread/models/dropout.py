"""Dropout whose mask is a function of a seed and of the element's place.

Torch's own draws one number after the other on one thread of the CPU and keeps the mask for the way back.
Here, on the CPU, a compiled kernel (sparsity/kernels/random.h) works the mask out in either
direction: nothing is kept, and the bits do not depend on the number of threads.  Elsewhere it is torch's.
The seed of a call comes from torch's generator, so that ``torch.manual_seed`` and a checkpoint's generator
state hold for it as for any dropout.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wellread.precision import widened
from wellread.sparsity.kernels import build as kernels


def dropout(x: Tensor, rate: float) -> Tensor:
    """(..., n) -> (..., n): each element is 0 with a chance of ``rate`` and otherwise divided by 1 - rate.

    On the CPU it gives float32 for bfloat16: what is kept is scaled before it is rounded.
    """
    x = x.contiguous()
    if x.dim() == 0 or not 0 < rate < 1 or kernels.elementwise("dropout", x) is None:
        return F.dropout(widened(x), rate)
    return _Dropout.apply(x, rate, draw_seed())


def layer(module: nn.Dropout, x: Tensor) -> Tensor:
    """What an ``nn.Dropout`` does, by :func:`dropout`."""
    return dropout(x, module.p) if module.training and module.p else x


def draw_seed() -> int:
    """A seed from torch's generator on the CPU."""
    return int(torch.randint(1 << 62, ()))


def factors(seed: int, rows: int, columns: int, rate: float) -> Tensor:
    """(rows, columns) float64: what the elements of a matrix are multiplied by.  Plain, for tests."""
    low, high = seed & _WORD, seed >> 32
    row = torch.arange(rows, dtype=torch.int64)
    words = _mixed((_mixed((row & _WORD) ^ low) + high + (row >> 32)) & _WORD)
    places = (torch.arange(columns, dtype=torch.int64) * 0x9E3779B9) & _WORD
    kept = _mixed(words[:, None] ^ places) >= int(rate * 2**32)
    return kept.double() / (1 - rate)


_WORD = 0xFFFFFFFF


def _mixed(x: Tensor) -> Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = x ^ (x >> shift)
        # In two halves, for the product of two words does not fit into a signed 64-bit number.
        x = (x * (factor & 0xFFFF) + (((x * (factor >> 16)) & 0xFFFF) << 16)) & _WORD
    return x ^ (x >> 16)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:  # type: ignore[override]
        ctx.rule, ctx.kind = (rate, seed), x.dtype
        return _applied(kernels.elementwise("dropout", x), x, torch.float32, rate, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        made = torch.empty((), dtype=ctx.kind)
        run = kernels.elementwise("dropout" if ctx.kind == torch.float32 else "dropout_backward", made)
        return _applied(run, gradient.contiguous(), ctx.kind, *ctx.rule), None, None


def _applied(run: Any, x: Tensor, kind: torch.dtype, rate: float, seed: int) -> Tensor:
    result, width = torch.empty_like(x, dtype=kind), x.shape[-1]
    run(
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_long(x.numel() // max(1, width)),
        ctypes.c_long(width),
        ctypes.c_uint64(seed),
        ctypes.c_double(rate),
        ctypes.c_void_p(result.data_ptr()),
        torch.get_num_threads(),
    )
    return result
