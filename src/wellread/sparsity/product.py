"""x W' + b for a packed sparse W: by the C++ kernels where they run, else by plain torch operations."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from wellread.sparsity.kernels import build
from wellread.sparsity.structure import Structure

KERNEL_BLOCKS = (1, 4, 8, 16, 32)


def product(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure) -> Tensor:
    """(..., inputs) -> (..., outputs).

    Args:
        x: any strides.
        values: the living weights, of shape ``structure.values_shape``.
        bias: (outputs,) or None.
        structure: where they are.
    """
    if (
        x.device.type == "cpu"
        and x.dtype == values.dtype == torch.float32
        and structure.block in KERNEL_BLOCKS
        and not torch.is_autocast_enabled("cpu")
        and build.load() is not None
    ):
        return _Product.apply(x, values, bias, structure)
    return reference(x, values, bias, structure)


def reference(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure) -> Tensor:
    """The same by a dense product with zeros, on any device and in any type; no faster than dense."""
    return linear(x, structure.unpack(values), bias)


class _Product(torch.autograd.Function):
    """The kernels, and in one pass over the tokens the gradients of x, the packed values and the bias."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure
    ) -> Tensor:
        outputs, inputs = structure.shape
        flat = _rows(x)
        result = x.new_empty(flat.shape[0], outputs)
        pattern = [_pointer(structure.starts), _pointer(structure.columns)]
        tail = [_pointer(values), _pointer(bias), _pointer(result), _long(outputs), torch.get_num_threads()]
        _call(structure, "forward", [*_matrix(flat), *_sizes(flat, structure), *pattern, *tail])
        ctx.save_for_backward(flat, values)
        ctx.structure, ctx.shape, ctx.has_bias = structure, x.shape, bias is not None
        return result.view(*x.shape[:-1], outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        flat, values = ctx.saved_tensors
        structure: Structure = ctx.structure
        outputs, inputs = structure.shape
        errors = _rows(gradient)
        wanted = ctx.needs_input_grad
        dx = flat.new_empty(flat.shape[0], inputs) if wanted[0] else None
        dvalues = torch.empty_like(values) if wanted[1] else None
        dbias = flat.new_empty(outputs) if ctx.has_bias and wanted[2] else None
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
        _call(structure, "backward", [*head, *map(_pointer, arrays), torch.get_num_threads()])
        return dx if dx is None else dx.view(ctx.shape), dvalues, dbias, None


def _rows(x: Tensor) -> Tensor:
    """(..., n) -> (rows, n) with the elements of a row side by side."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if flat.stride(1) == 1 or flat.shape[1] == 1 and flat.is_contiguous() else flat.contiguous()


def _call(structure: Structure, name: str, arguments: list[Any]) -> None:
    library = build.load()
    assert library is not None
    if structure.block == 1:
        code = getattr(library, f"wellread_unstructured_{name}")(*arguments)
    else:
        code = getattr(library, f"wellread_block_{name}")(structure.block, *arguments)
    if code == 2:
        raise MemoryError("no memory for a sparse layer's scratch space")
    if code:
        raise ValueError(f"the kernels do not know blocks of {structure.block}")


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def _matrix(matrix: Tensor) -> list[Any]:
    return [_pointer(matrix), _long(matrix.stride(0))]


def _sizes(flat: Tensor, structure: Structure) -> list[Any]:
    return [_long(flat.shape[0]), _long(structure.shape[1]), _long(structure.shape[0])]
