"""Block-sparse products on a GPU, in Triton; imported only where triton is there.

y = x W' with x (T, I), W (O, I) of B x B blocks, packed as in :mod:`wellread.sparsity.structure`.  A program
keeps TOKENS x B outputs in registers and walks over the living blocks of its row; dead ones are neither read
nor multiplied.  The gradient of x is the same walk over the transposed pattern; for that of the weights each
living block has a program that sums over all tokens, always in the same order.

With TRITON_INTERPRET=1 in the environment the kernels run on the CPU, slowly; the tests do so where triton is
installed and no GPU is.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from wellread.sparsity.structure import Structure

TOKENS = 64
# tl.dot wants 16 at least; smaller blocks run as dense products.
BLOCKS = (16, 32, 64, 128)


@triton.jit
def _multiply(
    x, values, starts, columns, order, out,
    tokens, inputs, outputs,
    TRANSPOSED: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Result (tokens, outputs) = x (tokens, inputs) times the living blocks of a row of blocks.

    TRANSPOSED: the blocks are read in the order of the transposed matrix, as (input, output).
    """
    row = tl.program_id(1)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    inner = tl.arange(0, BLOCK)
    total = tl.zeros((TOKENS, BLOCK), dtype=tl.float32)
    for number in range(tl.load(starts + row), tl.load(starts + row + 1)):
        column = tl.load(columns + number) * BLOCK + inner
        place = tl.load(order + number) if TRANSPOSED else number
        seen = (token[:, None] < tokens) & (column[None, :] < inputs)
        part = tl.load(x + token[:, None].to(tl.int64) * inputs + column[None, :], mask=seen, other=0.0)
        corner = values + place.to(tl.int64) * BLOCK * BLOCK  # type: ignore[union-attr]
        if TRANSPOSED:  # (summed over, result) as stored
            weight = tl.load(corner + inner[:, None] * BLOCK + inner[None, :])
        else:
            weight = tl.load(corner + inner[None, :] * BLOCK + inner[:, None])
        total = tl.dot(part, weight, total, input_precision=PRECISION)
    result = row * BLOCK + inner
    kept = (token[:, None] < tokens) & (result[None, :] < outputs)
    target = out + token[:, None].to(tl.int64) * outputs + result[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=kept)


@triton.jit
def _gradient(
    x, dy, rows, columns, out,
    tokens, inputs, outputs,
    BLOCK: tl.constexpr, TOKENS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Result (blocks, BLOCK, BLOCK): of each living block, dy' x summed over the tokens."""
    number = tl.program_id(0)
    inner = tl.arange(0, BLOCK)
    row = tl.load(rows + number) * BLOCK + inner
    column = tl.load(columns + number) * BLOCK + inner
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for begin in range(0, tokens, TOKENS):
        token = begin + tl.arange(0, TOKENS)
        there = token < tokens
        error = tl.load(
            dy + token[None, :].to(tl.int64) * outputs + row[:, None],
            mask=there[None, :] & (row[:, None] < outputs),
            other=0.0,
        )
        value = tl.load(
            x + token[:, None].to(tl.int64) * inputs + column[None, :],
            mask=there[:, None] & (column[None, :] < inputs),
            other=0.0,
        )
        total = tl.dot(error, value, total, input_precision=PRECISION)
    target = out + number.to(tl.int64) * BLOCK * BLOCK + inner[:, None] * BLOCK + inner[None, :]
    tl.store(target, total.to(out.dtype.element_ty))


def product(x: Tensor, values: Tensor, structure: Structure) -> Tensor:
    """(..., I) -> (..., O), with the gradients of x and of the packed values."""
    return _Product.apply(x, values, structure)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, structure: Structure) -> Tensor:  # type: ignore[override]
        flat, values = x.reshape(-1, x.shape[-1]).contiguous(), values.contiguous()
        ctx.save_for_backward(flat, values)
        ctx.structure, ctx.shape = structure, x.shape
        return multiply(flat, values, structure).view(*x.shape[:-1], structure.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        flat, values = ctx.saved_tensors
        errors = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        dx = dvalues = None
        if ctx.needs_input_grad[0]:
            dx = multiply(errors, values, ctx.structure, transposed=True).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            dvalues = gradient_of_values(flat, errors, values, ctx.structure)
        return dx, dvalues, None


def multiply(x: Tensor, values: Tensor, structure: Structure, *, transposed: bool = False) -> Tensor:
    """Products x W' for contiguous x (T, I), or x W for x (T, O)."""
    there = structure.to(x.device)
    outputs, inputs = structure.shape
    if transposed:
        outputs, inputs = inputs, outputs
        starts, columns = there.back_starts, there.back_columns
    else:
        starts, columns = there.starts, there.columns
    out = x.new_empty(len(x), outputs)
    if out.numel():
        grid = (triton.cdiv(len(x), TOKENS), len(starts) - 1)
        _multiply[grid](
            x, values, starts, columns, there.order, out, len(x), inputs, outputs,
            TRANSPOSED=transposed, BLOCK=structure.block, TOKENS=TOKENS, PRECISION=_precision(x),
        )  # fmt: skip
    return out


def gradient_of_values(x: Tensor, errors: Tensor, values: Tensor, structure: Structure) -> Tensor:
    """The gradient of the packed values from those of x W', (T, O)."""
    there = structure.to(x.device)
    outputs, inputs = structure.shape
    rows, _ = structure.block_places(x.device)
    out = torch.empty_like(values)
    if len(values):
        _gradient[(len(values),)](
            x, errors, rows.int(), there.columns, out, len(x), inputs, outputs,
            BLOCK=structure.block, TOKENS=TOKENS, PRECISION=_precision(x),
        )  # fmt: skip
    return out


def _precision(x: Tensor) -> str:
    """That of torch's own products: full float32 unless its user has allowed less."""
    fast = x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return "tf32" if fast else "ieee"
