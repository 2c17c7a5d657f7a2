"""The cross-entropy of logits and its gradient, both at once and in the memory of the logits.

On the CPU it is one compiled kernel (sparsity/kernels/elementwise.cpp), which works in float32 on float32 or
bfloat16 logits; elsewhere torch operations.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from wellread.sparsity.kernels import build


def differentiated(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy in nats and its gradient: the probabilities, less one at the targets.

    Args:
        logits: (M, V), overwritten.
        targets: (M,) int64, each below V.

    Returns:
        float32 (), not a number if a logit is none; and (M, V) of the type of the logits.
    """
    run = build.elementwise("cross_entropy", logits)
    if run is None:
        return plain(logits, targets)
    losses, targets = logits.new_empty(len(logits), dtype=torch.float32), targets.contiguous()
    run(_place(logits), _place(targets), *_sizes(logits), _place(losses), torch.get_num_threads())
    return losses.sum(), logits


def plain(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same in torch operations; the logits stay as they were."""
    right = targets[:, None]
    gradient = torch.softmax(logits, -1, dtype=torch.float32)
    # The likeliest token's probability is one over the sum of the exponentials; its logit is their largest.
    behind = logits.amax(-1).float() - logits.gather(1, right)[:, 0].float()
    loss = (behind - gradient.amax(-1).log()).sum()
    gradient.scatter_add_(1, right, torch.full_like(right, -1, dtype=torch.float32))
    return loss, gradient.to(logits.dtype)


def add_rows(total: Tensor, matrix: Tensor) -> None:
    """Add the sum of the rows of a (M, V) matrix to a float32 (V,) vector; torch's copies bfloat16 first."""
    run = build.elementwise("add_rows", matrix)
    if run is None:
        total += matrix.sum(0, dtype=total.dtype)
    else:
        run(_place(matrix), *_sizes(matrix), _place(total), torch.get_num_threads())


def _place(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _sizes(matrix: Tensor) -> list[ctypes.c_long]:
    return [ctypes.c_long(size) for size in matrix.shape]
