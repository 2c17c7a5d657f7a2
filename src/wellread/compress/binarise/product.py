"""Products of signs: by the C++ kernel where it runs, else by torch operations, with the same result."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.nn.functional import linear

from wellread.compress.binarise import signs
from wellread.sparsity.kernels import build
from wellread.sparsity.product import pointer


def product(
    x: Tensor, packed: Tensor, words: Tensor, scale: Tensor, bias: Tensor | None, threshold: Tensor | None
) -> Tensor:
    """(..., inputs) -> (..., outputs): (sign(x - threshold) W') * scale + bias.

    The sums of signs are whole numbers and exact; each output is then rounded once by the scale and once by
    the bias, so that kernel and reference agree to the bit.

    Args:
        x: float32.
        packed: (outputs, ceil(inputs / 8)) uint8, the signs of W.
        words: the same for the kernel (:func:`wellread.compress.binarise.signs.words`).
        scale: (outputs,).
        bias: (outputs,) or None.
        threshold: (inputs,), None for zeros.
    """
    library = build.load_binary() if x.device.type == "cpu" and x.dtype == torch.float32 else None
    if library is None:
        return reference(x, packed, scale, bias, threshold)
    rows = x.detach().reshape(-1, x.shape[-1])
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    result = rows.new_empty(len(rows), len(scale))
    code = library.wellread_binary_product(
        pointer(rows),
        ctypes.c_long(rows.stride(0)),
        ctypes.c_long(rows.shape[0]),
        ctypes.c_long(rows.shape[1]),
        pointer(threshold),
        pointer(words),
        ctypes.c_long(len(scale)),
        pointer(scale),
        pointer(bias),
        pointer(result),
        build.binary_level(),
        torch.get_num_threads(),
    )
    if code:
        raise MemoryError("no memory for a binary layer's scratch space")
    return result.view(*x.shape[:-1], len(scale))


def reference(
    x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, threshold: Tensor | None
) -> Tensor:
    """The same by a float product of signs, on any device; slower than a dense layer."""
    weight = torch.where(signs.unpack(packed, x.shape[-1]), 1.0, -1.0)
    found = linear(torch.where(x >= (0.0 if threshold is None else threshold), 1.0, -1.0), weight) * scale
    return found if bias is None else found + bias
