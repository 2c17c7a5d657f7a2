"""x W' + b for a packed sparse W: by the kernels where they run, else by plain torch operations."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.sparse import to_sparse_semi_structured

from wellread.precision import narrowed, wants_bfloat16, widened
from wellread.sparsity.kernels import build
from wellread.sparsity.structure import Structure

KERNEL_BLOCKS = (1, 4, 8, 16, 32, 64, 128)
HALF = (torch.float16, torch.bfloat16)


def product(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure) -> Tensor:
    """(..., inputs) -> (..., outputs).

    Args:
        x: any strides.
        values: the living weights, of shape ``structure.values_shape``.
        bias: (outputs,) or None.
        structure: where they are.
    """
    halves = values.dtype == torch.float32 and _takes_bfloat16(structure)
    x = narrowed(x) if halves else widened(x)
    if (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and values.dtype == torch.float32
        and structure.block in KERNEL_BLOCKS
        and build.load() is not None
    ):
        return _Product.apply(x, values, bias, structure)
    if x.is_cuda:
        return _on_gpu(x, values, bias, structure)
    return reference(x, values, bias, structure)


def _takes_bfloat16(structure: Structure) -> bool:
    """Whether the kernels on CPU round their factors where autocast asks for it; else they take float32.

    Single weights gain nothing by it, and neither do processors without such instructions: there a quarter of
    the work in float32 is less time than all of it in bfloat16.
    """
    words = structure.block in KERNEL_BLOCKS[1:] and all(size % 2 == 0 for size in structure.shape)
    return wants_bfloat16() and words and build.fast_bfloat16()


def reference(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure) -> Tensor:
    """The same by a dense product with zeros, on any device and in any type; no faster than dense."""
    return linear(x, structure.unpack(values), bias)


def _on_gpu(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure) -> Tensor:
    """Triton's blocks, tensor cores for two of four, or the reference; in autocast's type where it is on."""
    kernels = _gpu_kernels()
    # Triton's sums are float32, so float64 is left to torch.
    blocks = kernels is not None and structure.block in kernels.BLOCKS and values.dtype != torch.float64
    if not blocks and not structure.two_of_four:
        return reference(x, values, bias, structure)
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else values.dtype
    x, values = x.to(kind), values.to(kind)
    with torch.autocast("cuda", enabled=False):
        if kernels is not None and blocks:
            y = kernels.product(x, values, structure)
        elif kind in HALF and all(size % 64 == 0 for size in structure.shape) and x.numel():
            y = _TwoOfFour.apply(x, values, structure)
        else:
            return reference(x, values, None if bias is None else bias.to(kind), structure)
        return y if bias is None else y + bias.to(kind)


@functools.cache
def _gpu_kernels() -> Any:
    """The module of Triton kernels, None where triton is not installed."""
    try:
        from wellread.sparsity.kernels import gpu
    except ImportError:
        return None
    return gpu


class _TwoOfFour(torch.autograd.Function):
    """Forward on the sparse tensor cores; the way back is dense, as its sums run across the pattern."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, structure: Structure) -> Tensor:  # type: ignore[override]
        weight = structure.unpack(values)
        ctx.save_for_backward(x, weight)
        ctx.structure = structure
        return linear(x, to_sparse_semi_structured(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        dx = gradient @ weight if ctx.needs_input_grad[0] else None
        dvalues = None
        if ctx.needs_input_grad[1]:
            dvalues = ctx.structure.pack(gradient.flatten(0, -2).T @ x.flatten(0, -2))
        return dx, dvalues, None


class _Product(torch.autograd.Function):
    """The kernels, and in one pass over the tokens the gradients of x, the packed values and the bias.

    bfloat16 x: the values are rounded too, y and the gradient of x are bfloat16, the others float32.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure
    ) -> Tensor:
        outputs, inputs = structure.shape
        flat = _rows(x)
        result = x.new_empty(flat.shape[0], outputs)
        pattern = [pointer(structure.starts), pointer(structure.columns)]
        values = values.to(x.dtype)
        tail = [pointer(values), pointer(bias), pointer(result), _long(outputs), torch.get_num_threads()]
        _call(structure, "forward", x.dtype, [*_matrix(flat), *_sizes(flat, structure), *pattern, *tail])
        ctx.save_for_backward(flat, values)
        ctx.structure, ctx.shape, ctx.has_bias = structure, x.shape, bias is not None
        return result.view(*x.shape[:-1], outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        flat, values = ctx.saved_tensors
        structure: Structure = ctx.structure
        outputs, inputs = structure.shape
        errors = _rows(gradient)
        wanted = ctx.needs_input_grad
        dx = flat.new_empty(flat.shape[0], inputs) if wanted[0] else None
        dvalues = torch.empty_like(values, dtype=torch.float32) if wanted[1] else None
        dbias = torch.empty(outputs) if ctx.has_bias and wanted[2] else None
        arrays = (
            structure.starts,
            structure.columns,
            structure.back_starts,
            structure.back_columns,
            structure.order,
            values,
            dx,
            dvalues,
            dbias,
        )
        head = [*_matrix(flat), *_matrix(errors), *_sizes(flat, structure)]
        _call(structure, "backward", flat.dtype, [*head, *map(pointer, arrays), torch.get_num_threads()])
        return dx if dx is None else dx.view(ctx.shape), dvalues, dbias, None


def _rows(x: Tensor) -> Tensor:
    """(..., n) -> (rows, n) with the elements of a row side by side, each row in whole words of 32 bits."""
    flat = x.reshape(-1, x.shape[-1])
    words = flat.stride(0) * flat.element_size() % 4 == 0
    if words and (flat.stride(1) == 1 or flat.shape[1] == 1 and flat.is_contiguous()):
        return flat
    return flat.contiguous()


def _call(structure: Structure, name: str, kind: torch.dtype, arguments: list[Any]) -> None:
    library = build.load()
    assert library is not None
    if structure.block == 1:
        code = getattr(library, f"wellread_unstructured_{name}")(*arguments)
    else:
        halves = kind == torch.bfloat16
        code = getattr(library, f"wellread_block_{name}")(structure.block, int(halves), *arguments)
    if code == 2:
        raise MemoryError("no memory for a sparse layer's scratch space")
    if code:
        raise ValueError(f"the kernels do not know blocks of {structure.block}")


def pointer(tensor: Tensor | None) -> ctypes.c_void_p | None:
    """Where a tensor's values lie, as the kernels take it; None for none."""
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def _matrix(matrix: Tensor) -> list[Any]:
    return [pointer(matrix), _long(matrix.stride(0))]


def _sizes(flat: Tensor, structure: Structure) -> list[Any]:
    return [_long(flat.shape[0]), _long(structure.shape[1]), _long(structure.shape[0])]
